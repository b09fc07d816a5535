//! TLS as an independent client sees it, by `openssl` and psql, and certificates for tests.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// What a server presents in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The SHA-256 fingerprint of the server's own certificate, in lower-case hexadecimal digits.
    pub(crate) fingerprint: String,
    /// All certificates, as PEM; the server's own is the first.
    pub(crate) chain: Vec<String>,
}

/// Requests TLS as a client of PostgreSQL does, and verifies nothing.
pub(crate) fn handshake(server: SocketAddr) -> Result<Handshake, String> {
    let output = openssl(Path::new("/"), "s_client")
        .args(["-starttls", "postgres", "-showcerts", "-connect", &server.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("openssl: {error}"))?;
    let (mut chain, mut open) = (Vec::new(), None::<String>);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if line == "-----BEGIN CERTIFICATE-----" {
            open = Some(String::new());
        }
        if let Some(pem) = &mut open {
            pem.push_str(line);
            pem.push('\n');
        }
        if line == "-----END CERTIFICATE-----" {
            chain.extend(open.take());
        }
    }
    match chain.first() {
        Some(first) => Ok(Handshake { fingerprint: fingerprint(first), chain }),
        None => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The SHA-256 fingerprint of a certificate.
pub(crate) fn fingerprint(pem: &str) -> String {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let bytes = STANDARD.decode(body).expect("a certificate as PEM");
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// A login that verifies the server's certificate and the name in it.
#[derive(Clone, Copy)]
pub(crate) struct Verified<'a> {
    pub(crate) server: SocketAddr,
    /// The name that the certificate must have.
    pub(crate) host: &'a str,
    /// The file with the CAs that the client trusts.
    pub(crate) root: &'a Path,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) database: &'a str,
    /// More of libpq's keywords, such as `sslcert=FILE sslkey=FILE`, or `sslmode=require`.
    pub(crate) more: &'a str,
}

impl Verified<'_> {
    /// The answer to a statement, or what psql says.
    pub(crate) fn ask(&self, sql: &str) -> Result<String, String> {
        let Self { server, host, root, user, password, database, more } = self;
        let address = format!(
            "host={host} hostaddr={} port={} user={user} dbname={database} sslmode=verify-full \
             sslrootcert={} connect_timeout=10 {more}",
            server.ip(),
            server.port(),
            root.display()
        );
        let output = Command::new("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, &address])
            .env("PGPASSWORD", password)
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A root that signs certificates, in a directory of its own.
pub(crate) struct Authority(TempDir);

impl Authority {
    /// The servers can read its files only if it is made after `leave_root`.
    pub(crate) fn new() -> Self {
        let authority = Self(TempDir::new().expect("a directory"));
        let mut request = authority.request("root", "/CN=root");
        done(request.args(["-x509", "-days", "3650", "-out", "root.crt"]));
        authority
    }

    /// The file with the certificate of the root.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.path().join("root.crt")
    }

    /// A certificate for these names, such as `DNS:pooler.test,IP:127.0.0.1`; with a negative
    /// number of days it is no longer valid. The common name is for clients: PostgreSQL compares
    /// it with the role.
    pub(crate) fn sign(&self, common_name: &str, names: &str, days: i32) -> Identity {
        let mut request = self.request("leaf", &format!("/CN={common_name}"));
        done(request.args(["-addext", &format!("subjectAltName={names}"), "-out", "leaf.csr"]));
        done(openssl(self.0.path(), "x509").args(["-req", "-copy_extensions", "copy"]).args([
            "-days",
            &days.to_string(),
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-in",
            "leaf.csr",
            "-out",
            "leaf.crt",
        ]));
        let read = |name| fs::read_to_string(self.0.path().join(name)).expect("openssl wrote it");
        Identity { certificate: read("leaf.crt"), key: read("leaf.key") }
    }

    fn request(&self, name: &str, subject: &str) -> Command {
        let mut command = openssl(self.0.path(), "req");
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-subj", subject, "-keyout", &format!("{name}.key")]);
        command
    }
}

fn openssl(directory: &Path, what: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", "openssl", what]).current_dir(directory);
    command
}

fn done(command: &mut Command) {
    let output = command.output().expect("openssl: run scripts/parts");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

//! Certificates of PostgreSQL servers, made by `openssl`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::done;
use crate::error::{Doing as _, Error, Result};

/// What the certificates of the servers are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Signed by a root, which clients get.
    Good,
    /// Clients get the certificate of a root that signed nothing.
    WrongCa,
    /// Signed by an intermediate, which clients get without its root.
    Intermediate,
    /// As good ones, but no longer valid.
    Expired,
    /// As good ones, but for another name.
    Foreign,
}

/// An authority with what its clients get.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    kind: Kind,
    dir: PathBuf,
    /// Names of the servers, besides the address of each.
    names: Vec<String>,
    /// The certificate in `tls-ca`.
    pub(crate) published: String,
}

impl Tls {
    /// Makes a new authority in a new directory under `parent`, for the servers of an application.
    pub(crate) fn make(word: &str, parent: &Path, app: &str, model: &str) -> Result<Tls> {
        let kind = match word {
            "on" | "rotate" => Kind::Good,
            "wrong-ca" => Kind::WrongCa,
            "intermediate" => Kind::Intermediate,
            "expired" => Kind::Expired,
            "foreign" => Kind::Foreign,
            other => {
                return Err(Error::refused(format!("unknown kind {other:?}: see help postgresql")));
            }
        };
        let dir = parent.join(format!("tls-{:016x}", rand::random::<u64>()));
        fs::create_dir(&dir).doing(|| format!("create {}", dir.display()))?;
        let services = ["primary", "replicas"];
        let names = services.map(|name| format!("DNS:{app}-{name}.{model}.svc.cluster.local"));
        let mut tls = Tls { kind, dir, names: names.to_vec(), published: String::new() };
        if kind == Kind::Foreign {
            tls.names = vec!["DNS:another.example".to_owned()];
        }
        tls.root("ca")?;
        let published = match kind {
            Kind::WrongCa => {
                tls.root("another")?;
                "another"
            }
            Kind::Intermediate => {
                tls.sign("ca", "intermediate", 3650, "basicConstraints=critical,CA:TRUE")?;
                "intermediate"
            }
            _ => "ca",
        };
        let certificate = tls.read(&format!("{published}.crt"))?;
        Ok(Tls { published: certificate.trim_end().to_owned(), ..tls })
    }

    /// A certificate with its chain, and its key, for the server at an address.
    pub(super) fn issue(&self, address: Ipv4Addr) -> Result<(String, String)> {
        let mut names = self.names.clone();
        if self.kind != Kind::Foreign {
            names.push(format!("IP:{address}"));
        }
        let below = self.kind == Kind::Intermediate;
        let issuer = if below { "intermediate" } else { "ca" };
        let days = if self.kind == Kind::Expired { -1 } else { 365 };
        let extension = format!("subjectAltName={}", names.join(","));
        self.sign(issuer, "server", days, &extension)?;
        let above = if below { self.read("intermediate.crt")? } else { String::new() };
        Ok((self.read("server.crt")? + &above, self.read("server.key")?))
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::read_to_string(&path).doing(|| format!("read {}", path.display()))
    }

    /// Makes a root of this name.
    fn root(&self, name: &str) -> Result<()> {
        let mut command = self.request(name);
        done(command.args(["-x509", "-days", "3650", "-out"]).arg(format!("{name}.crt")))
    }

    /// Makes a key and a certificate of this name.
    fn sign(&self, issuer: &str, name: &str, days: i32, extension: &str) -> Result<()> {
        let mut request = self.request(name);
        done(request.args(["-addext", extension, "-out"]).arg(format!("{name}.csr")))?;
        let mut command = self.openssl("x509");
        command.args(["-req", "-copy_extensions", "copy", "-days", &days.to_string()]);
        command.args(["-in", &format!("{name}.csr"), "-out", &format!("{name}.crt")]);
        done(command.args(["-CA", &format!("{issuer}.crt"), "-CAkey", &format!("{issuer}.key")]))
    }

    fn request(&self, name: &str) -> Command {
        let mut command = self.openssl("req");
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"]);
        let number = self.dir.file_name().unwrap_or_default().to_string_lossy();
        command.arg(format!("/CN={name} of {number}")).arg("-keyout").arg(format!("{name}.key"));
        command
    }

    fn openssl(&self, what: &str) -> Command {
        let mut command = Command::new("openssl");
        command.arg(what).current_dir(&self.dir);
        command
    }
}

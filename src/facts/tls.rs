//! The keys and certificates that a unit uses, as texts, and the files that they become.

use std::path::Path;

use crate::facts::options::InvalidOption;
use crate::pgbouncer::{SharedConfig, SslMode, TlsFile, TlsFiles};
use crate::secret::Secret;
use crate::status::Wait;

/// The keys and certificates of a unit, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Material {
    /// The private key and certificates for clients.
    pub identity: Option<Secret>,
    /// The CAs of clients' certificates.
    pub client_ca: Option<String>,
    /// The CAs of PostgreSQL's certificate.
    pub server_ca: Option<String>,
}

/// Whether the modes of TLS can be met, and with which CAs in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedTls {
    /// The modes that cannot be met.
    pub unmet: Vec<InvalidOption>,
    /// The CAs of clients' certificates, if they are verified.
    pub client_ca: Option<String>,
    /// The CAs of PostgreSQL's certificate, if it is verified.
    pub server_ca: Option<String>,
}

impl CheckedTls {
    /// Records that a mode cannot be met.
    pub fn refuse(&mut self, (option, mode): (&'static str, SslMode), reason: &str) {
        self.unmet.push(InvalidOption::unmet(option, mode, reason.to_owned()));
    }
}

impl Material {
    /// The files for this configuration, in the directory of `auth_file`. A file that the
    /// configuration needs and that is missing is a wait.
    pub fn files(&self, shared: &SharedConfig, auth_file: &str) -> Result<TlsFiles, Wait> {
        let file = |name: &str, text: &Secret| TlsFile {
            path: Path::new(auth_file).with_file_name(name).display().to_string(),
            text: text.clone(),
        };
        let (client, server) = (shared.client_tls_sslmode, shared.server_tls_sslmode);
        let identity = self.identity.as_ref().filter(|_| client != SslMode::Disable);
        if identity.is_none() && client.demands_tls() {
            return Err(Wait::NoCertificate(client.to_string()));
        }
        // Only the leader can publish a missing CA.
        let ca = |name, mode: SslMode, ca: &Option<String>| match ca {
            Some(text) if mode.verifies() => Ok(Some(file(name, &Secret::new(text)))),
            None if mode.verifies() => Err(Wait::Leader),
            _ => Ok(None),
        };
        Ok(TlsFiles {
            identity: identity.map(|text| file(TlsFiles::IDENTITY, text)),
            client_ca: ca(TlsFiles::CLIENT_CA, client, &self.client_ca)?,
            server_ca: ca(TlsFiles::SERVER_CA, server, &self.server_ca)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::configuration::tests::{config_of, options};
    use crate::facts::options::Options;

    #[test]
    fn only_the_files_that_the_modes_need_are_written() {
        let all = Material {
            identity: Some(Secret::new("identity")),
            client_ca: Some("clients".into()),
            server_ca: Some("servers".into()),
        };
        let none = Material::default();
        for (client, server, with_all, with_none) in [
            ("disable", "disable", Ok("---"), Ok("---")),
            ("prefer", "prefer", Ok("i--"), Ok("---")),
            ("require", "require", Ok("i--"), Err(Wait::NoCertificate("require".into()))),
            ("verify-ca", "prefer", Ok("ic-"), Err(Wait::NoCertificate("verify-ca".into()))),
            ("prefer", "verify-full", Ok("i-s"), Err(Wait::Leader)),
        ] {
            let mode = |word| SslMode::parse(word).expect("a mode");
            let (client_tls_sslmode, server_tls_sslmode) = (mode(client), mode(server));
            let options = Options { client_tls_sslmode, server_tls_sslmode, ..options() };
            let shared = config_of(&options, None).shared;
            let shown = |material: &Material| {
                let files = material.files(&shared, "/dev/shm/pgb-0/userlist.txt")?;
                let TlsFiles { identity, client_ca, server_ca } = files;
                let letter = |file: Option<TlsFile>, letter| file.map_or('-', |_| letter);
                let letters =
                    [letter(identity, 'i'), letter(client_ca, 'c'), letter(server_ca, 's')];
                Ok(letters.iter().collect::<String>())
            };
            let case = format!("{client} {server}");
            assert_eq!(shown(&all), with_all.map(str::to_owned), "{case}");
            assert_eq!(shown(&none), with_none.map(str::to_owned), "{case}");
        }
    }
}

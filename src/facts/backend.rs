//! The facts that PostgreSQL publishes in `backend-database`.

use std::collections::BTreeMap;

use crate::event::{RelationId, secret_id};
use crate::facts::Texts;
use crate::postgres::{AllowedMethods, Credentials, ServerVersion, TlsDemand};
use crate::secret::Secret;
use crate::x509::Bundle;

/// The number of hosts that PostgreSQL may publish.
const MOST_HOSTS: usize = 32;

/// The longest name of a host, in bytes (RFC 1035).
const LONGEST_HOST: usize = 255;

/// The relation with PostgreSQL, with PostgreSQL's app bag parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct Backend {
    /// The number of the relation.
    pub relation: RelationId,
    /// PostgreSQL's app bag.
    pub remote: Texts,
    /// PostgreSQL's servers; `None` if they are missing or malformed.
    pub endpoints: Option<Endpoints>,
    /// The keys whose values are malformed and so count as missing.
    pub malformed: Vec<&'static str>,
    /// The database that PostgreSQL created for us.
    pub database: String,
    /// PostgreSQL's version, if it reports one.
    pub version: Option<ServerVersion>,
}

/// The servers that a configuration needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The servers for writes.
    pub primary: Servers,
    /// The servers for reads; the primary if there are no replicas.
    pub replicas: Servers,
    /// Our own database, which has the function that looks up passwords.
    pub database: String,
}

/// Servers that listen on the same port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// DNS names or addresses.
    pub hosts: Vec<String>,
    /// The port.
    pub port: u16,
}

impl Backend {
    /// Parses PostgreSQL's app bag.
    pub fn parse(relation: RelationId, remote: Texts) -> Self {
        let mut malformed = Vec::new();
        let mut servers = |key: &'static str| {
            let servers = Servers::parse(remote.get(key)?);
            malformed.extend(servers.is_none().then_some(key));
            servers
        };
        let (primary, replicas) = (servers("endpoints"), servers("read-only-endpoints"));
        let has_odd_secret = remote.get(SECRET).is_some_and(|uri| !is_secret_uri(uri));
        malformed.extend(has_odd_secret.then_some(SECRET));
        let database = remote.get("database").map_or("pgbouncer", String::as_str).to_owned();
        let endpoints = primary.map(|primary| Endpoints {
            replicas: replicas.unwrap_or_else(|| primary.clone()),
            primary,
            database: database.clone(),
        });
        let version = remote.get("version").and_then(|text| ServerVersion::parse(text));
        Self { relation, remote, endpoints, malformed, database, version }
    }

    /// The version as PostgreSQL reports it.
    pub fn version_text(&self) -> Option<&str> {
        self.remote.get("version").map(String::as_str)
    }

    /// The version, if it is older than the oldest supported one. A PostgreSQL that reports no
    /// version counts as supported.
    pub fn too_old(&self) -> Option<ServerVersion> {
        self.version.filter(|version| *version < ServerVersion::OLDEST)
    }

    /// Whether PostgreSQL is subordinated to another application. Its credentials are then usable
    /// only after one of its units reports itself as ready.
    pub fn is_subordinated(&self) -> bool {
        self.remote.get("subordinated").is_some_and(|text| text == "true")
    }

    /// The URI of the secret with our credentials.
    pub fn secret(&self) -> Option<&str> {
        self.remote.get(SECRET).map(String::as_str).filter(|uri| is_secret_uri(uri))
    }

    /// The URI of the secret about TLS.
    pub fn tls_secret(&self) -> Option<&str> {
        self.remote.get(TLS_SECRET).map(String::as_str).filter(|uri| is_secret_uri(uri))
    }

    /// The CAs of PostgreSQL's certificate: from the secret's `content`, else plain from the bag;
    /// empty without TLS.
    pub fn cas(&self, content: Option<&BTreeMap<String, Secret>>) -> Bundle {
        let in_secret = content.and_then(|content| content.get("tls-ca")).map(Secret::reveal);
        let text = in_secret.or_else(|| self.remote.get("tls-ca").map(String::as_str));
        text.and_then(Bundle::parse).unwrap_or_default()
    }

    /// The credentials: from the secret's `content`, else plain from the bag.
    pub fn credentials(&self, content: Option<&BTreeMap<String, Secret>>) -> Option<Credentials> {
        let value = |key: &str| {
            let in_secret = content.and_then(|content| content.get(key).cloned());
            in_secret.or_else(|| self.remote.get(key).map(Secret::new))
        };
        let (user, password) = (value("username")?, value("password")?);
        let Endpoints { primary: Servers { hosts, port }, .. } = self.endpoints.clone()?;
        Some(Credentials {
            hosts: hosts.into_iter().map(|host| (host, port)).collect(),
            user: user.reveal().to_owned(),
            password,
            database: self.database.clone(),
            methods: AllowedMethods::Any,
            tls: TlsDemand::default(),
        })
    }
}

/// The key with the URI of the secret with our credentials.
const SECRET: &str = "secret-user";

/// The key with the URI of the secret about TLS.
const TLS_SECRET: &str = "secret-tls";

/// Whether a text could be the URI of a secret: `<id>`, `secret:<id>` or `secret://<model>/<id>`.
/// For any other text `secret-get` fails, and the hook with it.
fn is_secret_uri(text: &str) -> bool {
    let id = secret_id(text);
    let is_of_uri = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '-');
    id.len() == 20 && text.len() <= 100 && text.chars().all(is_of_uri) && !text.starts_with('-')
}

impl Servers {
    /// Parses `host:port` or `[address]:port`, or several of them separated by commas. The first
    /// port counts for all.
    pub fn parse(text: &str) -> Option<Self> {
        let mut hosts = Vec::new();
        let mut first = None;
        if text.len() > MOST_HOSTS * (LONGEST_HOST + 8) {
            return None;
        }
        for endpoint in text.split(',').map(str::trim).filter(|endpoint| !endpoint.is_empty()) {
            let (host, port) = endpoint.rsplit_once(':')?;
            let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
            if host.is_empty() || host.len() > LONGEST_HOST || !host.chars().all(plain) {
                return None;
            }
            hosts.push(host.to_owned());
            first.get_or_insert(port);
        }
        if hosts.len() > MOST_HOSTS {
            return None;
        }
        hosts.sort();
        Some(Self { hosts, port: first? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_parsed_with_its_port_and_with_an_ipv6_address() {
        let servers = |text: &str| {
            Servers::parse(text).map(|servers| (servers.hosts.join(" "), servers.port))
        };
        assert_eq!(servers("pg-primary.prod.svc:5432"), Some(("pg-primary.prod.svc".into(), 5432)));
        assert_eq!(servers("[fd00::1]:5433"), Some(("fd00::1".into(), 5433)));
        assert_eq!(servers("b:5432, a:5432"), Some(("a b".into(), 5432)));
        let many = |n: usize| (0..n).map(|n| format!("pg-{n}:5432")).collect::<Vec<_>>().join(",");
        assert!(servers(&many(32)).is_some() && servers(&many(33)).is_none());
        assert_eq!(servers(&format!("{}:5432", "x".repeat(256))), None);
        for text in ["", "pg", "pg:0", "pg:x", "pg:70000", "p'g:5432", "p g:5432", ":5432"] {
            assert_eq!(servers(text), None, "{text}");
        }
    }

    fn backend(pairs: &[(&str, &str)]) -> Backend {
        let texts = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Backend::parse(RelationId(2), texts.collect())
    }

    #[test]
    fn without_replicas_reads_go_to_the_primary() {
        let alone = backend(&[("endpoints", "pg:5432")]).endpoints.expect("a server");
        assert_eq!((alone.replicas, alone.database.as_str()), (alone.primary, "pgbouncer"));
        let broken = backend(&[("endpoints", "pg:5432"), ("read-only-endpoints", "no port")]);
        assert_eq!(broken.malformed, ["read-only-endpoints"]);
        assert_eq!(broken.endpoints.expect("a server").replicas.hosts, ["pg"]);
        assert_eq!(backend(&[("endpoints", "pg")]).endpoints, None);
    }

    #[test]
    fn a_text_that_is_no_uri_of_a_secret_counts_as_missing() {
        let id = "1hr6q5oj6b04g0q2ig3g";
        for (uri, is_uri) in [
            (format!("secret:{id}"), true),
            (format!("secret://12ab5db8-4edf-6519-9a2c-290dc7a06221/{id}"), true),
            (id.to_owned(), true),
            (format!("secret:{id}x"), false),
            (format!("secret:{id}\n"), false),
            (format!("secret:--label/{id}"), true),
            (format!("secret:{}/{id}", "x".repeat(100)), false),
            (String::new(), false),
        ] {
            let backend = backend(&[("endpoints", "pg:5432"), ("secret-user", &uri)]);
            assert_eq!(backend.secret().is_some(), is_uri, "{uri:?}");
            assert_eq!(backend.malformed.is_empty(), is_uri, "{uri:?}");
        }
    }

    #[test]
    fn only_a_reported_version_can_be_too_old() {
        assert!(backend(&[("version", "13.9")]).too_old().is_some());
        assert_eq!(backend(&[("version", "14.0")]).too_old(), None);
        assert_eq!(backend(&[]).too_old(), None);
    }

    #[test]
    fn credentials_come_from_the_secret_or_from_the_bag() {
        let plain = [("endpoints", "pg:5432"), ("username", "u"), ("password", "p")];
        let credentials = backend(&plain).credentials(None).expect("plain ones");
        assert_eq!((credentials.user.as_str(), credentials.password.reveal()), ("u", "p"));
        let secret = BTreeMap::from([
            ("username".to_owned(), Secret::new("s")),
            ("password".to_owned(), Secret::new("t")),
        ]);
        assert_eq!(backend(&plain).credentials(Some(&secret)).expect("secret ones").user, "s");
        assert_eq!(backend(&plain[..2]).credentials(None), None);
    }
}

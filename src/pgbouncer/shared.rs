//! The configuration that the leader publishes: a complete `pgbouncer.ini` without the settings of
//! a single unit.

use std::collections::BTreeMap;

use super::auth::{self, Auth};
use super::choices::{PoolMode, SslMode};
use super::ini::{ConnectionString, Ini, ParseError};
use super::layers::{self, Layers};
use super::parameters::Parameters;
use super::settings::{InvalidSetting, Section, check, lookup};
use super::text::{Unrepresentable, printable};
use super::version::Version;

/// The configuration that all units have in common. The charm's own settings, which never vary, are
/// in the code ([`layers`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedConfig {
    /// The [`hash`](super::databases::hash) of the `pgb_dbs_config` it was made with: 32 hex
    /// digits.
    pub databases_hash: String,
    /// The databases by the name that clients use; `*` stands for all other names.
    pub databases: BTreeMap<String, Database>,
    /// The lines about logins. `None` until the backend is ready; then no client can log in.
    pub auth: Option<Auth>,
    /// The port that clients connect to, 1 to 65535.
    pub listen_port: u16,
    /// When a server connection goes back to its pool.
    pub pool_mode: PoolMode,
    /// Server connections for each database and process; 0 for no limit.
    pub max_db_connections: u32,
    /// Prepared statements kept for each server connection; 0 to leave them alone.
    pub max_prepared_statements: u16,
    /// How much TLS clients must use. A unit without a certificate offers none, unless this
    /// demands it.
    pub client_tls_sslmode: SslMode,
    /// How much TLS PgBouncer demands of PostgreSQL.
    pub server_tls_sslmode: SslMode,
    /// The operator's other settings.
    pub parameters: Parameters,
}

/// The server of a database, and how to reach the database there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The hosts, at least one. PgBouncer takes them in turn.
    pub hosts: Vec<String>,
    /// The port of the hosts, 1 to 65535.
    pub port: u16,
    /// The name on the server, if it is not the one that clients use.
    pub dbname: Option<String>,
    /// The entry by which passwords are looked up, if not [`AUTH_DATABASE`](super::AUTH_DATABASE)
    /// (1.19 and later).
    pub auth_dbname: Option<String>,
    /// The server connections of a pool, if not the default.
    pub pool_size: Option<u16>,
}

/// Why a text is not a published configuration. Never holds a value of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It has no format line: another charm wrote it.
    #[error("cannot take the shared configuration: it is not in this charm's format")]
    Foreign,
    /// Its format line names another format.
    #[error(
        "cannot take the shared configuration: its format is not 1; \
         refresh all units to one revision"
    )]
    Format,
    /// It is larger than 1 MiB.
    #[error("cannot take the shared configuration: it is larger than 1 MiB")]
    TooLarge,
    /// PgBouncer could not read it.
    #[error("cannot take the shared configuration: {0}")]
    Ini(#[from] ParseError),
    /// A key is missing, misplaced or out of its range.
    #[error("cannot take the shared configuration: {key}: {reason}")]
    Key {
        /// The key, or the key and `of a database`.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The newest version without quoted names: every version must be able to read what is published.
const GRAMMAR: Version = Version::new(1, 24);
const SIZE_MAX: usize = 1 << 20;
const FORMAT: &str = "pgbouncer-k8s shared configuration, format ";
/// The beginning of the second line, before the names of the operator's settings.
const CHOSEN: &str = "pgbouncer-parameters: ";
const FORMAT_1: &str = "pgbouncer-k8s shared configuration, format 1, pgb_dbs_config ";

impl SharedConfig {
    /// The text to publish.
    pub fn render(&self) -> Result<String, Unrepresentable> {
        self.ini()?.render(GRAMMAR)
    }

    pub(super) fn ini(&self) -> Result<Ini, Unrepresentable> {
        if !is_hash(&self.databases_hash) {
            return Err(Unrepresentable::new(
                "the hash of pgb_dbs_config",
                "it is not 32 lower-case hex digits",
            ));
        }
        let forced = self.auth.as_ref().map(Auth::lines).transpose()?;
        let auth_user = self.auth.as_ref().map(|auth| auth.auth_user.as_str());

        let layers = Layers {
            options: [
                ("listen_port", self.listen_port.to_string()),
                ("pool_mode", self.pool_mode.to_string()),
                ("max_db_connections", self.max_db_connections.to_string()),
                ("max_prepared_statements", self.max_prepared_statements.to_string()),
                ("client_tls_sslmode", self.client_tls_sslmode.to_string()),
                ("server_tls_sslmode", self.server_tls_sslmode.to_string()),
            ],
            parameters: self.parameters.iter().collect(),
            forced: forced.into_iter().flatten().collect(),
        };
        let settings = layers.lines();
        for (key, value) in &settings {
            check(Section::Pgbouncer, key, value, Version::NEWEST).map_err(|_| {
                Unrepresentable::new(format!("the setting {key}"), "it is out of its range")
            })?;
        }

        let mut databases = BTreeMap::new();
        for (name, database) in &self.databases {
            let connection = database.connection(auth_user);
            let connection = connection.map_err(|reason| {
                Unrepresentable::new(format!("the database {}", printable(name)), reason)
            })?;
            databases.insert(name.clone(), connection);
        }
        let names: Vec<_> = self.parameters.iter().map(|(name, _)| name).collect();
        let chosen = (!names.is_empty()).then(|| format!("{CHOSEN}{}", names.join(", ")));
        let comment = [format!("{FORMAT_1}{}", self.databases_hash)].into_iter().chain(chosen);
        Ok(Ini {
            comment: comment.collect(),
            databases,
            users: BTreeMap::new(),
            peers: BTreeMap::new(),
            pgbouncer: settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        })
    }

    /// Reads a published text. Anything that this charm does not write is refused by name, without
    /// its value.
    ///
    /// Settings of the charm's own layer are checked and dropped: each unit writes those of its own
    /// revision.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > SIZE_MAX {
            return Err(Invalid::TooLarge);
        }
        let first =
            text.lines().next().and_then(|line| line.strip_prefix("; ")).unwrap_or_default();
        if !first.starts_with(FORMAT) {
            return Err(Invalid::Foreign);
        }
        let databases_hash =
            first.strip_prefix(FORMAT_1).filter(|hash| is_hash(hash)).ok_or(Invalid::Format)?;
        let ini = Ini::parse(text, GRAMMAR)?;
        if !ini.peers.is_empty() {
            return Err(invalid("[peers]", "it belongs to one unit"));
        }
        if !ini.users.is_empty() {
            return Err(invalid("[users]", "it does not belong in a shared configuration"));
        }
        let parameters = parameters(&ini)?;
        for (key, value) in &ini.pgbouncer {
            check_setting(key, value, &parameters)?;
        }

        let auth = Auth::read(&ini).map_err(|(key, reason)| invalid(key, reason))?;
        let auth_user = auth.as_ref().map(|auth| auth.auth_user.as_str());
        let database = |(name, connection): (&String, &ConnectionString)| {
            let database = Database::read(connection, auth_user);
            Ok((
                name.clone(),
                database
                    .map_err(|(key, reason)| invalid(&format!("{key} of a database"), reason))?,
            ))
        };
        Ok(Self {
            databases_hash: databases_hash.into(),
            databases: ini.databases.iter().map(database).collect::<Result<_, Invalid>>()?,
            listen_port: number(&ini, "listen_port")?,
            pool_mode: PoolMode::parse(required(&ini, "pool_mode")?)
                .ok_or_else(|| invalid("pool_mode", "no such mode"))?,
            max_db_connections: number(&ini, "max_db_connections")?,
            max_prepared_statements: number(&ini, "max_prepared_statements")?,
            client_tls_sslmode: sslmode(&ini, "client_tls_sslmode")?,
            server_tls_sslmode: sslmode(&ini, "server_tls_sslmode")?,
            parameters,
            auth,
        })
    }
}

impl Database {
    fn connection(&self, auth_user: Option<&str>) -> Result<ConnectionString, &'static str> {
        if self.hosts.is_empty() || !self.hosts.iter().all(|host| is_host(host)) {
            return Err("a host is not a name or an address");
        }
        if self.port == 0 {
            return Err("the port is not a number from 1 to 65535");
        }
        let names = [("dbname", &self.dbname), ("auth_dbname", &self.auth_dbname)];
        if names.iter().any(|(_, name)| name.as_ref().is_some_and(|name| name.len() > 63)) {
            return Err("PostgreSQL cuts names at 63 bytes");
        }
        if self.auth_dbname.as_deref() == Some("pgbouncer") {
            return Err("PgBouncer refuses its own console as auth_dbname");
        }
        let connection = ConnectionString::default()
            .with("host", self.hosts.join(","))
            .with("port", self.port.to_string());
        let connection = match self.pool_size {
            Some(size) => connection.with("pool_size", size.to_string()),
            None => connection,
        };
        let names = names.into_iter().filter_map(|(key, name)| Some((key, name.clone()?)));
        let names = names.chain(auth_user.map(|name| ("auth_user", name.to_owned())));
        Ok(names.fold(connection, |connection, (key, name)| connection.with(key, name)))
    }

    fn read(
        connection: &ConnectionString,
        auth_user: Option<&str>,
    ) -> Result<Self, (&'static str, &'static str)> {
        if let Some(key) = connection.keys().find(|key| {
            !["host", "port", "pool_size", "dbname", "auth_user", "auth_dbname"].contains(key)
        }) {
            return Err((key, "it does not belong in a shared configuration"));
        }
        let required = |key| connection.get(key).ok_or((key, "it is missing"));
        let port = required("port")?;
        let database = Self {
            hosts: required("host")?.split(',').map(str::to_owned).collect(),
            port: port
                .parse()
                .ok()
                .filter(|number: &u16| number.to_string() == port)
                .ok_or(("port", "it is not a number from 1 to 65535"))?,
            dbname: connection.get("dbname").map(str::to_owned),
            auth_dbname: connection.get("auth_dbname").map(str::to_owned),
            pool_size: connection
                .get("pool_size")
                .map(|size| size.parse().map_err(|_| ("pool_size", "it is not a number")))
                .transpose()?,
        };
        if connection.get("auth_user") != auth_user {
            return Err(("auth_user", "it is not the one of auth_query"));
        }
        database.connection(auth_user).map_err(|reason| ("host, port or name", reason))?;
        Ok(database)
    }
}

/// The operator's settings, by the names in the comment.
fn parameters(ini: &Ini) -> Result<Parameters, Invalid> {
    let mut parameters = Parameters::default();
    let names = ini.comment.get(1).and_then(|line| line.strip_prefix(CHOSEN));
    for name in names.iter().flat_map(|names| names.split(", ")) {
        let setting = lookup(Section::Pgbouncer, name).filter(|setting| setting.name == name);
        let setting =
            setting.ok_or_else(|| invalid("an unknown setting", "there is no such setting"))?;
        let value = layers::without_ours(name, required(ini, name)?);
        parameters.insert(setting.name, value).map_err(|reason| invalid(setting.name, reason))?;
    }
    Ok(parameters)
}

fn check_setting(key: &str, value: &str, parameters: &Parameters) -> Result<(), Invalid> {
    let is_shared = layers::has(key) || auth::LINES.contains(&key) || parameters.get(key).is_some();
    if !is_shared {
        // An unknown name is content of a file that another program wrote.
        let key =
            if lookup(Section::Pgbouncer, key).is_some() { key } else { "an unknown setting" };
        return Err(invalid(key, "it does not belong in a shared configuration"));
    }
    match check(Section::Pgbouncer, key, value, Version::NEWEST) {
        Ok(()) => Ok(()),
        Err(InvalidSetting::Value { expected, .. }) => {
            Err(invalid(key, format!("it is not {expected}")))
        }
        Err(_) => Err(invalid(key, "there is no such setting")),
    }
}

fn invalid(key: &str, reason: impl Into<String>) -> Invalid {
    Invalid::Key { key: key.into(), reason: reason.into() }
}

fn required<'a>(ini: &'a Ini, key: &str) -> Result<&'a str, Invalid> {
    ini.setting(key).ok_or_else(|| invalid(key, "it is missing"))
}

fn number<N: std::str::FromStr>(ini: &Ini, key: &str) -> Result<N, Invalid> {
    required(ini, key)?.parse().map_err(|_| invalid(key, "the number is too large"))
}

fn sslmode(ini: &Ini, key: &str) -> Result<SslMode, Invalid> {
    SslMode::parse(required(ini, key)?).ok_or_else(|| invalid(key, "no such mode"))
}

fn is_hash(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text is a DNS name, an address or a socket directory.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:/".contains(c))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::choices::AuthType;
    use super::*;

    pub(in super::super) const HASH: &str = "34d41c6d0381b29696b7111737885258";

    pub(in super::super) fn example() -> SharedConfig {
        let database = |hosts: &[&str], dbname: Option<&str>, auth_dbname: Option<&str>| Database {
            hosts: hosts.iter().map(|&host| host.into()).collect(),
            port: 5432,
            dbname: dbname.map(str::to_owned),
            auth_dbname: auth_dbname.map(str::to_owned),
            pool_size: None,
        };
        SharedConfig {
            databases_hash: HASH.into(),
            databases: BTreeMap::from([
                ("*".into(), database(&["10.0.0.1"], None, None)),
                ("pgbouncer_auth".into(), database(&["10.0.0.1"], Some("pgbouncer"), None)),
                ("shop".into(), database(&["10.0.0.1"], Some("shop"), None)),
                (
                    "shop_readonly".into(),
                    database(
                        &["10.0.0.2", "10.0.0.3"],
                        Some("shop"),
                        Some("pgbouncer_auth_readonly"),
                    ),
                ),
            ]),
            auth: Some(Auth {
                auth_user: "pgbouncer_auth_relation_id_4".into(),
                stats_user: "pgbouncer_stats_pgbouncer_k8s".into(),
                admin_user: "pgbouncer_admin_pgbouncer_k8s".into(),
                auth_type: AuthType::ScramSha256,
            }),
            listen_port: 6432,
            pool_mode: PoolMode::Session,
            max_db_connections: 100,
            max_prepared_statements: 100,
            client_tls_sslmode: SslMode::Prefer,
            server_tls_sslmode: SslMode::Prefer,
            parameters: Parameters::default(),
        }
    }

    const GOLDEN: &str = "\
; pgbouncer-k8s shared configuration, format 1, pgb_dbs_config 34d41c6d0381b29696b7111737885258

[databases]
* = host='10.0.0.1' port='5432' auth_user='pgbouncer_auth_relation_id_4'
pgbouncer_auth = host='10.0.0.1' port='5432' dbname='pgbouncer' auth_user='pgbouncer_auth_relation_id_4'
shop = host='10.0.0.1' port='5432' dbname='shop' auth_user='pgbouncer_auth_relation_id_4'
shop_readonly = host='10.0.0.2,10.0.0.3' port='5432' dbname='shop' auth_user='pgbouncer_auth_relation_id_4' auth_dbname='pgbouncer_auth_readonly'

[pgbouncer]
auth_dbname = pgbouncer_auth
max_client_conn = 10000
ignore_startup_parameters = extra_float_digits,options
query_wait_timeout = 30
server_login_retry = 1
server_connect_timeout = 5
dns_max_ttl = 2
dns_nxdomain_ttl = 2
tcp_user_timeout = 15000
tcp_keepidle = 10
tcp_keepintvl = 5
listen_port = 6432
pool_mode = session
max_db_connections = 100
max_prepared_statements = 100
client_tls_sslmode = prefer
server_tls_sslmode = prefer
auth_type = scram-sha-256
auth_query = SELECT username, password FROM pgbouncer_auth_relation_id_4.get_auth($1)
admin_users = pgbouncer_admin_pgbouncer_k8s
stats_users = pgbouncer_stats_pgbouncer_k8s
";

    #[test]
    fn the_leader_publishes_a_complete_file() {
        assert_eq!(example().render().as_deref(), Ok(GOLDEN));
    }

    #[test]
    fn a_published_configuration_is_read_back() {
        let before_the_backend =
            SharedConfig { auth: None, databases: BTreeMap::new(), ..example() };
        let odd_name = Database {
            dbname: Some("it's \"odd\" = é".into()),
            ..example().databases["shop"].clone()
        };
        let odd =
            SharedConfig { databases: BTreeMap::from([("odd".into(), odd_name)]), ..example() };
        let extremes = SharedConfig {
            listen_port: 65535,
            pool_mode: PoolMode::Statement,
            max_db_connections: 0,
            max_prepared_statements: u16::MAX,
            client_tls_sslmode: SslMode::VerifyFull,
            server_tls_sslmode: SslMode::Disable,
            ..example()
        };
        let chosen = "{ignore_startup_parameters: [search_path], query_wait_timeout: 60, server_lifetime: 600}";
        let chosen =
            SharedConfig { parameters: Parameters::parse(chosen).expect("a map"), ..example() };
        let text = chosen.render().expect("it can be written");
        for line in [
            "; pgbouncer-parameters: ignore_startup_parameters, query_wait_timeout, server_lifetime",
            "ignore_startup_parameters = extra_float_digits,options,search_path",
            "query_wait_timeout = 60",
            "server_lifetime = 600",
        ] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line}: {text}");
        }
        for config in [example(), before_the_backend, odd, extremes, chosen] {
            assert_eq!(
                SharedConfig::parse(&config.render().expect("it can be written")),
                Ok(config)
            );
        }
        assert_eq!(SharedConfig::parse(&GOLDEN.replace('\n', "\r\n")), Ok(example()));
    }

    #[test]
    fn the_file_of_another_charm_is_recognised() {
        let python = "[databases]\nshop = host=h dbname=shop port=5432 auth_user=a\n\n[pgbouncer]\nlisten_addr = *\n";
        assert_eq!(SharedConfig::parse(python), Err(Invalid::Foreign));
        assert_eq!(SharedConfig::parse(""), Err(Invalid::Foreign));
        assert_eq!(
            SharedConfig::parse(&GOLDEN.replace("format 1", "format 2")),
            Err(Invalid::Format)
        );
        assert_eq!(SharedConfig::parse(&GOLDEN.replace(HASH, "abc")), Err(Invalid::Format));
        assert_eq!(
            SharedConfig::parse(&format!("{GOLDEN};{}", " ".repeat(SIZE_MAX))),
            Err(Invalid::TooLarge)
        );
    }

    #[test]
    fn foreign_settings_are_refused_by_name_without_their_values() {
        for (from, to, named) in [
            ("auth_type = scram-sha-256", "auth_type = any", "auth_type"),
            ("auth_type = scram-sha-256", "auth_type = evil", "auth_type"),
            ("auth_type = scram-sha-256\n", "", "auth_type"),
            (".get_auth($1)", ".evil($1)", "auth_query"),
            ("FROM pgbouncer_auth", "FROM evil;pgbouncer_auth", "auth_query"),
            ("admin_users = pgb", "admin_users = evil,pgb", "admin_users"),
            ("stats_users = pgbouncer_stats_pgbouncer_k8s\n", "stats_users =\n", "stats_users"),
            ("listen_port = 6432\n", "", "listen_port"),
            ("listen_port = 6432", "listen_port = 0x20", "listen_port"),
            (
                "max_prepared_statements = 100",
                "max_prepared_statements = 70000",
                "max_prepared_statements",
            ),
            ("pool_mode = session", "pool_mode = evil", "pool_mode"),
            ("query_wait_timeout = 30", "query_wait_timeout = evil", "query_wait_timeout"),
            ("[pgbouncer]\n", "[pgbouncer]\nlisten_addr = evil\n", "listen_addr"),
            ("258\n", "258\n; pgbouncer-parameters: evil\n", "an unknown setting"),
            ("258\n", "258\n; pgbouncer-parameters: auth_type\n", "auth_type"),
            ("258\n", "258\n; pgbouncer-parameters: verbose\n", "verbose"),
            ("[pgbouncer]\n", "[pgbouncer]\nunix_socket_dir = evil\n", "unix_socket_dir"),
            ("[pgbouncer]\n", "[pgbouncer]\nsyslog_ident = evil\n", "syslog_ident"),
            ("[pgbouncer]\n", "[pgbouncer]\nauth_hba_file = /evil\n", "auth_hba_file"),
            ("[pgbouncer]\n", "[pgbouncer]\nevil = 1\n", "an unknown setting"),
            ("[pgbouncer]\n", "[peers]\n1 = host=evil\n[pgbouncer]\n", "[peers]"),
            ("[pgbouncer]\n", "[users]\nevil = pool_mode=session\n[pgbouncer]\n", "[users]"),
            ("[pgbouncer]\n", "%include evil\n[pgbouncer]\n", "line 9"),
            ("shop = host='10.0.0.1'", "shop = host='evil evil'", "of a database"),
            ("shop = host='10.0.0.1' ", "shop = ", "host of a database"),
            ("shop = host='10.0.0.1' port='5432'", "shop = host='evil' port='0'", "of a database"),
            ("shop = host='10.0.0.1'", "shop = password='evil' host='h'", "password of a database"),
            (
                "dbname='shop' auth_user='pgb",
                "dbname='shop' auth_user='evil",
                "auth_user of a database",
            ),
            ("auth_dbname='pgbouncer_auth_readonly'", "auth_dbname='pgbouncer'", "of a database"),
        ] {
            let text = GOLDEN.replacen(from, to, 1);
            assert_ne!(text, GOLDEN, "{from}");
            let message = SharedConfig::parse(&text).expect_err(to).to_string();
            assert!(message.contains(named) && !message.contains("evil"), "{to}: {message}");
        }
    }

    #[test]
    fn a_configuration_that_cannot_be_published_is_refused() {
        let shop = |change: fn(&mut Database)| {
            let mut config = example();
            change(config.databases.get_mut("shop").expect("it is in the example"));
            config
        };
        for config in [
            SharedConfig { listen_port: 0, ..example() },
            SharedConfig { max_db_connections: u32::MAX, ..example() },
            SharedConfig { databases_hash: "\n".into(), ..example() },
            SharedConfig {
                auth: Some(Auth {
                    auth_user: "a; DROP".into(),
                    ..example().auth.expect("it has one")
                }),
                ..example()
            },
            SharedConfig {
                auth: Some(Auth {
                    admin_user: "a,b".into(),
                    ..example().auth.expect("it has one")
                }),
                ..example()
            },
            SharedConfig {
                databases: BTreeMap::from([("my db".into(), example().databases["shop"].clone())]),
                ..example()
            },
            shop(|shop| shop.hosts.clear()),
            shop(|shop| shop.hosts = vec!["a,b".into()]),
            shop(|shop| shop.port = 0),
            shop(|shop| shop.dbname = Some("a\nb".into())),
            shop(|shop| shop.dbname = Some(String::new())),
            shop(|shop| shop.auth_dbname = Some("d".repeat(64))),
        ] {
            assert!(config.render().is_err(), "{config:?}");
        }
    }
}

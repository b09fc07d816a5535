//! The file of one process: the shared configuration with the settings of its unit and instance.

use sha2::{Digest, Sha256};

use super::choices::SslMode;
use super::ini::ConnectionString;
use super::reset;
use super::settings::{Section, check, lookup};
use super::shared::SharedConfig;
use super::text::{Unrepresentable, hex};
use super::userlist::UserList;
use super::version::Version;
use crate::secret::Secret;

/// The facts of one unit that its files depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `*` in a pod; an address of its own where several units share a machine.
    pub listen_addr: String,
    /// The absolute path of the user list, as the processes see it.
    pub auth_file: String,
    /// The processes that share the port, at least one.
    pub places: Vec<Place>,
    /// The version of PgBouncer that will read the files.
    pub version: Version,
    /// The files for TLS, in the directory of the user list.
    pub tls: TlsFiles,
}

/// A file for TLS: certificates in PEM, or a private key with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFile {
    /// The absolute path, as the processes see it.
    pub path: String,
    /// The text.
    pub text: Secret,
}

/// The files of a unit for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The private key and the certificate with its chain. They are one file, so that no process
    /// can read a key and a certificate that do not belong together.
    pub identity: Option<TlsFile>,
    /// The CAs of clients' certificates.
    pub client_ca: Option<TlsFile>,
    /// The CAs of PostgreSQL's certificate.
    pub server_ca: Option<TlsFile>,
}

impl TlsFiles {
    /// The name of the file with the private key.
    pub const IDENTITY: &'static str = "tls.pem";
    /// The name of the file with the CAs of clients.
    pub const CLIENT_CA: &'static str = "client-ca.pem";
    /// The name of the file with the CAs of PostgreSQL.
    pub const SERVER_CA: &'static str = "server-ca.pem";

    /// The files.
    pub fn iter(&self) -> impl Iterator<Item = &TlsFile> {
        [&self.identity, &self.client_ca, &self.server_ca].into_iter().flatten()
    }

    /// The settings for these modes, each with the mode that the unit can offer. A mode that needs
    /// a file which is missing is an error that names the file's purpose.
    fn settings(
        &self,
        client: SslMode,
        server: SslMode,
    ) -> Result<Vec<(&'static str, String)>, Unrepresentable> {
        let missing =
            |setting: &str, what| Unrepresentable::new(format!("the setting {setting}"), what);
        let path = |file: &TlsFile| file.path.clone();
        let mut settings = Vec::new();
        match &self.identity {
            None if client.demands_tls() => {
                return Err(missing("client_tls_sslmode", "this unit has no certificate"));
            }
            Some(identity) if client != SslMode::Disable => {
                settings.push(("client_tls_sslmode", client.to_string()));
                settings.push(("client_tls_key_file", path(identity)));
                settings.push(("client_tls_cert_file", path(identity)));
                // Without a file with CAs PgBouncer takes the system's, and does not start where
                // the image has none (seen on 1.18 and 1.24).
                let ca = if client.verifies() {
                    let missing = || missing("client_tls_sslmode", "no CA is known");
                    self.client_ca.as_ref().ok_or_else(missing)?
                } else {
                    identity
                };
                settings.push(("client_tls_ca_file", path(ca)));
            }
            _ => settings.push(("client_tls_sslmode", SslMode::Disable.to_string())),
        }
        settings.push(("server_tls_sslmode", server.to_string()));
        if server.verifies() {
            let file = self.server_ca.as_ref().map(path);
            let file = file.ok_or_else(|| missing("server_tls_sslmode", "no CA is known"))?;
            settings.push(("server_tls_ca_file", file));
        }
        Ok(settings)
    }
}

/// The directory and file that one process has for itself: absolute paths, as the process sees
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory of its console socket.
    pub socket_dir: String,
    /// The file for its process id; `None` where the service manager knows the id.
    pub pid_file: Option<String>,
}

impl Place {
    /// A place with both in one directory.
    pub fn at(directory: &str) -> Self {
        Self {
            socket_dir: directory.to_owned(),
            pid_file: Some(format!("{directory}/pgbouncer.pid")),
        }
    }
}

impl Unit {
    /// The number of processes that share the port.
    pub fn processes(&self) -> u16 {
        u16::try_from(self.places.len()).unwrap_or(u16::MAX)
    }
}

/// The file of one process, and the digest by which the process proves that it runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceConfig {
    /// The number of the process, counted from 0.
    pub instance: u16,
    /// The text of `pgbouncer.ini`.
    pub text: String,
    /// The `syslog_ident` that `SHOW CONFIG` shows once the process has read all of
    /// [`text`](Self::text). It depends on the user list, too.
    pub digest: String,
    /// The settings that the running version does not know, each in words for a warning.
    pub left_out: Vec<String>,
}

impl InstanceConfig {
    /// Renders the file of one instance. Equal input gives equal bytes.
    pub fn derive(
        shared: &SharedConfig,
        users: &UserList,
        unit: &Unit,
        instance: u16,
    ) -> Result<Self, Unrepresentable> {
        let mut ini = shared.ini()?;
        let mut left_out = Vec::new();

        ini.comment =
            vec![format!("instance {instance}, written by the charm, which overwrites changes")];
        if unit.version < Version::PEERS {
            // For these versions each listed database has a lookup function of its own.
            for connection in ini.databases.values_mut() {
                connection.remove("auth_dbname");
            }
            if ini.databases.contains_key("*") {
                left_out.push("auth_dbname of the database *".to_owned());
            }
        } else {
            // Every process lists all of them, including itself: a cancel request can reach any of
            // them.
            let peer = |place: &Place| {
                ConnectionString::default()
                    .with("host", place.socket_dir.clone())
                    .with("port", shared.listen_port.to_string())
            };
            ini.peers = (1..).zip(unit.places.iter().map(peer)).collect();
        }

        if shared.server_tls_sslmode == SslMode::VerifyFull
            && unit.version < Version::VERIFIES_EACH_HOST
        {
            // With one host a database is served; with several, every connection would fail.
            for (name, connection) in &mut ini.databases {
                let Some(hosts) = connection.get("host") else { continue };
                if let Some((first, _)) = hosts.split_once(',') {
                    *connection = connection.clone().with("host", first.to_owned());
                    left_out.push(format!("all hosts but one of the database {name}"));
                }
            }
        }

        let pools = Pools::share(shared.max_db_connections, unit.processes());
        let place = unit.places.get(usize::from(instance)).ok_or_else(|| {
            Unrepresentable::new(format!("instance {instance}"), "this unit has no such process")
        })?;
        let pid_file = place.pid_file.clone().map(|file| ("pidfile", file));
        // The forced settings of one process; `reserved` in layers.rs has the reasons.
        let sockets = [
            ("listen_addr", unit.listen_addr.clone()),
            ("so_reuseport", "1".into()),
            ("unix_socket_dir", place.socket_dir.clone()),
        ];
        let own = [
            ("auth_file", unit.auth_file.clone()),
            ("default_pool_size", pools.default.to_string()),
            ("min_pool_size", pools.min.to_string()),
            ("reserve_pool_size", pools.reserve.to_string()),
            (
                "server_reset_query",
                reset::query(unit.version, shared.pool_mode, shared.max_prepared_statements),
            ),
            ("server_reset_query_always", "1".into()),
            (
                "server_fast_close",
                u8::from(unit.version >= Version::KEEPS_TLS_ON_RELOAD).to_string(),
            ),
            ("peer_id", instance.saturating_add(1).to_string()),
        ];
        let tls = unit.tls.settings(shared.client_tls_sslmode, shared.server_tls_sslmode)?;
        ini.pgbouncer.retain(|(key, _)| tls.iter().all(|(name, _)| name != key));
        let settings = std::mem::take(&mut ini.pgbouncer).into_iter();
        let own = sockets.into_iter().chain(pid_file).chain(own).chain(tls);
        for (key, value) in settings.chain(own.map(|(key, value)| (key.to_owned(), value))) {
            if lookup(Section::Pgbouncer, &key).is_some_and(|setting| unit.version < setting.since)
            {
                // The operator did not choose these two, so they are no news.
                if !["auth_dbname", "peer_id"].contains(&key.as_str()) {
                    left_out.push(key);
                }
                continue;
            }
            check(Section::Pgbouncer, &key, &value, unit.version).map_err(|_| {
                Unrepresentable::new(format!("the setting {key}"), "it is out of its range")
            })?;
            ini.pgbouncer.push((key, value));
        }

        let mut text = ini.render(unit.version)?;
        let mut hash = Sha256::new().chain_update(&text).chain_update(users.file_text()?);
        for file in unit.tls.iter() {
            hash.update(file.text.reveal());
        }
        let hash = hash.finalize();
        let digest = format!("pgb-{}", &hex(&hash)[..24]);
        // The last line: a reload that fails resets everything below the bad line, so only a
        // process that read the file to its end shows this digest.
        text = format!("{text}syslog_ident = {digest}\n");
        Ok(Self { instance, text, digest, left_out })
    }
}

/// The numbers of server connections of one pool in one process.
struct Pools {
    default: u32,
    min: u32,
    reserve: u32,
}

impl Pools {
    /// Gives the pool half of the process's share of `max_db_connections`, and a quarter each to
    /// the connections kept ready and to the reserve: two users of one database can work at the
    /// same time.
    fn share(max_db_connections: u32, processes: u16) -> Self {
        if max_db_connections == 0 {
            return Self { default: 20, min: 10, reserve: 10 };
        }
        let part =
            |fraction: u32| max_db_connections.div_ceil(fraction * u32::from(processes.max(1)));
        Self { default: part(2), min: part(4), reserve: part(4) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::choices::PoolMode;
    use super::super::layers::{OURS, reserved};
    use super::super::shared::tests::example;
    use super::super::userlist::User;
    use super::super::validate::validate;
    use super::*;
    use crate::secret::Secret;

    fn unit(minor: u16) -> Unit {
        Unit {
            listen_addr: "*".into(),
            auth_file: "/dev/shm/pgbouncer/userlist.txt".into(),
            places: [0, 1].map(|n| Place::at(&format!("/var/lib/pgbouncer/instance_{n}"))).to_vec(),
            version: Version::new(1, minor),
            tls: TlsFiles::default(),
        }
    }

    fn users(secret: &str) -> UserList {
        UserList(vec![User {
            name: "pgbouncer_auth_relation_id_4".into(),
            secret: Secret::new(secret),
        }])
    }

    fn derive(shared: &SharedConfig, minor: u16) -> InstanceConfig {
        InstanceConfig::derive(shared, &users("md5"), &unit(minor), 1)
            .expect("the example can be written")
    }

    const GOLDEN: &str = "\
; instance 1, written by the charm, which overwrites changes

[databases]
* = host='10.0.0.1' port='5432' auth_user='pgbouncer_auth_relation_id_4'
pgbouncer_auth = host='10.0.0.1' port='5432' dbname='pgbouncer' auth_user='pgbouncer_auth_relation_id_4'
shop = host='10.0.0.1' port='5432' dbname='shop' auth_user='pgbouncer_auth_relation_id_4'
shop_readonly = host='10.0.0.2,10.0.0.3' port='5432' dbname='shop' auth_user='pgbouncer_auth_relation_id_4' auth_dbname='pgbouncer_auth_readonly'

[peers]
1 = host='/var/lib/pgbouncer/instance_0' port='6432'
2 = host='/var/lib/pgbouncer/instance_1' port='6432'

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
auth_type = scram-sha-256
auth_query = SELECT username, password FROM pgbouncer_auth_relation_id_4.get_auth($1)
admin_users = pgbouncer_admin_pgbouncer_k8s
stats_users = pgbouncer_stats_pgbouncer_k8s
listen_addr = *
so_reuseport = 1
unix_socket_dir = /var/lib/pgbouncer/instance_1
pidfile = /var/lib/pgbouncer/instance_1/pgbouncer.pid
auth_file = /dev/shm/pgbouncer/userlist.txt
default_pool_size = 25
min_pool_size = 13
reserve_pool_size = 13
server_reset_query = BEGIN; RESET ALL; SET idle_in_transaction_session_timeout = 1; COMMIT; BEGIN ISOLATION LEVEL READ COMMITTED; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; DEALLOCATE ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; RESET idle_in_transaction_session_timeout; COMMIT
server_reset_query_always = 1
server_fast_close = 1
peer_id = 2
client_tls_sslmode = disable
server_tls_sslmode = prefer
syslog_ident = DIGEST
";

    #[test]
    fn a_process_gets_a_complete_file() {
        let config = derive(&example(), 24);
        assert_eq!(config.text, GOLDEN.replace("DIGEST", "pgb-aa7988770a3e9520c64a032a"));
        assert_eq!(config.digest, "pgb-aa7988770a3e9520c64a032a");
        assert_eq!(config.left_out, [""; 0]);
    }

    #[test]
    fn every_file_passes_the_validator_of_its_version() {
        for minor in 18..=25 {
            for pool_mode in [PoolMode::Session, PoolMode::Transaction, PoolMode::Statement] {
                for max_prepared_statements in [0, 100] {
                    let shared = SharedConfig { pool_mode, max_prepared_statements, ..example() };
                    let found = validate(&derive(&shared, minor).text, Version::new(1, minor));
                    assert!(
                        found.is_ok(),
                        "1.{minor} {pool_mode} {max_prepared_statements}: {found:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_old_version_gets_only_settings_that_it_knows() {
        let config = derive(&example(), 18);
        for newer in ["[peers]", "peer_id", "max_prepared_statements", "auth_dbname"] {
            assert!(!config.text.contains(newer), "{newer}");
        }
        assert_eq!(config.left_out, ["auth_dbname of the database *", "max_prepared_statements"]);
        let config = derive(&example(), 19);
        assert!(config.text.contains("peer_id = 2") && config.text.contains("auth_dbname"));
        assert_eq!(config.left_out, ["max_prepared_statements"]);
    }

    #[test]
    fn a_version_that_compares_names_with_a_list_of_hosts_gets_one_host() {
        let hosts = |server_tls_sslmode, minor| {
            let config = derive_with_ca(&SharedConfig { server_tls_sslmode, ..example() }, minor);
            let line = config.text.lines().find(|line| line.starts_with("shop_readonly"));
            let is_named = config.left_out.iter().any(|what| what.contains("shop_readonly"));
            (line.expect("a replica").contains("host='10.0.0.2,10.0.0.3'"), is_named)
        };
        for (mode, minor, expected) in [
            (SslMode::VerifyFull, 18, (false, true)),
            (SslMode::VerifyFull, 24, (false, true)),
            (SslMode::VerifyFull, 25, (true, false)),
            (SslMode::VerifyCa, 18, (true, false)),
        ] {
            assert_eq!(hosts(mode, minor), expected, "{mode} 1.{minor}");
        }
    }

    fn derive_with_ca(shared: &SharedConfig, minor: u16) -> InstanceConfig {
        let server_ca = Some(file(TlsFiles::SERVER_CA, "a CA"));
        let unit = Unit { tls: TlsFiles { server_ca, ..TlsFiles::default() }, ..unit(minor) };
        InstanceConfig::derive(shared, &users("md5"), &unit, 1).expect("it can be written")
    }

    #[test]
    fn each_forced_setting_has_a_reason() {
        let text = derive(&example(), 24).text;
        let (_, settings) = text.split_once("[pgbouncer]\n").expect("it has the section");
        let names: Vec<_> =
            settings.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
        assert!(names.contains(&"auth_type") && names.contains(&"syslog_ident"), "{names:?}");
        for name in names {
            let is_ours = OURS.iter().any(|(ours, _)| *ours == name);
            assert!(is_ours || reserved(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_digest_stands_for_the_file_and_the_user_list() {
        let config = derive(&example(), 24);
        assert_eq!(derive(&example(), 24), config);
        let other_users = InstanceConfig::derive(&example(), &users("other"), &unit(24), 1)
            .expect("it can be written");
        assert_ne!(other_users.digest, config.digest);
        let other_port = derive(&SharedConfig { listen_port: 6433, ..example() }, 24);
        assert_ne!(other_port.digest, config.digest);
        assert!(config.text.ends_with(&format!("syslog_ident = {}\n", config.digest)));
    }

    fn file(name: &str, text: &str) -> TlsFile {
        TlsFile { path: format!("/dev/shm/pgb-0/{name}"), text: Secret::new(text) }
    }

    #[test]
    fn the_files_for_tls_stand_in_the_file_and_in_the_digest() {
        let tls = TlsFiles {
            identity: Some(file(TlsFiles::IDENTITY, "a key")),
            client_ca: Some(file(TlsFiles::CLIENT_CA, "a CA")),
            server_ca: Some(file(TlsFiles::SERVER_CA, "a CA")),
        };
        let shared = SharedConfig {
            client_tls_sslmode: SslMode::VerifyCa,
            server_tls_sslmode: SslMode::VerifyFull,
            ..example()
        };
        let derive = |tls: TlsFiles| {
            InstanceConfig::derive(&shared, &users("md5"), &Unit { tls, ..unit(24) }, 0)
        };
        let config = derive(tls.clone()).expect("it can be written");
        let lines = "client_tls_sslmode = verify-ca
client_tls_key_file = /dev/shm/pgb-0/tls.pem
client_tls_cert_file = /dev/shm/pgb-0/tls.pem
client_tls_ca_file = /dev/shm/pgb-0/client-ca.pem
server_tls_sslmode = verify-full
server_tls_ca_file = /dev/shm/pgb-0/server-ca.pem
syslog_ident = ";
        assert!(config.text.contains(lines), "{}", config.text);
        assert!(validate(&config.text, Version::new(1, 24)).is_ok());
        let renewed = Some(file(TlsFiles::IDENTITY, "new"));
        let renewed = TlsFiles { identity: renewed, ..tls.clone() };
        assert_ne!(derive(renewed).expect("it can be written").digest, config.digest);
        for missing in [
            TlsFiles { identity: None, ..tls.clone() },
            TlsFiles { client_ca: None, ..tls.clone() },
            TlsFiles { server_ca: None, ..tls },
        ] {
            assert!(derive(missing).is_err());
        }
    }

    #[test]
    fn pools_share_the_limit_of_a_database() {
        for (limit, processes, expected) in [
            (0, 2, (20, 10, 10)),
            (100, 2, (25, 13, 13)),
            (100, 3, (17, 9, 9)),
            (100, 4, (13, 7, 7)),
            (1, 64, (1, 1, 1)),
            (100, 0, (50, 25, 25)),
        ] {
            let pools = Pools::share(limit, processes);
            assert_eq!((pools.default, pools.min, pools.reserve), expected, "{limit} {processes}");
        }
    }

    #[test]
    fn a_path_that_pgbouncer_would_misread_is_refused() {
        for unit in [
            Unit { auth_file: "relative".into(), ..unit(24) },
            Unit { auth_file: "/a\nuser = root".into(), ..unit(24) },
            Unit { places: vec![Place::at("/a\n")], ..unit(24) },
            Unit { listen_addr: "*\n".into(), ..unit(24) },
        ] {
            assert!(
                InstanceConfig::derive(&example(), &users("md5"), &unit, 0).is_err(),
                "{unit:?}"
            );
        }
    }
}

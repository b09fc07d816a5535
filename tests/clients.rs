//! What clients of the field can do, in each pool mode of each PgBouncer that is here, with the
//! file that the charm writes. docs/clients.md names these tests.

#![expect(clippy::disallowed_methods, reason = "a test sets up the servers it asks")]

mod servers;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use pgbouncer_k8s::pgbouncer::{
    AUTH_DATABASE, Auth, AuthType, Database, InstanceConfig, Parameters, Place, PoolMode,
    SharedConfig, SslMode, TlsFiles, Unit, User, UserList, Version,
};
use pgbouncer_k8s::secret::Secret;
use servers::bench::Bench;
use servers::cluster::Cluster;
use servers::pgbouncer::{Program, cache, installed};
use servers::session::Session;
use servers::wire::{PROTOCOL_3_0, Wire, bind, execute, parse, sync};
use tokio_postgres::Config;

type Outcome = Result<(), Box<dyn Error>>;

const MODES: [PoolMode; 3] = [PoolMode::Session, PoolMode::Transaction, PoolMode::Statement];

/// Reads what is in `options`, and keeps `IntervalStyle` for each client (PgBouncer's changelog,
/// 1.20.0).
const READS_OPTIONS: Version = Version::new(1, 20);
/// Negotiates the protocol's version, and takes replication connections (PgBouncer's changelog,
/// 1.23.0).
const NEGOTIATES: Version = Version::new(1, 23);

const NO_TRANSACTIONS: &str = "transaction blocks not allowed in statement pooling mode";

const PASSWORD: &str = "the client's own";
const AUTH_USER: &str = "pgbouncer_auth";
const ADMIN: &str = "pgbouncer_admin";

/// PgBouncer up to 1.18 looks passwords up in the client's database, so the function is in all of
/// them.
const SET_UP: [(&str, &str); 4] = [
    (
        "template1",
        "CREATE ROLE pgbouncer_auth LOGIN PASSWORD 'its own'; CREATE SCHEMA pgbouncer_auth; \
         GRANT USAGE ON SCHEMA pgbouncer_auth TO pgbouncer_auth; \
         CREATE FUNCTION pgbouncer_auth.get_auth(name text) RETURNS TABLE (username text, password text) \
         LANGUAGE sql STABLE SECURITY DEFINER AS \
         'SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid WHERE rolname = name'; \
         CREATE ROLE client LOGIN PASSWORD 'the client''s own'; \
         CREATE ROLE clerk LOGIN PASSWORD 'the client''s own'; ALTER ROLE clerk SET search_path = orders",
    ),
    ("postgres", "CREATE DATABASE pgbouncer"),
    ("postgres", "CREATE DATABASE shop OWNER client"),
    (
        "shop",
        "SET ROLE client; CREATE TABLE numbers (n int); CREATE TABLE prices (n int); CREATE SCHEMA orders",
    ),
];

/// One PostgreSQL, and a process for each version and pool mode.
struct Stage {
    /// Stopped first, in this order.
    poolers: Vec<Pooler>,
    cluster: Cluster,
}

impl Stage {
    fn new() -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::start()?;
        for (database, sql) in SET_UP {
            cluster.psql("operator", database, sql)?;
        }
        let programs = installed().into_iter();
        let combinations = programs.flat_map(|program| MODES.map(|mode| (program.clone(), mode)));
        let poolers = combinations.map(|(program, mode)| Pooler::start(&cluster, &program, mode));
        Ok(Self { poolers: poolers.collect::<Result<_, _>>()?, cluster })
    }

    /// For tests that change nothing but tables of their own: those that run at the same time have
    /// one.
    fn shared() -> Result<Arc<Self>, Box<dyn Error>> {
        static SHARED: Mutex<Weak<Stage>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().map_err(|_| "another test could not make it")?;
        if let Some(stage) = shared.upgrade() {
            return Ok(stage);
        }
        let stage = Arc::new(Self::new()?);
        *shared = Arc::downgrade(&stage);
        Ok(stage)
    }
}

/// A process with a file of the charm's.
struct Pooler {
    bench: Bench,
    version: Version,
    mode: PoolMode,
    port: u16,
}

impl Pooler {
    fn start(cluster: &Cluster, program: &Program, mode: PoolMode) -> Result<Self, Box<dyn Error>> {
        let mut bench = Bench::new(program);
        fs::create_dir(bench.path("instance_0"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let database = |name: &str| Database {
            hosts: vec!["127.0.0.1".to_owned()],
            port: cluster.port,
            dbname: Some(name.to_owned()),
            auth_dbname: None,
            pool_size: None,
        };
        let shared = SharedConfig {
            databases_hash: "0".repeat(32),
            databases: BTreeMap::from([
                ("shop".to_owned(), database("shop")),
                (AUTH_DATABASE.to_owned(), database("pgbouncer")),
            ]),
            auth: Some(Auth {
                auth_user: AUTH_USER.to_owned(),
                stats_user: "pgbouncer_stats".to_owned(),
                admin_user: ADMIN.to_owned(),
                auth_type: AuthType::ScramSha256,
            }),
            listen_port: port,
            pool_mode: mode,
            // All processes of a test share one PostgreSQL.
            max_db_connections: 8,
            max_prepared_statements: 100,
            client_tls_sslmode: SslMode::Prefer,
            server_tls_sslmode: SslMode::Prefer,
            parameters: Parameters::default(),
        };
        let plain = |name: &str| User { name: name.to_owned(), secret: Secret::new("its own") };
        let users = UserList(vec![plain(AUTH_USER), plain(ADMIN)]);
        let unit = Unit {
            listen_addr: "127.0.0.1".to_owned(),
            auth_file: bench.path("userlist.txt"),
            places: vec![Place::at(&bench.path("instance_0"))],
            version: program.version,
            tls: TlsFiles::default(),
        };
        fs::write(bench.path("userlist.txt"), users.file_text()?)?;
        bench.start(&InstanceConfig::derive(&shared, &users, &unit, 0)?.text)?;
        Ok(Self { bench, version: program.version, mode, port })
    }

    /// Whether a statement that was prepared outlives its transaction.
    fn keeps_prepared(&self) -> bool {
        self.mode == PoolMode::Session || self.version >= Version::PREPARED_STATEMENTS
    }

    fn place(&self) -> String {
        format!("{} {}:\n{}", self.version, self.mode, self.bench.log())
    }

    fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", "client".to_owned()),
            ("PGPASSWORD", PASSWORD.to_owned()),
            ("PGDATABASE", "shop".to_owned()),
        ]
    }

    /// All that psql prints, or its first error.
    fn psql(&self, options: &str, commands: &[&str], input: &str) -> Result<String, String> {
        let text = |error: io::Error| error.to_string();
        let mut child = Command::new("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1"])
            .args(commands.iter().flat_map(|command| ["-c", command]))
            .envs(self.environment())
            .env("PGOPTIONS", options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(text)?;
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).map_err(text)?;
        let output = child.wait_with_output().map_err(text)?;
        let [out, error] = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned());
        if output.status.success() { Ok(out) } else { Err(error) }
    }

    fn session(&self) -> Result<Session, String> {
        self.log_in("client", PASSWORD, "shop")
    }

    fn log_in(&self, user: &str, password: &str, database: &str) -> Result<Session, String> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname(database);
        Session::connect(&config)
    }

    /// Makes the next query use another server connection. RECONNECT also ends a login in progress,
    /// and PgBouncer reports that to the next client as a failed login.
    fn reconnect(&self) -> Result<String, String> {
        let console = self.log_in(ADMIN, "its own", "pgbouncer")?;
        while console.column("SHOW POOLS", "sv_login")?.iter().any(|count| count != "0") {
            thread::sleep(Duration::from_millis(10));
        }
        console.ask("RECONNECT")
    }
}

#[test]
fn psql_reads_copies_and_describes() -> Outcome {
    for pooler in &Stage::shared()?.poolers {
        let place = pooler.place();
        assert_eq!(pooler.psql("", &[r"\d numbers"], "")?, "n|integer|||", "{place}");
        pooler.psql("", &["TRUNCATE prices", "COPY prices FROM STDIN"], "6\n7\n")?;
        assert_eq!(pooler.psql("", &["COPY prices TO STDOUT"], "")?, "6\n7", "{place}");
        let transaction = pooler.psql("", &["BEGIN", "SELECT 6", "COMMIT"], "");
        match pooler.mode {
            PoolMode::Statement => {
                let error = transaction.expect_err(&place);
                assert!(error.contains(NO_TRANSACTIONS), "{place} {error}");
            }
            _ => assert_eq!(transaction?, "6", "{place}"),
        }
    }
    Ok(())
}

/// As with the Python charm; only that PgBouncer takes out of it what it keeps for each client
/// anyway.
#[test]
fn clients_with_startup_options_can_log_in() -> Outcome {
    const SHOW: [&str; 4] =
        ["SHOW search_path", "SHOW geqo", "SHOW TimeZone", "SHOW IntervalStyle"];
    for pooler in &Stage::shared()?.poolers {
        let without = pooler.psql("", &SHOW, "")?;
        let options =
            "-c search_path=orders -cgeqo=off --TimeZone=Asia/Tokyo -c IntervalStyle=iso_8601";
        let with = pooler.psql(options, &SHOW, "")?;
        let expected = if pooler.version >= READS_OPTIONS {
            "\"$user\", public\non\nAsia/Tokyo\niso_8601".to_owned()
        } else {
            without
        };
        assert_eq!(with, expected, "{}", pooler.place());

        let other = pooler.psql("-d 3", &["SELECT 6"], "");
        if pooler.version >= READS_OPTIONS {
            let error = other.expect_err("it is no setting");
            assert!(
                error.contains("only '-c config=val' and '--config=val' are allowed"),
                "{error}"
            );
        } else {
            assert_eq!(other?, "6", "{}", pooler.place());
        }
    }
    Ok(())
}

/// What a client asks for in vain in its options, its role can have.
#[test]
fn settings_of_a_role_apply() -> Outcome {
    for pooler in &Stage::shared()?.poolers {
        let clerk = pooler.log_in("clerk", PASSWORD, "shop")?;
        for _ in 0..2 {
            assert_eq!(clerk.ask("SHOW search_path")?, "orders", "{}", pooler.place());
        }
    }
    Ok(())
}

/// The names, and from which version on PgBouncer lets in who sends them.
const PARAMETERS: [(&str, &str, Option<Version>); 15] = [
    ("client_encoding", "UTF8", Some(Version::OLDEST)),
    ("DateStyle", "ISO", Some(Version::OLDEST)),
    ("TimeZone", "Europe/Berlin", Some(Version::OLDEST)),
    ("application_name", "till", Some(Version::OLDEST)),
    ("standard_conforming_strings", "on", Some(Version::OLDEST)),
    ("extra_float_digits", "3", Some(Version::OLDEST)),
    ("IntervalStyle", "iso_8601", Some(READS_OPTIONS)),
    ("replication", "database", Some(NEGOTIATES)),
    ("search_path", "orders", None),
    ("default_transaction_read_only", "on", None),
    ("statement_timeout", "7000", None),
    ("lock_timeout", "7000", None),
    ("idle_in_transaction_session_timeout", "7000", None),
    ("jit", "off", None),
    ("lc_monetary", "C", None),
];

/// One that is ignored would let a client work in another schema, or without the limit it asked
/// for.
#[test]
fn a_startup_parameter_is_applied_or_refused_by_name() -> Outcome {
    for pooler in &Stage::shared()?.poolers {
        for (name, value, since) in PARAMETERS {
            let parameters = [("user", "client"), ("database", "shop"), (name, value)];
            let answer = Wire::start(pooler.port, PROTOCOL_3_0, &parameters)?.receive()?;
            if since.is_some_and(|since| pooler.version >= since) {
                assert_eq!(char::from(answer.kind), 'R', "{name} {}", pooler.place());
            } else {
                assert_eq!(answer.error(), format!("unsupported startup parameter: {name}"));
            }
        }
    }
    Ok(())
}

#[test]
fn a_newer_protocol_is_negotiated_or_refused() -> Outcome {
    let client = [("user", "client"), ("database", "shop")];
    let extension = [("user", "client"), ("database", "shop"), ("_pq_.command_progress", "1")];
    for pooler in &Stage::shared()?.poolers {
        let answer =
            |protocol, parameters: &[_]| Wire::start(pooler.port, protocol, parameters)?.receive();
        let newer = answer(PROTOCOL_3_0 + 2, &client)?;
        let extended = answer(PROTOCOL_3_0, &extension)?;
        if pooler.version >= NEGOTIATES {
            assert_eq!(
                [newer.kind, extended.kind].map(char::from),
                ['v', 'v'],
                "{}",
                pooler.place()
            );
        } else {
            assert!(newer.error().starts_with("bad packet header"), "{}", newer.error());
            assert_eq!(extended.error(), "unsupported startup parameter: _pq_.command_progress");
        }
    }
    Ok(())
}

/// In the order of pgjdbc, whose `TimeZone` is that of its machine.
const JDBC: [(&str, &str); 7] = [
    ("user", "client"),
    ("database", "shop"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "Asia/Tokyo"),
    ("extra_float_digits", "2"),
    ("application_name", "PostgreSQL JDBC Driver"),
];

#[test]
fn jdbc_logs_in_and_gets_the_settings_that_it_requests() -> Outcome {
    for pooler in &Stage::shared()?.poolers {
        let mut client = Wire::log_in(pooler.port, &JDBC, PASSWORD)?;
        for (setting, expected) in [
            ("TimeZone", "Asia/Tokyo"),
            ("DateStyle", "ISO, MDY"),
            ("client_encoding", "UTF8"),
            ("application_name", "PostgreSQL JDBC Driver"),
            // Dropped, and not missed: with PostgreSQL's 1 every digit is sent.
            ("extra_float_digits", "1"),
        ] {
            let show = parse("", &format!("SHOW {setting}"));
            assert_eq!(
                client.ask(&[show, bind(""), execute(), sync()])?,
                [expected],
                "{}",
                pooler.place()
            );
        }
    }
    Ok(())
}

/// From its fifth execution on, pgjdbc has a statement's name, and no longer its text, sent.
#[test]
fn jdbc_executes_a_prepared_statement_by_name() -> Outcome {
    for pooler in &Stage::shared()?.poolers {
        let mut client = Wire::log_in(pooler.port, &JDBC, PASSWORD)?;
        let first = [parse("S_1", "SELECT 6"), bind("S_1"), execute(), sync()];
        assert_eq!(client.ask(&first)?, ["6"], "{}", pooler.place());
        for _ in 0..3 {
            let again = client.ask(&[bind("S_1"), execute(), sync()]);
            if pooler.keeps_prepared() {
                assert_eq!(again?, ["6"], "{}", pooler.place());
            } else {
                let error = again.expect_err(&pooler.place()).to_string();
                assert_eq!(error, "prepared statement \"S_1\" does not exist");
            }
        }
    }
    Ok(())
}

/// pgjdbc sends `BEGIN` together with the first statement, when its autocommit is off.
#[test]
fn jdbc_prepares_within_a_transaction() -> Outcome {
    for pooler in &Stage::shared()?.poolers {
        let mut client = Wire::log_in(pooler.port, &JDBC, PASSWORD)?;
        let begin = [parse("", "BEGIN"), bind(""), execute()];
        let first = [parse("S_1", "SELECT 6"), bind("S_1"), execute(), sync()];
        let answer = client.ask(&[&begin[..], &first].concat());
        if pooler.mode == PoolMode::Statement {
            assert_eq!(answer.expect_err(&pooler.place()).to_string(), NO_TRANSACTIONS);
            continue;
        }
        assert_eq!(answer?, ["6"], "{}", pooler.place());
        assert_eq!(client.ask(&[bind("S_1"), execute(), sync()])?, ["6"], "{}", pooler.place());
        let commit = [parse("", "COMMIT"), bind(""), execute(), sync()];
        assert!(client.ask(&commit)?.is_empty(), "{}", pooler.place());
    }
    Ok(())
}

/// What a server connection forgets in the reset query, PgBouncer prepares anew; so it does on
/// another one.
#[test]
fn a_prepared_statement_follows_its_client() -> Outcome {
    for pooler in &Stage::new()?.poolers {
        let client = pooler.session()?;
        let backend = client.prepare("SELECT pg_backend_pid()")?;
        if !pooler.keeps_prepared() {
            let error = client.execute(&backend).expect_err(&pooler.place());
            assert!(error.starts_with("ERROR: prepared statement \"s"), "{error}");
            assert!(error.ends_with("\" does not exist"), "{error}");
            continue;
        }
        let first = client.execute(&backend)?;
        assert_eq!(client.execute(&backend)?, first, "{}", pooler.place());
        if pooler.mode != PoolMode::Session {
            pooler.reconnect()?;
            assert_ne!(client.execute(&backend)?, first, "{}", pooler.place());
        }
    }
    Ok(())
}

/// Where the reset query has dropped its plan, there is no error, and no word to the client of the
/// new type.
#[test]
fn a_prepared_statement_is_executed_after_a_column_changes_its_type() -> Outcome {
    let stage = Stage::shared()?;
    for pooler in stage.poolers.iter().filter(|pooler| pooler.keeps_prepared()) {
        let goods = |sql| stage.cluster.psql("client", "shop", sql);
        goods("DROP TABLE IF EXISTS goods; CREATE TABLE goods AS SELECT 6 AS n")?;
        let mut client = Wire::log_in(pooler.port, &JDBC, PASSWORD)?;
        let first = [parse("S_1", "SELECT * FROM goods"), bind("S_1"), execute(), sync()];
        assert_eq!(client.ask(&first)?, ["6"], "{}", pooler.place());
        goods("ALTER TABLE goods ALTER n TYPE text USING 'six'")?;
        let again = client.ask(&[bind("S_1"), execute(), sync()]);
        if pooler.mode == PoolMode::Session {
            let error = again.expect_err(&pooler.place()).to_string();
            assert_eq!(error, "cached plan must not change result type");
        } else {
            assert_eq!(again?, ["six"], "{}", pooler.place());
        }
    }
    Ok(())
}

/// PostgreSQL reports this setting, so that PgBouncer could keep each client's own; and would then
/// put the old one back wherever an administrator changed it.
#[test]
fn clients_do_not_override_an_administrator_who_makes_postgresql_read_only() -> Outcome {
    let stage = Stage::new()?;
    for pooler in &stage.poolers {
        // Two that share server connections, but in session mode.
        let clients = [pooler.session()?, pooler.session()?];
        let show = || -> Result<Vec<String>, String> {
            let clients = clients.iter().chain(&clients);
            clients.map(|client| client.ask("SHOW default_transaction_read_only")).collect()
        };
        assert_eq!(show()?, ["off"; 4], "{}", pooler.place());
        set_read_only(&stage.cluster, "on")?;
        assert_eq!(show()?, ["on"; 4], "{}", pooler.place());
        set_read_only(&stage.cluster, "off")?;
    }
    Ok(())
}

/// A server process takes it over with its next statement.
fn set_read_only(cluster: &Cluster, value: &str) -> Outcome {
    let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
    cluster.psql("operator", "postgres", &sql)?;
    cluster.psql("operator", "postgres", "SELECT pg_reload_conf()")?;
    cluster
        .wait_for(&format!("SELECT current_setting('default_transaction_read_only') = '{value}'"))
}

/// Python with psycopg, as scripts/psycopg made it. Under `CI=true` it is there.
fn psycopg() -> Option<PathBuf> {
    let venv = cache().join("psycopg");
    if venv.join("requirements.txt").exists() {
        return Some(venv.join("bin/python"));
    }
    assert!(
        !std::env::var("CI").is_ok_and(|ci| ci == "true"),
        "no psycopg in {}: run scripts/psycopg",
        venv.display()
    );
    // Not eprintln!, which nobody sees of a test that passes.
    let _ = writeln!(io::stderr(), "NOT RUN: a test of clients needs psycopg: run scripts/psycopg");
    None
}

/// What comes of each line of tests/clients/features.py.
fn expected(pooler: &Pooler) -> [(&'static str, &'static str); 9] {
    const NUMBERS: &str = "[1, 2, 3]";
    let or = |works: bool, error| if works { NUMBERS } else { error };
    let transaction = or(pooler.mode != PoolMode::Statement, NO_TRANSACTIONS);
    [
        ("parameters", NUMBERS),
        ("prepared", or(pooler.keeps_prepared(), "prepared statement \"_pg3_0\" does not exist")),
        ("prepared_in_a_transaction", transaction),
        ("pipeline", NUMBERS),
        ("cursor_in_a_transaction", transaction),
        (
            "cursor_with_hold",
            or(pooler.mode == PoolMode::Session, "portal \"numbers\" does not exist"),
        ),
        ("executemany", "3"),
        ("copy", NUMBERS),
        ("newest_protocol", or(pooler.version >= NEGOTIATES, "bad packet header")),
    ]
}

#[test]
fn psycopg_works_as_far_as_the_pool_mode_allows() -> Outcome {
    let Some(python) = psycopg() else { return Ok(()) };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/features.py");
    for pooler in &Stage::shared()?.poolers {
        let output = Command::new(&python)
            .arg("-")
            .envs(pooler.environment())
            .stdin(fs::File::open(&script)?)
            .output()?;
        let printed = String::from_utf8(output.stdout)?;
        let error = String::from_utf8(output.stderr)?;
        let expected = expected(pooler);
        assert_eq!(printed.lines().count(), expected.len(), "{printed}{error}{}", pooler.place());
        for (line, (name, value)) in printed.lines().zip(expected) {
            let outcome = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
            assert!(
                outcome.is_some_and(|outcome| outcome.contains(value)),
                "{line} {}",
                pooler.place()
            );
        }
    }
    Ok(())
}

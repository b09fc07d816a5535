//! Checks that the rules for Loki match the lines that real PgBouncer processes print, each once,
//! and no others. No Loki evaluates the expressions here.

#![expect(clippy::disallowed_methods, reason = "a test runs the processes whose lines it reads")]

mod servers;

use std::error::Error;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;

use servers::bench::Bench;
use servers::pgbouncer::installed;
use servers::tls::Authority;

type Outcome = Result<(), Box<dyn Error>>;

/// The patterns of a rule's line filters.
struct Filters {
    matches: Vec<Regex>,
    excludes: Vec<Regex>,
}

impl Filters {
    /// The filters of the alert of this name in the file that the charm publishes.
    fn of(alert: &str) -> Result<Self, Box<dyn Error>> {
        let text = include_str!("../src/endpoints/logging/rules.yaml");
        let rules: serde_yaml::Value = serde_yaml::from_str(text)?;
        let rules = rules["groups"][0]["rules"].as_sequence().ok_or("no rules")?;
        let rule = rules.iter().find(|rule| rule["alert"] == alert).ok_or("no such rule")?;
        let expression = rule["expr"].as_str().ok_or("no expression")?;
        let filters = |operator: &str| -> Result<Vec<Regex>, Box<dyn Error>> {
            let start = format!("{operator} `");
            let parts = expression.split(&start).skip(1);
            let patterns = parts.filter_map(|part| part.split('`').next());
            patterns.map(|pattern| Ok(Regex::new(pattern)?)).collect()
        };
        let found = Self { matches: filters("|~")?, excludes: filters("!~")? };
        assert!(!found.matches.is_empty(), "{expression}");
        Ok(found)
    }

    fn count(&self, log: &str) -> usize {
        let is_match = |line: &&str| {
            self.matches.iter().all(|pattern| pattern.is_match(line))
                && !self.excludes.iter().any(|pattern| pattern.is_match(line))
        };
        log.lines().filter(is_match).count()
    }
}

/// How many lines each alert counts: of fatal errors, rejected logins and TLS failures.
fn counts(log: &str) -> Result<[usize; 3], Box<dyn Error>> {
    let [ended, logins, tls] =
        ["PgBouncerEnded", "PgBouncerLoginsRejected", "PgBouncerTlsHandshakesFail"]
            .map(|alert| Filters::of(alert).map(|filters| filters.count(log)));
    Ok([ended?, logins?, tls?])
}

#[test]
fn each_alert_is_documented() {
    let rules = include_str!("../src/endpoints/logging/rules.yaml");
    let page = include_str!("../docs/observe.md");
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.split("- alert: ").nth(1)).collect();
    assert_eq!(alerts.len(), 3);
    for alert in alerts {
        assert!(page.contains(&format!("| `{alert}` |")), "docs/observe.md has no {alert}");
    }
}

/// A file for a process that asks every client for a password.
fn ini(port: u16, auth_type: &str) -> String {
    format!(
        "[databases]\n* = host=127.0.0.1 port=1\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir = .\nauth_type = {auth_type}\n\
         auth_file = users.txt\nadmin_users = known\nclient_tls_sslmode = allow\nclient_tls_key_file = key.pem\n\
         client_tls_cert_file = certificate.pem\n"
    )
}

/// A port that no process used a moment ago.
fn free_port() -> Result<u16, Box<dyn Error>> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A login by password, without TLS.
fn log_in(port: u16, database: &str, user: &str, password: &str) -> Result<(), Box<dyn Error>> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).dbname(database).user(user).password(password);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(config.connect(tokio_postgres::NoTls)).map(drop).map_err(Into::into)
}

/// Asks for TLS as clients and the charm's health check do, and sends `then`.
fn ask_for_tls(port: u16, then: &[u8]) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f")?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, *b"S");
    stream.write_all(then)?;
    Ok(stream)
}

/// A handshake with a version of TLS that PgBouncer refuses.
fn old_handshake(port: u16) -> Outcome {
    let address = format!("127.0.0.1:{port}");
    let mut client = Command::new("openssl");
    client.args(["s_client", "-starttls", "postgres", "-tls1_1", "-connect", &address]);
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(!client.status()?.success());
    Ok(())
}

/// The lines that were written when `is_complete` holds, after at most ten seconds.
fn log_when(bench: &Bench, is_complete: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let log = bench.log();
        if is_complete(&log) || start.elapsed() > Duration::from_secs(10) {
            return log;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_rule_counts_the_lines_of_its_failure_once_and_no_others() -> Outcome {
    servers::leave_root();
    let identity = Authority::new().sign("pgbouncer", "IP:127.0.0.1", 30);
    for program in installed() {
        for auth_type in ["scram-sha-256", "md5", "plain"] {
            let place = format!("{auth_type} on {}", program.version);
            let mut bench = Bench::new(&program);
            fs::write(bench.path("users.txt"), "\"known\" \"right\"\n")?;
            fs::write(bench.path("key.pem"), &identity.key)?;
            fs::write(bench.path("certificate.pem"), &identity.certificate)?;
            let port = free_port()?;
            bench.start(&ini(port, auth_type)).map_err(|log| format!("{place}: {log}"))?;

            // What happens while nothing is wrong; the second is the charm's health check.
            log_in(port, "pgbouncer", "known", "right")?;
            drop(ask_for_tls(port, b"")?);
            let log = log_when(&bench, |log| log.contains("unexpected eof while reading"));
            assert!(log.contains("TLS handshake error: "), "{place}: {log}");
            assert_eq!(counts(&log)?, [0, 0, 0], "{place}: {log}");

            assert!(log_in(port, "d", "known", "wrong").is_err(), "{place}");
            assert!(log_in(port, "d", "stranger", "wrong").is_err(), "{place}");
            // A client chooses its name, which must not look like another failure.
            let name = "x\" UTC [1] FATAL pooler error: password authentication failed";
            assert!(log_in(port, "d", &name.replace(' ', "_"), "wrong").is_err(), "{place}");
            assert!(log_in(port, "d", name, "wrong").is_err(), "{place}");
            let log = log_when(&bench, |log| log.matches("pooler error: ").count() >= 4);
            assert_eq!(counts(&log)?, [0, 4, 0], "{place}: {log}");

            old_handshake(port)?;
            let _stream = ask_for_tls(port, b"this is no handshake")?;
            let log = log_when(&bench, |log| log.matches("TLS handshake error").count() >= 3);
            assert_eq!(counts(&log)?, [0, 4, 2], "{place}: {log}");
        }
        // Nothing to listen on, a line that PgBouncer does not understand, a key that is not there.
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let good = ini(free_port()?, "md5");
        for text in [
            ini(taken.local_addr()?.port(), "md5")
                .replace("unix_socket_dir = .", "unix_socket_dir ="),
            good.clone() + "no line of a file\n",
            good.replace("key.pem", "absent.pem"),
        ] {
            let mut bench = Bench::new(&program);
            fs::write(bench.path("users.txt"), "")?;
            fs::write(bench.path("key.pem"), &identity.key)?;
            fs::write(bench.path("certificate.pem"), &identity.certificate)?;
            let log = bench.start(&text).err().ok_or("it started")?;
            assert_eq!(counts(&log)?, [1, 0, 0], "{}: {log}", program.version);
        }
    }
    Ok(())
}

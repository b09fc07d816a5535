//! What other parties write into their databags: whatever it is, each hook ends well, the others
//! are served, and the status is one printable line. Invalid UTF-8 cannot come from Juju, whose
//! tools answer in JSON.

mod common;

use std::fmt::Write as _;

use jujusim::{Options, Sim};

const LEADER: &str = "pgbouncer-k8s/0";

/// The keys of a client that the charm reads.
const OF_CLIENT: [&str; 6] = [
    "extra-user-roles",
    "requested-secrets",
    "entity-type",
    "external-node-connectivity",
    "data",
    "database",
];

/// The keys of PostgreSQL that the charm reads. Without a usable value the clients keep what they
/// have.
const OF_POSTGRESQL: [&str; 7] =
    ["endpoints", "read-only-endpoints", "version", "subordinated", "secret-user", "tls", "data"];

struct Bench {
    sim: Sim,
}

impl Bench {
    fn new() -> Self {
        common::stage();
        let sim = Sim::new(&Options::default()).expect("a model");
        let mut bench = Self { sim };
        for line in [
            "deploy ./pgbouncer-k8s -n 1",
            "deploy actor:postgresql postgresql-k8s",
            "deploy actor:client shop --config database=shop",
            "deploy actor:client odd --config database=odd",
            "settle",
            "integrate pgbouncer-k8s:backend-database postgresql-k8s",
            "integrate pgbouncer-k8s:database shop",
            "integrate pgbouncer-k8s:database odd",
            "settle",
        ] {
            bench.go(line);
        }
        bench
    }

    #[track_caller]
    fn go(&mut self, line: &str) -> String {
        match self.sim.run(line) {
            Ok(text) => text,
            Err(error) => {
                let log = self.sim.run(&format!("log {LEADER} --last 3")).unwrap_or_default();
                panic!("{line}: {error}\n{log}")
            }
        }
    }

    /// Sets a key of an application's bag, and checks what comes of it.
    #[track_caller]
    fn check(&mut self, app: &str, key: &str, (kind, value): (&str, &str)) {
        let what = format!("{app}: {key}: {kind}");
        let mut hex = String::new();
        for byte in value.bytes() {
            let _ = write!(hex, "{byte:02x}");
        }
        self.go(&format!("databag {app}:database {app} {key}=@hex:{hex}"));
        let settled = self.go("settle");
        assert!(settled.contains(" 0 failed"), "{what}: {settled}");
        self.check_what_is_shown(&what);
    }

    /// Checks that the next `update-status` ends well, too.
    #[track_caller]
    fn check_update_status(&mut self, what: &str) {
        self.go(&format!("trigger {LEADER} update-status"));
        let settled = self.go("settle");
        assert!(settled.contains(" 0 failed"), "{what}: update-status: {settled}");
        self.check_what_is_shown(what);
    }

    #[track_caller]
    fn check_what_is_shown(&mut self, what: &str) {
        let message = &self.sim.model().unit_status(LEADER).expect("a unit").message;
        assert!(message.chars().count() <= 200, "{what}: {message}");
        assert!(!message.chars().any(char::is_control), "{what}: {message:?}");
        let log = self.go(&format!("log {LEADER} --last 6"));
        assert!(!log.lines().any(|line| line.starts_with("unit-x: ERROR")), "{what}: {log}");
        assert!(!log.contains('\u{1b}') && !log.contains('\0'), "{what}: {log}");
        let served = self.go(&format!("sql shop \"SELECT 'served'\" --through {LEADER}"));
        assert_eq!(served.trim(), "served", "{what}");
    }
}

/// The kinds of values, each with its text.
fn values() -> [(&'static str, String); 6] {
    [
        ("200 kB", "superuser,".repeat(20_000)),
        ("a zero byte", "superuser\0x".to_owned()),
        ("an escape sequence", "superuser,\u{1b}[2Jx".to_owned()),
        ("a line break", "superuser,x\nunit-x: ERROR forged".to_owned()),
        ("nothing", String::new()),
        ("another type", r#"{"a": [1, null]}"#.to_owned()),
    ]
}

#[test]
fn no_value_of_a_client_stops_a_hook_or_forges_a_line() {
    let mut bench = Bench::new();
    // One client has its credentials. The other one asks for the first time: its name for a
    // database is invalid.
    bench.go("deploy actor:client late --config 'database=a b'");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:database late");
    bench.go("settle");
    for app in ["odd", "late"] {
        for key in OF_CLIENT {
            for (kind, value) in &values() {
                bench.check(app, key, (kind, value));
            }
            bench.check_update_status(&format!("{app}: {key}"));
        }
    }
    let status = bench.sim.model().unit_status(LEADER).expect("a unit").message.clone();
    assert!(status.starts_with("cannot serve "), "a value is refused: {status}");
}

#[test]
fn no_value_of_postgresql_stops_a_hook_or_a_client() {
    let mut bench = Bench::new();
    let relation = bench.sim.model().relations_at("pgbouncer-k8s:backend-database")[0];
    for key in OF_POSTGRESQL {
        let before = bench.sim.model().bag(relation, "postgresql-k8s").get(key).cloned();
        for (kind, value) in &values() {
            bench.check("postgresql-k8s", key, (kind, value));
        }
        bench.check_update_status(key);
        let before = before.unwrap_or_default();
        bench.check("postgresql-k8s", key, ("as before", &before));
        let status = &bench.sim.model().unit_status(LEADER).expect("a unit");
        assert_eq!(status.message, "2 databases, session pooling, port 6432, 2 processes", "{key}");
    }
}

//! The relation `backend-database` on real parts: PostgreSQL 14, 15 and 16 as their charms set them
//! up, PgBouncer 1.18 and 1.24. Each test is about something the Python charm gets wrong.

#![expect(clippy::disallowed_methods, reason = "tests look at the machine and say what they miss")]

mod common;
#[path = "pgbouncer/mod.rs"]
mod programs;
mod rest;
mod soak;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jujusim::{Options, Sim};
use pgbouncer_k8s::pgbouncer::Version;
use serde_json::Value;
use soak::cases;

const LEADER: &str = "pgbouncer-k8s/0";
const AUTH: &str = "pgbouncer_auth_relation_id";

/// A model with a PostgreSQL of a channel.
struct Bench(Sim);

impl Bench {
    /// Two units, a backend and a client, all related.
    fn serving(channel: &str, pgbouncer: Version) -> Option<Self> {
        let mut bench = Self::related(channel, pgbouncer, "")?;
        bench.client("shop");
        bench.assert_served("shop");
        Some(bench)
    }

    /// Two units related to a backend, or a word that this cannot be had here. Under `CI=true` it
    /// can.
    fn related(channel: &str, pgbouncer: Version, options: &str) -> Option<Self> {
        common::stage();
        let installed = programs::installed();
        let program = installed.iter().find(|program| program.version.minor == pgbouncer.minor);
        let directory = program.map(|program| program.directory.clone());
        let options_of = Options { pgbouncer: directory.clone(), ..Options::default() };
        let mut bench = Self(Sim::new(&options_of).expect("a model"));
        bench.go("deploy ./pgbouncer-k8s -n 2");
        let line =
            format!("deploy actor:postgresql postgresql-k8s --channel {channel}/stable {options}");
        if let (Some(_), Ok(_)) = (directory, bench.0.run(&line)) {
            bench.go("settle");
            bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
            bench.go("settle");
            return Some(bench);
        }
        let missing =
            format!("PostgreSQL {channel} or PgBouncer {pgbouncer} is not here: run make test");
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{missing}");
        // Not eprintln!, which nobody sees of a test that passes.
        let _ = writeln!(std::io::stderr(), "NOT RUN: {missing}");
        None
    }

    /// The bag of an application or unit, in the one relation of an endpoint.
    fn bag(&self, endpoint: &str, entity: &str) -> BTreeMap<String, String> {
        let relation = self.0.model().relations_at(endpoint)[0];
        self.0.model().bag(relation, entity).into_iter().collect()
    }

    /// A client that asks for a database of its own name.
    #[track_caller]
    fn client(&mut self, name: &str) {
        self.go(&format!("deploy actor:client {name} --config database={name}"));
        self.go("settle");
        self.go(&format!("integrate pgbouncer-k8s:database {name}"));
        self.go("settle");
    }

    #[track_caller]
    fn go(&mut self, line: &str) -> String {
        match self.0.run(line) {
            Ok(text) => text,
            Err(error) => {
                panic!(
                    "{line}: {error}\n{}",
                    self.0.run("log pgbouncer-k8s/0 --last 5").unwrap_or_default()
                )
            }
        }
    }

    #[track_caller]
    fn assert_served(&mut self, client: &str) {
        let units = self.0.model().units_of("pgbouncer-k8s");
        let units: Vec<String> = units.iter().map(ToString::to_string).collect();
        for unit in units {
            let rows =
                self.go(&format!("sql {client} \"SELECT current_database()\" --through {unit}"));
            assert_eq!(rows.trim(), client, "{unit}");
        }
    }

    /// What the server's superuser sees.
    #[track_caller]
    fn postgres(&mut self, sql: &str, database: &str) -> Vec<String> {
        let text = self.go(&format!("sql postgresql-k8s \"{sql}\" --database {database}"));
        text.lines().map(str::to_owned).collect()
    }

    /// Every role, schema and function in the server that this charm makes, except the heirs, which
    /// own the clients' data.
    #[track_caller]
    fn made(&mut self) -> Vec<String> {
        let mut made = self.postgres(
            "SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE 'pgbouncer_auth_%' \
             OR shobj_description(oid, 'pg_authid') LIKE 'pgbouncer-k8s:%' \
                AND rolname NOT LIKE 'pgbouncer_heir_%' ORDER BY 1",
            "postgres",
        );
        for database in
            self.postgres("SELECT datname FROM pg_database WHERE datallowconn", "postgres")
        {
            made.extend(self.postgres(
                "SELECT 'schema ' || nspname || ' in ' || current_database() FROM pg_namespace \
                 WHERE nspname LIKE 'pgbouncer_auth_%' \
                 UNION SELECT 'function in ' || current_database() FROM pg_proc WHERE proname = 'get_auth' \
                 ORDER BY 1",
                &database,
            ));
        }
        made
    }

    /// How many rows a table of the client has in the primary.
    #[track_caller]
    fn rows(&mut self, table: &str) -> usize {
        let count = self.postgres(&format!("SELECT count(*) FROM {table}"), "shop");
        count[0].parse().expect("a number")
    }

    /// What each hook of the charm since `mark` opened to PostgreSQL.
    fn connections(&self, mark: usize) -> Vec<usize> {
        let runs = &self.0.model().hook_runs()[mark..];
        runs.iter()
            .filter(|run| run.unit.starts_with("pgbouncer-k8s/"))
            .map(|run| run.sql.connections)
            .collect()
    }

    /// Checks that neither `explain` nor `reconcile` has anything to change.
    #[track_caller]
    fn assert_nothing_to_do(&mut self) {
        let left = rest::work_left(&mut self.0, LEADER).expect("both commands run");
        assert_eq!(left, None);
    }

    fn status(&self, unit: &str) -> String {
        let status = self.0.model().unit_status(unit).expect("a unit");
        format!("{}: {}", status.word, status.message)
    }

    fn user_list(&self, unit: &str) -> String {
        let root = self.0.model().unit_root(unit).expect("a unit");
        let list = root.join(format!("dev/shm/{}/userlist.txt", unit.replace('/', "-")));
        std::fs::read_to_string(list).unwrap_or_default()
    }

    fn log(&mut self, unit: &str) -> String {
        self.go(&format!("log {unit} --last 1000"))
    }
}

const OLD: Version = Version::new(1, 18);
const NEW: Version = Version::new(1, 24);

#[test]
fn after_remove_relation_postgresql_has_no_objects_of_ours() {
    for (channel, pgbouncer) in cases(1, [("15", OLD), ("14", OLD), ("16", NEW)]) {
        let Some(mut bench) = Bench::serving(channel, pgbouncer) else { continue };
        assert!(bench.made().iter().any(|line| line.starts_with(&format!("role {AUTH}"))));
        bench.go("sql shop \"CREATE TABLE kept (what text)\"");
        bench.go("remove-relation pgbouncer-k8s:database shop");
        bench.go("settle");
        bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
        bench.go("settle");
        assert_eq!(bench.made(), [""; 0], "PostgreSQL {channel}");
        assert_eq!(bench.postgres("SELECT count(*) FROM kept", "shop"), ["0"]);
        let status = bench.status(LEADER);
        assert_eq!(status, "blocked: waiting for backend database relation to initialise");
    }
}

#[test]
fn the_leader_cleans_up_or_warns_whichever_unit_goes_first() {
    for seed in cases(2, 0..6) {
        let Some(mut bench) = Bench::serving("14", NEW) else { continue };
        bench.go(&format!("seed {seed}"));
        bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
        bench.go("settle");
        let made = bench.made();
        let was_first = bench.log(LEADER).contains("left in PostgreSQL");
        // The client's role stays as long as its relation.
        let clients: Vec<&String> =
            made.iter().filter(|line| line.starts_with("role relation_id_")).collect();
        assert_eq!(clients.len(), 1, "seed {seed}: {made:?}");
        assert_eq!(was_first, made.len() > 1, "seed {seed}: {made:?}");
    }
}

/// What somebody changes by hand in PostgreSQL. The client `shop` has the role `relation_id_3`; the
/// client `maker` asked for `createdb` and has the role `relation_id_4`.
const HEALED: [&[&str]; 24] = [
    &["DROP DATABASE shop WITH (FORCE)"],
    &["DROP DATABASE shop WITH (FORCE)", "CREATE DATABASE shop"],
    &[
        "DROP DATABASE shop WITH (FORCE)",
        "CREATE DATABASE shop",
        "REVOKE ALL ON DATABASE shop FROM PUBLIC",
        "GRANT ALL ON DATABASE shop TO relation_id_3",
    ],
    &["GRANT CONNECT ON DATABASE shop TO PUBLIC"],
    &["REVOKE ALL ON DATABASE shop FROM relation_id_3, ‹heir›, charmed_shop_admin"],
    &["ALTER ROLE relation_id_3 NOLOGIN"],
    &["ALTER ROLE relation_id_3 NOLOGIN PASSWORD NULL"],
    &["ALTER ROLE relation_id_3 PASSWORD 'a guess'"],
    &["ALTER ROLE relation_id_3 NOINHERIT"],
    &["ALTER ROLE relation_id_3 IN DATABASE shop RESET role"],
    &["ALTER ROLE relation_id_3 SET role = relation_access"],
    &["COMMENT ON ROLE relation_id_3 IS NULL"],
    &["REVOKE ‹heir›, charmed_shop_admin FROM relation_id_3"],
    &["REVOKE relation_access FROM relation_id_3"],
    &["DROP OWNED BY relation_id_3", "DROP ROLE relation_id_3"],
    &[
        "CREATE ROLE bob",
        "GRANT CONNECT ON DATABASE shop TO bob WITH GRANT OPTION",
        "SET ROLE bob; GRANT CONNECT ON DATABASE shop TO PUBLIC",
    ],
    &["ALTER ROLE relation_id_3 SUPERUSER"],
    &["ALTER ROLE relation_id_3 VALID UNTIL '2001-01-01' CONNECTION LIMIT 0"],
    &["‹revoke createdb› relation_id_4"],
    &["ALTER ROLE ‹auth› NOLOGIN"],
    &["ALTER ROLE ‹auth› PASSWORD 'a guess'"],
    &["COMMENT ON ROLE ‹auth› IS NULL"],
    &["ALTER ROLE ‹auth› CREATEROLE"],
    &["REVOKE CONNECT ON DATABASE pgbouncer FROM ‹auth›"],
];

/// What somebody changes by hand in our own database.
const HEALED_IN_OURS: [&str; 6] = [
    "DROP FUNCTION ‹auth›.get_auth",
    "ALTER FUNCTION ‹auth›.get_auth OWNER TO postgres",
    "CREATE OR REPLACE FUNCTION ‹auth›.get_auth(text) RETURNS TABLE (username text, password text) \
     LANGUAGE sql AS 'SELECT rolname::text, NULL::text FROM pg_roles'",
    "CREATE FUNCTION ‹auth›.get_auth(name) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
    "ALTER SCHEMA ‹auth› OWNER TO postgres",
    "DROP SCHEMA ‹auth› CASCADE; CREATE SCHEMA ‹auth› AUTHORIZATION relation_id_3",
];

/// What the charm leaves as it is: the change, what the status says of it, and how it is undone.
const NAMED: [[&str; 3]; 4] = [
    [
        "ALTER DATABASE shop ALLOW_CONNECTIONS false",
        "accepts no connections",
        "ALLOW_CONNECTIONS true",
    ],
    ["ALTER DATABASE shop CONNECTION LIMIT 0", "accepts no connections", "CONNECTION LIMIT -1"],
    ["ALTER DATABASE shop OWNER TO somebody", "it belongs to somebody", "OWNER TO ‹owner›"],
    ["COMMENT ON ROLE relation_id_3 IS 'of somebody'", "has a comment that is not ours", ""],
];

/// A model in which somebody changes PostgreSQL by hand.
struct ByHand {
    bench: Bench,
    channel: &'static str,
    names: Vec<(&'static str, String)>,
}

impl ByHand {
    fn new(channel: &'static str, pgbouncer: Version) -> Option<Self> {
        let mut bench = Bench::serving(channel, pgbouncer)?;
        bench.go(
            "deploy actor:client maker --config database=maker --config extra-user-roles=createdb",
        );
        bench.go("settle");
        bench.go("integrate pgbouncer-k8s:database maker");
        bench.go("settle");
        bench.client("desk");
        bench.postgres("CREATE ROLE somebody", "postgres");
        let from_16 = channel == "16";
        let heirs = "SELECT rolname FROM pg_roles \
                     WHERE pg_has_role('relation_id_3', oid, 'MEMBER') \
                       AND (rolname LIKE 'pgbouncer_heir_%' OR rolname = 'charmed_shop_owner')";
        let heir = bench.postgres(heirs, "postgres")[0].clone();
        let revoke = if from_16 { "REVOKE charmed_databases_owner FROM" } else { "ALTER ROLE" };
        let names = vec![
            (
                "‹heir›, charmed_shop_admin",
                if from_16 { format!("{heir}, charmed_shop_admin") } else { heir },
            ),
            ("‹auth›", "pgbouncer_auth_relation_id_2".to_owned()),
            (
                "‹revoke createdb› relation_id_4",
                format!("{revoke} relation_id_4{}", if from_16 { "" } else { " NOCREATEDB" }),
            ),
            (
                "‹owner›",
                if from_16 { "charmed_databases_owner" } else { "relation_id_2" }.to_owned(),
            ),
        ];
        Some(Self { bench, channel, names })
    }

    #[track_caller]
    fn change(&mut self, sql: &str, database: &str) {
        let sql = self.names.iter().fold(sql.to_owned(), |sql, (name, is)| sql.replace(name, is));
        self.bench.postgres(&sql, database);
    }

    /// Runs an update-status on the leader. Returns the number of repairs that the log has so far,
    /// and what the hook did in PostgreSQL.
    #[track_caller]
    fn update_status(&mut self) -> (usize, jujusim::Sql) {
        let mark = self.bench.0.model().hook_runs().len();
        self.bench.go("trigger pgbouncer-k8s/0 update-status");
        self.bench.go("settle");
        let runs = &self.bench.0.model().hook_runs()[mark..];
        let sql = runs.iter().find(|run| run.unit == LEADER).expect("the hook ran").sql;
        (self.bench.log(LEADER).matches("the charm repairs this").count(), sql)
    }

    /// Checks that one update-status repairs the change, and nothing else: the update-status after
    /// the change before would have to repair that again.
    #[track_caller]
    fn assert_healed(&mut self, what: &str) {
        let what = format!("PostgreSQL {}: {what}", self.channel);
        let before = self.bench.log(LEADER).matches("the charm repairs this").count();
        assert_eq!(self.update_status().0, before + 1, "{what}");
        let bench = &mut self.bench;
        bench.assert_served("shop");
        bench.go("sql shop \"CREATE TABLE IF NOT EXISTS t (a int)\"");
        bench.go("sql shop \"DROP TABLE t\"");
        assert!(bench.0.run("sql desk \"SELECT 1\" --database shop").is_err(), "{what}");
        let status = bench.status(LEADER);
        assert!(status.starts_with("active"), "{what}: {status}");
    }
}

#[test]
fn update_status_repairs_what_somebody_changed_by_hand() {
    for (channel, pgbouncer) in cases(1, [("16", NEW), ("14", OLD), ("15", NEW)]) {
        let Some(mut by_hand) = ByHand::new(channel, pgbouncer) else { continue };
        for changes in HEALED {
            for change in changes {
                by_hand.change(change, "postgres");
            }
            by_hand.assert_healed(&changes.join("; "));
        }
        for change in HEALED_IN_OURS {
            by_hand.change(change, "pgbouncer");
            by_hand.assert_healed(change);
        }
        let repairs = by_hand.bench.log(LEADER).matches("the charm repairs this").count();
        let (again, sql) = by_hand.update_status();
        assert_eq!(again, repairs, "PostgreSQL {channel}");
        assert!(sql.connections == 1 && sql.statements <= 4, "PostgreSQL {channel}: {sql:?}");
        by_hand.bench.assert_nothing_to_do();
    }
}

#[test]
fn what_only_its_owner_may_change_is_named_until_it_is_undone() {
    for (channel, pgbouncer) in cases(1, [("14", OLD), ("15", NEW), ("16", NEW)]) {
        let Some(mut by_hand) = ByHand::new(channel, pgbouncer) else { continue };
        let comment = by_hand.bench.postgres(
            "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'relation_id_3'",
            "postgres",
        );
        for [change, words, undo] in NAMED {
            by_hand.change(change, "postgres");
            for hook in ["update-status", "config-changed", "update-status"] {
                by_hand.bench.go(&format!("trigger pgbouncer-k8s/0 {hook}"));
                by_hand.bench.go("settle");
                let status = by_hand.bench.status(LEADER);
                assert!(
                    status.starts_with("blocked: cannot serve shop (database:3)")
                        && status.contains(words),
                    "PostgreSQL {channel}: {change}: {hook}: {status}"
                );
            }
            let undo = match undo {
                "" => format!("COMMENT ON ROLE relation_id_3 IS '{}'", comment[0]),
                undo => format!("ALTER DATABASE shop {undo}"),
            };
            by_hand.change(&undo, "postgres");
            by_hand.update_status();
            by_hand.bench.assert_served("shop");
            let status = by_hand.bench.status(LEADER);
            assert!(status.starts_with("active"), "PostgreSQL {channel}: {undo}: {status}");
        }
    }
}

/// `pg_hba.conf` is replaced by a server that asks for less than before, as somebody would who sits
/// between the charm and PostgreSQL.
#[test]
fn a_later_hook_does_not_log_in_by_less_than_scram() {
    common::stage();
    let mut bench = Bench(Sim::new(&Options::default()).expect("a model"));
    for line in [
        "deploy ./pgbouncer-k8s -n 2",
        "deploy actor:postgresql postgresql-k8s",
        "settle",
        "integrate pgbouncer-k8s:backend-database postgresql-k8s",
        "settle",
    ] {
        bench.go(line);
    }
    bench.client("shop");
    let served = bench.status(LEADER);
    assert!(served.starts_with("active"), "{served}");
    bench.postgres(
        "DO $$ BEGIN EXECUTE format('COPY (SELECT unnest(ARRAY[ \
         ''local all,replication postgres trust'', ''host all all 127.0.0.0/8 trust''])) TO %L', \
         current_setting('hba_file')); END $$",
        "postgres",
    );
    let loaded = bench.postgres("SELECT pg_conf_load_time()", "postgres");
    bench.postgres("SELECT pg_reload_conf()", "postgres");
    let is_reloaded = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        bench.postgres("SELECT pg_conf_load_time()", "postgres") != loaded
    });
    assert!(is_reloaded, "PostgreSQL has not read pg_hba.conf");
    // The next leader never logged in itself.
    for (change, leader) in [
        ("trigger pgbouncer-k8s/0 update-status", LEADER),
        ("leader pgbouncer-k8s/1", "pgbouncer-k8s/1"),
    ] {
        bench.go(change);
        bench.go("settle");
        let refused = bench.status(leader);
        assert!(
            refused.starts_with("blocked: cannot connect to database pgbouncer of PostgreSQL")
                && refused.contains("the server asks for no password, and used SCRAM before"),
            "{refused}"
        );
    }
    // Another relation begins anew.
    bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("settle");
    assert_eq!(bench.status(LEADER), served);
}

#[test]
fn if_postgresql_goes_first_a_warning_names_the_role_left_there() {
    let Some(mut bench) = Bench::serving("16", NEW) else { return };
    // As far as PostgreSQL goes when its own hook comes first.
    bench.postgres("ALTER ROLE relation_id_2 NOLOGIN", "postgres");
    bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("settle");
    let log = bench.log(LEADER);
    let warning = log.lines().find(|line| line.contains("left in PostgreSQL")).expect("a warning");
    assert!(warning.contains("WARNING") && warning.contains(AUTH), "{warning}");
}

/// PostgreSQL's charm may remove our user in its own hook before ours runs; seen on a real Juju.
#[test]
fn without_our_user_the_lookup_returns_nothing_and_the_next_relation_removes_it() {
    for (channel, pgbouncer) in cases(1, [("16", NEW), ("14", NEW)]) {
        let Some(mut bench) = Bench::serving(channel, pgbouncer) else { continue };
        let lookup = "SET ROLE pgbouncer_auth_relation_id_2; \
                      SELECT username FROM pgbouncer_auth_relation_id_2.get_auth('relation_id_3')";
        assert_eq!(bench.postgres(lookup, "pgbouncer"), ["relation_id_3"]);
        for database in ["pgbouncer", "shop"] {
            let dropped =
                "REASSIGN OWNED BY relation_id_2 TO operator; DROP OWNED BY relation_id_2";
            bench.postgres(dropped, database);
        }
        bench.postgres("DROP ROLE relation_id_2", "postgres");
        assert_eq!(bench.postgres(lookup, "pgbouncer"), [""; 0], "PostgreSQL {channel}");
        bench.go("trigger pgbouncer-k8s/0 update-status");
        bench.go("settle");
        let status = bench.status(LEADER);
        let words = "as relation_id_2: the relation is ending, or this user was changed (then relate anew): ";
        assert!(status.contains(words), "{status}");
        bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
        bench.go("settle");
        let auth = format!("role {AUTH}_2");
        assert!(bench.made().contains(&auth), "PostgreSQL {channel}: {:?}", bench.made());
        bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
        bench.go("settle");
        let made = bench.made();
        assert!(!made.iter().any(|line| line.ends_with("relation_id_2")), "{channel}: {made:?}");
        bench.assert_served("shop");
        assert!(bench.status(LEADER).starts_with("active"), "{}", bench.status(LEADER));
        bench.assert_nothing_to_do();
    }
}

#[test]
fn an_application_scaled_to_zero_and_back_finds_the_tables_of_its_clients() {
    let Some(mut bench) = Bench::serving("16", NEW) else { return };
    bench.go("sql shop \"CREATE TABLE kept (what text)\"");
    bench.go("scale-application pgbouncer-k8s 0");
    let mut log = String::new();
    while bench.go("step").contains("exit 0") {
        log += &bench.0.run("log pgbouncer-k8s/0").unwrap_or_default();
    }
    let warning =
        log.lines().find(|line| line.contains("left in PostgreSQL: the roles relation_id_3"));
    assert!(warning.is_some_and(|line| line.contains("WARNING")), "{log}");
    assert_eq!(bench.made(), ["role relation_id_3"]);
    bench.go("scale-application pgbouncer-k8s 2");
    bench.go("settle");
    bench.go("sql shop \"ALTER TABLE kept ADD COLUMN more text\"");
    bench.assert_served("shop");
    // Going for good it leaves the role, too, if PostgreSQL hears of it before it hears of the
    // client's end.
    bench.go("remove-application pgbouncer-k8s");
    bench.go("settle");
    assert_eq!(bench.made(), ["role relation_id_3"]);
}

#[test]
fn a_client_that_another_postgresql_cannot_serve_is_reported_until_it_can() {
    // The other server's own user of that name, with and without a word about whose it is.
    for comment in ["COMMENT ON ROLE relation_id_3 IS 'of somebody'", "SELECT 1"] {
        let Some(mut bench) = Bench::serving("14", NEW) else { return };
        bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
        bench.go("settle");
        bench.go("deploy actor:postgresql other --channel 14");
        bench.go("settle");
        bench.go("sql other \"CREATE ROLE relation_id_3 LOGIN PASSWORD 'somebodys'\"");
        bench.go(&format!("sql other \"{comment}\""));
        let verifier =
            "sql other \"SELECT rolpassword FROM pg_authid WHERE rolname = 'relation_id_3'\"";
        let before = bench.go(verifier);
        bench.go("integrate pgbouncer-k8s:backend-database other");
        bench.go("settle");
        bench.go("trigger pgbouncer-k8s/0 update-status");
        bench.go("settle");
        let status = bench.status(LEADER);
        assert!(
            status.starts_with(
                "blocked: cannot serve shop (database:3): drop or rename role relation_id_3"
            ),
            "{status}"
        );
        assert_eq!(bench.go(verifier), before);
        // Nobody else waits for that.
        bench.client("crm");
        bench.assert_served("crm");
        bench.go("sql other \"DROP ROLE relation_id_3\"");
        bench.go("trigger pgbouncer-k8s/0 update-status");
        bench.go("settle");
        bench.assert_served("shop");
        assert!(bench.status(LEADER).starts_with("active"), "{}", bench.status(LEADER));
    }
}

#[test]
fn a_role_that_cannot_be_dropped_does_not_block_other_clients() {
    let Some(mut bench) = Bench::serving("14", NEW) else { return };
    bench.client("crm");
    bench.go("sql crm \"SET ROLE NONE; CREATE TABLE kept (what text)\"");
    bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("settle");
    bench.go("remove-relation pgbouncer-k8s:database crm");
    bench.go("settle");
    bench.postgres("ALTER DATABASE crm ALLOW_CONNECTIONS false", "postgres");
    bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("settle");
    bench.assert_served("shop");
    assert!(bench.status(LEADER).starts_with("active"), "{}", bench.status(LEADER));
    assert!(
        bench.log(LEADER).contains(
            "left a role of a removed client in PostgreSQL: cannot drop role relation_id_4"
        )
    );
}

#[test]
fn a_leader_change_while_postgresql_returns_clears_the_removal_note() {
    let Some(mut bench) = Bench::serving("14", NEW) else { return };
    bench.go("scale-application postgresql-k8s 0");
    bench.go("settle");
    let status = bench.status(LEADER);
    assert_eq!(status, "blocked: backend database relation not ready");
    bench.go("hold pgbouncer-k8s/0 backend-database");
    bench.go("scale-application postgresql-k8s 1");
    bench.go("settle");
    bench.go("leader pgbouncer-k8s/1");
    bench.go("settle");
    bench.go("release pgbouncer-k8s/0");
    bench.go("settle");
    // It is PostgreSQL now that has forgotten its user; and it is asked.
    assert_eq!(bench.bag("pgbouncer-k8s:pgb-peers", "pgbouncer-k8s").get("get_auth"), None);
    let status = bench.status("pgbouncer-k8s/1");
    assert!(status.starts_with("blocked: cannot connect to database pgbouncer"), "{status}");
}

#[test]
fn removing_a_unit_removes_no_role_while_another_unit_is_replaced() {
    let Some(mut bench) = Bench::serving("14", OLD) else { return };
    bench.go("add-unit pgbouncer-k8s");
    bench.go("settle");
    let made = bench.made();
    // A role that was dropped and made again has another OID; meanwhile nobody could log in.
    let auth_role = "SELECT oid::text FROM pg_roles WHERE rolname ~ '^pgbouncer_auth'";
    let before = bench.postgres(auth_role, "postgres");
    bench.go("leader pgbouncer-k8s/2");
    bench.go("settle");
    bench.go("replace-pod pgbouncer-k8s/1");
    // The leader itself is the one that goes.
    bench.go("remove-unit pgbouncer-k8s");
    bench.go("settle");
    assert_eq!(bench.made(), made);
    assert_eq!(bench.postgres(auth_role, "postgres"), before);
    bench.assert_served("shop");
}

#[test]
fn only_the_removal_of_the_last_postgresql_unit_removes_the_auth_role() {
    let Some(mut bench) = Bench::related("14", NEW, "-n 3") else { return };
    bench.client("shop");
    let made = bench.made();
    bench.go("remove-unit postgresql-k8s");
    bench.go("settle");
    assert_eq!(bench.made(), made);
    bench.assert_served("shop");
    bench.go("scale-application postgresql-k8s 0");
    bench.go("settle");
    let note = |bench: &Bench| {
        bench.bag("pgbouncer-k8s:pgb-peers", "pgbouncer-k8s").get("get_auth").cloned()
    };
    assert_eq!(note(&bench).as_deref(), Some("removed with backend-database:2, left:"));
}

#[test]
fn clients_continue_by_themselves_after_a_failover() {
    for pgbouncer in cases(1, [NEW, OLD]) {
        let Some(mut bench) = Bench::related("14", pgbouncer, "-n 2") else { continue };
        bench.client("shop");
        bench.go("sql shop \"CREATE TABLE sale (at timestamptz)\"");
        let user = bench
            .0
            .model()
            .secret("database.3.user.secret")
            .expect("the client's secret")
            .content()
            .clone();
        let address = bench.0.model().unit_address("pgbouncer-k8s/1").expect("a unit").to_string();
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let writer = {
            let (over, done) = (Arc::clone(&over), Arc::clone(&done));
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let insert = Command::new("psql")
                        .args(["-XAtqc", "INSERT INTO sale VALUES (now())"])
                        .envs([
                            ("PGHOST", address.as_str()),
                            ("PGPORT", "6432"),
                            ("PGDATABASE", "shop"),
                        ])
                        .envs([("PGUSER", &user["username"]), ("PGPASSWORD", &user["password"])])
                        .env("PGCONNECT_TIMEOUT", "40")
                        .output()
                        .expect("psql");
                    if insert.status.success() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let written = || done.load(Ordering::Relaxed);
        let told = |bench: &Bench| bench.bag("pgbouncer-k8s:database", "pgbouncer-k8s");
        let through = |bench: &mut Bench| bench.go("sql shop 'SELECT inet_server_addr()'");
        wait_for("writes before", || written() > 0);
        let (first, client) = (through(&mut bench), told(&bench));
        bench.go("postgresql failover");
        // The old primary answers nobody any more; the answer to one write may still be under way.
        let (before, rows) = (written() + 1, bench.rows("sale"));
        bench.go("settle");
        wait_for("writes after", || written() >= before + 3);
        over.store(true, Ordering::Relaxed);
        writer.join().expect("the writer");
        assert!(
            bench.rows("sale") >= rows + 3,
            "PgBouncer {pgbouncer}: the new primary has the writes"
        );
        assert_ne!(
            through(&mut bench),
            first,
            "PgBouncer {pgbouncer}: clients reach another server"
        );
        assert_eq!(told(&bench), client, "PgBouncer {pgbouncer}: clients are told nothing");
    }
}

#[track_caller]
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "no {what} within a minute");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_removal_is_detected_with_mixed_or_failing_goal_state() {
    // Juju lists clients there, too, where their endpoint has the name of PostgreSQL's; or it
    // cannot tell.
    let mixed = "answer pgbouncer-k8s/0 goal-state --stdout '{\"units\":{\"pgbouncer-k8s/0\":{\"status\":\"active\"}},\
                 \"relations\":{\"backend-database\":{\"postgresql-k8s\":{\"status\":\"joined\"},\
                 \"postgresql-k8s/0\":{\"status\":\"dying\"},\"shop\":{\"status\":\"joined\"},\
                 \"shop/0\":{\"status\":\"active\"}}}}'";
    for mishap in [mixed, "fail pgbouncer-k8s/0 goal-state"] {
        let Some(mut bench) = Bench::serving("14", NEW) else { return };
        bench.go(mishap);
        bench.go("scale-application postgresql-k8s 0");
        bench.go("settle");
        let note = bench.bag("pgbouncer-k8s:pgb-peers", "pgbouncer-k8s").get("get_auth").cloned();
        assert_eq!(note.as_deref(), Some("removed with backend-database:2, left:"), "{mishap}");
    }
}

#[test]
fn the_leader_waits_until_a_unit_of_a_subordinated_postgresql_is_ready() {
    common::stage();
    let mut bench = Bench(Sim::new(&Options::default()).expect("a model"));
    bench.go("deploy ./pgbouncer-k8s");
    bench.go("deploy actor:postgresql postgresql-k8s");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("hold pgbouncer-k8s/0 backend-database");
    bench.go("settle");
    bench.go("databag postgresql-k8s:database postgresql-k8s subordinated=true");
    bench.go("release pgbouncer-k8s/0");
    bench.go("settle");
    assert_eq!(bench.status(LEADER), "blocked: backend database relation not ready");
    assert!(bench.made().is_empty());
    bench.go("databag postgresql-k8s:database postgresql-k8s/0 state=ready");
    bench.go("settle");
    bench.client("shop");
    bench.assert_served("shop");
}

#[test]
fn hooks_connect_to_postgresql_at_most_once_and_only_if_needed() {
    let Some(mut bench) = Bench::related("14", NEW, "") else { return };
    let mark = bench.0.model().hook_runs().len();
    bench.client("shop");
    let of_client = bench.connections(mark);
    // In the one hook that makes it: to our own database, and to the client's for its rights there.
    assert_eq!(of_client.iter().filter(|connections| **connections > 0).collect::<Vec<_>>(), [&2]);
    let mark = bench.0.model().hook_runs().len();
    for hook in ["update-status", "config-changed", "start"] {
        for unit in [LEADER, "pgbouncer-k8s/1"] {
            bench.go(&format!("trigger {unit} {hook}"));
            bench.go("settle");
        }
    }
    bench.go("config pgbouncer-k8s max_db_connections=50");
    bench.go("settle");
    // The leader's update-status looks at what PostgreSQL has for the clients.
    assert_eq!(bench.connections(mark).iter().sum::<usize>(), 1);
    // A refresh looks into our own database and the client's, once.
    bench.postgres("DROP FUNCTION pgbouncer_auth_relation_id_2.get_auth", "pgbouncer");
    let mark = bench.0.model().hook_runs().len();
    bench.go("trigger pgbouncer-k8s/0 upgrade-charm");
    bench.go("settle");
    assert_eq!(
        bench.connections(mark).iter().filter(|connections| **connections > 0).collect::<Vec<_>>(),
        [&2]
    );
    bench.assert_served("shop");
}

#[test]
fn the_auth_role_is_unprivileged_and_superusers_cannot_log_in() {
    for channel in cases(1, ["14", "16"]) {
        let Some(mut bench) = Bench::serving(channel, NEW) else { continue };
        let role = bench.postgres(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, left(rolpassword, 14) \
             FROM pg_authid WHERE rolname LIKE 'pgbouncer_auth_%'",
            "postgres",
        );
        assert_eq!(role, ["f | f | f | f | f | SCRAM-SHA-256$"], "PostgreSQL {channel}");
        // The client's own user, made a superuser behind our back, is one too many.
        bench.postgres("ALTER ROLE relation_id_3 SUPERUSER", "postgres");
        let refused = bench.0.run("sql shop \"SELECT 1\" --through pgbouncer-k8s/0");
        assert!(refused.is_err(), "PostgreSQL {channel}: {refused:?}");
        bench.postgres("ALTER ROLE relation_id_3 NOSUPERUSER", "postgres");
        bench.assert_served("shop");
    }
}

#[test]
fn a_database_whose_function_gets_another_owner_keeps_its_logins() {
    for pgbouncer in [OLD, NEW] {
        let Some(mut bench) = Bench::serving("14", pgbouncer) else { continue };
        // What PostgreSQL's charm does when it gets a client of its own for this database.
        let steal = "DO 'DECLARE f regprocedure; BEGIN CREATE ROLE thief LOGIN; \
                     FOR f IN SELECT oid FROM pg_proc WHERE proname = ''get_auth'' LOOP \
                     EXECUTE format(''ALTER FUNCTION %s OWNER TO thief'', f); END LOOP; END'";
        bench.postgres(steal, "shop");
        if pgbouncer < Version::PEERS {
            let refused = bench.0.run("sql shop \"SELECT 1\" --through pgbouncer-k8s/0");
            assert!(
                refused.is_err(),
                "the function in this database is the one that counts: {refused:?}"
            );
            bench.go("trigger pgbouncer-k8s/0 update-status");
            bench.go("settle");
        }
        bench.assert_served("shop");
    }
}

/// The user list as a Python charm of 2024 left it: an md5 line for statistics, no administrator.
fn age(bench: &mut Bench) -> BTreeMap<String, String> {
    let label = "pgb-peers.pgbouncer-k8s.app";
    let content = bench.0.model().secret(label).expect("the peer secret").content().clone();
    let list = &content["auth-file"];
    let auth = list.lines().find(|line| line.contains(AUTH)).expect("an auth line");
    let old = format!(
        "{auth}\n\"pgbouncer_stats_pgbouncer_k8s\" \"md5aad46d9afbcc8c8248d254d567b577c1\""
    );
    bench.go(&format!("secret-edit {label} 'auth-file={old}'"));
    content
}

#[test]
fn an_outdated_user_list_is_repaired_on_every_unit() {
    let Some(mut bench) = Bench::serving("14", NEW) else { return };
    age(&mut bench);
    bench.go("settle");
    let content =
        bench.0.model().secret("pgb-peers.pgbouncer-k8s.app").expect("it").content().clone();
    for unit in [LEADER, "pgbouncer-k8s/1"] {
        let list = bench.user_list(unit);
        let mut kept: Vec<&str> = content["auth-file"].lines().collect();
        let mut loaded: Vec<&str> = list.lines().collect();
        kept.sort_unstable();
        loaded.sort_unstable();
        assert_eq!(loaded, kept, "{unit}");
        for user in ["pgbouncer_stats_pgbouncer_k8s", "pgbouncer_admin_pgbouncer_k8s"] {
            assert!(list.contains(&format!("\"{user}\" \"SCRAM-SHA-256$")), "{unit}: {user}");
        }
        let types = bench.go(&format!("show-config {unit} auth_type"));
        assert!(types.contains("scram-sha-256") && !types.contains("md5"), "{unit}: {types}");
    }
    bench.assert_served("shop");
}

#[test]
fn the_wait_for_a_new_role_spans_several_hooks() {
    let Some(mut bench) = Bench::related("14", NEW, "--config hba-delay=10") else { return };
    bench.go("postgresql noticed");
    bench.client("shop");
    let log = bench.log(LEADER);
    let waits = log.matches("wait: waiting for PostgreSQL to admit relation_id_").count();
    // No hook came for it but those that the leader's own key in the peer relation brings.
    assert!(waits >= 1, "{waits} waits\n{log}");
    // Had the leader given up waiting, it would warn.
    assert!(log.contains("INFO"), "lines have their levels: {log}");
    assert!(!log.contains("WARNING"), "{log}");
    assert_eq!(bench.bag("pgbouncer-k8s:pgb-peers", "pgbouncer-k8s").get("rounds"), None);
    bench.assert_served("shop");
}

#[test]
fn the_version_is_queried_if_the_backend_does_not_publish_it() {
    let Some(mut bench) = Bench::related("14", NEW, "") else { return };
    bench.go("databag postgresql-k8s:database postgresql-k8s version=");
    bench.client("shop");
    bench.assert_served("shop");
    let told = bench.bag("shop:database", "pgbouncer-k8s").get("version").cloned();
    assert!(told.as_ref().is_some_and(|version| version.starts_with("14.")), "{told:?}");
}

#[test]
fn a_backend_that_is_too_old_is_reported() {
    common::stage();
    let mut bench = Bench(Sim::new(&Options::default()).expect("a model"));
    bench.go("deploy ./pgbouncer-k8s");
    bench.go("deploy actor:postgresql postgresql-k8s");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("hold pgbouncer-k8s/0 backend-database");
    bench.go("settle");
    bench.go("databag postgresql-k8s:database postgresql-k8s version=9.6.24");
    bench.go("release pgbouncer-k8s/0");
    bench.go("settle");
    let status = bench.status(LEADER);
    assert_eq!(status, "blocked: PostgreSQL 9.6 is too old: relate to version 14 or later");
    bench.go("databag postgresql-k8s:database postgresql-k8s version=14.9");
    bench.go("settle");
    bench.client("shop");
    bench.assert_served("shop");
}

#[test]
fn ipv6_endpoints_are_written_to_the_configuration() {
    let Some(mut bench) = Bench::serving("14", NEW) else { return };
    bench.go("databag postgresql-k8s:database postgresql-k8s endpoints=[fd00::1]:5433 read-only-endpoints=[fd00::2]:5433,[fd00::3]:5433");
    bench.go("settle");
    let ini = bench.go("cat pgbouncer-k8s/1 /var/lib/pgbouncer/instance_0/pgbouncer.ini");
    assert!(ini.contains("shop = host='fd00::1' port='5433'"), "{ini}");
    assert!(ini.contains("shop_readonly = host='fd00::2,fd00::3' port='5433'"), "{ini}");
    assert!(
        bench.status("pgbouncer-k8s/1").starts_with("active"),
        "{}",
        bench.status("pgbouncer-k8s/1")
    );
}

#[test]
fn databags_have_the_keys_and_values_of_the_python_charm() {
    for (juju, has_secrets) in [("3.6.14", true), ("2.9.52", false)] {
        common::stage();
        let options = Options { juju: juju.to_owned(), ..Options::default() };
        let mut bench = Bench(Sim::new(&options).expect("a model"));
        bench.go("deploy ./pgbouncer-k8s -n 2");
        bench.go("deploy actor:postgresql postgresql-k8s");
        bench.go("settle");
        bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
        bench.go("settle");
        let mut expected =
            BTreeMap::from([("database", "pgbouncer"), ("extra-user-roles", "SUPERUSER")]);
        if has_secrets {
            expected.insert("provided-secrets", r#"["mtls-cert"]"#);
            expected.insert(
                "requested-secrets",
                r#"["username", "password", "tls", "tls-ca", "uris", "read-only-uris", "entity-name", "entity-password"]"#,
            );
        }
        let ours = bench.bag("pgbouncer-k8s:backend-database", "pgbouncer-k8s");
        let ours: BTreeMap<&str, &str> =
            ours.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(ours, expected, "Juju {juju}");

        // Each unit keeps what it saw of the other side; the copy of the two lists that the Python
        // charm's leader leaves in its own unit's bag is read by nobody, and left out.
        let mut seen = bench.bag("pgbouncer-k8s:backend-database", "postgresql-k8s");
        seen.remove("data");
        for unit in [LEADER, "pgbouncer-k8s/1"] {
            let mut bag = bench.bag("pgbouncer-k8s:backend-database", unit);
            let data: Value =
                serde_json::from_str(&bag.remove("data").expect("data")).expect("JSON");
            assert_eq!(data, serde_json::to_value(&seen).expect("JSON"), "Juju {juju}, {unit}");
            let rest: Vec<&str> = bag.keys().map(String::as_str).collect();
            assert_eq!(
                rest,
                ["egress-subnets", "ingress-address", "private-address"],
                "Juju {juju}, {unit}"
            );
        }
    }
}

/// Whether any client's role of ours has become a superuser.
fn superusers(bench: &mut Bench) -> String {
    let sql = "SELECT count(*) FROM pg_roles WHERE rolname ~ '^relation_id_[^2]' AND rolsuper";
    bench.go(&format!("sql postgresql-k8s \"{sql}\""))
}

#[test]
fn no_superuser_runs_a_function_that_a_client_replaced() {
    let Some(mut bench) = Bench::related("16", NEW, "") else { return };
    bench.client("shop");
    let function = "public.set_up_predefined_catalog_roles()";
    bench.go(&format!("sql shop \"DROP FUNCTION {function}\""));
    let body = "BEGIN RESET ROLE; ALTER ROLE relation_id_3 SUPERUSER; END";
    bench.go(&format!(
        "sql shop \"CREATE FUNCTION {function} RETURNS void LANGUAGE plpgsql AS $$ {body} $$\""
    ));
    bench.go("deploy actor:client second --config database=shop");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:database second");
    bench.go("settle");
    bench.go("refresh pgbouncer-k8s");
    bench.go("settle");
    assert_eq!(superusers(&mut bench).trim(), "0");
    assert_eq!(bench.go("sql second \"SELECT current_database()\"").trim(), "shop");

    // A database that one who may create them prepared for the next who asks for it.
    bench
        .go("deploy actor:client maker --config database=maker --config extra-user-roles=createdb");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:database maker");
    bench.go("settle");
    bench.go("sql postgresql-k8s \"CREATE DATABASE prepared OWNER charmed_databases_owner\"");
    let trap = "CREATE FUNCTION public.count(name) RETURNS bigint LANGUAGE sql AS 'SELECT 1'";
    bench.go(&format!(
        "sql postgresql-k8s \"SET ROLE charmed_databases_owner; {trap}\" --database prepared"
    ));
    bench.go("deploy actor:client prepared --config database=prepared");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:database prepared");
    bench.go("settle");
    let status = bench.go("status");
    assert!(
        status.contains("cannot use database prepared: in its schema public are functions"),
        "{status}"
    );
    bench.go("sql postgresql-k8s \"DROP FUNCTION public.count(name)\" --database prepared");
    bench.go("wait 6m");
    bench.assert_served("prepared");
}

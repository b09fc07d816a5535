//! The peer relation, tested through the binary: three units with real PgBouncer processes, a real
//! PostgreSQL and a client, in a simulated Juju.

#![expect(clippy::disallowed_methods, reason = "tests look at the units' files")]

mod common;
#[path = "pgbouncer/mod.rs"]
mod programs;
mod soak;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use jujusim::{Exit, HookRun, Options, PEBBLE, Sim, pebble_of};
use pgbouncer_k8s::pgbouncer::Version;
use soak::cases;

const UNITS: [&str; 3] = ["pgbouncer-k8s/0", "pgbouncer-k8s/1", "pgbouncer-k8s/2"];
const LEADER: &str = UNITS[0];
const FOLLOWER: &str = UNITS[1];

/// A simulated model, with the commands and checks that the tests share.
struct Bench(Sim);

impl Bench {
    /// A model on this version of Juju in which three units serve a client.
    fn serving(juju: &str) -> Self {
        Self::deployed(juju, "").with_a_client()
    }

    /// As [`Bench::serving`]; the command lines of the hooks' processes are recorded, too.
    fn watched(juju: &str) -> Self {
        let options = Options { juju: juju.to_owned(), measures: true, ..Options::default() };
        Self::deployed_as(&options, "").with_a_client()
    }

    fn with_a_client(self) -> Self {
        let mut bench = self;
        bench.client("shop");
        bench.assert_served();
        bench
    }

    /// Three units and a backend.
    fn deployed(juju: &str, config: &str) -> Self {
        Self::deployed_as(&Options { juju: juju.to_owned(), ..Options::default() }, config)
    }

    fn deployed_as(options: &Options, config: &str) -> Self {
        common::stage();
        let mut bench = Self(Sim::new(options).expect("a model"));
        bench.go(&format!("deploy ./pgbouncer-k8s -n 3 {config}"));
        bench.go("deploy actor:postgresql postgresql-k8s");
        bench.go("settle");
        bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
        bench.go("settle");
        bench
    }

    /// Deploys a client that requests a database with the client's own name.
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
                panic!("{line}: {error}\n{}", self.0.run("log pgbouncer-k8s/0").unwrap_or_default())
            }
        }
    }

    /// Asserts that the client's SQL succeeds through every unit.
    #[track_caller]
    fn assert_served(&mut self) {
        for unit in self.units() {
            let rows = self.go(&format!("sql shop \"SELECT current_database()\" --through {unit}"));
            assert_eq!(rows.trim(), "shop", "{unit}");
        }
    }

    fn units(&self) -> Vec<String> {
        self.0.model().units_of("pgbouncer-k8s").iter().map(ToString::to_string).collect()
    }

    fn runs(&self) -> &[HookRun] {
        self.0.model().hook_runs()
    }

    /// The hooks that ran after the first `mark` hooks.
    fn since(&self, mark: usize) -> &[HookRun] {
        &self.runs()[mark..]
    }

    /// How many reload signals (SIGHUP) the processes of a unit have logged.
    fn reloads(&self, unit: &str) -> usize {
        (0..2).map(|instance| self.log(unit, instance).matches("got SIGHUP").count()).sum()
    }

    fn log(&self, unit: &str, instance: u16) -> String {
        let root = self.0.model().unit_root(unit).expect("a unit");
        std::fs::read_to_string(root.join(format!("var/log/pgbouncer-instance_{instance}.log")))
            .unwrap_or_default()
    }

    fn ini(&self, unit: &str, instance: u16) -> String {
        let root = self.0.model().unit_root(unit).expect("a unit");
        std::fs::read_to_string(
            root.join(format!("var/lib/pgbouncer/instance_{instance}/pgbouncer.ini")),
        )
        .expect("an ini")
    }

    fn status(&self, unit: &str) -> String {
        let status = self.0.model().unit_status(unit).expect("a unit");
        format!("{}: {}", status.word, status.message)
    }

    /// The log of the last hook of a unit.
    fn last_log(&self, unit: &str) -> String {
        self.runs()
            .iter()
            .rev()
            .find(|run| run.unit == unit)
            .map_or_else(String::new, |run| run.log.join("\n"))
    }

    fn peer_bag(&self, entity: &str) -> std::collections::BTreeMap<String, String> {
        let [id] = self.0.model().relations_at("pgbouncer-k8s:pgb-peers")[..] else {
            panic!("one peer relation")
        };
        self.0.model().bag(id, entity)
    }

    /// The application's peer bag, without the leader's own notes about clients.
    fn published(&self) -> std::collections::BTreeMap<String, String> {
        let mut bag = self.peer_bag("pgbouncer-k8s");
        bag.retain(|key, _| !["clients_told", "newest_clients"].contains(&key.as_str()));
        bag
    }

    /// Asserts that the console of every process confirms the configuration in its file.
    #[track_caller]
    fn assert_loaded(&mut self) {
        let table = self.go("pooler pgbouncer-k8s");
        assert_eq!(table.matches("2/2").count(), self.units().len(), "{table}");
    }
}

fn writes(runs: &[HookRun]) -> Vec<String> {
    let calls = runs.iter().flat_map(|run| run.calls.iter().map(move |call| (run, call)));
    calls
        .filter(|(_, call)| {
            ["relation-set", "state-set", "secret-add", "secret-set", "secret-remove"]
                .contains(&call.name.as_str())
        })
        .map(|(run, call)| {
            format!("{} {}: {} {}", run.unit, run.hook, call.name, call.args.join(" "))
        })
        .collect()
}

#[test]
fn ten_hooks_without_changes_send_no_signal_and_write_nothing() {
    for juju in cases(1, ["3.6.14", "2.9.52"]) {
        let mut bench = Bench::serving(juju);
        let reloads: usize = UNITS.iter().map(|unit| bench.reloads(unit)).sum();
        let (mark, bags) = (bench.runs().len(), bench.go("show-unit pgbouncer-k8s/0"));
        for round in 0..10 {
            // A change of an unused key wakes every unit with `pgb-peers-relation-changed`.
            bench.go(&format!("databag pgbouncer-k8s:pgb-peers pgbouncer-k8s noise={round}"));
            bench.go("settle");
        }
        let changed =
            bench.since(mark).iter().filter(|run| run.hook == "pgb-peers-relation-changed").count();
        assert!(changed >= 30, "only {changed} hooks ran");
        assert_eq!(writes(bench.since(mark)), Vec::<String>::new());
        assert_eq!(UNITS.iter().map(|unit| bench.reloads(unit)).sum::<usize>(), reloads);
        bench.go("databag pgbouncer-k8s:pgb-peers pgbouncer-k8s noise=");
        bench.go("settle");
        assert_eq!(bench.go("show-unit pgbouncer-k8s/0"), bags);
    }
}

fn reads_a_secret(run: &HookRun) -> bool {
    run.calls.iter().any(|call| call.name == "secret-get")
}

/// On a real Juju each call takes 10 to 70 ms and a `secret-get` up to seconds. In containers: a
/// unit elsewhere also needs its address, and the list of all units for its endpoints.
#[test]
fn each_event_costs_at_most_its_budget() {
    if let Err(why) = pebble_of(PEBBLE) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
        let _ = writeln!(std::io::stderr(), "NOT RUN in containers: {why}");
        return;
    }
    common::stage();
    let options = Options { containers: Some(PEBBLE.to_owned()), ..Options::default() };
    let mut bench = Bench(Sim::new(&options).expect("a model"));
    bench.go("deploy ./pgbouncer-k8s -n 3");
    bench.go("settle");
    for run in bench.runs() {
        let (hook, leads) = (run.hook.as_str(), run.unit == LEADER);
        let budget = match hook {
            "install" => 2,
            // Address, port, version, configuration and databags for the first time.
            "pgb-peers-relation-created" => 18,
            "leader-elected" | "start" => 11,
            // The first notes: the unit follows, and there is no secret yet.
            "upgrade-relation-created" => 6,
            // The leader reads its options.
            "config-changed" => 5,
            _ if leads => 4,
            _ => 3,
        };
        assert!(run.calls.len() <= budget, "{} {hook}: {:?}", run.unit, run.tool_counts());
        // A follower's first hook cannot know whether the leader has stored users.
        let is_first = !leads && hook == "pgb-peers-relation-created";
        assert!(!reads_a_secret(run) || is_first, "{} {hook}", run.unit);
    }

    bench.go("deploy actor:postgresql postgresql-k8s");
    bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
    bench.client("shop");
    let mark = bench.runs().len();
    bench.client("crm");
    let ours = |run: &&HookRun| run.unit.starts_with("pgbouncer-k8s/");
    let (leader, others): (Vec<_>, Vec<_>) =
        bench.since(mark).iter().filter(ours).partition(|run| run.unit == LEADER);
    let sum = |runs: &[&HookRun]| runs.iter().map(|run| run.calls.len()).sum::<usize>();
    // Before hooks kept notes these were 129 and 102 calls.
    assert!(sum(&leader) <= 80, "{}", sum(&leader));
    assert!(sum(&others) <= 53, "{}", sum(&others));
    let read = leader.iter().filter(|run| reads_a_secret(run)).count();
    assert_eq!(read, 2, "the hook that loads the database, and the hook that answers");

    for (unit, budget) in [(LEADER, 9), ("pgbouncer-k8s/1", 5)] {
        bench.go(&format!("trigger {unit} update-status"));
        bench.go("settle");
        let run = bench.runs().last().expect("a hook");
        assert!(run.calls.len() <= budget, "{unit}: {:?}", run.tool_counts());
    }

    // A follower leaves; then the leader and the other follower, so that the application has no
    // unit left.
    for (removed, goodbyes) in [(1, 0), (2, 1)] {
        let mark = bench.runs().len();
        for _ in 0..removed {
            bench.go("remove-unit pgbouncer-k8s");
        }
        bench.go("settle");
        let left: Vec<String> = bench.units();
        let leaving = |run: &&HookRun| ours(run) && !left.contains(&run.unit);
        let mut connected = 0;
        for run in bench.since(mark).iter().filter(leaving) {
            if run.sql.connections > 0 {
                connected += 1;
            } else {
                assert!(run.calls.len() <= 3, "{} {}: {:?}", run.unit, run.hook, run.tool_counts());
                assert!(!reads_a_secret(run), "{} {}", run.unit, run.hook);
            }
        }
        assert_eq!(connected, goodbyes, "hooks that connect to PostgreSQL");
    }
}

/// The names of the applications and units whose bags a hook read.
fn read(run: &HookRun) -> BTreeSet<&str> {
    let reads = run.calls.iter().filter(|call| call.name == "relation-get");
    reads
        .filter_map(|call| {
            call.args.iter().rev().find(|arg| !arg.starts_with('-')).map(String::as_str)
        })
        .collect()
}

#[test]
fn the_leader_reads_a_unit_only_when_it_changed() {
    let mut bench = Bench::serving("3.6.14");
    let mut asked = |word: &str| {
        let mark = bench.runs().len();
        bench.go(word);
        bench.go("settle");
        let mut hooks = bench.since(mark).iter().filter(|run| run.unit == LEADER);
        let hook = hooks.next().expect("a hook of the leader");
        UNITS[1..].iter().filter(|unit| read(hook).contains(**unit)).copied().collect::<Vec<_>>()
    };
    assert_eq!(asked("trigger pgbouncer-k8s/0 config-changed"), [""; 0]);
    assert_eq!(asked("databag pgbouncer-k8s:pgb-peers pgbouncer-k8s/2 noise=1"), UNITS[2..]);
    assert_eq!(asked("trigger pgbouncer-k8s/0 config-changed"), [""; 0]);
    assert_eq!(asked("trigger pgbouncer-k8s/0 update-status"), [""; 0]);
    // After `upgrade-charm` the notes are not trusted: a hook may have been missed.
    assert_eq!(asked("trigger pgbouncer-k8s/0 upgrade-charm"), UNITS[1..]);
}

#[test]
fn each_hook_reads_only_its_own_client() {
    for (juju, others) in cases(1, [("3.6.14", 2), ("2.9.52", 0)]) {
        let mut bench = Bench::serving(juju);
        for _ in others..2 {
            bench.go("remove-unit pgbouncer-k8s");
            bench.go("settle");
        }
        let names: Vec<String> = (0..8).map(|number| format!("client{number}")).collect();
        for name in &names {
            bench.go(&format!("deploy actor:client {name} --config database={name}"));
        }
        bench.go(
            "deploy actor:client refused --config database=x --config extra-user-roles=superuser",
        );
        bench.go("settle");
        let mark = bench.runs().len();
        for name in names.iter().map(String::as_str).chain(["refused"]) {
            bench.go(&format!("integrate pgbouncer-k8s:database {name}"));
        }
        bench.go("settle");
        let clients = |run: &HookRun| {
            read(run).iter().filter(|name| names.iter().any(|n| n == *name)).count()
        };
        let mut looked = 0;
        for run in bench.since(mark).iter().filter(|run| run.unit == LEADER) {
            looked += clients(run);
            // With one unit, all units are in step once every client has made its request. The last
            // request cannot be served, so it adds no database that the unit has to load first.
            let is_last = others == 0 && read(run).contains("refused");
            let is_of_one = (run.hook == "database-relation-created" && !is_last)
                || (others > 0 && run.hook.starts_with("database-relation-"));
            assert!(!is_of_one || clients(run) <= 1, "{}: {:?}", run.hook, read(run));
        }
        // -created, -joined, -changed by the application and by its unit; the hook that answers the
        // client; the hook that finds the answer.
        let each = looked / names.len();
        assert!((4..=6).contains(&each), "each client was looked at {each} times");
        for name in &names {
            let rows =
                bench.go(&format!("sql {name} \"SELECT current_database()\" --through {LEADER}"));
            assert_eq!(rows.trim(), name);
        }
        let status = bench.status(LEADER);
        assert!(status.contains("invalid role(s) for extra user roles"), "{status}");
        // The status names the client in every hook until the client's request changes.
        bench.go("trigger pgbouncer-k8s/0 config-changed");
        bench.go("settle");
        assert_eq!(bench.status(LEADER), status);
        bench.go("databag pgbouncer-k8s:database:12 refused extra-user-roles=createdb");
        bench.go("settle");
        let status = bench.status(LEADER);
        assert!(status.starts_with("active: 10 databases"), "{status}");
    }
}

#[test]
fn a_leader_that_lost_its_lease_for_one_hook_keeps_waiting_clients() {
    let mut bench = Bench::deployed("3.6.14", "");
    bench.go("lose-agent pgbouncer-k8s/2");
    bench.client("shop");
    bench.go("answer pgbouncer-k8s/0 is-leader 1 --stdout false");
    bench.go("trigger pgbouncer-k8s/0 config-changed");
    bench.go("settle");
    bench.go("release pgbouncer-k8s/2");
    bench.go("settle");
    bench.assert_served();

    // A leader whose `leader-elected` an operator skipped leads from its next `update-status` on.
    bench.go("model-config automatically-retry-hooks=false");
    bench.go(&format!("fail {FOLLOWER} state-get 1"));
    bench.go(&format!("leader {FOLLOWER}"));
    bench.go("settle");
    bench.go(&format!("resolve {FOLLOWER} --no-retry"));
    bench.go("config pgbouncer-k8s max_db_connections=61");
    bench.go("settle");
    assert!(!bench.ini(LEADER, 0).contains("max_db_connections = 61\n"));
    bench.go(&format!("trigger {FOLLOWER} update-status"));
    bench.go("settle");
    assert!(bench.ini(LEADER, 0).contains("max_db_connections = 61\n"));
}

#[test]
fn a_short_trouble_of_a_unit_wakes_no_other_unit() {
    let mut bench = Bench::deployed("3.6.14", "");
    let file = bench.0.model().unit_root(FOLLOWER).expect("a unit");
    let file = file.join("var/lib/pgbouncer/shared.ini");
    std::fs::remove_file(&file).expect("a file");
    std::fs::create_dir_all(file.join("in-the-way")).expect("a directory");
    bench.go("config pgbouncer-k8s max_db_connections=61");
    bench.go("settle");
    assert!(bench.status(FOLLOWER).contains("cannot write"), "{}", bench.status(FOLLOWER));
    assert!(!bench.peer_bag(FOLLOWER).contains_key("unit_status"));

    // A trouble that lasts is reported once.
    let mark = bench.runs().len();
    for _ in 0..3 {
        bench.go(&format!("trigger {FOLLOWER} update-status"));
        bench.go("settle");
    }
    assert_eq!(bench.peer_bag(FOLLOWER)["unit_status"], "waiting");
    assert_eq!(bench.since(mark).iter().filter(|run| run.unit == LEADER).count(), 1);
    let named = format!("; not active: {FOLLOWER}");
    assert!(bench.status(LEADER).ends_with(&named), "{}", bench.status(LEADER));

    std::fs::remove_dir_all(&file).expect("the directory");
    bench.go(&format!("trigger {FOLLOWER} update-status"));
    bench.go("settle");
    assert!(!bench.peer_bag(FOLLOWER).contains_key("unit_status"));
    assert!(!bench.status(LEADER).contains("not active"), "{}", bench.status(LEADER));
}

#[test]
fn a_hook_of_a_rejected_client_serves_other_waiting_clients() {
    let mut bench = Bench::deployed("3.6.14", "");
    bench.go("deploy actor:client shop --config database=shop");
    bench.go("deploy actor:client refused --config database=x --config extra-user-roles=superuser");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:database shop");
    let shop = bench.0.model().relations_at("shop:database")[0];
    bench.go(&format!("sql postgresql-k8s 'CREATE ROLE relation_id_{shop}'"));
    bench.go("settle");
    let in_its_way = format!("drop or rename role relation_id_{shop}");
    assert!(bench.status(LEADER).contains(&in_its_way), "{}", bench.status(LEADER));
    bench.go("integrate pgbouncer-k8s:database refused");
    bench.go("settle");
    assert!(bench.status(LEADER).contains(&in_its_way), "{}", bench.status(LEADER));
    bench.go(&format!("sql postgresql-k8s 'DROP ROLE relation_id_{shop}'"));
    // This hook is about the other client.
    bench.go("databag pgbouncer-k8s:database:4 refused noise=1");
    bench.go("settle");
    bench.assert_served();
}

#[test]
fn the_first_hook_after_a_refresh_names_a_relation_that_is_not_supported() {
    common::stage();
    let mut bench = Bench(Sim::new(&Options::default()).expect("a model"));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    // The charm before the refresh has the same endpoints and does nothing.
    let before = tempfile::tempdir().expect("a directory");
    for file in ["metadata.yaml", "config.yaml", "actions.yaml"] {
        std::fs::copy(root.join(file), before.path().join(file)).expect("a copy");
    }
    let dispatch = root.join("tests/scenarios/neighbour/dispatch");
    std::fs::copy(dispatch, before.path().join("dispatch")).expect("a copy");
    bench.go(&format!("deploy {} pgbouncer-k8s", before.path().display()));
    bench.go(&format!("deploy {} neighbour", root.join("tests/scenarios/neighbour").display()));
    bench.go("integrate pgbouncer-k8s:db neighbour");
    bench.go("settle");
    bench.go("refresh pgbouncer-k8s --path ./pgbouncer-k8s");
    while bench.runs().last().is_none_or(|run| run.hook != "upgrade-charm") {
        bench.go("step 1");
    }
    // Without PostgreSQL the status names that first.
    let log = bench.last_log(LEADER);
    assert!(log.contains("wait: relation db is not supported yet"), "{log}");
    bench.go("remove-relation pgbouncer-k8s:db neighbour");
    bench.go("settle");
    let log = bench.last_log(LEADER);
    assert!(!log.contains("not supported"), "{log}");
}

#[test]
fn observability_costs_no_call_in_a_hook_in_which_nothing_is_new() {
    let mut bench = Bench::serving("3.6.14");
    let neighbour =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/neighbour");
    let quiet = |bench: &mut Bench| {
        let mut calls = Vec::new();
        for (unit, hook) in [
            (LEADER, "config-changed"),
            (FOLLOWER, "config-changed"),
            (FOLLOWER, "update-status"),
            (LEADER, "update-status"),
        ] {
            let mark = bench.runs().len();
            bench.go(&format!("trigger {unit} {hook}"));
            bench.go("settle");
            let [run] = bench.since(mark) else { panic!("{unit} {hook}: {:?}", bench.since(mark)) };
            calls.push(format!("{unit} {hook}: {:?}", run.tool_counts()));
        }
        calls
    };
    bench.go(&format!("deploy {} neighbour", neighbour.display()));
    bench.go("settle");
    quiet(&mut bench);
    let before = quiet(&mut bench);
    for endpoint in ["metrics-endpoint", "grafana-dashboard", "logging", "tracing"] {
        bench.go(&format!("integrate pgbouncer-k8s:{endpoint} neighbour"));
    }
    bench.go("settle");
    quiet(&mut bench);
    assert_eq!(quiet(&mut bench), before);
}

#[test]
fn one_changed_byte_reloads_each_process_once() {
    let mut bench = Bench::serving("3.6.14");
    let before = UNITS.map(|unit| bench.reloads(unit));
    bench.go("config pgbouncer-k8s max_db_connections=101");
    bench.go("settle");
    assert_eq!(UNITS.map(|unit| bench.reloads(unit)), before.map(|count| count + 2));
    for unit in UNITS {
        assert!(
            bench.ini(unit, 1).contains("max_db_connections = 101\n"),
            "{}",
            bench.ini(unit, 1)
        );
    }
    bench.assert_loaded();
    bench.assert_served();
}

#[test]
fn a_follower_with_invalid_published_values_serves_warns_and_recovers() {
    let mut bench = Bench::serving("2.9.52");
    let good = bench.peer_bag("pgbouncer-k8s");
    let config = good["cfg_file"].clone();
    let big = format!("{config}; {}", "x".repeat(5 * 1024 * 1024));
    let secret_marker = "hunter2hunter2hunter2";
    let cases: Vec<(&str, &str, String)> = vec![
        ("truncated", "cfg_file", config[..config.len() / 2].to_owned()),
        ("binary", "cfg_file", format!("{}\u{1}\u{2}\u{7f}{secret_marker}\u{0}", &config[..80])),
        (
            "unknown section",
            "cfg_file",
            config.replace("[databases]", &format!("[{secret_marker}]")),
        ),
        ("unknown key", "cfg_file", format!("{config}{secret_marker} = 1\n")),
        (
            "a newline in a name",
            "cfg_file",
            config.replace("shop = ", &format!("sh\nop{secret_marker} = ")),
        ),
        ("five megabytes", "cfg_file", big),
        (
            "a forced key changed",
            "cfg_file",
            config.replace("auth_type = scram-sha-256", "auth_type = trust"),
        ),
        (
            "another auth query",
            "cfg_file",
            config.replace("get_auth($1)", &format!("get_auth('{secret_marker}')")),
        ),
        ("an instance's key", "cfg_file", format!("{config}listen_addr = {secret_marker}\n")),
        ("stale", "cfg_file", config.replace("pgb_dbs_config ", "pgb_dbs_config 0123")),
        ("no auth line", "auth_file", format!("\"somebody\" \"{secret_marker}\"")),
        ("a truncated list", "auth_file", good["auth_file"][..30].to_owned()),
        ("a word", "auth_file", secret_marker.to_owned()),
    ];
    let file = std::env::temp_dir().join(format!("broken-{}", std::process::id()));
    for (what, key, value) in cases {
        std::fs::write(&file, &value).expect("a file");
        let reloads = bench.reloads(FOLLOWER);
        bench.go(&format!(
            "databag pgbouncer-k8s:pgb-peers pgbouncer-k8s {key}=@{}",
            file.display()
        ));
        bench.go(&format!("step --unit {FOLLOWER}"));
        let run = bench.runs().last().expect("a run");
        assert_eq!((run.unit.as_str(), &run.exit), (FOLLOWER, &Exit::Success), "{what}");
        let log = bench.last_log(FOLLOWER);
        assert!(
            log.contains(&format!("WARNING pgb-peers: ignored {key}")) || what == "stale",
            "{what}: {log}"
        );
        assert!(!log.contains(secret_marker), "{what}: {log}");
        let status = bench.status(FOLLOWER);
        let broken = format!("waiting: cannot use {key} of pgb-peers");
        assert!(status.starts_with(&broken), "{what}: {status}");
        assert!(!status.contains(secret_marker), "{what}: {status}");
        assert_eq!(bench.reloads(FOLLOWER), reloads, "{what}: it reloaded");
        let rows = bench.go(&format!("sql shop \"SELECT 1\" --through {FOLLOWER}"));
        assert_eq!(rows.trim(), "1", "{what}");

        // The leader's next hook repairs the value, and the follower loads a valid value.
        std::fs::write(&file, &good[key]).expect("a file");
        bench.go(&format!(
            "databag pgbouncer-k8s:pgb-peers pgbouncer-k8s {key}=@{}",
            file.display()
        ));
        bench.go("settle");
        assert!(bench.status(FOLLOWER).starts_with("active"), "{what}: {}", bench.status(FOLLOWER));
        assert_eq!(bench.peer_bag("pgbouncer-k8s"), good, "{what}");
    }
    bench.assert_loaded();
    bench.assert_served();
    std::fs::remove_file(file).expect("it is there");
}

#[test]
fn the_leader_repairs_published_values() {
    let mut bench = Bench::serving("3.6.14");
    let good = bench.peer_bag("pgbouncer-k8s");
    bench.go("databag pgbouncer-k8s:pgb-peers pgbouncer-k8s cfg_file=nonsense");
    bench.go("settle");
    assert_eq!(bench.peer_bag("pgbouncer-k8s"), good);
    bench.assert_served();
}

/// The points at which a hook is killed: around its writes, its signals and its commit.
const KILLS: [&str; 7] = [
    // Before the first rename of a written file, and between the renames.
    "syscall rename 1 --no-follow",
    "syscall rename 2 --no-follow",
    "syscall rename 3 --no-follow",
    // The files are written, but the process has no signal yet.
    "syscall kill 1 --no-follow",
    // The process has its signal, but the load is not confirmed.
    "syscall connect 1 --no-follow",
    // One process of two has loaded its file.
    "syscall kill 2 --no-follow",
    // Both processes have loaded their files, but nothing is committed.
    "syscall exit_group 1 --no-follow",
];

#[test]
fn the_next_hook_repairs_a_follower_killed_anywhere() {
    let mut bench = Bench::serving("3.6.14");
    for (round, kill) in KILLS.iter().enumerate() {
        bench.go(&format!("config pgbouncer-k8s max_db_connections={}", 200 + round));
        // The leader publishes; the follower is killed in the hook that announces the change.
        bench.go(&format!("step --unit {LEADER} 1"));
        let published = bench.peer_bag("pgbouncer-k8s")["cfg_file"].clone();
        assert!(
            published.contains(&format!("max_db_connections = {}\n", 200 + round)),
            "{published}"
        );
        bench.go(&format!("kill {FOLLOWER} at {kill}"));
        let out = bench.go("settle");
        let killed = bench.runs().iter().filter(|run| matches!(run.exit, Exit::Killed(_))).count();
        assert_eq!(killed, round + 1, "{kill}: {out}");
        for unit in UNITS {
            for instance in 0..2 {
                let ini = bench.ini(unit, instance);
                assert!(
                    ini.contains(&format!("max_db_connections = {}\n", 200 + round)),
                    "{kill}: {unit}"
                );
            }
        }
        bench.assert_loaded();
        bench.assert_served();
    }
}

#[test]
fn a_leader_killed_anywhere_serves_a_new_client_with_one_password() {
    let mut bench = Bench::serving("3.6.14");
    // The hook that answers a client: SQL, secrets, databags, status. The numbers of `sendto` are
    // spread over its statements to PostgreSQL.
    let kills = [
        "syscall sendto 9 --no-follow",
        "syscall sendto 16 --no-follow",
        "secret-add",
        "secret-grant",
        "relation-set",
        "syscall sendto 3 --no-follow",
        "syscall sendto 12 --no-follow",
        "syscall sendto 20 --no-follow",
        "secret-add 2",
        "status-set",
    ];
    for (number, kill) in cases(5, kills).enumerate() {
        let app = format!("app{number}");
        bench.go(&format!("deploy actor:client {app} --config database={app}"));
        bench.go("settle");
        bench.go(&format!("integrate pgbouncer-k8s:database {app}"));
        let mark = bench.runs().len();
        for _ in 0..30 {
            bench.go(&format!("kill {LEADER} at {kill}"));
            bench.go("step 1");
            if bench.since(mark).iter().any(|run| matches!(run.exit, Exit::Killed(_))) {
                break;
            }
        }
        let killed =
            bench.since(mark).iter().filter(|run| matches!(run.exit, Exit::Killed(_))).count();
        assert_eq!(killed, 1, "{kill}");
        // A fault that has not occurred yet would affect another hook.
        bench.go("settle");
        let [id] = bench.0.model().relations_at(&format!("{app}:database"))[..] else {
            panic!("one relation")
        };
        for unit in UNITS {
            let rows =
                bench.go(&format!("sql {app} \"SELECT current_database()\" --through {unit}"));
            assert_eq!(rows.trim(), app, "{kill}");
        }
        let secret =
            bench.0.model().secret(&format!("database.{id}.user.secret")).expect("it was made");
        assert_eq!(secret.revisions.len(), 1, "{kill}");
    }
    bench.assert_loaded();
}

#[test]
fn a_follower_killed_while_loading_runs_the_value_published_last() {
    let mut bench = Bench::serving("3.6.14");
    for kill in [
        "syscall rename 3 --no-follow",
        "syscall kill 1 --no-follow",
        "syscall connect 1 --no-follow",
        "syscall kill 2 --no-follow",
        "syscall exit_group 1 --no-follow",
    ] {
        bench.go("config pgbouncer-k8s max_db_connections=100");
        bench.go("settle");
        let first = bench.ini(FOLLOWER, 0);

        // A is loaded. The leader publishes B, and the follower is killed while it loads B.
        bench.go("config pgbouncer-k8s max_db_connections=150");
        bench.go(&format!("step --unit {LEADER} 1"));
        bench.go(&format!("kill {FOLLOWER} at {kill}"));
        let mut died = false;
        for _ in 0..4 {
            let _ = bench.0.run(&format!("step --unit {FOLLOWER} 1"));
            died = matches!(bench.runs().last().map(|run| &run.exit), Some(Exit::Killed(_)));
            if died {
                break;
            }
        }
        assert!(died, "{kill} killed nothing");

        // The leader publishes A again before the follower runs another hook.
        bench.go("config pgbouncer-k8s max_db_connections=100");
        bench.go(&format!("step --unit {LEADER} 1"));
        bench.go("settle");
        assert_eq!(bench.ini(FOLLOWER, 0), first, "{kill}");
        bench.assert_loaded();
        bench.assert_served();
    }
}

#[test]
fn a_hook_in_which_nothing_is_new_reads_no_secret_and_sets_no_status() {
    let mut bench = Bench::serving("3.6.14");
    for (unit, expected) in [
        (FOLLOWER, "network-get relation-get relation-get state-get"),
        (
            LEADER,
            "config-get is-leader network-get relation-get relation-get relation-get \
             secret-info-get state-get",
        ),
    ] {
        let mark = bench.runs().len();
        bench.go(&format!("trigger {unit} config-changed"));
        bench.go("settle");
        let mut tools: Vec<&str> = bench
            .since(mark)
            .iter()
            .flat_map(|run| &run.calls)
            .map(|call| call.name.as_str())
            .collect();
        tools.sort_unstable();
        // In a container the charm does not ask for its address.
        assert_eq!(tools.join(" "), expected, "{unit}");
    }
}

#[test]
fn a_status_is_set_again_after_a_hook_that_died_before_its_record() {
    let mut bench = Bench::serving("3.6.14");
    let root = bench.0.model().unit_root(FOLLOWER).expect("a unit");
    let agent = format!("var/lib/juju/agents/unit-{}", FOLLOWER.replace('/', "-"));
    let record = root.join(agent).join("charm/.status-unit").display().to_string();
    bench.go("config pgbouncer-k8s listen_port=6543");
    // It is read once, and then written.
    bench.go(&format!("kill {FOLLOWER} at syscall openat 2 --no-follow --path {record}"));
    let mark = bench.runs().len();
    for _ in 0..20 {
        bench.go("step 1");
        if bench.since(mark).iter().any(|run| matches!(run.exit, Exit::Killed(_))) {
            break;
        }
    }
    let killed = bench.since(mark).iter().find(|run| matches!(run.exit, Exit::Killed(_)));
    let tools = &killed.expect("a hook dies").calls;
    assert!(tools.iter().any(|call| call.name == "status-set"), "{tools:?}");
    let shown =
        |bench: &Bench| bench.0.model().unit_status(FOLLOWER).expect("a unit").message.clone();
    assert!(shown(&bench).contains("port 6543"), "{}", shown(&bench));
    bench.go("config pgbouncer-k8s --reset listen_port");
    // The follower's next hook has the earlier status again.
    bench.go(&format!("step --unit {LEADER} 9"));
    bench.go("settle");
    assert!(shown(&bench).contains("port 6432"), "{}", shown(&bench));
}

#[test]
fn a_replaced_pod_serves_the_same_users_again() {
    for unit in [FOLLOWER, LEADER] {
        let mut bench = Bench::serving("3.6.14");
        let before = bench.published();
        let mark = bench.runs().len();
        bench.go(&format!("replace-pod {unit}"));
        bench.go("settle");
        let hooks: BTreeSet<&str> = bench
            .since(mark)
            .iter()
            .filter(|run| run.unit == unit)
            .map(|run| run.hook.as_str())
            .collect();
        assert!(hooks.contains("upgrade-charm") && hooks.contains("start"), "{hooks:?}");
        // Only the hook after the leader has published its new address to clients.
        let told = "pgb-peers-relation-changed";
        assert!(!hooks.iter().any(|hook| hook.contains("relation") && *hook != told), "{hooks:?}");
        assert_eq!(bench.published(), before);
        bench.assert_loaded();
        bench.assert_served();
    }
}

#[test]
fn a_pod_replaced_in_the_middle_of_a_hook_serves_again() {
    let mut bench = Bench::serving("3.6.14");
    bench.go("config pgbouncer-k8s max_db_connections=77");
    bench.go(&format!("step --unit {LEADER} 1"));
    bench.go(&format!("replace-pod {FOLLOWER} --mid-hook"));
    bench.go("settle");
    assert!(bench.ini(FOLLOWER, 0).contains("max_db_connections = 77\n"));
    bench.assert_loaded();
    bench.assert_served();
}

#[test]
fn a_new_leader_keeps_the_published_values() {
    for juju in ["3.6.14", "2.9.52"] {
        let mut bench = Bench::serving(juju);
        let passwords = bench.0.model().passwords();
        let mut before = bench.peer_bag("pgbouncer-k8s");
        let reloads = UNITS.map(|unit| bench.reloads(unit));
        bench.go("leader pgbouncer-k8s/2");
        bench.go("settle");
        let mut after = bench.peer_bag("pgbouncer-k8s");
        let name = after.remove("leader_hostname").expect("a leader");
        assert!(name.starts_with("pgbouncer-k8s-2."), "{name}");
        before.remove("leader_hostname");
        assert_eq!(after, before);
        assert_eq!(bench.0.model().passwords(), passwords);
        assert_eq!(UNITS.map(|unit| bench.reloads(unit)), reloads);
        bench.assert_served();

        // The new leader also serves a new client.
        bench.client("crm");
        assert_eq!(
            bench.go("sql crm \"SELECT current_database()\" --through pgbouncer-k8s/0").trim(),
            "crm"
        );
    }
}

#[test]
fn endpoints_follow_added_and_removed_units() {
    let mut bench = Bench::serving("3.6.14");
    let endpoints = |bench: &Bench| {
        let [id] = bench.0.model().relations_at("pgbouncer-k8s:database")[..] else {
            panic!("one client")
        };
        bench.0.model().bag(id, "pgbouncer-k8s")["endpoints"].split(',').count()
    };
    bench.go("add-unit pgbouncer-k8s");
    bench.go("settle");
    assert_eq!((bench.units().len(), endpoints(&bench)), (4, 4));
    bench.assert_loaded();
    bench.assert_served();
    bench.go("remove-unit pgbouncer-k8s -n 2");
    bench.go("settle");
    assert_eq!((bench.units().len(), endpoints(&bench)), (2, 2));
    bench.assert_served();
}

#[test]
fn a_removed_leader_removes_no_client() {
    let mut bench = Bench::serving("3.6.14");
    bench.go("leader pgbouncer-k8s/2");
    bench.go("settle");
    let (mut before, passwords) = (bench.published(), bench.0.model().passwords());
    let reloads = [bench.reloads(UNITS[0]), bench.reloads(UNITS[1])];
    bench.go("remove-unit pgbouncer-k8s");
    bench.go("settle");
    // Only the leader's name is another one: nothing was taken away in between and made again.
    let mut after = bench.published();
    assert_ne!(after.remove("leader_hostname"), before.remove("leader_hostname"));
    assert_eq!(after, before);
    assert_eq!(bench.0.model().passwords(), passwords);
    assert_eq!([bench.reloads(UNITS[0]), bench.reloads(UNITS[1])], reloads);
    bench.assert_served();
}

#[test]
fn a_commit_that_fails_after_the_secrets_creates_no_second_password() {
    let mut bench = Bench::deployed("3.6.14", "");
    bench.go("deploy actor:client shop --config database=shop");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:database shop");
    // Every commit of the leader is torn once: secrets stay, the rest is refused, the hook runs
    // again.
    let mut torn = 0;
    loop {
        bench.go(&format!("fail-commit {LEADER} --torn"));
        if bench.go("step").contains("nothing to do") {
            break;
        }
        let run = bench.runs().last().expect("a run");
        if run.unit == LEADER {
            assert!(matches!(run.exit, Exit::Refused(_)), "{} was not torn", run.hook);
            torn += 1;
            bench.go(&format!("step --unit {LEADER}"));
            assert_eq!(bench.runs().last().map(|run| &run.exit), Some(&Exit::Success));
        }
    }
    assert!(torn > 4, "only {torn} commits were torn");
    bench.assert_served();
    let secret = bench.0.model().secret("database.3.user.secret").expect("it was made");
    assert_eq!((secret.latest, secret.revisions.len()), (1, 1));
}

#[test]
fn the_client_and_its_role_are_removed_with_the_relation() {
    for juju in ["3.6.14", "2.9.52"] {
        let mut bench = Bench::serving(juju);
        bench.client("crm");
        assert_eq!(
            bench.go("sql crm \"CREATE TABLE kept (id int)\" --through pgbouncer-k8s/1").trim(),
            ""
        );
        bench.go("remove-relation pgbouncer-k8s:database crm");
        bench.go("settle");
        let count = |bench: &mut Bench, what: &str| {
            bench
                .go(&format!("sql shop \"SELECT count(*) FROM {what}\" --through {FOLLOWER}"))
                .trim()
                .to_owned()
        };
        assert_eq!(count(&mut bench, "pg_roles WHERE rolname = 'relation_id_4'"), "0");
        assert_eq!(count(&mut bench, "pg_roles WHERE rolname = 'relation_id_3'"), "1");
        assert_eq!(count(&mut bench, "pg_database WHERE datname = 'crm'"), "1");
        let ini = bench.ini(FOLLOWER, 0);
        assert!(ini.contains("\nshop = ") && !ini.contains("crm"), "{ini}");
        assert_eq!(bench.peer_bag("pgbouncer-k8s").get("relation_id_4"), None);
        bench.assert_served();
        bench.assert_loaded();
    }
}

#[test]
fn a_name_is_written_exactly_or_refused_with_a_reason() {
    let mut bench = Bench::serving("3.6.14");
    let before: Vec<String> = bench.ini(FOLLOWER, 0).lines().map(str::to_owned).collect();
    let long = "x".repeat(200);
    let longest = "y".repeat(63);
    let names = [
        ("a\nb", false),
        ("a\"b", false),
        (&long, false),
        ("*", false),
        ("A.b-c_1", true),
        (&longest, true),
        ("a]", false),
        ("a=b", false),
        ("a'b", false),
        ("a b", false),
        (" ", false),
        ("pgbouncer", false),
        ("x; DROP DATABASE shop", false),
        ("naïve", false),
    ];
    let file = std::env::temp_dir().join(format!("name-{}", std::process::id()));
    for (number, (name, served)) in cases(6, names).enumerate() {
        let app = format!("app{number}");
        bench.go(&format!("deploy actor:client {app} --config database=placeholder"));
        bench.go("settle");
        std::fs::write(&file, name).expect("a file");
        bench.go(&format!("config {app} database=@{}", file.display()));
        bench.go("settle");
        bench.go(&format!("integrate pgbouncer-k8s:database {app}"));
        bench.go("settle");
        let id =
            *bench.0.model().relations_at(&format!("{app}:database")).first().expect("a relation");
        let ini = bench.ini(FOLLOWER, 0);
        if served {
            assert_eq!(
                bench
                    .go(&format!("sql {app} \"SELECT current_database()\" --through {FOLLOWER}"))
                    .trim(),
                name
            );
            assert!(ini.contains(&format!("\n{name} = ")), "{ini}");
        } else {
            let status = bench.status(LEADER);
            assert!(
                status.starts_with(&format!("blocked: cannot serve {app} (database:{id}): ")),
                "{name:?}: {status}"
            );
            let new: Vec<&str> =
                ini.lines().filter(|line| !before.iter().any(|old| old == line)).collect();
            // Only the digest and the hash may differ, and they do not either.
            assert_eq!(new, Vec::<&str>::new(), "{name:?}");
        }
        bench.assert_served();
        bench.go(&format!("remove-relation pgbouncer-k8s:database {app}"));
        bench.go("settle");
        assert!(bench.status(LEADER).starts_with("active"), "{name:?}: {}", bench.status(LEADER));
    }
    std::fs::remove_file(file).expect("it is there");
}

#[test]
fn clients_see_no_error_while_an_option_changes_five_times() {
    let mut bench = Bench::serving("3.6.14");
    bench.go("load start shop -c 10");
    for connections in [60, 70, 80, 90, 110] {
        bench.go(&format!("config pgbouncer-k8s max_db_connections={connections}"));
        bench.go("settle");
        bench.assert_loaded();
        for unit in UNITS {
            let told = bench.go(&format!("show-config {unit} max_db_connections"));
            assert_eq!(
                told,
                format!("instance_0: {connections}\ninstance_1: {connections}\n"),
                "{unit}"
            );
        }
    }
    let out = bench.go("load stop");
    assert!(out.contains("errors: 0\n"), "{out}");
    assert!(out.contains("transactions > 0: yes"), "{out}");
}

#[test]
fn every_version_of_pgbouncer_serves_and_changes() {
    for program in programs::installed() {
        let options = Options { pgbouncer: Some(program.directory), ..Options::default() };
        let mut bench = Bench::deployed_as(&options, "").with_a_client();
        assert_eq!(
            bench.ini(FOLLOWER, 0).contains("\n[peers]\n"),
            program.version >= Version::PEERS
        );

        bench.go("load start shop -c 10");
        bench.go("config pgbouncer-k8s max_db_connections=60");
        bench.go("settle");
        bench.assert_loaded();
        let out = bench.go("load stop");
        assert!(out.contains("errors: 0\n") && out.contains("transactions > 0: yes"), "{out}");

        // From 1.23 a process that is told to end waits for its clients.
        bench.go("config pgbouncer-k8s listen_port=7432");
        bench.go("settle");
        bench.assert_loaded();
        bench.assert_served();
    }
}

#[test]
fn an_invalid_option_blocks_with_a_reason_and_the_units_keep_serving() {
    let mut bench = Bench::serving("3.6.14");
    let before = bench.ini(FOLLOWER, 0);
    bench.go("config pgbouncer-k8s pool_mode=swimming");
    bench.go("settle");
    let status = bench.status(LEADER);
    assert!(
        status.starts_with("blocked: option pool_mode is \"swimming\": set it to session"),
        "{status}"
    );
    assert_eq!(bench.ini(FOLLOWER, 0), before);
    bench.assert_served();
    bench.go("config pgbouncer-k8s pool_mode=transaction");
    bench.go("settle");
    assert!(bench.status(LEADER).starts_with("active"));
    assert!(bench.ini(FOLLOWER, 0).contains("pool_mode = transaction\n"));
    bench.assert_served();
}

#[test]
fn a_new_port_restarts_the_processes_and_is_published_to_clients() {
    let mut bench = Bench::serving("3.6.14");
    bench.go("config pgbouncer-k8s listen_port=7432");
    bench.go("settle");
    bench.assert_loaded();
    bench.assert_served();
    let [id] = bench.0.model().relations_at("pgbouncer-k8s:database")[..] else {
        panic!("one client")
    };
    let bag = bench.0.model().bag(id, "pgbouncer-k8s");
    assert!(bag["endpoints"].ends_with(":7432"), "{}", bag["endpoints"]);
}

#[test]
fn a_client_is_served_after_the_backend_returns() {
    let mut bench = Bench::deployed("3.6.14", "");
    bench.go("deploy actor:client shop --config database=shop");
    bench.go("settle");
    bench.go("postgresql stop");
    bench.go("integrate pgbouncer-k8s:database shop");
    bench.go("settle");
    let status = bench.status(LEADER);
    assert!(
        status.starts_with("blocked: cannot connect to database pgbouncer of PostgreSQL"),
        "{status}"
    );
    bench.go("postgresql start");
    bench.go("trigger pgbouncer-k8s/0 update-status");
    bench.go("settle");
    bench.assert_served();
}

#[test]
fn passwords_appear_only_where_they_belong() {
    for juju in ["3.6.14", "2.9.52"] {
        let mut bench = Bench::watched(juju);
        bench.go("config pgbouncer-k8s max_db_connections=33");
        bench.go("leader pgbouncer-k8s/1");
        bench.go("settle");
        bench.go(&format!("replace-pod {LEADER}"));
        bench.go("settle");
        let mut passwords = bench.0.model().passwords();
        // The user list has to hold verifiers, and the auth role's password; the next test looks
        // for those.
        let auth = auth_line(&user_list(&bench, LEADER));
        passwords.retain(|text| !text.starts_with("SCRAM-SHA-256$") && *text != auth);
        assert!(passwords.len() >= 4, "{} passwords", passwords.len());

        let mut seen = String::new();
        for run in bench.runs() {
            for call in &run.calls {
                let _ = writeln!(seen, "{} {}", call.name, call.args.join(" "));
            }
            let _ = writeln!(seen, "{:?}\n{}\n{}", run.processes, run.log.join("\n"), run.stdout);
        }
        for word in
            ["status", "show-unit pgbouncer-k8s/0", "show-unit shop/0", "pooler pgbouncer-k8s"]
        {
            seen += &bench.go(word);
        }
        for unit in UNITS {
            for instance in 0..2 {
                seen += &bench.log(unit, instance);
                seen += &bench.ini(unit, instance);
            }
        }
        for unit in UNITS {
            tree(bench.0.model().unit_root(unit).expect("a unit"), &mut seen);
        }
        assert_eq!(
            seen.matches(&auth).count(),
            UNITS.len(),
            "each unit's user list has it, and nothing else"
        );
        assert!(seen.len() > 10_000, "there is something to look through");
        for password in &passwords {
            let place = seen.find(password.as_str());
            let before =
                place.map(|place| seen[..place].chars().rev().take(80).collect::<String>());
            let before = before.map(|text| text.chars().rev().collect::<String>());
            assert_eq!(before, None, "a password was seen on Juju {juju}, after this text");
        }
    }
}

/// A unit's user list as PgBouncer reads it.
fn user_list(bench: &Bench, unit: &str) -> String {
    let root = bench.0.model().unit_root(unit).expect("a unit");
    let list = root.join(format!("dev/shm/{}/userlist.txt", unit.replace('/', "-")));
    std::fs::read_to_string(list).expect("a user list")
}

/// The secret of the auth role in a user list.
fn auth_line(list: &str) -> String {
    let line =
        list.lines().find(|line| line.starts_with("\"pgbouncer_auth_")).expect("an auth line");
    line.split('"').nth(3).expect("a secret").to_owned()
}

/// All files below a directory, but for the charm's own.
fn tree(directory: &Path, seen: &mut String) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            tree(&entry.path(), seen);
        } else if kind.is_file() && entry.file_name() != "pgbouncer-k8s" {
            *seen += &String::from_utf8_lossy(&std::fs::read(entry.path()).expect("a file"));
        }
    }
}

#[test]
fn verifiers_appear_only_in_the_user_list_and_in_secrets() {
    let mut bench = Bench::watched("3.6.14");
    bench.go("config pgbouncer-k8s max_db_connections=33");
    bench.go("settle");
    let mut seen = String::new();
    for run in bench.runs() {
        let calls: Vec<String> = run.calls.iter().map(|call| call.args.join(" ")).collect();
        let _ = writeln!(seen, "{}\n{:?}\n{}", calls.join("\n"), run.processes, run.log.join("\n"));
    }
    for unit in UNITS {
        seen += &bench.log(unit, 0);
        seen += &bench.ini(unit, 0);
        seen += &bench.status(unit);
    }
    assert!(seen.contains("pgbouncer_auth_relation_id_2"), "there is something to look through");
    let list = bench
        .0
        .model()
        .secret("pgb-peers.pgbouncer-k8s.app")
        .expect("the peer secret")
        .content()["auth-file"]
        .clone();
    assert!(list.contains("SCRAM-SHA-256$4096:"));
    for secret in ["SCRAM-SHA-256$4096", &auth_line(&list)] {
        assert!(!seen.contains(secret), "a secret of the user list was seen");
    }
}

/// A user list as the Python charm leaves it, with its two passwords.
const LEFT: [(&str, &str); 3] = [
    (
        "auth_file",
        "\"pgbouncer_auth_relation_id_4\" \"md5e21e02687122653119af0b4eabb4dc0e\"\n\
         \"pgbouncer_stats_pgbouncer_k8s\" \"md5aad46d9afbcc8c8248d254d567b577c1\"",
    ),
    ("monitoring_password", "4n2nyR3k6C9Wtyr4NiX5D5Cu"),
    ("admin_password", "bKj1bFVr4CQ0r43rXmIhtKrZ"),
];

/// Three units without a backend, and files with the values of [`LEFT`].
fn with_left(test: &str) -> (Bench, Vec<(String, std::path::PathBuf)>) {
    common::stage();
    let mut bench = Bench(Sim::new(&Options::default()).expect("a model"));
    bench.go("deploy ./pgbouncer-k8s -n 3");
    bench.go("settle");
    let files = LEFT.map(|(key, value)| {
        let file = std::env::temp_dir().join(format!("{test}-{key}-{}", std::process::id()));
        std::fs::write(&file, value).expect("a file");
        (key.to_owned(), file)
    });
    (bench, files.to_vec())
}

fn remove(files: &[(String, std::path::PathBuf)]) {
    for (_, file) in files {
        std::fs::remove_file(file).expect("it is there");
    }
}

#[track_caller]
fn assert_taken_over(bench: &mut Bench) {
    let secret = bench
        .0
        .model()
        .secret("pgb-peers.pgbouncer-k8s.app")
        .expect("it was made")
        .content()
        .clone();
    for (key, value) in LEFT {
        assert_eq!(secret[&key.replace('_', "-")], value, "{key}");
    }
    for unit in UNITS {
        let ini = bench.ini(unit, 0);
        assert!(ini.contains("FROM pgbouncer_auth_relation_id_4.get_auth($1)"), "{unit}: {ini}");
        // The stats line is still md5, and SCRAM would lock that user out.
        assert!(ini.contains("auth_type = md5\n"), "{unit}: {ini}");
    }
    bench.assert_loaded();
}

#[test]
fn users_left_plain_in_the_bag_move_into_the_secret() {
    for hyphens in [false, true] {
        let (mut bench, files) = with_left(if hyphens { "hyphens" } else { "plain" });
        for (key, file) in &files {
            let key = if hyphens { key.replace('_', "-") } else { key.clone() };
            bench.go(&format!(
                "databag pgbouncer-k8s:pgb-peers pgbouncer-k8s {key}=@{}",
                file.display()
            ));
        }
        bench.go("settle");
        let bag = bench.peer_bag("pgbouncer-k8s");
        let keys: Vec<&str> = bag.keys().map(String::as_str).collect();
        assert_eq!(keys, ["auth_file_revision", "cfg_file", "leader_hostname"]);
        assert_taken_over(&mut bench);
        remove(&files);
    }
}

#[test]
fn a_secret_with_the_older_label_gets_the_current_label() {
    let (mut bench, files) = with_left("label");
    let content: Vec<String> = files
        .iter()
        .map(|(key, file)| format!("{}#file={}", key.replace('_', "-"), file.display()))
        .collect();
    bench.go(&format!(
        "exec {LEADER} -- secret-add --label pgbouncer-k8s.app {}",
        content.join(" ")
    ));
    // No hook announces the change: any next hook finds it.
    for unit in UNITS {
        bench.go(&format!("trigger {unit} update-status"));
    }
    bench.go("settle");
    assert_taken_over(&mut bench);
    assert!(bench.0.model().secret("pgbouncer-k8s.app").is_none(), "the old label is still there");
    remove(&files);
}

#[test]
fn a_client_related_before_the_backend_is_served() {
    common::stage();
    let mut bench = Bench(Sim::new(&Options::default()).expect("a model"));
    bench.go("deploy ./pgbouncer-k8s -n 2");
    bench.go("deploy actor:postgresql postgresql-k8s");
    bench.client("shop");
    bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("settle");
    bench.assert_served();
}

#[test]
fn a_password_requested_in_a_secret_stays_out_of_the_bag_when_units_join() {
    let mut bench = Bench::deployed("3.6.14", "");
    let requested = std::env::temp_dir().join(format!("requested-{}", std::process::id()));
    std::fs::write(&requested, r#"["username", "password", "uris"]"#).expect("a file");
    bench.go("deploy actor:client shop --config database=shop");
    bench.go(&format!("config shop requested-secrets=@{}", requested.display()));
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:database shop");
    bench.go("settle");
    bench.go("add-unit pgbouncer-k8s");
    bench.go("settle");
    let [id] = bench.0.model().relations_at("pgbouncer-k8s:database")[..] else {
        panic!("one client")
    };
    let bag = bench.0.model().bag(id, "pgbouncer-k8s");
    assert!(!bag.contains_key("password") && !bag.contains_key("uris"), "{:?}", bag.keys());
    bench.assert_served();
    std::fs::remove_file(requested).expect("it is there");
}

#[test]
fn invalid_published_databases_are_repaired_without_an_outage() {
    for unit in [LEADER, FOLLOWER] {
        let mut bench = Bench::serving("3.6.14");
        let good = bench.published();
        bench.go("databag pgbouncer-k8s:pgb-peers pgbouncer-k8s pgb_dbs_config=nonsense");
        bench.go(&format!("step --unit {unit} 1"));
        bench.assert_served();
        bench.go("settle");
        assert_eq!(bench.published(), good);
        bench.assert_served();
    }
}

#[test]
fn a_client_is_answered_only_after_every_unit_admits_it() {
    common::stage();
    let mut bench = Bench(Sim::new(&Options::default()).expect("a model"));
    bench.go("deploy ./pgbouncer-k8s -n 3");
    bench.go("deploy actor:postgresql postgresql-k8s");
    bench.client("shop");
    bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
    let [id] = bench.0.model().relations_at("pgbouncer-k8s:database")[..] else {
        panic!("one client")
    };
    for _ in 0..60 {
        if bench.0.model().bag(id, "pgbouncer-k8s").contains_key("secret-user") {
            break;
        }
        bench.go("step 1");
    }
    bench.assert_served();
}

#[test]
fn a_leader_that_missed_the_end_of_the_backend_reports_its_absence() {
    let mut bench = Bench::serving("3.6.14");
    bench.go("remove-unit pgbouncer-k8s -n 3");
    bench.go("settle");
    bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("settle");
    bench.go("add-unit pgbouncer-k8s");
    bench.go("settle");
    let [unit] = &bench.units()[..] else { panic!("one unit") };
    let status = bench.status(unit);
    assert!(status.starts_with("blocked: waiting for backend database relation"), "{status}");
    let secret = bench.0.model().secret("pgb-peers.pgbouncer-k8s.app").expect("it was made");
    assert_eq!(secret.revisions.values().last().expect("a revision")["auth-file"], "None");
}

#[test]
fn a_backend_related_again_finds_the_same_passwords_of_the_console() {
    let mut bench = Bench::serving("2.9.52");
    let before = bench.peer_bag("pgbouncer-k8s");
    bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("settle");
    bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
    bench.go("settle");
    let after = bench.peer_bag("pgbouncer-k8s");
    for key in ["monitoring_password", "admin_password", "relation_id_3"] {
        assert!(before.contains_key(key) && before[key] == after[key], "{key} changed");
    }
    bench.assert_loaded();
    bench.assert_served();
}

/// A client of PostgreSQL itself, with all rights.
fn deploy_operator(bench: &mut Bench) {
    bench.go("deploy actor:client dba");
    bench.go("config dba database=postgres extra-user-roles=SUPERUSER");
    bench.go("settle");
    bench.go("integrate postgresql-k8s:database dba");
    bench.go("settle");
}

#[test]
fn a_client_whose_role_is_foreign_does_not_stop_the_next() {
    let mut bench = Bench::serving("3.6.14");
    deploy_operator(&mut bench);
    let id = bench.0.model().relations_at("dba:database")[0] + 1;
    bench.go(&format!("sql dba \"CREATE ROLE relation_id_{id}\""));
    for name in ["first", "second"] {
        bench.go(&format!("deploy actor:client {name} --config database={name}"));
        bench.go("settle");
        bench.go(&format!("integrate pgbouncer-k8s:database {name}"));
        bench.go("settle");
    }
    let status = bench.status(LEADER);
    assert!(
        status.starts_with(&format!("blocked: cannot serve first (database:{id}): ")),
        "{status}"
    );
    assert_eq!(
        bench.go(&format!("sql second \"SELECT current_database()\" --through {FOLLOWER}")).trim(),
        "second"
    );
    // Once the operator has removed the role, the first is served too.
    bench.go(&format!("sql dba \"DROP ROLE relation_id_{id}\""));
    bench.go("trigger pgbouncer-k8s/0 update-status");
    bench.go("settle");
    assert_eq!(
        bench.go(&format!("sql first \"SELECT current_database()\" --through {FOLLOWER}")).trim(),
        "first"
    );
}

#[test]
fn a_role_that_could_not_be_dropped_is_dropped_later() {
    let mut bench = Bench::serving("3.6.14");
    deploy_operator(&mut bench);
    let [id] = bench.0.model().relations_at("pgbouncer-k8s:database")[..] else {
        panic!("one client")
    };
    bench.go(&format!("sql shop \"SET ROLE NONE; CREATE TABLE kept (id int)\" --through {LEADER}"));
    bench.go("sql dba \"ALTER DATABASE shop ALLOW_CONNECTIONS false\"");
    bench.go("remove-relation pgbouncer-k8s:database shop");
    bench.go("settle");
    let roles =
        format!("sql dba \"SELECT rolname FROM pg_roles WHERE rolname = 'relation_id_{id}'\"");
    assert!(bench.go(&roles).contains("relation_id"), "it can be dropped");
    assert!(
        bench.status(LEADER).starts_with("blocked: cannot drop role"),
        "{}",
        bench.status(LEADER)
    );
    bench.go("sql dba \"ALTER DATABASE shop ALLOW_CONNECTIONS true\"");
    bench.go("trigger pgbouncer-k8s/0 update-status");
    bench.go("settle");
    assert_eq!(bench.go(&roles).trim(), "");
    assert!(bench.status(LEADER).starts_with("active"), "{}", bench.status(LEADER));
    assert_eq!(bench.peer_bag("pgbouncer-k8s")["pgb_dbs_config"], "{}");
}

#[test]
fn clients_keep_databases_and_passwords_on_another_backend() {
    for juju in ["3.6.14", "2.9.52"] {
        let mut bench = Bench::serving(juju);
        bench.go("deploy actor:postgresql other");
        bench.go("settle");
        bench.go("remove-relation pgbouncer-k8s:backend-database postgresql-k8s");
        bench.go("settle");
        bench.go("integrate pgbouncer-k8s:backend-database other");
        bench.go("settle");
        bench.assert_loaded();
        bench.assert_served();
    }
}

#[test]
fn an_unreadable_password_does_not_stop_updates_of_other_clients() {
    let mut bench = Bench::serving("3.6.14");
    bench.client("crm");
    let ids = bench.0.model().relations_at("pgbouncer-k8s:database");
    let port = |bench: &Bench, id: &u32| {
        let endpoints = bench.0.model().bag(*id, "pgbouncer-k8s")["endpoints"].clone();
        endpoints.rsplit_once(':').expect("host:port").1.to_owned()
    };
    let ports = |bench: &Bench| ids.iter().map(|id| port(bench, id)).collect::<Vec<_>>();
    let step = |bench: &mut Bench, word: &str| {
        bench.go(word);
        bench.go(&format!("step --unit {LEADER} 1"));
        bench.runs().last().expect("it was run").clone()
    };

    // Which of its readings is the first client's shows where nothing is wrong.
    let run = step(&mut bench, "config pgbouncer-k8s listen_port=7001");
    assert_eq!(ports(&bench), ["7001", "7001"]);
    let first = format!("database.{}.user.secret", ids[0]);
    let mut readings = run.calls.iter().filter(|call| call.name == "secret-get");
    let reading =
        readings.position(|call| call.args.contains(&first)).expect("it reads the password") + 1;
    bench.go("settle");

    bench.go(&format!("fail {LEADER} secret-get {reading} --message 'secret not found'"));
    step(&mut bench, "config pgbouncer-k8s listen_port=7002");
    assert_eq!(ports(&bench), ["7001", "7002"]);
    // And it is made up for.
    bench.go("settle");
    assert_eq!(ports(&bench), ["7002", "7002"]);
    bench.assert_served();
}

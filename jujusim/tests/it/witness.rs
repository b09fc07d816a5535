//! An independent charm on `ops`, Python's charm framework: checks that the simulator behaves as
//! the Juju that `ops` was written for. The charm checks in every hook what Juju should guarantee;
//! these tests compare its record with the model.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use jujusim::{Exit, HookRun, Options, Sim};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::puppets::{options, run};
use crate::soak::cases;

/// Keys that Juju or the charm writes into every databag.
const ALIKE: [&str; 11] = [
    "ingress-address",
    "egress-subnets",
    "private-address",
    "blanks",
    "lines",
    "quotes",
    "markup",
    "number",
    "truth",
    "colon",
    "accents",
];

/// Python with this module, as installed by scripts/ops. With `CI=true` it must exist.
pub(crate) fn python(module: &str) -> Option<PathBuf> {
    match jujusim::python_of(module) {
        Ok(venv) => Some(venv),
        Err(error) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{error}");
            // Not `eprintln!`: its output is hidden when a test passes.
            let _ = writeln!(std::io::stderr(), "NOT RUN: a test of a charm in Python: {error}");
            None
        }
    }
}

fn charm() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/charms/witness")
}

/// A model, and the charm with its Python environment, as packing would lay it out.
struct Stage {
    sim: Sim,
    dir: TempDir,
}

impl Stage {
    /// `None` if ops is not installed.
    fn new(juju: &str, commands: &[&str]) -> Option<Stage> {
        let python = python("ops")?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let copied =
            Command::new("cp").arg("-a").arg(charm()).arg(dir.path()).status().expect("cp");
        assert!(copied.success());
        std::os::unix::fs::symlink(python, dir.path().join("witness/venv")).expect("a link");
        let sim = Sim::new(&Options { juju: juju.to_owned(), ..options() }).expect("a new model");
        let mut stage = Stage { sim, dir };
        stage.run(commands);
        Some(stage)
    }

    /// Runs a command; `WITNESS` is the charm's directory.
    fn run(&mut self, commands: &[&str]) {
        for command in commands {
            let command =
                command.replace("WITNESS", &self.dir.path().join("witness").display().to_string());
            run(&mut self.sim, &command);
        }
    }

    fn last(&self) -> &HookRun {
        self.sim.model().hook_runs().last().expect("a run")
    }

    /// Runs an action that must succeed; its results.
    fn action(&mut self, command: &str) -> Value {
        self.run(&[&format!("run {command}")]);
        let run = self.last();
        assert_eq!((&run.exit, &run.failure), (&Exit::Success, &None), "{command}: {}", run.stderr);
        json!(run.results)
    }

    /// The charm's record, after a check that it matches the model.
    fn report(&mut self, unit: &str) -> Value {
        let results = self.action(&format!("{unit} report"));
        let report: Value =
            serde_json::from_str(results["report"].as_str().expect("a report")).expect("JSON");
        let model = self.sim.model();
        let (app, _) = unit.split_once('/').expect("a unit");
        assert_eq!(
            report["leader"],
            model.leader(app).is_some_and(|leader| leader.to_string() == unit)
        );
        assert_eq!(report["planned"], model.units_of(app).len());
        assert_eq!(report["address"], model.unit_address(unit).expect("a unit").to_string());
        assert_eq!(report["juju"], model.version.to_string());
        assert_eq!(report["model"], model.name);
        let status = model.unit_status(unit).expect("a unit");
        assert_eq!(report["status"], json!([status.word, status.message]));
        assert_eq!(hooks_of(&report), ran(model.hook_runs(), unit), "{unit}");
        for relation in report["relations"].as_array().expect("relations") {
            let name = relation["name"].as_str().expect("a name");
            let id = name.rsplit(':').next().and_then(|id| id.parse().ok()).expect("an id");
            let bag = |whose: &str| {
                let mut bag = model.bag(id, whose);
                bag.retain(|key, _| !ALIKE.contains(&key.as_str()));
                json!(bag)
            };
            for (other, seen) in relation["bags"].as_object().expect("bags") {
                assert_eq!(*seen, bag(other), "what {unit} sees of {other} in {name}");
            }
            let remote = relation["app"].as_str().expect("an application");
            assert_eq!(relation["remote"], bag(remote), "what {unit} sees of {remote} in {name}");
            if !relation["own"].is_null() {
                assert_eq!(relation["own"], bag(app), "what {unit} sees of {app} in {name}");
            }
        }
        report
    }

    /// One relation of a report.
    fn relation(&mut self, unit: &str, endpoint: &str) -> Value {
        let report = self.report(unit);
        let mut relations = report["relations"].as_array().expect("relations").iter();
        let named = |relation: &&Value| {
            relation["name"].as_str().is_some_and(|name| name.split(':').next() == Some(endpoint))
        };
        relations.find(named).cloned().unwrap_or_default()
    }

    /// Checks that every hook and action so far ended with 0.
    fn all_ended_well(&self) {
        for run in self.sim.model().hook_runs() {
            assert_eq!(
                run.exit,
                Exit::Success,
                "{} {}:\n{}",
                run.unit,
                run.hook,
                run.log.join("\n")
            );
        }
    }

    /// Checks that the unit's next hook fails with this text in its log.
    fn complains(&mut self, unit: &str, complaint: &str) {
        self.run(&[&format!("step --unit {unit}")]);
        let run = self.last();
        let log = run.log.join("\n");
        assert_eq!((run.unit.as_str(), &run.exit), (unit, &Exit::Code(1)), "{complaint}: {log}");
        assert!(log.contains(complaint), "{complaint}: {log}");
    }

    fn hooks(&self, unit: &str, start: usize) -> Vec<String> {
        let runs = &self.sim.model().hook_runs()[start..];
        runs.iter().filter(|run| run.unit == unit).map(|run| run.hook.clone()).collect()
    }
}

const ACTIONS: [&str; 6] = ["report", "tools", "rotate", "revoke", "schedule", "echo"];

/// The hooks in a report, without the charm's own events and those that may be deferred.
fn hooks_of(report: &Value) -> Vec<String> {
    let events = report["events"].as_array().expect("events").iter().filter_map(Value::as_str);
    let hooks = events.map(|event| event.split([' ', ',']).next().unwrap_or_default().to_owned());
    hooks.filter(|hook| hook != "checked" && hook != "update-status").collect()
}

/// The hooks that ended with 0 since the unit's pod started.
fn ran(runs: &[HookRun], unit: &str) -> Vec<String> {
    let mine = runs.iter().filter(|run| run.unit == unit && run.exit == Exit::Success);
    let mut hooks: Vec<String> = mine.map(|run| run.hook.clone()).collect();
    let fresh = hooks.iter().rposition(|hook| hook == "install" || hook == "upgrade-charm");
    hooks.drain(..fresh.unwrap_or_default());
    hooks.retain(|hook| !ACTIONS.contains(&hook.as_str()) && hook != "update-status");
    hooks
}

#[test]
fn three_units_are_added_and_removed() {
    let Some(mut stage) =
        Stage::new("3.6.14", &["deploy WITNESS -n 2", "settle", "add-unit witness", "settle"])
    else {
        return;
    };
    let peers = stage.relation("witness/0", "peers");
    assert_eq!(peers["units"], json!(["witness/1", "witness/2"]));
    assert_eq!(peers["remote"], json!({"leader": "witness/0"}));
    let first = stage.report("witness/0");
    assert_eq!(
        first["config"],
        json!({"text": "a <b> & c", "number": 1_000_000, "ratio": 1.5, "flag": true})
    );
    assert_eq!(first["app-status"], json!(["active", "led by witness/0"]));
    assert_eq!(first["status"], json!(["active", "ready"]));
    assert_eq!(first["ports"], json!(["53/udp", "6432/tcp"]));
    let elected = "leader-elected".to_owned();
    assert!(hooks_of(&first).contains(&elected), "{first}");
    let third = stage.report("witness/2");
    assert!(!hooks_of(&third).is_empty() && !hooks_of(&third).contains(&elected), "{third}");
    let status = run(&mut stage.sim, "status");
    assert!(status.contains("1.2.3"), "the version of the workload: {status}");

    stage.run(&["config witness text='' number=-7 ratio=2.5 flag=false unset='x: y'", "settle"]);
    let changed = stage.report("witness/1");
    assert_eq!(
        changed["config"],
        json!({"text": "", "number": -7, "ratio": 2.5, "flag": false, "unset": "x: y"})
    );
    assert_eq!(changed["status"], json!(["blocked", "the flag is down"]));

    // A deferred event runs again before the next event of any kind.
    stage.run(&[
        "trigger witness/1 update-status",
        "settle",
        "trigger witness/1 config-changed",
        "settle",
    ]);
    let report = stage.report("witness/1");
    let events: Vec<&Value> =
        report["events"].as_array().expect("events").iter().rev().take(4).collect();
    assert_eq!(events, ["checked 3", "config-changed", "update-status", "update-status, deferred"]);

    stage.run(&["leader witness/1", "settle"]);
    assert_eq!(stage.report("witness/1")["app-status"], json!(["active", "led by witness/1"]));
    assert_eq!(stage.relation("witness/0", "peers")["remote"], json!({"leader": "witness/1"}));

    let start = stage.sim.model().hook_runs().len();
    stage.run(&["replace-pod witness/2", "settle"]);
    assert_eq!(
        stage.hooks("witness/2", start),
        ["stop", "upgrade-charm", "config-changed", "start", "leader-settings-changed"]
    );
    assert_eq!(stage.report("witness/2")["events"][0], "upgrade-charm");

    let start = stage.sim.model().hook_runs().len();
    stage.run(&["remove-unit witness", "settle"]);
    assert_eq!(stage.hooks("witness/0", start), ["peers-relation-departed"]);
    assert_eq!(stage.hooks("witness/2", start).last().map(String::as_str), Some("remove"));
    assert_eq!(stage.relation("witness/0", "peers")["units"], json!(["witness/1"]));
    stage.run(&["remove-application witness", "settle"]);
    assert!(stage.sim.model().units_of("witness").is_empty());
    assert!(stage.sim.model().secret("own").is_none());
    stage.all_ended_well();
}

/// The whole life of a database and its client; on a Juju with secrets, these are granted and
/// rotated.
fn two_applications(juju: &str) -> Option<Stage> {
    let commands = [
        "deploy WITNESS -n 2",
        "deploy WITNESS far",
        "settle",
        "integrate witness:db far:back",
        "settle",
    ];
    let mut stage = Stage::new(juju, &commands)?;
    let secrets = stage.sim.model().version.has_secrets();
    let id = stage.sim.model().relations_at("witness:db")[0];
    let back = stage.relation("far/0", "back");
    assert_eq!(back["units"], json!(["witness/0", "witness/1"]));
    assert_eq!(back["remote"]["generation"], "1");
    assert_eq!(stage.relation("witness/0", "db")["remote"], json!({"seen": "1"}));
    assert_eq!(stage.relation("witness/1", "db")["own"], Value::Null);
    for unit in ["witness/0", "witness/1"] {
        assert_eq!(stage.action(&format!("{unit} tools")), json!({"a.b": "c", "checked": "yes"}));
    }
    if secrets {
        assert_eq!(stage.report("far/0")["secret"], format!("one of {id}"));
    }
    let start = stage.sim.model().hook_runs().len();
    stage.action("witness/0 rotate");
    stage.run(&["settle"]);
    assert_eq!(stage.relation("witness/0", "db")["remote"], json!({"seen": "2"}));
    if secrets {
        assert_eq!(stage.hooks("far/0", start), ["secret-changed", "back-relation-changed"]);
        assert_eq!(stage.report("far/0")["secret"], format!("2 of {id}"));
        let secret = stage.sim.model().secret(&format!("db-{id}")).expect("a secret");
        let revisions: Vec<u32> = secret.revisions.keys().copied().collect();
        assert_eq!(revisions, [2], "the old one was removed when nobody tracked it");
        stage.action("witness/0 revoke");
        assert_eq!(stage.report("far/0")["secret"], "ModelError: ERROR permission denied");
    }
    let start = stage.sim.model().hook_runs().len();
    stage.run(&["remove-relation witness far", "settle"]);
    assert_eq!(
        stage.hooks("far/0", start),
        ["back-relation-departed", "back-relation-departed", "back-relation-broken"]
    );
    assert_eq!(stage.relation("witness/0", "db"), Value::Null);
    assert!(stage.sim.model().secret(&format!("db-{id}")).is_none());
    stage.all_ended_well();
    Some(stage)
}

#[test]
fn two_applications_are_related_and_separated_on_juju_3_6() {
    let Some(mut stage) = two_applications("3.6.14") else { return };
    // Repeat, then remove an application: the relation breaks with the application.
    stage.run(&["integrate witness:db far:back", "settle", "remove-application witness", "settle"]);
    assert_eq!(stage.relation("far/0", "back"), Value::Null);
    stage.all_ended_well();
}

#[test]
fn two_applications_are_related_and_separated_on_juju_2_9_and_4_0() {
    for juju in cases(1, ["4.0.15", "2.9.52"]) {
        two_applications(juju);
    }
}

#[test]
fn actions_and_logs_are_passed_through() {
    let Some(mut stage) = Stage::new("3.6.14", &["deploy WITNESS", "settle"]) else { return };
    let echo = stage.action("witness/0 echo nested='{a: [1, 2]}'");
    assert_eq!(
        echo,
        json!({
            "types.count": "int", "types.crash": "bool", "types.nested": "dict", "types.text": "str",
            "deep.er.text": "hello", "equals": "a=b=c",
        })
    );
    assert!(
        stage.last().log.contains(&"ACTION -another: with a dash".to_owned()),
        "{:?}",
        stage.last().log
    );

    stage.run(&["run witness/0 echo fail='for a reason'"]);
    let run = stage.last();
    assert_eq!((&run.exit, run.failure.as_deref()), (&Exit::Success, Some("for a reason")));
    assert_eq!(run.results["equals"], "a=b=c");

    stage.run(&["run witness/0 echo crash=true"]);
    let run = stage.last();
    assert_eq!(run.exit, Exit::Code(1));
    assert!(
        run.stderr.contains("Uncaught RuntimeError in charm code: as was asked for"),
        "{}",
        run.stderr
    );

    for did in ["add", "change", "look"] {
        assert_eq!(stage.action("witness/0 schedule"), json!({"did": did}));
    }

    let start =
        stage.sim.model().hook_runs().iter().find(|run| run.hook == "start").expect("start");
    let log = start.log.join("\n");
    assert!(log.contains("INFO two lines:\nthe second\nWARNING -x begins with a dash"), "{log}");
    let size: usize =
        start.log.iter().filter_map(|line| line.strip_prefix("ERROR long ")).map(str::len).sum();
    assert!(
        size > 131_000,
        "the first part of a line that is longer than an argument may be: {size}"
    );
}

/// A wrong answer of a tool: the call that gets it, the answer, the command that causes the hook,
/// the complaint.
type Lie = (&'static str, &'static str, &'static str, &'static str);

const LIES: [Lie; 11] = [
    (
        "is-leader",
        "false",
        "trigger witness/0 leader-elected",
        "expected that the unit leads in leader-elected",
    ),
    ("is-leader", "perhaps", "trigger witness/0 leader-elected", "JSONDecodeError"),
    (
        "config-get",
        r#"{"flag":true,"number":"6432","ratio":1.5,"text":"x"}"#,
        "trigger witness/0 config-changed",
        "expected the types of the options",
    ),
    (
        "network-get",
        r#"{"bind-addresses":[],"egress-subnets":[],"ingress-addresses":[]}"#,
        "trigger witness/0 config-changed",
        "expected that the bind address is an address",
    ),
    (
        "opened-ports 2",
        r#"["6432/tcp"]"#,
        "trigger witness/0 start",
        "expected the ports within the hook",
    ),
    (
        "secret-get 2",
        r#"{"token":"other"}"#,
        "trigger witness/0 start",
        "expected the unit's own secret",
    ),
    (
        "secret-info-get",
        r#"{"0123456789abcdefghij":{"revision":2,"label":"own","owner":"unit","rotation":"never"}}"#,
        "trigger witness/0 start",
        "expected the secret's metadata",
    ),
    (
        "relation-list",
        "[]",
        "databag far:back far/0 poke=1",
        "expected that far/0 is in the relation",
    ),
    ("relation-ids", "[]", "databag far:back far/0 poke=2", "expected db is active to be True"),
    (
        "relation-get",
        r#"{"ingress-address":"10.0.0.1","name":"far/9"}"#,
        "databag far:back far/0 poke=3",
        "expected the name in the bag of far/0 to be 'far/0', got 'far/9'",
    ),
    (
        "relation-get",
        "{}",
        "databag far:back far/0 poke=4",
        "expected that an address is in the bag of far/0",
    ),
];

#[test]
fn the_witness_reports_wrong_answers() {
    let commands = [
        "deploy WITNESS",
        "deploy WITNESS far",
        "settle",
        "integrate witness:db far:back",
        "settle",
    ];
    let Some(mut stage) = Stage::new("3.6.14", &commands) else { return };
    for (tool, answer, cause, complaint) in LIES {
        let lie = format!("answer witness/0 {tool} --stdout '{answer}\\n'");
        stage.run(&[cause, &lie]);
        stage.complains("witness/0", complaint);
        stage.run(&["settle"]);
    }
    // Nothing of a failed hook is kept: the event is in the record once.
    stage.report("witness/0");

    stage.run(&[
        "fail witness/0 secret-get --message 'no time for this'",
        "trigger witness/0 start",
    ]);
    stage.complains("witness/0", "ModelError: ERROR no time for this");

    let id = stage.sim.model().relations_at("witness:db")[0];
    stage.run(&["databag witness:db witness generation=9"]);
    stage.complains(
        "far/0",
        "expected the generation of the secret, which the bag says, to be '9', got '1'",
    );
    stage.run(&[&format!("secret-edit db-{id} generation=9"), "settle"]);
    stage.run(&[&format!("secret-edit db-{id} generation=8")]);
    stage.complains(
        "far/0",
        "expected the newest generation of the secret, which the bag says, to be '9', got '8'",
    );
    stage.run(&[
        "databag witness:db witness generation=8",
        "settle",
        "databag witness:db witness/0 lines=one",
    ]);
    stage.complains("far/0", "expected the rest of the bag of witness/0");

    stage.run(&["deploy WITNESS late"]);
    stage.run(&[
        r#"answer late/0 status-get --stdout '{"status":"active","message":"","status-data":{}}'"#,
    ]);
    stage.complains("late/0", "expected the status in install");
    stage.run(&[r#"answer late/0 relation-ids --stdout '["peers:9"]'"#]);
    stage.complains("late/0", "expected the relations in install to be []");
}

#[test]
fn ops_can_read_our_own_charm() {
    let Some(venv) = python("ops") else { return };
    // The charm's directory as it was packed, at its original place.
    let packed = std::env::var_os("PGBOUNCER_K8S_CHARM").map(PathBuf::from);
    let root = packed.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let mut reader = Command::new(venv.join("bin/python"));
    let output = reader.arg(charm().join("read_charm.py")).arg(root).output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(seen["name"], "pgbouncer-k8s");
    assert_eq!(seen["requires"]["backend-database"], json!(["postgresql_client", 1]));
    assert_eq!(seen["provides"]["database"], json!(["postgresql_client", null]));
    assert_eq!(seen["peers"]["pgb-peers"], json!(["pgb_peers", null]));
    assert_eq!(seen["containers"], json!(["pgbouncer"]));
    assert_eq!(seen["resources"], json!({"pgbouncer-image": "oci-image"}));
    assert!(
        seen["options"].as_array().is_some_and(|options| options.contains(&json!("pool_mode"))),
        "{seen}"
    );
    assert!(seen["actions"].as_array().is_some_and(|actions| !actions.is_empty()), "{seen}");
    assert_eq!(seen["undescribed"], json!([]));
}

//! Checks that the documents generated from tables of the charm are current;
//! `UPDATE_DOCS=1 cargo test --test documents` regenerates them.

#![expect(clippy::disallowed_methods, reason = "tests read and write documents")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jujusim::{Options, run_script};
use pgbouncer_k8s::endpoints::metrics_endpoint::RULES;
use pgbouncer_k8s::endpoints::{Service, service};
use pgbouncer_k8s::event::Endpoint;
use pgbouncer_k8s::postgres::{ConnectionError, Refused, Unreachable};
use pgbouncer_k8s::status::{Cause, Kind};
use pgbouncer_k8s::workload::NotLoaded;
use regex::Regex;
use serde_yaml::{Mapping, Value};

const STATUSES: &str = "\
# What `juju status` says

Generated from the table in `src/status.rs` by `UPDATE_DOCS=1 cargo test --test documents`.

A unit with several causes shows the first one in the order of these tables. Every hook recomputes
the status. The application shows the leader's status.

## active

`2 databases, session pooling, port 6432, 2 processes`: what is served, and by how many PgBouncer
processes on this unit. On the leader, `behind: …` names units that do not serve all of it yet, and
`not active: …` names units that have had a trouble of their own for some time: their status shows
it.
";

const OPTIONS: &str = "\
# Options

Generated from `config.yaml` by `UPDATE_DOCS=1 cargo test --test documents`.

`juju config pgbouncer-k8s NAME=VALUE` sets an option, `--reset NAME` resets it. An invalid value
sets the leader's status, and so the application's, to blocked, with option, value and remedy. The
previous values stay in force, and all units keep serving.

| option | type | default | what it does |
| --- | --- | --- | --- |
";

const ACTIONS: &str = "\
# Actions and commands

Generated from `actions.yaml` and the command's `--help` by
`UPDATE_DOCS=1 cargo test --test documents`.

## Actions

`juju run pgbouncer-k8s/0 NAME` runs an action on a unit, `pgbouncer-k8s/leader` on the leader.

| action | parameters | what it does |
| --- | --- | --- |
";

const COMMANDS: &str = "
## Commands

`juju exec --unit pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s COMMAND` runs a command on a unit. `check`
and `--version` also run outside a unit.
";

const RELATIONS: &str = "\
# Relations

Generated from `metadata.yaml` by `UPDATE_DOCS=1 cargo test --test documents`.

| endpoint | interface | this charm | at most | with | state |
| --- | --- | --- | --- | --- | --- |
";

const ALERTS: &str = "\
# Alerts

Generated from `src/endpoints/metrics_endpoint/rules.yaml` by
`UPDATE_DOCS=1 cargo test --test documents`.

The charm gives these rules to Prometheus with the relation `metrics-endpoint`. Each names the unit
(`juju_unit`) and, where it is about one process, the process (`pgbouncer_process`).
[observe.md](observe.md) shows how to relate Prometheus, or to use the rules without Juju.

[observe.md](observe.md#alerts-from-the-logs) lists the alerts that Loki derives from the logs.

No exporter measures whether a process runs its current configuration, or when a certificate ends:
`juju status` shows both.
";

/// A scenario in which the status shows a cause and later no longer does, and a part of the
/// message. `None`: every machine of a scenario has a PgBouncer; see
/// [`a_missing_pgbouncer_is_reported_until_it_is_installed`].
fn shown(cause: Cause) -> Option<(&'static str, &'static str)> {
    Some(match cause {
        Cause::NotOnMachine => return None,
        Cause::NotInImage => ("container-image", "the workload image has no pgbouncer"),
        Cause::NoVersion => ("container-image", "cannot run pgbouncer --version"),
        Cause::Option => ("options", "option listen_port is 70000"),
        Cause::Unreachable => ("backend-lifecycle", "cannot connect to database"),
        Cause::Refused => ("statuses", "drop or rename role"),
        Cause::Backend => ("statuses", "backend database relation not ready"),
        Cause::NoBackend => ("statuses", "waiting for backend database relation to initialise"),
        Cause::Client => ("client-requests", "cannot serve"),
        Cause::NotBuilt => ("not-built", "is not supported yet: remove it"),
        Cause::NoCertificate => ("certificates", "this unit has no certificate"),
        Cause::CertificateRefused => ("certificates", "refuses the request"),
        Cause::OldPebble => ("logging-without-secrets", "cannot forward logs: it needs Juju 3.4"),
        Cause::Away => ("container-restarts", "PgBouncer container currently unavailable"),
        Cause::Peers => ("statuses", "waiting for the peer relation"),
        Cause::Leader => ("statuses", "waiting for the leader to publish its configuration"),
        Cause::Published => ("statuses", "of pgb-peers: cannot take the shared configuration"),
        Cause::NotLoaded => ("client-not-loaded", "cannot write"),
        Cause::Unhealthy => ("container-check", "health check"),
        Cause::NotForwarded => ("container-logging", "cannot forward logs: cannot use"),
        Cause::Units => ("client-units-in-step", "to load a new database"),
        Cause::Admission => ("client-admission", "(pg_hba.conf)"),
        Cause::Certificate => ("certificates", "waiting for a certificate from"),
        Cause::Attempts => ("statuses", "Juju rejected the hook twice"),
    })
}

fn statuses() -> String {
    let mut text = STATUSES.to_owned();
    for kind in [Kind::Blocked, Kind::Waiting] {
        let causes = Cause::ALL.iter().filter(|cause| cause.kind() == kind);
        writeln!(text, "\n## {kind}\n").expect("a String grows");
        text.push_str("| it says | when | what to do |\n| --- | --- | --- |\n");
        for cause in causes {
            let texts =
                if cause.examples().is_empty() { &[cause.says()][..] } else { cause.examples() };
            let texts: Vec<_> =
                texts.iter().map(|text| format!("`{}`", text.replace("{}", "…"))).collect();
            let says = if texts.len() > 1 {
                format!("a reason, such as {}", texts.join("; "))
            } else {
                texts.concat()
            };
            writeln!(text, "| {says} | {} | {} |", cause.when(), cause.remedy())
                .expect("a String grows");
        }
    }
    text
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn yaml(text: &str) -> Mapping {
    serde_yaml::from_str(text).expect("a mapping")
}

/// The description of an entry, as a cell of a table.
fn cell(entry: &Value) -> String {
    let text = entry["description"].as_str().expect("a description");
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn name(key: &Value) -> &str {
    key.as_str().expect("a name")
}

fn options() -> String {
    let mut text = OPTIONS.to_owned();
    let config = yaml(include_str!("../config.yaml"));
    for (option, entry) in config["options"].as_mapping().expect("options") {
        let default = serde_yaml::to_string(&entry["default"]).expect("a value");
        let kind = entry["type"].as_str().expect("a type");
        writeln!(text, "| `{}` | {kind} | `{}` | {} |", name(option), default.trim(), cell(entry))
            .expect("a String grows");
    }
    text
}

fn actions() -> String {
    let mut text = ACTIONS.to_owned();
    for (action, entry) in yaml(include_str!("../actions.yaml")) {
        let parameters = entry.get("params").and_then(Value::as_mapping).into_iter().flatten();
        let parameters: Vec<_> = parameters.map(|(key, _)| format!("`{}`", name(key))).collect();
        writeln!(text, "| `{}` | {} | {} |", name(&action), parameters.join(", "), cell(&entry))
            .expect("a String grows");
    }
    text + COMMANDS + &pgbouncer_k8s::cli::manual()
}

fn alerts() -> String {
    let mut text = ALERTS.to_owned();
    let rules: Value = serde_yaml::from_str(RULES).expect("rules");
    let label = Regex::new(r"\{\{ \$(?:labels\.)?(\w+) \}\}").expect("a pattern");
    for rule in rules["groups"][0]["rules"].as_sequence().expect("rules") {
        let part = |value: &Value| value.as_str().expect("a text").to_owned();
        let [expr, wait] = ["expr", "for"].map(|key| part(&rule[key]));
        let severity = part(&rule["labels"]["severity"]);
        let says = |key: &str| {
            let text = part(&rule["annotations"][key]);
            label.replace_all(&text, "*$1*").into_owned()
        };
        let lines = textwrap(&[
            &format!("{}.", says("summary")),
            &says("description"),
            &format!("**What to do:** {}", says("action")),
        ]);
        writeln!(
            text,
            "\n## {}\n\nSeverity {severity}, after {wait}:\n\n```\n{expr}\n```\n\n{lines}",
            part(&rule["alert"])
        )
        .expect("a String grows");
    }
    text.trim_end().to_owned() + "\n"
}

/// Paragraphs in lines of at most 100 columns.
fn textwrap(paragraphs: &[&str]) -> String {
    let wrap = |paragraph: &&str| {
        let mut lines = vec![String::new()];
        for word in paragraph.split_whitespace() {
            let last = lines.last_mut().expect("a line");
            if last.is_empty() {
                last.push_str(word);
            } else if last.chars().count() + 1 + word.chars().count() > 100 {
                lines.push(word.to_owned());
            } else {
                last.push(' ');
                last.push_str(word);
            }
        }
        lines.join("\n")
    };
    paragraphs.iter().map(wrap).collect::<Vec<_>>().join("\n\n")
}

fn relations() -> String {
    let mut text = RELATIONS.to_owned();
    let metadata = yaml(include_str!("../metadata.yaml"));
    for (section, role) in
        [("requires", "requires it"), ("provides", "provides it"), ("peers", "is its peer")]
    {
        for (key, entry) in metadata[section].as_mapping().expect("endpoints") {
            let endpoint = Endpoint::named(name(key)).expect("the charm knows its endpoints");
            let with = match endpoint {
                Endpoint::BackendDatabase => "`postgresql-k8s`, channels 14 and 16",
                Endpoint::Database => "applications that need a database; `data-integrator`",
                Endpoint::Db | Endpoint::DbAdmin => "applications that use the legacy interface",
                Endpoint::Certificates => {
                    "`self-signed-certificates` and other certificate providers"
                }
                Endpoint::ReceiveCaCert => "applications that provide a CA to trust",
                Endpoint::MetricsEndpoint => "Prometheus",
                Endpoint::GrafanaDashboard => "Grafana",
                Endpoint::Logging => "Loki",
                Endpoint::Tracing => "Tempo",
                Endpoint::Peers | Endpoint::Upgrade => "the application's own units",
            };
            let state = match service(endpoint) {
                Service::NotBuilt => "not supported yet; the status reports it",
                Service::Served => "served",
                Service::Kept => "unchanged from the Python charm",
            };
            let (interface, limit) =
                (entry["interface"].as_str().expect("a name"), entry.get("limit"));
            let limit =
                limit.and_then(Value::as_u64).map(|limit| limit.to_string()).unwrap_or_default();
            writeln!(
                text,
                "| `{endpoint}` | `{interface}` | {role} | {limit} | {with} | {state} |"
            )
            .expect("a String grows");
        }
    }
    text
}

/// Whether a text contains the parts of a form, in order.
fn has_form(text: &str, form: &str) -> bool {
    let mut rest = Some(text);
    form.split("{}").all(|part| {
        rest = rest.and_then(|text| text.split_once(part)).map(|(_, after)| after);
        rest.is_some()
    })
}

#[test]
fn every_reason_is_in_the_reference() {
    let (instance, reason) = (1, String::from("why"));
    let mut made = vec![
        Unreachable {
            hosts: "10.1.0.12:5432".into(),
            database: "pgbouncer".into(),
            user: "relation_id_4".into(),
            source: ConnectionError::Silent(Duration::from_secs(5)),
        }
        .to_string(),
        Refused::RoleNotOurs { role: "r".into(), comment: "c".into() }.to_string(),
        NotLoaded::NotRunning { instance }.to_string(),
        NotLoaded::NotConfirmed { instance, reason: reason.clone() }.to_string(),
        NotLoaded::NotListening { instance, port: 81 }.to_string(),
        NotLoaded::CertificateNotServed { port: 81, reason: reason.clone() }.to_string(),
        NotLoaded::DiskFull { what: "/var/lib/pgbouncer/shared.ini".into() }.to_string(),
        NotLoaded::UserListRefused { instance, reason }.to_string(),
    ];
    for file in [
        "scenarios/client-not-loaded.transcript",
        "scenarios/container-check.transcript",
        "backend.rs",
        "../src/endpoints/certificates.rs",
    ] {
        let text = fs::read_to_string(root().join("tests").join(file)).expect("a text");
        made.extend(text.lines().map(str::to_owned));
    }
    for cause in Cause::ALL {
        assert_eq!(cause.says() == "{}", !cause.examples().is_empty(), "{cause:?}");
        for form in cause.examples() {
            assert!(
                made.iter().any(|text| has_form(text, form)),
                "{cause:?}: no message has the form {form}"
            );
        }
    }
}

/// A dispatch script whose `PATH` has only the hook tools until the file `installed` exists.
const DISPATCH: &str = "#!/bin/sh
[ -e installed ] || PATH=${PATH%%:*}
exec ./bin/pgbouncer-k8s
";

#[test]
fn a_missing_pgbouncer_is_reported_until_it_is_installed() {
    common::stage();
    let charm = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare/pgbouncer-k8s");
    fs::create_dir_all(charm.join("bin")).expect("a directory");
    for file in ["metadata.yaml", "config.yaml", "actions.yaml", "bin/pgbouncer-k8s"] {
        fs::copy(Path::new("pgbouncer-k8s").join(file), charm.join(file))
            .expect("the charm is staged");
    }
    fs::write(charm.join("dispatch"), DISPATCH).expect("a file");
    fs::set_permissions(charm.join("dispatch"), fs::Permissions::from_mode(0o755))
        .expect("our file");
    let script = format!(
        "deploy {}
        settle
        status
        expect {words}
        exec pgbouncer-k8s/0 -- touch installed
        wait 6m
        status
        expect-not {words}
        expect waiting for backend database relation to initialise",
        charm.display(),
        words = Cause::NotOnMachine.says()
    );
    let found = run_script(&script, &Options::default()).expect("the script can run");
    assert!(found.failure.is_none(), "{:?}\n{}", found.failure, found.text);
}

#[test]
fn the_documents_match_the_tables() {
    for (file, text) in [
        ("statuses", statuses()),
        ("options", options()),
        ("actions", actions()),
        ("relations", relations()),
        ("alerts", alerts()),
    ] {
        let path = root().join(format!("docs/{file}.md"));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &text).expect("the document can be written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "docs/{file}.md is out of date: UPDATE_DOCS=1 cargo test --test documents"
        );
    }
}

#[test]
fn the_packed_dashboard_is_the_dashboard() {
    let directory = root().join("src/endpoints/grafana_dashboard");
    let (plain, packed) = (directory.join("dashboard.json"), directory.join("dashboard.json.xz"));
    let xz = |arguments: &[&str], file: &Path| {
        let output = Command::new("xz").args(arguments).arg(file).output().expect("xz runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&packed, xz(&["-9", "--extreme", "--stdout"], &plain)).expect("it is written");
    }
    let text = String::from_utf8(xz(&["--decompress", "--stdout"], &packed)).expect("it is text");
    assert!(
        text == fs::read_to_string(&plain).expect("the dashboard"),
        "the packed dashboard is out of date: UPDATE_DOCS=1 cargo test --test documents"
    );
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    // With another uid Grafana shows a second dashboard; the Python charm's has version 2.
    assert_eq!(dashboard["uid"], "2edd6e8110bfca03fc5cef1f0af8c3367c68d5d9");
    assert!(dashboard["version"].as_u64() > Some(2));
}

#[test]
fn each_cause_appears_and_disappears_in_a_scenario() {
    let mut missing = Vec::new();
    for cause in Cause::ALL {
        let Some((scenario, words)) = shown(*cause) else { continue };
        let path = root().join(format!("tests/scenarios/{scenario}.txt"));
        let script = fs::read_to_string(&path).unwrap_or_default();
        // An `expect` line checks the output of the command before it.
        let mut printed = "";
        let mut lines = script.lines().filter(|line| {
            if !line.starts_with("expect") {
                printed = line;
            }
            printed == "status"
        });
        let mut finds = |word: &str| {
            lines.any(|line| line.strip_prefix(word).is_some_and(|rest| rest.contains(words)))
        };
        if !(finds("expect ") && finds("expect-not ")) {
            missing.push(format!(
                "{cause:?}: after \"status\" {scenario} must have \"expect …{words}…\", and later \"expect-not \
                 …{words}…\""
            ));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

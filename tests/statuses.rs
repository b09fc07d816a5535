//! `docs/statuses.md` is the table of causes: `UPDATE_DOCS=1 cargo test --test statuses` writes it.

#![expect(clippy::disallowed_methods, reason = "tests read and write documents")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use pgbouncer_k8s::status::{Cause, Kind};

const HEAD: &str = "\
# What `juju status` says

Written from the table in `src/status.rs` by `UPDATE_DOCS=1 cargo test --test statuses`.

A unit that has several things to tell shows the first of them in the order of these tables. None outlasts its cause: each
hook finds out anew. The leader shows its own status as the application's, too.

## active

`2 databases, session pooling, port 6432, 2 processes`: what is served, and by how many processes of PgBouncer on this unit. On
the leader, `behind: …` names units that do not serve all of it yet.
";

/// A scenario in which a cause comes and goes, and the words of the status that show it there. `None`: every machine
/// of a simulated model has a PgBouncer.
fn shown(cause: Cause) -> Option<(&'static str, &'static str)> {
    Some(match cause {
        Cause::NotOnMachine => return None,
        Cause::NotInImage => ("container-image", "cannot find pgbouncer in the workload's image"),
        Cause::NoVersion => ("container-image", "cannot run pgbouncer --version"),
        Cause::Option => ("options", "option listen_port is 70000"),
        Cause::Unreachable => ("backend-lifecycle", "cannot connect to database"),
        Cause::Refused => ("statuses", "drop or rename role"),
        Cause::BackendNotReady => ("statuses", "backend database relation not ready"),
        Cause::NoBackend => ("statuses", "waiting for backend database relation to initialise"),
        Cause::Client => ("client-requests", "cannot serve"),
        Cause::NotBuilt => ("not-built", "is not supported yet: remove it"),
        Cause::Away => ("container-restarts", "PgBouncer container currently unavailable"),
        Cause::Peers => ("statuses", "waiting for the peer relation"),
        Cause::Leader => ("statuses", "waiting for the leader to publish its configuration"),
        Cause::Published => ("statuses", "of pgb-peers: cannot take the shared configuration"),
        Cause::NotLoaded => ("client-not-loaded", "cannot write"),
        Cause::NotHealthy => ("container-check", "health check"),
        Cause::Units => ("client-units-in-step", "to load a new database"),
        Cause::Admission => ("client-admission", "(pg_hba.conf)"),
        Cause::Attempts => ("statuses", "twice; trying again soon"),
    })
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    for kind in [Kind::Blocked, Kind::Waiting] {
        let causes = Cause::ALL.iter().filter(|cause| cause.kind() == kind);
        writeln!(text, "\n## {kind}\n").expect("a String grows");
        text.push_str("| it says | when | what to do |\n| --- | --- | --- |\n");
        for cause in causes {
            let says = if cause.says() == "{}" {
                "*the reason*".to_owned()
            } else {
                format!("`{}`", cause.says().replace("{}", "…"))
            };
            writeln!(text, "| {says} | {} | {} |", cause.when(), cause.remedy()).expect("a String grows");
        }
    }
    text
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn the_document_is_the_table() {
    let path = root().join("docs/statuses.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, document()).expect("the document can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == document(), "docs/statuses.md is out of date: UPDATE_DOCS=1 cargo test --test statuses");
}

#[test]
fn a_scenario_shows_each_cause_come_and_go() {
    let mut missing = Vec::new();
    for cause in Cause::ALL {
        let Some((scenario, words)) = shown(*cause) else { continue };
        let path = root().join(format!("tests/scenarios/{scenario}.txt"));
        let script = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = script.lines();
        let mut finds =
            |word: &str| lines.any(|line| line.strip_prefix(word).is_some_and(|rest| rest.contains(words)));
        if !(finds("expect ") && finds("expect-not ")) {
            missing.push(format!(
                "{cause:?}: {scenario} must have \"expect …{words}…\", and later \"expect-not …{words}…\""
            ));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

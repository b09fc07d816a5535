//! The actions and their results. An action that is not implemented fails and says so.

use std::rc::Rc;

use anyhow::Result;

use crate::event::{Event, Unit};
use crate::hook::{self, Counted};
use crate::journal::{Journal, Outcome};
use crate::juju::Juju;

/// Runs an action and passes its results, or its failure, to Juju.
pub fn run(action: &str, unit: &Unit) -> Result<()> {
    let results = match action {
        // As after a refresh, every note of earlier hooks is verified.
        "reconcile" => {
            let outcome = hook::run(unit, &Event::UpgradeCharm, Journal::real(), Counted::Loaded)?;
            Ok(reconciled(&outcome))
        }
        "show-config" => {
            let outcome =
                hook::run(unit, &Event::ConfigChanged, Journal::dry_run(), Counted::Nothing)?;
            configuration(&outcome)
        }
        _ => Err(refusal(action)),
    };
    let mut juju = Juju::new(&unit.app, &unit.name, Rc::new(Journal::real()));
    match results {
        Ok(results) => juju.set_results(&results)?,
        Err(reason) => juju.fail_action(&reason)?,
    }
    Ok(())
}

/// The longest result in bytes: a result is one argument of a hook tool.
const LONGEST: usize = 131_000;

/// Results by name, or the reason why the action fails.
type Results = Result<Vec<(&'static str, String)>, String>;

/// The results of `reconcile`.
fn reconciled(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let lines =
        |lines: Vec<String>| if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") };
    let changes =
        outcome.changes.iter().map(|change| format!("{}: {}", change.target, change.what));
    let status = outcome.status.as_ref();
    vec![
        ("done", lines(changes.collect())),
        ("waits-for", lines(outcome.waits.clone())),
        (
            "status",
            status.map(|status| format!("{}: {}", status.kind, status.message)).unwrap_or_default(),
        ),
    ]
}

/// The results of `show-config`: the configuration that this unit's processes should run, without
/// the user list, which holds passwords.
fn configuration(outcome: &Outcome) -> Results {
    let files = outcome.files.as_ref();
    let Some((files, first)) = files.and_then(|files| Some((files, files.instances.first()?)))
    else {
        return Err(format!(
            "cannot show the configuration: there is none yet; {}",
            outcome.waits.join("; ")
        ));
    };
    if first.text.len() > LONGEST {
        return Err(
            "cannot show the configuration: it is longer than an action result may be; run juju exec \
             --unit UNIT -- ./bin/pgbouncer-k8s render"
                .to_owned(),
        );
    }
    Ok(vec![
        ("pgbouncer-version", files.version.to_string()),
        ("processes", files.instances.len().to_string()),
        ("users", files.users.0.len().to_string()),
        ("pgbouncer-ini", first.text.clone()),
    ])
}

/// The reason for the failure of an action that is not implemented.
fn refusal(action: &str) -> String {
    match action {
        "set-tls-private-key" => {
            "set-tls-private-key is not supported yet: this revision serves without TLS".into()
        }
        "pre-upgrade-check" | "resume-upgrade" => {
            format!(
                "{action} is not supported yet: run juju refresh without it; Juju upgrades one unit \
                 after another"
            )
        }
        _ => format!("cannot run {action}: there is no such action; see actions.yaml"),
    }
}

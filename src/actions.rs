//! The actions and their results. An action that is not implemented fails and says so.

use std::rc::Rc;

use anyhow::Result;

use crate::event::{Event, RelationId, Unit};
use crate::hook::{self, Counted};
use crate::journal::{Change, Journal, Outcome, Target};
use crate::juju::Juju;
use crate::look::Look;
use crate::x509::PrivateKey;

/// Runs an action and passes its results, or its failure, to Juju.
pub fn run(action: &str, unit: &Unit) -> Result<()> {
    let mut juju = Juju::new(&unit.app, &unit.name, Rc::new(Journal::real()));
    let results = match action {
        // As after a refresh, every note of earlier hooks is verified.
        "reconcile" => {
            let outcome = hook::run(unit, &Event::UpgradeCharm, Journal::real(), Counted::Loaded)?;
            let name = |relation: &str| {
                let app = relation.parse().ok().and_then(|id| juju.remote_app(RelationId(id)).ok());
                match app.flatten() {
                    Some(app) if app == unit.app => "the other units".to_owned(),
                    Some(app) => app,
                    None => format!("relation {relation}"),
                }
            };
            Ok(reconciled(&outcome, name))
        }
        "set-tls-private-key" => match new_key(&mut juju)? {
            Ok(key) => {
                Ok(reconciled(&hook::run_with_key(unit, key)?, |_| "the provider".to_owned()))
            }
            Err(reason) => Err(reason),
        },
        "show-config" => {
            let outcome =
                hook::run(unit, &Event::ConfigChanged, Journal::dry_run(), Counted::Nothing)?;
            configuration(&outcome)
        }
        _ => Err(refusal(action)),
    };
    match results {
        Ok(results) => juju.set_results(&results)?,
        Err(reason) => juju.fail_action(&reason)?,
    }
    Ok(())
}

/// The key that the action brings, or a generated one.
fn new_key(juju: &mut Juju) -> Result<std::result::Result<PrivateKey, String>> {
    let Some(text) = juju.action_parameter("private-key")? else {
        return Ok(Ok(Look::fresh_key()?));
    };
    let key = PrivateKey::parse(text.reveal());
    Ok(key.map_err(|error| format!("cannot use the private key: {error}")))
}

/// The longest result in bytes: a result is one argument of a hook tool.
const LONGEST: usize = 131_000;

/// Results by name, or the reason why the action fails.
type Results = Result<Vec<(&'static str, String)>, String>;

/// The results of `reconcile`. `name` names the other side of a relation.
fn reconciled(
    outcome: &Outcome,
    mut name: impl FnMut(&str) -> String,
) -> Vec<(&'static str, String)> {
    let lines =
        |lines: Vec<String>| if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") };
    let changes = outcome.changes.iter().filter_map(|change| in_words(change, &mut name));
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

/// A change in words for the operator: with the names of applications, not with the hook tool that
/// made it. `None` for the charm's own records and for the status, which is another result.
fn in_words(change: &Change, name: &mut impl FnMut(&str) -> String) -> Option<String> {
    let Change { target, what } = change;
    match target {
        Target::Unit => return None,
        Target::Postgresql | Target::Pgbouncer => return Some(format!("{target}: {what}")),
        Target::Juju => {}
    }
    let words: Vec<&str> = what.split(' ').collect();
    let keys: Vec<&str> =
        words.iter().filter_map(|word| word.split_once('=')).map(|(key, _)| key).collect();
    let keys = keys.join(", ");
    Some(match words.as_slice() {
        ["status-set" | "state-set" | "state-delete", ..] => return None,
        ["relation-set", "-r", id, ..] => format!("{}: publish {keys}", name(id)),
        ["secret-grant", _, "-r", id, ..] => format!("{}: grant a secret", name(id)),
        ["secret-add" | "secret-set", ..] => format!("juju: write a secret with {keys}"),
        ["secret-remove", ..] => "juju: remove a secret that is no longer read".to_owned(),
        ["open-port", port] => format!("juju: open port {port}"),
        ["close-port", port] => format!("juju: close port {port}"),
        ["application-version-set", version] => format!("juju: show the version {version}"),
        _ => format!("juju: {what}"),
    })
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
        "pre-upgrade-check" | "resume-upgrade" => {
            format!(
                "{action} is not supported yet: run juju refresh without it; Juju upgrades one unit \
                 after another"
            )
        }
        _ => format!("cannot run {action}: there is no such action; see actions.yaml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconcile_reports_in_words_and_names_applications() {
        let mut name = |relation: &str| match relation {
            "0" => "the other units".to_owned(),
            _ => "shop".to_owned(),
        };
        for (target, what, words) in [
            (Target::Unit, "record an attempt to answer database:3", None),
            (Target::Pgbouncer, "reload instance 0", Some("pgbouncer: reload instance 0")),
            (Target::Postgresql, "drop the role a", Some("postgresql: drop the role a")),
            (Target::Juju, "state-set a=… b=…", None),
            (Target::Juju, "status-set active -- 1 database", None),
            (
                Target::Juju,
                "relation-set -r 0 --app cfg_file=… newest_clients=",
                Some("the other units: publish cfg_file, newest_clients"),
            ),
            (Target::Juju, "relation-set -r 3 --app endpoints=…", Some("shop: publish endpoints")),
            (Target::Juju, "secret-grant secret:‹1› -r 3", Some("shop: grant a secret")),
            (
                Target::Juju,
                "secret-set secret:‹1› --label database.3.user.secret password=… uris=…",
                Some("juju: write a secret with password, uris"),
            ),
            (
                Target::Juju,
                "secret-remove a --revision 2",
                Some("juju: remove a secret that is no longer read"),
            ),
            (Target::Juju, "open-port 6432/tcp", Some("juju: open port 6432/tcp")),
            (Target::Juju, "new-tool x", Some("juju: new-tool x")),
        ] {
            let change = Change { target, what: what.to_owned() };
            assert_eq!(in_words(&change, &mut name).as_deref(), words, "{what}");
        }
    }
}

//! What those who run an action are told. Actions whose part is not built yet say so instead of pretending.

use crate::outcome::Outcome;
use crate::workload::Files;

/// The most that one result may hold, in bytes: it is one argument of a hook tool.
const LONGEST: usize = 131_000;

/// Results by name, or why the action fails.
pub type Results = Result<Vec<(&'static str, String)>, String>;

/// What `reconcile` did.
pub fn reconciled(outcome: &Outcome) -> Results {
    let lines = |lines: Vec<String>| if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") };
    let deeds = outcome.deeds.iter().map(|deed| format!("{}: {}", deed.at, deed.what));
    let status = outcome.status.as_ref();
    Ok(vec![
        ("done", lines(deeds.collect())),
        ("waits-for", lines(outcome.waits.clone())),
        ("status", status.map(|status| format!("{}: {}", status.kind, status.message)).unwrap_or_default()),
    ])
}

/// What this unit's processes are to run. The user list has passwords and is not shown.
pub fn configuration(files: Option<&Files>, outcome: &Outcome) -> Results {
    let Some((files, first)) = files.and_then(|files| Some((files, files.instances.first()?))) else {
        return Err(format!("there is no configuration yet: {}", outcome.waits.join("; ")));
    };
    if first.text.len() > LONGEST {
        return Err(
            "the configuration is longer than the result of an action may be: juju exec --unit UNIT -- \
                    ./bin/pgbouncer-k8s render"
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

/// Why an action fails that does nothing.
pub fn refusal(action: &str) -> String {
    match action {
        "set-tls-private-key" => {
            "set-tls-private-key is not supported yet: this revision serves without TLS".into()
        }
        "pre-upgrade-check" | "resume-upgrade" => {
            format!("{action} is not supported yet: run juju refresh without it, all units follow one by one")
        }
        _ => format!("there is no action {action}"),
    }
}

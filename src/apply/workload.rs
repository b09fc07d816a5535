//! Performs the load of files into the processes.

use std::collections::BTreeSet;

use crate::journal::Target;
use crate::look::Look;
use crate::plan::Effect;
use crate::status::Wait;
use crate::workload::{Done, Files, LogTargets, NotLoaded};

/// The failure of a load.
pub(super) struct Failed {
    /// The reason, for the status.
    pub(super) wait: Wait,
    /// A process cannot listen on its port.
    pub(super) is_port_refused: bool,
}

/// Writes the files and makes each process load them, one after another. A dry run only predicts
/// which processes would reload or restart.
pub(super) fn load(files: &Files, look: &mut Look<'_>) -> Result<(), Failed> {
    tracing::debug!("load {} users into {} processes", files.users.0.len(), files.instances.len());
    let left_out: BTreeSet<_> =
        files.instances.iter().flat_map(|instance| &instance.left_out).collect();
    for name in left_out {
        tracing::warn!(
            "left {name} out of pgbouncer.ini: PgBouncer {} does not know it; no action is needed",
            files.version
        );
    }
    let handles = look.handles();
    let is_dry_run = handles.journal.is_dry_run();
    let done =
        if is_dry_run { handles.workload.foresee(files) } else { handles.workload.load(files) };
    match done {
        Ok(done) => {
            for instance in &done.loaded {
                let how = if done.restarted.contains(instance) { "restart" } else { "reload" };
                handles.journal.note(Target::Pgbouncer, format!("{how} instance {instance}"));
            }
            tracing::info!("{}", loaded(&done, files));
            handles.loaded_files = Some(files.clone());
            Ok(())
        }
        Err(error) => {
            tracing::warn!("{error}");
            let refused_port = match error {
                NotLoaded::NotListening { port, .. } => Some(port),
                _ => None,
            };
            if refused_port.is_some() {
                look.notes_mut().refused_port = refused_port;
            }
            let wait = Wait::NotLoaded(error.to_string());
            Err(Failed { wait, is_port_refused: refused_port.is_some() })
        }
    }
}

/// Makes Pebble forward the output of every process.
pub(super) fn forward_logs(
    targets: &LogTargets,
    effect: &Effect,
    look: &mut Look<'_>,
) -> Option<Wait> {
    let handles = look.handles();
    if !handles.journal.permits(Target::Pgbouncer, effect.to_string()) {
        return None;
    }
    let error = handles.workload.forward_logs(targets).err()?;
    tracing::warn!("cannot forward logs: {error}");
    Some(Wait::NotForwarded(error.to_string()))
}

fn loaded(done: &Done, files: &Files) -> String {
    let digest = files.instances.first().map_or("nothing", |instance| &instance.digest);
    let restarted = |instance| if done.restarted.contains(instance) { " (restarted)" } else { "" };
    let loaded: Vec<_> =
        done.loaded.iter().map(|instance| format!("{instance}{}", restarted(instance))).collect();
    format!("PgBouncer runs {digest}, loaded by instance {}", loaded.join(", "))
}

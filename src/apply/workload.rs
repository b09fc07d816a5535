//! Loads files into the processes.

use std::collections::BTreeSet;

use crate::journal::Target;
use crate::look::Look;
use crate::status::Wait;
use crate::workload::{Done, Files, NotLoaded};

/// Why a load did not come to its end.
pub(super) struct Failed {
    /// What is waited for.
    pub(super) wait: Wait,
    /// A process cannot have its port.
    pub(super) is_port_refused: bool,
}

/// Puts the files in place and lets each process load them, one after another. In a dry run it only
/// finds out what that would take.
pub(super) fn load(files: &Files, look: &mut Look<'_>) -> Result<(), Failed> {
    tracing::debug!("load {} users into {} processes", files.users.0.len(), files.instances.len());
    let left_out: BTreeSet<_> = files.instances.iter().flat_map(|instance| &instance.left_out).collect();
    for name in left_out {
        tracing::warn!("left {name} out of pgbouncer.ini: PgBouncer {} does not know it", files.version);
    }
    let clients = look.clients();
    let is_dry_run = clients.journal.is_dry_run();
    let done = if is_dry_run { clients.workload.foresee(files) } else { clients.workload.load(files) };
    match done {
        Ok(done) => {
            for instance in &done.loaded {
                let how = if done.restarted.contains(instance) { "restart" } else { "reload" };
                clients.journal.note(Target::Pgbouncer, format!("{how} instance {instance}"));
            }
            tracing::info!("{}", loaded(&done, files));
            clients.given = Some(files.clone());
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

fn loaded(done: &Done, files: &Files) -> String {
    let digest = files.instances.first().map_or("nothing", |instance| &instance.digest);
    let restarted = |instance| if done.restarted.contains(instance) { " (restarted)" } else { "" };
    let loaded: Vec<_> =
        done.loaded.iter().map(|instance| format!("{instance}{}", restarted(instance))).collect();
    format!("PgBouncer runs {digest}, loaded by instance {}", loaded.join(", "))
}

//! Performs a plan and decides nothing: one `match` over steps, and one over effects.

mod juju;
mod postgres;
mod workload;

use anyhow::{Context as _, Result};

use crate::attempts::CANNOT_WRITE;
use crate::journal::Target;
use crate::look::Look;
use crate::plan::{Effect, Note, Plan, Step};
use crate::status::Wait;

/// Performs the steps in order, and returns the plan's waits. If a change is not possible yet, its
/// reason becomes a wait and the remaining steps are skipped. An error fails the hook, and Juju
/// retries it.
pub fn apply(plan: &Plan, look: &mut Look<'_>) -> Result<Vec<Wait>> {
    let mut waits = plan.waits.clone();
    for step in &plan.steps {
        match step {
            Step::Do(effect) => {
                if let Some(wait) = perform(effect, look)? {
                    waits.push(wait);
                    return Ok(waits);
                }
            }
            Step::Apart(part) => waits.extend(apply(part, look)?),
            Step::Load { files, without_port } => {
                let Err(failed) = workload::load(files, look) else { continue };
                match without_port.as_ref().filter(|_| failed.is_port_refused) {
                    Some(plan) => waits.extend(apply(plan, look)?),
                    None => waits.push(failed.wait),
                }
                return Ok(waits);
            }
        }
    }
    Ok(waits)
}

/// Performs one effect. Returns a wait if the effect is not possible yet.
fn perform(effect: &Effect, look: &mut Look<'_>) -> Result<Option<Wait>> {
    if !matches!(effect, Effect::Set(..) | Effect::Note(_) | Effect::Warn(_)) {
        tracing::debug!("{effect}");
    }
    match effect {
        Effect::Set(bag, key, value) => {
            if juju::set(*bag, key, value, look)? {
                tracing::debug!("{effect}");
            }
        }
        Effect::SetPeerSecret { content, adopt } => {
            juju::set_peer_secret(content, adopt.as_deref(), look)?;
        }
        Effect::SetUnitSecret { content, adopt } => {
            juju::set_unit_secret(content, adopt.as_deref(), look)?;
        }
        Effect::SetClientSecret(relation, group, content) => {
            juju::set_client_secret(*relation, group, content, look)?;
        }
        Effect::RemoveSecretRevision { id, revision } => {
            juju::remove_revision(id, *revision, look)?;
        }
        Effect::ForgetClient(relation) => juju::forget_client(*relation, look)?,
        Effect::OpenPort { port, close } => {
            let juju = &mut look.handles().juju;
            close.map_or(Ok(()), |close| juju.close_port(close))?;
            juju.open_port(*port)?;
        }
        Effect::ForwardLogs(targets) => return Ok(workload::forward_logs(targets, effect, look)),
        Effect::SetVersion(version) => look.handles().juju.set_version(version)?,
        Effect::EnsureAuthRole { .. }
        | Effect::RemoveAuth { .. }
        | Effect::InstallGetAuth { .. }
        | Effect::EnsureClient(_)
        | Effect::AwaitAdmission { .. }
        | Effect::DropStrays { .. }
        | Effect::DropClient { .. } => return postgres::perform(effect, look),
        Effect::NoteAttempt(_) | Effect::ClearAttempts => {
            let handles = look.handles();
            if handles.journal.permits(Target::Unit, effect.to_string()) {
                let done = match effect {
                    Effect::NoteAttempt(relation) => handles.attempts.note(*relation),
                    _ => handles.attempts.clear(),
                };
                done.context(CANNOT_WRITE)?;
            }
        }
        Effect::Note(note) => take_note(note, look),
        Effect::Warn(text) => tracing::warn!("{text}"),
    }
    Ok(None)
}

fn take_note(note: &Note, look: &mut Look<'_>) {
    let notes = look.notes_mut();
    match note {
        Note::OpenPort(port) => notes.open_port = Some(*port),
        Note::Clients(clients) => notes.clients.clone_from(clients),
        Note::Client(relation, note) => {
            notes.clients.notes.insert(*relation, *note);
        }
        Note::Endpoint(endpoint, note) => notes.set(*endpoint, note),
        Note::Tracing(note) => notes.tracing.clone_from(note),
        Note::LogUrls(relations) => notes.log_urls.clone_from(relations),
        Note::Certificate(note) => notes.certificate = Some(note.clone()),
        Note::ClientDone(relation) => {
            notes.clients.notes.remove(relation);
        }
    }
}

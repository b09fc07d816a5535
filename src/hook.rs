//! One dispatch: gathers, decides and applies each row that is due, computes the status, and passes
//! all databag and state changes to Juju at the end.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use crate::apply::apply;
use crate::attempts::CANNOT_WRITE;
use crate::endpoints::{Row, TABLE, backend_database};
use crate::event::{Endpoint, Event, RelationEvent, RelationHook, Unit, WorkloadHook};
use crate::facts::units;
use crate::journal::{Journal, Outcome};
use crate::juju::Owner;
pub use crate::look::Counted;
use crate::look::{Handles, Look};
use crate::notes::{Leaving, TracingNote, Trust};
use crate::peer_bag::{SCRAM, TROUBLE};
use crate::plan::Bag;
use crate::printable;
use crate::spans;
use crate::status::{self, Scope, Status, Wait};
use crate::x509::PrivateKey;

/// The longest text of a wait in an outcome, in characters.
const LONGEST: usize = 10_000;

/// Handles one event, really or as a dry run. An error fails the hook: Juju then discards the
/// uncommitted changes and retries the hook.
pub fn run(unit: &Unit, event: &Event, journal: Journal, counted: Counted) -> Result<Outcome> {
    run_with(unit, event, Handles::new(unit, journal), counted)
}

/// Handles one event as Juju's hook. Also returns where to send the trace.
pub fn dispatch(unit: &Unit, event: &Event) -> (Result<()>, Option<TracingNote>) {
    let mut handles = Handles::new(unit, Journal::real());
    let done = converge(unit, event, &mut handles, Counted::Loaded).map(drop);
    (done, handles.tracing)
}

/// As [`run`], with a new private key for this unit.
pub fn run_with_key(unit: &Unit, key: PrivateKey) -> Result<Outcome> {
    let mut handles = Handles::new(unit, Journal::real());
    handles.new_key = Some(key);
    run_with(unit, &Event::ConfigChanged, handles, Counted::Loaded)
}

fn run_with(unit: &Unit, event: &Event, mut handles: Handles, counted: Counted) -> Result<Outcome> {
    let (waits, status) = converge(unit, event, &mut handles, counted)?;
    let waits = waits.iter().map(|wait| printable::line(&wait.to_string(), LONGEST)).collect();
    Ok(Outcome { waits, status, files: handles.loaded_files.take(), ..handles.journal.outcome() })
}

fn converge(
    unit: &Unit,
    event: &Event,
    handles: &mut Handles,
    counted: Counted,
) -> Result<(BTreeSet<Wait>, Option<Status>)> {
    let mut waits = BTreeSet::new();
    if !event.converges() {
        if is_reset(event) && !handles.journal.is_dry_run() {
            // After `stop` Juju sets a status of its own.
            handles.last_status.forget(Scope::Unit).context(CANNOT_WRITE)?;
        }
        return Ok((waits, None));
    }
    // In `install` Juju does not list the peer relation yet.
    let opened = match event {
        Event::Install => None,
        _ => Look::open(unit, event, counted, handles)?,
    };
    let Some(mut look) = opened else {
        waits.insert(Wait::Peers);
        let status = status::of(&waits, "");
        show(Scope::Unit, &status, event, handles)?;
        return Ok((waits, Some(status)));
    };
    let look = &mut look;
    if look.ended(Endpoint::Peers).is_some() {
        // The unit is being removed: without a peer relation it has nothing to converge.
        look.notes_mut().peers = None;
        commit(look)?;
        return Ok((waits, None));
    }
    read_event(look)?;
    if is_last(look) {
        return leave(look);
    }
    let (mut ran, mut deferred) = (Vec::new(), Vec::new());
    for row in &TABLE {
        // A client that one row enters is answered by another row of the same name.
        if !ran.contains(&row.name) && !row.is_due(look)? {
            continue;
        }
        ran.push(row.name);
        let row_waits = spans::within(row.name, || apply(&row.plan(look)?, look))?;
        remember(row, &row_waits, &mut deferred);
        waits.extend(row_waits);
    }
    look.notes_mut().deferred = deferred;
    look.note_users()?;

    if waits.is_empty() {
        waits.extend(look.unhealthy());
    }
    for wait in &waits {
        tracing::debug!("wait: {wait}");
    }
    report_trouble(look, &waits)?;
    let serving = if waits.is_empty() { look.serving()? } else { String::new() };
    let status = status::of(&waits, &serving);
    let leads = look.is_leader()?;
    let following = &mut look.notes_mut().following;
    *following = following.after(leads);
    if leads {
        look.note_options()?;
        show(Scope::Application, &status, event, look.handles())?;
    } else {
        // Of use only to the leader, and a new leader reads all of them again.
        look.notes_mut().siblings.clear();
        look.notes_mut().client_relations = None;
        look.notes_mut().options = None;
        if !look.handles().journal.is_dry_run() {
            // Another leader sets another status meanwhile.
            look.handles().last_status.forget(Scope::Application).context(CANNOT_WRITE)?;
        }
    }
    commit(look)?;
    show(Scope::Unit, &status, event, look.handles())?;
    Ok((waits, Some(status)))
}

/// Handles the last hooks of a unit that is being removed. A leader whose whole application is
/// removed cleans up PostgreSQL once; nothing else is left to do.
fn leave(look: &mut Look<'_>) -> Result<(BTreeSet<Wait>, Option<Status>)> {
    let mut waits = BTreeSet::new();
    let mut shown = None;
    if look.ended(Endpoint::Tracing).is_some() {
        // No trace goes to the provider of a relation that has ended.
        look.notes_mut().tracing = None;
    }
    if look.notes().leaving == Leaving::Unfinished
        && look.is_leader()?
        && look.is_whole_application_leaving()?
    {
        look.note_relation()?;
        let plan = backend_database::plan(look)?;
        waits.extend(apply(&plan, look)?);
        shown = Some(if waits.is_empty() {
            look.notes_mut().leaving = Leaving::Finished;
            // An application that is scaled to zero may get units again.
            (Scope::Application, status::of(&BTreeSet::from([Wait::Leader]), ""))
        } else {
            (Scope::Unit, status::of(&waits, ""))
        });
    }
    commit(look)?;
    if let Some((scope, status)) = &shown {
        let event = look.event();
        show(*scope, status, event, look.handles())?;
    }
    Ok((waits, shown.map(|(_, status)| status)))
}

/// Whether this is one of the last hooks of a unit that is being removed: they end its relations.
fn is_last(look: &Look<'_>) -> bool {
    let is_end = matches!(look.event(), Event::Relation(RelationEvent { hook, .. })
        if matches!(hook, RelationHook::Departed | RelationHook::Broken));
    is_end && look.notes().leaving != Leaving::No
}

/// Records the facts in the event about relations and units, and decides which notes are still
/// trusted.
fn read_event(look: &mut Look<'_>) -> Result<()> {
    if look.notes().leaving == Leaving::No && is_leaving(look)? {
        look.notes_mut().leaving = Leaving::Unfinished;
    }
    if is_last(look) {
        return Ok(());
    }
    look.note_relation()?;
    let is_ours = *look.event() != Event::LeaderElected || look.published()?.is_ours();
    look.set_trust(Trust::in_hook(look.event(), is_ours));
    look.forget_untrusted_siblings()?;
    if look.event().may_follow_missed_hooks() || *look.event() == Event::ConfigChanged {
        // Retry a refused port: the reason may be gone.
        look.notes_mut().refused_port = None;
    }
    Ok(())
}

/// Whether this hook shows that this unit is being removed.
fn is_leaving(look: &mut Look<'_>) -> Result<bool> {
    let Event::Relation(event) = look.event() else { return Ok(false) };
    let Unit { app, name, .. } = look.unit().clone();
    if units::is_named_departing(event, &name) {
        return Ok(true);
    }
    // A leader that saw no other unit join gets no -departed hook for its own removal. It learns of
    // the removal from the end of a relation.
    if event.hook != RelationHook::Broken || !look.is_leader()? {
        return Ok(false);
    }
    let goal = look.goal(&app)?.filter(|goal| !goal.is_empty());
    let staying = goal.as_ref().map(|goal| goal.staying().collect::<Vec<_>>());
    Ok(units::is_left_out(&name, staying.as_deref()))
}

/// Reports a trouble of this unit to the leader, for the application's status. A trouble that ends
/// before `update-status`, as while a pod is replaced, wakes no other unit; a leader shows its own
/// status.
fn report_trouble(look: &mut Look<'_>, waits: &BTreeSet<Wait>) -> Result<()> {
    let leads = look.leads()?;
    let is_reported = look.bag(Bag::PeerUnit)?.contains_key(TROUBLE);
    let is_checked = matches!(
        look.event(),
        Event::UpdateStatus | Event::Workload { hook: WorkloadHook::CheckFailed, .. }
    );
    if is_reported || is_checked {
        let word = status::trouble(waits, leads).map(|kind| kind.to_string());
        let peers = look.peers();
        look.handles().juju.set(peers, &Owner::Unit, TROUBLE, word.as_deref())?;
    }
    Ok(())
}

/// Adds the name of a row with waits to `deferred`, once for all rows of that name.
fn remember(row: &Row, waits: &[Wait], deferred: &mut Vec<String>) {
    if !waits.is_empty() && !deferred.iter().any(|name| name == row.name) {
        deferred.push(row.name.to_owned());
    }
}

/// Sets the unit's status, or the application's, unless it is the one that this unit last set. A
/// status that cannot be set fails no hook.
fn show(scope: Scope, status: &Status, event: &Event, handles: &mut Handles) -> Result<()> {
    let (last, is_dry_run) = (&handles.last_status, handles.journal.is_dry_run());
    if !is_reset(event) && last.is(scope, status) {
        return Ok(());
    }
    if !is_dry_run {
        last.forget(scope).context(CANNOT_WRITE)?;
    }
    match handles.juju.set_status(scope, status) {
        Ok(()) if is_dry_run => {}
        Ok(()) => last.record(scope, status),
        Err(error) => {
            tracing::warn!("cannot set the status of the {scope}: {error}; the next hook retries");
        }
    }
    Ok(())
}

/// Whether Juju itself sets a status in this hook, or another leader may have set the
/// application's.
fn is_reset(event: &Event) -> bool {
    matches!(
        event,
        Event::Install | Event::Start | Event::Stop | Event::Remove | Event::LeaderElected
    )
}

/// Passes the notes and every changed databag to Juju.
fn commit(look: &mut Look<'_>) -> Result<()> {
    if let Some(relation) = look.scram_login().map(|relation| relation.to_string()) {
        let peers = look.peers();
        look.handles().juju.set(peers, &Owner::App, SCRAM, Some(&relation))?;
    }
    let notes = look.notes().render();
    let tracing = look.notes().tracing.clone();
    look.handles().tracing = tracing;
    let juju = &mut look.handles().juju;
    for (key, value) in &notes {
        juju.set_state(key, value)?;
    }
    Ok(juju.flush()?)
}

//! One dispatch: what is due, row by row gathered, decided and applied; then the status; then
//! everything that Juju is to commit, at once.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::apply::apply;
use crate::endpoints::{self, Row};
use crate::event::{Endpoint, Event, RelationHook, Unit};
use crate::facts::units;
use crate::journal::{Journal, Outcome};
pub use crate::look::Counted;
use crate::look::{Clients, Look};
use crate::notes::Trust;
use crate::status::{self, Status, Wait};

/// Handles one event for real, or in a dry run. An error fails the hook: Juju drops what was to be
/// committed and repeats it.
pub fn run(unit: &Unit, event: &Event, journal: Journal, counted: Counted) -> Result<Outcome> {
    let mut clients = Clients::new(unit, journal);
    let (waits, status) = converge(unit, event, &mut clients, counted)?;
    let waits = waits.iter().map(Wait::to_string).collect();
    Ok(Outcome { waits, status, files: clients.given.take(), ..clients.journal.outcome() })
}

fn converge(
    unit: &Unit,
    event: &Event,
    clients: &mut Clients,
    counted: Counted,
) -> Result<(BTreeSet<Wait>, Option<Status>)> {
    let mut waits = BTreeSet::new();
    if !event.converges() {
        return Ok((waits, None));
    }
    let Some(mut look) = Look::open(unit, event, counted, clients)? else {
        waits.insert(Wait::Peers);
        let status = status::of(&waits, "");
        clients.juju.set_status(&status)?;
        return Ok((waits, Some(status)));
    };
    let look = &mut look;
    if look.ended(Endpoint::Peers).is_some() {
        // A unit that is being removed, after its agent was restarted: nothing is left to share.
        look.notes_mut().peers = None;
        commit(look)?;
        return Ok((waits, None));
    }
    heed_event(look)?;
    let mut deferred = Vec::new();
    for row in endpoints::due(look)? {
        let plan = row.plan(look)?;
        let left = apply(&plan, look)?;
        remember(row, &left, &mut deferred);
        waits.extend(left);
    }
    look.notes_mut().deferred = deferred;

    if waits.is_empty() {
        waits.extend(look.unhealthy());
    }
    for wait in &waits {
        tracing::debug!("wait: {wait}");
    }
    let serving = if waits.is_empty() { look.serving()? } else { String::new() };
    let status = status::of(&waits, &serving);
    show_for_application(&status, look)?;
    commit(look)?;
    look.clients().juju.set_status(&status)?;
    Ok((waits, Some(status)))
}

/// Takes from the event what it tells of relations and units, and how much of the notes it leaves
/// true.
fn heed_event(look: &mut Look<'_>) -> Result<()> {
    look.note_relation()?;
    if !look.notes().is_leaving && is_leaving(look)? {
        look.notes_mut().is_leaving = true;
    }
    let is_ours = *look.event() != Event::LeaderElected || look.published()?.is_ours();
    look.set_trust(Trust::in_hook(look.event(), is_ours));
    look.doubt_siblings()?;
    if look.event().begins_anew() || *look.event() == Event::ConfigChanged {
        // Retry a refused port: the reason may be gone.
        look.notes_mut().refused_port = None;
    }
    Ok(())
}

/// Whether this hook tells that this unit leaves.
fn is_leaving(look: &mut Look<'_>) -> Result<bool> {
    let Event::Relation(event) = look.event() else { return Ok(false) };
    let Unit { app, name, .. } = look.unit().clone();
    if units::is_named_departing(event, &name) {
        return Ok(true);
    }
    // A leader that has seen no other unit join sees none depart: it hears by the end of a relation.
    if event.hook != RelationHook::Broken || !look.is_leader()? {
        return Ok(false);
    }
    let goal = look.goal(&app)?.filter(|goal| !goal.is_empty());
    let staying = goal.as_ref().map(|goal| goal.staying().collect::<Vec<_>>());
    Ok(units::is_left_out(&name, staying.as_deref()))
}

/// Remembers a row that has work left, once for all rows of its name.
fn remember(row: &Row, left: &[Wait], deferred: &mut Vec<String>) {
    if !left.is_empty() && !deferred.iter().any(|name| name == row.name) {
        deferred.push(row.name.to_owned());
    }
}

/// Shows the leader's status as the application's, too, where it is news.
fn show_for_application(status: &Status, look: &mut Look<'_>) -> Result<()> {
    // A follower does not know what another leader shows meanwhile.
    let shown = if look.is_leader()? { format!("{} {}", status.kind, status.message) } else { String::new() };
    if !shown.is_empty()
        && look.notes().application_status != shown
        && let Err(error) = look.clients().juju.set_application_status(status)
    {
        tracing::debug!("the application's status stays as it is: {error}");
        return Ok(());
    }
    look.notes_mut().application_status = shown;
    Ok(())
}

/// Hands Juju the notes and every databag that differs.
fn commit(look: &mut Look<'_>) -> Result<()> {
    let notes = look.notes().render();
    let juju = &mut look.clients().juju;
    for (key, value) in &notes {
        juju.set_state(key, value)?;
    }
    Ok(juju.flush()?)
}

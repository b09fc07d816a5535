//! One dispatch: the handlers that are due, each observed, decided and applied; then the status;
//! then everything Juju is to commit, at once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::apply::apply;
use crate::event::{
    Endpoint, Event, RelationEvent, RelationHook, RelationId, SecretEvent, SecretHook, Unit, secret_id,
};
use crate::handlers::{Handler, actions, backend_database, database, peers, schedule};
use crate::juju::Juju;
use crate::observe::{self, BackendDatabase};
use crate::options::Options;
use crate::outcome::{Deed, Outcome, Where};
use crate::plan::{Effect, Plan, Wait};
use crate::status::{self, Status};
use crate::world::{Notes, Trust, World};

/// State: the names of the handlers that have work left, as a JSON list.
const DEFERRED: &str = "deferred";
/// State: set once this unit was told that it leaves.
const LEAVING: &str = "leaving";
/// State: the status that this unit, as the leader, has shown for the application.
const TOLD: &str = "application-status";

/// Handles one event. An error fails the hook: Juju drops what was to be committed and repeats it.
pub fn dispatch(unit: Unit, event: &Event) -> Result<()> {
    match event {
        Event::Action(action) => act(action, &unit),
        event => run(&mut World::new(unit), event).map(drop),
    }
}

/// Runs an action, which tells its result to who asked for it.
fn act(action: &str, unit: &Unit) -> Result<()> {
    let results = match action {
        // Whatever was noted as done is made sure of.
        "reconcile" => {
            let mut world = World::new(unit.clone());
            actions::reconciled(&run(&mut world, &Event::UpgradeCharm)?)
        }
        "show-config" => {
            let mut world = World::rehearsal(unit.clone(), false);
            let outcome = run(&mut world, &Event::ConfigChanged)?;
            actions::configuration(world.given.as_ref(), &outcome)
        }
        _ => Err(actions::refusal(action)),
    };
    let mut juju = Juju::new(&unit.app, &unit.name);
    match results {
        Ok(results) => juju.set_results(&results)?,
        Err(reason) => juju.fail_action(&reason)?,
    }
    Ok(())
}

/// Handles one event in a world, real or rehearsed.
pub fn run(world: &mut World, event: &Event) -> Result<Outcome> {
    let (waits, status) = converge(world, event)?;
    let juju = world.juju.told().iter().map(|call| Deed { at: Where::Juju, what: call.clone() });
    let mut deeds: Vec<_> = world.deeds.iter().cloned().chain(juju).collect();
    deeds.sort_by_key(|deed| deed.at);
    let waits = waits.iter().map(Wait::to_string).collect();
    Ok(Outcome { deeds, unread: world.juju.unread().to_vec(), waits, status })
}

fn converge(world: &mut World, event: &Event) -> Result<(BTreeSet<Wait>, Option<Status>)> {
    let mut waits = BTreeSet::new();
    match event {
        Event::Action(_) | Event::Metrics | Event::Stop | Event::Remove => return Ok((waits, None)),
        // A unit that goes for good meets this after its agent was restarted: nothing is left to share.
        Event::Relation(event) if event.endpoint == Endpoint::Peers && event.hook == RelationHook::Broken => {
            observe::forget_peer(world)?;
            world.juju.flush()?;
            return Ok((waits, None));
        }
        Event::Unknown(name) => tracing::debug!("no handler for {name}"),
        _ => {}
    }
    let Some(peer) = observe::peer(world, event)? else {
        // `install`: no relation is known to the agent yet.
        waits.insert(Wait::Peers);
        let status = status::of(&waits, "");
        world.juju.set_status(&status)?;
        return Ok((waits, Some(status)));
    };
    if let Event::Relation(relation) = event {
        learn(relation, world)?;
    }
    world.leaving = world.juju.state(LEAVING)?.is_some_and(|text| !text.is_empty());
    if !world.leaving && is_first_to_hear(event, world)? {
        world.juju.set_state(LEAVING, "true")?;
        world.leaving = true;
    }
    world.notes = match event {
        Event::UpgradeCharm | Event::LeaderElected | Event::Start => Notes::Void,
        Event::UpdateStatus => Notes::MayLack,
        _ => Notes::Hold,
    };
    world.trust = match event {
        Event::UpgradeCharm => Trust::None,
        // The leader of before may have been a unit of the Python charm.
        Event::LeaderElected if !observe::is_published_by_us(world, peer)? => Trust::None,
        Event::LeaderElected | Event::UpdateStatus => Trust::NotOfClients,
        _ => Trust::Full,
    };
    match world.notes {
        Notes::Void => world.siblings.doubt(&mut world.juju, |_, _| true)?,
        Notes::MayLack => observe::doubt_who_is_behind(world, peer)?,
        Notes::Hold => {}
    }

    if world.notes == Notes::Void || matches!(event, Event::ConfigChanged) {
        // What kept a port from PgBouncer may be over.
        world.juju.set_state(peers::REFUSED_PORT, "")?;
    }
    world.left = remembered(world)?;
    let mut deferred = world.left.clone();
    deferred.extend(observe::owed(world, peer)?);
    let mut left = BTreeMap::new();
    for handler in schedule(event, &deferred) {
        left.insert(handler, handle(handler, world, peer)?);
    }
    if world.lacks_port && world.leads()? {
        // Nobody else was sent there: the old port is taken up again.
        left.insert(Handler::PeersChanged, handle(Handler::PeersChanged, world, peer)?);
    }
    if let Some(waits) = left.get(&Handler::Database)
        && observe::has_caught_up(waits, world, peer)?
    {
        // An `update-status` counts once, and who was waited for in this hook waits.
        world.notes = Notes::Hold;
        world.left.push(Handler::Database);
        left.insert(Handler::Database, handle(Handler::Database, world, peer)?);
    }
    if let Event::Secret(secret) = event {
        apply(&obsolete(secret, world)?, world, peer)?;
    }
    remember(&left, world)?;
    waits.extend(left.into_values().flatten());

    waits.extend(Options::check_exposure(world.juju.config()?).err().map(Wait::Options));
    if waits.is_empty() {
        waits.extend(world.workload.unhealthy().map(Wait::Unhealthy));
    }
    for wait in &waits {
        tracing::debug!("wait: {wait}");
    }
    let serving = if waits.is_empty() { observe::serving(world, peer)? } else { String::new() };
    let status = status::of(&waits, &serving);
    tell_of_the_application(&status, world)?;
    world.siblings.keep(&mut world.juju)?;
    world.juju.flush()?;
    world.juju.set_status(&status)?;
    Ok((waits, Some(status)))
}

/// Has the leader's status be the application's, too, and asks for it only where it is news.
fn tell_of_the_application(status: &Status, world: &mut World) -> Result<()> {
    // What another leader tells in between is not known here.
    let told =
        if world.juju.is_leader()? { format!("{} {}", status.kind, status.message) } else { String::new() };
    if !told.is_empty()
        && world.juju.state(TOLD)?.as_ref() != Some(&told)
        && let Err(error) = world.juju.set_application_status(status)
    {
        tracing::debug!("the application's status stays as it is: {error}");
        return Ok(());
    }
    Ok(world.juju.set_state(TOLD, &told)?)
}

/// What the environment of a relation hook tells, so that nobody has to ask.
fn learn(event: &RelationEvent, world: &mut World) -> Result<()> {
    if event.hook == RelationHook::Broken {
        world.juju.forget(event.endpoint, event.relation)?;
        world.juju.forget_remote_app(event.relation)?;
    }
    if event.endpoint == Endpoint::Database {
        let of = if event.hook == RelationHook::Broken { &mut world.ended } else { &mut world.client };
        *of = Some(event.relation);
    }
    if let (Endpoint::Peers, Some(unit)) = (event.endpoint, &event.remote_unit) {
        world.siblings.doubt(&mut world.juju, |name, _| name == unit)?;
    }
    world.departs = event.hook == RelationHook::Departed;
    if event.endpoint == Endpoint::BackendDatabase && world.departs {
        // Once its last unit has left, Juju does not list a relation that ends, though it is readable still.
        world.juju.learn(event.endpoint, event.relation)?;
        world.backend_departs.clone_from(&event.remote_unit);
    }
    // On the unit that goes, or with its whole application, Juju names that unit itself.
    if world.departs && event.departing_unit.as_ref() == Some(&world.unit.name) {
        world.juju.set_state(LEAVING, "true")?;
    }
    Ok(())
}

/// Whether a leader that leaves hears of it by the end of a relation: one that had met nobody yet sees nobody depart.
/// What ends for it does not end for the units that stay.
fn is_first_to_hear(event: &Event, world: &mut World) -> Result<bool> {
    let is_end = matches!(event, Event::Relation(relation) if relation.hook == RelationHook::Broken);
    if !is_end || !world.juju.is_leader()? {
        return Ok(false);
    }
    let (app, name) = (world.unit.app.clone(), world.unit.name.clone());
    let goal = world.juju.goal(&app)?;
    Ok(goal.is_some_and(|goal| !goal.is_empty() && !goal.staying().any(|unit| unit == name)))
}

/// Looks, asks the handler, and does what it says; gives what is waited for.
fn handle(handler: Handler, world: &mut World, peer: RelationId) -> Result<Vec<Wait>> {
    let plan = decide(handler, world, peer)?;
    apply(&plan, world, peer)
}

/// Looks, then asks the handler.
fn decide(handler: Handler, world: &mut World, peer: RelationId) -> Result<Plan> {
    Ok(match handler {
        Handler::PeersCreated => peers::created(&observe::peers_created(world, peer)?),
        Handler::PeersChanged => peers::changed(&observe::peers_changed(world, peer)?),
        Handler::BackendDatabase => match observe::backend_database(world, peer)? {
            Some(BackendDatabase::Changed(seen)) => backend_database::changed(&seen),
            Some(BackendDatabase::Ending(seen)) => backend_database::ending(&seen),
            None => no_backend(world, peer)?,
        },
        Handler::Database => match observe::database_changed(world, peer)? {
            Some(seen) => database::changed(&seen),
            None => Plan::default(),
        },
        Handler::NotBuilt(endpoint) if observe::is_related(world, endpoint)? => {
            Plan::waiting(Wait::NotBuilt(endpoint))
        }
        Handler::NotBuilt(_) => Plan::default(),
    })
}

/// There is no backend relation, or no longer: then who leads now may not have been told that it broke.
fn no_backend(world: &mut World, peer: RelationId) -> Result<Plan> {
    if world.juju.is_leader()? {
        observe::warn_of_what_stays(world, peer)?;
    }
    if !world.leads()? {
        return Ok(Plan::default());
    }
    let (users, store) = observe::backend_broken(world, peer)?;
    Ok(backend_database::broken(users.as_ref(), &store))
}

/// Handles `secret-remove`: a revision of ours that nobody reads any more. Before Juju 3.6.11 the
/// removal could take other revisions with it, so there it is left to lie.
fn obsolete(event: &SecretEvent, world: &mut World) -> Result<Plan> {
    let mut plan = Plan::default();
    if let (SecretHook::Remove, Some(revision)) = (event.hook, event.revision)
        && world.unit.juju.removes_single_revisions()
        && world.leads()?
    {
        plan.push(Effect::RemoveSecretRevision { id: secret_id(&event.uri).to_owned(), revision });
    }
    Ok(plan)
}

fn remembered(world: &mut World) -> Result<Vec<Handler>> {
    let text = world.juju.state(DEFERRED)?.unwrap_or_default();
    let names: Vec<String> = serde_json::from_str(&text).unwrap_or_default();
    Ok(names.iter().filter_map(|name| Handler::named(name)).collect())
}

fn remember(left: &BTreeMap<Handler, Vec<Wait>>, world: &mut World) -> Result<()> {
    let unfinished = left.iter().filter(|(_, waits)| !waits.is_empty());
    let names: Vec<&str> = unfinished.map(|(handler, _)| handler.name()).collect();
    let text = if names.is_empty() { String::new() } else { serde_json::to_string(&names)? };
    Ok(world.juju.set_state(DEFERRED, &text)?)
}

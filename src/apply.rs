//! Performs a plan: the one `match` over effects.

use std::collections::BTreeSet;

use anyhow::Context as _;

use crate::event::{RelationId, secret_id};
use crate::handlers::{database, peers};
use crate::juju::Owner;
use crate::observe;
use crate::outcome::Where;
use crate::pgbouncer::{Origin, PgbDbs, verifier};
use crate::plan::{Effect, NewClient, Plan, Value, Wait};
use crate::postgres::{Client, Refused, Server};
use crate::workload::{Files, NotLoaded};
use crate::world::World;

/// How many hooks wait for a line in it: with what each waits, more than PostgreSQL's charms take.
const ROUNDS: u32 = 30;

/// Performs the effects in order. Returns what the plan waits for, and why its rest was left out if an
/// effect could not be had yet; that is no error, the handler comes again. An error fails the hook, and
/// Juju repeats it.
pub fn apply(plan: &Plan, world: &mut World, peer: RelationId) -> anyhow::Result<Vec<Wait>> {
    let mut waits = plan.waits.clone();
    for effect in &plan.effects {
        if !matches!(effect, Effect::Set(..) | Effect::Remember(..)) {
            tracing::debug!("{effect}");
        }
        if let Some(wait) = perform(effect, world, peer)? {
            waits.push(wait);
            return Ok(waits);
        }
    }
    for part in &plan.parts {
        waits.extend(apply(part, world, peer)?);
    }
    let mut late = Vec::new();
    for effect in plan.last.iter().filter(|_| waits.is_empty()) {
        late.extend(perform(effect, world, peer)?);
    }
    waits.extend(late);
    Ok(waits)
}

fn perform(effect: &Effect, world: &mut World, peer: RelationId) -> anyhow::Result<Option<Wait>> {
    match effect {
        Effect::Set(bag, key, value) => {
            let (relation, owner) = observe::bag_of(*bag, peer);
            let value = match value {
                Value::Text(text) => Some(text.as_str()),
                Value::Secret(secret) => Some(secret.reveal()),
                Value::Absent => None,
            };
            if world.juju.set(relation, &owner, key, value)? {
                tracing::debug!("{effect}");
            }
        }
        Effect::Remember(key, value) => world.juju.set_state(key, value)?,
        Effect::SetPeerSecret { content, adopt } => {
            let label = observe::peer_label(world);
            world.juju.set_secret(&label, content, adopt.as_deref())?;
        }
        Effect::SetClientSecret(relation, group, content) => {
            let label = observe::client_label(*relation, group);
            let key = format!("secret-{group}");
            let uri = world.juju.set_secret(&label, content, None)?;
            let told = world.juju.bag(*relation, &Owner::App)?.get(&key);
            // A relation that was suspended may name a secret that is gone.
            if told.is_none_or(|told| secret_id(told) != secret_id(&uri)) {
                world.juju.grant(&uri, *relation)?;
                world.juju.set(*relation, &Owner::App, &key, Some(&uri))?;
            }
        }
        Effect::RemoveSecretRevision { id, revision } => {
            // Juju announces revisions of secrets that are gone, and more than once.
            if world.juju.secret_info_by_id(id)?.is_some() {
                world.juju.remove_revision(id, *revision)?;
            }
        }
        Effect::EnsureAuthRole { role, secret, salt, comment } => {
            let verifier = verifier::of_line(secret, salt);
            let fits = |stored: &str| verifier::fits_line(stored, role, secret);
            return sql(effect, world, |server| server.ensure_auth_role(role, &verifier, comment, &fits));
        }
        Effect::RemoveAuth { role, comment } => {
            return sql(effect, world, |server| server.remove_auth(role, comment));
        }
        Effect::DropStrays { mark, keep } => {
            return sql(effect, world, |server| match server.drop_strays(mark, keep) {
                // It is looked for again when the lookup is installed again.
                Err(refused @ Refused::Statement { .. }) => {
                    tracing::warn!("left a role of a client that is gone: {refused}");
                    Ok(())
                }
                done => done,
            });
        }
        // Whom PostgreSQL lets in shows when he is there.
        Effect::AwaitAdmission { .. } if world.juju.is_rehearsal() => {}
        Effect::AwaitAdmission { logins, round } => return admission(logins, *round, world, peer),
        Effect::InstallGetAuth { databases, auth_user } => {
            return sql(effect, world, |server| {
                // One that refuses does not stop the next; the answer tells the last.
                let install = |database: &String| server.install_get_auth(database, auth_user);
                let done: Vec<_> = databases.iter().map(install).collect();
                done.into_iter().rev().collect()
            });
        }
        Effect::EnsureClient(client) => return ensure_client(effect, client, world),
        Effect::DropClient { role, comment } => {
            return sql(effect, world, |server| {
                match server.drop_client(role, comment) {
                    // Somebody else's role is not ours to drop, today or ever.
                    Err(refused @ Refused::RoleNotOurs { .. }) => {
                        tracing::warn!("left the role {role} as it is: {refused}");
                        Ok(())
                    }
                    done => done,
                }
            });
        }
        Effect::ForgetClient(relation) => forget_client(*relation, world, peer)?,
        Effect::NoteAttempt(relation) => {
            if world.note(Where::Unit, effect) {
                world.attempts.note(*relation).context("cannot write into the charm's directory")?;
            }
        }
        Effect::ClearAttempts => {
            if world.note(Where::Unit, effect) {
                world.attempts.clear().context("cannot write into the charm's directory")?;
            }
        }
        Effect::OpenPort { port, close } => {
            if let Some(close) = close {
                world.juju.close_port(*close)?;
            }
            world.juju.open_port(*port)?;
        }
        Effect::SetVersion(version) => world.juju.set_version(version)?,
        Effect::Load(files) => return load(files, world),
    }
    Ok(None)
}

fn ensure_client(effect: &Effect, new: &NewClient, world: &mut World) -> anyhow::Result<Option<Wait>> {
    let client = Client {
        role: new.role.clone(),
        database: new.database.clone(),
        verifier: verifier::scram_sha_256(&new.password, &new.salt, verifier::ITERATIONS),
        comment: new.comment.clone(),
        roles: new.roles.clone(),
        alone: new.alone,
        is_answered: new.is_answered,
    };
    let fits = |stored: &str| verifier::matches(stored, &new.role, &new.password);
    let wait = sql(effect, world, |server| server.ensure_client(&client, new.known, &fits))?;
    Ok(wait.map(|wait| match wait {
        Wait::Refused(reason) => Wait::Client(new.relation, reason),
        wait => wait,
    }))
}

fn forget_client(relation: RelationId, world: &mut World, peer: RelationId) -> anyhow::Result<()> {
    if world.unit.juju.has_secrets() {
        for group in database::GROUPS {
            let label = observe::client_label(relation, group);
            if let Some(info) = world.juju.secret_info(&label)? {
                world.juju.remove_secret(&label, &info.id)?;
            }
        }
    }
    // A model that once had no secrets left a copy there.
    world.juju.set(peer, &Owner::App, &database::role(relation), None)?;
    let text = world.juju.bag(peer, &Owner::App)?.get(peers::DATABASES).cloned();
    if let Some(mut databases) = text.and_then(|text| PgbDbs::parse(&text).ok())
        && databases.0.remove(&Origin::Relation(relation.0)).is_some()
    {
        world.juju.set(peer, &Owner::App, peers::DATABASES, Some(&databases.render()))?;
    }
    Ok(())
}

/// Waits until PostgreSQL lets the roles in, for a few seconds in all of a dispatch: its charm notices new
/// roles in its own time. After that the leader wakes itself, since who writes the peer app bag gets a hook for
/// it; but not for ever, because only a login tells for sure.
fn admission(
    logins: &[(String, String)],
    round: u32,
    world: &mut World,
    peer: RelationId,
) -> anyhow::Result<Option<Wait>> {
    let mut patience = world.admission;
    let mut outside = None;
    let wait = ask(world, |server| {
        outside = server.await_admission(logins, &mut patience)?;
        Ok(())
    })?;
    world.admission = patience;
    let Some(role) = outside else { return Ok(wait) };
    if round >= ROUNDS {
        tracing::warn!("pg_hba.conf still has no line for {role}: its login may be refused for now");
        return Ok(None);
    }
    let next = round.saturating_add(1).to_string();
    world.juju.set(peer, &Owner::App, database::ROUNDS, Some(&next))?;
    Ok(Some(Wait::Admission(role)))
}

/// Does something in PostgreSQL. That it is away, or says no, is something to wait for.
fn sql(
    effect: &Effect,
    world: &mut World,
    work: impl FnOnce(&mut Server) -> Result<(), Refused>,
) -> anyhow::Result<Option<Wait>> {
    if let Err(wait) = observe::server(world)? {
        return Ok(Some(wait));
    }
    if !world.note(Where::Postgresql, effect) {
        return Ok(None);
    }
    ask(world, work)
}

/// Asks PostgreSQL something.
fn ask(
    world: &mut World,
    work: impl FnOnce(&mut Server) -> Result<(), Refused>,
) -> anyhow::Result<Option<Wait>> {
    let server = match observe::server(world)? {
        Ok(server) => server,
        Err(wait) => return Ok(Some(wait)),
    };
    let Err(refused) = work(server) else { return Ok(None) };
    if refused.is_lost() {
        // Whoever comes next need not wait for it in vain.
        let wait = Wait::Unreachable(refused.to_string());
        world.server = Some(Err(wait.clone()));
        return Ok(Some(wait));
    }
    Ok(Some(Wait::Refused(refused.to_string())))
}

fn load(files: &Files, world: &mut World) -> anyhow::Result<Option<Wait>> {
    let left_out: BTreeSet<_> = files.instances.iter().flat_map(|instance| &instance.left_out).collect();
    for name in left_out {
        tracing::warn!("left {name} out of pgbouncer.ini: PgBouncer {} does not know it", files.version);
    }
    match world.workload.load(files) {
        Ok(done) => {
            for instance in &done.loaded {
                let how = if done.restarted.contains(instance) { "restart" } else { "reload" };
                world.note(Where::Pgbouncer, &format!("{how} instance {instance}"));
            }
            world.given = Some(files.clone());
            let digest = files.instances.first().map_or("nothing", |instance| &instance.digest);
            let restarted = |instance| if done.restarted.contains(instance) { " (restarted)" } else { "" };
            let loaded: Vec<_> =
                done.loaded.iter().map(|instance| format!("{instance}{}", restarted(instance))).collect();
            tracing::info!("PgBouncer runs {digest}, loaded by instance {}", loaded.join(", "));
            Ok(None)
        }
        Err(error) => {
            tracing::warn!("{error}");
            if let NotLoaded::NotListening { port, .. } = error {
                world.lacks_port = true;
                world.juju.set_state(peers::REFUSED_PORT, &port.to_string())?;
            }
            Ok(Some(Wait::NotLoaded(error.to_string())))
        }
    }
}

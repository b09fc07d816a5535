//! Looks at the world and hands each handler its own input, parsed and bounded.
//!
//! What the other side of a relation wrote is input, not truth: malformed is "not there" and a
//! warning that names relation and key, never the value.

use std::collections::{BTreeMap, BTreeSet};

use rand::distr::{Alphanumeric, SampleString as _};

use crate::event::{Endpoint, Event, RelationId};
use crate::handlers::backend_database::{self, Fresh, Goodbye, Lookup};
use crate::handlers::database::{Newest, Patience, Reach};
use crate::handlers::peers::{
    self, Config, Door, Endpoints, Followed, Here, Kept, Own, Servers, Store, Users,
};
use crate::handlers::{Handler, Seat, database};
use crate::juju::{Goal, Owner};
use crate::options::{InvalidOption, Options};
use crate::pgbouncer::{self, Origin, PgbDbs, SharedConfig, UserList, Version};
use crate::plan::{Bag, NewClient, Texts, Wait};
use crate::postgres::{Credentials, Server, ServerVersion};
use crate::secret::Secret;
use crate::workload::{Probe, ProbeError};
use crate::world::{Notes, Trust, World};

/// A databag value longer than this is not looked at.
const LIMIT: usize = 1024 * 1024;

/// State: the number of the peer relation.
const PEERS: &str = "peers";

/// The peer relation, which a unit has from its first hook after `install` to the relation's end, before the last hooks
/// of a unit that goes for good. The application has no other.
pub fn peer(world: &mut World, event: &Event) -> anyhow::Result<Option<RelationId>> {
    let known = world.juju.state(PEERS)?.and_then(|text| text.parse().ok());
    if let Some(peer) = known.filter(|_| *event != Event::UpgradeCharm) {
        return Ok(Some(peer));
    }
    let peer = world.juju.relations(Endpoint::Peers)?.first().copied();
    if let Some(peer) = peer {
        world.juju.set_state(PEERS, &peer.to_string())?;
    }
    Ok(peer)
}

/// The peer relation has ended for this unit.
pub fn forget_peer(world: &mut World) -> anyhow::Result<()> {
    Ok(world.juju.set_state(PEERS, "")?)
}

/// Has every unit asked again that does not seem to serve what this one does: an operator can have a hook left out.
pub fn doubt_who_is_behind(world: &mut World, peer: RelationId) -> anyhow::Result<()> {
    let own = world.juju.bag(peer, &Owner::Unit)?.get(peers::DATABASES_LOADED).cloned();
    Ok(world
        .siblings
        .doubt(&mut world.juju, |_, texts| texts.get(peers::DATABASES_LOADED) != own.as_ref())?)
}

/// What another unit says of itself in the peer relation.
fn sibling(world: &mut World, peer: RelationId, unit: &str) -> anyhow::Result<Texts> {
    Ok(world.siblings.bag(&mut world.juju, peer, unit)?)
}

/// The handlers a leader owes although no hook asked for them: any hook may be the first one of new
/// code or a new leader.
pub fn owed(world: &mut World, peer: RelationId) -> anyhow::Result<Vec<Handler>> {
    let mut owed = Vec::new();
    if world.leaving && world.departs && world.juju.is_leader()? {
        // Perhaps the whole application goes; then the sooner the better.
        owed.push(Handler::BackendDatabase);
    }
    if !world.leads()? {
        return Ok(owed);
    }
    if backend(world)?.is_some() && !is_installed(world, peer)? {
        owed.push(Handler::BackendDatabase);
    }
    // What is missing or broken is made anew from the relations, before a configuration is made of it.
    let is_entered = world.juju.bag(peer, &Owner::App)?.contains_key(peers::DATABASES);
    let databases = databases(world, peer)?;
    let is_lost =
        databases.is_none() && (is_entered || !world.juju.relations(Endpoint::Database)?.is_empty());
    // Databases that nobody asked for by name come and go untold, and an operator can have a hook left out.
    let has_untold = world.notes == Notes::MayLack
        && match databases {
            Some((_, databases)) => {
                let is_entered = |id: &RelationId| databases.0.contains_key(&Origin::Relation(id.0));
                databases.wildcard().is_some()
                    || !world.juju.relations(Endpoint::Database)?.iter().all(is_entered)
            }
            None => false,
        };
    let has_missing = world.juju.state(database::MISSING)?.is_some_and(|ids| !ids.is_empty());
    // Led for a while by another unit, or made the leader by a hook that was left out.
    let may_wait = !newest(world, peer)?.is_noted();
    if is_lost || has_missing || has_untold || may_wait {
        owed.push(Handler::Database);
    }
    Ok(owed)
}

/// The input of [`peers::created`].
pub fn peers_created(world: &mut World, peer: RelationId) -> anyhow::Result<peers::Created> {
    Ok(peers::Created {
        hostname: world.hostname(),
        seat: if world.leads()? { Seat::Leader(own(world, peer)?) } else { Seat::Follower(()) },
    })
}

/// The input of [`peers::changed`].
pub fn peers_changed(world: &mut World, peer: RelationId) -> anyhow::Result<peers::Changed> {
    let here = here(world)?;
    let seat =
        if world.leads()? { Seat::Leader(own(world, peer)?) } else { Seat::Follower(followed(world, peer)?) };
    let in_force = seat.in_force();
    let lacks_backend = in_force.is_some_and(|config| config.shared.auth.is_none());
    world.in_force = in_force.map(|config| (config.shared.pool_mode, config.shared.listen_port));
    Ok(peers::Changed {
        has_backend: lacks_backend && backend(world)?.is_some(),
        here,
        hostname: world.hostname(),
        seat,
        noted_version: world.juju.bag(peer, &Owner::Unit)?.get(peers::PGBOUNCER_VERSION).cloned(),
        door: door(world)?,
    })
}

/// What Juju has opened: in a pod, where its service of our application then has that port.
fn door(world: &mut World) -> anyhow::Result<Option<Door>> {
    // On Kubernetes Juju opens ports since it has secrets that followers can read.
    if !world.is_sidecar() || !world.unit.juju.has_secrets() {
        return Ok(None);
    }
    let open = world.juju.state(peers::PORT)?.and_then(|text| text.parse().ok());
    Ok(Some(Door { open }))
}

/// What a hook of `backend-database` is about.
pub enum BackendDatabase {
    /// The relation is there.
    Changed(Box<backend_database::Changed>),
    /// PostgreSQL is about to forget us.
    Ending(backend_database::Ending),
}

/// The input of the handlers of `backend-database`; nothing where there is no such relation.
pub fn backend_database(world: &mut World, peer: RelationId) -> anyhow::Result<Option<BackendDatabase>> {
    let Some((relation, remote)) = backend(world)? else { return Ok(None) };
    if ends(world, relation)? {
        let auth_user = users(world, peer)?.users.and_then(|users| users.list.auth_user().map(str::to_owned));
        let roles = client_roles(world, peer)?;
        if world.leaving && !roles.is_empty() {
            // Scaled to nothing, the application may come back, and with it its clients. Of relations that
            // end Juju says nothing any more.
            tracing::warn!(
                "left in PostgreSQL, with what they own: {}; if the application is gone for good, drop them there",
                roles.join(", ")
            );
        }
        let (mark, members) = (mark(world), world.juju.members(relation)?);
        let ending = backend_database::Ending { relation, auth_user, mark, roles, members };
        return Ok(Some(BackendDatabase::Ending(ending)));
    }
    let seen = backend_changed(world, peer, relation, remote)?;
    Ok(Some(BackendDatabase::Changed(Box::new(seen))))
}

/// Whether PostgreSQL is about to forget us and it is for this unit to say goodbye: the relation ends, or with
/// it our whole application. PostgreSQL may be the first to have done with all its hooks, so the first unit that
/// departs is the sign.
fn ends(world: &mut World, relation: RelationId) -> anyhow::Result<bool> {
    if world.leaving && world.juju.is_leader()? {
        // One unit of ours less ends nothing for the others.
        return is_whole_application_leaving(world);
    }
    let Some(departing) = world.backend_departs.clone() else { return Ok(false) };
    if !world.leads()? {
        return Ok(false);
    }
    let app = departing.split('/').next().unwrap_or(&departing);
    let Some(goal) = world.juju.goal(app)?.filter(|goal| !goal.is_empty()) else {
        // PostgreSQL is in another model.
        return Ok(world.juju.members(relation)?.is_empty());
    };
    // A unit that stays and departs all the same leaves the relation, not the model.
    let mut staying = goal.staying().peekable();
    Ok(staying.peek().is_none() || staying.any(|unit| unit == departing))
}

fn backend_changed(
    world: &mut World,
    peer: RelationId,
    relation: RelationId,
    remote: Texts,
) -> anyhow::Result<backend_database::Changed> {
    let has_secrets = world.unit.juju.has_secrets();
    // On every unit: reading the secret once by its URI makes the label this unit's name for it.
    let username = credentials(world, relation, &remote)?.map(|credentials| credentials.user);
    let unit = world.juju.bag(relation, &Owner::Unit)?.clone();
    let seat = if world.leads()? {
        Seat::Leader(backend_leader(world, peer, (relation, &remote), username)?)
    } else {
        Seat::Follower(())
    };
    Ok(backend_database::Changed { relation, has_secrets, unit, remote, seat })
}

fn backend_leader(
    world: &mut World,
    peer: RelationId,
    (relation, remote): (RelationId, &Texts),
    username: Option<String>,
) -> anyhow::Result<backend_database::Leader> {
    let found = users(world, peer)?;
    let lookup = match username {
        Some(username) => Some(lookup(world, peer, backend_database::auth_user(&username), remote)?),
        None => None,
    };
    let goodbye = goodbye(world, peer, relation)?;
    let installed = match &lookup {
        Some(lookup) => stands(world, peer, found.users.as_ref(), lookup)?,
        None => false,
    };
    let backend = match (lookup.clone(), too_old(remote)) {
        (None, _) => Err(Wait::Backend),
        (Some(_), Some(version)) => {
            Err(Wait::Refused(format!("PostgreSQL {version} is too old: relate to version 14 or later")))
        }
        (Some(_), None) if matches!(goodbye, Goodbye::Said(_)) => Err(Wait::Backend),
        (Some(lookup), None) if installed => Ok(lookup),
        // Before its first unit joins, or after its last one left, there is nobody to talk to.
        (Some(_), None) if world.juju.members(relation)?.is_empty() => Err(Wait::Backend),
        (Some(lookup), None) => server(world)?.map(|_| lookup),
    };
    let (_, databases) = databases(world, peer)?.unwrap_or_default();
    let mark = mark(world);
    let mut clients = Vec::new();
    let stand_roles = match &lookup {
        Some(lookup) => {
            world.trust != Trust::None && noted(world, peer, found.users.as_ref(), lookup)? == Noted::All
        }
        None => false,
    };
    if backend.is_ok() && !installed && !stand_roles {
        // Answered they may be from another PostgreSQL, which has no such users; on this one a role of a
        // client's name can be somebody else's. Only the Python charm made roles without a comment, and it
        // left an md5 line for the auth role of this very relation.
        let list = found.users.as_ref().map(|users| &users.list);
        let auth_line = backend.as_ref().ok().and_then(|lookup| list?.line(&lookup.auth_user));
        let known = auth_line.is_some_and(|line| line.reveal().starts_with("md5"));
        let (answered, _) = answered(world, peer)?;
        let wanted = |Answered { client, database, password }: Answered| NewClient {
            known,
            ..client.wanted((database, &client.roles()), password, &databases, &mark)
        };
        clients.extend(answered.into_iter().map(wanted));
    }
    Ok(backend_database::Leader {
        app: world.juju.bag(relation, &Owner::App)?.clone(),
        backend,
        goodbye,
        installed,
        users: found.users.unwrap_or(found.passwords),
        store: found.store,
        databases: databases.0.into_values().map(|entry| entry.auth_dbname.unwrap_or(entry.name)).collect(),
        clients,
        roles: client_roles(world, peer)?,
        app_name: world.unit.app.clone(),
        mark,
        fresh: Fresh {
            auth: password(),
            monitoring: password(),
            admin: password(),
            salts: [rand_salt(), rand_salt(), rand_salt()],
        },
    })
}

fn goodbye(world: &mut World, peer: RelationId, relation: RelationId) -> anyhow::Result<Goodbye> {
    let noted = world.juju.bag(peer, &Owner::App)?.get(backend_database::INSTALLED).cloned();
    if !noted.as_ref().is_some_and(|noted| noted.starts_with(backend_database::ENDED)) {
        return Ok(Goodbye::Unsaid);
    }
    let members = world.juju.members(relation)?;
    Ok(backend_database::goodbye(noted.as_deref(), relation, &members))
}

/// Whether the users are whole and PostgreSQL has what they need.
fn is_installed(world: &mut World, peer: RelationId) -> anyhow::Result<bool> {
    let Some(users) = users(world, peer)?.users else { return Ok(false) };
    let (Some((_, remote)), Some(auth_user)) = (backend(world)?, users.list.auth_user()) else {
        return Ok(false);
    };
    let lookup = lookup(world, peer, auth_user.to_owned(), &remote)?;
    Ok(backend_database::is_complete(&users, &world.unit.app) && stands(world, peer, Some(&users), &lookup)?)
}

/// Whether PostgreSQL has the auth role of these users and the lookup, by what was noted when they were made.
fn stands(
    world: &mut World,
    peer: RelationId,
    users: Option<&Users>,
    lookup: &Lookup,
) -> anyhow::Result<bool> {
    let is_trusted = match world.trust {
        Trust::Full => true,
        Trust::NotOfClients => !lookup.everywhere,
        Trust::None => false,
    };
    Ok(is_trusted && noted(world, peer, users, lookup)? == Noted::All)
}

/// What the note says of PostgreSQL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Noted {
    Nothing,
    /// It has the lookup, and not the role and database of every client.
    Lookup,
    All,
}

fn noted(
    world: &mut World,
    peer: RelationId,
    users: Option<&Users>,
    lookup: &Lookup,
) -> anyhow::Result<Noted> {
    let is_theirs = users.and_then(|users| users.list.auth_user()) == Some(lookup.auth_user.as_str());
    let noted = world.juju.bag(peer, &Owner::App)?.get(backend_database::INSTALLED);
    Ok(match noted.filter(|_| is_theirs) {
        Some(noted) if *noted == lookup.mark() => Noted::All,
        Some(noted) if *noted == lookup.mark_without_clients() => Noted::Lookup,
        _ => Noted::Nothing,
    })
}

/// Where PgBouncer looks passwords up, on all units.
fn lookup(world: &mut World, peer: RelationId, auth_user: String, remote: &Texts) -> anyhow::Result<Lookup> {
    let is_old = |version: Version| version < Version::PEERS;
    let mut everywhere = own_version(world, peer)?.is_some_and(is_old);
    for unit in world.juju.members(peer)? {
        let bag = sibling(world, peer, &unit)?;
        let version = bag.get(peers::PGBOUNCER_VERSION).and_then(|text| Version::parse(text));
        // A unit of the Python charm does not tell; one of ours that does not tell yet serves nobody.
        everywhere |= version.map_or(!bag.contains_key(peers::HOSTNAME), is_old);
    }
    Ok(Lookup { auth_user, database: own_database(remote).to_owned(), everywhere })
}

/// The roles of all clients that are there, or are not known to be gone; for a unit that leaves, of those that it
/// has not left yet.
fn client_roles(world: &mut World, peer: RelationId) -> anyhow::Result<Vec<String>> {
    let mut relations = world.juju.relations(Endpoint::Database)?;
    if !world.leaving {
        let (_, databases) = databases(world, peer)?.unwrap_or_default();
        relations.extend(databases.0.keys().filter_map(|origin| origin.relation()).map(RelationId));
    }
    relations.sort();
    relations.dedup();
    Ok(relations.into_iter().map(database::role).collect())
}

/// The users and where they are kept, for [`backend_database::broken`].
pub fn backend_broken(world: &mut World, peer: RelationId) -> anyhow::Result<(Option<Users>, Store)> {
    let found = users(world, peer)?;
    Ok((found.users, found.store))
}

/// Names what can no longer be removed from a PostgreSQL that we are not related to any more.
pub fn warn_of_what_stays(world: &mut World, peer: RelationId) -> anyhow::Result<()> {
    let noted = world.juju.bag(peer, &Owner::App)?.get(backend_database::INSTALLED).cloned();
    // What was removed in time is noted as such.
    let Some(noted) = noted.filter(|noted| !noted.starts_with(backend_database::ENDED)) else {
        return Ok(());
    };
    if world.leaving && !is_whole_application_leaving(world)? {
        return Ok(());
    }
    if let Some(role) = users(world, peer)?.users.as_ref().and_then(|users| users.list.auth_user()) {
        tracing::warn!(
            "left in PostgreSQL, which was gone before they could be removed: the role {role} and its schema \
             (get_auth {noted}); if that server lives on, drop them there"
        );
    }
    Ok(())
}

/// Whether no unit of ours is to stay. Scaled to nothing, the application may come back.
fn is_whole_application_leaving(world: &mut World) -> anyhow::Result<bool> {
    let goal = world.juju.goal(&world.unit.app)?;
    Ok(goal.is_some_and(|goal| goal.staying().next().is_none()))
}

/// Whether what stands in the app bag is this charm's last word: a leader of the Python charm changes the
/// databases and leaves our configuration as it is.
pub fn is_published_by_us(world: &mut World, peer: RelationId) -> anyhow::Result<bool> {
    Ok(matches!(published_config(world, peer)?, Ok(Some(_))))
}

/// The input of [`database::changed`]; nothing for who is not the leader.
pub fn database_changed(world: &mut World, peer: RelationId) -> anyhow::Result<Option<database::Changed>> {
    if !world.leads()? {
        return Ok(None);
    }
    let databases = match databases(world, peer)? {
        Some((text, databases)) => (Some(text), databases),
        None => (None, PgbDbs::default()),
    };
    let relations = world.juju.relations(Endpoint::Database)?;
    let is_gone = |origin: &Origin| origin.relation().is_some_and(|id| !relations.contains(&RelationId(id)));
    let has_gone = databases.1.0.iter().any(|(origin, entry)| !entry.legacy && is_gone(origin));
    let newest = newest(world, peer)?;
    let waiting = newest.waiting(world.notes != Notes::Void, world.left.contains(&Handler::Database));
    let missing = database::relation_ids(&world.juju.state(database::MISSING)?.unwrap_or_default());
    let mut patience = Patience::parse(&world.juju.state(database::PATIENCE)?.unwrap_or_default());
    if world.notes == Notes::MayLack {
        let is_entered = |id: &RelationId| databases.1.0.contains_key(&Origin::Relation(id.0));
        patience.count(waiting.iter().copied().filter(is_entered));
    }
    let version = match backend(world)? {
        Some((_, remote)) => remote.get("version").and_then(|text| ServerVersion::parse(text)),
        None => None,
    };
    let Look { at, is_idle, mut units, behind } = if world.trust == Trust::None
        // Who needs the wildcard still is in the bags of all.
        || (has_gone && databases.1.wildcard().is_some())
        || !is_published_by_us(world, peer)?
    {
        Look { at: relations.clone(), ..Look::default() }
    } else {
        look(world, peer, (&databases, version), (&relations, &waiting, &newest.answered()), &patience)?
    };
    let mut clients = Vec::new();
    for relation in at {
        clients.push(client(world, peer, relation, &databases.1)?);
    }
    let has_work = is_idle
        || !behind.is_empty()
        || clients.iter().any(|client| !client.remote.is_empty() && is_to_serve(client, &databases.1));
    let roams = databases.1.wildcard().is_some() || clients.iter().any(|c| c.roles().reach_every_database());
    let mut backend = database::Backend::NotNeeded;
    if has_work || has_gone || roams {
        backend = backend_for_clients(world, peer)?;
    }
    if has_work && !is_idle && units.is_empty() {
        units = followers(world, peer)?;
    }
    let others = match &backend {
        database::Backend::Ready { .. } if roams => other_databases(world)?,
        _ => None,
    };
    let ended = match world.ended {
        Some(relation) => Some((relation, world.juju.bag(relation, &Owner::App)?.clone())),
        None => None,
    };
    Ok(Some(database::Changed {
        ended,
        has_secrets: world.unit.juju.has_secrets(),
        others_reach_all: databases.1.wildcard().is_some()
            && !world.juju.relations(Endpoint::DbAdmin)?.is_empty(),
        databases,
        relations,
        clients,
        newest,
        waiting,
        missing,
        version,
        backend,
        reach: reach(world, peer)?,
        told: world.juju.bag(peer, &Owner::App)?.get(database::TOLD).cloned(),
        units,
        behind,
        patience,
        others: (world.juju.bag(peer, &Owner::App)?.get(database::OTHERS).cloned(), others),
        comment: mark(world),
    }))
}

/// What is noted of the clients that may have no answer yet.
fn newest(world: &mut World, peer: RelationId) -> anyhow::Result<Newest> {
    Ok(Newest {
        told: world.juju.bag(peer, &Owner::App)?.get(database::NEWEST).cloned().unwrap_or_default(),
        noted: world.juju.state(database::WAITING)?.unwrap_or_default(),
    })
}

/// At whose bags a hook looks.
#[derive(Default)]
struct Look {
    at: Vec<RelationId>,
    /// Nobody can be served.
    is_idle: bool,
    /// Every unit, if somebody waits for units.
    units: Vec<database::Follower>,
    /// The units for which those wait who are not looked at.
    behind: Vec<String>,
}

/// A hook looks at the client it is about, and at others only where that may tell something new.
fn look(
    world: &mut World,
    peer: RelationId,
    ((text, databases), version): (&(Option<String>, PgbDbs), Option<ServerVersion>),
    (relations, waiting, answered): (&[RelationId], &[RelationId], &[RelationId]),
    patience: &Patience,
) -> anyhow::Result<Look> {
    let (own, notes) = (world.client, world.notes);
    let is_entered = |id: &RelationId| databases.0.contains_key(&Origin::Relation(id.0));
    // Who has not asked yet asks in a hook of its own; one can be left out.
    let is_new = |id: &RelationId| waiting.contains(id) || (notes != Notes::Hold && !is_entered(id));
    let mut at: Vec<RelationId> =
        relations.iter().copied().filter(|id| own == Some(*id) || is_new(id)).collect();
    let is_unserved = |id: &RelationId| waiting.contains(id) || !is_entered(id);
    if notes != Notes::Void
        && text.is_some()
        && at.iter().any(is_unserved)
        && matches!(backend_for_clients(world, peer)?, database::Backend::Waiting(_))
    {
        at.retain(|id| own == Some(*id));
        return Ok(Look { at, is_idle: true, ..Look::default() });
    }
    let follows = |id: &RelationId| own != Some(*id) && is_entered(id) && !answered.contains(id);
    if notes == Notes::Void || !at.iter().any(follows) {
        return Ok(Look { at, ..Look::default() });
    }
    let units = followers(world, peer)?;
    // Whoever asks in this hook has all units load another database first.
    let asks = match own.filter(|id| !is_entered(id)) {
        Some(own) => {
            let place = (world.unit.juju.has_secrets(), version);
            database::asks(&client(world, peer, own, databases)?, place, databases)
        }
        None => false,
    };
    let wanted = text.as_ref().filter(|_| !asks).map(|text| pgbouncer::hash(text));
    let wanted = wanted.unwrap_or_default();
    let behind = |is_patient| database::behind(&units, &wanted, is_patient);
    let (all, any) = (behind(true), behind(false));
    let is_late = |id: &RelationId| follows(id) && !(if patience.ends(*id) { &any } else { &all }).is_empty();
    let behind = if at.iter().any(is_late) { all.clone() } else { Vec::new() };
    at.retain(|id| !is_late(id));
    Ok(Look { at, is_idle: false, units, behind })
}

/// Whether there is work in PostgreSQL for a client.
fn is_to_serve(client: &database::Client, databases: &PgbDbs) -> bool {
    !client.is_answered || !databases.0.contains_key(&Origin::Relation(client.relation.0))
}

/// Every unit, this one too, with what it has loaded and whether it is waited for.
fn followers(world: &mut World, peer: RelationId) -> anyhow::Result<Vec<database::Follower>> {
    let own = world.unit.name.clone();
    let goal = world.juju.goal(&world.unit.app)?;
    let loaded = world.juju.bag(peer, &Owner::Unit)?.get(peers::DATABASES_LOADED).cloned();
    let mut followers = vec![database::Follower { unit: own.clone(), loaded, counts: true }];
    let mut others = world.juju.members(peer)?;
    // A new leader may not have met everybody yet.
    others.extend(goal.iter().flat_map(Goal::staying).map(str::to_owned));
    others.sort();
    others.dedup();
    for unit in others.into_iter().filter(|unit| *unit != own) {
        let counts = goal.as_ref().is_none_or(|goal| goal.is_active(&unit));
        let loaded = sibling(world, peer, &unit)?.remove(peers::DATABASES_LOADED);
        followers.push(database::Follower { unit, loaded, counts });
    }
    Ok(followers)
}

/// Whether a client waits for this unit, which has loaded in this very hook what it was to, and no other hook will come
/// of it: what is new in the app bag wakes the leader, too.
pub fn has_caught_up(waits: &[Wait], world: &mut World, peer: RelationId) -> anyhow::Result<bool> {
    let own = &world.unit.name;
    let is_awaited = |wait: &Wait| matches!(wait, Wait::Units(units) if units.contains(own));
    // What this hook did not find is gone when the next one does not find it either, and not before.
    let has_missing = world.juju.state(database::MISSING)?.is_some_and(|ids| !ids.is_empty());
    if !waits.iter().any(is_awaited) || has_missing || world.juju.changes(peer, &Owner::App) {
        return Ok(false);
    }
    let wanted = databases(world, peer)?.map(|(text, _)| pgbouncer::hash(&text));
    Ok(wanted.as_ref() == world.juju.bag(peer, &Owner::Unit)?.get(peers::DATABASES_LOADED))
}

/// All databases of PostgreSQL but its own and ours; nothing where it cannot be asked.
fn other_databases(world: &mut World) -> anyhow::Result<Option<Vec<String>>> {
    let own = backend(world)?.map(|(_, remote)| own_database(&remote).to_owned());
    let Ok(server) = server(world)? else { return Ok(None) };
    let Ok(mut names) = server.databases() else { return Ok(None) };
    names.retain(|name| name != "postgres" && Some(name) != own.as_ref());
    Ok(Some(names))
}

/// Whether an endpoint that is not served has a relation.
pub fn is_related(world: &mut World, endpoint: Endpoint) -> anyhow::Result<bool> {
    Ok(!world.juju.relations(endpoint)?.is_empty())
}

/// The line an active unit shows.
pub fn serving(world: &mut World, peer: RelationId) -> anyhow::Result<String> {
    let (_, databases) = databases(world, peer)?.unwrap_or_default();
    let count = databases.names().filter(|name| *name != "*").collect::<BTreeSet<_>>().len();
    let Some((pool_mode, port)) = world.in_force else { return Ok(String::new()) };
    let processes = world.workload.probe().map_or(0, |met| met.places.len());
    let behind = behind(world, peer)?;
    Ok(format!(
        "{count} database{}, {pool_mode} pooling, port {port}, {processes} processes{}",
        if count == 1 { "" } else { "s" },
        if behind.is_empty() { String::new() } else { format!("; behind: {}", behind.join(", ")) }
    ))
}

/// The other units that do not serve what clients were told, as the leader sees it.
fn behind(world: &mut World, peer: RelationId) -> anyhow::Result<Vec<String>> {
    if !world.leads()? {
        return Ok(Vec::new());
    }
    let own = world.juju.bag(peer, &Owner::Unit)?.get(peers::DATABASES_LOADED).cloned();
    let mut behind = Vec::new();
    for unit in world.juju.members(peer)? {
        if sibling(world, peer, &unit)?.get(peers::DATABASES_LOADED) != own.as_ref() {
            behind.push(unit);
        }
    }
    Ok(behind)
}

fn own(world: &mut World, peer: RelationId) -> anyhow::Result<Own> {
    let found = users(world, peer)?;
    let (config, unmet) = rendered(world, peer, found.users.as_ref().map(|users| &users.list))?;
    let (clients, told) = to_tell(world, peer)?;
    let moves = match &config {
        Some(own) if world.juju.bag(peer, &Owner::App)?.get(peers::CONFIG) != Some(&own.text) => {
            let last = published_options(world, peer)?;
            last.is_some_and(|last| last.listen_port != own.shared.listen_port)
        }
        _ => false,
    };
    Ok(Own { config, unmet, moves, users: found.users, store: found.store, clients, told })
}

/// The clients that were told something else than what is so today, and what to note once they were told.
fn to_tell(world: &mut World, peer: RelationId) -> anyhow::Result<(Vec<database::Answer>, Option<String>)> {
    let Some(reach) = reach(world, peer)? else { return Ok((Vec::new(), None)) };
    let version = backend(world)?.and_then(|(_, remote)| remote.get("version").cloned());
    let told =
        reach.told().map(|endpoints| format!("{endpoints} {}", version.as_deref().unwrap_or_default()));
    // Bags of clients are read only when there is something to tell.
    let noted = world.juju.bag(peer, &Owner::App)?.get(database::TOLD).cloned();
    if told.is_some() && noted == told {
        return Ok((Vec::new(), told));
    }
    if world.juju.relations(Endpoint::Database)?.is_empty() {
        return Ok((Vec::new(), None));
    }
    let (_, databases) = databases(world, peer)?.unwrap_or_default();
    let has_secrets = world.unit.juju.has_secrets();
    let (answered, hidden) = answered(world, peer)?;
    let answer = |Answered { client, database, password }: Answered| {
        let place = (&reach, noted.as_deref());
        database::Answer::new(&client, (database, &databases), password, place, version.clone(), has_secrets)
    };
    // Who could not be told today is told in a later hook.
    Ok((answered.into_iter().map(answer).collect(), told.filter(|_| !hidden)))
}

/// A client that has its credentials.
struct Answered {
    client: database::Client,
    database: String,
    password: Secret,
}

/// Every client that has its credentials, with its database and password, and whether there is one
/// whose password cannot be read at present.
fn answered(world: &mut World, peer: RelationId) -> anyhow::Result<(Vec<Answered>, bool)> {
    let (mut answered, mut hidden) = (Vec::new(), false);
    for relation in world.juju.relations(Endpoint::Database)? {
        // With no entry known, each one's password is looked for.
        let client = client(world, peer, relation, &PgbDbs::default())?;
        if !database::is_answered(&client.app) {
            continue;
        }
        match (client.app.get(database::DATABASE).cloned(), client.password.clone()) {
            (Some(database), Some(password)) => answered.push(Answered { client, database, password }),
            _ => hidden = true,
        }
    }
    Ok((answered, hidden))
}

fn followed(world: &mut World, peer: RelationId) -> anyhow::Result<Followed> {
    let found = users(world, peer)?;
    let mut broken = found.broken;
    let published = match published_config(world, peer)? {
        Ok(config) => config,
        Err(reason) => {
            tracing::warn!("pgb-peers: ignored {}: {reason}", peers::CONFIG);
            broken.push(Wait::Published(peers::CONFIG, reason));
            None
        }
    };
    let noted = world.juju.bag(peer, &Owner::App)?.get(backend_database::INSTALLED);
    if noted.is_some_and(|noted| noted.starts_with(backend_database::ENDED)) {
        // Who led last took out of PostgreSQL by what clients are let in; only a leader makes it anew.
        broken.push(Wait::Leader);
    }
    let users = found.users.or_else(|| found.deleted.then(Users::nobody));
    let kept = if published.is_none() || users.is_none() { kept(world) } else { Kept::default() };
    let config = match published {
        Some(config) => Some(config),
        // A leader of the Python charm publishes databases, and nothing else, in the bag.
        None if databases(world, peer)?.is_some() => {
            let list = users.as_ref().map(|users| &users.list).or(kept.users.as_ref());
            rendered(world, peer, list)?.0
        }
        None => None,
    };
    Ok(Followed { config, users, kept, broken })
}

/// What lies on this unit from an earlier hook.
fn kept(world: &mut World) -> Kept {
    let saved = world.workload.saved();
    Kept {
        config: saved
            .config
            .and_then(|text| SharedConfig::parse(&text).ok().map(|shared| Config { shared, text })),
        users: saved.users.and_then(|text| UserList::parse(text.reveal()).ok()),
    }
}

/// The configuration in the app bag: nothing where none stands there that counts, or why the one
/// that does is broken.
fn published_config(world: &mut World, peer: RelationId) -> anyhow::Result<Result<Option<Config>, String>> {
    let app = world.juju.bag(peer, &Owner::App)?;
    let databases = app.get(peers::DATABASES).map_or("{}", String::as_str);
    let Some(text) = app.get(peers::CONFIG) else { return Ok(Ok(None)) };
    Ok(match SharedConfig::parse(text) {
        Ok(shared) if shared.databases_hash == pgbouncer::hash(databases) => {
            Ok(Some(Config { shared, text: text.clone() }))
        }
        // Left by a leader that since then changed the databases without it: the Python charm.
        Ok(_) | Err(pgbouncer::Invalid::Foreign) => Ok(None),
        Err(invalid) => Err(invalid.to_string()),
    })
}

/// The options to go by, and which one cannot be used. One stands for all: then those of the configuration that could
/// be had last hold on.
fn options(world: &mut World, peer: RelationId) -> anyhow::Result<(Option<Options>, Option<InvalidOption>)> {
    // One that knows more than another unit's leaves it to that one to leave something out.
    let version = own_version(world, peer)?.unwrap_or(Version::NEWEST);
    let refused = world.juju.state(peers::REFUSED_PORT)?.and_then(|port| port.parse().ok());
    let options = Options::parse(world.juju.config()?);
    Ok(match options.and_then(|options| options.check(version, refused).map(|()| options)) {
        Ok(mut options) => {
            // Nobody moves to another port while its first user cannot be there.
            if world.workload.probe().is_err()
                && let Some(last) = published_options(world, peer)?
            {
                options.listen_port = last.listen_port;
            }
            (Some(options), None)
        }
        Err(invalid) => {
            let published = published_options(world, peer)?;
            let last = published.or_else(|| kept(world).config.map(|config| Options::of(config.shared)));
            (last, Some(invalid))
        }
    })
}

/// The options of the configuration that stands in the app bag, of whatever databases it is.
fn published_options(world: &mut World, peer: RelationId) -> anyhow::Result<Option<Options>> {
    let published = world.juju.bag(peer, &Owner::App)?.get(peers::CONFIG);
    Ok(published.and_then(|text| SharedConfig::parse(text).ok()).map(Options::of))
}

/// The configuration by this unit's own facts, and why it is none or not the one that was asked for.
fn rendered(
    world: &mut World,
    peer: RelationId,
    users: Option<&UserList>,
) -> anyhow::Result<(Option<Config>, Option<Wait>)> {
    let (options, invalid) = options(world, peer)?;
    let unmet = invalid.map(Wait::Options);
    let Some(options) = options else { return Ok((None, unmet)) };
    let (text, databases) = databases(world, peer)?.unwrap_or_else(|| ("{}".to_owned(), PgbDbs::default()));
    let endpoints = backend_endpoints(world)?;
    let others = world.juju.bag(peer, &Owner::App)?.get(database::OTHERS).cloned();
    let others: Vec<String> = others.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let app = &world.unit.app;
    let shared = peers::configuration(app, &options, (&text, &databases), &others, endpoints.as_ref(), users);
    Ok(match shared.render() {
        Ok(text) => (Some(Config { shared, text }), unmet),
        Err(error) => (None, Some(Wait::NotLoaded(format!("cannot write the configuration: {error}")))),
    })
}

/// The databases by relation, with the text they stand in; nothing where there is none that is valid.
fn databases(world: &mut World, peer: RelationId) -> anyhow::Result<Option<(String, PgbDbs)>> {
    let Some(text) = world.juju.bag(peer, &Owner::App)?.get(peers::DATABASES).cloned() else {
        return Ok(None);
    };
    let parsed = bounded(&text).and_then(|text| PgbDbs::parse(text).map_err(|error| error.to_string()));
    Ok(match parsed {
        Ok(databases) => Some((text, databases)),
        Err(reason) => {
            tracing::warn!("pgb-peers: ignored {}: {reason}", peers::DATABASES);
            None
        }
    })
}

/// The users as found in whatever layout.
struct Found {
    users: Option<Users>,
    /// The passwords alone: they outlive a list that went with its backend, or that is broken.
    passwords: Users,
    /// The list is marked as deleted: there are to be no users.
    deleted: bool,
    store: Store,
    broken: Vec<Wait>,
}

/// The Python charm looked first for a plain key, then for a secret by today's label, by the label
/// before it, by a URI in the bag; and so do we.
fn users(world: &mut World, peer: RelationId) -> anyhow::Result<Found> {
    let app = world.juju.bag(peer, &Owner::App)?.clone();
    let keys = [peers::AUTH, peers::MONITORING_PASSWORD, peers::ADMIN_PASSWORD];
    let plain: BTreeMap<String, Secret> = keys
        .iter()
        .flat_map(|key| [(*key).to_owned(), peers::field(key)])
        .filter_map(|name| Some((name.clone(), Secret::new(app.get(&name)?.clone()))))
        .collect();
    let has_secrets = world.unit.juju.has_secrets();
    let (content, adopt) = if has_secrets { peer_secret(world, &app)? } else { (BTreeMap::new(), None) };
    let value = |key: &str| {
        let value = plain
            .get(key)
            .or_else(|| plain.get(&peers::field(key)))
            .or_else(|| content.get(&peers::field(key)))?;
        Some(value.clone())
    };
    let present = |key: &str| value(key).filter(|value| value.reveal() != peers::DELETED);
    let mut broken = Vec::new();
    let list = match present(peers::AUTH).map(|text| {
        bounded(text.reveal()).and_then(|text| UserList::parse(text).map_err(|error| error.to_string()))
    }) {
        Some(Ok(list)) if list.is_initialised() => Some(list),
        Some(Ok(_)) => {
            broken.push(Wait::Published(peers::AUTH, "it has no line for the auth role".into()));
            None
        }
        Some(Err(reason)) => {
            broken.push(Wait::Published(peers::AUTH, reason));
            None
        }
        None => None,
    };
    for wait in &broken {
        if let Wait::Published(key, reason) = wait {
            tracing::warn!("pgb-peers: ignored {key}: {reason}");
        }
    }
    let deleted = value(peers::AUTH).is_some_and(|value| value.reveal() == peers::DELETED);
    let passwords = Users {
        monitoring: present(peers::MONITORING_PASSWORD),
        admin: present(peers::ADMIN_PASSWORD),
        ..Users::nobody()
    };
    let store = if has_secrets {
        let revision = if world.leads()? {
            world.juju.secret_info(&peer_label(world))?.and_then(|info| info.revision)
        } else {
            None
        };
        Store::Secret { content, adopt, revision, plain: plain.into_keys().collect() }
    } else {
        Store::Bag
    };
    let users = list.map(|list| Users { list, ..passwords.clone() });
    Ok(Found { users, passwords, deleted, store, broken })
}

fn bounded(text: &str) -> Result<&str, String> {
    if text.len() > LIMIT { Err("it is larger than 1 MiB".into()) } else { Ok(text) }
}

/// The peer secret's content, and what to adopt if it is not under today's label.
fn peer_secret(world: &mut World, app: &Texts) -> anyhow::Result<(BTreeMap<String, Secret>, Option<String>)> {
    let label = peer_label(world);
    if let Some(content) = world.juju.secret_by_label(&label)? {
        return Ok((content, None));
    }
    let old = format!("{}.app", world.unit.app);
    if let Some(content) = world.juju.secret_by_label(&old)? {
        let id = if world.leads()? { world.juju.secret_info(&old)?.map(|info| info.id) } else { None };
        return Ok((content, id));
    }
    // A follower gives no label here: it would be refused or become its own.
    match app.get("internal-secret") {
        Some(uri) => Ok((world.juju.secret_by_uri(uri)?.unwrap_or_default(), Some(uri.clone()))),
        None => Ok((BTreeMap::new(), None)),
    }
}

/// The label of the secret all units share.
pub fn peer_label(world: &World) -> String {
    format!("pgb-peers.{}.app", world.unit.app)
}

/// The relation with PostgreSQL and what it says there.
fn backend(world: &mut World) -> anyhow::Result<Option<(RelationId, Texts)>> {
    let Some(relation) = world.juju.relations(Endpoint::BackendDatabase)?.first().copied() else {
        return Ok(None);
    };
    let remote = match world.juju.remote_app(relation)? {
        Some(app) => world.juju.bag(relation, &Owner::Other(app))?.clone(),
        None => Texts::new(),
    };
    Ok(Some((relation, remote)))
}

fn backend_endpoints(world: &mut World) -> anyhow::Result<Option<Endpoints>> {
    let Some((relation, remote)) = backend(world)? else { return Ok(None) };
    let servers = |key: &str| {
        let text = remote.get(key)?;
        let servers = Servers::parse(text);
        if servers.is_none() {
            tracing::warn!("backend-database:{relation}: ignored {key}: it is not host:port");
        }
        servers
    };
    Ok(servers("endpoints").map(|primary| Endpoints {
        replicas: servers("read-only-endpoints").unwrap_or_else(|| primary.clone()),
        primary,
        database: own_database(&remote).to_owned(),
    }))
}

/// The credentials PostgreSQL gave us, in a secret or plain.
fn credentials(
    world: &mut World,
    relation: RelationId,
    remote: &Texts,
) -> anyhow::Result<Option<Credentials>> {
    if remote.get("subordinated").is_some_and(|text| text == "true") && !is_unit_ready(world, relation)? {
        return Ok(None);
    }
    let content = match remote.get("secret-user") {
        Some(uri) => world.juju.foreign_secret(uri, &format!("backend-database.{relation}.user.secret"))?,
        None => None,
    };
    let value = |key: &str| {
        content.as_ref().and_then(|c| c.get(key).cloned()).or_else(|| remote.get(key).map(Secret::new))
    };
    let (Some(user), Some(password), Some(servers)) =
        (value("username"), value("password"), remote.get("endpoints").and_then(|text| Servers::parse(text)))
    else {
        return Ok(None);
    };
    Ok(Some(Credentials {
        hosts: servers.hosts.into_iter().map(|host| (host, servers.port)).collect(),
        user: user.reveal().to_owned(),
        password,
        database: own_database(remote).to_owned(),
    }))
}

/// PostgreSQL's version, if it says that it is of one before those we know. One that says nothing may be any.
fn too_old(remote: &Texts) -> Option<ServerVersion> {
    let version = remote.get("version").and_then(|text| ServerVersion::parse(text))?;
    (version < ServerVersion::OLDEST).then_some(version)
}

/// Whether a unit of a PostgreSQL that runs beside another application calls itself ready: only then does it
/// let anybody in.
fn is_unit_ready(world: &mut World, relation: RelationId) -> anyhow::Result<bool> {
    for unit in world.juju.members(relation)? {
        if world.juju.bag(relation, &Owner::Other(unit))?.get("state").is_some_and(|state| state == "ready") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The database that PostgreSQL made for us.
fn own_database(remote: &Texts) -> &str {
    remote.get(backend_database::DATABASE).map_or("pgbouncer", String::as_str)
}

/// The backend, or why it cannot be used. Trying takes a few seconds at most and is done once a dispatch.
pub fn server(world: &mut World) -> anyhow::Result<Result<&mut Server, Wait>> {
    if world.server.is_none() {
        let credentials = match backend(world)? {
            Some((relation, remote)) => credentials(world, relation, &remote)?.ok_or(Wait::Backend),
            None => Err(Wait::NoBackend),
        };
        let connect = |credentials: Credentials| {
            Server::connect(&credentials).map_err(|error| Wait::Unreachable(error.to_string()))
        };
        world.server = Some(credentials.and_then(connect));
    }
    Ok(match &mut world.server {
        Some(Ok(server)) => Ok(server),
        Some(Err(wait)) => Err(wait.clone()),
        None => Err(Wait::Backend),
    })
}

fn backend_for_clients(world: &mut World, peer: RelationId) -> anyhow::Result<database::Backend> {
    let Some((_, remote)) = backend(world)? else {
        return Ok(database::Backend::Waiting(Wait::NoBackend));
    };
    let users = users(world, peer)?.users;
    let Some(auth_user) = users.as_ref().and_then(|users| users.list.auth_user()) else {
        return Ok(database::Backend::Waiting(Wait::Backend));
    };
    let lookup = lookup(world, peer, auth_user.to_owned(), &remote)?;
    if noted(world, peer, users.as_ref(), &lookup)? == Noted::Nothing {
        return Ok(database::Backend::Waiting(Wait::Backend));
    }
    let rounds = world.juju.bag(peer, &Owner::App)?.get(database::ROUNDS).cloned();
    let round = rounds.and_then(|text| text.parse().ok()).unwrap_or(0);
    // Older charms do not tell it. Otherwise PostgreSQL is not connected to before there is something to do.
    let version = match remote.get("version") {
        Some(version) => Some(version.clone()),
        None => match server(world)? {
            Ok(server) => server.server_version().ok(),
            Err(wait) => return Ok(database::Backend::Waiting(wait)),
        },
    };
    Ok(database::Backend::Ready { version, lookup, round })
}

/// A client's relation. The password of one that has its answer is only read where its entry in `databases` is
/// missing.
fn client(
    world: &mut World,
    peer: RelationId,
    relation: RelationId,
    databases: &PgbDbs,
) -> anyhow::Result<database::Client> {
    let app = world.juju.bag(relation, &Owner::App)?.clone();
    let remote = match world.juju.remote_app(relation)? {
        Some(name) => world.juju.bag(relation, &Owner::Other(name))?.clone(),
        None => Texts::new(),
    };
    let is_entered = databases.0.contains_key(&Origin::Relation(relation.0));
    let has_credentials = database::is_answered(&app);
    let password = match app.get("password") {
        Some(password) => Some(Secret::new(password)),
        None if world.unit.juju.has_secrets() && !(has_credentials && is_entered) && !remote.is_empty() => {
            let label = client_label(relation, "user");
            world.juju.secret_by_label(&label)?.and_then(|content| content.get("password").cloned())
        }
        None => None,
    };
    // A model without secrets keeps a copy for the next leader in the peer bag.
    let kept = world.juju.bag(peer, &Owner::App)?.get(&database::role(relation)).map(Secret::new);
    Ok(database::Client {
        relation,
        app,
        remote,
        // What is left in the bag of a relation that was suspended names a secret that is gone.
        is_answered: has_credentials && (is_entered || password.is_some()),
        password: password.or(kept),
        attempts: world.attempts.count(relation),
        fresh: self::password(),
        salt: rand_salt(),
    })
}

/// The label of a client's secret.
pub fn client_label(relation: RelationId, group: &str) -> String {
    format!("database.{relation}.{group}.secret")
}

/// Where clients reach this application; nothing while this unit has no address.
fn reach(world: &mut World, peer: RelationId) -> anyhow::Result<Option<Reach>> {
    let (Some(Options { listen_port: port, .. }), _) = options(world, peer)? else { return Ok(None) };
    if world.is_sidecar() && world.unit.juju.has_secrets() {
        // Only then does it have our port.
        let service = |name: &str| format!("{}:{port}", world.service(name));
        let app = &world.unit.app;
        let python = service(&format!("{app}-service"));
        return Ok(Some(Reach::Service { ours: service(app), python }));
    }
    let Some(own) = world.juju.bind_address(Endpoint::Peers)? else { return Ok(None) };
    let mut addresses = vec![own];
    let members = world.juju.members(peer)?;
    for unit in &members {
        addresses.extend(sibling(world, peer, unit)?.remove(peers::ADDRESS));
    }
    addresses.sort();
    addresses.dedup();
    let bracketed = |address: &String| {
        if address.contains(':') { format!("[{address}]") } else { address.clone() }
    };
    let known: Vec<String> =
        addresses.iter().map(|address| format!("{}:{port}", bracketed(address))).collect();
    Ok(Some(Reach::Units { complete: is_everybody_known(world, peer, &known, &members)?, known }))
}

/// Whether no unit is missing among those we have met. Juju is only asked where this would be news to clients.
fn is_everybody_known(
    world: &mut World,
    peer: RelationId,
    known: &[String],
    members: &[String],
) -> anyhow::Result<bool> {
    let told = world.juju.bag(peer, &Owner::App)?.get(database::TOLD).cloned().unwrap_or_default();
    if told.split(' ').next() == Some(known.join(",").as_str()) {
        return Ok(true);
    }
    let own = world.unit.name.clone();
    let goal = world.juju.goal(&world.unit.app)?;
    Ok(goal.is_none_or(|goal| goal.staying().all(|unit| unit == own || members.iter().any(|m| m == unit))))
}

fn here(world: &mut World) -> anyhow::Result<Result<Here, Wait>> {
    // A pod's addresses are all its own; on a machine units would share the port by accident.
    let listen_addr =
        if world.is_sidecar() { Some("*".to_owned()) } else { world.juju.bind_address(Endpoint::Peers)? };
    let Some(listen_addr) = listen_addr else {
        return Ok(Err(Wait::NotLoaded("waiting for this unit's address".into())));
    };
    let Probe { version, auth_file, places } = match world.workload.probe() {
        Ok(met) => met,
        Err(unmet) => return Ok(Err(Wait::Probe(unmet))),
    };
    let Some(version) = Version::parse(&version) else {
        return Ok(Err(Wait::Probe(ProbeError::NoVersion(format!("{version:?} is none")))));
    };
    let loaded = (0..).zip(&places).map(|(instance, _)| world.workload.loaded(instance));
    let loaded = loaded.map(|loaded| loaded.map(|loaded| loaded.digest)).collect();
    Ok(Ok(Here {
        unit: pgbouncer::Unit { listen_addr, auth_file, places, version },
        loaded,
        stats_user: peers::stats_user(&world.unit.app),
    }))
}

/// This unit's PgBouncer; while it cannot be asked, the one it was.
fn own_version(world: &mut World, peer: RelationId) -> anyhow::Result<Option<Version>> {
    if let Ok(met) = world.workload.probe() {
        return Ok(Version::parse(&met.version));
    }
    let noted = world.juju.bag(peer, &Owner::Unit)?.get(peers::PGBOUNCER_VERSION);
    Ok(noted.and_then(|text| Version::parse(text)))
}

/// How the marks on roles we make begin: whose they are.
fn mark(world: &World) -> String {
    format!("pgbouncer-k8s: model {}, application {}", world.unit.model_uuid, world.unit.app)
}

/// 24 letters and digits, 142 bits, the form clients of this charm have always been given.
#[expect(clippy::disallowed_methods, reason = "the one place that makes passwords")]
fn password() -> Secret {
    Secret::new(Alphanumeric.sample_string(&mut rand::rng(), 24))
}

#[expect(clippy::disallowed_methods, reason = "the one place that makes salts")]
fn rand_salt() -> [u8; 16] {
    rand::random()
}

/// The relation a bag belongs to, and whose it is.
pub fn bag_of(bag: Bag, peer: RelationId) -> (RelationId, Owner) {
    match bag {
        Bag::PeerApp => (peer, Owner::App),
        Bag::PeerUnit => (peer, Owner::Unit),
        Bag::App(relation) => (relation, Owner::App),
        Bag::Unit(relation) => (relation, Owner::Unit),
    }
}

//! The relation `database`: our clients, whose PostgreSQL we are.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::event::RelationId;
use crate::handlers::backend_database::{self, Lookup};
use crate::handlers::peers;
use crate::pgbouncer::databases::python_list;
use crate::pgbouncer::{DatabaseName, Entry, Origin, PgbDbs, hash};
use crate::plan::{Bag, Effect, NewClient, Plan, Texts, Value, Wait};
use crate::postgres::{Roles, ServerVersion};
use crate::secret::Secret;

/// The client's key that asks for a database, and ours that grants it.
pub const DATABASE: &str = "database";
/// The client's key with the roles it wants for its user.
const ROLES: &str = "extra-user-roles";
/// The client's key with the fields it wants in secrets.
const REQUESTED_SECRETS: &str = "requested-secrets";
/// Our keys that say where we are reached.
pub const ENDPOINTS: &str = "endpoints";

/// Keys of requests that are none for a database and a user of it, with what to do about them.
const NOT_SERVED: [(&str, &str); 4] = [
    ("entity-type", "it asks for a user or group of its own making"),
    ("requested-entity-secret", "it asks for a user of its own naming"),
    ("prefix-matching", "it asks for all databases whose names begin alike"),
    ("requests", "it speaks version 1 of the interface"),
];

/// The groups of fields that have a secret each.
pub const GROUPS: [&str; 2] = ["user", "tls"];

/// Peer app bag: the relations that have asked, and may have no answer yet. Nobody reads the bags of the others to find
/// out.
pub const NEWEST: &str = "newest_clients";
/// Peer app bag: what all clients were last told of us.
pub const TOLD: &str = "clients_told";
/// Peer app bag: how many hooks the leader has come back for by itself. To write it wakes the leader.
pub const ROUNDS: &str = "rounds";
/// Peer app bag: databases that nobody asked for by name, for those who may use all.
pub const OTHERS: &str = "readonly_dbs";

/// State: those of [`NEWEST`] that still had none when the leader last looked, and those that have one and ask for more than
/// they can have. To take them out there would wake every unit.
pub const WAITING: &str = "waiting-clients";
/// State: how many `update-status` have come while each client waited for units, `<relation>=<n>` with blanks between.
pub const PATIENCE: &str = "update-statuses";
/// State: relations with an entry that a hook did not find any more. A leader whose hook is repeated does not know
/// those that came meanwhile; what two hooks in a row do not find is gone.
pub const MISSING: &str = "missing-clients";
/// The one in which a client waits no longer.
const PATIENCE_ENDS: u32 = 2;

/// How often a hook may fail over the answer to a client before others are let pass.
const ATTEMPTS: usize = 2;

/// What `changed` looks at; only the leader serves clients.
pub struct Changed {
    /// Whether the model has secrets.
    pub has_secrets: bool,
    /// The text of [`peers::DATABASES`] as it stands, if it is valid, and what it says.
    pub databases: (Option<String>, PgbDbs),
    /// The live relations of clients.
    pub relations: Vec<RelationId>,
    /// The relation whose end the hook tells of, with our app bag.
    pub ended: Option<(RelationId, Texts)>,
    /// Those that were looked at: the one the hook is about, and those that may wait for an answer.
    pub clients: Vec<Client>,
    /// What is noted of who waits for an answer.
    pub newest: Newest,
    /// Those who may, by that note.
    pub waiting: Vec<RelationId>,
    /// Those of [`MISSING`].
    pub missing: Vec<RelationId>,
    /// Clients of another endpoint may use every database.
    pub others_reach_all: bool,
    /// The backend's version, as it tells in `backend-database`.
    pub version: Option<ServerVersion>,
    /// PostgreSQL.
    pub backend: Backend,
    /// Where clients reach us, if that is known.
    pub reach: Option<Reach>,
    /// What [`TOLD`] says.
    pub told: Option<String>,
    /// Every unit, with what it has loaded.
    pub units: Vec<Follower>,
    /// The units for which clients wait that were not looked at.
    pub behind: Vec<String>,
    /// How long clients have waited for units, this hook included.
    pub patience: Patience,
    /// What [`OTHERS`] says, and what it should say where somebody looked.
    pub others: (Option<String>, Option<Vec<String>>),
    /// The first words of the mark on the roles we make.
    pub comment: String,
}

/// What is noted of who waits for an answer.
pub struct Newest {
    /// What [`NEWEST`] says.
    pub told: String,
    /// What [`WAITING`] says: what [`NEWEST`] said then, those who waited, and those of them that have their answer, with
    /// bars between.
    pub noted: String,
}

impl Newest {
    /// Whether it is noted who of them still waits. It is not by a leader that has not looked at them since it leads.
    pub fn is_noted(&self) -> bool {
        self.told.is_empty() || self.note_of_told().is_some()
    }

    /// Those who may wait. In a `routine` hook the note holds, unless another leader wrote since; and unless earlier hooks
    /// `left` work nobody waits at all.
    pub fn waiting(&self, routine: bool, left: bool) -> Vec<RelationId> {
        match self.note_of_told() {
            Some((waiting, _)) if routine && left => relation_ids(waiting),
            Some(_) if routine => Vec::new(),
            _ => relation_ids(&self.told),
        }
    }

    /// Those that have their answer and wait for no unit.
    pub fn answered(&self) -> Vec<RelationId> {
        self.note_of_told().map_or_else(Vec::new, |(_, answered)| relation_ids(answered))
    }

    fn note_of_told(&self) -> Option<(&str, &str)> {
        let (told, noted) = self.noted.split_once('|')?;
        (told == self.told).then(|| noted.split_once('|').unwrap_or((noted, "")))
    }

    /// Notes who waits now; with the `databases`, which wake every unit anyway, for the next leader, too.
    fn note(&self, waiting: &[RelationId], answered: &[RelationId], are_databases_new: bool) -> Plan {
        let mut plan = Plan::default();
        let mut told = self.told.clone();
        let known = relation_ids(&told);
        if are_databases_new || !waiting.iter().all(|id| known.contains(id)) {
            told = ids(waiting);
            let value = if told.is_empty() { Value::Absent } else { told.as_str().into() };
            plan.set(Bag::PeerApp, NEWEST, value);
        }
        let mut noted = if told.is_empty() { String::new() } else { format!("{told}|{}", ids(waiting)) };
        if !answered.is_empty() {
            noted = format!("{noted}|{}", ids(answered));
        }
        if noted != self.noted {
            plan.push(Effect::Remember(WAITING, noted));
        }
        plan
    }
}

/// How many `update-status` have come while each client waited for units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patience(BTreeMap<RelationId, u32>);

impl Patience {
    /// Reads what [`PATIENCE`] says.
    pub fn parse(text: &str) -> Self {
        let one = |entry: &str| {
            let (relation, count) = entry.split_once('=')?;
            Some((RelationId(relation.parse().ok()?), count.parse().ok()?))
        };
        Self(text.split(' ').filter_map(one).collect())
    }

    /// Another `update-status` has come.
    pub fn count(&mut self, waiting: impl Iterator<Item = RelationId>) {
        for relation in waiting {
            *self.0.entry(relation).or_default() += 1;
        }
    }

    /// Whether this client waits no longer.
    pub fn ends(&self, relation: RelationId) -> bool {
        self.0.get(&relation).is_some_and(|count| *count >= PATIENCE_ENDS)
    }

    /// Notes those who still wait.
    fn note(&self, waiting: impl Fn(RelationId) -> bool) -> Plan {
        let mut plan = Plan::default();
        if !self.0.is_empty() {
            let left = self.0.iter().filter(|(relation, _)| waiting(**relation));
            let text: Vec<_> = left.map(|(relation, count)| format!("{relation}={count}")).collect();
            plan.push(Effect::Remember(PATIENCE, text.join(" ")));
        }
        plan
    }
}

/// What serving a client needs of PostgreSQL.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Nobody waits for an answer, so nobody looked.
    NotNeeded,
    /// It cannot be used yet.
    Waiting(Wait),
    /// PgBouncer's users are made, so that it let us in once.
    Ready {
        /// Its version, as it is told to clients.
        version: Option<String>,
        /// Where PgBouncer looks passwords up.
        lookup: Lookup,
        /// How many hooks have come for what was not ready.
        round: u32,
    },
}

/// One client's relation.
pub struct Client {
    /// The relation.
    pub relation: RelationId,
    /// Our app bag.
    pub app: Texts,
    /// The client's app bag.
    pub remote: Texts,
    /// It has its credentials: then they stay for the relation's life.
    pub is_answered: bool,
    /// The password it has been given, in our bag or in a secret under our label, as far as somebody looked.
    pub password: Option<Secret>,
    /// How many hooks have failed that were to answer it.
    pub attempts: usize,
    /// A password nobody used before.
    pub fresh: Secret,
    /// The salt for its verifier.
    pub salt: [u8; 16],
}

/// A unit that is to load a client's database before the client is told of it.
pub struct Follower {
    /// Its name.
    pub unit: String,
    /// The hash of the databases it has loaded.
    pub loaded: Option<String>,
    /// It is to stay, and it is active: others are not waited for.
    pub counts: bool,
}

/// Where clients reach us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At Juju's service of our application; `host:port`. Who was told of the Python charm's own service
    /// stays with it: it leads to the same pods.
    Service {
        /// Juju's.
        ours: String,
        /// The Python charm's.
        python: String,
    },
    /// At each unit; `host:port`.
    Units {
        /// Those we know the address of.
        known: Vec<String>,
        /// There is no other.
        complete: bool,
    },
}

impl Reach {
    /// The endpoints of a client that was told `before`. A unit that a new leader has not met yet is not lost.
    fn endpoints(&self, before: Option<&str>) -> String {
        match self {
            Self::Service { python, .. } if before == Some(python.as_str()) => python.clone(),
            Self::Service { ours, .. } => ours.clone(),
            Self::Units { known, complete } => {
                let mut all = known.clone();
                if !complete {
                    all.extend(before.into_iter().flat_map(|before| before.split(',')).map(str::to_owned));
                }
                all.sort();
                all.dedup();
                all.join(",")
            }
        }
    }

    /// What stands for it in [`TOLD`]; nothing while it can still be more.
    pub fn told(&self) -> Option<String> {
        match self {
            Self::Units { complete: false, .. } => None,
            _ => Some(self.endpoints(None)),
        }
    }
}

/// The answer to one client, as far as it can change while the relation lives.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The relation.
    pub relation: RelationId,
    /// The fields the client wants in secrets; empty on a model without them.
    pub secrets: Vec<String>,
    /// The client's role.
    pub role: String,
    /// Its password.
    pub password: Secret,
    /// Its database.
    pub database: String,
    /// The name under which the database is read from a replica, if there is one.
    pub read_only: String,
    /// Where it reaches us, `host:port` with commas between.
    pub endpoints: String,
    /// The backend's version.
    pub version: Option<String>,
    /// Whether [`TOLD`] says the same of all clients.
    pub is_noted: bool,
}

impl Answer {
    /// What `client` is to be told.
    pub fn new(
        client: &Client,
        (database, databases): (String, &PgbDbs),
        password: Secret,
        (reach, told): (&Reach, Option<&str>),
        version: Option<String>,
        has_secrets: bool,
    ) -> Self {
        let endpoints = reach.endpoints(client.app.get(ENDPOINTS).map(String::as_str));
        Self {
            is_noted: told.and_then(|told| told.split(' ').next()) == Some(endpoints.as_str()),
            relation: client.relation,
            secrets: secrets(client, has_secrets),
            role: role(client.relation),
            password,
            read_only: read_only(&database, databases),
            database,
            endpoints,
            version,
        }
    }
}

/// What a client asks for.
struct Request<'a> {
    client: &'a Client,
    database: String,
    roles: Roles,
}

/// Handles every hook of `database`: serves who can be served and says why others cannot.
pub fn changed(seen: &Changed) -> Plan {
    let mut plan = Plan::default();
    if let Some((relation, app)) = &seen.ended {
        // One that was only suspended begins anew, and not with the URIs of secrets that are gone.
        for key in app.keys() {
            plan.set(Bag::App(*relation), key, Value::Absent);
        }
    }
    let mut databases = seen.databases.1.clone();
    let (mut requests, mut waiting, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for client in &seen.clients {
        let origin = Origin::Relation(client.relation.0);
        if !client.remote.is_empty() {
            plan.append(backend_database::seen_data(Bag::App(client.relation), &client.app, &client.remote));
        }
        match request(client, (seen.has_secrets, seen.version), &databases) {
            Ok(Some(request)) => {
                let entry = Entry { name: request.database.clone(), legacy: false, auth_dbname: None };
                databases.0.insert(origin, entry);
                // What a served client asks for later takes nothing from it, and is not passed over in silence.
                let refusal = not_served(client).filter(|_| client.is_answered);
                waiting.extend((!client.is_answered || refusal.is_some()).then_some(client.relation));
                answered.extend(refusal.is_some().then_some(client.relation));
                plan.waits.extend(refusal.map(|reason| Wait::Client(client.relation, reason)));
                requests.push(request);
            }
            Ok(None) => {}
            Err(reason) => {
                databases.0.remove(&origin);
                waiting.push(client.relation);
                plan.append(Plan::waiting(Wait::Client(client.relation, reason)));
            }
        }
    }
    enter_wildcard(seen, &requests, &mut databases);
    let text = if databases == seen.databases.1 && seen.databases.0.is_some() {
        // Whoever wrote it, an equal content keeps its bytes, and with them its hash.
        seen.databases.0.clone().unwrap_or_default()
    } else {
        databases.render()
    };
    if databases.0.is_empty() && seen.databases.0.is_none() {
        plan.set(Bag::PeerApp, peers::DATABASES, Value::Absent);
    } else {
        plan.set(Bag::PeerApp, peers::DATABASES, text.as_str());
    }
    plan.append(enter_others(seen, &databases));
    let is_unseen = |id: &&RelationId| seen.clients.iter().all(|client| client.relation != **id);
    waiting.extend(seen.waiting.iter().filter(is_unseen).filter(|id| seen.relations.contains(id)));
    waiting.sort();
    answered.extend(seen.newest.answered().iter().filter(is_unseen).filter(|id| waiting.contains(id)));
    answered.sort();
    plan.append(seen.newest.note(&waiting, &answered, Some(&text) != seen.databases.0.as_ref()));
    // Set again where something is not ready.
    plan.set(Bag::PeerApp, ROUNDS, Value::Absent);

    let missing = missing(seen, &databases);
    let (gone, lost): (Vec<_>, Vec<_>) = missing.into_iter().partition(|relation| is_gone(seen, *relation));
    let mut not_found: Vec<RelationId> = gone.iter().chain(&lost).copied().collect();
    not_found.sort();
    if not_found != seen.missing {
        plan.push(Effect::Remember(MISSING, ids(&not_found)));
    }
    match &seen.backend {
        Backend::NotNeeded => plan.append(seen.patience.note(|_| false)),
        Backend::Waiting(wait) => {
            if *wait == Wait::NoBackend {
                // With no backend at all there is no role to drop.
                for relation in gone {
                    plan.push(Effect::ForgetClient(relation));
                }
            }
            return plan.wait(wait.clone());
        }
        Backend::Ready { version, lookup, round } => {
            requests.retain(|request| {
                !request.client.is_answered || !seen.databases.1.0.contains_key(&request.origin())
            });
            // What those owned who are gone is free for who comes. Their entries are the memory of the work: each
            // goes only after its role.
            plan.parts.extend(gone.iter().map(|relation| drop(&seen.comment, *relation)));
            databases
                .0
                .retain(|origin, _| origin.relation().is_none_or(|id| !gone.contains(&RelationId(id))));
            let serving = Serving { seen, databases: &databases, version, lookup, round: *round };
            plan.append(serving.serve(&requests, &hash(&text)));
        }
    }
    plan
}

/// What all clients of one hook are served with.
struct Serving<'a> {
    seen: &'a Changed,
    databases: &'a PgbDbs,
    version: &'a Option<String>,
    lookup: &'a Lookup,
    round: u32,
}

impl Serving<'_> {
    /// Gives each client that is new its database, role and answer, once all units have loaded the
    /// databases of this hash; and at once its role to one that has its answer and was forgotten.
    fn serve(&self, requests: &[Request<'_>], wanted: &str) -> Plan {
        let mut plan = Plan::default();
        let Changed { clients, relations, patience, units, .. } = self.seen;
        let is_answered = |id| clients.iter().any(|client| client.relation == id && client.is_answered);
        plan.append(patience.note(|id| relations.contains(&id) && !is_answered(id)));
        let behind = |is_patient| behind(units, wanted, is_patient);
        let (mut now, new): (Vec<_>, Vec<_>) =
            requests.iter().partition(|request| request.client.is_answered);
        let is_late = |request: &&Request<'_>| !behind(!patience.ends(request.client.relation)).is_empty();
        let (late, ready): (Vec<_>, Vec<_>) = new.into_iter().partition(is_late);
        now.extend(ready);
        let awaited = if late.is_empty() { self.seen.behind.clone() } else { behind(true) };
        if !awaited.is_empty() {
            plan.waits.push(Wait::Units(awaited));
        }
        if now.is_empty() {
            return plan;
        }
        let Some(reach) = &self.seen.reach else {
            return plan.wait(Wait::NotLoaded("waiting for this unit's address".into()));
        };
        if now.iter().any(|request| request.client.attempts >= ATTEMPTS) {
            plan.push(Effect::ClearAttempts);
        }
        plan.parts.extend(now.iter().map(|request| self.serve_one(request, reach)));
        plan
    }

    fn serve_one(&self, request: &Request<'_>, reach: &Reach) -> Plan {
        let mut plan = Plan::default();
        let Request { client, database, .. } = request;
        if client.attempts >= ATTEMPTS {
            // Juju refuses what is granted over a relation that ends, and with it all the hook did.
            plan.set(Bag::PeerApp, ROUNDS, (self.round + 1).to_string());
            return plan.wait(Wait::Attempts(client.relation));
        }
        // A password that survived a hook which did not is taken up again.
        let password = client.password.as_ref().unwrap_or(&client.fresh).clone();
        plan.push(Effect::EnsureClient(client.wanted(
            (database.clone(), &request.roles),
            password.clone(),
            self.databases,
            &self.seen.comment,
        )));
        if self.lookup.everywhere {
            let (databases, auth_user) = (vec![database.clone()], self.lookup.auth_user.clone());
            plan.push(Effect::InstallGetAuth { databases, auth_user });
        }
        // A client that is told too early tries and fails.
        let logins = self.lookup.logins(&role(client.relation), database);
        plan.push(Effect::AwaitAdmission { logins, round: self.round });
        if !client.is_answered {
            plan.push(Effect::NoteAttempt(client.relation));
        }
        plan.append(answer(&Answer::new(
            client,
            (database.clone(), self.databases),
            password.clone(),
            (reach, self.seen.told.as_deref()),
            self.version.clone(),
            self.seen.has_secrets,
        )));
        if !self.seen.has_secrets {
            plan.set(Bag::PeerApp, role(client.relation), password);
        }
        plan
    }
}

/// The units that a client waits for until they have loaded the databases of this hash; one that is not patient any
/// more, only while nobody has.
pub fn behind(units: &[Follower], wanted: &str, is_patient: bool) -> Vec<String> {
    let is_in_step = |follower: &&Follower| follower.loaded.as_deref() == Some(wanted);
    let (in_step, behind): (Vec<_>, Vec<_>) = units.iter().partition(is_in_step);
    // What nobody has loaded nobody serves.
    if !is_patient && !in_step.is_empty() {
        return Vec::new();
    }
    behind.into_iter().filter(|follower| follower.counts).map(|follower| follower.unit.clone()).collect()
}

/// Ids with blanks between.
fn ids(relations: &[RelationId]) -> String {
    relations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The relations of such a text.
pub fn relation_ids(text: &str) -> Vec<RelationId> {
    text.split(' ').filter_map(|id| id.parse().ok().map(RelationId)).collect()
}

/// Drops the role of a relation that is gone, and only then forgets it.
fn drop(mark: &str, relation: RelationId) -> Plan {
    let mut plan = Plan::default();
    plan.push(Effect::DropClient { role: role(relation), comment: comment(mark, relation) });
    plan.push(Effect::ForgetClient(relation));
    plan
}

/// `*` is there as long as somebody's roles reach every database. It names one that they are looked up in.
fn enter_wildcard(seen: &Changed, requests: &[Request<'_>], databases: &mut PgbDbs) {
    let holders: Vec<&str> = requests
        .iter()
        .filter(|request| request.roles.reach_every_database())
        .map(|request| request.database.as_str())
        .collect();
    let is_complete = seen.relations.len() == seen.clients.len()
        && missing(seen, databases).iter().all(|relation| is_gone(seen, *relation));
    let current = databases.wildcard();
    let stands = current.is_some_and(|entry| {
        let is_held = entry.auth_dbname.as_deref().is_some_and(|name| holders.contains(&name));
        is_held || !is_complete || (holders.is_empty() && seen.others_reach_all)
    });
    if stands {
        return;
    }
    match holders.first() {
        Some(name) => {
            let auth_dbname = Some((*name).to_owned());
            databases.0.insert(Origin::Wildcard, Entry { name: "*".into(), legacy: false, auth_dbname });
        }
        None => {
            databases.0.remove(&Origin::Wildcard);
        }
    }
}

/// Who may use every database finds the replicas of each.
fn enter_others(seen: &Changed, databases: &PgbDbs) -> Plan {
    let mut plan = Plan::default();
    match &seen.others {
        (_, Some(others)) if databases.wildcard().is_some() => {
            let unnamed = others.iter().map(String::as_str).filter(|other| {
                DatabaseName::parse(other).is_ok() && databases.names().all(|name| name != *other)
            });
            plan.set(Bag::PeerApp, OTHERS, python_list(unnamed));
            if let Backend::Ready { lookup, .. } = &seen.backend
                && lookup.everywhere
            {
                let (databases, auth_user) = (others.clone(), lookup.auth_user.clone());
                plan.parts.push(Plan {
                    effects: vec![Effect::InstallGetAuth { databases, auth_user }],
                    ..Plan::default()
                });
            }
        }
        (Some(text), None) if databases.wildcard().is_none() && text != "[]" => {
            plan.set(Bag::PeerApp, OTHERS, Value::Absent);
        }
        _ => {}
    }
    plan
}

/// The flowchart's "Update peer data in relation databags": tells clients the units' addresses.
pub fn update_peer_data(clients: &[Answer], told: Option<&str>) -> Plan {
    let mut plan = Plan::default();
    for client in clients {
        plan.append(answer(client));
    }
    if let Some(told) = told {
        plan.set(Bag::PeerApp, TOLD, told);
    }
    plan
}

impl Request<'_> {
    fn origin(&self) -> Origin {
        Origin::Relation(self.client.relation.0)
    }
}

impl Client {
    /// Its database and role as PostgreSQL should have them; `model` begins the mark of our roles.
    pub fn wanted(
        &self,
        (database, roles): (String, &Roles),
        password: Secret,
        databases: &PgbDbs,
        model: &str,
    ) -> NewClient {
        let alone = databases.names().filter(|name| *name == database).count() <= 1;
        NewClient {
            relation: self.relation,
            role: role(self.relation),
            database,
            password,
            salt: self.salt,
            comment: comment(model, self.relation),
            known: false,
            roles: roles.clone(),
            alone,
            is_answered: self.is_answered,
        }
    }

    /// The roles it asks for.
    pub fn roles(&self) -> Roles {
        Roles::parse(self.remote.get(ROLES).map_or("", String::as_str))
    }
}

/// Whether an app bag of ours holds credentials or the URI of those.
pub fn is_answered(app: &Texts) -> bool {
    app.contains_key("secret-user") || (app.contains_key("username") && app.contains_key("password"))
}

/// The role of a client.
pub fn role(relation: RelationId) -> String {
    format!("relation_id_{relation}")
}

/// The name by which `database` is read from a replica; its own where that name is another database, or too long.
pub fn read_only(database: &str, databases: &PgbDbs) -> String {
    let entry = Entry { name: database.to_owned(), legacy: false, auth_dbname: None };
    let is_free = |alias: &String| databases.names().all(|name| name != alias);
    entry.aliases().find(is_free).unwrap_or_else(|| database.to_owned())
}

/// The mark on a client's role; `mark` begins the marks on all our roles.
fn comment(mark: &str, relation: RelationId) -> String {
    format!("{}{relation}", self::mark(mark))
}

/// How the marks on the roles of clients begin.
pub fn mark(mark: &str) -> String {
    format!("{mark}, relation database:")
}

/// The fields that go into secrets for this client. A relation that began with plain credentials
/// stays with them: the client would not look elsewhere.
pub fn secrets(client: &Client, has_secrets: bool) -> Vec<String> {
    // Not told by `tls` or `uris`: who asked for no secret of that name has it plain beside one.
    let began_plain = ["username", "password"].iter().any(|key| client.app.contains_key(*key));
    if !has_secrets || began_plain {
        return Vec::new();
    }
    let requested = client.remote.get(REQUESTED_SECRETS);
    requested.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Why a client's request is none that is served here, whatever it names.
fn not_served(client: &Client) -> Option<String> {
    let is_asked = |key| client.remote.get(key).is_some_and(|value| value != "false");
    let (key, what) = NOT_SERVED.into_iter().find(|(key, _)| is_asked(*key))?;
    Some(format!("{what} ({key}), which is not served here: relate it to PostgreSQL itself"))
}

/// Whether a client asks for a database that it can have, on such a model and PostgreSQL.
pub fn asks(client: &Client, place: (bool, Option<ServerVersion>), databases: &PgbDbs) -> bool {
    matches!(request(client, place, databases), Ok(Some(_)))
}

/// What a client asks for, nothing if it has not asked yet, or why it cannot have it.
fn request<'a>(
    client: &'a Client,
    (has_secrets, version): (bool, Option<ServerVersion>),
    databases: &PgbDbs,
) -> Result<Option<Request<'a>>, String> {
    let roles = client.roles();
    let asked = client.remote.get(DATABASE);
    if client.is_answered {
        // The name is the one that was granted; a client cannot rename its database.
        let granted = client.app.get(DATABASE).or(asked);
        return Ok(granted.map(|database| Request { client, database: database.clone(), roles }));
    }
    if let Some(reason) = not_served(client) {
        return Err(reason);
    }
    let Some(name) = asked else { return Ok(None) };
    let requested = client.remote.get(REQUESTED_SECRETS).filter(|_| has_secrets);
    if requested.is_some_and(|text| serde_json::from_str::<Vec<String>>(text).is_err()) {
        return Err(format!("its {REQUESTED_SECRETS} is not a JSON list of names"));
    }
    let from_16 = version.is_some_and(ServerVersion::has_catalog_roles);
    let name = DatabaseName::parse(name).and_then(|name| if from_16 { name.from_16() } else { Ok(name) });
    let database = name.map_err(|error| error.to_string())?.to_string();
    if let Some(entry) = databases.has_alias(&database) {
        return Err(format!(
            "invalid database name \"{database}\": by it the database {} is read from replicas; choose another name",
            entry.name
        ));
    }
    roles.check(version)?;
    Ok(Some(Request { client, database, roles }))
}

/// The relations that have an entry in `databases` and are not found.
fn missing(seen: &Changed, databases: &PgbDbs) -> Vec<RelationId> {
    databases
        .0
        .iter()
        .filter(|(_, entry)| !entry.legacy)
        .filter_map(|(origin, _)| origin.relation())
        .map(RelationId)
        .filter(|relation| !seen.relations.contains(relation))
        .collect()
}

/// Whether a relation that is not found has ended.
fn is_gone(seen: &Changed, relation: RelationId) -> bool {
    seen.missing.contains(&relation) || seen.ended.as_ref().is_some_and(|(ended, _)| *ended == relation)
}

/// What a part of a URI need not hide.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn uri(client: &Answer, database: &str) -> Secret {
    let escape = |text| utf8_percent_encode(text, UNRESERVED);
    Secret::new(format!(
        "postgresql://{}:{}@{}/{}",
        escape(&client.role),
        escape(client.password.reveal()),
        client.endpoints,
        escape(database)
    ))
}

/// Everything a client is told. Where it already stands nothing changes.
fn answer(client: &Answer) -> Plan {
    let mut plan = Plan::default();
    let bag = Bag::App(client.relation);
    let user = [
        ("username", Secret::new(client.role.clone())),
        ("password", client.password.clone()),
        ("uris", uri(client, &client.database)),
        ("read-only-uris", uri(client, &client.read_only)),
    ];
    // Without TLS there is no `tls-ca`: a secret cannot hold an empty value everywhere (Juju 4.0).
    let tls = [("tls", Secret::new("False"))];
    for (group, fields) in GROUPS.into_iter().zip([&user[..], &tls[..]]) {
        let mut content = BTreeMap::new();
        for (key, value) in fields {
            let key = (*key).to_owned();
            if client.secrets.contains(&key) {
                content.insert(key, value.clone());
            } else if key != "read-only-uris" {
                // Only clients that ask for it by name know this field.
                plan.set(bag, key, value.clone());
            }
        }
        if !content.is_empty() {
            plan.push(Effect::SetClientSecret(client.relation, group, content));
        }
    }
    plan.set(bag, DATABASE, client.database.as_str());
    if !client.is_noted {
        // What stands there is no longer so of all; it is set again when all were told the same.
        plan.set(Bag::PeerApp, TOLD, Value::Absent);
    }
    plan.set(bag, ENDPOINTS, client.endpoints.as_str());
    plan.set(bag, "read-only-endpoints", client.endpoints.as_str());
    if let Some(version) = &client.version {
        plan.set(bag, "version", version.as_str());
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn client(id: u32, remote: &[(&str, &str)]) -> Client {
        Client {
            relation: RelationId(id),
            app: Texts::new(),
            remote: texts(remote),
            is_answered: false,
            password: None,
            attempts: 0,
            fresh: Secret::new("fresh password"),
            salt: [7; 16],
        }
    }

    /// One that the leader of this or an older revision has answered.
    fn answered(id: u32, remote: &[(&str, &str)]) -> Client {
        let database = remote.iter().find(|(key, _)| *key == DATABASE).map_or("", |(_, name)| name);
        let app = texts(&[("secret-user", "secret:abc"), ("database", database)]);
        Client { app, is_answered: true, ..client(id, remote) }
    }

    const REQUEST: [(&str, &str); 2] =
        [("database", "shop"), ("requested-secrets", r#"["username","password","uris","tls"]"#)];

    fn lookup() -> Lookup {
        Lookup { auth_user: "auth".into(), database: "pgbouncer".into(), everywhere: false }
    }

    fn ready(version: &str) -> Backend {
        Backend::Ready { version: Some(version.into()), lookup: lookup(), round: 0 }
    }

    fn seen(clients: Vec<Client>) -> Changed {
        Changed {
            has_secrets: true,
            databases: (None, PgbDbs::default()),
            relations: clients.iter().map(|client| client.relation).collect(),
            ended: None,
            clients,
            newest: Newest { told: String::new(), noted: String::new() },
            waiting: Vec::new(),
            missing: Vec::new(),
            others_reach_all: false,
            version: ServerVersion::parse("15.18"),
            backend: ready("15.18"),
            reach: Some(Reach::Units { known: vec!["10.0.0.7:6432".into()], complete: true }),
            told: Some("10.0.0.7:6432 14.5".into()),
            units: Vec::new(),
            behind: Vec::new(),
            patience: Patience::default(),
            others: (None, None),
            comment: "model m".into(),
        }
    }

    /// With these databases in the bag.
    fn with(text: &str, mut seen: Changed) -> Changed {
        seen.databases = (Some(text.into()), PgbDbs::parse(text).expect("valid"));
        seen
    }

    /// What the plan makes of the databases.
    fn entered(plan: &Plan) -> String {
        let set = plan.effects.iter().find_map(|effect| match effect {
            Effect::Set(_, key, Value::Text(text)) if key == peers::DATABASES => Some(text.clone()),
            _ => None,
        });
        set.expect("the databases are entered")
    }

    #[track_caller]
    fn check(seen: &Changed, expected: &str) {
        assert_eq!(changed(seen).to_string().trim(), expected.trim());
    }

    const SERVED: &str = r#"
set app 6 data = ‹86 characters›
set peer app pgb_dbs_config = {"6": {"name": "shop", "legacy": false}}
set peer app newest_clients = 6
remember waiting-clients = 6|6
remove peer app rounds
make the database "shop" and the role relation_id_6
wait until PostgreSQL lets relation_id_6 into shop, auth into pgbouncer
note that database:6 is about to be answered
set the secret database.6.user: password, uris, username
set the secret database.6.tls: tls
set app 6 database = shop
set app 6 endpoints = 10.0.0.7:6432
set app 6 read-only-endpoints = 10.0.0.7:6432
set app 6 version = 15.18"#;

    #[test]
    fn a_client_is_told_what_it_needs_and_last() {
        check(&seen(vec![client(6, &REQUEST)]), SERVED);
    }

    fn follower(unit: &str, loaded: Option<&str>, counts: bool) -> Follower {
        Follower { unit: unit.into(), loaded: loaded.map(str::to_owned), counts }
    }

    #[test]
    fn a_client_waits_until_every_unit_that_counts_has_loaded_its_database() {
        let hash = hash(r#"{"6": {"name": "shop", "legacy": false}}"#);
        let served = |units: Vec<Follower>, patience| {
            let patience = Patience(BTreeMap::from([(RelationId(6), patience)]));
            let plan = changed(&Changed { units, patience, ..seen(vec![client(6, &REQUEST)]) });
            let is_served = plan.to_string().contains("the role relation_id_6");
            assert_eq!(is_served, plan.waits.is_empty(), "{plan}");
            (is_served, plan)
        };
        let units = || {
            vec![
                follower("p/0", Some(&hash), true),
                follower("p/1", Some("old"), true),
                follower("p/2", None, false),
            ]
        };
        for patience in [0, 1] {
            let (is_served, plan) = served(units(), patience);
            assert!(!is_served);
            assert_eq!(plan.waits, [Wait::Units(vec!["p/1".into()])]);
            assert!(
                plan.to_string().contains(&format!("remember update-statuses = 6={patience}\n")),
                "{plan}"
            );
        }
        // In the second update-status nobody is a hostage any more, but what nobody serves is not given away.
        assert!(served(units(), 2).0);
        let mut nobody = units();
        nobody[0].loaded = None;
        assert!(!served(nobody, 2).0);
        let mut all = units();
        all[1].loaded = Some(hash.clone());
        assert!(served(all, 0).0);
    }

    #[test]
    fn a_client_is_entered_into_the_configuration_before_the_backend_is_there() {
        let mut seen = seen(vec![client(6, &REQUEST)]);
        seen.backend = Backend::Waiting(Wait::Backend);
        let plan = changed(&seen);
        assert!(plan.to_string().contains("pgb_dbs_config"), "{plan}");
        assert_eq!(plan.waits, [Wait::Backend]);
    }

    #[test]
    fn a_password_that_survived_a_failed_hook_is_taken_up_again() {
        let survivor = Client { password: Some(Secret::new("survivor")), ..client(6, &REQUEST) };
        let plan = changed(&seen(vec![survivor]));
        let made = plan.parts[0].effects.iter().find_map(|effect| match effect {
            Effect::EnsureClient(client) => Some(client.password.clone()),
            _ => None,
        });
        assert_eq!(made, Some(Secret::new("survivor")));
    }

    #[test]
    fn an_answer_that_failed_twice_lets_others_pass_once() {
        let refused = Client { attempts: 2, ..client(6, &REQUEST) };
        let plan = changed(&seen(vec![refused, client(7, &REQUEST)]));
        assert_eq!(plan.parts[0].waits, [Wait::Attempts(RelationId(6))]);
        let text = plan.to_string();
        assert!(text.contains("set peer app rounds = 1\n") && text.contains("clear the notes"), "{text}");
        assert!(text.contains("role relation_id_7") && !text.contains("role relation_id_6"), "{text}");
        let once = Client { attempts: 1, ..client(6, &REQUEST) };
        assert!(changed(&seen(vec![once])).to_string().contains("role relation_id_6"));
    }

    #[test]
    fn who_was_not_looked_at_may_have_no_answer_still() {
        let text = r#"{"6": {"name": "shop", "legacy": false}}"#;
        let mut seen = with(text, seen(vec![client(7, &CRM)]));
        seen.relations.push(RelationId(6));
        seen.waiting = vec![RelationId(5), RelationId(6)];
        let plan = changed(&seen).to_string();
        assert!(plan.contains("set peer app newest_clients = 6 7\n"), "{plan}");
        assert!(plan.contains("remember waiting-clients = 6 7|6 7\n"), "{plan}");
    }

    #[test]
    fn who_waits_is_noted_where_it_wakes_nobody() {
        let newest = |noted: &str| Newest { told: "5 6".into(), noted: noted.into() };
        let five = [RelationId(5)];
        assert_eq!(newest("").note(&five, &[], false).to_string(), "remember waiting-clients = 5 6|5\n");
        assert_eq!(newest("5 6|5").note(&five, &[], false).to_string(), "");
        let with_databases = newest("5 6|5").note(&five, &[], true).to_string();
        assert_eq!(with_databases, "set peer app newest_clients = 5\nremember waiting-clients = 5|5\n");

        let both = [RelationId(5), RelationId(6)];
        assert_eq!(newest("5 6|5").waiting(true, true), five);
        assert_eq!(newest("5 6|5").waiting(true, false), []);
        // A new leader, or one that was away while another one led, does not know.
        assert_eq!(newest("5 6|5").waiting(false, false), both);
        assert_eq!(newest("5|5").waiting(true, false), both);
        assert_eq!(newest("").waiting(true, false), both);
    }

    #[test]
    fn an_answered_client_is_left_alone() {
        let text = r#"{"6": {"legacy": false, "name": "shop"}}"#;
        let mut client = answered(6, &REQUEST);
        client.app.insert(
            "data".into(),
            r#"{"requested-secrets": "[\"username\",\"password\",\"uris\",\"tls\"]", "database": "shop"}"#
                .into(),
        );
        let seen = Changed { backend: Backend::NotNeeded, ..with(text, seen(vec![client])) };
        check(&seen, &format!("set peer app pgb_dbs_config = {text}\nremove peer app rounds"));
    }

    #[test]
    fn what_a_served_client_asks_for_later_is_refused_and_takes_nothing_from_it() {
        let text = r#"{"6": {"legacy": false, "name": "shop"}}"#;
        let mut client = answered(6, &REQUEST);
        client.remote.insert("requests".into(), "[]".into());
        let plan = changed(&Changed { backend: Backend::NotNeeded, ..with(text, seen(vec![client])) });
        let [Wait::Client(RelationId(6), reason)] = plan.waits.as_slice() else { panic!("{plan}") };
        assert!(reason.contains("version 1 of the interface"), "{reason}");
        assert_eq!(entered(&plan), text);
        assert!(plan.to_string().contains("remember waiting-clients = 6|6|6\n"), "{plan}");
    }

    #[test]
    fn an_answered_client_whose_entry_was_lost_has_its_role_made_sure_of_and_keeps_its_password() {
        let client = Client { password: Some(Secret::new("old")), ..answered(6, &REQUEST) };
        let plan = changed(&seen(vec![client]));
        let Effect::EnsureClient(made) = &plan.parts[0].effects[0] else { panic!("{plan}") };
        assert_eq!(made.password, Secret::new("old"));
        assert!(!plan.to_string().contains("about to be answered"), "{plan}");
    }

    #[test]
    fn without_secrets_credentials_stand_in_the_bag_and_in_the_peer_bag() {
        let mut seen = seen(vec![client(4, &[("database", "shop")])]);
        seen.has_secrets = false;
        let text = changed(&seen).to_string();
        for line in ["set app 4 password = ‹14 characters›", "set peer app relation_id_4 = ‹14 characters›"]
        {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("secret database"), "{text}");
        assert!(!text.contains("fresh password"), "{text}");
    }

    #[test]
    fn a_relation_that_began_plain_stays_plain() {
        let mut began_plain = client(6, &REQUEST);
        assert_eq!(secrets(&began_plain, true).len(), 4);
        began_plain.app = texts(&[("username", "relation_id_6"), ("password", "p")]);
        assert_eq!(secrets(&began_plain, true), Vec::<String>::new());
    }

    #[test]
    fn a_password_given_in_a_secret_never_moves_into_the_bag() {
        let mut answered =
            client(6, &[("database", "shop"), ("requested-secrets", r#"["username","password"]"#)]);
        answered.app = texts(&[("secret-user", "secret:abc"), ("tls", "False"), ("uris", "postgresql://…")]);
        assert_eq!(secrets(&answered, true), ["username", "password"]);
    }

    #[test]
    fn one_client_that_cannot_be_served_does_not_stop_the_next() {
        for (remote, reason) in [
            (vec![("database", "a\nb")], "invalid database name"),
            (vec![("database", "*")], "invalid database name"),
            (vec![("database", "crm"), ("extra-user-roles", "superuser")], "invalid role(s)"),
            (vec![("database", "crm"), ("requested-secrets", "username")], "requested-secrets"),
            (vec![("version", "v1"), ("requests", "[]")], "version 1 of the interface"),
            (vec![("database", "crm"), ("entity-type", "USER")], "entity-type"),
            (vec![("database", "crm"), ("requested-entity-secret", "secret:x")], "requested-entity-secret"),
            (vec![("database", "crm"), ("prefix-matching", "all")], "prefix-matching"),
        ] {
            let entered_before = r#"{"6": {"name": "crm", "legacy": false}}"#;
            let plan = changed(&with(entered_before, seen(vec![client(6, &remote), client(7, &REQUEST)])));
            let [wait] = plan.waits.as_slice() else { panic!("{plan}") };
            assert!(wait.to_string().contains("cannot serve database:6: "), "{wait}");
            assert!(wait.to_string().contains(reason), "{wait}");
            assert!(plan.to_string().contains("the role relation_id_7"), "{plan}");
            assert!(!plan.to_string().contains("the role relation_id_6"), "{plan}");
            assert_eq!(entered(&plan), r#"{"7": {"name": "shop", "legacy": false}}"#);
        }
    }

    #[test]
    fn the_rules_for_names_and_roles_are_those_of_the_servers_version() {
        let long = "d".repeat(50);
        for (name, roles, to_15, from_16) in [
            ("databases", "", true, false),
            (long.as_str(), "", true, false),
            ("shop", "admin", true, false),
            ("shop", " Createdb ", true, true),
        ] {
            for (version, is_served) in [("14.20", to_15), ("16.10", from_16)] {
                let remote = [("database", name), ("extra-user-roles", roles)];
                let version = ServerVersion::parse(version);
                let plan = changed(&Changed { version, ..seen(vec![client(6, &remote)]) });
                assert_eq!(plan.waits.is_empty(), is_served, "{name} {roles} {version:?}");
            }
        }
    }

    #[test]
    fn a_name_that_is_the_alias_of_another_database_is_not_given_away() {
        let alias = [("database", "shop_readonly")];
        let text = r#"{"6": {"name": "shop", "legacy": false}}"#;
        let plan = changed(&with(text, seen(vec![answered(6, &REQUEST), client(7, &alias)])));
        assert!(plan.to_string().contains("cannot serve database:7: invalid database name"), "{plan}");
        // Where it came first, the other database has no alias.
        let databases = PgbDbs::parse(r#"{"7": {"name": "shop_readonly"}, "8": {"name": "shop"}}"#);
        let databases = databases.expect("valid");
        assert_eq!(read_only("shop", &databases), "shop");
        assert_eq!(read_only("crm", &databases), "crm_readonly");
        assert_eq!(read_only(&"d".repeat(55), &databases), "d".repeat(55));
    }

    const CRM: [(&str, &str); 2] = [("database", "crm"), ("extra-user-roles", "createdb, admin")];

    #[test]
    fn the_wildcard_comes_with_the_first_who_needs_it_and_goes_with_the_last() {
        let text = r#"{"6": {"name": "shop", "legacy": false}, "7": {"name": "crm", "legacy": false}, "*": {"name": "*", "auth_dbname": "crm", "legacy": false}}"#;
        assert_eq!(entered(&changed(&seen(vec![client(6, &REQUEST), client(7, &CRM)]))), text);
        // Another client's request does not touch it, whether all were looked at or not.
        let all = with(text, seen(vec![answered(6, &REQUEST), answered(7, &CRM)]));
        assert_eq!(entered(&changed(&all)), text);
        let mut one = with(text, seen(vec![answered(6, &REQUEST)]));
        one.relations.push(RelationId(7));
        assert_eq!(entered(&changed(&one)), text);
        // The relation that needed it is gone, and its entry stays until its role is dropped.
        let mut gone = with(text, seen(vec![answered(6, &REQUEST)]));
        assert_eq!(entered(&changed(&gone)), text);
        gone.missing = vec![RelationId(7)];
        let rest = r#"{"6": {"name": "shop", "legacy": false}, "7": {"name": "crm", "legacy": false}}"#;
        assert_eq!(entered(&changed(&gone)), rest);
        let admins = Changed { others_reach_all: true, ..gone };
        assert_eq!(entered(&changed(&admins)), text);
    }

    #[test]
    fn a_wildcard_that_names_nobodys_database_is_mended() {
        let text = r#"{"7": {"name": "crm", "legacy": false}, "*": {"name": "*", "auth_dbname": null, "legacy": false}}"#;
        let plan = changed(&with(text, seen(vec![answered(7, &CRM)])));
        assert!(entered(&plan).contains(r#""auth_dbname": "crm""#), "{plan}");
    }

    #[test]
    fn who_may_use_every_database_finds_each_ones_replicas() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut seen = seen(vec![client(7, &CRM)]);
        seen.others = (None, Some(names(&["crm", "old", "with space"])));
        let text = changed(&seen).to_string();
        assert!(text.contains("set peer app readonly_dbs = [\"old\"]\n"), "{text}");
        assert!(!text.contains("install get_auth"), "{text}");
        let Backend::Ready { lookup, .. } = &mut seen.backend else { panic!("it is") };
        lookup.everywhere = true;
        let text = changed(&seen).to_string();
        assert!(text.contains("install get_auth for auth in crm, old, with space"), "{text}");
        seen.clients[0].remote.remove(ROLES);
        seen.others = (Some("[\"old\"]".into()), None);
        assert!(changed(&seen).to_string().contains("remove peer app readonly_dbs"));
    }

    #[test]
    fn who_is_told_something_else_ends_what_is_noted_of_all() {
        let tell = |told: Option<&str>, complete| {
            let reach = Reach::Units { known: vec!["10.0.0.7:6432".into()], complete };
            let client = Client { password: Some(Secret::new("secret")), ..answered(6, &REQUEST) };
            let databases = PgbDbs::default();
            let answer = Answer::new(
                &client,
                ("shop".into(), &databases),
                Secret::new("secret"),
                (&reach, told),
                None,
                true,
            );
            update_peer_data(&[answer], reach.told().as_deref()).to_string()
        };
        assert!(tell(Some("10.0.0.9:6432 14.5"), false).contains("remove peer app clients_told"));
        assert!(!tell(Some("10.0.0.7:6432 14.5"), false).contains("clients_told"));
        // Once everybody is known, the new note is the last word.
        let all = tell(Some("10.0.0.9:6432 14.5"), true);
        assert!(all.trim_end().ends_with("set peer app clients_told = 10.0.0.7:6432"), "{all}");
    }

    #[test]
    fn endpoints_are_never_half_made() {
        let units = |complete| Reach::Units { known: vec!["b:1".into(), "c:1".into()], complete };
        assert_eq!(units(true).endpoints(Some("a:1,b:1")), "b:1,c:1");
        assert_eq!(units(false).endpoints(Some("a:1,b:1")), "a:1,b:1,c:1");
        assert_eq!(units(false).endpoints(None), "b:1,c:1");
        assert_eq!((units(true).told(), units(false).told()), (Some("b:1,c:1".into()), None));
        let service = Reach::Service { ours: "p.m:1".into(), python: "p-service.m:1".into() };
        assert_eq!(service.endpoints(Some("p-service.m:1")), "p-service.m:1");
        assert_eq!(service.endpoints(Some("p-service.m:2")), "p.m:1");
        let none = Changed { reach: None, ..seen(vec![client(6, &REQUEST)]) };
        let plan = changed(&none);
        assert!(!plan.to_string().contains("endpoints"), "{plan}");
        assert_eq!(plan.waits, [Wait::NotLoaded("waiting for this unit's address".into())]);
    }

    #[test]
    fn what_stands_in_a_uri_is_escaped() {
        let client = answered(6, &REQUEST);
        let databases = PgbDbs::default();
        let reach = Reach::Units { known: vec!["[::1]:6432".into(), "b:1".into()], complete: true };
        let password = Secret::new("p@ss/w?rd");
        let answer = Answer::new(&client, ("my db".into(), &databases), password, (&reach, None), None, true);
        assert_eq!(
            uri(&answer, &answer.database).reveal(),
            "postgresql://relation_id_6:p%40ss%2Fw%3Frd@[::1]:6432,b:1/my%20db"
        );
    }

    #[test]
    fn a_client_alone_in_its_database_owns_it() {
        let alone = |plan: &Plan| {
            let made = plan.parts.iter().flat_map(|part| &part.effects).find_map(|effect| match effect {
                Effect::EnsureClient(client) => Some(client.alone),
                _ => None,
            });
            made.expect("a client is made")
        };
        let one = r#"{"5": {"name": "shop", "legacy": false}}"#;
        let mut second = with(one, seen(vec![client(6, &REQUEST)]));
        // The one before is gone and waits for its role to be dropped.
        second.missing = vec![RelationId(5)];
        assert!(alone(&changed(&second)));
        second.relations.push(RelationId(5));
        assert!(!alone(&changed(&second)));
    }

    #[test]
    fn a_relation_that_is_gone_leaves_the_configuration_once_its_role_is_dropped() {
        let text = r#"{"6": {"name": "shop", "legacy": false}, "8": {"name": "old", "legacy": true}}"#;
        // A hook that is repeated does not know of the relations that came meanwhile.
        let once = with(text, seen(Vec::new()));
        let plan = changed(&once).to_string();
        assert!(plan.contains("remember missing-clients = 6\n") && !plan.contains("drop"), "{plan}");
        let ended = Changed { ended: Some((RelationId(6), texts(&[("endpoints", "a:1")]))), ..once };
        let plan = changed(&ended).to_string();
        assert!(
            plan.contains("remove app 6 endpoints\n") && plan.contains("drop the role relation_id_6\n"),
            "{plan}"
        );
        // Forgotten last: a role that could not be dropped is dropped by a later hook.
        check(
            &Changed { missing: vec![RelationId(6)], ..with(text, seen(Vec::new())) },
            &format!(
                r"
set peer app pgb_dbs_config = ‹{} bytes›
remove peer app rounds
drop the role relation_id_6
forget the client of database:6",
                text.len()
            ),
        );
    }

    #[test]
    fn while_the_backend_is_away_a_gone_relation_stays_in_memory() {
        let text = r#"{"6": {"name": "shop", "legacy": false}}"#;
        let mut seen = with(text, seen(Vec::new()));
        seen.missing = vec![RelationId(6)];
        seen.backend = Backend::Waiting(Wait::Unreachable("no".into()));
        let plan = changed(&seen);
        assert_eq!(plan.waits, [Wait::Unreachable("no".into())]);
        assert_eq!(entered(&plan), text);
        assert!(!plan.to_string().contains("forget"), "{plan}");
        seen.backend = Backend::Waiting(Wait::NoBackend);
        assert!(changed(&seen).to_string().contains("forget the client of database:6"));
    }
}

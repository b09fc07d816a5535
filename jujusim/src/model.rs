//! The state that Juju's controller holds (applications, units, relations, secrets), and what each
//! unit's agent remembers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, mpsc};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::actors::Actor;
use crate::agent::{Agent, Message};
use crate::charm::{Charm, Role};
use crate::container::{Pod, Runtime};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::fault::Fault;
use crate::hook::HookRun;
use crate::network::Network;
use crate::pooler::Supervisor;
use crate::ports::OpenedPort;
pub use crate::secret::{Consumer, Rotate, Secret};
use crate::server::Cluster;
use crate::version::Version;

/// A model: Juju's state, and the directory of its units.
pub struct Model {
    /// The model's name.
    pub name: String,
    /// The model's UUID.
    pub uuid: String,
    /// The modelled Juju version.
    pub version: Version,
    /// The model's clock: stands still while hooks run, and is moved by commands.
    pub(crate) now: Timestamp,
    /// How far the clock is ahead of the real one; `None` while hooks see the real time.
    pub(crate) ahead: Option<SignedDuration>,
    /// Whether no unit gets `secret-expired`.
    pub(crate) loses_expiry: bool,
    pub(crate) dir: PathBuf,
    pub(crate) network: Network,
    /// See `Options::launcher`.
    pub(crate) launcher: PathBuf,
    /// See `Options::measures`.
    pub(crate) measures: bool,
    /// A directory with the chosen PgBouncer, searched before the caller's `PATH`.
    pub(crate) path: Option<PathBuf>,
    /// The channel of PostgreSQL charms that are deployed without one.
    pub(crate) postgresql: Option<String>,
    pub(crate) apps: BTreeMap<String, App>,
    pub(crate) units: BTreeMap<UnitName, Unit>,
    pub(crate) relations: BTreeMap<u32, Relation>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) runs: Vec<HookRun>,
    /// Chooses where Juju's order is arbitrary.
    pub(crate) seed: Option<u64>,
    /// How often the user pressed Ctrl-C since the command began: once ends a command that runs
    /// hooks after the running hook, a second time kills that hook.
    pub(crate) interrupts: Arc<AtomicUsize>,
    /// The application whose hooks run before those of others.
    pub(crate) first: Option<String>,
    pub(crate) permanent_faults: PermanentFaults,
    /// Whether failed hooks are retried (`automatically-retry-hooks`).
    pub(crate) retries: bool,
    pub(crate) next_run: usize,
    pub(crate) next_relation: u32,
    pub(crate) next_action: u32,
    pub(crate) supervisor: Supervisor,
    /// How to run workload containers; `None` without containers.
    pub(crate) runtime: Option<Runtime>,
    /// Secret values that were removed or replaced: a leak of such a value still counts.
    pub(crate) past_passwords: BTreeSet<String>,
}

/// An application and its configuration.
pub(crate) struct App {
    pub(crate) kind: Kind,
    /// How often the charm was refreshed.
    pub(crate) revision: u32,
    pub(crate) config: BTreeMap<String, Value>,
    pub(crate) leader: Option<UnitName>,
    /// When the lease is free: no other unit can take it before. `None` while the leader renews it,
    /// and when it is free already.
    pub(crate) vacant_until: Option<Timestamp>,
    /// Counts changes of the leader: followers get `leader-settings-changed` for each (Juju up to
    /// 3.6).
    pub(crate) term: u64,
    pub(crate) settings: Bag,
    pub(crate) status: Option<Status>,
    pub(crate) version: String,
    pub(crate) dying: bool,
}

/// What runs in the units of an application.
pub(crate) enum Kind {
    Charm(Charm),
    Actor(Arc<dyn Actor>, Charm),
}

impl Kind {
    /// The PostgreSQL servers that an actor operates.
    pub(crate) fn cluster(&self) -> Option<MutexGuard<'_, Cluster>> {
        match self {
            Kind::Actor(actor, _) => actor.cluster(),
            Kind::Charm(_) => None,
        }
    }
}

/// What the commands `hold` and `lose-agent` withhold from a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Events of these relations.
    Relations(BTreeSet<u32>),
    /// All events: the agent is cut off, no hook runs, and the controller keeps its last known
    /// state.
    Everything,
}

/// A unit: the controller's state, and what the agent remembers between hooks.
pub(crate) struct Unit {
    pub(crate) root: PathBuf,
    pub(crate) address: Ipv4Addr,
    pub(crate) dying: bool,
    pub(crate) stage: Stage,
    pub(crate) status: Status,
    pub(crate) status_set: bool,
    pub(crate) state: Bag,
    pub(crate) ports: BTreeSet<OpenedPort>,
    pub(crate) queue: VecDeque<Event>,
    /// Queued hooks of workload containers.
    pub(crate) workload: VecDeque<Event>,
    /// Workload containers that were ready: ready again for an agent that starts.
    pub(crate) containers: BTreeSet<String>,
    pub(crate) update_status_due: Option<Timestamp>,
    pub(crate) pending: Option<Pending>,
    /// Until when the agent retries the commit of its last hook, and does nothing else.
    pub(crate) committing_until: Option<Timestamp>,
    pub(crate) views: BTreeMap<u32, View>,
    /// Remote unit databags as fetched, kept until an event of that unit (Juju's relation cache).
    pub(crate) cache: BTreeMap<(u32, UnitName), Bag>,
    /// Whether the agent last saw the unit as leader, and in which term.
    pub(crate) leadership: Option<(bool, u64)>,
    pub(crate) config_seen: Option<BTreeMap<String, Value>>,
    /// How often `config-changed` still runs for the configuration that the agent has seen.
    pub(crate) config_runs: u8,
    /// The newest revision at the last `secret-changed`, per secret.
    pub(crate) secrets_seen: BTreeMap<String, u32>,
    /// Whether the agent was restarted, and so does not know which relations are peer relations.
    pub(crate) restarted: bool,
    pub(crate) faults: Vec<Fault>,
    /// What is withheld from the unit.
    pub(crate) held: Held,
    pub(crate) sender: mpsc::Sender<Message>,
    /// Messages to the unit's running hook; taken by that hook.
    pub(crate) receiver: Option<mpsc::Receiver<Message>>,
    /// Set while the pod lives.
    pub(crate) agent: Option<Agent>,
    /// The workload containers, if containers are run.
    pub(crate) pod: Option<Pod>,
}

/// Faults of every hook.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PermanentFaults {
    /// Every hook runs twice.
    pub(crate) twice: bool,
    /// The first commit of every hook is torn.
    pub(crate) torn: bool,
}

/// The unit's place in its life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Fresh,
    Installed,
    Started,
    /// `stop` ran because the unit is being removed.
    Stopped,
}

/// A hook that did not complete and runs again before any other hook.
#[derive(Clone)]
pub(crate) struct Pending {
    pub(crate) event: Event,
    pub(crate) failures: u32,
    /// Whether the unit shows `error`: the hook failed and was not killed.
    pub(crate) error: bool,
    /// When the hook is retried.
    pub(crate) due: Timestamp,
    /// Whether the hook runs a second time although it succeeded.
    pub(crate) again: bool,
}

/// A relation, as the agent of one unit knows it.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) created: bool,
    pub(crate) broken: bool,
    /// The version of the remote application's databag at the last `-changed` for it.
    pub(crate) app_version: u64,
    /// Units whose `-joined` ran, with the version of their databag at the last `-changed`.
    pub(crate) members: BTreeMap<UnitName, u64>,
    /// The unit whose `-joined` just ran: its `-changed` comes before any other event.
    pub(crate) joined: Option<UnitName>,
}

/// Keys and values of a databag.
pub type Bag = BTreeMap<String, String>;

/// A databag and the number of its changes.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) values: Bag,
    pub(crate) version: u64,
}

/// A relation between two applications, or within one.
pub(crate) struct Relation {
    /// One end for a peer relation, otherwise two: provider and requirer.
    pub(crate) ends: Vec<End>,
    pub(crate) dying: bool,
    pub(crate) suspended: bool,
    /// Whether the relation was removed by force: the agents still know it, the controller does
    /// not.
    pub(crate) forgotten: bool,
    pub(crate) apps: BTreeMap<String, Settings>,
    /// Databags of the units that are or were in the relation.
    pub(crate) units: BTreeMap<UnitName, Settings>,
    /// Units that are now in the relation.
    pub(crate) scope: BTreeSet<UnitName>,
}

/// One side of a relation.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) app: String,
    pub(crate) endpoint: String,
    pub(crate) role: Role,
}

/// The owner of a secret or a databag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// An application.
    App(String),
    /// A unit.
    Unit(UnitName),
    /// The model's user; owns secrets, but no databags.
    Model,
}

/// A workload status and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `active`, `waiting`, …
    pub word: String,
    /// The charm's message.
    pub message: String,
}

/// The name of a unit, such as `app/0`; ordered by application, then by number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitName {
    /// The application.
    pub app: String,
    /// The ordinal.
    pub number: u32,
}

impl Model {
    /// The databag of `entity`, an application or a unit, in a relation. A missing databag is
    /// empty.
    pub fn bag(&self, relation: u32, entity: &str) -> Bag {
        let Some(relation) = self.relations.get(&relation) else { return Bag::new() };
        let settings = match entity.parse::<UnitName>() {
            Ok(unit) => relation.units.get(&unit),
            Err(_) => relation.apps.get(entity),
        };
        settings.map(|settings| settings.values.clone()).unwrap_or_default()
    }

    /// The relations at `app:endpoint`, by id.
    pub fn relations_at(&self, endpoint: &str) -> Vec<u32> {
        let has = |end: &End| format!("{}:{}", end.app, end.endpoint) == endpoint;
        self.relations.iter().filter(|(_, r)| r.ends.iter().any(has)).map(|(id, _)| *id).collect()
    }

    /// The secret with this owner label or id.
    pub fn secret(&self, label: &str) -> Option<&Secret> {
        self.find_secret(label).and_then(|id| self.secrets.get(&id))
    }

    /// The secrets of an owner.
    pub fn secrets_of(&self, owner: &Entity) -> impl Iterator<Item = &Secret> {
        self.secrets.values().filter(move |secret| secret.owner == *owner)
    }

    pub(crate) fn find_secret(&self, label: &str) -> Option<String> {
        let id = label.rsplit(['/', ':']).next().unwrap_or(label);
        if self.secrets.contains_key(id) {
            return Some(id.to_owned());
        }
        self.secrets.iter().find(|(_, secret)| secret.label == label).map(|(id, _)| id.clone())
    }

    /// Every hook run, oldest first.
    pub fn hook_runs(&self) -> &[HookRun] {
        &self.runs
    }

    /// The root directory of the unit's charm.
    pub fn unit_root(&self, unit: &str) -> Result<&Path> {
        Ok(&self.unit(&unit.parse()?)?.root)
    }

    /// The unit's own loopback address.
    pub fn unit_address(&self, unit: &str) -> Result<Ipv4Addr> {
        Ok(self.unit(&unit.parse()?)?.address)
    }

    /// The unit's workload status.
    pub fn unit_status(&self, unit: &str) -> Result<&Status> {
        Ok(&self.unit(&unit.parse()?)?.status)
    }

    /// The units of an application, by number.
    pub fn units_of(&self, app: &str) -> Vec<UnitName> {
        self.units.keys().filter(|unit| unit.app == app).cloned().collect()
    }

    /// The leader of an application.
    pub fn leader(&self, app: &str) -> Option<&UnitName> {
        self.apps.get(app)?.leader.as_ref()
    }

    /// Every password that the model has seen, to search logs, files and arguments for leaks.
    ///
    /// Included are: fields of secrets and databags whose name says password or whose value is a
    /// private key; the passwords inside user lists; and values of secrets that look generated.
    pub fn passwords(&self) -> BTreeSet<String> {
        let mut found = self.past_passwords.clone();
        for secret in self.secrets.values() {
            for content in secret.revisions.values() {
                found.extend(passwords_in(content));
                found.extend(content.values().filter(|value| generated(value)).cloned());
            }
        }
        for relation in self.relations.values() {
            for settings in relation.apps.values().chain(relation.units.values()) {
                found.extend(passwords_in(&settings.values));
            }
        }
        found
    }

    pub(crate) fn unit(&self, name: &UnitName) -> Result<&Unit> {
        self.units.get(name).ok_or_else(|| Error::refused(format!("unit {name} not found")))
    }

    pub(crate) fn unit_mut(&mut self, name: &UnitName) -> Result<&mut Unit> {
        self.units.get_mut(name).ok_or_else(|| Error::refused(format!("unit {name} not found")))
    }

    pub(crate) fn app(&self, name: &str) -> Result<&App> {
        self.apps.get(name).ok_or_else(|| Error::refused(format!("application {name} not found")))
    }

    pub(crate) fn app_mut(&mut self, name: &str) -> Result<&mut App> {
        self.apps
            .get_mut(name)
            .ok_or_else(|| Error::refused(format!("application {name} not found")))
    }

    pub(crate) fn interrupted(&self) -> usize {
        self.interrupts.load(Ordering::Relaxed)
    }

    pub(crate) fn is_leader(&self, unit: &UnitName) -> bool {
        self.leader(&unit.app) == Some(unit)
    }

    /// Records the passwords of content that is about to be replaced or removed.
    pub(crate) fn record_passwords(&mut self, content: &Bag) {
        self.past_passwords.extend(passwords_in(content));
    }

    pub(crate) fn charm(&self, app: &str) -> Option<&Charm> {
        self.apps.get(app).map(App::charm)
    }
}

/// Passwords by the name of their field, passwords inside user lists, and private keys.
fn passwords_in(content: &Bag) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, value) in content {
        if key.contains("password") || value.contains("PRIVATE KEY-----") {
            found.insert(value.clone());
        }
        if key.contains("auth") && value.starts_with('"') {
            found.extend(value.lines().filter_map(|line| Some(line.split('"').nth(3)?.to_owned())));
        }
    }
    found.retain(|value| value.len() >= 8);
    found
}

/// Whether a value looks generated: in a secret it counts as a password, whatever its field's name.
fn generated(value: &str) -> bool {
    value.len() == 24 && value.chars().all(|character| character.is_ascii_alphanumeric())
}

impl App {
    pub(crate) fn charm(&self) -> &Charm {
        match &self.kind {
            Kind::Charm(charm) | Kind::Actor(_, charm) => charm,
        }
    }

    /// The options that have a value, set or by default.
    pub(crate) fn effective_config(&self) -> BTreeMap<String, Value> {
        let mut values = BTreeMap::new();
        for (name, option) in &self.charm().options {
            if let Some(value) = self.config.get(name).or(option.default.as_ref()) {
                values.insert(name.clone(), value.clone());
            }
        }
        values
    }
}

impl Entity {
    /// Whether this entity is the unit or its application.
    pub(crate) fn includes(&self, unit: &UnitName) -> bool {
        match self {
            Entity::Model => false,
            Entity::App(app) => *app == unit.app,
            Entity::Unit(owner) => owner == unit,
        }
    }
}

impl Relation {
    /// Whether units have to leave the relation.
    pub(crate) fn is_over(&self) -> bool {
        self.dying || self.suspended
    }

    pub(crate) fn is_peer(&self) -> bool {
        self.ends.len() == 1
    }

    /// The side of `app`.
    pub(crate) fn end(&self, app: &str) -> Option<&End> {
        self.ends.iter().find(|end| end.app == app)
    }

    /// The other side; for a peer relation the only side.
    pub(crate) fn remote(&self, app: &str) -> Option<&End> {
        if self.is_peer() { self.ends.first() } else { self.ends.iter().find(|end| end.app != app) }
    }

    /// Juju's relation key: requirer first.
    pub(crate) fn key(&self) -> String {
        let name = |end: &End| format!("{}:{}", end.app, end.endpoint);
        let mut names: Vec<String> =
            self.ends.iter().filter(|e| e.role != Role::Provider).map(name).collect();
        names.extend(self.ends.iter().filter(|e| e.role == Role::Provider).map(name));
        names.join(" ")
    }
}

impl Unit {
    /// Whether the agent still retries the commit of its last hook.
    pub(crate) fn commits(&self, now: Timestamp) -> bool {
        self.committing_until.is_some_and(|until| until > now)
    }

    /// Whether one of the unit's hooks is running.
    pub(crate) fn is_busy(&self) -> bool {
        self.receiver.is_none()
    }
}

impl Settings {
    /// Replaces the content; counts only a real change.
    pub(crate) fn replace(&mut self, values: Bag) {
        if self.values != values {
            self.values = values;
            self.version += 1;
        }
    }
}

impl Status {
    pub(crate) fn new(word: &str, message: &str) -> Status {
        Status { word: word.to_owned(), message: message.to_owned() }
    }
}

impl UnitName {
    /// The unit's tag: `unit-app-0`.
    pub(crate) fn tag(&self) -> String {
        format!("unit-{self}").replace('/', "-")
    }

    /// The unit's name with a dash: `app-0`.
    pub(crate) fn dashed(&self) -> String {
        format!("{}-{}", self.app, self.number)
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.number)
    }
}

impl FromStr for UnitName {
    type Err = Error;

    fn from_str(text: &str) -> Result<UnitName> {
        let parsed =
            text.split_once('/').and_then(|(app, number)| Some((app, number.parse().ok()?)));
        match parsed {
            Some((app, number)) if !app.is_empty() => Ok(UnitName { app: app.to_owned(), number }),
            _ => Err(Error::refused(format!("invalid unit name {text:?}"))),
        }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entity::App(app) => f.write_str(app),
            Entity::Unit(unit) => unit.fmt(f),
            Entity::Model => f.write_str("model"),
        }
    }
}

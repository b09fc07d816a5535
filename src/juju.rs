//! The hook tools, each a subprocess, behind a cache for one dispatch.
//!
//! Each value is read once; writes of this dispatch update the cache. [`Juju::flush`] passes the
//! collected databag and state writes to Juju, with one call for each bag that differs. Equal
//! values are not written, because every changed databag byte wakes every related unit.

mod goal;
mod info;
pub mod labels;
mod secrets;
mod tool;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::goal::Goal;
use self::info::SecretInfo;
pub use self::tool::ToolError;
use self::tool::{absent_is_none, query, run, to_yaml};
use crate::event::{Endpoint, RelationId};
use crate::facts::Texts;
use crate::journal::{Journal, Target};
use crate::plan;
use crate::secret::Secret;
use crate::status::{Scope, Status};

/// The owner of a databag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// Our own application.
    App,
    /// This unit.
    Unit,
    /// Another application, one of its units, or another unit of our application, by name.
    Other(String),
}

/// The relation and owner of a databag that this unit may write.
pub fn place(bag: plan::Bag, peers: RelationId) -> (RelationId, Owner) {
    match bag {
        plan::Bag::PeerApp => (peers, Owner::App),
        plan::Bag::PeerUnit => (peers, Owner::Unit),
        plan::Bag::App(relation) => (relation, Owner::App),
        plan::Bag::Unit(relation) => (relation, Owner::Unit),
    }
}

/// The hook tools of one dispatch.
pub struct Juju {
    unit: String,
    app: String,
    leader: Option<bool>,
    config: Option<Map<String, Value>>,
    relations: HashMap<Endpoint, Vec<RelationId>>,
    members: HashMap<RelationId, Vec<String>>,
    bags: HashMap<(RelationId, Owner), Bag>,
    secrets: HashMap<String, Option<BTreeMap<String, Secret>>>,
    infos: HashMap<String, Option<SecretInfo>>,
    addresses: HashMap<Endpoint, Option<String>>,
    goals: HashMap<String, Option<Goal>>,
    state: Option<State>,
    journal: Rc<Journal>,
}

/// A databag with the changes of this dispatch.
#[derive(Default)]
struct Bag {
    texts: Texts,
    /// The keys that were set, with their values before this dispatch.
    before: BTreeMap<String, Option<String>>,
}

impl Bag {
    /// The changes for `relation-set`, where the empty text removes a key. A key that was changed
    /// back is not included.
    fn changes(&self) -> Texts {
        let differs =
            |(key, before): &(&String, &Option<String>)| self.texts.get(*key) != before.as_ref();
        let changed = self.before.iter().filter(differs).map(|(key, _)| key);
        changed.map(|key| (key.clone(), self.texts.get(key).cloned().unwrap_or_default())).collect()
    }

    /// Like [`Self::changes`], and marks them as written.
    fn take_changes(&mut self) -> Texts {
        let changes = self.changes();
        self.before.clear();
        changes
    }
}

/// The unit's charm state with the changes of this dispatch.
#[derive(Default)]
struct State {
    texts: Texts,
    changes: BTreeMap<String, String>,
}

impl Juju {
    /// The tools for this unit, with an empty cache.
    pub fn new(app: &str, unit: &str, journal: Rc<Journal>) -> Self {
        Self {
            unit: unit.to_owned(),
            app: app.to_owned(),
            leader: None,
            config: None,
            relations: HashMap::new(),
            members: HashMap::new(),
            bags: HashMap::new(),
            secrets: HashMap::new(),
            infos: HashMap::new(),
            addresses: HashMap::new(),
            goals: HashMap::new(),
            state: None,
            journal,
        }
    }

    /// Whether this unit is the leader. Juju guarantees an affirmative answer for 30 seconds.
    pub fn is_leader(&mut self) -> Result<bool, ToolError> {
        if let Some(leader) = self.leader {
            return Ok(leader);
        }
        let leader = query("is-leader", &[])?;
        self.leader = Some(leader);
        Ok(leader)
    }

    /// The units that the model plans for our or a related application; an application of another
    /// model has none. `None` if `goal-state` fails, as it does after a forced removal of an
    /// application.
    pub fn goal(&mut self, app: &str) -> Result<Option<Goal>, ToolError> {
        if let Some(goal) = self.goals.get(app) {
            return Ok(goal.clone());
        }
        let goal = match query::<goal::Answer>("goal-state", &[]) {
            Err(error @ ToolError::Failed { .. }) => {
                tracing::warn!("{error}");
                None
            }
            answer => Some(answer?.of(app)),
        };
        self.goals.insert(app.to_owned(), goal.clone());
        Ok(goal)
    }

    /// The charm's options that have a value, from `config-get`.
    pub fn config(&mut self) -> Result<&Map<String, Value>, ToolError> {
        if self.config.is_none() {
            self.config = Some(query::<Option<_>>("config-get", &[])?.unwrap_or_default());
        }
        Ok(self.config.get_or_insert_default())
    }

    /// The relations of an endpoint, sorted by number. Juju sorts them as text.
    pub fn relations(&mut self, endpoint: Endpoint) -> Result<Vec<RelationId>, ToolError> {
        if let Some(ids) = self.relations.get(&endpoint) {
            return Ok(ids.clone());
        }
        let names: Option<Vec<String>> = query("relation-ids", &[endpoint.name()])?;
        let mut ids: Vec<RelationId> =
            names.unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        self.relations.insert(endpoint, ids.clone());
        Ok(ids)
    }

    /// Adds a relation to the cache of [`Juju::relations`].
    pub fn add_relation(
        &mut self,
        endpoint: Endpoint,
        relation: RelationId,
    ) -> Result<(), ToolError> {
        let mut ids = self.relations(endpoint)?;
        ids.push(relation);
        ids.sort();
        ids.dedup();
        self.relations.insert(endpoint, ids);
        Ok(())
    }

    /// Removes a relation from the cache of [`Juju::relations`]. Some versions of Juju still list
    /// a relation in its `-broken` hook.
    pub fn drop_relation(
        &mut self,
        endpoint: Endpoint,
        relation: RelationId,
    ) -> Result<(), ToolError> {
        let mut ids = self.relations(endpoint)?;
        ids.retain(|id| *id != relation);
        self.relations.insert(endpoint, ids);
        Ok(())
    }

    /// The remote units of a relation that this unit has seen join.
    pub fn members(&mut self, relation: RelationId) -> Result<Vec<String>, ToolError> {
        if let Some(units) = self.members.get(&relation) {
            return Ok(units.clone());
        }
        let units: Option<Vec<String>> = query("relation-list", &["-r", &relation.to_string()])?;
        let units = units.unwrap_or_default();
        self.members.insert(relation, units.clone());
        Ok(units)
    }

    /// The application on the other side of a relation.
    pub fn remote_app(&mut self, relation: RelationId) -> Result<Option<String>, ToolError> {
        absent_is_none(query("relation-list", &["--app", "-r", &relation.to_string()]))
    }

    /// A databag, including the pending writes of this dispatch. A databag that cannot be read
    /// counts as empty, because Juju refuses reads of a relation that is being removed.
    pub fn bag(&mut self, relation: RelationId, owner: &Owner) -> Result<&Texts, ToolError> {
        Ok(&self.open(relation, owner)?.texts)
    }

    /// A databag as it was before this dispatch.
    pub fn bag_before(&mut self, relation: RelationId, owner: &Owner) -> Result<Texts, ToolError> {
        let bag = self.open(relation, owner)?;
        let mut texts = bag.texts.clone();
        for (key, before) in &bag.before {
            match before {
                Some(value) => texts.insert(key.clone(), value.clone()),
                None => texts.remove(key),
            };
        }
        Ok(texts)
    }

    fn open(&mut self, relation: RelationId, owner: &Owner) -> Result<&mut Bag, ToolError> {
        let key = (relation, owner.clone());
        if !self.bags.contains_key(&key) {
            let (member, app) = match owner {
                Owner::App => (self.app.as_str(), true),
                Owner::Unit => (self.unit.as_str(), false),
                Owner::Other(name) => (name.as_str(), !name.contains('/')),
            };
            let id = relation.to_string();
            let mut args = vec!["-r", &id];
            args.extend(app.then_some("--app"));
            args.extend(["-", member]);
            let texts: Option<Option<Texts>> = absent_is_none(query("relation-get", &args))?;
            let texts = texts.flatten().unwrap_or_default();
            self.bags.insert(key.clone(), Bag { texts, before: BTreeMap::new() });
        }
        Ok(self.bags.entry(key).or_default())
    }

    /// Sets a key of one of our bags, or removes the key with `None`. Returns whether the value
    /// differed.
    pub fn set(
        &mut self,
        relation: RelationId,
        owner: &Owner,
        key: &str,
        value: Option<&str>,
    ) -> Result<bool, ToolError> {
        // To Juju the empty text means removal.
        let value = value.filter(|value| !value.is_empty());
        let bag = self.open(relation, owner)?;
        if bag.texts.get(key).map(String::as_str) == value {
            return Ok(false);
        }
        let before = match value {
            Some(value) => bag.texts.insert(key.to_owned(), value.to_owned()),
            None => bag.texts.remove(key),
        };
        bag.before.entry(key.to_owned()).or_insert(before);
        Ok(true)
    }

    /// Whether this dispatch has changed a databag.
    pub fn has_changes(&self, relation: RelationId, owner: &Owner) -> bool {
        self.bags.get(&(relation, owner.clone())).is_some_and(|bag| !bag.changes().is_empty())
    }

    /// The unit's own state from `state-get`, which outlives the pod.
    pub fn state(&mut self) -> Result<&Texts, ToolError> {
        Ok(&self.open_state()?.texts)
    }

    /// Sets a value of the unit's own state. The empty text counts as no value.
    pub fn set_state(&mut self, key: &str, value: &str) -> Result<(), ToolError> {
        let state = self.open_state()?;
        if state.texts.get(key).map_or("", String::as_str) != value {
            state.texts.insert(key.to_owned(), value.to_owned());
            state.changes.insert(key.to_owned(), value.to_owned());
        }
        Ok(())
    }

    fn open_state(&mut self) -> Result<&mut State, ToolError> {
        if self.state.is_none() {
            let texts = query::<Option<Texts>>("state-get", &[])?.unwrap_or_default();
            self.state = Some(State { texts, changes: BTreeMap::new() });
        }
        Ok(self.state.get_or_insert_default())
    }

    /// Opens a TCP port. On Kubernetes, Juju adds the port to the application's service.
    pub fn open_port(&mut self, port: u16) -> Result<(), ToolError> {
        self.change("open-port", &[&format!("{port}/tcp")])
    }

    /// Sets the workload version. Juju applies it immediately.
    pub fn set_version(&mut self, version: &str) -> Result<(), ToolError> {
        self.change("application-version-set", &[version])
    }

    /// Closes a TCP port.
    pub fn close_port(&mut self, port: u16) -> Result<(), ToolError> {
        self.change("close-port", &[&format!("{port}/tcp")])
    }

    /// This unit's address on an endpoint's network, if it has one yet.
    pub fn bind_address(&mut self, endpoint: Endpoint) -> Result<Option<String>, ToolError> {
        #[derive(Deserialize)]
        struct Network {
            #[serde(default, rename = "bind-addresses")]
            devices: Vec<Device>,
        }
        #[derive(Deserialize)]
        struct Device {
            #[serde(default)]
            addresses: Vec<Address>,
        }
        #[derive(Deserialize)]
        struct Address {
            value: String,
        }
        if let Some(address) = self.addresses.get(&endpoint) {
            return Ok(address.clone());
        }
        let network: Option<Network> = absent_is_none(query("network-get", &[endpoint.name()]))?;
        let mut addresses = network.into_iter().flat_map(|n| n.devices).flat_map(|d| d.addresses);
        let address = addresses.next().map(|address| address.value);
        self.addresses.insert(endpoint, address.clone());
        Ok(address)
    }

    /// Sets the unit's status, or the application's, which only the leader may do. Juju applies it
    /// immediately and keeps it if the hook fails.
    pub fn set_status(&mut self, scope: Scope, status: &Status) -> Result<(), ToolError> {
        let scope: &[&str] = match scope {
            Scope::Unit => &[],
            Scope::Application => &["--application"],
        };
        let kind = status.kind.to_string();
        self.change("status-set", &[scope, &[&kind, "--", &status.message]].concat())
    }

    /// The value of an action's parameter; `None` if it is not set.
    pub fn action_parameter(&mut self, name: &str) -> Result<Option<Secret>, ToolError> {
        query("action-get", &[name])
    }

    /// Sets the results of an action. Names consist of lower-case letters, digits and hyphens.
    pub fn set_results(&mut self, results: &[(&str, String)]) -> Result<(), ToolError> {
        let args: Vec<String> =
            results.iter().map(|(key, value)| format!("{key}={value}")).collect();
        run("action-set", &args.iter().map(String::as_str).collect::<Vec<_>>(), None).map(drop)
    }

    /// Ends an action as failed, with a reason.
    pub fn fail_action(&mut self, message: &str) -> Result<(), ToolError> {
        run("action-fail", &["--", message], None).map(drop)
    }

    /// Writes lines to Juju's log.
    pub fn log(level: &str, text: &str) -> Result<(), ToolError> {
        tool::log(&["-l", level, "--", text])
    }

    /// Passes all changed databags and state to Juju, which commits them if the hook exits with 0.
    pub fn flush(&mut self) -> Result<(), ToolError> {
        let mut touched: Vec<_> =
            self.bags.iter_mut().filter(|(_, bag)| !bag.before.is_empty()).collect();
        touched.sort_by_key(|(key, _)| (*key).clone());
        let bags: Vec<_> =
            touched.into_iter().map(|(key, bag)| (key.clone(), bag.take_changes())).collect();
        for ((relation, owner), changes) in
            bags.into_iter().filter(|(_, changes)| !changes.is_empty())
        {
            let id = relation.to_string();
            let mut args = vec!["-r", &id, "--file", "-"];
            args.extend((owner == Owner::App).then_some("--app"));
            self.call("relation-set", &args, &keys(&changes), Some(&to_yaml(&changes)))?;
        }
        if let Some(state) = self.state.as_mut().filter(|state| !state.changes.is_empty()) {
            let changes = std::mem::take(&mut state.changes);
            self.call("state-set", &["--file", "-"], &keys(&changes), Some(&to_yaml(&changes)))?;
        }
        Ok(())
    }

    /// Runs a tool that changes something and takes no secret.
    fn change(&mut self, tool: &'static str, args: &[&str]) -> Result<(), ToolError> {
        self.call(tool, args, "", None).map(drop)
    }

    /// Runs a tool that changes something, if the journal permits. The journal shows the call
    /// without values: `shown` stands for the content that the tool reads from a file.
    fn call(
        &self,
        tool: &'static str,
        args: &[&str],
        shown: &str,
        stdin: Option<&str>,
    ) -> Result<Vec<u8>, ToolError> {
        let file = args.iter().position(|arg| *arg == "--file");
        let is_shown =
            |(i, _): &(usize, &&str)| file.is_none_or(|file| *i != file && *i != file + 1);
        let args_shown = args.iter().enumerate().filter(is_shown).map(|(_, arg)| *arg);
        let words: Vec<&str> = [tool]
            .into_iter()
            .chain(args_shown)
            .chain([shown])
            .filter(|word| !word.is_empty())
            .collect();
        if self.journal.permits(Target::Juju, words.join(" ")) {
            run(tool, args, stdin)
        } else {
            Ok(Vec::new())
        }
    }
}

/// Shows the keys as arguments of a command line, with `…` for each value; a removed key has none.
fn keys(texts: &Texts) -> String {
    let key = |(key, value): (&String, &String)| {
        format!("{key}={}", if value.is_empty() { "" } else { "…" })
    };
    texts.iter().map(key).collect::<Vec<_>>().join(" ")
}

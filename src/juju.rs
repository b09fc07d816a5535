//! The hook tools, each a subprocess, behind one cache a dispatch.
//!
//! Reads happen once; our own writes update what was read. Databag and state writes are collected
//! and handed to Juju by [`Juju::flush`], one call a bag, and only where something differs: a
//! databag byte that changes wakes every related unit.

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
use self::tool::{absent_is_none, ask, run, to_yaml};
use crate::event::{Endpoint, RelationId};
use crate::facts::Texts;
use crate::journal::{Journal, Target};
use crate::plan;
use crate::secret::Secret;
use crate::status::Status;

/// Whose databag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// Our own application.
    App,
    /// This unit.
    Unit,
    /// Another application, or a unit of one, or a sibling of ours, by name.
    Other(String),
}

/// The relation that a bag of ours belongs to, and whose it is.
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

/// A databag as read, and what we want to change in it.
#[derive(Default)]
struct Bag {
    texts: Texts,
    /// The keys that were set, with what they were before.
    before: BTreeMap<String, Option<String>>,
}

impl Bag {
    /// What Juju is to be told: the empty text removes a key. What was changed and changed back is not told.
    fn changes(&self) -> Texts {
        let differs = |(key, before): &(&String, &Option<String>)| self.texts.get(*key) != before.as_ref();
        let changed = self.before.iter().filter(differs).map(|(key, _)| key);
        changed.map(|key| (key.clone(), self.texts.get(key).cloned().unwrap_or_default())).collect()
    }

    /// The same, once.
    fn take_changes(&mut self) -> Texts {
        let changes = self.changes();
        self.before.clear();
        changes
    }
}

/// The unit's charm state as read, and what we want to change in it.
#[derive(Default)]
struct State {
    texts: Texts,
    changes: BTreeMap<String, String>,
}

impl Juju {
    /// The tools for this unit.
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

    /// Whether this unit is the leader: true is a promise for 30 seconds, and asked once a dispatch.
    pub fn is_leader(&mut self) -> Result<bool, ToolError> {
        if let Some(leader) = self.leader {
            return Ok(leader);
        }
        let leader = ask("is-leader", &[])?;
        self.leader = Some(leader);
        Ok(leader)
    }

    /// The units of an application, ours or a related one, that are to be there, as the model has it. None is
    /// known of another model. Nothing where Juju cannot tell, as after an application was removed by force.
    pub fn goal(&mut self, app: &str) -> Result<Option<Goal>, ToolError> {
        if let Some(goal) = self.goals.get(app) {
            return Ok(goal.clone());
        }
        let goal = match ask::<goal::Answer>("goal-state", &[]) {
            Err(error @ ToolError::Failed { .. }) => {
                tracing::warn!("{error}");
                None
            }
            answer => Some(answer?.of(app)),
        };
        self.goals.insert(app.to_owned(), goal.clone());
        Ok(goal)
    }

    /// The charm's options that have a value.
    pub fn config(&mut self) -> Result<&Map<String, Value>, ToolError> {
        if self.config.is_none() {
            self.config = Some(ask::<Option<_>>("config-get", &[])?.unwrap_or_default());
        }
        Ok(self.config.get_or_insert_default())
    }

    /// The relations of an endpoint by number. Juju sorts them as text.
    pub fn relations(&mut self, endpoint: Endpoint) -> Result<Vec<RelationId>, ToolError> {
        if let Some(ids) = self.relations.get(&endpoint) {
            return Ok(ids.clone());
        }
        let names: Option<Vec<String>> = ask("relation-ids", &[endpoint.name()])?;
        let mut ids: Vec<RelationId> =
            names.unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        self.relations.insert(endpoint, ids.clone());
        Ok(ids)
    }

    /// Adds a relation to what [`Juju::relations`] answers.
    pub fn learn(&mut self, endpoint: Endpoint, relation: RelationId) -> Result<(), ToolError> {
        let mut ids = self.relations(endpoint)?;
        ids.push(relation);
        ids.sort();
        ids.dedup();
        self.relations.insert(endpoint, ids);
        Ok(())
    }

    /// Takes a relation out of what [`Juju::relations`] answers: one that is being broken is still
    /// listed by some versions of Juju.
    pub fn forget(&mut self, endpoint: Endpoint, relation: RelationId) -> Result<(), ToolError> {
        let mut ids = self.relations(endpoint)?;
        ids.retain(|id| *id != relation);
        self.relations.insert(endpoint, ids);
        Ok(())
    }

    /// The other units of a relation that have joined, as far as this unit has been told.
    pub fn members(&mut self, relation: RelationId) -> Result<Vec<String>, ToolError> {
        if let Some(units) = self.members.get(&relation) {
            return Ok(units.clone());
        }
        let units: Option<Vec<String>> = ask("relation-list", &["-r", &relation.to_string()])?;
        let units = units.unwrap_or_default();
        self.members.insert(relation, units.clone());
        Ok(units)
    }

    /// The application on the other side of a relation.
    pub fn remote_app(&mut self, relation: RelationId) -> Result<Option<String>, ToolError> {
        absent_is_none(ask("relation-list", &["--app", "-r", &relation.to_string()]))
    }

    /// A databag with our own pending writes in it. One that cannot be read is empty: Juju refuses
    /// reads of a relation that is going.
    pub fn bag(&mut self, relation: RelationId, owner: &Owner) -> Result<&Texts, ToolError> {
        Ok(&self.open(relation, owner)?.texts)
    }

    /// The same as it was before this dispatch.
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
            let texts: Option<Option<Texts>> = absent_is_none(ask("relation-get", &args))?;
            let texts = texts.flatten().unwrap_or_default();
            self.bags.insert(key.clone(), Bag { texts, before: BTreeMap::new() });
        }
        Ok(self.bags.entry(key).or_default())
    }

    /// Sets a key of a bag of ours, or removes it with `None`. Tells whether anything differed.
    pub fn set(
        &mut self,
        relation: RelationId,
        owner: &Owner,
        key: &str,
        value: Option<&str>,
    ) -> Result<bool, ToolError> {
        // Juju takes the empty text for removal.
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

    /// Whether Juju is to be told of something new in a databag.
    pub fn changes(&self, relation: RelationId, owner: &Owner) -> bool {
        self.bags.get(&(relation, owner.clone())).is_some_and(|bag| !bag.changes().is_empty())
    }

    /// The unit's own state, which survives the pod.
    pub fn state(&mut self) -> Result<&Texts, ToolError> {
        Ok(&self.open_state()?.texts)
    }

    /// Sets a value of the unit's own state; the empty text counts as no value.
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
            let texts = ask::<Option<Texts>>("state-get", &[])?.unwrap_or_default();
            self.state = Some(State { texts, changes: BTreeMap::new() });
        }
        Ok(self.state.get_or_insert_default())
    }

    /// Lets clients in on a TCP port; on Kubernetes Juju's service of the application gets it.
    pub fn open_port(&mut self, port: u16) -> Result<(), ToolError> {
        self.tell("open-port", &[&format!("{port}/tcp")])
    }

    /// The workload's version, at once.
    pub fn set_version(&mut self, version: &str) -> Result<(), ToolError> {
        self.tell("application-version-set", &[version])
    }

    /// Takes that back.
    pub fn close_port(&mut self, port: u16) -> Result<(), ToolError> {
        self.tell("close-port", &[&format!("{port}/tcp")])
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
        let network: Option<Network> = absent_is_none(ask("network-get", &[endpoint.name()]))?;
        let mut addresses = network.into_iter().flat_map(|n| n.devices).flat_map(|d| d.addresses);
        let address = addresses.next().map(|address| address.value);
        self.addresses.insert(endpoint, address.clone());
        Ok(address)
    }

    /// Shows the unit's status; at once, surviving a failing hook.
    pub fn set_status(&mut self, status: &Status) -> Result<(), ToolError> {
        self.tell("status-set", &[&status.kind.to_string(), "--", &status.message])
    }

    /// Shows the application's status, as only its leader may; at once, surviving a failing hook.
    pub fn set_application_status(&mut self, status: &Status) -> Result<(), ToolError> {
        self.tell("status-set", &["--application", &status.kind.to_string(), "--", &status.message])
    }

    /// Gives an action its results, by names of lower-case letters, digits and hyphens.
    pub fn set_results(&mut self, results: &[(&str, String)]) -> Result<(), ToolError> {
        let args: Vec<String> = results.iter().map(|(key, value)| format!("{key}={value}")).collect();
        run("action-set", &args.iter().map(String::as_str).collect::<Vec<_>>(), None).map(drop)
    }

    /// Ends an action as failed, with words.
    pub fn fail_action(&mut self, message: &str) -> Result<(), ToolError> {
        run("action-fail", &["--", message], None).map(drop)
    }

    /// Hands lines to Juju's log.
    pub fn log(level: &str, text: &str) -> Result<(), ToolError> {
        // One argument holds at most 131071 bytes on Linux.
        let end = (0..=text.len().min(131_000)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        run("juju-log", &["-l", level, "--", &text[..end]], None).map(drop)
    }

    /// Hands what differs to Juju. It is committed only if the hook then exits with 0.
    pub fn flush(&mut self) -> Result<(), ToolError> {
        let mut touched: Vec<_> = self.bags.iter_mut().filter(|(_, bag)| !bag.before.is_empty()).collect();
        touched.sort_by_key(|(key, _)| (*key).clone());
        let changed: Vec<_> =
            touched.into_iter().map(|(key, bag)| (key.clone(), bag.take_changes())).collect();
        for ((relation, owner), changes) in changed.into_iter().filter(|(_, changes)| !changes.is_empty()) {
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

    /// Tells Juju something that is no secret.
    fn tell(&mut self, tool: &'static str, args: &[&str]) -> Result<(), ToolError> {
        self.call(tool, args, "", None).map(drop)
    }

    /// Runs a tool that changes something, if the journal permits. There the call is shown without
    /// any value: what the tool reads from a file is shown as `shown`.
    fn call(
        &self,
        tool: &'static str,
        args: &[&str],
        shown: &str,
        stdin: Option<&str>,
    ) -> Result<Vec<u8>, ToolError> {
        let file = args.iter().position(|arg| *arg == "--file");
        let is_shown = |(i, _): &(usize, &&str)| file.is_none_or(|file| *i != file && *i != file + 1);
        let args_shown = args.iter().enumerate().filter(is_shown).map(|(_, arg)| *arg);
        let words: Vec<&str> =
            [tool].into_iter().chain(args_shown).chain([shown]).filter(|word| !word.is_empty()).collect();
        if self.journal.permits(Target::Juju, words.join(" ")) {
            run(tool, args, stdin)
        } else {
            Ok(Vec::new())
        }
    }
}

/// The keys of what a tool is told, as it would be told on a command line: without a value where the key is to go.
fn keys(texts: &Texts) -> String {
    let key = |(key, value): (&String, &String)| format!("{key}={}", if value.is_empty() { "" } else { "…" });
    texts.iter().map(key).collect::<Vec<_>>().join(" ")
}

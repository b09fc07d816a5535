//! The hook tools, each a subprocess, behind one cache a dispatch.
//!
//! Reads happen once; our own writes update what was read. Databag and state writes are collected
//! and handed to Juju by [`Juju::flush`], one call a bag, and only where something differs: a
//! databag byte that changes wakes every related unit.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::event::{Endpoint, RelationId, secret_id};
use crate::plan::Texts;
use crate::secret::Secret;
use crate::status::Status;

/// A hook tool that did not do what it was asked.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The tool could not be started: we are not in a hook.
    #[error("cannot start {tool}: {source}")]
    Start {
        /// The tool.
        tool: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The tool said no. Exit status 2 means that the call was malformed, 1 that the world says no.
    #[error("{tool} failed ({status}): {stderr}")]
    Failed {
        /// The tool.
        tool: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        stderr: String,
    },
    /// The tool's answer is not what its contract says. The answer is not repeated: it may be secret.
    #[error("cannot read the answer of {tool}: line {line}, column {column}")]
    Answer {
        /// The tool.
        tool: &'static str,
        /// Where in the answer.
        line: usize,
        /// Where in that line.
        column: usize,
    },
}

impl ToolError {
    /// Juju's way to say that a relation, secret, label or revision is not there, or not for us to
    /// read. The words differ by version (contract of juju/juju's `jujuc`): these two are in all.
    fn is_absent(&self) -> bool {
        matches!(self, Self::Failed { stderr, .. }
            if stderr.contains("not found") || stderr.contains("permission denied"))
    }
}

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

/// What `secret-info-get` tells the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    /// The bare id.
    pub id: String,
    /// The newest revision; none where this hook has just asked for another one.
    pub revision: Option<u64>,
}

/// Units by name, as `goal-state` tells of them. Units that are gone are not listed.
#[derive(Clone, Debug)]
pub struct Goal(BTreeMap<String, Planned>);

#[derive(Clone, Debug, Deserialize)]
struct Planned {
    status: String,
}

impl Goal {
    /// The units that are to stay.
    pub fn staying(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, planned)| planned.status != "dying").map(|(unit, _)| unit.as_str())
    }

    /// Whether a unit is to stay and is active.
    pub fn is_active(&self, unit: &str) -> bool {
        self.0.get(unit).is_some_and(|planned| planned.status == "active")
    }

    /// Whether no unit is known at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
    state: Option<Kept>,
    told: Told,
    unread: Vec<String>,
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
}

/// The unit's charm state as read, and what we want to change in it.
#[derive(Default)]
struct Kept {
    texts: Texts,
    changes: BTreeMap<String, String>,
}

impl Juju {
    /// The tools for this unit.
    pub fn new(app: &str, unit: &str) -> Self {
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
            told: Told::default(),
            unread: Vec::new(),
        }
    }

    /// From now on nothing is told to Juju but noted as if it had been, and nothing is read that Juju would
    /// keep a record of.
    pub fn rehearse(&mut self) {
        self.told.is_rehearsal = true;
    }

    /// Whether that was said.
    pub fn is_rehearsal(&self) -> bool {
        self.told.is_rehearsal
    }

    /// What Juju was told, or would have been, as calls of its tools. No value is in them.
    pub fn told(&self) -> &[String] {
        &self.told.calls
    }

    /// The secrets that a rehearsal left unread: Juju notes who reads one for the first time.
    pub fn unread(&self) -> &[String] {
        &self.unread
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
        #[derive(Deserialize)]
        struct Answer {
            units: BTreeMap<String, Planned>,
            #[serde(default)]
            relations: BTreeMap<String, BTreeMap<String, Planned>>,
        }
        if let Some(goal) = self.goals.get(app) {
            return Ok(goal.clone());
        }
        let goal = match ask("goal-state", &[]) {
            Err(error @ ToolError::Failed { .. }) => {
                tracing::warn!("{error}");
                None
            }
            answer => {
                let Answer { units, relations } = answer?;
                // Juju mixes endpoints up that are named alike on the two sides of relations
                // (`goalStateRelations` in juju/juju's uniter facade): what counts is the application.
                let all = relations.into_values().flatten().chain(units);
                let theirs = |name: &str| name.strip_prefix(app).is_some_and(|rest| rest.starts_with('/'));
                Some(Goal(all.filter(|(name, _)| theirs(name)).collect()))
            }
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

    /// The application on the other side of a relation. It never changes, so the unit's state keeps
    /// it: one call saved in every later hook.
    pub fn remote_app(&mut self, relation: RelationId) -> Result<Option<String>, ToolError> {
        let key = format!("app-of-{relation}");
        if let Some(app) = self.state(&key)?.filter(|app| !app.is_empty()) {
            return Ok(Some(app));
        }
        let app: Option<String> =
            absent_is_none(ask("relation-list", &["--app", "-r", &relation.to_string()]))?;
        if let Some(app) = &app {
            self.set_state(&key, app)?;
        }
        Ok(app)
    }

    /// Lets go of what is remembered of a relation that ends.
    pub fn forget_remote_app(&mut self, relation: RelationId) -> Result<(), ToolError> {
        self.set_state(&format!("app-of-{relation}"), "")
    }

    /// A databag with our own pending writes in it. One that cannot be read is empty: Juju refuses
    /// reads of a relation that is going.
    pub fn bag(&mut self, relation: RelationId, owner: &Owner) -> Result<&Texts, ToolError> {
        Ok(&self.open(relation, owner)?.texts)
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

    /// A value of the unit's own state, which survives the pod.
    pub fn state(&mut self, key: &str) -> Result<Option<String>, ToolError> {
        Ok(self.kept()?.texts.get(key).cloned())
    }

    /// Sets a value of the unit's own state; the empty text counts as no value.
    pub fn set_state(&mut self, key: &str, value: &str) -> Result<(), ToolError> {
        let kept = self.kept()?;
        if kept.texts.get(key).map_or("", String::as_str) != value {
            kept.texts.insert(key.to_owned(), value.to_owned());
            kept.changes.insert(key.to_owned(), value.to_owned());
        }
        Ok(())
    }

    fn kept(&mut self) -> Result<&mut Kept, ToolError> {
        if self.state.is_none() {
            let texts = ask::<Option<Texts>>("state-get", &[])?.unwrap_or_default();
            self.state = Some(Kept { texts, changes: BTreeMap::new() });
        }
        Ok(self.state.get_or_insert_default())
    }

    /// The newest content of the secret under a label of ours; `None` where it is not there or not
    /// yet for us to read.
    pub fn secret_by_label(&mut self, label: &str) -> Result<Option<BTreeMap<String, Secret>>, ToolError> {
        self.secret(label, &["--label", label])
    }

    /// The newest content of a secret of our own application that has no label yet.
    pub fn secret_by_uri(&mut self, uri: &str) -> Result<Option<BTreeMap<String, Secret>>, ToolError> {
        self.secret(uri, &[uri])
    }

    /// The newest content of another application's secret; from then on `label` is its name for
    /// this unit.
    pub fn foreign_secret(
        &mut self,
        uri: &str,
        label: &str,
    ) -> Result<Option<BTreeMap<String, Secret>>, ToolError> {
        if !self.told.is_rehearsal {
            return self.secret(label, &[uri, "--label", label]);
        }
        let content = self.secret(label, &["--label", label])?;
        if content.is_none() && !self.unread.contains(&label.to_owned()) {
            self.unread.push(label.to_owned());
        }
        Ok(content)
    }

    fn secret(&mut self, name: &str, args: &[&str]) -> Result<Option<BTreeMap<String, Secret>>, ToolError> {
        if let Some(content) = self.secrets.get(name) {
            return Ok(content.clone());
        }
        // Without --refresh an owner, too, gets the revision it once pinned, and a pin that never
        // moves keeps old revisions alive.
        let newest = if self.told.is_rehearsal { "--peek" } else { "--refresh" };
        let content = absent_is_none(ask("secret-get", &[args, &[newest]].concat()))?;
        self.secrets.insert(name.to_owned(), content.clone());
        Ok(content)
    }

    /// What Juju knows of the secret under an owner's label; only the owner is told.
    pub fn secret_info(&mut self, label: &str) -> Result<Option<SecretInfo>, ToolError> {
        self.info(label, &["--label", label])
    }

    /// What Juju knows of one of our secrets.
    pub fn secret_info_by_id(&mut self, id: &str) -> Result<Option<SecretInfo>, ToolError> {
        self.info(id, &[id])
    }

    fn info(&mut self, name: &str, args: &[&str]) -> Result<Option<SecretInfo>, ToolError> {
        #[derive(Deserialize)]
        struct Info {
            revision: u64,
        }
        if let Some(info) = self.infos.get(name) {
            return Ok(info.clone());
        }
        let infos: Option<BTreeMap<String, Info>> = absent_is_none(ask("secret-info-get", args))?;
        let info = infos
            .unwrap_or_default()
            .into_iter()
            .next()
            .map(|(id, info)| SecretInfo { id, revision: Some(info.revision) });
        self.infos.insert(name.to_owned(), info.clone());
        Ok(info)
    }

    /// Makes the application's secret under `label` hold `content`: the secret that has the label,
    /// else the one of id `adopt`, else a new one. Returns its URI or id. Does nothing where nothing
    /// differs. Committed with the hook, but not undone by a commit that fails later, hence the search.
    pub fn set_secret(
        &mut self,
        label: &str,
        content: &BTreeMap<String, Secret>,
        adopt: Option<&str>,
    ) -> Result<String, ToolError> {
        let labelled = self.secret_info(label)?.map(|info| info.id);
        let relabel = labelled.is_none();
        let uri = if let Some(id) = labelled.or_else(|| adopt.map(|uri| secret_id(uri).to_owned())) {
            let uri = format!("secret:{id}");
            if relabel || self.secret_by_label(label)?.as_ref() != Some(content) {
                self.tell_secret("secret-set", &[&uri, "--label", label], content)?;
            }
            uri
        } else {
            self.tell_secret("secret-add", &["--label", label, "--owner", "application"], content)?
        };
        self.secrets.insert(label.to_owned(), Some(content.clone()));
        self.infos
            .insert(label.to_owned(), Some(SecretInfo { id: secret_id(&uri).to_owned(), revision: None }));
        Ok(uri)
    }

    /// Lets the application on the other side of a relation read a secret of ours.
    pub fn grant(&mut self, uri: &str, relation: RelationId) -> Result<(), ToolError> {
        self.tell("secret-grant", &[uri, "-r", &relation.to_string()])
    }

    /// Removes a revision of a secret of ours.
    pub fn remove_revision(&mut self, id: &str, revision: u64) -> Result<(), ToolError> {
        self.tell("secret-remove", &[id, "--revision", &revision.to_string()])
    }

    /// Removes a secret of ours with all its revisions.
    pub fn remove_secret(&mut self, label: &str, id: &str) -> Result<(), ToolError> {
        self.tell("secret-remove", &[id])?;
        self.secrets.insert(label.to_owned(), None);
        self.infos.insert(label.to_owned(), None);
        Ok(())
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
        for ((relation, owner), bag) in touched {
            let changes = bag.changes();
            bag.before.clear();
            if changes.is_empty() {
                continue;
            }
            let id = relation.to_string();
            let mut args = vec!["-r", &id, "--file", "-"];
            args.extend((*owner == Owner::App).then_some("--app"));
            self.told.call("relation-set", &args, &keys(&changes), Some(&to_yaml(&changes)))?;
        }
        if let Some(kept) = self.state.as_mut().filter(|kept| !kept.changes.is_empty()) {
            let changes = std::mem::take(&mut kept.changes);
            self.told.call("state-set", &["--file", "-"], &keys(&changes), Some(&to_yaml(&changes)))?;
        }
        Ok(())
    }

    /// Tells Juju something that is no secret.
    fn tell(&mut self, tool: &'static str, args: &[&str]) -> Result<(), ToolError> {
        self.told.call(tool, args, "", None).map(drop)
    }

    /// Runs a tool that takes a secret's content. The agent, not the tool, opens the file it is named,
    /// so the content lies in an anonymous file of ours, reached through `/proc`: no disk ever has it,
    /// and it goes when we go. Returns what the tool prints: a new secret's URI.
    fn tell_secret(
        &mut self,
        tool: &'static str,
        args: &[&str],
        content: &BTreeMap<String, Secret>,
    ) -> Result<String, ToolError> {
        let start = |source: std::io::Error| ToolError::Start { tool, source };
        let fd = nix::sys::memfd::memfd_create(c"secret", nix::sys::memfd::MFdFlags::empty())
            .map_err(|errno| start(errno.into()))?;
        let mut file = std::fs::File::from(fd);
        let texts: Texts =
            content.iter().map(|(key, value)| (key.clone(), value.reveal().to_owned())).collect();
        file.write_all(to_yaml(&texts).as_bytes()).map_err(start)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let args = [args, &["--file", &path]].concat();
        let stdout = self.told.call(tool, &args, &keys(&texts), None)?;
        if self.told.is_rehearsal {
            return Ok("secret:new".to_owned());
        }
        Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
    }
}

/// What Juju was told.
#[derive(Default)]
struct Told {
    is_rehearsal: bool,
    calls: Vec<String>,
}

impl Told {
    /// Runs a tool, or in a rehearsal only notes that it would be run. What it reads from a file is shown as `shown`.
    fn call(
        &mut self,
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
        self.calls.push(words.join(" "));
        if self.is_rehearsal { Ok(Vec::new()) } else { run(tool, args, stdin) }
    }
}

/// The keys of what a tool is told, as it would be told on a command line: without a value where the key is to go.
fn keys(texts: &Texts) -> String {
    let key = |(key, value): (&String, &String)| format!("{key}={}", if value.is_empty() { "" } else { "…" });
    texts.iter().map(key).collect::<Vec<_>>().join(" ")
}

/// A map as the YAML that `--file` takes. Compact JSON is YAML, but for DEL and the C1 control
/// characters, which Juju's YAML reader refuses unescaped.
fn to_yaml(texts: &BTreeMap<String, String>) -> String {
    let json = serde_json::to_string(texts).unwrap_or_default();
    if !json.contains(|c| matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')) {
        return json;
    }
    json.chars()
        .map(|c| match c {
            '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

/// Runs a tool and reads its JSON.
fn ask<T: DeserializeOwned>(tool: &'static str, args: &[&str]) -> Result<T, ToolError> {
    let stdout = run(tool, &[args, &["--format=json"]].concat(), None)?;
    serde_json::from_slice(&stdout).map_err(|error| ToolError::Answer {
        tool,
        line: error.line(),
        column: error.column(),
    })
}

fn absent_is_none<T>(answer: Result<T, ToolError>) -> Result<Option<T>, ToolError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts a hook tool")]
fn run(tool: &'static str, args: &[&str], stdin: Option<&str>) -> Result<Vec<u8>, ToolError> {
    let start = |source| ToolError::Start { tool, source };
    tracing::trace!(tool, ?args);
    let mut child = Command::new(tool)
        .args(args)
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        // A tool that fails before it reads closes the pipe; its own error is the one to show.
        let _ = pipe.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let stderr = if stderr.is_empty() { "it printed no reason".to_owned() } else { stderr };
        return Err(ToolError::Failed { tool, status: output.status, stderr });
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_jujus_yaml_reader_refuses_are_escaped() {
        let texts = BTreeMap::from([("k".to_owned(), "a\u{7f}b\u{85}é😀\n".to_owned())]);
        let yaml = to_yaml(&texts);
        assert_eq!(yaml, r#"{"k":"a\u007fb\u0085é😀\n"}"#);
        assert_eq!(serde_json::from_str::<Texts>(&yaml).expect("json"), texts);
    }
}

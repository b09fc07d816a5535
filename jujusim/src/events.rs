//! Which hook a unit runs next: the order of Juju's unit agent.

use serde_json::Value;

use crate::model::{Entity, Model, Relation, Stage, Status, Unit, UnitName, View};

/// Something a unit's charm is run for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Install,
    ConfigChanged,
    Start,
    Stop,
    Remove,
    UpgradeCharm,
    LeaderElected,
    LeaderSettingsChanged,
    Created {
        relation: u32,
    },
    Joined {
        relation: u32,
        unit: UnitName,
    },
    /// `unit` is none when the remote application's bag changed.
    Changed {
        relation: u32,
        unit: Option<UnitName>,
    },
    Departed {
        relation: u32,
        unit: UnitName,
        departing: UnitName,
    },
    Broken {
        relation: u32,
    },
    SecretChanged {
        id: String,
    },
    SecretRemove {
        id: String,
        revision: u32,
    },
    /// Any other hook without arguments of its own.
    Other(String),
    Action {
        name: String,
        number: u32,
        parameters: Value,
    },
    Exec {
        command: Vec<String>,
    },
}

impl Event {
    /// The relation of a relation hook.
    pub(crate) fn relation(&self) -> Option<u32> {
        match self {
            Event::Created { relation }
            | Event::Joined { relation, .. }
            | Event::Changed { relation, .. }
            | Event::Departed { relation, .. }
            | Event::Broken { relation } => Some(*relation),
            _ => None,
        }
    }

    /// The unit in `JUJU_REMOTE_UNIT`.
    pub(crate) fn remote_unit(&self) -> Option<&UnitName> {
        match self {
            Event::Joined { unit, .. }
            | Event::Departed { unit, .. }
            | Event::Changed { unit: Some(unit), .. } => Some(unit),
            _ => None,
        }
    }

    /// Hooks; actions and `juju exec` are run beside them.
    pub(crate) fn is_hook(&self) -> bool {
        !matches!(self, Event::Action { .. } | Event::Exec { .. })
    }

    /// The hook's name, with the endpoint as the unit calls it. An action's is its own name; `juju exec` has none.
    pub(crate) fn name(&self, model: &Model, app: &str) -> String {
        let endpoint = |suffix: &str| {
            let end = self.relation().and_then(|id| model.relations.get(&id)).and_then(|r| r.end(app));
            format!("{}-relation-{suffix}", end.map_or("", |end| end.endpoint.as_str()))
        };
        match self {
            Event::Install => "install".to_owned(),
            Event::ConfigChanged => "config-changed".to_owned(),
            Event::Start => "start".to_owned(),
            Event::Stop => "stop".to_owned(),
            Event::Remove => "remove".to_owned(),
            Event::UpgradeCharm => "upgrade-charm".to_owned(),
            Event::LeaderElected => "leader-elected".to_owned(),
            Event::LeaderSettingsChanged => "leader-settings-changed".to_owned(),
            Event::Created { .. } => endpoint("created"),
            Event::Joined { .. } => endpoint("joined"),
            Event::Changed { .. } => endpoint("changed"),
            Event::Departed { .. } => endpoint("departed"),
            Event::Broken { .. } => endpoint("broken"),
            Event::SecretChanged { .. } => "secret-changed".to_owned(),
            Event::SecretRemove { .. } => "secret-remove".to_owned(),
            Event::Other(name) | Event::Action { name, .. } => name.clone(),
            Event::Exec { .. } => "juju-exec".to_owned(),
        }
    }
}

impl Model {
    /// The next hook of a unit by the priorities of Juju's resolver, or none when the unit is idle.
    ///
    /// First a hook that did not finish; then `-relation-created`, leadership, secrets; then what was queued; a dying unit only
    /// leaves; then `install`, `config-changed`, and the relations.
    pub(crate) fn next_event(&self, name: &UnitName) -> Option<Event> {
        let unit = self.units.get(name)?;
        if let Some(pending) = &unit.pending {
            return Some(pending.event.clone());
        }
        if unit.stage >= Stage::Installed && !unit.dying {
            let ahead = self.created(name, unit).or_else(|| self.leadership(name, unit));
            if let Some(event) = ahead.or_else(|| self.secret_event(name, unit)) {
                return Some(event);
            }
        }
        if let Some(event) = unit.queue.front() {
            return Some(event.clone());
        }
        if unit.dying && unit.stage >= Stage::Installed {
            let leaving = self.relation_event(name, unit);
            let last = if unit.stage == Stage::Stopped { Event::Remove } else { Event::Stop };
            return Some(leaving.unwrap_or(last));
        }
        if unit.stage == Stage::Fresh {
            return Some(Event::Install);
        }
        let config = self.apps.get(&name.app)?.effective_config();
        if unit.config_seen.as_ref() != Some(&config) {
            return Some(Event::ConfigChanged);
        }
        self.relation_event(name, unit)
    }

    fn created(&self, name: &UnitName, unit: &Unit) -> Option<Event> {
        self.relations_of(name, unit)
            .find(|(id, relation)| !relation.dying && !unit.views.get(id).is_some_and(|view| view.created))
            .map(|(relation, _)| Event::Created { relation })
    }

    fn leadership(&self, name: &UnitName, unit: &Unit) -> Option<Event> {
        let app = self.apps.get(&name.app)?;
        match (self.is_leader(name), unit.leadership) {
            (true, Some((true, _))) => None,
            (true, _) => Some(Event::LeaderElected),
            (false, Some((_, term))) if term == app.term => None,
            (false, _) => self.version.has_leader_settings().then_some(Event::LeaderSettingsChanged),
        }
    }

    /// `secret-changed` for a secret this unit read whose newest revision it was not told of; then `secret-remove` for a revision
    /// that nobody tracks, to the owner. A secret's first revision is never announced.
    fn secret_event(&self, name: &UnitName, unit: &Unit) -> Option<Event> {
        for (id, secret) in &self.secrets {
            let told = unit.secrets_seen.get(id).copied().unwrap_or(1);
            if secret.consumers.contains_key(name) && secret.latest > told {
                return Some(Event::SecretChanged { id: id.clone() });
            }
        }
        for (id, secret) in &self.secrets {
            let owner = match &secret.owner {
                Entity::App(app) => *app == name.app && self.is_leader(name),
                Entity::Unit(owner) => owner == name,
            };
            if !owner {
                continue;
            }
            for &revision in secret.revisions.keys() {
                let tracked = secret.consumers.values().any(|consumer| consumer.pin == revision);
                if revision < secret.latest && !tracked && !secret.obsolete_announced.contains(&revision) {
                    return Some(Event::SecretRemove { id: id.clone(), revision });
                }
            }
        }
        None
    }

    /// Relations in the order Juju takes them: peers last, unless the agent was restarted and forgot which those are.
    fn relations_of<'a>(
        &'a self,
        name: &'a UnitName,
        unit: &Unit,
    ) -> impl Iterator<Item = (u32, &'a Relation)> + use<'a> {
        let forgot = unit.restarted;
        let mine = move |relation: &Relation| relation.end(&name.app).is_some();
        let first = self.relations.iter().filter(move |(_, r)| mine(r) && (forgot || !r.is_peer()));
        let last = self.relations.iter().filter(move |(_, r)| mine(r) && !forgot && r.is_peer());
        first.chain(last).map(|(id, relation)| (*id, relation))
    }

    fn relation_event(&self, name: &UnitName, unit: &Unit) -> Option<Event> {
        self.relations_of(name, unit).find_map(|(id, relation)| {
            let view = unit.views.get(&id)?;
            if view.broken || !view.created {
                return None;
            }
            self.one_relation_event(name, unit, id, relation, view)
        })
    }

    fn one_relation_event(
        &self,
        name: &UnitName,
        unit: &Unit,
        id: u32,
        relation: &Relation,
        view: &View,
    ) -> Option<Event> {
        if let Some(joined) = &view.joined {
            return Some(Event::Changed { relation: id, unit: Some(joined.clone()) });
        }
        let over = unit.dying || relation.dying;
        let gone = |other: &UnitName| {
            over || !relation.scope.contains(other) || self.units.get(other).is_none_or(|unit| unit.dying)
        };
        if let Some(left) = view.members.keys().find(|member| gone(member)) {
            let alive = !unit.dying && !self.apps.get(&name.app).is_some_and(|app| app.dying);
            let departing = if alive { left.clone() } else { name.clone() };
            return Some(Event::Departed { relation: id, unit: left.clone(), departing });
        }
        if over {
            return (!relation.is_peer() || unit.restarted).then_some(Event::Broken { relation: id });
        }
        let remote = relation.remote(&name.app)?;
        let app_version = relation.apps.get(&remote.app).map_or(0, |settings| settings.version);
        if app_version != view.app_version {
            return Some(Event::Changed { relation: id, unit: None });
        }
        let others =
            relation.scope.iter().filter(|other| other.app == remote.app && *other != name && !gone(other));
        for other in others.clone() {
            if !view.members.contains_key(other) {
                return Some(Event::Joined { relation: id, unit: other.clone() });
            }
        }
        for other in others {
            let version = relation.units.get(other).map_or(0, |settings| settings.version);
            if view.members.get(other) != Some(&version) {
                return Some(Event::Changed { relation: id, unit: Some(other.clone()) });
            }
        }
        None
    }

    /// What the agent does before it runs a hook: enters relations, takes members in and out, forgets cached bags.
    pub(crate) fn before(&mut self, name: &UnitName, event: &Event) {
        let address = self.units.get(name).map(|unit| unit.address.to_string()).unwrap_or_default();
        let Some(unit) = self.units.get_mut(name) else { return };
        match event {
            Event::Install if !unit.status_set => {
                unit.status = Status::new("maintenance", "installing charm software");
            }
            Event::Stop => unit.status = Status::new("maintenance", "stopping charm software"),
            Event::Remove => unit.status = Status::new("maintenance", "cleaning up prior to charm deletion"),
            Event::Created { relation } => {
                unit.views.entry(*relation).or_default();
                if let Some(relation) = self.relations.get_mut(relation)
                    && relation.scope.insert(name.clone())
                {
                    let settings = relation.units.entry(name.clone()).or_default();
                    let mut values = settings.values.clone();
                    values.extend(juju_keys(&address));
                    settings.replace(values);
                }
            }
            Event::Joined { relation, unit: other } => {
                unit.cache.remove(&(*relation, other.clone()));
                let view = unit.views.entry(*relation).or_default();
                view.members.entry(other.clone()).or_insert(0);
            }
            Event::Changed { relation, unit: Some(other) } => {
                unit.cache.remove(&(*relation, other.clone()));
            }
            Event::Departed { relation, unit: other, .. } => {
                unit.cache.remove(&(*relation, other.clone()));
                unit.views.entry(*relation).or_default().members.remove(other);
            }
            _ => {}
        }
    }

    /// The versions a hook was run for, taken before it runs: what is written meanwhile is a new event.
    pub(crate) fn version_for(&self, name: &UnitName, event: &Event) -> u64 {
        let Event::Changed { relation, unit } = event else { return 0 };
        let Some(relation) = self.relations.get(relation) else { return 0 };
        match unit {
            Some(other) => relation.units.get(other).map_or(0, |settings| settings.version),
            None => relation
                .remote(&name.app)
                .and_then(|end| relation.apps.get(&end.app))
                .map_or(0, |settings| settings.version),
        }
    }

    /// What the agent and the controller note once a hook is committed.
    pub(crate) fn after(&mut self, name: &UnitName, event: &Event, version: u64) {
        let leader = self.is_leader(name);
        let Some(app) = self.apps.get(&name.app) else { return };
        let (config, term) = (app.effective_config(), app.term);
        let Some(unit) = self.units.get_mut(name) else { return };
        if unit.queue.front() == Some(event) {
            unit.queue.pop_front();
        }
        match event {
            Event::Install => unit.stage = Stage::Installed,
            Event::ConfigChanged => {
                unit.config_seen = Some(config);
                if unit.stage < Stage::Started && !unit.queue.contains(&Event::Start) {
                    unit.queue.push_back(Event::Start);
                }
                self.refresh_addresses(name);
            }
            Event::Start => {
                unit.stage = Stage::Started;
                // A restarted agent tells a follower about its leader anew.
                if unit.restarted && !leader {
                    unit.leadership = None;
                }
                if !unit.status_set {
                    unit.status = Status::new("unknown", "");
                }
            }
            Event::Stop if unit.dying => {
                unit.stage = Stage::Stopped;
                unit.status = Status::new("maintenance", "");
            }
            Event::Remove => self.forget_unit(name),
            Event::LeaderElected | Event::LeaderSettingsChanged => unit.leadership = Some((leader, term)),
            Event::Created { relation } => unit.views.entry(*relation).or_default().created = true,
            Event::Joined { relation, unit: other } => {
                unit.views.entry(*relation).or_default().joined = Some(other.clone());
            }
            Event::Changed { relation, unit: other } => {
                let view = unit.views.entry(*relation).or_default();
                match other {
                    Some(other) => {
                        view.joined = None;
                        if let Some(seen) = view.members.get_mut(other) {
                            *seen = version;
                        }
                    }
                    None => view.app_version = version,
                }
            }
            Event::Broken { relation } => {
                unit.views.entry(*relation).or_default().broken = true;
                self.leave(*relation, name);
            }
            Event::SecretChanged { id } => {
                let latest = self.secrets.get(id).map_or(0, |secret| secret.latest);
                unit.secrets_seen.insert(id.clone(), latest);
            }
            Event::SecretRemove { id, revision } => {
                if let Some(secret) = self.secrets.get_mut(id) {
                    secret.obsolete_announced.insert(*revision);
                }
            }
            _ => {}
        }
    }

    /// A commit of `config-changed` writes Juju's own keys anew in every bag of the unit.
    fn refresh_addresses(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get(name) else { return };
        let address = unit.address.to_string();
        for relation in self.relations.values_mut().filter(|relation| relation.scope.contains(name)) {
            if let Some(settings) = relation.units.get_mut(name) {
                let mut values = settings.values.clone();
                values.extend(juju_keys(&address));
                settings.replace(values);
            }
        }
    }

    /// A unit leaves a relation; the last one to leave a dying relation removes it, and the grants that live with it.
    pub(crate) fn leave(&mut self, id: u32, name: &UnitName) {
        let Some(relation) = self.relations.get_mut(&id) else { return };
        relation.scope.remove(name);
        self.reap_relation(id);
    }

    /// Removes a dying relation that nobody is in any more.
    pub(crate) fn reap_relation(&mut self, id: u32) {
        if !self.relations.get(&id).is_some_and(|relation| relation.dying && relation.scope.is_empty()) {
            return;
        }
        let Some(relation) = self.relations.remove(&id) else { return };
        for settings in relation.apps.values().chain(relation.units.values()) {
            self.remember(&settings.values);
        }
        for secret in self.secrets.values_mut() {
            secret.grants.retain(|_, scope| *scope != id);
        }
        for unit in self.units.values_mut() {
            unit.views.remove(&id);
            unit.cache.retain(|(relation, _), _| *relation != id);
        }
    }

    /// A unit is dead: its pod, its bags' membership, its secrets and its leadership go; the last one takes a dying application along.
    fn forget_unit(&mut self, name: &UnitName) {
        let ids: Vec<u32> = self.relations.keys().copied().collect();
        for id in ids {
            self.leave(id, name);
        }
        self.drop_secrets(&Entity::Unit(name.clone()));
        for secret in self.secrets.values_mut() {
            secret.consumers.remove(name);
            secret.grants.remove(&name.to_string());
        }
        if let Some(unit) = self.units.remove(name) {
            self.supervisor.remove(&unit.root);
            let _ = std::fs::remove_dir_all(&unit.root);
        }
        let next = self.units.keys().find(|unit| unit.app == name.app).cloned();
        let Some(app) = self.apps.get_mut(&name.app) else { return };
        if app.leader.as_ref() == Some(name) {
            app.leader.clone_from(&next);
            app.term += 1;
        }
        if app.dying && next.is_none() {
            self.apps.remove(&name.app);
            self.drop_secrets(&Entity::App(name.app.clone()));
            let gone = |relation: &Relation| relation.is_peer() && relation.end(&name.app).is_some();
            let peers: Vec<u32> = self.relations.iter().filter(|(_, r)| gone(r)).map(|(id, _)| *id).collect();
            for id in peers {
                self.relations.remove(&id);
            }
        }
    }

    fn drop_secrets(&mut self, owner: &Entity) {
        let gone: Vec<String> = self
            .secrets
            .iter()
            .filter(|(_, secret)| secret.owner == *owner)
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            if let Some(secret) = self.secrets.remove(&id) {
                for content in secret.revisions.values() {
                    self.remember(content);
                }
            }
        }
    }
}

/// The keys Juju itself keeps in every unit bag (`private-address` up to 3.6).
pub(crate) fn juju_keys(address: &str) -> [(String, String); 3] {
    [
        ("egress-subnets".to_owned(), format!("{address}/32")),
        ("ingress-address".to_owned(), address.to_owned()),
        ("private-address".to_owned(), address.to_owned()),
    ]
}

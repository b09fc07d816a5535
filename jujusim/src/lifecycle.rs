//! What the unit agent and the controller record before and after a hook.

use jiff::SignedDuration;

use crate::events::Event;
use crate::model::{Bag, Entity, Model, Stage, Status, Unit, UnitName};
use crate::version::Version;

/// How long until an expiry or rotation is announced again if the charm did not act on it
/// (core/secrets).
const SECRET_RETRY: SignedDuration = SignedDuration::from_mins(5);

impl Model {
    /// What the agent does before a hook: enters relations, updates relation members, drops cached
    /// databags.
    pub(crate) fn before(&mut self, name: &UnitName, event: &Event) {
        let Some(unit) = self.units.get_mut(name) else { return };
        match event {
            Event::Install if !unit.status_set => {
                unit.status = Status::new("maintenance", "installing charm software");
            }
            Event::Stop => unit.status = Status::new("maintenance", "stopping charm software"),
            Event::Remove => {
                unit.status = Status::new("maintenance", "cleaning up prior to charm deletion");
            }
            Event::Created { .. } => self.enter_relations(name),
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

    /// Enters every living relation of the unit, as the agent does before `-relation-created`
    /// (uniter/relation/resolver.go, `SynchronizeScopes`).
    fn enter_relations(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let address = unit.address.to_string();
        for (id, relation) in &mut self.relations {
            if relation.is_over() || relation.end(&name.app).is_none() {
                continue;
            }
            unit.views.entry(*id).or_default();
            if relation.scope.insert(name.clone()) {
                let settings = relation.units.entry(name.clone()).or_default();
                let mut values = settings.values.clone();
                values.extend(juju_keys(self.version, &address));
                settings.replace(values);
            }
        }
    }

    /// The version of the data that a hook is run for, taken before the hook runs: later writes
    /// cause a new event.
    pub(crate) fn version_for(&self, name: &UnitName, event: &Event) -> u64 {
        if let Event::SecretRotate { id } | Event::SecretChanged { id } = event {
            return self.secrets.get(id).map_or(0, |secret| secret.latest.into());
        }
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

    /// What the agent and the controller record after a hook is committed.
    pub(crate) fn after(&mut self, name: &UnitName, event: &Event, version: u64) {
        let leader = self.is_leader(name);
        let Some(app) = self.apps.get(&name.app) else { return };
        let (config, term) = (app.effective_config(), app.term);
        let twice = self.version.announces_config_twice();
        let Some(unit) = self.units.get_mut(name) else { return };
        for queue in [&mut unit.queue, &mut unit.workload] {
            if queue.front() == Some(event) {
                queue.pop_front();
            }
        }
        match event {
            Event::Install => unit.stage = Stage::Installed,
            Event::ConfigChanged => {
                let has_changed = unit.config_seen.as_ref().is_some_and(|seen| *seen != config);
                unit.config_runs = u8::from(has_changed && twice);
                unit.config_seen = Some(config);
                if unit.stage < Stage::Started && !unit.queue.contains(&Event::Start) {
                    unit.queue.push_back(Event::Start);
                }
                self.refresh_addresses(name);
            }
            Event::Start => {
                unit.stage = Stage::Started;
                // A restarted agent runs `leader-settings-changed` on a follower again.
                if unit.restarted && !leader {
                    unit.leadership = None;
                }
                if !unit.status_set {
                    unit.status = Status::new("unknown", "");
                }
                if unit.update_status_due.is_none() {
                    self.schedule_update_status(name);
                }
            }
            Event::Stop if unit.dying => {
                unit.stage = Stage::Stopped;
                unit.status = Status::new("maintenance", "");
            }
            Event::Remove => self.forget_unit(name),
            Event::LeaderElected | Event::LeaderSettingsChanged => {
                unit.leadership = Some((leader, term));
            }
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
                unit.secrets_seen.insert(id.clone(), u32::try_from(version).unwrap_or(u32::MAX));
            }
            Event::SecretRotate { id } => {
                let now = self.now;
                if let Some(secret) = self.secrets.get_mut(id) {
                    secret.next_rotate = if u64::from(secret.latest) == version {
                        Some(now + SECRET_RETRY)
                    } else {
                        secret.rotate.after(now)
                    };
                }
            }
            Event::SecretExpired { id, .. } => {
                let now = self.now;
                if let Some(secret) =
                    self.secrets.get_mut(id).filter(|secret| secret.expire <= Some(now))
                {
                    secret.expire = Some(now + SECRET_RETRY);
                }
            }
            Event::UpdateStatus => self.schedule_update_status(name),
            Event::Workload(hook) => {
                // With a real container the boot id is recorded instead.
                let ready = hook.strip_suffix("-pebble-ready").filter(|_| unit.pod.is_none());
                unit.containers.extend(ready.map(str::to_owned));
            }
            Event::SecretRemove { id, revision } => {
                if let Some(secret) = self.secrets.get_mut(id) {
                    secret.obsolete_announced.insert(*revision);
                }
            }
            _ => {}
        }
    }

    /// Rewrites Juju's own keys in every databag of the unit, as the commit of `config-changed`
    /// does.
    fn refresh_addresses(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get(name) else { return };
        let (version, address) = (self.version, unit.address.to_string());
        for relation in self.relations.values_mut().filter(|relation| relation.scope.contains(name))
        {
            if let Some(settings) = relation.units.get_mut(name) {
                let mut values = settings.values.clone();
                values.extend(juju_keys(version, &address));
                settings.replace(values);
            }
        }
    }

    /// Removes a unit from a relation. The last unit to leave a dying relation removes the relation
    /// and its grants.
    pub(crate) fn leave(&mut self, id: u32, name: &UnitName) {
        let Some(relation) = self.relations.get_mut(&id) else { return };
        relation.scope.remove(name);
        self.reap_relation(id);
    }

    /// Removes units that entered a relation but did not run its `-created`, without a hook.
    pub(crate) fn leave_uncreated(&mut self, id: u32) {
        let unborn = |unit: &Unit| unit.views.get(&id).is_some_and(|view| !view.created);
        let names: Vec<UnitName> = self
            .units
            .iter()
            .filter(|(_, unit)| unborn(unit))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            if let Some(unit) = self.units.get_mut(&name) {
                unit.views.remove(&id);
            }
            self.leave(id, &name);
        }
    }

    /// Removes a dying relation that has no units left.
    pub(crate) fn reap_relation(&mut self, id: u32) {
        if !self
            .relations
            .get(&id)
            .is_some_and(|relation| relation.dying && relation.scope.is_empty())
        {
            return;
        }
        let Some(relation) = self.relations.remove(&id) else { return };
        for settings in relation.apps.values().chain(relation.units.values()) {
            self.record_passwords(&settings.values);
        }
        for secret in self.secrets.values_mut() {
            secret.grants.retain(|_, scope| *scope != Some(id));
        }
        for unit in self.units.values_mut() {
            // Skip a hook of a relation that no longer exists.
            unit.pending.take_if(|pending| pending.event.relation() == Some(id));
            unit.views.remove(&id);
            unit.cache.retain(|(relation, _), _| *relation != id);
        }
    }

    /// Removes a dead unit: its pod, its membership in relations, its secrets and its leadership.
    /// The last unit also removes a dying application.
    pub(crate) fn forget_unit(&mut self, name: &UnitName) {
        let ids: Vec<u32> = self.relations.keys().copied().collect();
        for id in ids {
            self.leave(id, name);
        }
        self.drop_secrets(&Entity::Unit(name.clone()));
        for secret in self.secrets.values_mut() {
            secret.consumers.remove(name);
            secret.grants.remove(&name.to_string());
        }
        if let Some(mut unit) = self.units.remove(name) {
            if let Some(mut pod) = unit.pod.take() {
                pod.end();
            }
            self.supervisor.remove(&unit.root);
            self.network.release(unit.address);
            let _ = std::fs::remove_dir_all(&unit.root);
        }
        if self.is_leader(name) {
            self.lease(&name.app, None);
        }
        self.shrink_cluster(name);
        self.reap_application(&name.app);
    }

    /// Removes the unit's server, except the last one: the data outlives the unit.
    fn shrink_cluster(&mut self, name: &UnitName) {
        if self.units_of(&name.app).is_empty() {
            return;
        }
        let cluster = self.apps.get(&name.app).and_then(|app| app.kind.cluster());
        // If no standby can take over from a primary, its data is lost.
        if let Some(Ok(Some(address))) = cluster.map(|mut cluster| cluster.remove(name.number)) {
            self.network.release(address);
            self.wake_leader(&name.app);
        }
    }

    /// Removes a dying application without units, with its secrets and peer relations.
    pub(crate) fn reap_application(&mut self, app: &str) {
        let deserted = !self.units.keys().any(|unit| unit.app == app);
        if deserted && self.apps.get(app).is_some_and(|app| app.dying) {
            self.apps.remove(app);
            self.drop_secrets(&Entity::App(app.to_owned()));
            self.relations.retain(|_, relation| !relation.is_peer() || relation.end(app).is_none());
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
                    self.record_passwords(content);
                }
            }
        }
    }
}

/// The keys that Juju itself writes to every unit's databag.
pub(crate) fn juju_keys(version: Version, address: &str) -> Bag {
    let mut keys = Bag::from([
        ("egress-subnets".to_owned(), format!("{address}/32")),
        ("ingress-address".to_owned(), address.to_owned()),
    ]);
    if version.writes_private_address() {
        keys.insert("private-address".to_owned(), address.to_owned());
    }
    keys
}

//! Which hook a unit runs next: the order of Juju's unit agent (uniter/resolver.go).

use jiff::Timestamp;

use crate::events::Event;
use crate::model::{Entity, Held, Model, Relation, Secret, Stage, Unit, UnitName, View};

impl Model {
    /// The next hook of a unit; `None` when the unit is idle or runs a hook.
    ///
    /// The order: first a hook that did not complete; then `-relation-created`, leadership,
    /// workload, secrets; then queued events. A dying unit then only leaves; any other runs
    /// `install`, `config-changed`, relation hooks, and last `update-status`.
    pub(crate) fn next_event(&self, name: &UnitName) -> Option<Event> {
        let free = |unit: &&Unit| {
            !unit.is_busy() && unit.held != Held::Everything && !unit.commits(self.now)
        };
        let unit = self.units.get(name).filter(free)?;
        if let Some(pending) = &unit.pending {
            return (pending.due <= self.now).then(|| pending.event.clone());
        }
        let installed = unit.stage >= Stage::Installed;
        let stays = installed && !unit.dying;
        let created = || self.created(name, unit).filter(|_| stays);
        let leadership = || self.leadership(name, unit).filter(|_| stays);
        let workload = || unit.workload.front().filter(|_| installed).cloned();
        let secret = || self.secret_event(name, unit).filter(|_| stays);
        let ahead = created().or_else(leadership).or_else(workload).or_else(secret);
        if let Some(event) = ahead.or_else(|| unit.queue.front().cloned()) {
            return Some(event);
        }
        if unit.dying && installed {
            let last = if unit.stage == Stage::Stopped { Event::Remove } else { Event::Stop };
            return Some(self.relation_event(name, unit).unwrap_or(last));
        }
        if !installed {
            return Some(Event::Install);
        }
        let config = self.apps.get(&name.app)?.effective_config();
        if unit.config_runs > 0 || unit.config_seen.as_ref() != Some(&config) {
            return Some(Event::ConfigChanged);
        }
        let status =
            || unit.update_status_due.filter(|due| *due <= self.now).map(|_| Event::UpdateStatus);
        self.relation_event(name, unit).or_else(status)
    }

    fn created(&self, name: &UnitName, unit: &Unit) -> Option<Event> {
        let born = |id: &u32| !unit.views.get(id).is_some_and(|view| view.created);
        let mine = self.relations.iter().filter(|(_, relation)| relation.end(&name.app).is_some());
        let new = mine.filter(|(id, relation)| !relation.is_over() && born(id)).map(|(id, _)| *id);
        // Relations with other applications first, as the agent lists its relations; in Juju the
        // order is that of a Go map.
        let mut new: Vec<u32> = new.collect();
        new.sort_by_key(|id| self.relations.get(id).is_some_and(Relation::is_peer));
        self.pick((name.to_string(), "created"), new).map(|relation| Event::Created { relation })
    }

    fn leadership(&self, name: &UnitName, unit: &Unit) -> Option<Event> {
        let app = self.apps.get(&name.app)?;
        match (self.is_leader(name), unit.leadership) {
            (true, Some((true, _))) => None,
            (true, _) => Some(Event::LeaderElected),
            (false, Some((_, term))) if term == app.term => None,
            // Without a leader there is nothing to announce.
            (false, Some(_)) if app.leader.is_none() => None,
            (false, _) => {
                self.version.has_leader_settings().then_some(Event::LeaderSettingsChanged)
            }
        }
    }

    /// Secret hooks in this order: expired, due for rotation, changed, obsolete
    /// (uniter/secrets/resolver.go). The order of several secrets is arbitrary.
    fn secret_event(&self, name: &UnitName, unit: &Unit) -> Option<Event> {
        let owned = |secret: &Secret| match &secret.owner {
            Entity::App(app) => *app == name.app && self.is_leader(name),
            Entity::Unit(owner) => owner == name,
            Entity::Model => false,
        };
        let due = |time: Option<Timestamp>| time.is_some_and(|time| time <= self.now);
        let expired = |(id, secret): (&String, &Secret)| {
            let event = Event::SecretExpired { id: id.clone(), revision: secret.latest };
            (owned(secret) && due(secret.expire) && !self.loses_expiry).then_some(event)
        };
        let rotate = |(id, secret): (&String, &Secret)| {
            (owned(secret) && due(secret.next_rotate))
                .then(|| Event::SecretRotate { id: id.clone() })
        };
        let changed = |(id, secret): (&String, &Secret)| {
            // The first revision of a secret is never announced.
            let told = unit.secrets_seen.get(id).copied().unwrap_or(1);
            let consumer = secret.consumers.get(name)?;
            let stale = secret.latest > told
                && (!self.version.announces_by_pin() || consumer.pin < secret.latest);
            stale.then(|| Event::SecretChanged { id: id.clone() })
        };
        let obsolete = |(id, secret): (&String, &Secret)| {
            let tracked =
                |revision| secret.consumers.values().any(|consumer| consumer.pin == revision);
            let obsolete = |revision: &&u32| {
                **revision < secret.latest
                    && !tracked(**revision)
                    && !secret.obsolete_announced.contains(revision)
            };
            let revision = *secret.revisions.keys().find(obsolete).filter(|_| owned(secret))?;
            Some(Event::SecretRemove { id: id.clone(), revision })
        };
        let question = (name.to_string(), "secret");
        let secrets = || self.secrets.iter();
        self.pick(&question, secrets().filter_map(expired))
            .or_else(|| self.pick(&question, secrets().filter_map(rotate)))
            .or_else(|| self.pick(&question, secrets().filter_map(changed)))
            .or_else(|| self.pick(&question, secrets().filter_map(obsolete)))
    }

    /// Relations with other applications before peer relations, unless the agent restarted and no
    /// longer knows which are peer relations. The order within each group is that of a Go map
    /// (uniter/relation/resolver.go).
    fn relation_event(&self, name: &UnitName, unit: &Unit) -> Option<Event> {
        let event = |(id, relation): (&u32, &Relation)| {
            let view = unit.views.get(id).filter(|view| view.created && !view.broken)?;
            self.one_relation_event(name, unit, *id, relation, view)
        };
        let of = |peer: bool| {
            let same = move |(_, relation): &(&u32, &Relation)| {
                unit.restarted || relation.is_peer() == peer
            };
            let mine =
                self.relations.iter().filter(|(_, relation)| relation.end(&name.app).is_some());
            self.pick((name.to_string(), "relation"), mine.filter(same).filter_map(event))
        };
        of(false).or_else(|| of(true))
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
        let over = unit.dying || relation.is_over();
        let gone = |other: &UnitName| {
            over || !relation.scope.contains(other)
                || self.units.get(other).is_none_or(|unit| unit.dying)
        };
        if let Some(left) = view.members.keys().find(|member| gone(member)) {
            let alive = !unit.dying && !self.apps.get(&name.app).is_some_and(|app| app.dying);
            let departing = if alive { left.clone() } else { name.clone() };
            return Some(Event::Departed { relation: id, unit: left.clone(), departing });
        }
        if over {
            return (!relation.is_peer() || unit.restarted)
                .then_some(Event::Broken { relation: id });
        }
        if matches!(&unit.held, Held::Relations(held) if held.contains(&id)) {
            return None;
        }
        let remote = relation.remote(&name.app)?;
        let app_version = relation.apps.get(&remote.app).map_or(0, |settings| settings.version);
        if app_version != view.app_version {
            return Some(Event::Changed { relation: id, unit: None });
        }
        let others = relation
            .scope
            .iter()
            .filter(|other| other.app == remote.app && *other != name && !gone(other));
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
}

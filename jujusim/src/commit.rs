//! The end of a hook that exited with 0: secrets one by one, then everything else together.

use std::collections::BTreeSet;

use crate::model::{Bag, Consumer, Entity, Model, UnitName};
use crate::tools::secrets::label_taken;
use crate::tools::{Context, PendingSecrets, SecretUpdate};

/// Where an injected refusal strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Before anything is applied.
    Whole,
    /// After the secrets, before databags, ports and state.
    Torn,
}

type Result = std::result::Result<(), String>;

impl Model {
    /// Applies what the hook buffered, in the order of Juju 3.6: secret creates, updates, tracking, grants, revokes, deletes,
    /// each on its own; then databags, ports and state in one transaction. An error leaves what came before it.
    pub(crate) fn commit(&mut self, context: &mut Context, refused: Option<Refused>) -> Result {
        let refusal = || Err("cannot apply hook changes: refused by a fault".to_owned());
        if refused == Some(Refused::Whole) {
            return refusal();
        }
        let unit = context.unit.clone();
        self.commit_secrets(&unit, std::mem::take(&mut context.buffer.secrets))?;
        if refused == Some(Refused::Torn) {
            return refusal();
        }
        let buffer = std::mem::take(&mut context.buffer);
        if !buffer.app_bags.is_empty() && !self.is_leader(&unit) {
            return Err("cannot write relation settings: not the leader".to_owned());
        }
        if buffer.app_bags.keys().chain(buffer.unit_bags.keys()).any(|id| !self.relations.contains_key(id)) {
            return Err("permission denied".to_owned());
        }
        if buffer.state.as_ref().is_some_and(|state| size(state) > 2 << 20) {
            return Err("max allowed charm state size (2097152) exceeded".to_owned());
        }
        for (id, bag) in buffer.app_bags {
            self.write(id, &Entity::App(unit.app.clone()), bag);
        }
        for (id, bag) in buffer.unit_bags {
            self.write(id, &Entity::Unit(unit.clone()), bag);
        }
        if let Some(unit) = self.units.get_mut(&unit) {
            unit.state = buffer.state.unwrap_or(std::mem::take(&mut unit.state));
            unit.ports = buffer.ports.unwrap_or(std::mem::take(&mut unit.ports));
        }
        Ok(())
    }

    /// Replaces a bag; others get their event from its new version.
    pub(crate) fn write(&mut self, id: u32, entity: &Entity, bag: Bag) {
        let Some(relation) = self.relations.get_mut(&id) else { return };
        let settings = match entity {
            Entity::App(app) => relation.apps.entry(app.clone()).or_default(),
            Entity::Unit(unit) => relation.units.entry(unit.clone()).or_default(),
            Entity::Model => return,
        };
        let before = settings.values.clone();
        settings.replace(bag);
        self.remember(&before);
    }

    fn commit_secrets(&mut self, unit: &UnitName, pending: PendingSecrets) -> Result {
        for (id, secret) in pending.creates {
            let fail = |text: String| Err(format!("creating secrets: {text}"));
            if !self.may_manage(unit, &secret.owner) {
                return fail("permission denied".to_owned());
            }
            if !secret.label.is_empty() && label_taken(self, &id, &secret.owner, &secret.label) {
                return fail(format!("secret with label {:?} already exists", secret.label));
            }
            self.secrets.insert(id, secret);
        }
        for (id, update) in pending.updates {
            self.update_secret(unit, &id, update).map_err(|text| format!("updating secrets: {text}"))?;
        }
        for id in pending.tracking {
            if let Some(secret) = self.secrets.get_mut(&id) {
                let latest = secret.latest;
                let consumer =
                    secret.consumers.entry(unit.clone()).or_insert(Consumer { pin: latest, label: None });
                consumer.pin = latest;
            }
        }
        for (id, target, relation) in pending.grants {
            self.grant(unit, &id, &target, relation)
                .map_err(|text| format!("granting secrets access: {text}"))?;
        }
        for (id, target) in pending.revokes {
            if let Some(secret) = self.secrets.get_mut(&id) {
                secret.grants.remove(&target);
            }
        }
        for (id, revisions) in pending.removes {
            self.remove_secret(unit, &id, revisions).map_err(|text| format!("removing secrets: {text}"))?;
        }
        Ok(())
    }

    fn may_manage(&self, unit: &UnitName, owner: &Entity) -> bool {
        match owner {
            Entity::App(app) => *app == unit.app && self.is_leader(unit),
            Entity::Unit(owner) => owner == unit,
            Entity::Model => false,
        }
    }

    /// Equal content makes no new revision (3.6).
    fn update_secret(&mut self, unit: &UnitName, id: &str, update: SecretUpdate) -> Result {
        let Some(secret) = self.secrets.get(id) else { return Err(format!("secret {id:?} not found")) };
        if !self.may_manage(unit, &secret.owner) {
            return Err("permission denied".to_owned());
        }
        if let Some(label) = update.label.as_ref().filter(|label| **label != secret.label)
            && label_taken(self, id, &secret.owner, label)
        {
            return Err(format!("secret with label {label:?} already exists"));
        }
        let Some(secret) = self.secrets.get_mut(id) else { return Ok(()) };
        if let Some(label) = update.label {
            secret.label = label;
        }
        secret.description = update.description.or(secret.description.take());
        if let Some(rotate) = update.rotate {
            secret.rotate = rotate;
        }
        if let Some(content) = update.content.filter(|content| content != secret.content()) {
            secret.latest += 1;
            secret.revisions.insert(secret.latest, content);
        }
        Ok(())
    }

    fn grant(&mut self, unit: &UnitName, id: &str, target: &str, relation: u32) -> Result {
        if self.relations.get(&relation).is_none_or(|relation| relation.dying) {
            let key = self.relations.get(&relation).map(crate::model::Relation::key).unwrap_or_default();
            return Err(format!("cannot grant access to secret in scope of {key:?} which is not alive"));
        }
        let Some(owner) = self.secrets.get(id).map(|secret| secret.owner.clone()) else {
            return Err(format!("secret {id:?} not found"));
        };
        if !self.may_manage(unit, &owner) {
            return Err("permission denied".to_owned());
        }
        let Some(secret) = self.secrets.get_mut(id) else { return Ok(()) };
        if secret.grants.get(target).is_some_and(|scope| *scope != relation) {
            return Err("cannot change secret permission scope".to_owned());
        }
        let unit_grant = |name: &String| name.parse::<UnitName>().is_ok_and(|unit| unit.app == target);
        if secret.grants.keys().any(unit_grant) {
            return Err(
                "cannot grant access to the application: unit level grants must be revoked first".to_owned()
            );
        }
        secret.grants.insert(target.to_owned(), relation);
        Ok(())
    }

    /// Removing what is gone already is no error (3.6.11). The last revision takes the secret along.
    fn remove_secret(&mut self, unit: &UnitName, id: &str, revisions: Option<BTreeSet<u32>>) -> Result {
        let Some(secret) = self.secrets.get(id) else { return Ok(()) };
        if !self.may_manage(unit, &secret.owner) {
            return Err("permission denied".to_owned());
        }
        for content in secret.revisions.values().cloned().collect::<Vec<_>>() {
            self.remember(&content);
        }
        let Some(secret) = self.secrets.get_mut(id) else { return Ok(()) };
        match revisions {
            Some(revisions) => secret.revisions.retain(|revision, _| !revisions.contains(revision)),
            None => secret.revisions.clear(),
        }
        if secret.revisions.is_empty() {
            self.secrets.remove(id);
        }
        Ok(())
    }
}

fn size(bag: &Bag) -> usize {
    bag.iter().map(|(key, value)| key.len() + value.len()).sum()
}

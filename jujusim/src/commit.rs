//! The end of a hook that exited with 0: applies its buffered effects in the order of the modelled
//! Juju.

use std::collections::BTreeSet;

use crate::model::{Bag, Entity, Model, Relation, Secret, UnitName};
use crate::secret::SecretUpdate;
use crate::tools::secrets::{check_manager, label_taken};
use crate::tools::{Buffer, Context, PendingSecrets};
use crate::version::SecretsFirst;

/// Where an injected commit failure occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Before anything is applied.
    Whole,
    /// After the secrets, before databags, ports and state.
    Torn,
}

/// Limit for the whole state of a unit (controller/config.go, `max-charm-state-size`).
const MAX_STATE: usize = 2 << 20;
/// Limit for one databag: the size of a document up to 3.6, `MaxRelationSettingsSize` since then.
const MAX_SETTINGS: usize = 16 << 20;

type Result = std::result::Result<(), String>;

impl Model {
    /// Applies the hook's buffered effects: secrets one by one, then databags, ports and state in
    /// one transaction. Since 4.0.12 some secret changes are part of that transaction, since 4.0.14
    /// all of them. An error keeps what was applied before the transaction.
    pub(crate) fn commit(&mut self, context: &mut Context, refused: Option<Refused>) -> Result {
        if refused == Some(Refused::Whole) {
            return refusal();
        }
        let unit = context.unit.clone();
        let mut buffer = std::mem::take(&mut context.buffer);
        let first = buffer.secrets.split_first(self.version.secrets_first());
        self.commit_secrets(&unit, first)?;
        let before = self.secrets.clone();
        let result = self.transact(&unit, buffer, refused == Some(Refused::Torn));
        if result.is_err() {
            self.secrets = before;
        }
        result
    }

    /// Whether the hook changed a secret of the application without holding the lease.
    pub(crate) fn lacks_lease(&self, context: &Context) -> bool {
        let own = Entity::App(context.unit.app.clone());
        let pending = &context.buffer.secrets;
        let is_own = |id: &String| self.secrets.get(id).is_some_and(|secret| secret.owner == own);
        !self.is_leader(&context.unit)
            && (pending.updates.keys().chain(pending.removes.keys()).any(is_own)
                || pending.creates.iter().any(|(_, secret)| secret.owner == own))
    }

    /// Runs the transaction: checks everything before it writes anything except secrets, which the
    /// caller can restore.
    fn transact(&mut self, unit: &UnitName, mut buffer: Buffer, refused: bool) -> Result {
        self.check_settings(unit, &buffer)?;
        if buffer.state.as_ref().is_some_and(|state| size(state) > MAX_STATE) {
            return Err(format!("max allowed charm state size ({MAX_STATE}) exceeded"));
        }
        self.commit_secrets(unit, std::mem::take(&mut buffer.secrets))?;
        if refused {
            return refusal();
        }
        for (id, bag) in buffer.app_bags {
            self.write(id, &Entity::App(unit.app.clone()), bag);
        }
        for (id, bag) in buffer.unit_bags {
            self.write(id, &Entity::Unit(unit.clone()), bag);
        }
        if let Some(unit) = self.units.get_mut(unit) {
            unit.state = buffer.state.unwrap_or(std::mem::take(&mut unit.state));
            unit.ports = buffer.ports.unwrap_or(std::mem::take(&mut unit.ports));
        }
        Ok(())
    }

    fn check_settings(&self, unit: &UnitName, buffer: &Buffer) -> Result {
        if !buffer.app_bags.is_empty() && !self.is_leader(unit) {
            return Err("cannot write relation settings: not the leader".to_owned());
        }
        let gone = |id: &u32| self.relations.get(id).is_none_or(|relation| relation.forgotten);
        if buffer.app_bags.keys().chain(buffer.unit_bags.keys()).any(gone) {
            return Err(self.version.missing_relation_error().to_owned());
        }
        if buffer
            .app_bags
            .values()
            .chain(buffer.unit_bags.values())
            .any(|bag| size(bag) > MAX_SETTINGS)
        {
            return Err(format!("max allowed relation settings size ({MAX_SETTINGS}) exceeded"));
        }
        Ok(())
    }

    /// Replaces a databag; its new version causes the events of other units.
    pub(crate) fn write(&mut self, id: u32, entity: &Entity, bag: Bag) {
        let Some(relation) = self.relations.get_mut(&id) else { return };
        let settings = match entity {
            Entity::Model => return,
            Entity::App(app) => relation.apps.entry(app.clone()).or_default(),
            Entity::Unit(unit) => relation.units.entry(unit.clone()).or_default(),
        };
        let before = settings.values.clone();
        settings.replace(bag);
        self.record_passwords(&before);
    }

    /// Applies secret changes in Juju's order: creates, updates, tracking, grants, revokes,
    /// deletes. Newer releases apply tracking last.
    fn commit_secrets(&mut self, unit: &UnitName, pending: PendingSecrets) -> Result {
        for (id, secret) in pending.creates {
            self.create_secret(unit, id, secret)
                .map_err(|text| self.prefixed("creating", "create", &text))?;
        }
        for (id, update) in pending.updates {
            self.update_secret(unit, &id, update)
                .map_err(|text| self.prefixed("updating", "update", &text))?;
        }
        if !self.version.tracks_last() {
            self.track_latest(unit, &pending.tracking);
        }
        for (id, target, relation) in pending.grants {
            self.grant(unit, &id, &target, relation)
                .map_err(|text| format!("granting secrets access: {text}"))?;
        }
        for (id, target) in pending.revokes {
            self.revoke(unit, &id, &target)
                .map_err(|text| format!("revoking secrets access: {text}"))?;
        }
        for (id, revisions) in pending.removes {
            self.remove_secret(unit, &id, revisions)
                .map_err(|text| self.prefixed("removing", "remove", &text))?;
        }
        if self.version.tracks_last() {
            self.track_latest(unit, &pending.tracking);
        }
        Ok(())
    }

    /// Prefixes an error with what was tried, in the words of this release.
    fn prefixed(&self, older: &str, newer: &str, text: &str) -> String {
        let doing = if self.version.secrets_first() == SecretsFirst::All { older } else { newer };
        format!("{doing} secrets: {text}")
    }

    fn create_secret(&mut self, unit: &UnitName, id: String, secret: Secret) -> Result {
        check_manager(self, unit, &secret.owner)?;
        if !secret.label.is_empty() && label_taken(self, &id, &secret.owner, &secret.label) {
            return Err(format!("secret with label {:?} already exists", secret.label));
        }
        self.secrets.insert(id, secret);
        Ok(())
    }

    fn update_secret(&mut self, unit: &UnitName, id: &str, update: SecretUpdate) -> Result {
        let secret = self.managed_secret(unit, id)?;
        if let Some(label) = update.label.as_ref().filter(|label| **label != secret.label)
            && label_taken(self, id, &secret.owner, label)
        {
            return Err(format!("secret with label {label:?} already exists"));
        }
        let now = self.now;
        if let Some(secret) = self.secrets.get_mut(id) {
            secret.describe(&update, now);
            if let Some(content) = update.content {
                secret.revise(content);
            }
        }
        Ok(())
    }

    /// Moves the owner's pin: an owner that read its own pending revision with `--refresh` tracks
    /// that revision from now on.
    fn track_latest(&mut self, unit: &UnitName, ids: &BTreeSet<String>) {
        for id in ids {
            if let Some(secret) = self.secrets.get_mut(id) {
                secret.consumer(unit).pin = secret.latest;
            }
        }
    }

    fn managed_secret(&self, unit: &UnitName, id: &str) -> std::result::Result<&Secret, String> {
        let secret = self.secrets.get(id).ok_or_else(|| format!("secret {id:?} not found"))?;
        check_manager(self, unit, &secret.owner)?;
        Ok(secret)
    }

    fn grant(&mut self, unit: &UnitName, id: &str, target: &str, relation: u32) -> Result {
        let scope = self.relations.get(&relation);
        let gone = scope.is_none_or(|relation| relation.forgotten);
        if gone && self.version.skips_grants_of_removed_relations() {
            return Ok(());
        }
        if gone || scope.is_some_and(|relation| relation.dying) {
            let key = scope.map(Relation::key).unwrap_or_default();
            return Err(format!(
                "cannot grant access to secret in scope of {key:?} which is not alive"
            ));
        }
        let secret = self.managed_secret(unit, id)?;
        if secret.grants.get(target).is_some_and(|scope| *scope != Some(relation)) {
            return Err(self.version.changed_scope_error().to_owned());
        }
        if let Some(secret) = self.secrets.get_mut(id) {
            secret.grants.insert(target.to_owned(), Some(relation));
        }
        Ok(())
    }

    /// Revokes a grant; revoking a grant that does not exist succeeds.
    fn revoke(&mut self, unit: &UnitName, id: &str, target: &str) -> Result {
        self.managed_secret(unit, id)?;
        if let Some(secret) = self.secrets.get_mut(id) {
            secret.grants.remove(target);
        }
        Ok(())
    }

    /// Removes revisions; removing the last revision removes the secret.
    fn remove_secret(
        &mut self,
        unit: &UnitName,
        id: &str,
        revisions: Option<BTreeSet<u32>>,
    ) -> Result {
        let strict = self.version.refuses_repeated_removal();
        if !self.secrets.contains_key(id) && !strict {
            return Ok(());
        }
        let secret = self.managed_secret(unit, id)?;
        let gone = |revision: &&u32| !secret.revisions.contains_key(revision);
        if let Some(revision) = revisions.iter().flatten().find(gone).filter(|_| strict) {
            return Err(format!("secret revision \"{id}/{revision}\" not found"));
        }
        for content in secret.revisions.values().cloned().collect::<Vec<_>>() {
            self.record_passwords(&content);
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

impl PendingSecrets {
    /// Splits off the changes that are applied before the transaction.
    fn split_first(&mut self, first: SecretsFirst) -> PendingSecrets {
        match first {
            SecretsFirst::All => std::mem::take(self),
            SecretsFirst::Creates => PendingSecrets {
                creates: std::mem::take(&mut self.creates),
                ..PendingSecrets::default()
            },
            SecretsFirst::None => PendingSecrets::default(),
        }
    }
}

fn refusal() -> Result {
    Err("cannot apply hook changes: refused by a fault".to_owned())
}

fn size(bag: &Bag) -> usize {
    bag.iter().map(|(key, value)| key.len() + value.len()).sum()
}

//! Secrets of the model's user, which charms get by an option.

use super::Arguments;
use super::edit::outside_value;
use crate::Sim;
use crate::error::{Error, Result};
use crate::model::{Bag, Entity};
use crate::secret::Secret;
use crate::tools::secrets::new_id;

impl Sim {
    /// `add-secret NAME field=value…`: prints the secret's URI, a value for an option of type
    /// `secret`.
    pub(crate) fn add_secret(&mut self, mut args: Arguments) -> Result<String> {
        let name = args.next("a name")?;
        if !self.model.version.has_secrets() {
            return Err(Error::refused(format!("Juju {} has no secrets", self.model.version)));
        }
        if self.users_secret(&name).is_ok() {
            return Err(Error::refused(format!("secret with name {name:?} already exists")));
        }
        let mut secret = Secret::new(Entity::Model, fields(args)?);
        secret.label = name;
        let id = new_id();
        self.model.secrets.insert(id.clone(), secret);
        Ok(format!("secret:{id}\n"))
    }

    /// `update-secret NAME field=value…`: adds a revision.
    pub(crate) fn update_secret(&mut self, mut args: Arguments) -> Result<String> {
        let id = self.users_secret(&args.next("a name")?)?;
        let content = fields(args)?;
        if let Some(secret) = self.model.secrets.get_mut(&id) {
            secret.revise(content);
        }
        Ok(String::new())
    }

    /// `grant-secret NAME APP`
    pub(crate) fn grant_secret(&mut self, mut args: Arguments) -> Result<String> {
        let (id, app) = (self.users_secret(&args.next("a name")?)?, args.next("an application")?);
        args.end()?;
        self.model.app(&app)?;
        if let Some(secret) = self.model.secrets.get_mut(&id) {
            secret.grants.insert(app, None);
        }
        Ok(String::new())
    }

    /// `revoke-secret NAME APP`
    pub(crate) fn revoke_secret(&mut self, mut args: Arguments) -> Result<String> {
        let (id, app) = (self.users_secret(&args.next("a name")?)?, args.next("an application")?);
        args.end()?;
        if let Some(secret) = self.model.secrets.get_mut(&id) {
            secret.grants.remove(&app);
        }
        Ok(String::new())
    }

    /// `remove-secret NAME`
    pub(crate) fn remove_secret(&mut self, mut args: Arguments) -> Result<String> {
        let id = self.users_secret(&args.next("a name")?)?;
        args.end()?;
        if let Some(secret) = self.model.secrets.remove(&id) {
            secret.revisions.values().for_each(|content| self.model.record_passwords(content));
        }
        Ok(String::new())
    }

    fn users_secret(&self, name: &str) -> Result<String> {
        let found = self
            .model
            .secrets
            .iter()
            .find(|(_, secret)| secret.owner == Entity::Model && secret.label == name);
        found
            .map(|(id, _)| id.clone())
            .ok_or_else(|| Error::refused(format!("secret {name:?} not found")))
    }
}

fn fields(mut args: Arguments) -> Result<Bag> {
    let mut content = Bag::new();
    for pair in args.rest() {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Error::refused(format!("expected field=value, got {pair:?}")))?;
        content.insert(key.to_owned(), outside_value(value)?);
    }
    if content.is_empty() {
        return Err(Error::refused("missing secret value"));
    }
    Ok(content)
}

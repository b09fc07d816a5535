//! Commands that change data without a hook.

use super::Arguments;
use crate::Sim;
use crate::error::{Error, Result};
use crate::model::{Entity, UnitName};

impl Sim {
    /// `databag APP:ENDPOINT ENTITY k=v…`: writes to a databag without a hook; accepts `k=@file`
    /// and `k=@hex:…`.
    pub(crate) fn databag(&mut self, mut args: Arguments) -> Result<String> {
        let place = args.next("an endpoint (app:endpoint, or app:endpoint:id)")?;
        let name = args.next("an application or unit")?;
        let id = self.relation_at(&place)?;
        let entity = match name.parse::<UnitName>() {
            Ok(unit) => Entity::Unit(unit),
            Err(_) => Entity::App(name.clone()),
        };
        let app = name.split('/').next().unwrap_or(&name);
        if self.model.relations.get(&id).is_none_or(|relation| relation.end(app).is_none()) {
            return Err(Error::refused(format!("{name} is not part of {place}")));
        }
        if let Entity::Unit(unit) = &entity
            && !self
                .model
                .relations
                .get(&id)
                .is_some_and(|relation| relation.units.contains_key(unit))
        {
            return Err(Error::refused(format!(
                "{name} has not entered {place}: it has no bag there"
            )));
        }
        let mut bag = self.model.bag(id, &name);
        for pair in args.rest() {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::refused(format!("expected k=v, got {pair:?}")))?;
            let value = outside_value(value)?;
            if value.is_empty() {
                bag.remove(key);
            } else {
                bag.insert(key.to_owned(), value);
            }
        }
        self.model.write(id, &entity, bag);
        Ok(String::new())
    }

    /// The only relation at `app:endpoint`, or the one named by `app:endpoint:id`.
    pub(crate) fn relation_at(&self, place: &str) -> Result<u32> {
        let (endpoint, wanted) = match place.rsplit_once(':') {
            Some((endpoint, number)) if endpoint.contains(':') => {
                (endpoint, number.parse::<u32>().ok())
            }
            _ => (place, None),
        };
        let found = self.model.relations_at(endpoint);
        match (wanted, found.as_slice()) {
            (Some(id), ids) if ids.contains(&id) => Ok(id),
            (None, [id]) => Ok(*id),
            (None, [_, ..]) => Err(Error::refused(format!(
                "{place} has relations {found:?}: add a number, such as {place}:{}",
                found[0]
            ))),
            _ => Err(Error::refused(format!("no relation at {place}"))),
        }
    }

    /// `secret-edit LABEL field=value…`: adds a revision without a hook.
    pub(crate) fn secret_edit(&mut self, mut args: Arguments) -> Result<String> {
        let label = args.next("a label or id")?;
        let id = self
            .model
            .find_secret(&label)
            .ok_or_else(|| Error::refused(format!("secret {label:?} not found")))?;
        let pairs = args.rest();
        let Some(secret) = self.model.secrets.get_mut(&id) else { return Ok(String::new()) };
        let mut content = secret.content().clone();
        for pair in pairs {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::refused(format!("expected field=value, got {pair:?}")))?;
            let value = outside_value(value)?;
            if value.is_empty() {
                content.remove(key);
            } else {
                content.insert(key.to_owned(), value);
            }
        }
        secret.revise(content);
        Ok(String::new())
    }
}

/// The value of an argument: `@file`, `@hex:…`, or literal.
pub(super) fn outside_value(text: &str) -> Result<String> {
    let not_text =
        || Error::refused(format!("{text}: jujusim does not model values that are not UTF-8"));
    if let Some(hex) = text.strip_prefix("@hex:") {
        let bytes: Option<Vec<u8>> = (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok())
            .collect();
        let bytes =
            bytes.ok_or_else(|| Error::refused(format!("cannot read {text}: not hexadecimal")))?;
        return String::from_utf8(bytes).map_err(|_| not_text());
    }
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|source| Error::Io { doing: format!("read {file}"), source }),
        None => Ok(text.to_owned()),
    }
}

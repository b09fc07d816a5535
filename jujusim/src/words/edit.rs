//! Words that write behind everybody's back.

use super::Words;
use crate::Sim;
use crate::error::{Error, Result};
use crate::model::{Entity, UnitName};

impl Sim {
    /// `databag APP:ENDPOINT ENTITY k=v…`: writes into a bag behind everybody's back; `k=@file` and `k=@hex:…` too.
    pub(crate) fn databag(&mut self, mut words: Words) -> Result<String> {
        let place = words.next("an endpoint (app:endpoint, or app:endpoint:id)")?;
        let name = words.next("an application or unit")?;
        let id = self.relation_at(&place)?;
        let entity = match name.parse::<UnitName>() {
            Ok(unit) => Entity::Unit(unit),
            Err(_) => Entity::App(name.clone()),
        };
        let app = name.split('/').next().unwrap_or(&name);
        if self.model.relations.get(&id).is_none_or(|relation| relation.end(app).is_none()) {
            return Err(Error::refused(format!("{name} has no part in {place}")));
        }
        if let Entity::Unit(unit) = &entity
            && !self.model.relations.get(&id).is_some_and(|relation| relation.units.contains_key(unit))
        {
            return Err(Error::refused(format!("{name} has not entered {place}: it has no bag there")));
        }
        let mut bag = self.model.bag(id, &name);
        for pair in words.rest() {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| Error::refused(format!("expected k=v, got {pair:?}")))?;
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

    /// The one relation at `app:endpoint`, or the named one at `app:endpoint:id`.
    pub(crate) fn relation_at(&self, place: &str) -> Result<u32> {
        let (endpoint, wanted) = match place.rsplit_once(':') {
            Some((endpoint, number)) if endpoint.contains(':') => (endpoint, number.parse::<u32>().ok()),
            _ => (place, None),
        };
        let found = self.model.relations_at(endpoint);
        match (wanted, found.as_slice()) {
            (Some(id), ids) if ids.contains(&id) => Ok(id),
            (None, [id]) => Ok(*id),
            (None, [_, ..]) => Err(Error::refused(format!(
                "{place} has relations {found:?}; add one's number: {place}:{}",
                found[0]
            ))),
            _ => Err(Error::refused(format!("no relation at {place}"))),
        }
    }

    /// `secret-edit LABEL field=value…`: a new revision from outside.
    pub(crate) fn secret_edit(&mut self, mut words: Words) -> Result<String> {
        let label = words.next("a label or id")?;
        let id = self
            .model
            .find_secret(&label)
            .ok_or_else(|| Error::refused(format!("secret {label:?} not found")))?;
        let pairs = words.rest();
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

/// A value given by hand: `@file`, `@hex:…`, or itself.
pub(super) fn outside_value(text: &str) -> Result<String> {
    let not_text = || Error::refused(format!("{text}: jujusim does not model values that are not UTF-8"));
    if let Some(hex) = text.strip_prefix("@hex:") {
        let bytes: Option<Vec<u8>> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok()).collect();
        let bytes = bytes.ok_or_else(|| Error::refused(format!("{text}: not hexadecimal")))?;
        return String::from_utf8(bytes).map_err(|_| not_text());
    }
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|source| Error::Io { doing: format!("read {file}"), source }),
        None => Ok(text.to_owned()),
    }
}

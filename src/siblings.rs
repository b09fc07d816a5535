//! What the other units say of themselves in `pgb-peers`, kept in this unit's state. Juju tells of each change by a hook
//! that names the unit, so that no other hook need ask: a leader would ask every unit in every hook.

use std::collections::BTreeMap;

use crate::event::RelationId;
use crate::handlers::peers::{ADDRESS, DATABASES_LOADED, HOSTNAME, PGBOUNCER_VERSION};
use crate::juju::{Juju, Owner, ToolError};
use crate::plan::Texts;

/// State: the bags by unit, as JSON.
const SIBLINGS: &str = "siblings";
/// The keys that somebody looks at.
const KEPT: [&str; 4] = [ADDRESS, DATABASES_LOADED, HOSTNAME, PGBOUNCER_VERSION];
/// The longest text that is kept, in bytes: `state-set` refuses more than 64 KiB, and with it the hook. Of more units
/// than that, some hundreds, each hook asks all.
const LONGEST: usize = 60_000;

/// The bags by unit; nothing while nobody has asked in this dispatch.
#[derive(Default)]
pub struct Siblings(Option<BTreeMap<String, Texts>>);

impl Siblings {
    /// What a unit says of itself.
    pub fn bag(&mut self, juju: &mut Juju, peer: RelationId, unit: &str) -> Result<Texts, ToolError> {
        let known = self.known(juju)?;
        if let Some(texts) = known.get(unit) {
            return Ok(texts.clone());
        }
        let mut texts = juju.bag(peer, &Owner::Other(unit.to_owned()))?.clone();
        texts.retain(|key, _| KEPT.contains(&key.as_str()));
        // Juju itself writes the address: one that has none cannot be read yet.
        if texts.contains_key(ADDRESS) {
            known.insert(unit.to_owned(), texts.clone());
        }
        Ok(texts)
    }

    /// Has every unit asked again of which this is so.
    pub fn doubt(
        &mut self,
        juju: &mut Juju,
        is_doubted: impl Fn(&str, &Texts) -> bool,
    ) -> Result<(), ToolError> {
        self.known(juju)?.retain(|unit, texts| !is_doubted(unit, texts));
        Ok(())
    }

    /// Notes in the state what was learnt and forgotten.
    pub fn keep(&self, juju: &mut Juju) -> Result<(), ToolError> {
        let Some(known) = &self.0 else { return Ok(()) };
        let text = serde_json::json!(known).to_string();
        juju.set_state(SIBLINGS, if known.is_empty() || text.len() > LONGEST { "" } else { &text })
    }

    fn known(&mut self, juju: &mut Juju) -> Result<&mut BTreeMap<String, Texts>, ToolError> {
        if self.0.is_none() {
            let text = juju.state(SIBLINGS)?.unwrap_or_default();
            self.0 = Some(serde_json::from_str(&text).unwrap_or_default());
        }
        Ok(self.0.get_or_insert_default())
    }
}

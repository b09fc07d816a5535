//! Reads about the other units of the application, and the units of related applications.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Look;
use crate::event::{Endpoint, RelationHook};
use crate::facts::Texts;
use crate::facts::configuration::Config;
use crate::facts::units::LoadedUnit;
use crate::juju::{Goal, Owner};
use crate::notes::Trust;
use crate::peer_bag::{
    ADDRESS, DATABASES_LOADED, HOSTNAME, PGBOUNCER_VERSION, PROCESSES, PYTHON_RUNS, TLS_CA, TROUBLE,
};
use crate::plan::Bag;
use crate::status::{self, Serving};
use crate::x509::Bundle;
use crate::x509::certificate::digest;

/// The keys of another unit's bag that this charm reads and notes.
const KEPT: [&str; 8] = [
    ADDRESS,
    DATABASES_LOADED,
    HOSTNAME,
    PGBOUNCER_VERSION,
    PROCESSES,
    PYTHON_RUNS,
    TLS_CA,
    TROUBLE,
];

impl Look<'_> {
    /// The units that the model plans for our or a related application.
    pub fn goal(&mut self, app: &str) -> Result<Option<Goal>> {
        Ok(self.handles.juju.goal(app)?)
    }

    /// Whether every unit of the application is being removed. An application scaled to zero may
    /// get units again later.
    pub fn is_whole_application_leaving(&mut self) -> Result<bool> {
        let goal = self.goal(&self.unit.app)?;
        Ok(goal.is_some_and(|goal| goal.staying().next().is_none()))
    }

    /// The databag of another unit in the peer relation, with digests in place of its CAs. Juju
    /// runs a hook that names the unit when the bag changes; all other hooks use the notes.
    pub fn sibling(&mut self, unit: &str) -> Result<Texts> {
        if let Some(texts) = self.notes.siblings.get(unit) {
            return Ok(texts.clone());
        }
        let mut texts = self.handles.juju.bag(self.peers, &Owner::Other(unit.to_owned()))?.clone();
        texts.retain(|key, _| KEPT.contains(&key.as_str()));
        if let Some(cas) = texts.get_mut(TLS_CA) {
            // The certificates themselves would make the note too long for Juju.
            let found = Bundle::parse(cas).unwrap_or_default();
            let ids: Vec<_> = found.0.iter().map(|ca| digest(&ca.pem)).collect();
            *cas = ids.join(" ");
        }
        // Juju itself writes the address: a bag without an address is not readable yet.
        if texts.contains_key(ADDRESS) {
            self.notes.siblings.insert(unit.to_owned(), texts.clone());
        }
        Ok(texts)
    }

    /// The other units of the application that this unit has seen join. The hook about a unit
    /// corrects the note.
    pub fn siblings(&mut self) -> Result<Vec<String>> {
        if let Some(units) = &self.notes.units {
            return Ok(units.clone());
        }
        let units = self.members(self.peers)?;
        self.notes.units = Some(units.clone());
        Ok(units)
    }

    /// Drops the notes about other units that this hook does not trust.
    pub fn forget_untrusted_siblings(&mut self) -> Result<()> {
        if let Some(event) = self.event_of(Endpoint::Peers)
            && let Some(unit) = &event.remote_unit
        {
            self.notes.siblings.remove(unit);
            if let Some(units) = &mut self.notes.units {
                units.retain(|other| other != unit);
                if event.hook != RelationHook::Departed {
                    units.push(unit.clone());
                    units.sort();
                }
            }
        }
        if !self.trust.counts_notes() {
            self.notes.units = None;
            self.notes.siblings.clear();
        }
        if self.trust == Trust::Recheck {
            // An operator may have skipped the hook in which a unit reported that it is well.
            let own = self.bag(Bag::PeerUnit)?.get(DATABASES_LOADED).cloned();
            let siblings = &mut self.notes.siblings;
            siblings.retain(|_, texts| {
                texts.get(DATABASES_LOADED) == own.as_ref() && !texts.contains_key(TROUBLE)
            });
            let is_in_step = |unit: &String| siblings.contains_key(unit);
            self.notes.units = self.notes.units.take().filter(|units| units.iter().all(is_in_step));
        }
        Ok(())
    }

    /// Every unit of the application, with the databases it has loaded and whether clients wait for
    /// it. `own` is the hash that this unit has loaded.
    pub fn loaded_units(&mut self, own: Option<String>) -> Result<Vec<LoadedUnit>> {
        let mut others: BTreeSet<String> = self.siblings()?.into_iter().collect();
        // While a unit is behind, only a hook about the units can end the wait for it.
        let mut is_one_behind = false;
        for unit in &others {
            is_one_behind |= self.sibling(unit)?.get(DATABASES_LOADED) != own.as_ref();
        }
        let is_about_units = self.trust != Trust::Full || self.event_of(Endpoint::Peers).is_some();
        let goal = if is_about_units || !is_one_behind && !self.app_bag_changes() {
            self.goal(&self.unit.app)?
        } else {
            None
        };
        let mut units =
            vec![LoadedUnit { unit: self.unit.name.clone(), loaded: own, counts: true }];
        // A new leader may not have seen every unit join.
        others.extend(goal.iter().flat_map(Goal::staying).map(str::to_owned));
        others.remove(&self.unit.name);
        for unit in others {
            let counts = goal.as_ref().is_none_or(|goal| goal.is_active(&unit));
            let loaded = self.sibling(&unit)?.remove(DATABASES_LOADED);
            units.push(LoadedUnit { unit, loaded, counts });
        }
        Ok(units)
    }

    /// The other units that have not loaded the leader's databases, and those that report a trouble
    /// of their own; empty on a follower.
    pub fn units_behind(&mut self) -> Result<(Vec<String>, Vec<String>)> {
        let (mut behind, mut not_active) = (Vec::new(), Vec::new());
        if !self.leads()? {
            return Ok((behind, not_active));
        }
        let own = self.bag(Bag::PeerUnit)?.get(DATABASES_LOADED).cloned();
        for unit in self.siblings()? {
            let texts = self.sibling(&unit)?;
            if texts.contains_key(TROUBLE) {
                not_active.push(unit);
            } else if texts.get(DATABASES_LOADED) != own.as_ref() {
                behind.push(unit);
            }
        }
        Ok((behind, not_active))
    }

    /// Describes what this unit serves, for its status.
    pub fn serving(&mut self) -> Result<String> {
        let published = self.published()?;
        // The files are read only where no published configuration is current.
        let config = match published.current() {
            Ok(Some(config)) => Some(config.clone()),
            _ => self.kept().config.clone(),
        };
        let Some(Config { shared, .. }) = config else { return Ok(String::new()) };
        let databases = self.databases()?;
        let (behind, not_active) = self.units_behind()?;
        Ok(status::serving(&Serving {
            databases: databases
                .entries
                .names()
                .filter(|name| *name != "*")
                .collect::<BTreeSet<_>>()
                .len(),
            pool_mode: shared.pool_mode,
            port: shared.listen_port,
            processes: self.probe().map_or(0, |probe| probe.places.len()),
            behind,
            not_active,
        }))
    }
}

//! `juju show-unit`, and what `juju show-unit` omits.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Ordered, charm_url, life};
use crate::error::Result;
use crate::model::{Bag, Model, Relation, UnitName};

/// A unit, as `juju show-unit` prints it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct UnitInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    workload_version: String,
    opened_ports: Vec<String>,
    charm: String,
    leader: bool,
    life: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    relation_info: Vec<RelationInfo>,
    provider_id: String,
    address: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RelationInfo {
    relation_id: u32,
    endpoint: String,
    related_endpoint: String,
    /// The databag of the other application; for peers of the own application.
    application_data: Bag,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_unit: Option<UnitData>,
    #[serde(skip_serializing_if = "Ordered::is_empty")]
    related_units: Ordered<UnitData>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct UnitData {
    in_scope: bool,
    data: Bag,
}

/// What Juju knows about a unit but shows only to the charm.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Hidden {
    /// The state stored by `state-set`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    state: Bag,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    relations: Vec<HiddenRelation>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct HiddenRelation {
    relation_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    life: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_application_data: Option<Bag>,
    /// Databags of units of the own application, except for peers.
    #[serde(skip_serializing_if = "Ordered::is_empty")]
    local_units: Ordered<UnitData>,
    /// Databags of removed units: they outlive their unit.
    #[serde(skip_serializing_if = "Ordered::is_empty")]
    departed_units: Ordered<UnitData>,
}

impl UnitInfo {
    /// The unit with its relations, or only with those at one endpoint.
    pub(crate) fn of(model: &Model, name: &UnitName, endpoint: Option<&str>) -> Result<UnitInfo> {
        let (unit, app) = (model.unit(name)?, model.app(&name.app)?);
        let relations = relations_at(model, name, endpoint);
        Ok(UnitInfo {
            workload_version: app.version.clone(),
            opened_ports: unit.ports.iter().map(ToString::to_string).collect(),
            charm: charm_url(app),
            leader: model.is_leader(name),
            life: life(unit.dying),
            relation_info: relations
                .filter_map(|(id, relation)| RelationInfo::of(model, name, id, relation))
                .collect(),
            provider_id: name.dashed(),
            address: unit.address.to_string(),
        })
    }
}

impl RelationInfo {
    fn of(model: &Model, name: &UnitName, id: u32, relation: &Relation) -> Option<RelationInfo> {
        let there = |unit: &UnitName| model.units.contains_key(unit);
        let (end, remote) = (relation.end(&name.app)?, relation.remote(&name.app)?);
        let application = relation.apps.get(&remote.app).map(|settings| settings.values.clone());
        Some(RelationInfo {
            relation_id: id,
            endpoint: end.endpoint.clone(),
            related_endpoint: remote.endpoint.clone(),
            application_data: application.unwrap_or_default(),
            local_unit: units(relation, |unit| unit == name).0.pop().map(|(_, data)| data),
            related_units: units(relation, |unit| {
                unit.app == remote.app && unit != name && there(unit)
            }),
        })
    }
}

impl Hidden {
    pub(crate) fn of(model: &Model, name: &UnitName, endpoint: Option<&str>) -> Result<Hidden> {
        let relations = relations_at(model, name, endpoint)
            .map(|(relation_id, relation)| HiddenRelation::of(model, name, relation_id, relation))
            .filter(HiddenRelation::says_something);
        Ok(Hidden { state: model.unit(name)?.state.clone(), relations: relations.collect() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.is_empty() && self.relations.is_empty()
    }
}

impl HiddenRelation {
    fn of(model: &Model, name: &UnitName, relation_id: u32, relation: &Relation) -> HiddenRelation {
        let there = |unit: &UnitName| model.units.contains_key(unit);
        let peer = relation.is_peer();
        let application = relation.apps.get(&name.app).filter(|_| !peer);
        HiddenRelation {
            relation_id,
            life: relation.dying.then_some("dying"),
            local_application_data: application.map(|settings| settings.values.clone()),
            local_units: units(relation, |unit| {
                unit.app == name.app && unit != name && !peer && there(unit)
            }),
            departed_units: units(relation, |unit| !there(unit)),
        }
    }

    fn says_something(&self) -> bool {
        self.life.is_some()
            || self.local_application_data.is_some()
            || !self.local_units.is_empty()
            || !self.departed_units.is_empty()
    }
}

fn relations_at<'a>(
    model: &'a Model,
    name: &'a UnitName,
    endpoint: Option<&'a str>,
) -> impl Iterator<Item = (u32, &'a Relation)> {
    let wanted = move |relation: &Relation| {
        let end = relation.end(&name.app);
        end.is_some_and(|end| endpoint.is_none_or(|endpoint| endpoint == end.endpoint))
    };
    model
        .relations
        .iter()
        .filter(move |(_, relation)| wanted(relation))
        .map(|(id, relation)| (*id, relation))
}

fn units(relation: &Relation, wanted: impl Fn(&UnitName) -> bool) -> Ordered<UnitData> {
    let found = relation.units.iter().filter(|(unit, _)| wanted(unit));
    let data = found.map(|(unit, settings)| {
        let data = settings.values.clone();
        (unit.to_string(), UnitData { in_scope: relation.scope.contains(unit), data })
    });
    Ordered(data.collect())
}

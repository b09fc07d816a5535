//! `juju status`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Ordered, charm_url, life};
use crate::charm::Role;
use crate::model::{App, End, Held, Kind, Model, Relation, Stage, Unit, UnitName};
use crate::tables::Table;

/// The whole model.
#[derive(Serialize)]
pub(crate) struct Status {
    model: ModelStatus,
    machines: BTreeMap<String, String>,
    pub(crate) applications: Ordered<ApplicationStatus>,
    controller: Controller,
    #[serde(skip)]
    integrations: Vec<Integration>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ModelStatus {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    controller: &'static str,
    cloud: &'static str,
    version: String,
    #[serde(rename = "model-status")]
    status: StatusInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    sla: Option<&'static str>,
}

#[derive(Serialize)]
struct Controller {
    timestamp: String,
}

/// One application.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ApplicationStatus {
    charm: String,
    charm_origin: &'static str,
    charm_name: String,
    charm_rev: u32,
    scale: usize,
    exposed: bool,
    #[serde(skip_serializing_if = "is_alive")]
    pub(crate) life: &'static str,
    #[serde(rename = "application-status")]
    pub(crate) status: StatusInfo,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    relations: BTreeMap<String, Vec<RelatedApplication>>,
    #[serde(skip_serializing_if = "Ordered::is_empty")]
    pub(crate) units: Ordered<UnitStatus>,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RelatedApplication {
    #[serde(rename = "related-application")]
    application: String,
    interface: String,
    scope: &'static str,
}

/// One unit.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct UnitStatus {
    pub(crate) workload_status: StatusInfo,
    pub(crate) juju_status: StatusInfo,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) leader: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    open_ports: Vec<String>,
    address: String,
    provider_id: String,
    #[serde(skip)]
    pub(crate) life: &'static str,
}

/// A status and its message.
#[derive(Clone, Serialize)]
pub(crate) struct StatusInfo {
    pub(crate) current: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

/// A line of `juju status --relations`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Integration {
    provider: String,
    requirer: String,
    interface: String,
    kind: &'static str,
    message: &'static str,
}

fn is_alive(life: &&str) -> bool {
    *life == "alive"
}

impl StatusInfo {
    fn new(current: impl Into<String>, message: impl Into<String>) -> StatusInfo {
        StatusInfo { current: current.into(), message: message.into(), version: None }
    }

    /// The rank of a status: of several units the highest counts (juju's core/status,
    /// `DeriveStatus`).
    fn severity(&self) -> u8 {
        match self.current.as_str() {
            "error" => 100,
            "blocked" => 90,
            "maintenance" => 80,
            "waiting" => 70,
            "active" => 60,
            "terminated" => 50,
            "unknown" => 40,
            _ => 0,
        }
    }
}

impl Status {
    pub(crate) fn of(model: &Model) -> Status {
        let applications = model
            .apps
            .iter()
            .map(|(name, app)| (name.clone(), ApplicationStatus::of(model, name, app)));
        let mut integrations: Vec<Integration> =
            model.relations.values().map(|relation| Integration::of(model, relation)).collect();
        integrations.sort();
        Status {
            model: ModelStatus {
                name: model.name.clone(),
                kind: "caas",
                controller: "jujusim",
                cloud: "kubernetes",
                version: model.version.to_string(),
                status: StatusInfo::new("available", ""),
                sla: model.version.has_leader_settings().then_some("unsupported"),
            },
            machines: BTreeMap::new(),
            applications: Ordered(applications.collect()),
            controller: Controller { timestamp: super::time(model) },
            integrations,
        }
    }

    /// Keeps only the named applications and units; an application also for one of its units.
    pub(crate) fn select(&mut self, names: &[String]) {
        for (name, app) in &mut self.applications.0 {
            if !names.contains(name) {
                app.units.0.retain(|(unit, _)| names.contains(unit));
            }
        }
        self.applications.0.retain(|(name, app)| names.contains(name) || !app.units.is_empty());
        let shown = |place: &str| {
            let app = place.split(':').next().unwrap_or(place);
            self.applications.0.iter().any(|(name, _)| name == app)
        };
        self.integrations.retain(|one| shown(&one.provider) || shown(&one.requirer));
    }

    /// The tables of the tabular format.
    pub(crate) fn tables(&self, relations: bool) -> Vec<Table> {
        let mut tables = vec![self.model_table()];
        if !self.applications.is_empty() {
            tables.push(self.application_table());
        }
        if self.applications.0.iter().any(|(_, app)| !app.units.is_empty()) {
            tables.push(self.unit_table());
        }
        if relations && !self.integrations.is_empty() {
            tables.push(self.integration_table());
        }
        tables
    }

    fn model_table(&self) -> Table {
        let ModelStatus { name, controller, cloud, version, sla, .. } = &self.model;
        let mut header = vec!["Model", "Controller", "Cloud/Region", "Version"];
        let mut row =
            vec![name.clone(), (*controller).to_owned(), (*cloud).to_owned(), version.clone()];
        if let Some(sla) = sla {
            header.push("SLA");
            row.push((*sla).to_owned());
        }
        header.push("Timestamp");
        row.push(self.controller.timestamp.clone());
        let mut table = Table::new(&header);
        table.push(row);
        table
    }

    fn application_table(&self) -> Table {
        let header = [
            "App", "Version", "Status", "Scale", "Charm", "Channel", "Rev", "Address", "Exposed",
            "Message",
        ];
        let mut table = Table::new(&header).align_right(&[3, 6]);
        for (name, app) in &self.applications.0 {
            table.push(vec![
                name.clone(),
                app.version.clone(),
                app.status.current.clone(),
                app.scale(),
                app.charm_name.clone(),
                String::new(),
                app.charm_rev.to_string(),
                String::new(),
                "no".to_owned(),
                app.status.message.clone(),
            ]);
        }
        table
    }

    fn unit_table(&self) -> Table {
        let mut table = Table::new(&["Unit", "Workload", "Agent", "Address", "Ports", "Message"]);
        for (name, unit) in self.applications.0.iter().flat_map(|(_, app)| &app.units.0) {
            let mark = if unit.leader { "*" } else { "" };
            table.push(vec![
                format!("{name}{mark}"),
                unit.workload_status.current.clone(),
                unit.juju_status.current.clone(),
                unit.address.clone(),
                unit.open_ports.join(","),
                unit.message(),
            ]);
        }
        table
    }

    fn integration_table(&self) -> Table {
        let mut table =
            Table::new(&["Integration provider", "Requirer", "Interface", "Type", "Message"]);
        for Integration { provider, requirer, interface, kind, message } in &self.integrations {
            let cells = [provider, requirer, interface, *kind, *message];
            table.push(cells.map(str::to_owned).to_vec());
        }
        table
    }
}

impl ApplicationStatus {
    fn of(model: &Model, name: &str, app: &App) -> ApplicationStatus {
        let units: Vec<(String, UnitStatus)> = model
            .units
            .iter()
            .filter(|(unit, _)| unit.app == name)
            .map(|(unit, state)| (unit.to_string(), UnitStatus::of(model, unit, state)))
            .collect();
        let alive = units.iter().filter(|(_, unit)| unit.life == "alive").count();
        ApplicationStatus {
            charm: charm_url(app),
            charm_origin: match app.kind {
                Kind::Charm(_) => "local",
                Kind::Actor(..) => "charmhub",
            },
            charm_name: app.charm().name.clone(),
            charm_rev: app.revision,
            scale: alive,
            exposed: false,
            life: life(app.dying),
            status: app.status.as_ref().map_or_else(
                || derived(units.iter().map(|(_, unit)| &unit.workload_status)),
                |status| StatusInfo::new(&status.word, &status.message),
            ),
            relations: related(model, name),
            units: Ordered(units),
            version: app.version.clone(),
        }
    }

    /// How many units have an agent, out of the wanted number.
    fn scale(&self) -> String {
        let up = self
            .units
            .0
            .iter()
            .filter(|(_, unit)| unit.juju_status.current != "allocating")
            .count();
        if up == self.scale { up.to_string() } else { format!("{up}/{}", self.scale) }
    }
}

/// The status of an application that sets none: the worst of its units' statuses.
fn derived<'a>(units: impl Iterator<Item = &'a StatusInfo>) -> StatusInfo {
    let worst =
        units.reduce(|worst, next| if next.severity() > worst.severity() { next } else { worst });
    worst.cloned().unwrap_or_else(|| StatusInfo::new("unknown", ""))
}

fn related(model: &Model, app: &str) -> BTreeMap<String, Vec<RelatedApplication>> {
    let mut found: BTreeMap<String, Vec<RelatedApplication>> = BTreeMap::new();
    for relation in model.relations.values() {
        let (Some(end), Some(remote)) = (relation.end(app), relation.remote(app)) else { continue };
        found.entry(end.endpoint.clone()).or_default().push(RelatedApplication {
            application: remote.app.clone(),
            interface: interface(model, end),
            scope: "global",
        });
    }
    found
}

fn interface(model: &Model, end: &End) -> String {
    let endpoint = model.charm(&end.app).and_then(|charm| charm.endpoints.get(&end.endpoint));
    endpoint.map(|endpoint| endpoint.interface.clone()).unwrap_or_default()
}

impl UnitStatus {
    fn of(model: &Model, name: &UnitName, unit: &Unit) -> UnitStatus {
        let hook = |event: &crate::events::Event| event.name(model, &name.app);
        let pending = unit.pending.as_ref();
        let failed = pending.filter(|pending| pending.error && !unit.commits(model.now));
        let commits = pending.filter(|_| unit.commits(model.now));
        let next = commits.map(|last| last.event.clone()).or_else(|| model.next_event(name));
        let (workload, agent) = match (failed, next) {
            (Some(pending), _) => (
                StatusInfo::new("error", format!("hook failed: {:?}", hook(&pending.event))),
                StatusInfo::new("idle", ""),
            ),
            (None, next) => (
                StatusInfo::new(&unit.status.word, &unit.status.message),
                match next {
                    _ if unit.held == Held::Everything => {
                        StatusInfo::new("lost", "agent is not communicating with the server")
                    }
                    _ if unit.stage == Stage::Fresh => StatusInfo::new("allocating", ""),
                    Some(event) => {
                        StatusInfo::new("executing", format!("running {} hook", hook(&event)))
                    }
                    None => StatusInfo::new("idle", ""),
                },
            ),
        };
        UnitStatus {
            workload_status: workload,
            juju_status: StatusInfo { version: Some(model.version.to_string()), ..agent },
            leader: model.is_leader(name),
            open_ports: unit.ports.iter().map(ToString::to_string).collect(),
            address: unit.address.to_string(),
            provider_id: name.dashed(),
            life: life(unit.dying),
        }
    }

    /// The workload's message, with the name of the running hook before it.
    fn message(&self) -> String {
        let message = &self.workload_status.message;
        let hook = self
            .juju_status
            .message
            .strip_prefix("running ")
            .and_then(|text| text.strip_suffix(" hook"));
        match hook {
            Some(hook) => format!("({hook}) {message}").trim_end().to_owned(),
            None => message.clone(),
        }
    }
}

impl Integration {
    fn of(model: &Model, relation: &Relation) -> Integration {
        let named = |role: Role| {
            let end =
                relation.ends.iter().find(|end| end.role == role).or_else(|| relation.ends.first());
            end.map(|end| format!("{}:{}", end.app, end.endpoint)).unwrap_or_default()
        };
        Integration {
            provider: named(Role::Provider),
            requirer: named(Role::Requirer),
            interface: relation.ends.first().map(|end| interface(model, end)).unwrap_or_default(),
            kind: if relation.is_peer() { "peer" } else { "regular" },
            message: if relation.scope.is_empty() { "joining" } else { "" },
        }
    }
}

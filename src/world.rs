//! The rooms that reach out, opened once a dispatch, and no sooner than somebody needs them.

use std::time::Duration;

use crate::attempts::Attempts;
use crate::event::{RelationId, Unit};
use crate::handlers::Handler;
use crate::juju::{Juju, ToolError};
use crate::outcome::{Deed, Where};
use crate::pgbouncer::PoolMode;
use crate::plan::Wait;
use crate::postgres::Server;
use crate::siblings::Siblings;
use crate::workload::{Container, Disk, Files, Paths, Rehearsal, Workload};

/// How far the note of what PostgreSQL has from us is trusted in a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// As it stands.
    Full,
    /// Not of what lies in the databases of clients: they may come to own it.
    NotOfClients,
    /// Not at all: after a refresh or a change of leader it is made sure of.
    None,
}

/// How much of what a leader noted in earlier hooks of clients and units holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notes {
    /// All: Juju brings a hook for what changes.
    Hold,
    /// What would be missing had an operator left such a hook out is looked for: in `update-status`.
    MayLack,
    /// Nothing: a new leader, new code and a new pod look again.
    Void,
}

/// What one dispatch works with.
pub struct World {
    /// Who we are.
    pub unit: Unit,
    /// This unit was told that it goes for good.
    pub leaving: bool,
    /// The hook tools.
    pub juju: Juju,
    /// What the other units of the application say of themselves.
    pub siblings: Siblings,
    /// Who was about to be answered in hooks that may have failed.
    pub attempts: Attempts,
    /// The PgBouncer processes.
    pub workload: Box<dyn Workload>,
    paths: Paths,
    /// The relation this hook is about, if it is a client's.
    pub client: Option<RelationId>,
    /// The client's relation whose end this hook tells of.
    pub ended: Option<RelationId>,
    /// The handlers that earlier hooks left with work.
    pub left: Vec<Handler>,
    /// How much of what was noted in earlier hooks holds.
    pub notes: Notes,
    /// This hook tells that somebody departs from some relation.
    pub departs: bool,
    /// The unit of the backend that departs, if this hook tells of one.
    pub backend_departs: Option<String>,
    /// How far what is noted of PostgreSQL is trusted.
    pub trust: Trust,
    /// How much longer this dispatch may wait for PostgreSQL to let new roles in.
    pub admission: Duration,
    /// What was done outside of Juju, or would have been.
    pub deeds: Vec<Deed>,
    /// Pool mode and port of the configuration that the processes are to run.
    pub in_force: Option<(PoolMode, u16)>,
    /// A process could not have the port it was given.
    pub lacks_port: bool,
    /// What the processes were given to load.
    pub given: Option<Files>,
    /// The backend, once somebody needed it, or why it cannot be used; see [`crate::observe::server`].
    pub server: Option<Result<Server, Wait>>,
}

impl World {
    /// Nothing is asked or opened yet.
    pub fn new(unit: Unit) -> Self {
        let paths = Paths::from_charm_dir(&unit.charm_dir, &unit.name);
        let workload: Box<dyn Workload> = if paths.containers().is_dir() {
            Box::new(Container::new(paths.container(), &unit.name))
        } else {
            Box::new(Disk::new(paths.clone()))
        };
        Self {
            juju: Juju::new(&unit.app, &unit.name),
            workload,
            attempts: Attempts::new(&unit.charm_dir),
            siblings: Siblings::default(),
            leaving: false,
            client: None,
            ended: None,
            left: Vec::new(),
            notes: Notes::Hold,
            departs: false,
            backend_departs: None,
            trust: Trust::Full,
            admission: Duration::from_secs(3),
            deeds: Vec::new(),
            in_force: None,
            lacks_port: false,
            given: None,
            paths,
            server: None,
            unit,
        }
    }

    /// A world in which nothing changes: it is read, and what would be done to it is noted. Without `knows_loaded`
    /// everything is loaded anew.
    pub fn rehearsal(unit: Unit, knows_loaded: bool) -> Self {
        let mut world = Self::new(unit);
        world.juju.rehearse();
        world.workload = Box::new(Rehearsal::new(world.workload, knows_loaded));
        world
    }

    /// Notes a deed; whether it is to be done.
    pub fn note(&mut self, at: Where, what: &impl ToString) -> bool {
        self.deeds.push(Deed { at, what: what.to_string() });
        !self.juju.is_rehearsal()
    }

    /// Whether this unit decides for all. A leader that goes keeps its lease to the end, but what it
    /// sees of its relations then is their end for itself, not for the units that stay.
    pub fn leads(&mut self) -> Result<bool, ToolError> {
        Ok(!self.leaving && self.juju.is_leader()?)
    }

    /// Whether PgBouncer is to run in a container beside the charm's, and not where the charm runs.
    pub fn is_sidecar(&self) -> bool {
        self.paths.containers().is_dir()
    }

    /// This unit's name in DNS.
    pub fn hostname(&self) -> String {
        let Unit { app, number, model, .. } = &self.unit;
        let domain = self.paths.cluster_domain(model);
        format!("{app}-{number}.{app}-endpoints.{model}.svc.{domain}")
    }

    /// The name in DNS of a service in this model's namespace.
    pub fn service(&self, name: &str) -> String {
        let model = &self.unit.model;
        format!("{name}.{model}.svc.{}", self.paths.cluster_domain(model))
    }
}

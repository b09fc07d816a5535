//! What a dispatch may look at. Reading changes nothing, and each fact is read and parsed once.
//!
//! Endpoints get a [`Look`] to gather their input. Only [`apply`](crate::apply) and
//! [`hook`](crate::hook) use the clients behind it ([`Look::clients`]).

mod backend;
mod bags;
mod units;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use rand::distr::{Alphanumeric, SampleString as _};

use crate::attempts::Attempts;
use crate::event::{Endpoint, Event, RelationEvent, RelationHook, RelationId, Unit};
use crate::facts::Texts;
use crate::facts::backend::Backend;
use crate::facts::configuration::{Databases, PublishedConfig};
use crate::facts::local::{self, Kept, LocalPgbouncer};
use crate::facts::options::{ChosenOptions, InvalidOption, OptionFacts, Options};
use crate::facts::users::FoundUsers;
use crate::journal::Journal;
use crate::juju::Juju;
use crate::notes::{Notes, Trust};
use crate::peer_bag::PGBOUNCER_VERSION;
use crate::pgbouncer::Version;
use crate::plan::Bag;
use crate::postgres::Server;
use crate::secret::Secret;
use crate::status::Wait;
use crate::workload::{Container, Disk, Files, Paths, Probe, ProbeError, Saved, Workload};

/// The clients that reach out, opened once a dispatch and connected when they are first needed.
pub struct Clients {
    /// The hook tools.
    pub juju: Juju,
    /// The PgBouncer processes.
    pub workload: Box<dyn Workload>,
    /// The notes on this unit's disk.
    pub attempts: Attempts,
    /// What is changed.
    pub journal: Rc<Journal>,
    /// PostgreSQL, once it was needed, or why it cannot be used.
    pub server: Option<Result<Server, Wait>>,
    /// How much longer this dispatch may wait for PostgreSQL to let new roles in.
    pub admission: Duration,
    /// What the processes were given to load.
    pub given: Option<Files>,
    paths: Paths,
}

/// What counts as loaded in a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// What the processes were seen to have loaded.
    Loaded,
    /// Nothing: everything is loaded anew.
    Nothing,
}

/// The read-only view of one dispatch.
pub struct Look<'a> {
    unit: &'a Unit,
    event: &'a Event,
    peers: RelationId,
    trust: Trust,
    counted: Counted,
    clients: &'a mut Clients,
    notes: Notes,
    parsed: Parsed,
}

/// The fields of a secret.
type Fields = BTreeMap<String, Secret>;

/// A fact and what it was parsed from: this dispatch may change that.
struct Memo<K, V>(Option<(K, Rc<V>)>);

/// Facts that were parsed.
#[derive(Default)]
struct Parsed {
    databases: Memo<Option<String>, Databases>,
    published: Memo<(Option<String>, Option<String>), PublishedConfig>,
    users: Memo<(Texts, Fields), FoundUsers>,
    kept: Memo<Saved, Kept>,
    options: Option<Result<Options, InvalidOption>>,
    backend: Option<Option<Rc<Backend>>>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: PartialEq, V> Memo<K, V> {
    fn get(&mut self, key: K, parse: impl FnOnce(&K) -> V) -> Rc<V> {
        match &self.0 {
            Some((known, value)) if *known == key => value.clone(),
            _ => {
                let value = Rc::new(parse(&key));
                self.0 = Some((key, value.clone()));
                value
            }
        }
    }
}

impl Clients {
    /// Nothing is asked or opened yet.
    pub fn new(unit: &Unit, journal: Journal) -> Self {
        let journal = Rc::new(journal);
        let paths = Paths::from_charm_dir(&unit.charm_dir, &unit.name);
        let workload: Box<dyn Workload> = if paths.containers().is_dir() {
            Box::new(Container::new(paths.container(), &unit.name))
        } else {
            Box::new(Disk::new(paths.clone()))
        };
        Self {
            juju: Juju::new(&unit.app, &unit.name, journal.clone()),
            workload,
            attempts: Attempts::new(&unit.charm_dir),
            journal,
            server: None,
            admission: Duration::from_secs(3),
            given: None,
            paths,
        }
    }
}

impl<'a> Look<'a> {
    /// The view of a dispatch; nothing in `install`, where no peer relation is known yet. A unit has
    /// the peer relation from its next hook on, and the application has no other.
    pub fn open(
        unit: &'a Unit,
        event: &'a Event,
        counted: Counted,
        clients: &'a mut Clients,
    ) -> Result<Option<Self>> {
        let mut notes = Notes::read(clients.juju.state()?);
        // New code looks itself.
        if *event == Event::UpgradeCharm {
            notes.peers = None;
        }
        if notes.peers.is_none() {
            notes.peers = clients.juju.relations(Endpoint::Peers)?.first().copied();
        }
        let Some(peers) = notes.peers else { return Ok(None) };
        Ok(Some(Self {
            unit,
            event,
            peers,
            trust: Trust::Full,
            counted,
            clients,
            notes,
            parsed: Parsed::default(),
        }))
    }

    /// Sets how much of the notes counts.
    pub fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    /// The clients behind the view, for [`apply`](crate::apply) and [`hook`](crate::hook) alone.
    pub fn clients(&mut self) -> &mut Clients {
        self.clients
    }

    /// The notes of this unit, to be changed by [`apply`](crate::apply) and [`hook`](crate::hook)
    /// alone.
    pub fn notes_mut(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// The notes of this unit.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// This unit.
    pub fn unit(&self) -> &Unit {
        self.unit
    }

    /// What Juju called the charm for.
    pub fn event(&self) -> &'a Event {
        self.event
    }

    /// The event, if it is one of this endpoint's relations.
    pub fn event_of(&self, endpoint: Endpoint) -> Option<&'a RelationEvent> {
        self.event.of(endpoint)
    }

    /// The relation that this hook ends, if it is one of this endpoint.
    pub fn ended(&self, endpoint: Endpoint) -> Option<RelationId> {
        self.event.hook_of(endpoint, RelationHook::Broken).map(|event| event.relation)
    }

    /// Whether the hook tells that a unit departs from some relation.
    pub fn departs(&self) -> bool {
        matches!(self.event, Event::Relation(event) if event.hook == RelationHook::Departed)
    }

    /// The remote unit that departs from this endpoint's relation, if the hook tells of one.
    pub fn departing_from(&self, endpoint: Endpoint) -> Option<String> {
        let event = self.event.hook_of(endpoint, RelationHook::Departed);
        event.and_then(|event| event.remote_unit.clone())
    }

    /// The peer relation.
    pub fn peers(&self) -> RelationId {
        self.peers
    }

    /// How much of the notes counts.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Whether the model has secrets.
    pub fn has_secrets(&self) -> bool {
        self.unit.juju.has_secrets()
    }

    /// Whether this unit holds leadership.
    pub fn is_leader(&mut self) -> Result<bool> {
        Ok(self.clients.juju.is_leader()?)
    }

    /// Whether this unit decides for all. A leader that leaves holds its lease to the end, but the
    /// end that it sees of its relations is its own, not that of the units that stay.
    pub fn leads(&mut self) -> Result<bool> {
        Ok(!self.notes.is_leaving && self.is_leader()?)
    }

    /// Whether PgBouncer runs in a container beside the charm's, and not where the charm runs.
    pub fn is_sidecar(&self) -> bool {
        self.clients.paths.containers().is_dir()
    }

    /// This unit's name in DNS.
    pub fn hostname(&self) -> String {
        let Unit { app, number, model, .. } = self.unit;
        let domain = self.clients.paths.cluster_domain(model);
        format!("{app}-{number}.{app}-endpoints.{model}.svc.{domain}")
    }

    /// The name in DNS of a service in this model's namespace.
    pub fn service(&self, name: &str) -> String {
        let model = &self.unit.model;
        format!("{name}.{model}.svc.{}", self.clients.paths.cluster_domain(model))
    }

    /// How the comments on the roles we make begin: whose they are.
    pub fn mark(&self) -> String {
        format!("pgbouncer-k8s: model {}, application {}", self.unit.model_uuid, self.unit.app)
    }

    /// This unit's address on the network of the peer relation, if it has one yet.
    pub fn bind_address(&mut self) -> Result<Option<String>> {
        Ok(self.clients.juju.bind_address(Endpoint::Peers)?)
    }

    /// This unit's PgBouncer as it is found.
    pub fn probe(&mut self) -> Result<Probe, ProbeError> {
        self.clients.workload.probe()
    }

    /// This unit's processes, or why nothing is known of them.
    pub fn local(&mut self) -> Result<Result<LocalPgbouncer, Wait>> {
        // A pod's addresses are all its own; units on one machine must not share a port.
        let listen_addr = if self.is_sidecar() { Some("*".to_owned()) } else { self.bind_address()? };
        let Some(listen_addr) = listen_addr else {
            return Ok(Err(Wait::NotLoaded("waiting for this unit's address".into())));
        };
        let unit = match self.probe() {
            Ok(probe) => local::unit(probe, listen_addr),
            Err(error) => Err(error.into()),
        };
        Ok(unit.map(|unit| {
            let workload = &mut self.clients.workload;
            let is_counted = self.counted == Counted::Loaded;
            let mut loaded = |instance| workload.loaded(instance).filter(|_| is_counted);
            let loaded = (0..unit.processes()).map(|n| loaded(n).map(|loaded| loaded.digest)).collect();
            LocalPgbouncer { unit, loaded }
        }))
    }

    /// The version of this unit's PgBouncer; while it cannot be asked, the one it last reported.
    pub fn own_version(&mut self) -> Result<Option<Version>> {
        if let Ok(probe) = self.probe() {
            return Ok(Version::parse(&probe.version));
        }
        let noted = self.bag(Bag::PeerUnit)?.get(PGBOUNCER_VERSION);
        Ok(noted.and_then(|text| Version::parse(text)))
    }

    /// What an earlier hook left in this unit's files.
    pub fn kept(&mut self) -> Rc<Kept> {
        self.parsed.kept.get(self.clients.workload.saved(), |saved| Kept::read(saved.clone()))
    }

    /// Why clients are not sent here though everything is loaded.
    pub fn unhealthy(&mut self) -> Option<Wait> {
        self.clients.workload.unhealthy().map(Wait::Unhealthy)
    }

    /// The options to go by.
    pub fn options(&mut self) -> Result<ChosenOptions> {
        let wanted = match &self.parsed.options {
            Some(wanted) => wanted.clone(),
            None => self.parsed.options.insert(Options::parse(self.clients.juju.config()?)).clone(),
        };
        let mut facts = OptionFacts {
            wanted,
            // A unit with another version leaves out what that version does not know.
            version: self.own_version()?.unwrap_or(Version::NEWEST),
            refused_port: self.notes.refused_port,
            published: self.published()?.options(),
            kept: None,
            is_here: self.probe().is_ok(),
        };
        if facts.published.is_none() {
            facts.kept = self.kept().config.as_ref().map(|config| Options::of(config.shared.clone()));
        }
        Ok(ChosenOptions::choose(facts))
    }

    /// How often a hook was about to answer this client and may have failed.
    pub fn attempts(&self, relation: RelationId) -> usize {
        self.clients.attempts.count(relation)
    }

    /// 24 letters and digits, 142 bits: the form in which this charm has always made passwords.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes passwords")]
    pub fn fresh_password(&self) -> Secret {
        Secret::new(Alphanumeric.sample_string(&mut rand::rng(), 24))
    }

    /// A salt for a SCRAM verifier.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes salts")]
    pub fn fresh_salt(&self) -> [u8; 16] {
        rand::random()
    }
}

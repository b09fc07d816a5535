//! The read-only view of a dispatch. Reading changes nothing, and each fact is read and parsed
//! once.
//!
//! Endpoints gather their input through a [`Look`]. Only [`apply`](crate::apply) and
//! [`hook`](crate::hook) use the handles behind it ([`Look::handles`]).

mod backend;
mod bags;
mod tls;
mod units;

use std::cell::OnceCell;
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
use crate::facts::tls::CheckedTls;
use crate::facts::users::FoundUsers;
use crate::journal::Journal;
use crate::juju::Juju;
use crate::last_status::LastStatus;
use crate::notes::{Following, Leaving, Notes, TracingNote, Trust};
use crate::peer_bag::PGBOUNCER_VERSION;
use crate::pgbouncer::Version;
use crate::plan::Bag;
use crate::postgres::Server;
use crate::secret::Secret;
use crate::status::Wait;
use crate::workload::{
    Container, Disk, Files, Forwarding, Paths, Probe, ProbeError, Saved, Workload,
};
use crate::x509::PrivateKey;

/// The handles to everything outside the process. Each connects when it is first needed.
pub struct Handles {
    /// The hook tools.
    pub juju: Juju,
    /// The PgBouncer processes.
    pub workload: Box<dyn Workload>,
    /// The records of attempted answers on this unit's disk.
    pub attempts: Attempts,
    /// The statuses that this unit last set.
    pub last_status: LastStatus,
    /// The changes of this dispatch.
    pub journal: Rc<Journal>,
    /// The connection to PostgreSQL, or why there is none; `None` before the first use.
    pub server: Option<Result<Server, Wait>>,
    /// The time left in this dispatch to wait until PostgreSQL admits new roles.
    pub admission: Duration,
    /// The files that the processes loaded in this dispatch.
    pub loaded_files: Option<Files>,
    /// The private key that an operator brings in this dispatch.
    pub new_key: Option<PrivateKey>,
    /// Where this dispatch sends its trace; `None` for nowhere.
    pub tracing: Option<TracingNote>,
    paths: Paths,
}

/// Which configuration counts as loaded in a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The configuration that each process was verified to have loaded.
    Loaded,
    /// None: the dispatch loads every file, for commands that show all files.
    Nothing,
}

/// The read-only view of one dispatch.
pub struct Look<'a> {
    unit: &'a Unit,
    event: &'a Event,
    peers: RelationId,
    trust: Trust,
    counted: Counted,
    handles: &'a mut Handles,
    notes: Notes,
    scram_login: Option<RelationId>,
    parsed: Parsed,
}

/// The fields of a secret.
type Fields = BTreeMap<String, Secret>;

/// A parsed fact with its source. A source that this dispatch has changed is parsed again.
struct Memo<K, V>(Option<(K, Rc<V>)>);

/// The facts that were parsed so far.
#[derive(Default)]
struct Parsed {
    databases: Memo<Option<String>, Databases>,
    published: Memo<(Option<String>, Option<String>), PublishedConfig>,
    users: Memo<(Texts, Fields), FoundUsers>,
    kept: Memo<Saved, Kept>,
    options: Option<Result<Options, Vec<InvalidOption>>>,
    tls: Option<Rc<CheckedTls>>,
    backend: OnceCell<Option<Rc<Backend>>>,
    /// The users in this unit's files, if this dispatch needs no others.
    known_users: OnceCell<Option<Rc<FoundUsers>>>,
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

impl Handles {
    /// Creates the handles without connecting any.
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
            last_status: LastStatus::new(&unit.charm_dir),
            journal,
            server: None,
            admission: Duration::from_secs(3),
            loaded_files: None,
            new_key: None,
            tracing: None,
            paths,
        }
    }
}

impl<'a> Look<'a> {
    /// Opens the view of a dispatch; `None` if Juju lists no peer relation. From the hook after
    /// `install` on, a unit has exactly one.
    pub fn open(
        unit: &'a Unit,
        event: &'a Event,
        counted: Counted,
        handles: &'a mut Handles,
    ) -> Result<Option<Self>> {
        let mut notes = Notes::read(handles.juju.state()?);
        handles.tracing.clone_from(&notes.tracing);
        // A new revision does not trust the note of an older one.
        if *event == Event::UpgradeCharm {
            notes.peers = None;
        }
        if notes.peers.is_none() {
            notes.peers = handles.juju.relations(Endpoint::Peers)?.first().copied();
        }
        let Some(peers) = notes.peers else { return Ok(None) };
        Ok(Some(Self {
            unit,
            event,
            peers,
            trust: Trust::Full,
            counted,
            handles,
            notes,
            scram_login: None,
            parsed: Parsed::default(),
        }))
    }

    /// Sets which notes of earlier hooks are trusted.
    pub fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    /// The handles behind the view, for [`apply`](crate::apply) and [`hook`](crate::hook) only.
    pub fn handles(&mut self) -> &mut Handles {
        self.handles
    }

    /// The notes of this unit, for changes by [`apply`](crate::apply) and [`hook`](crate::hook)
    /// only.
    pub fn notes_mut(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// The notes of this unit.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The identity of this unit.
    pub fn unit(&self) -> &Unit {
        self.unit
    }

    /// The event of this dispatch.
    pub fn event(&self) -> &'a Event {
        self.event
    }

    /// Whether the hook may have missed relations of an endpoint, or may be the first of a new
    /// leader, which writes its app bag.
    pub fn is_first_for(&self, endpoint: Endpoint) -> bool {
        match self.event {
            Event::UpgradeCharm => true,
            Event::LeaderElected => !self.notes.of(endpoint).relations.is_empty(),
            _ => false,
        }
    }

    /// The relation event, if the hook belongs to this endpoint.
    pub fn event_of(&self, endpoint: Endpoint) -> Option<&'a RelationEvent> {
        self.event.of(endpoint)
    }

    /// The relation of this endpoint that this hook ends, if any.
    pub fn ended(&self, endpoint: Endpoint) -> Option<RelationId> {
        self.event.hook_of(endpoint, RelationHook::Broken).map(|event| event.relation)
    }

    /// The remote unit that departs from a relation of this endpoint, if this hook reports one.
    pub fn departing_from(&self, endpoint: Endpoint) -> Option<String> {
        let event = self.event.hook_of(endpoint, RelationHook::Departed);
        event.and_then(|event| event.remote_unit.clone())
    }

    /// The number of the peer relation.
    pub fn peers(&self) -> RelationId {
        self.peers
    }

    /// Which notes of earlier hooks are trusted.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Whether this version of Juju has secrets.
    pub fn has_secrets(&self) -> bool {
        self.unit.juju.has_secrets()
    }

    /// Whether this unit holds leadership.
    pub fn is_leader(&mut self) -> Result<bool> {
        if self.trust == Trust::Full && self.notes.following == Following::Yes {
            return Ok(false);
        }
        Ok(self.handles.juju.is_leader()?)
    }

    /// Whether this unit decides for the application. A leader that is being removed keeps its
    /// lease, but decides nothing: it sees its own relations end, not those of the other units.
    pub fn leads(&mut self) -> Result<bool> {
        Ok(self.notes.leaving == Leaving::No && self.is_leader()?)
    }

    /// Whether PgBouncer runs in a workload container; otherwise it runs on the charm's machine.
    pub fn is_sidecar(&self) -> bool {
        self.handles.paths.containers().is_dir()
    }

    /// This unit's DNS name.
    pub fn hostname(&self) -> String {
        let Unit { app, number, model, .. } = self.unit;
        let domain = self.handles.paths.cluster_domain(model);
        format!("{app}-{number}.{app}-endpoints.{model}.svc.{domain}")
    }

    /// The DNS name of a service in this model's namespace.
    pub fn service(&self, name: &str) -> String {
        let model = &self.unit.model;
        format!("{name}.{model}.svc.{}", self.handles.paths.cluster_domain(model))
    }

    /// The beginning of the comment on every role that this application creates in PostgreSQL. It
    /// identifies the application as the owner.
    pub fn comment_prefix(&self) -> String {
        format!("pgbouncer-k8s: model {}, application {}", self.unit.model_uuid, self.unit.app)
    }

    /// This unit's address on the network of the peer relation; `None` until Juju knows it.
    pub fn bind_address(&mut self) -> Result<Option<String>> {
        Ok(self.handles.juju.bind_address(Endpoint::Peers)?)
    }

    /// Probes this unit's PgBouncer: its version and paths.
    pub fn probe(&mut self) -> Result<Probe, ProbeError> {
        self.handles.workload.probe()
    }

    /// This unit's processes and what they have loaded, or why they cannot be probed.
    pub fn local(&mut self) -> Result<Result<LocalPgbouncer, Wait>> {
        // A pod has its own addresses; units on one machine must not share a port.
        let listen_addr =
            if self.is_sidecar() { Some("*".to_owned()) } else { self.bind_address()? };
        let Some(listen_addr) = listen_addr else {
            return Ok(Err(Wait::NotLoaded("waiting for this unit's address".into())));
        };
        let unit = match self.probe() {
            Ok(probe) => local::unit(probe, listen_addr),
            Err(error) => Err(error.into()),
        };
        Ok(unit.map(|unit| {
            let workload = &mut self.handles.workload;
            let is_counted = self.counted == Counted::Loaded;
            let mut loaded = |instance| workload.loaded(instance).filter(|_| is_counted);
            let loaded =
                (0..unit.processes()).map(|n| loaded(n).map(|loaded| loaded.digest)).collect();
            LocalPgbouncer { unit, loaded }
        }))
    }

    /// The version of this unit's PgBouncer; if the probe fails, the version last published.
    pub fn own_version(&mut self) -> Result<Option<Version>> {
        if let Ok(probe) = self.probe() {
            return Ok(Version::parse(&probe.version));
        }
        let noted = self.bag(Bag::PeerUnit)?.get(PGBOUNCER_VERSION);
        Ok(noted.and_then(|text| Version::parse(text)))
    }

    /// The configuration and users in this unit's files, from an earlier hook.
    pub fn kept(&mut self) -> Rc<Kept> {
        self.parsed.kept.get(self.handles.workload.saved(), |saved| Kept::read(saved.clone()))
    }

    /// The log targets of this unit's Pebble.
    pub fn forwarding(&mut self) -> Forwarding {
        self.handles.workload.forwarding()
    }

    /// Why Kubernetes sends no clients to this unit although everything is loaded.
    pub fn unhealthy(&mut self) -> Option<Wait> {
        self.handles.workload.unhealthy().map(Wait::Unhealthy)
    }

    /// The options in force, and the options that are invalid.
    pub fn options(&mut self) -> Result<ChosenOptions> {
        let wanted = self.wanted_options()?;
        let mut facts = OptionFacts {
            wanted,
            // A unit with another version omits the settings that its version does not know.
            version: self.own_version()?.unwrap_or(Version::NEWEST),
            refused_port: self.notes.refused_port,
            unmet_tls: Vec::new(),
            published: self.published()?.options(),
            kept: None,
            is_reachable: self.probe().is_ok(),
        };
        if let Ok(wanted) = &facts.wanted {
            let checked = self.checked_tls(&wanted.clone())?;
            facts.unmet_tls.clone_from(&checked.unmet);
        }
        if facts.published.is_none() {
            facts.kept =
                self.kept().config.as_ref().map(|config| Options::of(config.shared.clone()));
        }
        Ok(ChosenOptions::choose(facts))
    }

    /// The options that the operator set, or all that are invalid. Without news they are those that
    /// the leader published.
    fn wanted_options(&mut self) -> Result<Result<Options, Vec<InvalidOption>>> {
        if let Some(wanted) = &self.parsed.options {
            return Ok(wanted.clone());
        }
        let wanted = match self.noted_options()? {
            Some(options) => Ok(options),
            None => Options::parse(self.handles.juju.config()?),
        };
        Ok(self.parsed.options.insert(wanted).clone())
    }

    /// Checks the options about clients outside the cluster.
    pub fn check_exposure(&mut self) -> Result<Result<(), InvalidOption>> {
        if self.noted_options()?.is_some() {
            return Ok(Ok(()));
        }
        Ok(Options::check_exposure(self.handles.juju.config()?))
    }

    /// The published options, if they are still those that this leader published.
    fn noted_options(&mut self) -> Result<Option<Options>> {
        if self.trust != Trust::Full || *self.event == Event::ConfigChanged {
            return Ok(None);
        }
        let Some(noted) = self.notes.options.clone() else { return Ok(None) };
        Ok(self.published()?.options().filter(|options| options.digest() == noted))
    }

    /// Notes the options for later hooks, if all are valid and published.
    pub fn note_options(&mut self) -> Result<()> {
        let wanted = self.wanted_options()?.ok().filter(|_| self.notes.refused_port.is_none());
        let is_valid = self.check_exposure()?.is_ok();
        let published =
            self.published()?.options().filter(|options| wanted.as_ref() == Some(options));
        self.notes.options = published.filter(|_| is_valid).map(|options| options.digest());
        Ok(())
    }

    /// Number of recorded attempts to answer this client; each may have failed.
    pub fn attempts(&self, relation: RelationId) -> usize {
        self.handles.attempts.count(relation)
    }

    /// Generates a password of 24 letters and digits (142 bits), the form that the Python charm
    /// uses too.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes passwords")]
    pub fn fresh_password(&self) -> Secret {
        Secret::new(Alphanumeric.sample_string(&mut rand::rng(), 24))
    }

    /// Generates a salt for a SCRAM verifier, or another number that must be unique.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes salts")]
    pub fn fresh_salt(&self) -> [u8; 16] {
        rand::random()
    }
}

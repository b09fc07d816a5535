//! The decision of an endpoint: the steps in their order, and the reasons why work is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::event::{Endpoint, RelationId};
use crate::notes::{CertificateNote, ClientNote, ClientNotes, EndpointNote, TracingNote};
use crate::postgres::Roles;
use crate::secret::Secret;
use crate::status::{ClientName, Wait};
use crate::workload::{Files, LogTargets};

/// The decision of one endpoint.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, performed from first to last. A change outside Juju comes before the databag
    /// value that reports it; otherwise other units would act on a change that may have failed.
    pub steps: Vec<Step>,
    /// Why the endpoint has work left. The next dispatch runs an endpoint with waits again.
    pub waits: Vec<Wait>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes one change. If the change is not possible yet, the plan gets a wait and skips its
    /// remaining steps.
    Do(Effect),
    /// Runs a part that may fail independently: the following steps run in any case.
    Apart(Plan),
    /// Writes the files and makes each process load them, one process after another.
    Load {
        /// The files.
        files: Box<Files>,
        /// The plan that replaces the remaining steps if a process cannot listen on its port. With
        /// `None`, a refused port is a wait like any other failed load.
        without_port: Option<Box<Plan>>,
    },
}

/// One change to a databag, a secret, PostgreSQL or this unit. Every effect is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Writes a databag key. Juju commits it with the hook; an equal value changes nothing.
    Set(Bag, String, Value),
    /// Replaces the content of the app secret with the label `pgb-peers.<app>.app`.
    SetPeerSecret {
        /// All fields.
        content: BTreeMap<String, Secret>,
        /// The URI of an older layout's secret, which is relabelled instead of adding a new secret.
        adopt: Option<String>,
    },
    /// Replaces the content of this unit's own secret with the label `pgb-peers.<app>.unit`.
    SetUnitSecret {
        /// All fields.
        content: BTreeMap<String, Secret>,
        /// The URI of an older layout's secret, which is relabelled instead of adding a new secret.
        adopt: Option<String>,
    },
    /// Replaces the content of the secret `database.<id>.<group>.secret`, grants the secret to the
    /// relation and sets its URI under `secret-<group>` in our app bag.
    SetClientSecret(RelationId, &'static str, BTreeMap<String, Secret>),
    /// Removes one revision of our secret, if the secret still exists.
    RemoveSecretRevision {
        /// The bare id of the secret.
        id: String,
        /// A revision that no unit reads any more.
        revision: u64,
    },
    /// Creates or repairs the role with which PgBouncer looks up verifiers.
    EnsureAuthRole {
        /// The name of the role.
        role: String,
        /// The role's password, or the md5 verifier that an older charm kept in the user list.
        secret: Secret,
        /// The salt of the SCRAM verifier. A stored verifier that fits the password is kept.
        salt: [u8; 16],
        /// The comment on the role, which says to which model and relation it belongs.
        comment: String,
    },
    /// Removes the auth role, and `get_auth` from every database.
    RemoveAuth {
        /// The name of the role.
        role: String,
        /// The comment that identifies the role as ours; a role with another comment stays.
        comment: String,
    },
    /// Installs the function `get_auth`, which returns verifiers to the auth role.
    InstallGetAuth {
        /// The databases; names that do not exist are skipped.
        databases: Vec<String>,
        /// The auth role, which may execute the function.
        auth_user: String,
    },
    /// Creates or repairs a client's database and role.
    EnsureClient(NewClient),
    /// Waits a few seconds until `pg_hba.conf` admits these roles to these databases.
    AwaitAdmission {
        /// Pairs of role and database.
        logins: Vec<(String, String)>,
        /// The value for `rounds` in the peer app bag if a role is not admitted in time; writing
        /// it wakes the leader for another try. With `None` this is the last try.
        next_round: Option<u32>,
    },
    /// Drops the roles of clients whose relations ended while PostgreSQL was unreachable.
    DropStrays {
        /// The beginning of the comment on every client role of this application.
        comment_prefix: String,
        /// The roles of existing clients.
        keep: Vec<String>,
    },
    /// Drops a client's role and reassigns its objects to the charm's own user.
    DropClient {
        /// The name of the role.
        role: String,
        /// The comment that identifies the role as ours; a role with another comment stays.
        comment: String,
    },
    /// Removes the entry of an ended relation from `pgb_dbs_config`, and its secrets.
    ForgetClient(RelationId),
    /// Records on this unit's disk that this hook is about to answer a client. Juju's state cannot
    /// hold this record: Juju discards the state of a hook that fails.
    NoteAttempt(RelationId),
    /// Clears the records of [`Effect::NoteAttempt`].
    ClearAttempts,
    /// Opens a port in Juju.
    OpenPort {
        /// The port to open.
        port: u16,
        /// The previous port, which is closed.
        close: Option<u16>,
    },
    /// Makes Pebble forward the output of every process to exactly these targets.
    ForwardLogs(LogTargets),
    /// Sets the workload version that `juju status` shows.
    SetVersion(String),
    /// Stores a note for later hooks of this unit.
    Note(Note),
    /// Logs a warning for the operator.
    Warn(String),
}

/// A change to the [`Notes`](crate::notes::Notes) of this unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The port that is open in Juju.
    OpenPort(u16),
    /// Replaces the notes on all clients with work left.
    Clients(ClientNotes),
    /// Why a client has work left.
    Client(RelationId, ClientNote),
    /// The relations of an endpoint.
    Endpoint(Endpoint, EndpointNote),
    /// Where hooks send their traces; `None` for nowhere.
    Tracing(Option<TracingNote>),
    /// The relations of `logging` with their URLs.
    LogUrls(BTreeMap<RelationId, BTreeSet<String>>),
    /// This unit's certificate.
    Certificate(CertificateNote),
    /// The client has no work left.
    ClientDone(RelationId),
}

/// The wanted state of a client's database and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClient {
    /// The client, for messages.
    pub client: ClientName,
    /// The name of the role.
    pub role: String,
    /// The name of the database.
    pub database: String,
    /// The role's password; PostgreSQL gets a SCRAM verifier of it.
    pub password: Secret,
    /// The salt of that verifier. A stored verifier that fits the password is kept.
    pub salt: [u8; 16],
    /// The comment on the role, which says to which model and relation it belongs.
    pub comment: String,
    /// A role of this name without a comment belongs to this client: the Python charm created it.
    pub known: bool,
    /// The attributes and memberships that the client requested.
    pub roles: Roles,
    /// The client has its credentials.
    pub is_answered: bool,
}

/// A databag that this unit may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bag {
    /// The application's bag of `pgb-peers`; only the leader writes it.
    PeerApp,
    /// This unit's bag of `pgb-peers`.
    PeerUnit,
    /// The application's bag of another relation; only the leader writes it.
    App(RelationId),
    /// This unit's bag of another relation.
    Unit(RelationId),
}

/// The new value of a databag key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text that logs may show.
    Text(String),
    /// A text that logs must not show: models without secrets keep passwords in databags.
    Secret(Secret),
    /// No value: the key is removed.
    Absent,
}

impl Plan {
    /// A plan without steps that waits.
    pub fn waiting(wait: Wait) -> Self {
        Self::default().wait(wait)
    }

    /// Adds a wait, the flowcharts' "defer": `apply` performs the steps so far, and the next
    /// dispatch runs the endpoint again.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.waits.push(wait);
        self
    }

    /// Adds a step that sets a databag key.
    pub fn set(&mut self, bag: Bag, key: impl Into<String>, value: impl Into<Value>) {
        self.push(Effect::Set(bag, key.into(), value.into()));
    }

    /// Adds a step with this effect.
    pub fn push(&mut self, effect: Effect) {
        self.steps.push(Step::Do(effect));
    }

    /// Adds a step that stores a note.
    pub fn note(&mut self, note: Note) {
        self.push(Effect::Note(note));
    }

    /// Adds a part that may fail independently; an empty part adds nothing.
    pub fn push_apart(&mut self, part: Self) {
        if part != Self::default() {
            self.steps.push(Step::Apart(part));
        }
    }

    /// Adds the steps and waits of another plan.
    pub fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.waits.extend(other.waits);
    }

    /// Whether the plan makes processes load their files.
    pub fn loads(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Load { .. } => true,
            Step::Apart(part) => part.loads(),
            Step::Do(_) => false,
        })
    }

    /// All effects in order, including those of independent parts.
    pub fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.steps.iter().flat_map(|step| -> Box<dyn Iterator<Item = &Effect>> {
            match step {
                Step::Do(effect) => Box::new(std::iter::once(effect)),
                Step::Apart(part) => Box::new(part.effects()),
                Step::Load { .. } => Box::new(std::iter::empty()),
            }
        })
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Secret> for Value {
    fn from(secret: Secret) -> Self {
        Self::Secret(secret)
    }
}

/// Writes one line for each step and each wait, without any secret.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Do(effect) => writeln!(f, "{effect}")?,
                Step::Apart(part) => write!(f, "{part}")?,
                Step::Load { files, without_port } => {
                    let (users, processes) = (files.users.0.len(), files.instances.len());
                    writeln!(f, "load {users} users into {processes} processes")?;
                    let otherwise = without_port.as_ref().map(ToString::to_string);
                    for line in otherwise.iter().flat_map(|plan| plan.lines()) {
                        writeln!(f, "without port {}: {line}", files.port)?;
                    }
                }
            }
        }
        self.waits.iter().try_for_each(|wait| writeln!(f, "wait: {wait}"))
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(bag, key, Value::Text(text)) if text.contains('\n') || text.len() > 60 => {
                write!(f, "set {bag} {key} = ‹{} bytes›", text.len())
            }
            Self::Set(bag, key, Value::Text(text)) => write!(f, "set {bag} {key} = {text}"),
            Self::Set(bag, key, Value::Secret(secret)) => write!(f, "set {bag} {key} = {secret}"),
            Self::Set(bag, key, Value::Absent) => write!(f, "remove {bag} {key}"),
            Self::SetPeerSecret { content, adopt } => {
                write!(f, "set the peer secret: {}", Fields(content))?;
                adopt.as_ref().map_or(Ok(()), |_| f.write_str(", adopting the old one"))
            }
            Self::SetUnitSecret { content, adopt } => {
                write!(f, "set the unit's secret: {}", Fields(content))?;
                adopt.as_ref().map_or(Ok(()), |_| f.write_str(", adopting the old one"))
            }
            Self::SetClientSecret(relation, group, content) => {
                write!(f, "set the secret database.{relation}.{group}: {}", Fields(content))
            }
            Self::RemoveSecretRevision { id, revision } => {
                write!(f, "remove revision {revision} of secret {id}")
            }
            Self::EnsureAuthRole { role, .. } => write!(f, "make the auth role {role}"),
            Self::InstallGetAuth { databases, auth_user } => {
                write!(f, "install get_auth for {auth_user} in {}", databases.join(", "))
            }
            Self::RemoveAuth { role, .. } => {
                write!(f, "remove the auth role {role} and its get_auth")
            }
            Self::AwaitAdmission { logins, .. } => {
                let roles: Vec<_> =
                    logins.iter().map(|(role, database)| format!("{role} to {database}")).collect();
                write!(f, "wait until PostgreSQL admits {}", roles.join(", "))
            }
            Self::DropStrays { .. } => f.write_str("drop the roles of removed clients"),
            Self::EnsureClient(client) => {
                write!(f, "make the database {:?} and the role {}", client.database, client.role)
            }
            Self::DropClient { role, .. } => write!(f, "drop the role {role}"),
            Self::ForgetClient(relation) => write!(f, "remove the entry of database:{relation}"),
            Self::NoteAttempt(relation) => {
                write!(f, "record an attempt to answer database:{relation}")
            }
            Self::ClearAttempts => f.write_str("clear the records of attempted answers"),
            Self::OpenPort { port, close } => {
                write!(f, "open port {port}")?;
                close.map_or(Ok(()), |close| write!(f, " and close {close}"))
            }
            Self::ForwardLogs(LogTargets { urls, .. }) if urls.is_empty() => {
                f.write_str("stop forwarding logs")
            }
            Self::ForwardLogs(LogTargets { urls, .. }) => {
                let urls: Vec<_> = urls.iter().map(String::as_str).collect();
                write!(f, "forward logs to {}", urls.join(", "))
            }
            Self::SetVersion(version) => write!(f, "set the workload version to {version}"),
            Self::Note(note) => write!(f, "note {note}"),
            Self::Warn(text) => write!(f, "warn: {text}"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenPort(port) => write!(f, "open port {port}"),
            Self::Clients(ClientNotes { notes, .. }) if notes.is_empty() => {
                f.write_str("no clients")
            }
            Self::Clients(ClientNotes { notes, .. }) => {
                let clients: Vec<_> =
                    notes.iter().map(|(id, note)| format!("{id} {note:?}")).collect();
                write!(f, "clients {}", clients.join(", "))
            }
            Self::Client(relation, note) => write!(f, "client {relation} {note:?}"),
            Self::Endpoint(endpoint, EndpointNote { relations, published }) => {
                write!(f, "{endpoint}: relations {relations:?}")?;
                if published.is_empty() { Ok(()) } else { write!(f, ", published {published}") }
            }
            Self::Tracing(Some(TracingNote { relation, url, .. })) => {
                write!(f, "tracing:{relation} at {url}")
            }
            Self::Tracing(None) => f.write_str("no tracing"),
            Self::LogUrls(relations) => write!(f, "relations of logging {relations:?}"),
            Self::Certificate(note) => write!(f, "certificate {note:?}"),
            Self::ClientDone(relation) => write!(f, "client {relation} is done"),
        }
    }
}

/// Shows the names of a secret's fields, without their values.
struct Fields<'a>(&'a BTreeMap<String, Secret>);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Bag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerApp => f.write_str("peer app"),
            Self::PeerUnit => f.write_str("peer unit"),
            Self::App(relation) => write!(f, "app {relation}"),
            Self::Unit(relation) => write!(f, "unit {relation}"),
        }
    }
}

//! What an endpoint decided: steps in the order in which they are done, and what it waits for.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::RelationId;
use crate::notes::{ClientNote, ClientNotes};
use crate::postgres::Roles;
use crate::secret::Secret;
use crate::status::Wait;
use crate::workload::Files;

/// The decision of one endpoint.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Done from first to last. Changes outside Juju stand before what reports them to others.
    pub steps: Vec<Step>,
    /// Why the endpoint has work left. It is run again in the next dispatch.
    pub waits: Vec<Wait>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A change. Where it cannot be made yet, that is waited for, and the rest of this plan is left
    /// out.
    Do(Effect),
    /// A part that may fail apart from the rest: the next step is done whatever becomes of it.
    Apart(Plan),
    /// A change that is made only while this plan waits for nothing.
    Finally(Effect),
    /// Puts the files in place and lets each process load them, one after another.
    Load {
        /// The files.
        files: Box<Files>,
        /// What is done instead of the rest where a process cannot have its port. Without it that is
        /// waited for, as for any other load that fails.
        without_port: Option<Box<Plan>>,
    },
}

/// One change to the world. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Writes a databag key; committed with the hook. Setting what is already there changes nothing.
    Set(Bag, String, Value),
    /// Makes the app secret `pgb-peers.<app>.app` hold exactly this, under that label.
    SetPeerSecret {
        /// All fields.
        content: BTreeMap<String, Secret>,
        /// An older layout's secret that is to become this one instead of a new secret.
        adopt: Option<String>,
    },
    /// Makes the secret `database.<id>.<group>.secret` hold exactly this, grants it to the relation
    /// and puts its URI under `secret-<group>` in our app bag.
    SetClientSecret(RelationId, &'static str, BTreeMap<String, Secret>),
    /// Removes one revision of a secret of ours, if it is still there.
    RemoveSecretRevision {
        /// The secret.
        id: String,
        /// The revision nobody reads any more.
        revision: u64,
    },
    /// Makes the role PgBouncer asks verifiers as.
    EnsureAuthRole {
        /// Its name.
        role: String,
        /// Its password, or the md5 verifier that an older charm kept in the user list instead.
        secret: Secret,
        /// The salt of the SCRAM verifier. A verifier that fits the password is kept.
        salt: [u8; 16],
        /// Whose role it is, kept in PostgreSQL.
        comment: String,
    },
    /// Removes that role, and `get_auth` from every database.
    RemoveAuth {
        /// The role's name.
        role: String,
        /// The comment it must carry to be ours.
        comment: String,
    },
    /// Installs `get_auth` for the auth role.
    InstallGetAuth {
        /// In these databases, those of them that exist.
        databases: Vec<String>,
        /// Who may ask it.
        auth_user: String,
    },
    /// Makes a client's database and role.
    EnsureClient(NewClient),
    /// Waits a few seconds until PostgreSQL lets these roles into these databases.
    AwaitAdmission {
        /// Roles and databases.
        logins: Vec<(String, String)>,
        /// What is written under `rounds` of the peer app bag where it does not, to wake the leader
        /// again; with nothing the wait is over, whether it does or not.
        next_round: Option<u32>,
    },
    /// Drops the roles of clients whose relations ended while nobody could drop them.
    DropStrays {
        /// How the comment on our clients' roles begins.
        mark: String,
        /// The roles of clients that are there.
        keep: Vec<String>,
    },
    /// Drops a client's role. What it owned stays and belongs to us.
    DropClient {
        /// Its name.
        role: String,
        /// The mark a role must carry to be ours.
        comment: String,
    },
    /// Takes the entry of a relation that is gone out of `pgb_dbs_config`, and removes what held its credentials.
    ForgetClient(RelationId),
    /// Notes on this unit's disk that a client is about to be answered: what Juju keeps forgets it if the hook
    /// fails.
    NoteAttempt(RelationId),
    /// Clears these notes.
    ClearAttempts,
    /// Has Juju let clients in on this port, and no longer on another one.
    OpenPort {
        /// The port.
        port: u16,
        /// The one before.
        close: Option<u16>,
    },
    /// Shows everybody which PgBouncer this application runs.
    SetVersion(String),
    /// Notes something for this unit's later hooks.
    Note(Note),
    /// Tells the operator, by the log, what the charm cannot do.
    Warn(String),
}

/// Something to note for this unit's later hooks, see [`Notes`](crate::notes::Notes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Juju lets clients in on this port.
    OpenPort(u16),
    /// All clients that are not done.
    Clients(ClientNotes),
    /// Why a client is not done.
    Client(RelationId, ClientNote),
    /// The client is done.
    ClientDone(RelationId),
}

/// A client's database and role, as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClient {
    /// The relation, for messages.
    pub relation: RelationId,
    /// The role.
    pub role: String,
    /// The database.
    pub database: String,
    /// The role's password; PostgreSQL gets a SCRAM verifier of it.
    pub password: Secret,
    /// The salt of that verifier. A verifier that fits the password is kept.
    pub salt: [u8; 16],
    /// Whose role it is, kept in PostgreSQL.
    pub comment: String,
    /// A role of this name without a comment is this client's: an older charm made it.
    pub known: bool,
    /// What the role is beside.
    pub roles: Roles,
    /// Nobody else asked for the database.
    pub alone: bool,
    /// It has its credentials.
    pub is_answered: bool,
}

/// A databag this unit may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bag {
    /// The application's bag of `pgb-peers`; the leader writes it.
    PeerApp,
    /// This unit's bag of `pgb-peers`.
    PeerUnit,
    /// The application's bag of another relation; the leader writes it.
    App(RelationId),
    /// This unit's bag of another relation.
    Unit(RelationId),
}

/// What a databag key is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// This text.
    Text(String),
    /// A text that is not shown: models without secrets keep passwords in databags.
    Secret(Secret),
    /// Nothing: the key goes.
    Absent,
}

impl Plan {
    /// A plan that does nothing but wait.
    pub fn waiting(wait: Wait) -> Self {
        Self::default().wait(wait)
    }

    /// The flowcharts' "defer": what was planned so far is done, and the endpoint is run again.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.waits.push(wait);
        self
    }

    /// Sets a databag key.
    pub fn set(&mut self, bag: Bag, key: impl Into<String>, value: impl Into<Value>) {
        self.push(Effect::Set(bag, key.into(), value.into()));
    }

    /// Adds an effect.
    pub fn push(&mut self, effect: Effect) {
        self.steps.push(Step::Do(effect));
    }

    /// Adds a note.
    pub fn note(&mut self, note: Note) {
        self.push(Effect::Note(note));
    }

    /// Adds a part that may fail apart from the rest.
    pub fn push_apart(&mut self, part: Self) {
        if part != Self::default() {
            self.steps.push(Step::Apart(part));
        }
    }

    /// Adds another plan's steps and waits.
    pub fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.waits.extend(other.waits);
    }

    /// All effects, those of parts included, in order.
    pub fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.steps.iter().flat_map(|step| -> Box<dyn Iterator<Item = &Effect>> {
            match step {
                Step::Do(effect) | Step::Finally(effect) => Box::new(std::iter::once(effect)),
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

/// One line for each step and each wait; no secret in any of them.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Do(effect) => writeln!(f, "{effect}")?,
                Step::Apart(part) => write!(f, "{part}")?,
                Step::Finally(effect) => writeln!(f, "finally: {effect}")?,
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
                adopt.as_ref().map_or(Ok(()), |_| f.write_str(", taking over the old one"))
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
            Self::RemoveAuth { role, .. } => write!(f, "remove the auth role {role} and its get_auth"),
            Self::AwaitAdmission { logins, .. } => {
                let roles: Vec<_> =
                    logins.iter().map(|(role, database)| format!("{role} into {database}")).collect();
                write!(f, "wait until PostgreSQL lets {}", roles.join(", "))
            }
            Self::DropStrays { .. } => f.write_str("drop the roles of clients that are gone"),
            Self::EnsureClient(client) => {
                write!(f, "make the database {:?} and the role {}", client.database, client.role)
            }
            Self::DropClient { role, .. } => write!(f, "drop the role {role}"),
            Self::ForgetClient(relation) => write!(f, "forget the client of database:{relation}"),
            Self::NoteAttempt(relation) => write!(f, "note that database:{relation} is about to be answered"),
            Self::ClearAttempts => f.write_str("clear the notes of who was about to be answered"),
            Self::OpenPort { port, close } => {
                write!(f, "open port {port}")?;
                close.map_or(Ok(()), |close| write!(f, " and close {close}"))
            }
            Self::SetVersion(version) => write!(f, "show the version {version}"),
            Self::Note(note) => write!(f, "note {note}"),
            Self::Warn(text) => write!(f, "warn: {text}"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenPort(port) => write!(f, "open port {port}"),
            Self::Clients(ClientNotes { notes, .. }) if notes.is_empty() => f.write_str("no clients"),
            Self::Clients(ClientNotes { notes, .. }) => {
                let clients: Vec<_> = notes.iter().map(|(id, note)| format!("{id} {note:?}")).collect();
                write!(f, "clients {}", clients.join(", "))
            }
            Self::Client(relation, note) => write!(f, "client {relation} {note:?}"),
            Self::ClientDone(relation) => write!(f, "client {relation} is done"),
        }
    }
}

/// The names of a secret's fields.
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

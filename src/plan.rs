//! What a handler decided: effects in order, and what it still waits for.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::{Endpoint, RelationId};
use crate::options::InvalidOption;
use crate::postgres::Roles;
use crate::secret::Secret;
use crate::workload::{Files, ProbeError};

/// The decision of one handler.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Applied from first to last. Outside effects stand before what tells others of them.
    pub effects: Vec<Effect>,
    /// Applied after the effects, each as a plan of its own: where one cannot be done, the next still is.
    pub parts: Vec<Plan>,
    /// Applied at the end, if nothing before them is waited for.
    pub last: Vec<Effect>,
    /// Why the handler has work left. It runs again at the start of the next dispatch.
    pub waits: Vec<Wait>,
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
    /// Waits a few seconds until PostgreSQL lets these roles into these databases, and then comes back later.
    AwaitAdmission {
        /// Roles and databases.
        logins: Vec<(String, String)>,
        /// How often this has been waited for.
        round: u32,
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
    /// Puts the files in place and lets each process load them, one after another.
    Load(Files),
    /// Keeps a value in the unit's state, which survives the pod.
    Remember(&'static str, String),
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

/// A databag as it is read: texts by key.
pub type Texts = BTreeMap<String, String>;

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

/// Why something is not done yet. What a person reads of it, and which one first, is in [`crate::status`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// Nothing is known of this unit's PgBouncer.
    Probe(ProbeError),
    /// `pgb-peers` is not there yet.
    Peers,
    /// The options cannot be used.
    Options(InvalidOption),
    /// PostgreSQL cannot be reached, with the reason.
    Unreachable(String),
    /// PostgreSQL or the state of its roles does not allow what we need, with the reason.
    Refused(String),
    /// `backend-database` is there, its credentials are not.
    Backend,
    /// There is no `backend-database`, or in the peer relation's first hook not what comes of it.
    NoBackend,
    /// A follower has nothing to serve yet.
    Leader,
    /// A published value cannot be used, with its key and the reason.
    Published(&'static str, String),
    /// PgBouncer has not confirmed that it runs what it should, with the reason.
    NotLoaded(String),
    /// Everything is loaded, and clients are not sent here, with the reason.
    Unhealthy(String),
    /// These units have not loaded the database of a new client yet.
    Units(Vec<String>),
    /// PostgreSQL's `pg_hba.conf` has no line yet for this role.
    Admission(String),
    /// A client asks for something it cannot have, with the reason.
    Client(RelationId, String),
    /// Twice the hook that was to answer this client failed.
    Attempts(RelationId),
    /// A relation this charm does not serve yet.
    NotBuilt(Endpoint),
}

impl Plan {
    /// A plan that does nothing but come back.
    pub fn waiting(wait: Wait) -> Self {
        Self::default().wait(wait)
    }

    /// The flowcharts' "defer": what was planned so far is done, and the handler runs again.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.waits.push(wait);
        self
    }

    /// Sets a databag key.
    pub fn set(&mut self, bag: Bag, key: impl Into<String>, value: impl Into<Value>) {
        self.effects.push(Effect::Set(bag, key.into(), value.into()));
    }

    /// Adds an effect.
    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Adds another plan's effects, parts and waits.
    pub fn append(&mut self, other: Self) {
        self.effects.extend(other.effects);
        self.parts.extend(other.parts);
        self.last.extend(other.last);
        self.waits.extend(other.waits);
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

/// One line for each effect and each wait; no secret in any of them.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for effect in &self.effects {
            writeln!(f, "{effect}")?;
        }
        for part in &self.parts {
            part.fmt(f)?;
        }
        for effect in &self.last {
            writeln!(f, "at last: {effect}")?;
        }
        for wait in &self.waits {
            writeln!(f, "wait: {wait}")?;
        }
        Ok(())
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
            Self::Remember(key, value) => write!(f, "remember {key} = {value}"),
            Self::Load(load) => {
                write!(f, "load {} users into {} processes", load.users.0.len(), load.instances.len())
            }
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

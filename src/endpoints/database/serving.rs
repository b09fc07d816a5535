//! The state of PostgreSQL that decides whether clients can be served.

use anyhow::Result;

use crate::facts::lookup::Lookup;
use crate::look::Look;
use crate::status::Wait;

/// The state of PostgreSQL, for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServingBackend {
    /// No client waits for PostgreSQL, so its state was not gathered.
    NotNeeded,
    /// PostgreSQL is not usable yet.
    Waiting(Wait),
    /// PgBouncer's users and the lookup are installed.
    Ready {
        /// PostgreSQL's version, as published to clients.
        version: Option<String>,
        /// The way in which PgBouncer looks up passwords.
        lookup: Lookup,
    },
}

impl ServingBackend {
    /// Reads the relation, the users and the note. Connects to PostgreSQL only if it does not
    /// report its version.
    pub fn gather(look: &mut Look<'_>) -> Result<Self> {
        let Some(backend) = look.backend()? else { return Ok(Self::Waiting(Wait::NoBackend)) };
        let users = look.users()?;
        let Some(auth_user) = users.auth_user() else { return Ok(Self::Waiting(Wait::Backend)) };
        let lookup = look.lookup(&backend, auth_user)?;
        if !look.is_noted(&lookup)? {
            return Ok(Self::Waiting(Wait::Backend));
        }
        let version = match backend.version_text() {
            Some(version) => Some(version.to_owned()),
            None => match look.server()? {
                Ok(server) => server.server_version().ok(),
                Err(wait) => return Ok(Self::Waiting(wait)),
            },
        };
        Ok(Self::Ready { version, lookup })
    }
}

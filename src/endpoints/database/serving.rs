//! What serving clients needs of PostgreSQL.

use anyhow::Result;

use crate::facts::lookup::{Lookup, Noted};
use crate::look::Look;
use crate::status::Wait;

/// PostgreSQL, as far as clients need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServingBackend {
    /// No client waits for it, so it was not looked at.
    NotNeeded,
    /// It cannot be used yet.
    Waiting(Wait),
    /// PgBouncer's users are made: PostgreSQL has let us in once.
    Ready {
        /// Its version, as clients are told.
        version: Option<String>,
        /// Where PgBouncer looks up passwords.
        lookup: Lookup,
    },
}

impl ServingBackend {
    /// Reads the relation, the users and the note; connects only to a PostgreSQL that does not
    /// report its version.
    pub fn gather(look: &mut Look<'_>) -> Result<Self> {
        let Some(backend) = look.backend()? else { return Ok(Self::Waiting(Wait::NoBackend)) };
        let users = look.users()?;
        let Some(auth_user) = users.auth_user() else { return Ok(Self::Waiting(Wait::Backend)) };
        let lookup = look.lookup(&backend, auth_user)?;
        if look.noted(&lookup)? == Noted::Nothing {
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

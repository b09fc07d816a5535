//! Why PostgreSQL, or PgBouncer in its protocol, did not do what it was asked.

use std::{error::Error as _, io, iter, time::Duration};

/// Why there was no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The other side is silent.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// No connection, or an error the server reports.
    #[error("{}", described(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// The runtime could not be made: no file descriptors left, or no memory.
    #[error("cannot wait for an answer: {0}")]
    Runtime(#[from] io::Error),
}

impl ConnectionError {
    /// Whether the connection is of no use any more.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Silent(_) | Self::Runtime(_) => true,
            Self::Sql(error) => error.as_db_error().is_none(),
        }
    }
}

/// The server does not let us in.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to database {database} of PostgreSQL at {hosts} as {user}: {source}")]
pub struct Unreachable {
    /// All hosts that were tried, with ports.
    pub hosts: String,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// Why not.
    pub source: ConnectionError,
}

/// The server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It does not let us in.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The role was made by somebody else.
    #[error(
        "drop or rename role {role} in PostgreSQL: it is not ours, or an earlier revision left it; ours carries \
         the comment \"{comment}\""
    )]
    RoleNotOurs {
        /// The role.
        role: String,
        /// The comment it had to carry.
        comment: String,
    },
    /// A client asked for roles that it cannot have.
    #[error("invalid role(s) for extra user roles: {roles}; remove the relation or ask for others")]
    InvalidRoles {
        /// The roles, with commas between.
        roles: String,
    },
    /// A database of somebody else's making holds what could mislead a superuser.
    #[error(
        "cannot use database {database}: in its schema public are functions or operators that no superuser made, or \
         PostgreSQL's own are gone; ask for another database, or have them removed"
    )]
    Touched {
        /// The database.
        database: String,
    },
    /// A statement failed.
    #[error("cannot {what}: {source}")]
    Statement {
        /// What was to be done, without any secret.
        what: String,
        /// What the server answered.
        source: ConnectionError,
    },
}

impl Refused {
    pub(super) fn not_ours(role: &str, comment: &str) -> Self {
        Self::RoleNotOurs { role: role.to_owned(), comment: comment.to_owned() }
    }

    /// Whether the connection is of no use any more.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if source.is_lost())
    }
}

/// The server's own words where there are some; never the statement, which may hold a verifier.
fn described(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    let mut words = error.to_string();
    for cause in iter::successors(error.source(), |&cause| cause.source()) {
        words = format!("{words}: {cause}");
    }
    // The library tells the kind of its errors by words alone.
    if words.starts_with("error performing TLS handshake") {
        words += "; give PostgreSQL TLS 1.2 or later and a certificate of X.509 version 3 with a key of RSA \
                  (2048 bits or more), P-256, P-384 or Ed25519, or turn its TLS off";
    }
    words
}

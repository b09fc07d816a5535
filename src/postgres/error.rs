//! Errors of PostgreSQL, and of PgBouncer, which speaks the same protocol.

use std::{error::Error as _, io, iter, time::Duration};

use tokio_postgres::error::SqlState;

use super::method::Method;

/// The class of SQLSTATE codes for refused logins.
const INVALID_AUTHORIZATION: &str = "28";

/// The remedy where nothing answers.
const CHECK: &str = "; check that PostgreSQL runs";

/// Why a connection gave no answer, or an error.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The server does not answer in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// PostgreSQL has published no host.
    #[error("no host is known")]
    NoHost,
    /// The server is a replica.
    #[error("it accepts no changes; check that PostgreSQL has a primary")]
    ReadOnly,
    /// There is no connection, or the server reports an error.
    #[error("{}", described(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// The process has no file descriptors or memory left for the runtime.
    #[error("cannot wait for an answer: {0}")]
    Runtime(io::Error),
    /// The socket cannot be used.
    #[error("{0}")]
    Socket(io::Error),
    /// The server has no TLS, and the charm demands it. Nothing was sent.
    #[error("the server offers no TLS; turn it on there, or set server_tls_sslmode to prefer")]
    NoTls,
    /// The server's certificate is not one that the charm accepts. Nothing was sent.
    #[error(
        "the server's certificate is refused: {0}; check the certificate of PostgreSQL and the \
         option server_tls_sslmode"
    )]
    Certificate(&'static str),
    /// The server asks for the password in clear, and the connection has no TLS. Nothing was sent.
    #[error(
        "the server asks for the password in clear without TLS; use scram-sha-256 for this role in \
         pg_hba.conf of PostgreSQL, or turn on its TLS"
    )]
    ClearPassword,
    /// The server asks for less than SCRAM, by which it let the charm in before. Nothing was sent.
    #[error(
        "the server asks for {0}, and used SCRAM before; check that PostgreSQL listens there; use \
         scram-sha-256 for this role in pg_hba.conf and in its password, or relate to PostgreSQL \
         anew"
    )]
    NotScram(Method),
    /// The server asks for an amount of work that would hold up the hook.
    #[error(
        "the server asks for too many iterations of SCRAM; set the password again with \
         scram_iterations = 4096"
    )]
    TooManyIterations,
    /// The server announces a message that the charm does not read. Lengths in bytes.
    #[error(
        "the server announces a message of {length} bytes, and {longest} are the limit; check that \
         PostgreSQL listens there"
    )]
    MessageTooLong {
        /// The announced length.
        length: usize,
        /// The limit.
        longest: usize,
    },
    /// The server sends more than the charm keeps of one answer.
    #[error(
        "the server's answer is longer than the charm reads; check that PostgreSQL listens there"
    )]
    AnswerTooLong,
}

impl ConnectionError {
    /// What a refused login means. PostgreSQL's charm removes our user in a hook of its own, which
    /// may come before ours.
    fn guess(&self) -> &'static str {
        let code = match self {
            Self::Sql(error) => error.code().map(SqlState::code),
            _ => None,
        };
        if code.is_some_and(|code| code.starts_with(INVALID_AUTHORIZATION)) {
            "the relation is ending, or this user was changed (then relate anew): "
        } else {
            ""
        }
    }

    /// What to do, after a reason that does not say so itself.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Sql(error) if is_of_tls(error) || !self.guess().is_empty() => "",
            Self::Sql(error) if error.as_db_error().is_some() => "; see PostgreSQL's log",
            Self::Silent(_) | Self::NoHost | Self::Runtime(_) | Self::Socket(_) | Self::Sql(_) => {
                CHECK
            }
            _ => "",
        }
    }

    /// Whether the connection can no longer be used.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Sql(error) => error.as_db_error().is_none(),
            _ => true,
        }
    }
}

/// The charm could not connect or log in.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot connect to database {database} of PostgreSQL at {hosts} as {user}: {}{source}{}",
    source.guess(),
    source.remedy()
)]
pub struct Unreachable {
    /// The first host, with its port, and the number of others.
    pub hosts: String,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The reason.
    pub source: ConnectionError,
}

/// The server did not do what the charm asked.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The charm could not connect or log in.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The role has not the comment of this charm's roles.
    #[error(
        "drop or rename role {role} in PostgreSQL: it is not ours, or an earlier revision left it; \
         ours carries the comment \"{comment}\""
    )]
    RoleNotOurs {
        /// The role.
        role: String,
        /// The comment that the role should have.
        comment: String,
    },
    /// The role has the client's password and not the comment of this charm's roles. Dropping or
    /// renaming it would lock the client out.
    #[error(
        "role {role} in PostgreSQL has a comment that is not ours; if no other application uses \
         the role, run COMMENT ON ROLE {role} IS '{comment}'"
    )]
    CommentNotOurs {
        /// The role.
        role: String,
        /// The comment that the role should have.
        comment: String,
    },
    /// A client asked for roles that it may not have.
    #[error("invalid role(s) for extra user roles: {roles}; remove the relation or ask for others")]
    InvalidRoles {
        /// The roles, separated by commas.
        roles: String,
    },
    /// A role that should own what clients share is unfit for that.
    #[error(
        "role {role} in PostgreSQL cannot own what clients share: take its login, its attributes, \
         its groups, and the members that are no clients of a pooler from it, or drop it"
    )]
    NoHeir {
        /// The role.
        role: String,
    },
    /// A client asked for a database of an owner that it cannot rely on.
    #[error(
        "cannot use database {database}: it belongs to {owner}, which could let others in; make a \
         superuser its owner, after a look at what is in it, or ask for another database"
    )]
    ForeignDatabase {
        /// The database.
        database: String,
        /// The owner.
        owner: String,
    },
    /// A client's database accepts no connections.
    #[error(
        "database {database} accepts no connections: run ALTER DATABASE with ALLOW_CONNECTIONS true \
         and CONNECTION LIMIT -1, or drop it if its creation was interrupted"
    )]
    ClosedDatabase {
        /// The database.
        database: String,
    },
    /// The schema `public` has objects that could mislead a superuser.
    #[error(
        "cannot use database {database}: in its schema public are functions or operators that no \
         superuser made, or PostgreSQL's own are gone; ask for another database, or have them \
         removed"
    )]
    UntrustedSchema {
        /// The database.
        database: String,
    },
    /// A statement failed.
    #[error("cannot {what}: {source}{}", source.remedy())]
    Statement {
        /// What the statement was to do, without any secret.
        what: String,
        /// What the server answered.
        source: ConnectionError,
    },
}

impl Refused {
    pub(super) fn not_ours(role: &str, comment: &str) -> Self {
        Self::RoleNotOurs { role: role.to_owned(), comment: comment.to_owned() }
    }

    pub(super) fn not_our_comment(role: &str, comment: &str) -> Self {
        Self::CommentNotOurs { role: role.to_owned(), comment: comment.to_owned() }
    }

    /// Whether the connection can no longer be used.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if source.is_lost())
    }
}

/// The message of the server, or of the library. Never the statement, which may hold a verifier.
fn described(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    let mut words = error.to_string();
    for cause in iter::successors(error.source(), |&cause| cause.source()) {
        words = format!("{words}: {cause}");
    }
    if is_of_tls(error) {
        words += "; give PostgreSQL TLS 1.2 or later and a certificate of X.509 version 3 with a \
                  key of RSA (2048 bits or more), P-256, P-384 or Ed25519, or turn its TLS off";
    }
    // The message around says that the charm cannot connect.
    words.strip_prefix("error connecting to server: ").unwrap_or(&words).to_owned()
}

/// Whether the TLS handshake failed. The library distinguishes its errors only by their texts.
fn is_of_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string().starts_with("error performing TLS handshake")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_for_no_connection_has_a_remedy() {
        let refused = || io::ErrorKind::ConnectionRefused.into();
        for (source, remedy) in [
            (ConnectionError::Silent(Duration::from_secs(3)), "; check that PostgreSQL runs"),
            (ConnectionError::NoHost, "; check that PostgreSQL runs"),
            (ConnectionError::Runtime(refused()), "; check that PostgreSQL runs"),
            (ConnectionError::Socket(refused()), "; check that PostgreSQL runs"),
            (ConnectionError::ReadOnly, "; check that PostgreSQL has a primary"),
            (ConnectionError::ClearPassword, "or turn on its TLS"),
            (ConnectionError::NotScram(Method::Md5), "or relate to PostgreSQL anew"),
            (ConnectionError::AnswerTooLong, "; check that PostgreSQL listens there"),
        ] {
            let text = Unreachable {
                hosts: "pg:5432".into(),
                database: "pgbouncer".into(),
                user: "relation_id_2".into(),
                source,
            };
            assert!(text.to_string().ends_with(remedy), "{text}");
        }
    }
}

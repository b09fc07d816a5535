//! The admin console of one PgBouncer process, over the Unix socket in its own directory.
//!
//! PgBouncer lets the operating system user it runs as log in as `pgbouncer` without a password, and answers
//! the simple query protocol only (PgBouncer's documentation, "Admin console").

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use nix::unistd::{Gid, Uid, getegid, geteuid, setegid, seteuid};

use crate::{
    postgres::connection::{self, Connection},
    secret::Secret,
};

/// How long PgBouncer may take to answer, a login included: it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest name of a Unix socket on Linux, in bytes (unix(7)).
const SOCKET_NAME: usize = 107;

/// An open console.
pub struct Console(Connection);

/// Why the console does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// No Unix socket can have such a name.
    #[error("cannot connect to a socket in {0}: the path is too long; deploy under a shorter one")]
    PathTooLong(String),
    /// No socket yet, or no longer.
    #[error("cannot find a console socket in {0}")]
    NoSocket(String),
    /// Acting as PgBouncer's user is not permitted.
    #[error("cannot act as the user PgBouncer runs as: {0}")]
    NotPermitted(#[from] nix::Error),
    /// PgBouncer answers, and says no.
    #[error("{0}")]
    Refused(String),
    /// Nobody answers, or not in time.
    #[error("{0}")]
    Unreachable(String),
}

impl Console {
    /// Connects as `pgbouncer`, acting as the user the process runs as; root would be refused.
    pub fn connect(directory: &Path, uid: Uid, gid: Gid) -> Result<Self, ConsoleError> {
        let _acting = Acting::of(uid, gid)?;
        Self::open(directory, "pgbouncer", None)
    }

    /// Logs in as a user of the user list.
    pub fn log_in(directory: &Path, user: &str, password: &Secret) -> Result<Self, ConsoleError> {
        Self::open(directory, user, Some(password))
    }

    /// `SHOW CONFIG`: the settings in force by name; one that is not set is the empty text.
    pub fn show_config(&mut self) -> Result<BTreeMap<String, String>, ConsoleError> {
        let rows = self.0.simple("SHOW CONFIG", PATIENCE)?;
        let column = |row: &tokio_postgres::SimpleQueryRow, name| {
            row.try_get(name).map(|value| value.unwrap_or_default().to_owned())
        };
        let settings = rows.iter().map(|row| Ok((column(row, "key")?, column(row, "value")?)));
        settings.collect::<Result<_, _>>().map_err(|error| connection::Error::Sql(error).into())
    }

    /// `SHOW VERSION`, such as `PgBouncer 1.18.0`.
    pub fn show_version(&mut self) -> Result<String, ConsoleError> {
        let rows = self.0.simple("SHOW VERSION", PATIENCE)?;
        let version = rows.first().map(|row| row.try_get("version")).transpose();
        Ok(version.map_err(connection::Error::Sql)?.flatten().unwrap_or_default().to_owned())
    }

    /// Tries every socket there: the name ends with the port, which may just have changed, and the socket of
    /// a killed process stays behind.
    fn open(directory: &Path, user: &str, password: Option<&Secret>) -> Result<Self, ConsoleError> {
        if !fits(directory) {
            return Err(ConsoleError::PathTooLong(directory.display().to_string()));
        }
        let mut last = ConsoleError::NoSocket(directory.display().to_string());
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(port) = name.to_str().and_then(|name| name.strip_prefix(".s.PGSQL.")?.parse().ok())
            else {
                continue;
            };
            let mut config = tokio_postgres::Config::new();
            config.host_path(directory).port(port).user(user).dbname("pgbouncer");
            if let Some(password) = password {
                config.password(password.reveal());
            }
            match Connection::open(&config, PATIENCE) {
                Ok(connection) => return Ok(Self(connection)),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

/// Whether a console socket of any port can be in this directory.
pub(super) fn fits(directory: &Path) -> bool {
    directory.as_os_str().len() + "/.s.PGSQL.65535".len() <= SOCKET_NAME
}

impl From<connection::Error> for ConsoleError {
    fn from(error: connection::Error) -> Self {
        match error {
            connection::Error::Sql(ref sql) if sql.as_db_error().is_some() => {
                Self::Refused(error.to_string())
            }
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// The time of being somebody else: Linux notes who connects at the moment of the connect.
struct Acting {
    uid: Uid,
    gid: Gid,
}

impl Acting {
    fn of(uid: Uid, gid: Gid) -> nix::Result<Self> {
        let own = Self { uid: geteuid(), gid: getegid() };
        if uid != own.uid {
            setegid(gid)?;
            seteuid(uid)?;
        }
        Ok(own)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if geteuid() != self.uid || getegid() != self.gid {
            seteuid(self.uid).expect("the saved user id may always be taken again");
            setegid(self.gid).expect("the saved group id may always be taken again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_that_linux_refuses_is_named() {
        let directory = Path::new("/tmp").join("x".repeat(100));
        let error = Console::log_in(&directory, "a", &Secret::new("b")).err().expect("it is too long");
        assert!(matches!(error, ConsoleError::PathTooLong(path) if path.contains("xxx")));
    }
}

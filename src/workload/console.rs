//! The admin console of one PgBouncer process, over the Unix socket in the directory of that
//! process.
//!
//! PgBouncer lets the operating system user it runs as log in as `pgbouncer` without a password. It
//! answers the simple query protocol only (PgBouncer's documentation, "Admin console").

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileTypeExt as _,
    path::Path,
    time::{Duration, Instant},
};

use nix::unistd::{Gid, Uid, getegid, geteuid, setegid, seteuid};
use tokio_postgres::{SimpleQueryRow, config::SslMode};

use crate::{
    postgres::{AllowedMethods, ConnectionError, Method, connection::Connection},
    secret::Secret,
};

/// How long PgBouncer may take to answer, a login included. It takes milliseconds. All sockets of
/// one directory together have no longer: another party can fill the directory with silent ones.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The longest path of a Unix socket on Linux, in bytes (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// An open console.
pub struct Console(Connection);

/// One setting as `SHOW CONFIG` reports it; the empty text where it is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The value that the process uses.
    pub value: String,
    /// The built-in value of this build, which a distribution may have changed.
    pub default: String,
}

/// Why the console gives no answer, or an error.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// No Unix socket can have a path of this length.
    #[error("cannot connect to a socket in {0}: the path is too long; deploy under a shorter one")]
    PathTooLong(String),
    /// The process has no socket yet, or no longer.
    #[error("cannot find a console socket in {0}")]
    NoSocket(String),
    /// The charm may not act as PgBouncer's user.
    #[error("cannot act as the user PgBouncer runs as: {0}")]
    NotPermitted(#[from] nix::Error),
    /// No known version answers without this column.
    #[error("cannot read the column {0} of the console's answer")]
    Misread(&'static str),
    /// PgBouncer never asks for this. Nothing was sent.
    #[error("what listens in its place asks for {0}; end the process that has its socket")]
    NotPgbouncer(Method),
    /// PgBouncer answers with an error.
    #[error("{0}")]
    Refused(String),
    /// PgBouncer does not answer, or not in time.
    #[error("{0}")]
    Unreachable(String),
}

impl Console {
    /// Connects as `pgbouncer`, acting as the user the process runs as: PgBouncer would refuse
    /// root.
    pub fn connect(directory: &Path, uid: Uid, gid: Gid) -> Result<Self, ConsoleError> {
        let _acting = ActingAs::switch(uid, gid)?;
        Self::open(directory, "pgbouncer", None, AllowedMethods::Any)
    }

    /// Logs in as a user of the user list. PgBouncer asks for the method that `allowed` names where
    /// the list has a verifier of SCRAM, and never for a password in clear.
    pub fn log_in(
        directory: &Path,
        user: &str,
        password: &Secret,
        allowed: AllowedMethods,
    ) -> Result<Self, ConsoleError> {
        Self::open(directory, user, Some(password), allowed)
    }

    /// `SHOW CONFIG`: the settings in force, by name.
    pub fn show_config(&mut self) -> Result<BTreeMap<String, InForce>, ConsoleError> {
        let rows = self.ask("SHOW CONFIG")?;
        let setting = |row: &SimpleQueryRow| {
            let setting = InForce { value: text(row, "value")?, default: text(row, "default")? };
            Ok((text(row, "key")?, setting))
        };
        rows.iter().map(setting).collect()
    }

    /// `RELOAD`. Before 1.25 PgBouncer reports success also for a file that it cannot read; only
    /// the digest in `SHOW CONFIG` proves that it read the file.
    pub fn reload(&mut self) -> Result<(), ConsoleError> {
        self.ask("RELOAD").map(drop)
    }

    /// `RECONNECT`: PgBouncer replaces each server connection once it is released.
    pub fn reconnect(&mut self) -> Result<(), ConsoleError> {
        self.ask("RECONNECT").map(drop)
    }

    fn ask(&mut self, command: &str) -> Result<Vec<SimpleQueryRow>, ConsoleError> {
        Ok(self.0.simple(command, ANSWER_LIMIT)?)
    }

    /// Tries every socket in the directory: the name ends with the port, which may just have
    /// changed, and a killed process leaves its socket behind. Follows no link: it could lead to
    /// a socket of another program.
    fn open(
        directory: &Path,
        user: &str,
        password: Option<&Secret>,
        allowed: AllowedMethods,
    ) -> Result<Self, ConsoleError> {
        if !fits(directory) {
            return Err(ConsoleError::PathTooLong(directory.display().to_string()));
        }
        let mut last = ConsoleError::NoSocket(directory.display().to_string());
        let deadline = Instant::now() + ANSWER_LIMIT;
        let is_directory = fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir());
        let entries = is_directory.then(|| fs::read_dir(directory).ok()).flatten();
        for entry in entries.into_iter().flatten().flatten() {
            let left = deadline.duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if !entry.file_type().is_ok_and(|found| found.is_socket()) {
                continue;
            }
            let name = entry.file_name();
            let Some(port) =
                name.to_str().and_then(|name| name.strip_prefix(".s.PGSQL.")?.parse().ok())
            else {
                continue;
            };
            let mut config = tokio_postgres::Config::new();
            config.host_path(directory).port(port).user(user).dbname("pgbouncer");
            config.ssl_mode(SslMode::Disable);
            if let Some(password) = password {
                config.password(password.reveal());
            }
            match Connection::open(&config, allowed, left) {
                Ok(connection) => return Ok(Self(connection)),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

/// A column by its name: the number and order of columns change between versions.
fn text(row: &SimpleQueryRow, column: &'static str) -> Result<String, ConsoleError> {
    let value = row.try_get(column).map_err(|_| ConsoleError::Misread(column))?;
    Ok(value.unwrap_or_default().to_owned())
}

/// Whether a console socket of any port can be in this directory.
pub(super) fn fits(directory: &Path) -> bool {
    directory.as_os_str().len() + "/.s.PGSQL.65535".len() <= SOCKET_PATH_MAX
}

impl From<ConnectionError> for ConsoleError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Sql(ref sql) if sql.as_db_error().is_some() => {
                Self::Refused(error.to_string())
            }
            ConnectionError::ClearPassword => Self::NotPgbouncer(Method::Password),
            ConnectionError::NotScram(method) => Self::NotPgbouncer(method),
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// The charm acting as another user, until this is dropped. Linux records the user of a connection
/// at the moment of the connect.
struct ActingAs {
    own_uid: Uid,
    own_gid: Gid,
}

impl ActingAs {
    fn switch(uid: Uid, gid: Gid) -> nix::Result<Self> {
        let acting = Self { own_uid: geteuid(), own_gid: getegid() };
        if uid != acting.own_uid {
            setegid(gid)?;
            seteuid(uid)?;
        }
        Ok(acting)
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        if geteuid() != self.own_uid || getegid() != self.own_gid {
            seteuid(self.own_uid).expect("the saved user id may always be taken again");
            setegid(self.own_gid).expect("the saved group id may always be taken again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_that_linux_refuses_is_named() {
        let directory = Path::new("/tmp").join("x".repeat(100));
        let error = Console::log_in(&directory, "a", &Secret::new("b"), AllowedMethods::Any)
            .err()
            .expect("it is too long");
        assert!(matches!(error, ConsoleError::PathTooLong(path) if path.contains("xxx")));
    }
}

//! The admin console of one PgBouncer process, over the Unix socket in its own directory.
//!
//! PgBouncer lets the operating system user it runs as log in as `pgbouncer` without a password, and answers
//! the simple query protocol only (PgBouncer's documentation, "Admin console").

use std::{collections::BTreeMap, fs, path::Path, str::FromStr, time::Duration};

use nix::unistd::{Gid, Uid, getegid, geteuid, setegid, seteuid};
use tokio_postgres::config::SslMode;

use crate::{
    pgbouncer::Version,
    postgres::{ConnectionError, connection::Connection},
    secret::Secret,
};

/// How long PgBouncer may take to answer, a login included: it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest name of a Unix socket on Linux, in bytes (unix(7)).
const SOCKET_NAME: usize = 107;

/// An open console.
pub struct Console(Connection);

/// One setting as `SHOW CONFIG` has it; what is not set is the empty text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The value in force.
    pub value: String,
    /// The built-in one of this build, which a distribution may have changed.
    pub default: String,
    /// Whether a reload can change it.
    pub changeable: bool,
}

/// One row of `SHOW DATABASES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// As clients name it.
    pub name: String,
    /// `None` for the server's Unix socket.
    pub host: Option<String>,
    /// Of the server.
    pub port: u32,
    /// As the server names it.
    pub database: String,
    /// Whom all clients are on the server, if not themselves.
    pub force_user: Option<String>,
    /// Server connections for each user.
    pub pool_size: u32,
    /// Those of them that are kept ready.
    pub min_pool_size: u32,
    /// Those beyond the pool size for clients that wait.
    pub reserve_pool: u32,
    /// `None` where the one of `[pgbouncer]` is in force.
    pub pool_mode: Option<String>,
    /// Of all users together; 0 is no limit.
    pub max_connections: u32,
    /// Of them, those open now.
    pub current_connections: u32,
    /// By `PAUSE` of this database or by `KILL`, not by `PAUSE` of all.
    pub paused: bool,
    /// By `DISABLE`.
    pub disabled: bool,
}

/// One row of `SHOW POOLS`: connections, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// As clients name it.
    pub database: String,
    /// Whom the server connections belong to.
    pub user: String,
    /// Clients that have a server connection, or do not need one now.
    pub clients_active: u32,
    /// Clients that wait for one.
    pub clients_waiting: u32,
    /// Server connections in use.
    pub servers_active: u32,
    /// Server connections ready for use.
    pub servers_idle: u32,
    /// Server connections ready for use after a check.
    pub servers_used: u32,
    /// Server connections being made.
    pub servers_login: u32,
    /// How long the first of the waiting clients has waited.
    pub max_wait: Duration,
    /// `session`, `transaction` or `statement`.
    pub pool_mode: String,
}

/// What a process does as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Active,
    /// `PAUSE` of all databases.
    Paused,
    /// `SUSPEND`.
    Suspended,
    /// It cannot say.
    Unknown,
}

/// One row of an answer, read by the names of its columns: their number and order change with the version.
struct Row(tokio_postgres::SimpleQueryRow);

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
    /// An answer that no known version gives.
    #[error("cannot read the column {0} of the console's answer")]
    Misread(&'static str),
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

    /// `SHOW CONFIG`: the settings in force, by name.
    pub fn show_config(&mut self) -> Result<BTreeMap<String, Shown>, ConsoleError> {
        let rows = self.ask("SHOW CONFIG")?;
        let shown = |row: &Row| {
            let shown = Shown {
                value: row.text("value")?,
                default: row.text("default")?,
                changeable: row.flag("changeable")?,
            };
            Ok((row.text("key")?, shown))
        };
        rows.iter().map(shown).collect()
    }

    /// `SHOW DATABASES`: those of the file, the console itself, and those `*` was used for.
    pub fn show_databases(&mut self) -> Result<Vec<Database>, ConsoleError> {
        let rows = self.ask("SHOW DATABASES")?;
        let database = |row: &Row| {
            Ok(Database {
                name: row.text("name")?,
                host: row.option("host")?,
                port: row.number("port")?,
                database: row.text("database")?,
                force_user: row.option("force_user")?,
                pool_size: row.number("pool_size")?,
                min_pool_size: row.number("min_pool_size")?,
                // Renamed in 1.24.
                reserve_pool: row.number("reserve_pool_size").or_else(|_| row.number("reserve_pool"))?,
                pool_mode: row.option("pool_mode")?,
                max_connections: row.number("max_connections")?,
                current_connections: row.number("current_connections")?,
                paused: row.flag("paused")?,
                disabled: row.flag("disabled")?,
            })
        };
        rows.iter().map(database).collect()
    }

    /// `SHOW POOLS`: one for each database and user that were used together.
    pub fn show_pools(&mut self) -> Result<Vec<Pool>, ConsoleError> {
        let rows = self.ask("SHOW POOLS")?;
        let pool = |row: &Row| {
            Ok(Pool {
                database: row.text("database")?,
                user: row.text("user")?,
                clients_active: row.number("cl_active")?,
                clients_waiting: row.number("cl_waiting")?,
                servers_active: row.number("sv_active")?,
                servers_idle: row.number("sv_idle")?,
                servers_used: row.number("sv_used")?,
                servers_login: row.number("sv_login")?,
                max_wait: Duration::from_secs(row.number("maxwait")?)
                    + Duration::from_micros(row.number("maxwait_us")?),
                pool_mode: row.text("pool_mode")?,
            })
        };
        rows.iter().map(pool).collect()
    }

    /// `SHOW VERSION`; an error if it is not spelled as any release spells it.
    pub fn show_version(&mut self) -> Result<Version, ConsoleError> {
        let rows = self.ask("SHOW VERSION")?;
        let text = rows.first().map(|row| row.text("version")).transpose()?.unwrap_or_default();
        Version::parse(&text).ok_or(ConsoleError::Misread("version"))
    }

    /// `SHOW STATE`, which 1.18 does not have. A paused single database shows in
    /// [`Database::paused`] instead.
    pub fn show_state(&mut self) -> Result<State, ConsoleError> {
        let rows = match self.ask("SHOW STATE") {
            Err(ConsoleError::Refused(reason)) if reason.starts_with("invalid command") => {
                return Ok(State::Unknown);
            }
            other => other?,
        };
        for row in &rows {
            match (row.text("key")?.as_str(), row.flag("value")?) {
                ("active", true) => return Ok(State::Active),
                ("paused", true) => return Ok(State::Paused),
                ("suspended", true) => return Ok(State::Suspended),
                _ => {}
            }
        }
        Ok(State::Unknown)
    }

    /// `RELOAD`. Until 1.24 it says yes to a file it cannot read; the digest in `SHOW CONFIG` tells.
    pub fn reload(&mut self) -> Result<(), ConsoleError> {
        self.ask("RELOAD").map(drop)
    }

    /// `PAUSE` of one database, or of all. It answers when the server connections are free, in session pooling
    /// when every client has left; after `limit` it is [`ConsoleError::Unreachable`] and the pause stays.
    pub fn pause(&mut self, database: Option<&str>, limit: Duration) -> Result<(), ConsoleError> {
        self.0.simple(&command("PAUSE", database), limit)?;
        Ok(())
    }

    /// `RESUME` of one database, or of all; the one does not undo a pause of the other.
    pub fn resume(&mut self, database: Option<&str>) -> Result<(), ConsoleError> {
        self.ask(&command("RESUME", database)).map(drop)
    }

    /// `RECONNECT`: each server connection of one database, or of all, is replaced once it is released.
    pub fn reconnect(&mut self, database: Option<&str>) -> Result<(), ConsoleError> {
        self.ask(&command("RECONNECT", database)).map(drop)
    }

    fn ask(&mut self, command: &str) -> Result<Vec<Row>, ConsoleError> {
        Ok(self.0.simple(command, PATIENCE)?.into_iter().map(Row).collect())
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
            config.ssl_mode(SslMode::Disable);
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

impl Row {
    fn option(&self, column: &'static str) -> Result<Option<String>, ConsoleError> {
        let value = self.0.try_get(column).map_err(|_| ConsoleError::Misread(column))?;
        Ok(value.map(str::to_owned))
    }

    fn text(&self, column: &'static str) -> Result<String, ConsoleError> {
        self.option(column).map(Option::unwrap_or_default)
    }

    fn number<T: FromStr>(&self, column: &'static str) -> Result<T, ConsoleError> {
        self.text(column)?.parse().map_err(|_| ConsoleError::Misread(column))
    }

    /// `yes` and `no` in some answers, 1 and 0 in others.
    fn flag(&self, column: &'static str) -> Result<bool, ConsoleError> {
        match self.text(column)?.as_str() {
            "yes" | "1" => Ok(true),
            "no" | "0" => Ok(false),
            _ => Err(ConsoleError::Misread(column)),
        }
    }
}

/// A command and its database. A bare word is taken as typed, so quotes do no harm to it.
fn command(word: &str, database: Option<&str>) -> String {
    match database {
        Some(name) => format!("{word} \"{}\"", name.replace('"', "\"\"")),
        None => word.to_owned(),
    }
}

/// Whether a console socket of any port can be in this directory.
pub(super) fn fits(directory: &Path) -> bool {
    directory.as_os_str().len() + "/.s.PGSQL.65535".len() <= SOCKET_NAME
}

impl From<ConnectionError> for ConsoleError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Sql(ref sql) if sql.as_db_error().is_some() => Self::Refused(error.to_string()),
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
    fn a_name_in_a_command_is_quoted() {
        assert_eq!(command("PAUSE", Some("my \"db\"; SHUTDOWN")), "PAUSE \"my \"\"db\"\"; SHUTDOWN\"");
        assert_eq!(command("RESUME", None), "RESUME");
    }

    #[test]
    fn a_socket_path_that_linux_refuses_is_named() {
        let directory = Path::new("/tmp").join("x".repeat(100));
        let error = Console::log_in(&directory, "a", &Secret::new("b")).err().expect("it is too long");
        assert!(matches!(error, ConsoleError::PathTooLong(path) if path.contains("xxx")));
    }
}

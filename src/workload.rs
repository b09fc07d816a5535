//! The PgBouncer processes of this unit: what they run, and how they are given something else.

#[expect(clippy::disallowed_methods, reason = "looks for the socket")]
pub mod console;
#[expect(clippy::disallowed_methods, reason = "looks whose the directory of sockets is")]
mod container;
#[expect(clippy::disallowed_methods, reason = "files and processes are what it is for")]
mod disk;
#[expect(clippy::disallowed_methods, reason = "waits for processes, with a deadline")]
mod load;
mod paths;
#[expect(clippy::disallowed_methods, reason = "waits until a deadline")]
pub mod pebble;
#[expect(clippy::disallowed_methods, reason = "processes are read from /proc")]
mod process;

use std::{io, path::PathBuf};

use self::pebble::PebbleError;
pub use self::{container::Container, disk::Disk, paths::Paths};
use crate::pgbouncer::{InstanceConfig, Place, Unrepresentable, UserList, Version};
use crate::secret::Secret;

/// Where the processes of a unit live: on this machine's disk, or in a container beside the charm.
pub trait Workload {
    /// What can be known before anything is loaded. Asks no more than once a dispatch.
    fn probe(&mut self) -> Result<Probe, ProbeError>;

    /// What the running process of an instance has been seen to have loaded. `None` if it was not seen, or
    /// is another process by now: a load is owed. Does not ask the process.
    fn loaded(&mut self, instance: u16) -> Option<Loaded>;

    /// The files all instances share, as they lie there now.
    fn saved(&mut self) -> Saved;

    /// Makes every instance run these files, one after another. May be killed anywhere and repeated.
    fn load(&mut self, files: &Files) -> Result<Done, NotLoaded>;

    /// What a load would do now. Changes nothing.
    fn foresee(&mut self, files: &Files) -> Result<Done, NotLoaded>;

    /// Why clients are not sent here though everything is loaded, where somebody watches over that.
    fn unhealthy(&mut self) -> Option<String> {
        None
    }
}

/// PgBouncer as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The first line of `pgbouncer --version`, such as `PgBouncer 1.18.0`: of what the processes were
    /// started from, else of what is installed.
    pub version: String,
    /// Absolute path of the user list, as PgBouncer sees it.
    pub auth_file: String,
    /// One for each process.
    pub places: Vec<Place>,
}

/// Why nothing can be known of PgBouncer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeError {
    /// The charm runs on a machine that has none.
    NotOnMachine,
    /// The image of the workload container has none.
    NotInImage,
    /// The workload container cannot be reached, with the reason.
    Away(String),
    /// It is there and does not say what it is.
    NoVersion(String),
}

/// What one process has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The digest of everything it runs.
    pub digest: String,
    /// The version it was rendered for.
    pub version: String,
}

/// The files all instances share; what is missing, unreadable or longer than 1 MiB is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The shared configuration.
    pub config: Option<String>,
    /// The user list.
    pub users: Option<Secret>,
}

/// Everything the instances of a unit run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The configuration all units share; kept for the next hook, read by no process.
    pub shared: String,
    /// The user list all instances read.
    pub users: UserList,
    /// A user of that list with its password, to be named in `admin_users` or `stats_users`: a login proves
    /// that the list was read (PgBouncer's `SHOW CONFIG` does not).
    pub proof: Option<(String, Secret)>,
    /// The version the files are rendered for.
    pub version: Version,
    /// Where all processes listen, and the name of each console socket ends.
    pub port: u16,
    /// One for each process, with `syslog_ident = <digest>` as its last line.
    pub instances: Vec<InstanceConfig>,
}

/// What a load did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Instances that did not run their files yet and do now.
    pub loaded: Vec<u16>,
    /// Those among them whose process had to be replaced for it.
    pub restarted: Vec<u16>,
}

/// Why a load did not come to its end. What was loaded before it stays loaded.
#[derive(Debug, thiserror::Error)]
pub enum NotLoaded {
    /// No process of this instance was started in time.
    #[error("cannot load instance {instance} of PgBouncer: it is not running; see its log and its service")]
    NotRunning {
        /// Its number.
        instance: u16,
    },
    /// The process runs, but did not show the digest in time.
    #[error(
        "cannot confirm that instance {instance} of PgBouncer took its configuration: {reason}; see its log"
    )]
    NotConfirmed {
        /// Its number.
        instance: u16,
        /// What its console said last.
        reason: String,
    },
    /// The process runs, and without the port that its configuration gives it.
    #[error(
        "cannot reach instance {instance} of PgBouncer: it does not listen on port {port}; see its log, or set another \
         listen_port"
    )]
    NotListening {
        /// Its number.
        instance: u16,
        /// Of TCP.
        port: u16,
    },
    /// The process runs its configuration, and refuses a user of its user list.
    #[error(
        "cannot log in to instance {instance} of PgBouncer with its new user list: {reason}; see its log"
    )]
    UserListRefused {
        /// Its number.
        instance: u16,
        /// What PgBouncer answered.
        reason: String,
    },
    /// The running version would not take this file in full; nothing was written.
    #[error(
        "cannot give instance {instance} of PgBouncer its configuration: line {line}: {reason}; report a bug"
    )]
    Unfit {
        /// Its number.
        instance: u16,
        /// Of the first fault, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A user of the list cannot be written; nothing was.
    #[error("cannot write the user list: {0}")]
    Users(#[from] Unrepresentable),
    /// The process may not be signalled.
    #[error("cannot signal instance {instance} of PgBouncer: {reason}")]
    NotSignalled {
        /// Its number.
        instance: u16,
        /// What the kernel answered.
        reason: nix::Error,
    },
    /// Its console socket would have a name longer than a Unix socket can have.
    #[error("cannot use {} for a console socket: the path is too long; deploy under a shorter one", path.display())]
    PathTooLong {
        /// The instance's directory.
        path: PathBuf,
    },
    /// There is nobody to run PgBouncer as, which refuses to run as root.
    #[error("cannot find the user {user}, which PgBouncer runs as; install the package postgresql-common")]
    NoUser {
        /// Its name.
        user: &'static str,
    },
    /// Somebody else made this directory.
    #[error("cannot use {}: it belongs to user id {owner}, not to PgBouncer; remove it", path.display())]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Pebble, or nobody where it should be.
    #[error("{0}")]
    Pebble(#[from] PebbleError),
    /// The file system refused.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
}

//! What came of a load. Data only.

use std::{io, path::PathBuf};

use super::pebble::error::PebbleError;
use crate::pgbouncer::Unrepresentable;

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

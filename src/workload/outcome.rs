//! What a load did, or why it failed. Data only.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::pebble::error::{PathError, PebbleError};
use crate::pgbouncer::Unrepresentable;

/// What a load did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The instances that did not run their files before, and do now.
    pub loaded: Vec<u16>,
    /// The instances among them whose process was replaced.
    pub restarted: Vec<u16>,
}

/// Why a load failed. What it loaded before stays loaded.
#[derive(Debug, thiserror::Error)]
pub enum NotLoaded {
    /// No process of this instance started in time.
    #[error(
        "cannot load instance {instance} of PgBouncer: it is not running; see its log and its \
         service"
    )]
    NotRunning {
        /// The number of the instance.
        instance: u16,
    },
    /// The process runs, but did not show the digest in time.
    #[error(
        "cannot confirm that instance {instance} of PgBouncer took its configuration: {reason}; \
         see its log"
    )]
    NotConfirmed {
        /// The number of the instance.
        instance: u16,
        /// What its console answered last.
        reason: String,
    },
    /// The process does not listen on the port of its configuration.
    #[error(
        "cannot reach instance {instance} of PgBouncer: it does not listen on port {port}; see its \
         log, or set another listen_port"
    )]
    NotListening {
        /// The number of the instance.
        instance: u16,
        /// The TCP port.
        port: u16,
    },
    /// A process does not show the certificate of its configuration.
    #[error(
        "cannot confirm that PgBouncer serves its certificate on port {port}: {reason}; see its log"
    )]
    CertificateNotServed {
        /// The TCP port.
        port: u16,
        /// What the handshake found.
        reason: String,
    },
    /// The process runs its configuration and refuses a user of its user list.
    #[error(
        "cannot log in to instance {instance} of PgBouncer with its new user list: {reason}; see \
         its log"
    )]
    UserListRefused {
        /// The number of the instance.
        instance: u16,
        /// What PgBouncer answered.
        reason: String,
    },
    /// The running version would not accept this file in full. Nothing was written.
    #[error(
        "cannot give instance {instance} of PgBouncer its configuration: line {line}: {reason}; \
         report a bug"
    )]
    Unfit {
        /// The number of the instance.
        instance: u16,
        /// The line of the first problem, counted from 1.
        line: usize,
        /// What is wrong with the line.
        reason: String,
    },
    /// The user list cannot be written as a file. Nothing was written.
    #[error("{0}; report a bug")]
    Users(#[from] Unrepresentable),
    /// The charm may not signal the process.
    #[error(
        "cannot signal instance {instance} of PgBouncer: {reason}; see which user its process runs \
         as"
    )]
    NotSignalled {
        /// The number of the instance.
        instance: u16,
        /// What the kernel answered.
        reason: nix::Error,
    },
    /// The path of a console socket would be longer than the path of a Unix socket can be.
    #[error(
        "cannot use {} for a console socket: the path is too long; deploy under a shorter one",
        path.display()
    )]
    PathTooLong {
        /// The directory of the socket.
        path: PathBuf,
    },
    /// The user that PgBouncer is to run as does not exist. PgBouncer refuses to run as root.
    #[error(
        "cannot find the user {user}, which PgBouncer runs as; install the package \
         postgresql-common"
    )]
    NoUser {
        /// The name of the user.
        user: &'static str,
    },
    /// Another user made this directory.
    #[error(
        "cannot use {}: it belongs to user id {owner}, not to PgBouncer; remove it",
        path.display()
    )]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A file system is full.
    #[error(
        "cannot write {what}: no space left on device; free space there, the next hook retries"
    )]
    DiskFull {
        /// The file or directory, or what else was to be written.
        what: String,
    },
    /// Pebble failed, or does not answer.
    #[error("{0}")]
    Pebble(PebbleError),
    /// The file system refused to write.
    #[error(
        "cannot write {}: {source}; repair that, and the next hook tries again",
        path.display()
    )]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the file system answered.
        source: io::Error,
    },
}

/// What the kernel answers on a full file system, in the words of Pebble: Go's for `ENOSPC`.
const DISK_FULL: &str = "no space left on device";

impl NotLoaded {
    /// The file system refused to write this file or directory.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull => Self::DiskFull { what: path.display().to_string() },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

impl From<PebbleError> for NotLoaded {
    fn from(error: PebbleError) -> Self {
        let what = match &error {
            PebbleError::Path(PathError { path, message, .. }) if message.contains(DISK_FULL) => {
                format!("{} in the workload container", path.display())
            }
            PebbleError::Api { message, .. } | PebbleError::Change { reason: message, .. }
                if message.contains(DISK_FULL) =>
            {
                "Pebble's files in the workload container".to_owned()
            }
            _ => return Self::Pebble(error),
        };
        Self::DiskFull { what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::pebble::PathErrorKind;

    #[test]
    fn a_full_disk_is_named_with_its_remedy_whoever_reports_it() {
        let words = "cannot write file: write /a.x~: no space left on device";
        let path = |message: &str| {
            let (path, kind) = ("/a".into(), PathErrorKind::Other);
            PebbleError::Path(PathError { path, kind, message: message.to_owned() })
        };
        let api = |message: &str| PebbleError::Api { status: 500, message: message.to_owned() };
        let full = "no space left on device; free space there, the next hook retries";
        for (error, expected) in [
            (path(words).into(), format!("cannot write /a in the workload container: {full}")),
            (
                api(words).into(),
                format!("cannot write Pebble's files in the workload container: {full}"),
            ),
            (
                NotLoaded::io(Path::new("/a"), io::ErrorKind::StorageFull.into()),
                format!("cannot write /a: {full}"),
            ),
        ] {
            let error: NotLoaded = error;
            assert_eq!(error.to_string(), expected);
        }
        for error in [path("permission denied"), api("no")] {
            assert!(matches!(error.into(), NotLoaded::Pebble(_)));
        }
        let denied = NotLoaded::io(Path::new("/a"), io::ErrorKind::PermissionDenied.into());
        assert!(matches!(denied, NotLoaded::Io { .. }));
    }
}

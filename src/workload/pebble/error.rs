//! Why Pebble did not do what the charm asked.

use std::{fmt, io, path::PathBuf, time::Duration};

use serde::Deserialize;

/// Why Pebble did not do what the charm asked. Never holds the content of a file.
#[derive(Debug, thiserror::Error)]
pub enum PebbleError {
    /// No daemon answers on the socket, or no longer: it does not run, was killed, or restarts.
    #[error(
        "cannot reach Pebble at {}: {reason}; it starts with the workload container",
        socket.display()
    )]
    Absent {
        /// The socket of the daemon.
        socket: PathBuf,
        /// What the kernel answered, or where the answer broke off.
        reason: io::Error,
    },
    /// Pebble refused a whole request.
    #[error("cannot use Pebble: it refused a request with status {status}: {message}; see its log")]
    Api {
        /// The HTTP status.
        status: u16,
        /// The message of Pebble.
        message: String,
    },
    /// Pebble refused one file or directory. It may have done the others of the same request.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Pebble accepted an operation and failed to carry it out.
    #[error(
        "cannot carry out change {id} of Pebble ({summary}): {reason}{}; see `pebble tasks {id}` \
         in the workload container",
        Lines(log)
    )]
    Change {
        /// The id of the change, an argument of `pebble tasks`.
        id: String,
        /// What the change was to do.
        summary: String,
        /// Why it failed.
        reason: String,
        /// The last lines of its log, such as what a service printed before it ended.
        log: Vec<String>,
    },
    /// Pebble does not answer, or has not finished yet. It may still do what the charm asked.
    #[error(
        "cannot wait for Pebble longer than {limit:?}: {what} is not finished; \
         see `pebble changes` in the workload container"
    )]
    TimedOut {
        /// The request or the change.
        what: String,
        /// How long it could take.
        limit: Duration,
    },
    /// Pebble answers, but so slowly that this dispatch stops to ask.
    #[error(
        "cannot use Pebble: its answers took {budget:?} in this hook; see its log and the load of \
         the node, the next hook retries"
    )]
    Slow {
        /// How long all answers together could take.
        budget: Duration,
    },
    /// The answer has no form that this version of the charm understands.
    #[error("cannot understand Pebble: {0}; report a bug")]
    Protocol(String),
}

impl PebbleError {
    /// Whether the image lacks the program that Pebble was to run.
    pub fn is_not_in_image(&self) -> bool {
        matches!(self, Self::Api { message, .. } if message.contains("cannot find executable"))
    }
}

/// Pebble's error for one path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot use {} in the workload container: {message}; \
     repair that, and the next hook tries again",
    path.display()
)]
pub struct PathError {
    /// The path as the charm gave it.
    pub path: PathBuf,
    /// The kind of the error.
    pub kind: PathErrorKind,
    /// The message of Pebble.
    pub message: String,
}

/// The kinds of errors that a path can have, as far as the charm tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathErrorKind {
    /// Nothing is there, or its parent is not.
    NotFound,
    /// Any other: not permitted, not a file, no such user, a path that is not absolute.
    #[serde(other)]
    Other,
}

/// The lines of a log, after a message.
struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "; its log ends with: {}", self.0.join(" | "))
        }
    }
}

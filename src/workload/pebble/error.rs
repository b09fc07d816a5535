//! Why Pebble did not do what it was asked.

use std::{fmt, io, path::PathBuf, time::Duration};

use serde::Deserialize;

/// Why Pebble did not do what it was asked. Never holds what is in a file.
#[derive(Debug, thiserror::Error)]
pub enum PebbleError {
    /// Nobody answers on its socket, or nobody does any more: it is not there, was killed, or comes back.
    #[error("cannot reach Pebble at {}: {reason}; it comes with the workload container", socket.display())]
    Absent {
        /// Where it should be.
        socket: PathBuf,
        /// What the kernel answered, or where the answer broke off.
        reason: io::Error,
    },
    /// It refused a request as a whole.
    #[error("Pebble refused with status {status}: {message}")]
    Api {
        /// Of HTTP.
        status: u16,
        /// Its own words.
        message: String,
    },
    /// It refused one file or directory; others of the same request may be done.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It took the order and could not carry it out.
    #[error("Pebble failed to carry out its change {id} ({summary}): {reason}{}", Lines(log))]
    Change {
        /// As `pebble tasks` wants it.
        id: String,
        /// What was to be done.
        summary: String,
        /// Why it was not.
        reason: String,
        /// The last lines of its log: what a service printed before it ended, for one.
        log: Vec<String>,
    },
    /// It does not answer, or is not done yet. What was asked may still happen.
    #[error("Pebble did not finish within {limit:?}: {what}; see `pebble changes` in the workload container")]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long it had for it.
        limit: Duration,
    },
    /// Its answer is not what this version of the charm understands.
    #[error("cannot understand Pebble: {0}; report a bug")]
    Protocol(String),
}

/// What Pebble says of one path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Pebble cannot use {}: {message}", path.display())]
pub struct PathError {
    /// As it was asked for.
    pub path: PathBuf,
    /// What one can branch on.
    pub kind: PathErrorKind,
    /// Pebble's own words.
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

/// The lines of a log behind a message.
struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; its log ends with: {}", self.0.join(" | ")) }
    }
}

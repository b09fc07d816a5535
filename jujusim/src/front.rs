//! The `juju` command in front of a running model: `jujusim serve`, and the same binary under the
//! name `juju`.
//!
//! The model's process parses and runs the command; the `juju` process only sends its arguments and
//! prints the answer.

mod charms;
mod cli;
pub mod client;
mod commands;
mod config;
mod journal;
mod query;
mod serve;
mod tasks;
mod wait;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use serve::serve;

/// The environment variable with the socket of the model.
pub const SOCKET: &str = "JUJUSIM_SOCKET";

/// One `juju` command, as sent to the model's process.
#[derive(Serialize, Deserialize)]
struct Call {
    /// The caller's working directory: the base of relative paths.
    dir: PathBuf,
    args: Vec<String>,
}

/// A part of the answer to the command, one per line.
#[derive(Serialize, Deserialize)]
enum Reply {
    Out(String),
    Err(String),
    /// The `juju` process replaces itself by this shell line, which then has the caller's terminal.
    Become {
        line: String,
        dir: PathBuf,
    },
    Exit(u8),
}

/// The result of a command.
enum Outcome {
    Done(Answer),
    /// The command cannot be done yet; it is retried when the model has changed.
    Wait {
        /// The timeout, counted from the start of the command.
        limit: Duration,
        /// The error after the timeout.
        overdue: String,
    },
    Become {
        line: String,
        dir: PathBuf,
    },
    /// Print the log until the caller goes away.
    Follow(journal::Filter),
    /// Print this answer, and after each interval the new one, until the caller goes away.
    Repeat {
        answer: Answer,
        every: Duration,
    },
}

/// What a command prints, and its exit code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    stdout: String,
    stderr: String,
    code: u8,
}

impl Answer {
    fn out(stdout: impl Into<String>) -> Answer {
        Answer { stdout: stdout.into(), ..Answer::default() }
    }

    /// An answer on standard error, where Juju reports what it did.
    fn message(stderr: impl Into<String>) -> Answer {
        Answer { stderr: stderr.into() + "\n", ..Answer::default() }
    }

    fn error(text: &str, code: u8) -> Answer {
        Answer { stderr: format!("ERROR {text}\n"), code, ..Answer::default() }
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Outcome {
        Outcome::Done(answer)
    }
}

//! Juju's own command line in front of a model that lives: `jujusim serve`, and the same binary under the name `juju`.
//!
//! The model's process parses and does what `juju` was asked; `juju` itself only hands over its arguments and prints.

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

/// The variable that tells `juju` where the model listens.
pub const SOCKET: &str = "JUJUSIM_SOCKET";

/// One `juju` command: what the model's process gets of it.
#[derive(Serialize, Deserialize)]
struct Call {
    /// Where it was started: relative paths begin here.
    dir: PathBuf,
    args: Vec<String>,
}

/// A piece of what the command gets back, one a line.
#[derive(Serialize, Deserialize)]
enum Reply {
    Out(String),
    Err(String),
    /// The command becomes this shell line, so that it has the caller's terminal.
    Become {
        line: String,
        dir: PathBuf,
    },
    Exit(u8),
}

/// What became of a command.
enum Outcome {
    Done(Answer),
    /// Not yet: it is tried again when the model has moved.
    Wait {
        /// How long, from when it was asked.
        limit: Duration,
        /// The error then.
        overdue: String,
    },
    Become {
        line: String,
        dir: PathBuf,
    },
    /// The log, for as long as somebody reads.
    Follow(journal::Filter),
}

/// What a command prints and how it ends.
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

    /// Juju tells on standard error what it did.
    fn said(stderr: impl Into<String>) -> Answer {
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

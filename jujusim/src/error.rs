//! Errors of script commands.

use std::io;

/// The simulator's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is invalid or impossible in this model. The text is Juju's where Juju has one.
    #[error("{0}")]
    Refused(String),
    /// Juju can do this; the simulator cannot.
    #[error("jujusim does not model {0}")]
    NotModelled(String),
    /// A hook keeps failing.
    #[error("{unit} {hook} failed {times} times in a row; its log:\n{log}")]
    Stuck {
        /// The unit.
        unit: String,
        /// The hook.
        hook: String,
        /// How often the hook failed in a row.
        times: u32,
        /// The log of the last run.
        log: String,
    },
    /// The hooks cause each other without end; the number of hooks that ran.
    #[error("the model did not settle within {0} hooks")]
    Unsettled(usize),
    /// An operation on the machine failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn refused(text: impl Into<String>) -> Error {
        Error::Refused(text.into())
    }
}

/// Adds what was tried to an IO error.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { doing: doing(), source })
    }
}

//! Why a word could not be done.

use std::io;

/// The simulator's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a word could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked is wrong or impossible here, as Juju would say it.
    #[error("{0}")]
    Refused(String),
    /// Juju can do it, the simulator cannot.
    #[error("jujusim does not model {0}")]
    NotModelled(String),
    /// A hook keeps failing.
    #[error("{unit} {hook} failed {times} times in a row; its log:\n{log}")]
    Stuck {
        /// The unit.
        unit: String,
        /// The hook.
        hook: String,
        /// How often it failed without success in between.
        times: u32,
        /// The log of the last run.
        log: String,
    },
    /// The hooks cause each other without end.
    #[error("the model did not settle within {0} hooks")]
    Unsettled(usize),
    /// The machine refused.
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

/// Says what was tried when the machine refuses.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { doing: doing(), source })
    }
}

//! Charms written in Rust that live in the simulator: the neighbours of the charm under test.

use crate::error::{Error, Result};
use crate::hook::Port;
use crate::model::{Kind, Model};

/// A charm without a process: it handles its events through the same hook tools.
pub(crate) trait Actor: Send + Sync {
    /// One event. An error fails the hook.
    fn handle(&self, port: &mut Port<'_>) -> std::result::Result<(), String>;
}

/// The actor of this kind, with its metadata.
pub(crate) fn make(kind: &str, _model: &Model) -> Result<Kind> {
    Err(Error::refused(format!("unknown actor {kind:?}")))
}

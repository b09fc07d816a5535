//! Whether the checks of the services pass.

use serde::Deserialize;

use super::{client::Pebble, error::PebbleError};

/// The answer to Kubernetes' probes.
#[derive(Deserialize)]
struct Health {
    healthy: bool,
}

impl Pebble {
    /// Whether no check of level `ready` or `alive` is down.
    pub fn is_ready(&self) -> Result<bool, PebbleError> {
        let Health { healthy } = self.get("/v1/health?level=ready")?;
        Ok(healthy)
    }
}

//! The health checks of the services.

use serde::Deserialize;

use super::{client::Pebble, error::PebbleError};

/// What Pebble answers to the probes of Kubernetes.
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

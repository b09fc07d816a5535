//! What Pebble sees when it looks whether the services are well.

use serde::Deserialize;

use super::{Pebble, error::PebbleError};

/// One check of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// As the plan names it.
    pub name: String,
    /// `alive` or `ready`, if it counts for one of Kubernetes' probes.
    pub level: Option<String>,
    /// How it stands.
    pub status: CheckStatus,
    /// In a row, up to now.
    #[serde(default)]
    pub failures: u32,
    /// How many of them make it down.
    pub threshold: u32,
}

/// How a check stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Not failed often enough, or not run yet: the first run is one period after it was made.
    Up,
    /// Failed too often in a row.
    Down,
    /// Not run at all.
    Inactive,
}

/// The answer to Kubernetes' probes.
#[derive(Deserialize)]
struct Health {
    healthy: bool,
}

impl Pebble {
    /// All checks of the plan, by name.
    pub fn checks(&self) -> Result<Vec<Check>, PebbleError> {
        self.get("/v1/checks")
    }

    /// Whether no check is down: of level `alive`, or of `ready` and `alive`, or at all.
    pub fn healthy(&self, level: Option<&str>) -> Result<bool, PebbleError> {
        let query = level.map(|level| format!("?level={level}")).unwrap_or_default();
        let Health { healthy } = self.get(&format!("/v1/health{query}"))?;
        Ok(healthy)
    }
}

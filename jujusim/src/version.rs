//! Which Juju is modelled, and what differs between releases.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A Juju release: `3.6.14`. Ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

impl Version {
    pub(crate) fn at_least(self, major: u16, minor: u16, patch: u16) -> bool {
        self >= Version { major, minor, patch }
    }

    /// Whether this Juju has secrets (3.0 and later).
    pub fn has_secrets(self) -> bool {
        self.at_least(3, 0, 0)
    }

    /// Whether `secret-changed` depends on the tracked revision (4.0, `GetConsumedSecretURIsWithChanges`), not on what was announced.
    pub(crate) fn announces_by_pin(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// Whether this Juju has `leader-get`, `leader-set` and `leader-settings-changed` (up to 3.6).
    pub(crate) fn has_leader_settings(self) -> bool {
        !self.at_least(4, 0, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Modelled are the last of Juju 2, the long term support release of Juju 3, and Juju 4.
    fn from_str(text: &str) -> Result<Version, Error> {
        let numbers: Option<Vec<u16>> = text.split('.').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[major, minor, patch]) if matches!((major, minor), (2, 9) | (3, 6) | (4, 0)) => {
                Ok(Version { major, minor, patch })
            }
            _ => Err(Error::NotModelled(format!("Juju {text}; use 3.6.14, 2.9.52 or 4.0.15"))),
        }
    }
}

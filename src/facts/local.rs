//! The facts about this unit's own PgBouncer: its processes and its files.

use crate::facts::configuration::Config;
use crate::pgbouncer::{SharedConfig, TlsFiles, Unit, UserList, Version};
use crate::secret::Secret;
use crate::status::Wait;
use crate::workload::{Probe, ProbeError, Saved};

/// This unit's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPgbouncer {
    /// The unit's own part of the configuration.
    pub unit: Unit,
    /// The digest that each process has loaded; `None` for a process that needs a reload.
    pub loaded: Vec<Option<String>>,
}

/// The configuration and users in this unit's files, from an earlier hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The last configuration that this unit loaded.
    pub config: Option<Config>,
    /// The last user list that this unit loaded.
    pub users: Option<UserList>,
    /// The private key and certificates that this unit loaded, in PEM.
    pub identity: Option<Secret>,
}

impl Kept {
    /// Parses the files; an incomplete file counts as missing.
    pub fn read(saved: Saved) -> Self {
        let config = |text: String| {
            let shared = SharedConfig::parse(&text).ok()?;
            Some(Config { shared, text })
        };
        let users = |text: Secret| UserList::parse(text.reveal()).ok();
        Self {
            config: saved.config.and_then(config),
            users: saved.users.and_then(users),
            identity: saved.identity,
        }
    }
}

/// Builds the unit's own part of the configuration from a probe.
pub fn unit(probe: Probe, listen_addr: String) -> Result<Unit, Wait> {
    let Probe { version, auth_file, places, .. } = probe;
    match Version::parse(&version) {
        Some(version) => {
            Ok(Unit { listen_addr, auth_file, places, version, tls: TlsFiles::default() })
        }
        None => Err(Wait::NoVersion(format!("{version:?} is not a version"))),
    }
}

impl From<ProbeError> for Wait {
    fn from(error: ProbeError) -> Self {
        match error {
            ProbeError::NotOnMachine => Self::NotOnMachine,
            ProbeError::NotInImage => Self::NotInImage,
            ProbeError::NoVersion(reason) => Self::NoVersion(reason),
            ProbeError::Away(_) => Self::Away,
            ProbeError::Unreadable(reason) => Self::NotLoaded(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::configuration::tests::{config_of, options};

    #[test]
    fn incomplete_files_count_as_missing() {
        let config = config_of(&options(), None);
        let kept = Kept::read(Saved { config: Some(config.text.clone()), ..Saved::default() });
        assert_eq!(kept, Kept { config: Some(config), ..Kept::default() });
        let saved = Saved {
            config: Some("[pgbouncer]\n".into()),
            users: Some(Secret::new("nonsense")),
            identity: None,
        };
        assert_eq!(Kept::read(saved), Kept::default());
    }

    #[test]
    fn a_version_that_cannot_be_parsed_is_a_wait() {
        let probe = |version: &str| Probe {
            version: version.into(),
            auth_file: "/a".into(),
            places: Vec::new(),
            has_exporter: false,
        };
        assert!(unit(probe("PgBouncer 1.24.1"), "*".into()).is_ok());
        assert_eq!(
            unit(probe("moon"), "*".into()),
            Err(Wait::NoVersion("\"moon\" is not a version".into()))
        );
    }
}

//! The modelled Juju version, and the differences between releases.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A Juju release, such as `3.6.14`. Ordered by version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

/// The maximum size of a secret, counted in base64 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecretLimit {
    /// Of one value.
    pub(crate) value: usize,
    /// Of all values together.
    pub(crate) total: usize,
}

/// Which secret changes of a hook are applied before the hook's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretsFirst {
    /// All, one by one: they survive a later failure.
    All,
    /// Only new secrets.
    Creates,
    /// None: all are part of the transaction.
    None,
}

impl Version {
    pub(crate) fn at_least(self, major: u16, minor: u16, patch: u16) -> bool {
        self >= Version { major, minor, patch }
    }

    /// Whether this Juju has secrets (3.0 and later).
    pub fn has_secrets(self) -> bool {
        self.at_least(3, 0, 0)
    }

    /// Whether `secret-changed` depends on the tracked revision (4.0,
    /// `GetConsumedSecretURIsWithChanges`), not on the announced one.
    pub(crate) fn announces_by_pin(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// Whether this Juju has `leader-get`, `leader-set` and `leader-settings-changed` (up to 3.6).
    pub(crate) fn has_leader_settings(self) -> bool {
        !self.at_least(4, 0, 0)
    }

    /// Whether this Juju has `relation-model-get` (PR 18444).
    pub(crate) fn has_relation_model_get(self) -> bool {
        self.at_least(3, 6, 2)
    }

    /// Whether this Juju has `payload-*`, `pod-spec-*` and `k8s-*` (up to 3.6).
    pub(crate) fn has_pod_specs_and_payloads(self) -> bool {
        !self.at_least(4, 0, 0)
    }

    /// Whether this Juju has `add-metric`; 3.6.10 was withdrawn.
    pub(crate) fn has_metrics(self) -> bool {
        !self.at_least(3, 6, 11)
    }

    /// Whether a charm on Kubernetes can open ports (3.0.3 and later).
    pub(crate) fn opens_ports_on_kubernetes(self) -> bool {
        self.at_least(3, 0, 3)
    }

    /// The controller's error for a relation that no longer exists.
    pub(crate) fn missing_relation_error(self) -> &'static str {
        if self.at_least(4, 0, 0) { "relation not found" } else { "permission denied" }
    }

    /// The error of `secret-get` for an unknown label.
    pub(crate) fn unknown_label_error(self, label: &str) -> String {
        let of = if self.at_least(4, 0, 0) { "secret URI for " } else { "" };
        format!("{of}consumer label {label:?} not found")
    }

    /// The commit's error for a second grant of one secret to one application.
    pub(crate) fn changed_scope_error(self) -> &'static str {
        if self.at_least(4, 0, 0) {
            "cannot change scope or subject type"
        } else {
            "cannot change secret permission scope"
        }
    }

    /// Whether `relation-ids` omits a relation that is being removed and has no members (3.6.0 and
    /// later).
    pub(crate) fn hides_broken_relations(self) -> bool {
        self.at_least(3, 6, 0)
    }

    /// Whether a follower may read its own application's databag of a relation with another
    /// application.
    pub(crate) fn followers_read_own_app_bag(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// Whether Juju writes `private-address` to unit databags (up to 3.6).
    pub(crate) fn writes_private_address(self) -> bool {
        !self.at_least(4, 0, 0)
    }

    /// Whether `secret-add` prints `secret://<model>/<id>` rather than `secret:<id>`.
    pub(crate) fn prints_long_secret_uri(self) -> bool {
        !self.at_least(4, 0, 0)
    }

    /// The maximum size of a secret (PR 16943, PR 20287).
    pub(crate) fn secret_limit(self) -> SecretLimit {
        if self.at_least(3, 6, 9) {
            SecretLimit { value: 1_000_000, total: 1_000_000 }
        } else {
            SecretLimit { value: 8 << 10, total: 64 << 10 }
        }
    }

    /// Whether a secret's value must not be empty, in all forms of input.
    pub(crate) fn refuses_empty_secret_values(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// Whether only the last `secret-remove --revision` of a secret in a hook has an effect (until
    /// PR 20806).
    pub(crate) fn removes_one_revision_per_hook(self) -> bool {
        !self.at_least(3, 6, 11)
    }

    /// Whether removing a secret or revision that no longer exists is an error (until PR 20796).
    pub(crate) fn refuses_repeated_removal(self) -> bool {
        !self.at_least(3, 6, 11)
    }

    /// Whether `secret-get --label --refresh` returns what the hook itself wrote by URI (PR 21228).
    pub(crate) fn finds_pending_updates_by_label(self) -> bool {
        if self.at_least(4, 0, 0) { self.at_least(4, 0, 1) } else { self.at_least(3, 6, 12) }
    }

    /// Whether labels of an application's secrets and of its units' secrets must differ, and a
    /// consumer's old label stays reserved (PR 14932; up to 3.6).
    pub(crate) fn shares_labels_between_app_and_units(self) -> bool {
        !self.at_least(4, 0, 0)
    }

    /// Which secret changes are applied before the hook's transaction (PR 22465, 22544, 22580,
    /// 22651, 22663).
    pub(crate) fn secrets_first(self) -> SecretsFirst {
        if self.at_least(4, 0, 14) {
            SecretsFirst::None
        } else if self.at_least(4, 0, 12) {
            SecretsFirst::Creates
        } else {
            SecretsFirst::All
        }
    }

    /// Whether owners' pins move after all other secret changes, not after the updates (4.0.12 and
    /// later).
    pub(crate) fn tracks_last(self) -> bool {
        self.at_least(4, 0, 12)
    }

    /// Whether a grant for a relation that no longer exists is skipped, not an error (4.0.12 and
    /// later).
    pub(crate) fn skips_grants_of_removed_relations(self) -> bool {
        self.at_least(4, 0, 12)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Parses a version. Modelled are the last release of Juju 2, the long-term release of Juju 3,
    /// and Juju 4.
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

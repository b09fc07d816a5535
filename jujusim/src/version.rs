//! The modelled Juju version, and the differences between releases.
//!
//! What is true of 4.0 from 4.0.0 on was seen on 4.0.15 or read in its code; that earlier releases
//! of 4.0 are the same is assumed.

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

    /// Whether `config-changed` runs twice for each change: the agent compares trust and
    /// configuration by one hash.
    pub(crate) fn announces_config_twice(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// Whether a restarted agent announces the last changes of health checks again.
    pub(crate) fn repeats_check_events(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// Whether a commit that needs the lease is retried for minutes when a unit without the lease
    /// makes it.
    pub(crate) fn retries_commits_without_lease(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// Whether a follower that gives its application's secret another label is refused. Otherwise
    /// the label is ignored (LP 2064772).
    pub(crate) fn refuses_labels_of_followers(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// Whether `secret-info-get` shows the rotation of a secret that the same hook added.
    pub(crate) fn shows_rotation_of_new_secrets(self) -> bool {
        !self.at_least(4, 0, 0)
    }

    /// Whether `network-get` describes a device of the pod.
    pub(crate) fn names_network_device(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// Whether `unit-get` knows a private address.
    pub(crate) fn has_private_address(self) -> bool {
        !self.at_least(4, 0, 0)
    }

    /// Whether `juju exec` is an action, with the context and the tools of an action.
    pub(crate) fn executes_as_action(self) -> bool {
        self.at_least(4, 0, 0)
    }

    /// The variables of every hook that depend on the release.
    pub(crate) fn variables(self) -> &'static [(&'static str, &'static str)] {
        if self.at_least(4, 0, 0) {
            &[
                ("CLOUD_API_VERSION", "1.34.0"),
                ("JUJU_CHARM_TRACE_CONFIG_HTTP", ""),
                ("JUJU_CHARM_TRACE_CONFIG_GRPC", ""),
                ("JUJU_CHARM_TRACE_CONFIG_CA_CERT", ""),
            ]
        } else {
            &[("CLOUD_API_VERSION", "1.31"), ("JUJU_SLA", "unsupported")]
        }
    }

    /// The agent's error for a call with the id of another context.
    pub(crate) fn wrong_context_error(self, expected: &str, got: &str) -> String {
        if self.at_least(4, 0, 0) {
            format!("bad request: wrong context ID; got {got:?}")
        } else {
            format!("bad request: expected context id {expected:?}, got {got:?}")
        }
    }

    /// The error of `secret-get` for an unknown URI.
    pub(crate) fn unknown_secret_error(self, id: &str) -> String {
        if self.at_least(4, 0, 0) {
            "getting latest secret revision: secret not found".to_owned()
        } else {
            format!("secret {id:?} not found")
        }
    }

    /// The error of `state-set` for a key or value that is too long.
    pub(crate) fn state_limit_error(self, what: &str, limit: usize) -> String {
        if self.at_least(4, 0, 0) {
            format!("max allowed {what} length ({limit}): quota limit exceeded")
        } else {
            format!("max allowed {what} length ({limit}) exceeded")
        }
    }

    /// The error of `relation-get` for a unit that was never in the relation.
    pub(crate) fn foreign_unit_error(self, unit: &str, relation: &str) -> String {
        if self.at_least(4, 0, 0) {
            "relation unit not found".to_owned()
        } else {
            format!(
                "cannot read settings for unit \"{unit}\" in relation {relation:?}: unit \"{unit}\": settings not found"
            )
        }
    }

    /// The error of `relation-get` for an application that does not exist.
    pub(crate) fn unknown_app_error(self, app: &str) -> String {
        if self.at_least(4, 0, 0) {
            format!("getting application {app:?} not found")
        } else {
            "permission denied".to_owned()
        }
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

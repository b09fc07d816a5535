//! Parses the environment of a hook into an [`Event`] and the [`Unit`] that runs it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The hook or action that Juju runs. Every hook of Juju 2.9 to 4.0 has a variant. Any other name
/// is [`Event::Unknown`] and not an error, because a newer Juju may add hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `install`: once per unit; no relation is known yet.
    Install,
    /// `start`: after the first `config-changed`, and after every restart of the agent.
    Start,
    /// `stop`: before a unit is removed, and before its pod is moved or refreshed.
    Stop,
    /// `remove`: the last hook of a unit that is removed.
    Remove,
    /// `config-changed`.
    ConfigChanged,
    /// `update-status`.
    UpdateStatus,
    /// `upgrade-charm`: after `juju refresh`, and after a pod was replaced.
    UpgradeCharm,
    /// `leader-elected`.
    LeaderElected,
    /// `leader-settings-changed`, up to Juju 3.6.
    LeaderSettingsChanged,
    /// `leader-deposed`: defined by Juju, but never sent in practice.
    LeaderDeposed,
    /// `collect-metrics` and `meter-status-changed`: a restricted context with few tools.
    Metrics,
    /// `pre-series-upgrade` and `post-series-upgrade`, machines only.
    SeriesUpgrade,
    /// A hook of one of our endpoints.
    Relation(RelationEvent),
    /// A secret hook.
    Secret(SecretEvent),
    /// A hook about a workload container, such as `pgbouncer-pebble-ready`.
    Workload {
        /// The end of the hook's name, such as `pebble-ready`.
        hook: WorkloadHook,
        /// The name of the container: `pgbouncer`.
        container: String,
    },
    /// `<storage>-storage-attached` or `-detaching`; this charm declares no storage.
    Storage,
    /// An action, with its name.
    Action(String),
    /// A hook that this charm does not know.
    Unknown(String),
}

/// The facts of a relation hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationEvent {
    /// Our endpoint of the relation.
    pub endpoint: Endpoint,
    /// The kind of relation hook.
    pub hook: RelationHook,
    /// The number of the relation.
    pub relation: RelationId,
    /// The application on the other side; Juju may omit it in `-broken`.
    pub remote_app: Option<String>,
    /// The unit that joined, changed or departed; `None` if the hook concerns no unit.
    pub remote_unit: Option<String>,
    /// In `-departed`, the unit that leaves: the remote unit, or this unit if it is being removed.
    pub departing_unit: Option<String>,
}

/// The end of a relation hook's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Juju's own")]
pub enum RelationHook {
    Created,
    Joined,
    Changed,
    Departed,
    Broken,
}

/// The end of a workload hook's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Juju's own")]
pub enum WorkloadHook {
    PebbleReady,
    CustomNotice,
    CheckFailed,
    CheckRecovered,
}

/// The facts of a secret hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEvent {
    /// The kind of secret hook.
    pub hook: SecretHook,
    /// The secret's URI, in Juju's short or long form; compare URIs with [`secret_id`].
    pub uri: String,
    /// The owner's label; in `secret-changed` the consumer's label. Juju may omit it.
    pub label: Option<String>,
    /// The revision, in `secret-remove` and `secret-expired` only.
    pub revision: Option<u64>,
}

/// The end of a secret hook's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Juju's own")]
pub enum SecretHook {
    Changed,
    Remove,
    Rotate,
    Expired,
}

impl Event {
    /// The relation event, if the hook belongs to this endpoint.
    pub fn of(&self, endpoint: Endpoint) -> Option<&RelationEvent> {
        match self {
            Self::Relation(event) if event.endpoint == endpoint => Some(event),
            _ => None,
        }
    }

    /// The relation event, if the hook belongs to this endpoint and is of this kind.
    pub fn hook_of(&self, endpoint: Endpoint, hook: RelationHook) -> Option<&RelationEvent> {
        self.of(endpoint).filter(|event| event.hook == hook)
    }

    /// Whether the dispatch converges the unit. `install` does, but finds no peer relation yet.
    /// A unit that stops changes nothing for other units, and in a metrics hook Juju refuses most
    /// hook tools.
    pub fn converges(&self) -> bool {
        !matches!(self, Self::Action(_) | Self::Metrics | Self::Stop | Self::Remove)
    }

    /// Whether this unit may have missed any earlier hook: a new leader takes over the work of the
    /// previous leader, and a new pod or revision starts from an unknown state.
    pub fn may_follow_missed_hooks(&self) -> bool {
        matches!(self, Self::LeaderElected | Self::UpgradeCharm | Self::Start)
    }
}

macro_rules! endpoints {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// The endpoints of this charm, with their names in `metadata.yaml`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names are those of metadata.yaml")]
        pub enum Endpoint { $($variant),* }

        impl Endpoint {
            /// All endpoints.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in `metadata.yaml`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

endpoints! {
    Peers = "pgb-peers",
    Upgrade = "upgrade",
    BackendDatabase = "backend-database",
    Database = "database",
    Db = "db",
    DbAdmin = "db-admin",
    Certificates = "certificates",
    ReceiveCaCert = "receive-ca-cert",
    MetricsEndpoint = "metrics-endpoint",
    GrafanaDashboard = "grafana-dashboard",
    Logging = "logging",
    Tracing = "tracing",
}

impl Endpoint {
    /// The endpoint with this name, if the charm has one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|endpoint| endpoint.name() == name)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The number of a relation. Juju writes `<endpoint>:<number>`; the number alone identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RelationId(pub u32);

impl FromStr for RelationId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.rsplit(':').next().unwrap_or(text).parse().map(Self)
    }
}

impl From<RelationId> for String {
    fn from(id: RelationId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for RelationId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for RelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Extracts the id of a secret from any form that Juju uses: `<id>`, `secret:<id>`,
/// `secret://<model uuid>/<id>`. Two URIs name the same secret if their ids are equal.
pub fn secret_id(uri: &str) -> &str {
    uri.rsplit(['/', ':']).next().unwrap_or(uri)
}

/// The identity of this unit, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The unit's name, such as `pgbouncer-k8s/0`.
    pub name: String,
    /// The application's name, such as `pgbouncer-k8s`.
    pub app: String,
    /// The unit's number, such as `0`.
    pub number: u32,
    /// The model's name, which is also its Kubernetes namespace.
    pub model: String,
    /// The model's UUID.
    pub model_uuid: String,
    /// The version of Juju's agent.
    pub juju: JujuVersion,
    /// The directory into which Juju unpacked the charm.
    pub charm_dir: PathBuf,
}

impl Unit {
    /// The unit's name as a file or host name: `pgbouncer-k8s-0`.
    pub fn dashed(&self) -> String {
        format!("{}-{}", self.app, self.number)
    }
}

/// The version of Juju. Anything after the third number (`4.0-beta1`, `3.6.9.1`) is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JujuVersion(pub u32, pub u32, pub u32);

impl JujuVersion {
    /// Parses a version. A missing number counts as 0, so that an unknown version has no features.
    pub fn parse(text: &str) -> Self {
        let mut numbers = text.split(['.', '-']).map(|part| {
            part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
        });
        let mut next = || numbers.next().unwrap_or(0);
        Self(next(), next(), next())
    }

    /// Whether followers can read the application's secrets by label: since 3.0.3.
    pub fn has_secrets(self) -> bool {
        self >= Self(3, 0, 3)
    }

    /// Whether Pebble forwards logs with labels: since 3.4, which has Pebble 1.7. Pebble in the
    /// workload container comes from the same image as the agent, whose version this is.
    pub fn forwards_logs(self) -> bool {
        self >= Self(3, 4, 0)
    }

    /// Whether `secret-remove --revision` removes only that revision, and is no error when
    /// repeated: since 3.6.11 (juju/juju#20782, #20794).
    pub fn removes_single_revisions(self) -> bool {
        self >= Self(3, 6, 11)
    }
}

/// The reason why the environment is not that of a hook.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotAHook {
    /// No hook runs: a person or `juju exec` started the program.
    #[error(
        "cannot find a hook: JUJU_DISPATCH_PATH is not set; Juju runs this program, see --help"
    )]
    NoDispatch,
    /// A required variable is missing or malformed.
    #[error("cannot read {variable} from the environment: {reason}")]
    Variable {
        /// The name of the variable.
        variable: &'static str,
        /// Why its value is unusable.
        reason: &'static str,
    },
}

/// Reads unit and event from `env`, which looks up a variable of the environment. Juju sets
/// variables that do not apply to the empty string, so an empty value counts as absent.
pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<(Unit, Event), NotAHook> {
    let get = |name: &str| env(name).filter(|value| !value.is_empty());
    let path = get("JUJU_DISPATCH_PATH").ok_or(NotAHook::NoDispatch)?;
    let unit = unit(&get)?;
    let event = match path.split_once('/') {
        Some(("actions", action)) => Event::Action(action.to_owned()),
        _ => hook(path.rsplit('/').next().unwrap_or(&path), &get)?,
    };
    Ok((unit, event))
}

fn unit(get: &impl Fn(&str) -> Option<String>) -> Result<Unit, NotAHook> {
    let missing = |variable| move || NotAHook::Variable { variable, reason: "it is missing" };
    let name = get("JUJU_UNIT_NAME").ok_or_else(missing("JUJU_UNIT_NAME"))?;
    let malformed = NotAHook::Variable {
        variable: "JUJU_UNIT_NAME",
        reason: "it is not <application>/<number>",
    };
    let Some((app, number)) = name.split_once('/') else { return Err(malformed) };
    let Ok(number) = number.parse() else { return Err(malformed) };
    Ok(Unit {
        app: app.to_owned(),
        number,
        model: get("JUJU_MODEL_NAME").ok_or_else(missing("JUJU_MODEL_NAME"))?,
        model_uuid: get("JUJU_MODEL_UUID").unwrap_or_default(),
        juju: JujuVersion::parse(&get("JUJU_VERSION").unwrap_or_default()),
        charm_dir: get("JUJU_CHARM_DIR")
            .or_else(|| get("CHARM_DIR"))
            .unwrap_or_else(|| ".".into())
            .into(),
        name,
    })
}

fn hook(name: &str, get: &impl Fn(&str) -> Option<String>) -> Result<Event, NotAHook> {
    Ok(match name {
        "install" => Event::Install,
        "start" => Event::Start,
        "stop" => Event::Stop,
        "remove" => Event::Remove,
        "config-changed" => Event::ConfigChanged,
        "update-status" => Event::UpdateStatus,
        "upgrade-charm" => Event::UpgradeCharm,
        "leader-elected" => Event::LeaderElected,
        "leader-settings-changed" => Event::LeaderSettingsChanged,
        "leader-deposed" => Event::LeaderDeposed,
        "collect-metrics" | "meter-status-changed" => Event::Metrics,
        "pre-series-upgrade" | "post-series-upgrade" => Event::SeriesUpgrade,
        "secret-changed" => secret(SecretHook::Changed, get)?,
        "secret-remove" => secret(SecretHook::Remove, get)?,
        "secret-rotate" => secret(SecretHook::Rotate, get)?,
        "secret-expired" => secret(SecretHook::Expired, get)?,
        _ => prefixed_hook(name, get)?,
    })
}

/// Parses a hook whose name begins with an endpoint, a container or a storage.
fn prefixed_hook(name: &str, get: &impl Fn(&str) -> Option<String>) -> Result<Event, NotAHook> {
    const RELATION: [(&str, RelationHook); 5] = [
        ("-relation-created", RelationHook::Created),
        ("-relation-joined", RelationHook::Joined),
        ("-relation-changed", RelationHook::Changed),
        ("-relation-departed", RelationHook::Departed),
        ("-relation-broken", RelationHook::Broken),
    ];
    const WORKLOAD: [(&str, WorkloadHook); 4] = [
        ("-pebble-ready", WorkloadHook::PebbleReady),
        ("-pebble-custom-notice", WorkloadHook::CustomNotice),
        ("-pebble-check-failed", WorkloadHook::CheckFailed),
        ("-pebble-check-recovered", WorkloadHook::CheckRecovered),
    ];
    for (suffix, hook) in RELATION {
        let Some(endpoint) = name.strip_suffix(suffix).and_then(Endpoint::named) else { continue };
        let variable = "JUJU_RELATION_ID";
        let relation = get(variable)
            .ok_or(NotAHook::Variable { variable, reason: "it is missing" })?
            .parse()
            .map_err(|_| NotAHook::Variable {
                variable,
                reason: "it is not <endpoint>:<number>",
            })?;
        let remote_unit = get("JUJU_REMOTE_UNIT");
        return Ok(Event::Relation(RelationEvent {
            endpoint,
            hook,
            relation,
            remote_app: get("JUJU_REMOTE_APP").or_else(|| {
                remote_unit.as_deref().and_then(|unit| unit.split('/').next()).map(str::to_owned)
            }),
            remote_unit,
            departing_unit: get("JUJU_DEPARTING_UNIT"),
        }));
    }
    for (suffix, hook) in WORKLOAD {
        if let Some(container) = name.strip_suffix(suffix) {
            return Ok(Event::Workload { hook, container: container.to_owned() });
        }
    }
    if name.ends_with("-storage-attached") || name.ends_with("-storage-detaching") {
        return Ok(Event::Storage);
    }
    Ok(Event::Unknown(name.to_owned()))
}

fn secret(hook: SecretHook, get: &impl Fn(&str) -> Option<String>) -> Result<Event, NotAHook> {
    let variable = "JUJU_SECRET_ID";
    Ok(Event::Secret(SecretEvent {
        hook,
        uri: get(variable).ok_or(NotAHook::Variable { variable, reason: "it is missing" })?,
        label: get("JUJU_SECRET_LABEL"),
        revision: get("JUJU_SECRET_REVISION").and_then(|text| text.parse().ok()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn event(path: &str, extra: &[(&str, &str)]) -> Event {
        read(path, extra).expect("a hook").1
    }

    fn read(path: &str, extra: &[(&str, &str)]) -> Result<(Unit, Event), NotAHook> {
        let base = [
            ("JUJU_DISPATCH_PATH", path),
            ("JUJU_UNIT_NAME", "pgbouncer-k8s/2"),
            ("JUJU_MODEL_NAME", "prod"),
            ("JUJU_VERSION", "3.6.14"),
        ];
        from_env(|name| {
            extra
                .iter()
                .chain(&base)
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_unit_is_read_with_its_application_number_and_juju_version() {
        let (unit, event) = read("hooks/install", &[]).expect("a hook");
        assert_eq!(event, Event::Install);
        assert_eq!((unit.app.as_str(), unit.number), ("pgbouncer-k8s", 2));
        assert_eq!(unit.dashed(), "pgbouncer-k8s-2");
        assert!(unit.juju.has_secrets() && unit.juju.removes_single_revisions());
    }

    #[test]
    fn an_empty_remote_unit_counts_as_absent() {
        let event = event(
            "hooks/pgb-peers-relation-changed",
            &[
                ("JUJU_RELATION_ID", "pgb-peers:1"),
                ("JUJU_REMOTE_APP", "pgbouncer-k8s"),
                ("JUJU_REMOTE_UNIT", ""),
            ],
        );
        let Event::Relation(relation) = event else { panic!("{event:?}") };
        assert_eq!(relation.endpoint, Endpoint::Peers);
        assert_eq!(relation.relation, RelationId(1));
        assert_eq!(relation.remote_unit, None);
    }

    #[test]
    fn a_missing_remote_application_is_taken_from_the_remote_unit() {
        let event = event(
            "hooks/backend-database-relation-broken",
            &[("JUJU_RELATION_ID", "4"), ("JUJU_REMOTE_UNIT", "postgresql-k8s/0")],
        );
        let Event::Relation(relation) = event else { panic!("{event:?}") };
        assert_eq!(relation.remote_app.as_deref(), Some("postgresql-k8s"));
    }

    #[test]
    fn secret_remove_carries_its_revision() {
        let event = event(
            "hooks/secret-remove",
            &[("JUJU_SECRET_ID", "secret:9m4e2mr0ui3e8a215n4g"), ("JUJU_SECRET_REVISION", "3")],
        );
        let Event::Secret(secret) = event else { panic!("{event:?}") };
        assert_eq!(
            (secret.hook, secret.revision, secret.label),
            (SecretHook::Remove, Some(3), None)
        );
    }

    #[test]
    fn every_hook_of_juju_has_a_variant() {
        let relation = [("JUJU_RELATION_ID", "database:7"), ("JUJU_SECRET_ID", "secret:x")];
        for name in [
            "install",
            "start",
            "stop",
            "remove",
            "config-changed",
            "update-status",
            "upgrade-charm",
            "leader-elected",
            "leader-settings-changed",
            "leader-deposed",
            "collect-metrics",
            "meter-status-changed",
            "pre-series-upgrade",
            "post-series-upgrade",
            "secret-changed",
            "secret-remove",
            "secret-rotate",
            "secret-expired",
            "data-storage-attached",
            "data-storage-detaching",
            "pgbouncer-pebble-ready",
            "pgbouncer-pebble-custom-notice",
            "pgbouncer-pebble-check-failed",
            "pgbouncer-pebble-check-recovered",
        ] {
            let event = event(&format!("hooks/{name}"), &relation);
            assert!(!matches!(event, Event::Unknown(_)), "{name} is unknown");
        }
        for endpoint in Endpoint::ALL {
            for hook in ["created", "joined", "changed", "departed", "broken"] {
                let event = event(&format!("hooks/{endpoint}-relation-{hook}"), &relation);
                assert!(
                    matches!(&event, Event::Relation(r) if r.endpoint == *endpoint),
                    "{event:?}"
                );
            }
        }
    }

    #[test]
    fn a_hook_of_a_newer_juju_is_unknown_but_not_an_error() {
        assert_eq!(event("hooks/moon-rises", &[]), Event::Unknown("moon-rises".into()));
        assert_eq!(
            event("hooks/cos-relation-joined", &[]),
            Event::Unknown("cos-relation-joined".into())
        );
    }

    #[test]
    fn a_path_below_actions_is_an_action() {
        assert_eq!(event("actions/resume-upgrade", &[]), Event::Action("resume-upgrade".into()));
    }

    #[test]
    fn an_environment_without_a_dispatch_path_is_no_hook() {
        assert_eq!(from_env(|_| None), Err(NotAHook::NoDispatch));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(JujuVersion::parse("3.6.9") < JujuVersion::parse("3.6.11"));
        assert_eq!(JujuVersion::parse("4.0-beta1"), JujuVersion(4, 0, 0));
        assert!(!JujuVersion::parse("2.9.52").has_secrets());
        assert!(!JujuVersion::parse("").has_secrets());
        assert!(JujuVersion::parse("3.4.0").forwards_logs());
        assert!(!JujuVersion::parse("3.3.7").forwards_logs());
    }

    #[test]
    fn every_form_of_a_secret_uri_has_the_same_id() {
        for uri in ["abc", "secret:abc", "secret:/abc", "secret://20ce8299/abc"] {
            assert_eq!(secret_id(uri), "abc");
        }
    }
}

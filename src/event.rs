//! The environment Juju gives a hook, turned into an [`Event`] and the [`Unit`] it is for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What Juju calls the charm for. Every hook of Juju 2.9 to 4.0 has a variant; a name that is none
/// of them is [`Event::Unknown`] and no error: a newer Juju may send more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `install`: once per unit; no relation is known yet.
    Install,
    /// `start`: after the first `config-changed`, and again whenever the agent was restarted.
    Start,
    /// `stop`: also when the pod is only moved or refreshed.
    Stop,
    /// `remove`: the last hook of a unit that goes for good.
    Remove,
    /// `config-changed`.
    ConfigChanged,
    /// `update-status`.
    UpdateStatus,
    /// `upgrade-charm`: after `juju refresh`, and whenever a pod was replaced.
    UpgradeCharm,
    /// `leader-elected`.
    LeaderElected,
    /// `leader-settings-changed`, up to Juju 3.6.
    LeaderSettingsChanged,
    /// `leader-deposed`, named by Juju and never sent in practice.
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
        /// The hook's last words, such as `pebble-ready`.
        hook: WorkloadHook,
        /// The container, `pgbouncer`.
        container: String,
    },
    /// `<storage>-storage-attached` or `-detaching`; we declare no storage.
    Storage,
    /// An action, by its name.
    Action(String),
    /// A hook this charm does not know.
    Unknown(String),
}

/// A relation hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationEvent {
    /// Our side of the relation.
    pub endpoint: Endpoint,
    /// What happened.
    pub hook: RelationHook,
    /// The relation.
    pub relation: RelationId,
    /// The application on the other side; Juju may leave it out in `-broken`.
    pub remote_app: Option<String>,
    /// The unit that joined, changed or departed; absent where the hook concerns no unit.
    pub remote_unit: Option<String>,
    /// In `-departed`, the unit that leaves: the remote one, or this one when it is we who go.
    pub departing_unit: Option<String>,
}

/// The last word of a relation hook's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Juju's own")]
pub enum RelationHook {
    Created,
    Joined,
    Changed,
    Departed,
    Broken,
}

/// The last words of a workload hook's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Juju's own")]
pub enum WorkloadHook {
    PebbleReady,
    CustomNotice,
    CheckFailed,
    CheckRecovered,
}

/// A secret hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEvent {
    /// What happened.
    pub hook: SecretHook,
    /// The secret, in Juju's short or long form; compare with [`secret_id`].
    pub uri: String,
    /// The owner's label, or the consumer's own in `secret-changed`; Juju may leave it empty.
    pub label: Option<String>,
    /// The revision, in `secret-remove` and `secret-expired` only.
    pub revision: Option<u64>,
}

/// The last word of a secret hook's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Juju's own")]
pub enum SecretHook {
    Changed,
    Remove,
    Rotate,
    Expired,
}

impl Event {
    /// The relation event, if it is one of this endpoint.
    pub fn of(&self, endpoint: Endpoint) -> Option<&RelationEvent> {
        match self {
            Self::Relation(event) if event.endpoint == endpoint => Some(event),
            _ => None,
        }
    }

    /// The same, if it is of this kind.
    pub fn hook_of(&self, endpoint: Endpoint, hook: RelationHook) -> Option<&RelationEvent> {
        self.of(endpoint).filter(|event| event.hook == hook)
    }

    /// Whether the hook ends with the convergence of `pgb-peers`. `install` does, and finds no
    /// relation yet. A unit that stops changes nothing for others, and in a metrics hook Juju
    /// refuses most tools.
    pub fn converges(&self) -> bool {
        !matches!(self, Self::Action(_) | Self::Metrics | Self::Stop | Self::Remove)
    }

    /// Whether any earlier hook may be missing: a new leader takes over the work of the old one, and
    /// a new pod or revision may have missed anything.
    pub fn begins_anew(&self) -> bool {
        matches!(self, Self::LeaderElected | Self::UpgradeCharm | Self::Start)
    }
}

macro_rules! endpoints {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// Our endpoints, as `metadata.yaml` names them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names are those of metadata.yaml")]
        pub enum Endpoint { $($variant),* }

        impl Endpoint {
            /// All of them.
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
    MetricsEndpoint = "metrics-endpoint",
    GrafanaDashboard = "grafana-dashboard",
    Logging = "logging",
    Tracing = "tracing",
}

impl Endpoint {
    /// The endpoint of this name, if it is one of ours.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|endpoint| endpoint.name() == name)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A relation's number. Juju writes `<endpoint>:<number>`; the number alone is the identity.
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

/// The id of a secret in any of the forms Juju uses: `<id>`, `secret:<id>`,
/// `secret://<model uuid>/<id>`. Two forms name the same secret when their ids are equal.
pub fn secret_id(uri: &str) -> &str {
    uri.rsplit(['/', ':']).next().unwrap_or(uri)
}

/// Who and where we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `pgbouncer-k8s/0`.
    pub name: String,
    /// `pgbouncer-k8s`.
    pub app: String,
    /// `0`.
    pub number: u32,
    /// The model's name, which is also its Kubernetes namespace.
    pub model: String,
    /// The model's uuid.
    pub model_uuid: String,
    /// The agent's version.
    pub juju: JujuVersion,
    /// Where the charm is unpacked.
    pub charm_dir: PathBuf,
}

impl Unit {
    /// The unit's name as a file or host name: `pgbouncer-k8s-0`.
    pub fn dashed(&self) -> String {
        format!("{}-{}", self.app, self.number)
    }
}

/// Juju's version; what follows the third number (`4.0-beta1`, `3.6.9.1`) is of no concern here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JujuVersion(pub u32, pub u32, pub u32);

impl JujuVersion {
    /// Reads Juju's text; what is missing counts as 0, so that an unknown version has no features.
    pub fn parse(text: &str) -> Self {
        let mut numbers = text.split(['.', '-']).map(|part| {
            part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
        });
        let mut next = || numbers.next().unwrap_or(0);
        Self(next(), next(), next())
    }

    /// Secrets that followers can read by label: 3.0.3.
    pub fn has_secrets(self) -> bool {
        self >= Self(3, 0, 3)
    }

    /// From 3.6.11 removing one revision removes just that one, and removing it twice is no error
    /// (juju/juju#20782, #20794).
    pub fn removes_single_revisions(self) -> bool {
        self >= Self(3, 6, 11)
    }
}

/// Why the environment is not one of a hook.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotAHook {
    /// Nobody called us for an event: a person typed the command, or `juju exec` runs it.
    #[error("JUJU_DISPATCH_PATH is not set: this program is run by Juju; see --help")]
    NoDispatch,
    /// A variable without which no hook can be handled.
    #[error("cannot read {variable} from the environment: {reason}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Reads the event from `env`, a lookup in the process's environment.
/// Juju sets variables that do not apply to the empty string, so empty counts as absent.
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
    let malformed =
        NotAHook::Variable { variable: "JUJU_UNIT_NAME", reason: "it is not <application>/<number>" };
    let Some((app, number)) = name.split_once('/') else { return Err(malformed) };
    let Ok(number) = number.parse() else { return Err(malformed) };
    Ok(Unit {
        app: app.to_owned(),
        number,
        model: get("JUJU_MODEL_NAME").ok_or_else(missing("JUJU_MODEL_NAME"))?,
        model_uuid: get("JUJU_MODEL_UUID").unwrap_or_default(),
        juju: JujuVersion::parse(&get("JUJU_VERSION").unwrap_or_default()),
        charm_dir: get("JUJU_CHARM_DIR").or_else(|| get("CHARM_DIR")).unwrap_or_else(|| ".".into()).into(),
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
        _ => hook_of_something(name, get)?,
    })
}

/// Hooks whose name begins with the endpoint, container or storage they are about.
fn hook_of_something(name: &str, get: &impl Fn(&str) -> Option<String>) -> Result<Event, NotAHook> {
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
            .map_err(|_| NotAHook::Variable { variable, reason: "it is not <endpoint>:<number>" })?;
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
            extra.iter().chain(&base).find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
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
    fn an_empty_remote_unit_is_no_unit() {
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
    fn the_remote_application_is_taken_from_the_unit_when_juju_leaves_it_out() {
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
        assert_eq!((secret.hook, secret.revision, secret.label), (SecretHook::Remove, Some(3), None));
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
                assert!(matches!(&event, Event::Relation(r) if r.endpoint == *endpoint), "{event:?}");
            }
        }
    }

    #[test]
    fn a_hook_of_a_newer_juju_is_unknown_and_no_error() {
        assert_eq!(event("hooks/moon-rises", &[]), Event::Unknown("moon-rises".into()));
        assert_eq!(event("hooks/cos-relation-joined", &[]), Event::Unknown("cos-relation-joined".into()));
    }

    #[test]
    fn an_action_is_told_from_a_hook() {
        assert_eq!(event("actions/resume-upgrade", &[]), Event::Action("resume-upgrade".into()));
    }

    #[test]
    fn without_a_dispatch_path_nothing_is_handled() {
        assert_eq!(from_env(|_| None), Err(NotAHook::NoDispatch));
    }

    #[test]
    fn versions_are_compared_as_versions() {
        assert!(JujuVersion::parse("3.6.9") < JujuVersion::parse("3.6.11"));
        assert_eq!(JujuVersion::parse("4.0-beta1"), JujuVersion(4, 0, 0));
        assert!(!JujuVersion::parse("2.9.52").has_secrets());
        assert!(!JujuVersion::parse("").has_secrets());
    }

    #[test]
    fn the_forms_of_a_secret_uri_have_one_id() {
        for uri in ["abc", "secret:abc", "secret:/abc", "secret://20ce8299/abc"] {
            assert_eq!(secret_id(uri), "abc");
        }
    }
}

//! The unit's status: the table of causes, and the choice of the one cause that a unit shows.
//!
//! `docs/statuses.md` is generated from the table.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::event::{Endpoint, RelationId};
use crate::facts::options::InvalidOption;
use crate::pgbouncer::PoolMode;
use crate::printable;

/// A status for `status-set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The status word.
    pub kind: Kind,
    /// The reason and the remedy; when active, what the unit serves.
    pub message: String,
}

/// The thing that a status is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This unit.
    Unit,
    /// The application. Only the leader sets it.
    Application,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "unit",
            Self::Application => "application",
        })
    }
}

/// The status words that a charm may set, from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An operator has to act.
    Blocked,
    /// The charm is working; never set by this charm.
    Maintenance,
    /// Another unit, application or container has to act first.
    Waiting,
    /// The unit serves everything that its clients requested.
    Active,
}

macro_rules! causes {
    ($($name:ident $(($($field:ident: $type:ty),+))? $kind:ident $says:literal
        $(such as $($example:literal),+;)? when $when:literal remedy $remedy:literal)+) => {
        /// A reason why a dispatch has work left, with the variable parts of its message. The
        /// status shows the first reason in this order.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Wait { $(#[doc = $when] $name $(($($type),+))?,)+ }

        /// A row of the table of causes: a [`Wait`] without the variable parts.
        #[expect(missing_docs, reason = "`when` describes each cause")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Cause { $($name,)+ }

        impl Wait {
            /// The row of the table.
            pub fn cause(&self) -> Cause {
                match self { $(Self::$name { .. } => Cause::$name,)+ }
            }
        }

        impl fmt::Display for Wait {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name $(($($field),+))? => write!(f, $says $(, $($field),+)?),)+
                }
            }
        }

        impl Cause {
            /// All rows, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The status word.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)+ }
            }

            /// The message, with `{}` for each variable part.
            pub fn says(self) -> &'static str {
                match self { $(Self::$name => $says,)+ }
            }

            /// Usual forms of a message that is variable as a whole, in the notation of
            /// [`Self::says`].
            pub fn examples(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($($example,)+)?],)+ }
            }

            /// The condition under which the status shows this cause.
            pub fn when(self) -> &'static str {
                match self { $(Self::$name => $when,)+ }
            }

            /// The remedy for the operator.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

// A message that the Python charm also has keeps the Python charm's wording.
causes! {
    NotOnMachine Blocked "cannot run PgBouncer: pgbouncer is not on PATH; install it on this \
        machine"
        when "The charm runs on a machine whose `PATH` has no `pgbouncer`."
        remedy "`apt-get install pgbouncer` on that machine."
    NotInImage Blocked "cannot run PgBouncer: the workload image has no pgbouncer; attach another \
        image (juju attach-resource)"
        when "The image of the workload container has no `pgbouncer` on its `PATH`."
        remedy "`juju attach-resource pgbouncer-k8s pgbouncer-image=IMAGE`."
    NoVersion(reason: String) Blocked "cannot run pgbouncer --version: {}; replace the PgBouncer \
        image or package"
        when "`pgbouncer` is installed but does not report its version."
        remedy "Run `pgbouncer --version` in the workload container to see the error; attach \
            another image."
    Option(invalid: InvalidOption) Blocked "option {}"
        when "An option has an invalid value; several are shown as `options …, …: …`. The previous \
            values of all options stay in force, and all units keep serving."
        remedy "Set a value that the message allows with `juju config`, or reset the option with \
            `--reset`."
    Unreachable(reason: String) Blocked "{}"
        such as "cannot connect to database {} of PostgreSQL at {} as {}: {}";
        when "The charm cannot connect to PostgreSQL. Clients that have credentials are still \
            served."
        remedy "Check that PostgreSQL runs; if the message has a remedy, follow it. If the user \
            was changed, remove the relation and add it again. Every hook retries."
    Refused(reason: String) Blocked "{}"
        such as "drop or rename role {} in PostgreSQL: it is not ours, or an earlier revision \
            left it; ours carries the comment {}",
            "PostgreSQL {} is too old: relate to version 14 or later";
        when "PostgreSQL rejects a statement that the charm needs. The message has PostgreSQL's \
            reason."
        remedy "Follow the message: drop or rename a role, or upgrade PostgreSQL."
    Backend Blocked "backend database relation not ready"
        when "PostgreSQL is related and has not provided credentials yet."
        remedy "Wait for PostgreSQL; check its status."
    NoBackend Blocked "waiting for backend database relation to initialise"
        when "PgBouncer is not related to PostgreSQL."
        remedy "`juju integrate pgbouncer-k8s:backend-database postgresql-k8s`."
    Client(client: ClientName, reason: String) Blocked "cannot serve {}: {}"
        when "A client requests something that the charm cannot provide. Other clients are served."
        remedy "Change the request of the application that the message names, or remove the \
            relation."
    NotBuilt(endpoint: Endpoint) Blocked "relation {} is not supported yet: remove it"
        when "A relation exists that this revision does not support."
        remedy "`juju remove-relation`. All other relations are served."
    NoCertificate(mode: String) Blocked "cannot serve clients: client_tls_sslmode is {} and this \
        unit has no certificate; integrate certificates, or set another mode"
        when "The option `client_tls_sslmode` demands TLS and the unit has no certificate yet. The \
            unit keeps running its last configuration; a new unit serves no clients."
        remedy "`juju integrate pgbouncer-k8s:certificates PROVIDER`, or check the provider's \
            status; otherwise set `client_tls_sslmode` to `prefer`."
    CertificateRefused(app: String, reason: String) Blocked "cannot get a certificate: {} refuses \
        the request: {}; change its policy"
        when "The provider of certificates refuses this unit's request. A certificate that the \
            unit already has stays in use."
        remedy "Change the provider's policy as its message says, or integrate another provider."
    OldPebble Blocked "cannot forward logs: it needs Juju 3.4 or later; upgrade Juju, or remove \
        relation logging"
        when "A relation `logging` exists, and Pebble of this Juju does not forward logs. All \
            other relations are served."
        remedy "Upgrade the controller and the model to Juju 3.4 or later, or `juju \
            remove-relation`."
    Away Waiting "PgBouncer container currently unavailable"
        when "Pebble in the workload container does not answer."
        remedy "Wait for the container. If it does not start, `kubectl describe pod` shows the \
            reason."
    Peers Waiting "waiting for the peer relation"
        when "Juju has not created the relation `pgb-peers` yet."
        remedy "None needed: Juju creates it moments after the unit."
    Leader Waiting "waiting for the leader to publish its configuration"
        when "The leader has published no configuration yet, or the previous leader removed the \
            password lookup from PostgreSQL."
        remedy "Check the leader's status."
    Published(key: &'static str, reason: String) Waiting "cannot use {} of pgb-peers: {}; waiting \
        for the leader to publish it again"
        when "A value that the leader published is invalid. PgBouncer keeps running its current \
            configuration."
        remedy "Check the leader's status. If its revision differs from this unit's, run `juju \
            refresh`."
    NotLoaded(reason: String) Waiting "{}"
        such as "cannot load instance {} of PgBouncer: it is not running; see its log and its \
            service",
            "cannot confirm that instance {} of PgBouncer took its configuration: {}; see its log",
            "cannot reach instance {} of PgBouncer: it does not listen on port {}; see its log, \
                or set another listen_port",
            "cannot log in to instance {} of PgBouncer with its new user list: {}; see its log",
            "cannot confirm that PgBouncer serves its certificate on port {}: {}; see its log",
            "cannot write {}: no space left on device; free space there, the next hook retries",
            "cannot write {}: {}";
        when "The charm could not verify that a PgBouncer process runs its current configuration. \
            The message names process and reason."
        remedy "Wait for the next hook, which retries; then check PgBouncer's log."
    Unhealthy(reason: String) Waiting "{}"
        such as "PgBouncer does not answer its health check: see its log";
        when "PgBouncer runs its current configuration but fails its health check, so Kubernetes \
            sends it no clients."
        remedy "Check PgBouncer's log and the load of the node."
    NotForwarded(reason: String) Waiting "cannot forward logs: {}"
        when "Pebble in the workload container refuses the log targets, or does not answer. \
            Clients are served."
        remedy "Follow the message. Every hook retries."
    Units(units: Names) Waiting "waiting for {} to load a new database"
        when "A new client gets its credentials after these units have loaded its database."
        remedy "Check the status of these units. After the second `update-status` the client gets \
            its credentials without them."
    Admission(role: String) Waiting "waiting for PostgreSQL to admit {} (pg_hba.conf)"
        when "PostgreSQL has created a role but does not admit its logins yet."
        remedy "None needed for half a minute; then check PostgreSQL's status."
    Certificate(reason: String) Waiting "{}"
        such as "waiting for a certificate from {}",
            "waiting until clients know the CA of the new certificate",
            "the certificate ends soon; waiting for a new one from {}",
            "the certificate has expired; waiting for a new one from {}",
            "the certificate has expired; integrate certificates with a provider",
            "waiting until the new certificate becomes valid",
            "{} signs with SHA-1 or a short key, which OpenSSL refuses; change its options",
            "{} has revoked the certificate; waiting for a new one";
        when "The unit is integrated with a provider of certificates and lacks a valid certificate, \
            or does not serve its new one yet; or clients must use TLS, and the provider is gone. \
            Without a certificate the unit serves clients without TLS."
        remedy "Check the provider's status and that it signs requests. Without a provider, \
            integrate one."
    Attempts(client: ClientName) Waiting "cannot answer {}: Juju rejected the hook \
        twice; retrying, see juju debug-log"
        when "Two hooks that gave a client its credentials failed when Juju committed them."
        remedy "The charm retries. `juju debug-log` shows Juju's reason."
}

impl Cause {
    /// Whether the cause lies in one unit and says nothing about the application.
    pub fn is_of_one_unit(self) -> bool {
        matches!(
            self,
            Self::NotOnMachine
                | Self::NotInImage
                | Self::NoVersion
                | Self::Away
                | Self::Published
                | Self::NotLoaded
                | Self::Unhealthy
        )
    }
}

/// The longest message of a status, in characters. The log has the whole message.
const LONGEST: usize = 200;

/// Chooses the status of a unit with these `waits`: the first in the order of the table, with all
/// invalid options if it is one. A unit without waits is active and shows `serving`.
pub fn of<'a>(waits: impl IntoIterator<Item = &'a Wait>, serving: &str) -> Status {
    let waits: BTreeSet<_> = waits.into_iter().collect();
    let (kind, message) = match waits.first() {
        Some(Wait::Option(first)) => (Kind::Blocked, options(first, &waits)),
        Some(wait) => (wait.cause().kind(), wait.to_string()),
        None => (Kind::Active, serving.to_owned()),
    };
    Status { kind, message: printable::line(&message, LONGEST) }
}

/// The word of a unit's own trouble, for the leader; a leader shows its own status.
pub fn trouble(waits: &BTreeSet<Wait>, leads: bool) -> Option<Kind> {
    let cause = waits.iter().map(Wait::cause).find(|cause| cause.is_of_one_unit());
    cause.map(Cause::kind).filter(|_| !leads)
}

/// The message about all invalid options among these waits. Their names come first: the values and
/// remedies may be cut.
fn options<'a>(first: &InvalidOption, waits: &BTreeSet<&'a Wait>) -> String {
    let invalid = |wait: &&'a Wait| match wait {
        Wait::Option(invalid) => Some(invalid),
        _ => None,
    };
    let all: Vec<_> = waits.iter().filter_map(invalid).collect();
    let names: BTreeSet<_> = all.iter().map(|invalid| invalid.option()).collect();
    if names.len() == 1 {
        return Wait::Option(first.clone()).to_string();
    }
    let reasons: Vec<_> = all.iter().map(ToString::to_string).collect();
    let names: Vec<_> = names.into_iter().collect();
    format!("options {}: {}", names.join(", "), reasons.join("; "))
}

/// The facts in the message of an active unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Number of distinct databases that clients requested.
    pub databases: usize,
    /// When a server connection returns to its pool.
    pub pool_mode: PoolMode,
    /// The port on which the processes listen.
    pub port: u16,
    /// Number of processes that share the port.
    pub processes: usize,
    /// The other units that have not loaded the leader's databases; empty on a follower.
    pub behind: Vec<String>,
    /// The other units that report a trouble of their own; empty on a follower.
    pub not_active: Vec<String>,
}

/// Renders the message of an active unit.
pub fn serving(serving: &Serving) -> String {
    let Serving { databases, pool_mode, port, processes, behind, not_active } = serving;
    let plural = if *databases == 1 { "" } else { "s" };
    let mut text = format!(
        "{databases} database{plural}, {pool_mode} pooling, port {port}, {processes} processes"
    );
    for (what, units) in [("behind", behind), ("not active", not_active)] {
        if !units.is_empty() {
            text.extend(["; ", what, ": ", &units.join(", ")]);
        }
    }
    text
}

impl Wait {
    /// A wait for these units to load a database.
    pub fn for_units(units: impl IntoIterator<Item = String>) -> Self {
        Self::Units(Names(units.into_iter().collect()))
    }
}

/// A client in messages: its application, if known, and its relation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientName {
    /// The number of the relation.
    pub relation: RelationId,
    /// The name of the client's application; `None` before Juju names it.
    pub application: Option<String>,
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.application {
            Some(application) => write!(f, "{application} (database:{})", self.relation),
            None => write!(f, "database:{}", self.relation),
        }
    }
}

/// A list of names, separated by commas when shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names(pub Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "blocked",
            Self::Maintenance => "maintenance",
            Self::Waiting => "waiting",
            Self::Active => "active",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_sorted_by_status_word() {
        assert!(Cause::ALL.is_sorted_by_key(|cause| cause.kind()), "{:?}", Cause::ALL);
    }

    fn client(application: Option<&str>) -> ClientName {
        ClientName { relation: RelationId(7), application: application.map(str::to_owned) }
    }

    #[test]
    fn a_message_contains_its_variable_parts() {
        for (wait, message) in [
            (Wait::Client(client(Some("shop")), "no".into()), "cannot serve shop (database:7): no"),
            (Wait::Client(client(None), "no".into()), "cannot serve database:7: no"),
            (
                Wait::for_units(["a/1".into(), "a/2".into()]),
                "waiting for a/1, a/2 to load a new database",
            ),
            (Wait::NotBuilt(Endpoint::Logging), "relation logging is not supported yet: remove it"),
            (Wait::Peers, "waiting for the peer relation"),
        ] {
            assert_eq!(wait.to_string(), message);
        }
    }

    #[test]
    fn a_follower_reports_its_own_trouble_and_none_of_the_application() {
        let waits = BTreeSet::from([Wait::Backend, Wait::NotLoaded("it ended".into())]);
        assert_eq!(trouble(&waits, false), Some(Kind::Waiting));
        assert_eq!(trouble(&waits, true), None);
        assert_eq!(trouble(&BTreeSet::from([Wait::Backend]), false), None);
    }

    #[test]
    fn a_unit_without_a_cause_is_active_and_shows_what_it_serves() {
        assert_eq!(
            of([], "2 databases"),
            Status { kind: Kind::Active, message: "2 databases".into() }
        );
    }

    #[test]
    fn the_active_message_counts_databases_and_names_units_behind() {
        let one = Serving {
            databases: 1,
            pool_mode: PoolMode::Session,
            port: 6432,
            processes: 2,
            behind: Vec::new(),
            not_active: Vec::new(),
        };
        assert_eq!(serving(&one), "1 database, session pooling, port 6432, 2 processes");
        let behind = Serving {
            databases: 0,
            behind: vec!["p/1".into(), "p/2".into()],
            not_active: vec!["p/3".into()],
            ..one
        };
        assert_eq!(
            serving(&behind),
            "0 databases, session pooling, port 6432, 2 processes; behind: p/1, p/2; not active: p/3"
        );
    }

    #[test]
    fn a_blocked_cause_is_shown_before_a_waiting_cause() {
        let waits = [Wait::Leader, Wait::Client(client(None), "no".into()), Wait::NoBackend];
        let status = of(&waits, "");
        assert_eq!(status.kind, Kind::Blocked);
        assert_eq!(status.message, "waiting for backend database relation to initialise");
    }

    #[test]
    fn all_invalid_options_are_named_within_the_longest_message() {
        let value = |option| InvalidOption::Value { option, value: "\"x\"".into(), remedy: "y" };
        let one = [Wait::Option(value("pool_mode")), Wait::NoBackend];
        assert_eq!(of(&one, "").message, "option pool_mode is \"x\": set it to y");
        let two = [Wait::Option(value("pool_mode")), Wait::Option(value("listen_port"))];
        assert_eq!(
            of(&two, "").message,
            "options listen_port, pool_mode: listen_port is \"x\": set it to y; \
             pool_mode is \"x\": set it to y"
        );
        let names = [
            "listen_port",
            "pool_mode",
            "max_db_connections",
            "max_prepared_statements",
            "expose-external",
            "loadbalancer-extra-annotations",
        ];
        let parameters = InvalidOption::Parameters("cannot set a: no; cannot set b: no".into());
        let all = names.map(value).into_iter().chain([parameters]).map(Wait::Option);
        let message = of(&all.collect::<Vec<_>>(), "").message;
        assert!(names.iter().all(|name| message.contains(name)), "{message}");
        assert!(message.contains(", pgbouncer-parameters, "), "{message}");
    }

    #[test]
    fn a_postgresql_error_is_shown_before_backend_not_ready() {
        for reason in
            [Wait::Unreachable("cannot connect".into()), Wait::Refused("cannot connect".into())]
        {
            assert_eq!(of(&[reason, Wait::Backend, Wait::NoBackend], "").message, "cannot connect");
        }
    }

    #[test]
    fn the_status_does_not_depend_on_the_order_of_its_causes() {
        let mut waits =
            vec![Wait::NotLoaded("x".into()), Wait::Peers, Wait::for_units(["a/1".into()])];
        let first = of(&waits, "");
        waits.reverse();
        assert_eq!(of(&waits, ""), first);
    }
}

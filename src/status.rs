//! The unit's status: the table of causes, and the one status that a unit shows for all of them.
//!
//! `docs/statuses.md` is written from the table.

use std::fmt;

use serde::Serialize;

use crate::event::{Endpoint, RelationId};
use crate::facts::options::InvalidOption;
use crate::pgbouncer::PoolMode;

/// What `status-set` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The status word.
    pub kind: Kind,
    /// What is wrong and what to do about it; when active, what is served.
    pub message: String,
}

/// The status words a charm may set, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A person has to act.
    Blocked,
    /// Something is under way.
    Maintenance,
    /// Somebody else has to act first.
    Waiting,
    /// All is well.
    Active,
}

macro_rules! causes {
    ($($name:ident $(($($field:ident: $type:ty),+))? $kind:ident $says:literal
        $(such as $($example:literal),+;)? when $when:literal remedy $remedy:literal)+) => {
        /// Why something is not done yet, with what varies in its message. The first in this order
        /// is shown.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Wait { $(#[doc = $when] $name $(($($type),+))?,)+ }

        /// A row of the table of causes: a [`Wait`] without what varies in it.
        #[expect(missing_docs, reason = "`when` describes each cause")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Cause { $($name,)+ }

        impl Wait {
            /// The row it is a value of.
            pub fn cause(&self) -> Cause {
                match self { $(Self::$name { .. } => Cause::$name,)+ }
            }
        }

        impl fmt::Display for Wait {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$name $(($($field),+))? => write!(f, $says $(, $($field),+)?),)+ }
            }
        }

        impl Cause {
            /// All rows, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The status word.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)+ }
            }

            /// The message, with `{}` for each part that varies.
            pub fn says(self) -> &'static str {
                match self { $(Self::$name => $says,)+ }
            }

            /// Usual forms of a message that varies as a whole, written as [`Self::says`] is.
            pub fn examples(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($($example,)+)?],)+ }
            }

            /// When it is shown.
            pub fn when(self) -> &'static str {
                match self { $(Self::$name => $when,)+ }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

// Where the Python charm has a message that says the same, it is that one.
causes! {
    NotOnMachine Blocked "cannot find pgbouncer: install it on this machine"
        when "The charm runs on a machine, and there is no PgBouncer on its `PATH`."
        remedy "`apt-get install pgbouncer` there."
    NotInImage Blocked "cannot find pgbouncer in the workload's image: attach one that has it (juju attach-resource)"
        when "The image of the workload container has no `pgbouncer` on its `PATH`."
        remedy "`juju attach-resource pgbouncer-k8s pgbouncer-image=IMAGE`."
    NoVersion(reason: String) Blocked "cannot run pgbouncer --version: {}"
        when "PgBouncer is there and does not tell its version."
        remedy "Run it in the workload container to see why; attach another image."
    Option(invalid: InvalidOption) Blocked "option {}"
        when "An option has a value that cannot be used. All options stay as they were when they last could be; everything else goes on."
        remedy "`juju config` with a value as the message has it, or `--reset`."
    Unreachable(reason: String) Blocked "{}"
        such as "cannot connect to database {} of PostgreSQL at {} as {}: {}";
        when "PostgreSQL cannot be reached."
        remedy "See whether PostgreSQL runs; the charm tries again in each hook. Clients that are served stay so."
    Refused(reason: String) Blocked "{}"
        such as "drop or rename role {} in PostgreSQL: it is not ours, or an earlier revision left it; ours carries the comment {}",
            "PostgreSQL {} is too old: relate to version 14 or later";
        when "PostgreSQL does not do what the charm needs. The message names it and PostgreSQL's reason."
        remedy "As the message says: a role to drop or rename, a version to upgrade."
    Backend Blocked "backend database relation not ready"
        when "PostgreSQL is related and has not given the charm credentials yet."
        remedy "Wait for PostgreSQL; see its status."
    NoBackend Blocked "waiting for backend database relation to initialise"
        when "There is no PostgreSQL behind PgBouncer."
        remedy "`juju integrate pgbouncer-k8s:backend-database postgresql-k8s`."
    Client(relation: RelationId, reason: String) Blocked "cannot serve database:{}: {}"
        when "A client asks for something that it cannot have. Others are served."
        remedy "Change what it asks for, or remove the relation; `juju show-unit` tells whose number it is."
    NotBuilt(endpoint: Endpoint) Blocked "relation {} is not supported yet: remove it"
        when "A relation was made that this revision does not serve."
        remedy "`juju remove-relation`; everything else is served."
    Away Waiting "PgBouncer container currently unavailable"
        when "Pebble, in the workload container, does not answer."
        remedy "Wait for the container; `kubectl describe pod` tells why it does not come."
    Peers Waiting "waiting for the peer relation"
        when "Juju has not made `pgb-peers` yet."
        remedy "Nothing: it is a moment after the unit is made."
    Leader Waiting "waiting for the leader to publish its configuration"
        when "A unit has nothing to serve yet; or who led last went with all others and took leave of PostgreSQL."
        remedy "Look at the leader's status."
    Published(key: &'static str, reason: String) Waiting "cannot use {} of pgb-peers: {}; waiting for the leader to publish it anew"
        when "What the leader published is broken. What ran before runs on."
        remedy "Look at the leader's status; `juju refresh` if its revision is another one."
    NotLoaded(reason: String) Waiting "{}"
        such as "cannot load instance {} of PgBouncer: it is not running; see its log and its service",
            "cannot confirm that instance {} of PgBouncer took its configuration: {}; see its log",
            "cannot reach instance {} of PgBouncer: it does not listen on port {}; see its log, or set another listen_port",
            "cannot log in to instance {} of PgBouncer with its new user list: {}; see its log",
            "cannot write {}: {}";
        when "A process of PgBouncer has not been seen to run what it should. The message names process and reason."
        remedy "Wait for the next hook, which tries again; then look at PgBouncer's log."
    Unhealthy(reason: String) Waiting "{}"
        such as "PgBouncer does not answer its health check: see its log";
        when "Everything is loaded, and PgBouncer does not answer its health check: Kubernetes sends no clients."
        remedy "Look at PgBouncer's log, and at the load of the node."
    Units(units: Names) Waiting "waiting for {} to load a new database"
        when "A new client gets its credentials once these units serve its database."
        remedy "Look at their status. At the second `update-status` the client gets them all the same."
    Admission(role: String) Waiting "waiting for PostgreSQL to let {} in (pg_hba.conf)"
        when "PostgreSQL has made a role, and does not let it log in yet."
        remedy "Nothing, for half a minute; then look at PostgreSQL's status."
    Attempts(relation: RelationId) Waiting "Juju refused the answer to database:{} twice; trying again soon"
        when "The hook that gave a client its credentials failed twice when Juju was to keep them."
        remedy "`juju debug-log` tells what Juju said."
}

/// The status of a unit with these `waits`: the first in the order of the table. Without any the
/// unit is active and shows `serving`.
pub fn of<'a>(waits: impl IntoIterator<Item = &'a Wait>, serving: &str) -> Status {
    waits.into_iter().min().map_or_else(
        || Status { kind: Kind::Active, message: serving.to_owned() },
        |wait| Status { kind: wait.cause().kind(), message: wait.to_string() },
    )
}

/// What an active unit serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// How many databases clients have asked for.
    pub databases: usize,
    /// When a server connection goes back to its pool.
    pub pool_mode: PoolMode,
    /// Where the processes listen.
    pub port: u16,
    /// How many processes share the port.
    pub processes: usize,
    /// The other units that do not serve all of it yet, as the leader sees them.
    pub behind: Vec<String>,
}

/// The message of an active unit.
pub fn serving(serving: &Serving) -> String {
    let Serving { databases, pool_mode, port, processes, behind } = serving;
    let plural = if *databases == 1 { "" } else { "s" };
    let behind = if behind.is_empty() { String::new() } else { format!("; behind: {}", behind.join(", ")) };
    format!("{databases} database{plural}, {pool_mode} pooling, port {port}, {processes} processes{behind}")
}

impl Wait {
    /// A wait for these units.
    pub fn for_units(units: impl IntoIterator<Item = String>) -> Self {
        Self::Units(Names(units.into_iter().collect()))
    }
}

/// Names, shown with commas between.
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
    fn causes_stand_in_the_order_of_their_words() {
        assert!(Cause::ALL.is_sorted_by_key(|cause| cause.kind()), "{:?}", Cause::ALL);
    }

    #[test]
    fn a_message_names_what_varies() {
        for (wait, message) in [
            (Wait::Client(RelationId(7), "no".into()), "cannot serve database:7: no"),
            (Wait::for_units(["a/1".into(), "a/2".into()]), "waiting for a/1, a/2 to load a new database"),
            (Wait::NotBuilt(Endpoint::Logging), "relation logging is not supported yet: remove it"),
            (Wait::Peers, "waiting for the peer relation"),
        ] {
            assert_eq!(wait.to_string(), message);
        }
    }

    #[test]
    fn without_a_cause_the_unit_is_active_and_says_what_it_serves() {
        assert_eq!(of([], "2 databases"), Status { kind: Kind::Active, message: "2 databases".into() });
    }

    #[test]
    fn what_is_served_is_counted() {
        let one = Serving {
            databases: 1,
            pool_mode: PoolMode::Session,
            port: 6432,
            processes: 2,
            behind: Vec::new(),
        };
        assert_eq!(serving(&one), "1 database, session pooling, port 6432, 2 processes");
        let behind = Serving { databases: 0, behind: vec!["p/1".into(), "p/2".into()], ..one };
        assert_eq!(
            serving(&behind),
            "0 databases, session pooling, port 6432, 2 processes; behind: p/1, p/2"
        );
    }

    #[test]
    fn what_a_person_must_do_is_shown_before_what_will_come_by_itself() {
        let waits = [Wait::Leader, Wait::Client(RelationId(7), "no".into()), Wait::NoBackend];
        let status = of(&waits, "");
        assert_eq!(status.kind, Kind::Blocked);
        assert_eq!(status.message, "waiting for backend database relation to initialise");
    }

    #[test]
    fn why_the_backend_is_not_ready_is_shown_before_that_it_is_not() {
        for reason in [Wait::Unreachable("cannot connect".into()), Wait::Refused("cannot connect".into())] {
            assert_eq!(of(&[reason, Wait::Backend, Wait::NoBackend], "").message, "cannot connect");
        }
    }

    #[test]
    fn the_status_does_not_depend_on_the_order_of_its_causes() {
        let mut waits = vec![Wait::NotLoaded("x".into()), Wait::Peers, Wait::for_units(["a/1".into()])];
        let first = of(&waits, "");
        waits.reverse();
        assert_eq!(of(&waits, ""), first);
    }
}

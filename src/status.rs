//! One status from everything that is not as it should be: the worst cause wins.

use std::fmt;

use crate::plan::Wait;
use crate::workload::Unmet;

/// What `status-set` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The status word.
    pub kind: Kind,
    /// What is wrong and what to do about it; when active, what is served.
    pub message: String,
}

/// The status words a charm may set, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// The status of a unit that still waits for `waits`. With none it is active and says `serving`.
pub fn of<'a>(waits: impl IntoIterator<Item = &'a Wait>, serving: &str) -> Status {
    waits.into_iter().min_by_key(|wait| (kind(wait), *wait)).map_or_else(
        || Status { kind: Kind::Active, message: serving.to_owned() },
        |wait| Status { kind: kind(wait), message: wait.to_string() },
    )
}

fn kind(wait: &Wait) -> Kind {
    match wait {
        Wait::Unmet(Unmet::NotOnMachine | Unmet::NotInImage | Unmet::NoVersion(_))
        | Wait::Options(_)
        | Wait::NoBackend
        | Wait::Backend
        | Wait::Unreachable(_)
        | Wait::Refused(_)
        | Wait::Client(..)
        | Wait::NotBuilt(_) => Kind::Blocked,
        Wait::Unmet(Unmet::Away(_))
        | Wait::Peers
        | Wait::Leader
        | Wait::Published(..)
        | Wait::NotLoaded(_)
        | Wait::Ails(_)
        | Wait::Units(_)
        | Wait::Attempts(_)
        | Wait::Admission(_) => Kind::Waiting,
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
    use crate::event::RelationId;

    #[test]
    fn without_a_cause_the_unit_is_active_and_says_what_it_serves() {
        assert_eq!(of([], "2 databases"), Status { kind: Kind::Active, message: "2 databases".into() });
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
        let mut waits = vec![Wait::NotLoaded("x".into()), Wait::Peers, Wait::Units(vec!["a/1".into()])];
        let first = of(&waits, "");
        waits.reverse();
        assert_eq!(of(&waits, ""), first);
    }
}

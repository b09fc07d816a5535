//! The record of all changes of a dispatch. Every change passes this gate, and a dry run permits
//! none.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

use crate::printable;
use crate::status::Status;
use crate::workload::Files;

/// The longest description of a change, in characters.
const LONGEST: usize = 10_000;

/// The changes of one dispatch, in order.
#[derive(Debug, Default)]
pub struct Journal {
    is_dry_run: bool,
    changes: RefCell<Vec<Change>>,
    unread: RefCell<Vec<String>>,
}

impl Journal {
    /// A journal for changes that are made.
    pub fn real() -> Self {
        Self::default()
    }

    /// A journal for changes that would be made.
    pub fn dry_run() -> Self {
        Self { is_dry_run: true, ..Self::default() }
    }

    /// Whether this is a dry run, in which nothing may change.
    pub fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Records a change, and returns whether the caller may make it.
    #[must_use]
    pub fn permits(&self, target: Target, what: impl Into<String>) -> bool {
        let what = printable::line(&what.into(), LONGEST);
        self.changes.borrow_mut().push(Change { target, what });
        !self.is_dry_run
    }

    /// Records a change that was made, or in a dry run would be made.
    pub fn note(&self, target: Target, what: impl Into<String>) {
        let _ = self.permits(target, what);
    }

    /// Records a secret that a dry run leaves unread, because Juju records the first read.
    pub fn leave_unread(&self, label: &str) {
        let mut unread = self.unread.borrow_mut();
        if !unread.iter().any(|known| known == label) {
            unread.push(label.to_owned());
        }
    }

    /// The recorded changes, sorted by target and, for one target, by time.
    pub fn outcome(&self) -> Outcome {
        let mut changes = self.changes.borrow().clone();
        changes.sort_by_key(|change| change.target);
        Outcome { changes, unread: self.unread.borrow().clone(), ..Outcome::default() }
    }
}

/// The result of a dispatch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The changes, sorted by target and, for one target, by time.
    pub changes: Vec<Change>,
    /// Labels of secrets that a dry run left unread.
    pub unread: Vec<String>,
    /// The reasons why work is left.
    pub waits: Vec<String>,
    /// The new status; `None` for a unit that is being removed.
    pub status: Option<Status>,
    /// The files that the processes loaded.
    #[serde(skip)]
    pub files: Option<Files>,
}

/// One change of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The thing that is changed.
    #[serde(rename = "where")]
    pub target: Target,
    /// A description of the change, without any secret.
    pub what: String,
}

/// The things that a dispatch changes, in their usual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// This unit's own disk.
    Unit,
    /// PostgreSQL.
    Postgresql,
    /// The PgBouncer processes of this unit.
    Pgbouncer,
    /// Juju: a call of a hook tool.
    Juju,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "unit",
            Self::Postgresql => "postgresql",
            Self::Pgbouncer => "pgbouncer",
            Self::Juju => "juju",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_records_changes_and_permits_none() {
        for (journal, permitted) in [(Journal::real(), true), (Journal::dry_run(), false)] {
            assert_eq!(journal.permits(Target::Juju, "open-port 6432/tcp"), permitted);
            assert_eq!(journal.permits(Target::Postgresql, "drop the role a"), permitted);
            let outcome = journal.outcome();
            let changes: Vec<_> =
                outcome.changes.iter().map(|change| change.what.as_str()).collect();
            assert_eq!(changes, ["drop the role a", "open-port 6432/tcp"]);
        }
    }

    #[test]
    fn an_unread_secret_is_listed_once() {
        let journal = Journal::dry_run();
        journal.leave_unread("database.3.user.secret");
        journal.leave_unread("database.3.user.secret");
        assert_eq!(journal.outcome().unread, ["database.3.user.secret"]);
    }
}

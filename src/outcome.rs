//! What one dispatch did, or would do: for who asks.

use std::fmt;

use serde::Serialize;

use crate::status::Status;

/// What came of a dispatch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What it did, by where, and in order there.
    pub deeds: Vec<Deed>,
    /// Labels of secrets that were to be read for the first time, which a rehearsal leaves to the dispatch.
    pub unread: Vec<String>,
    /// What it waits for.
    pub waits: Vec<String>,
    /// The status it shows; a unit that goes shows none.
    pub status: Option<Status>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// To what.
    #[serde(rename = "where")]
    pub at: Where,
    /// In words; no secret in them.
    pub what: String,
}

/// What a dispatch reaches out to, in the order in which it mostly does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Where {
    /// This unit's own disk.
    Unit,
    /// The backend.
    Postgresql,
    /// The processes of this unit.
    Pgbouncer,
    /// Juju: a call of a hook tool, committed if the hook ends well.
    Juju,
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "unit",
            Self::Postgresql => "postgresql",
            Self::Pgbouncer => "pgbouncer",
            Self::Juju => "juju",
        })
    }
}

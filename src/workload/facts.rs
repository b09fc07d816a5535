//! What can be known of PgBouncer where it runs. Data only.

use crate::{pgbouncer::Place, secret::Secret};

/// PgBouncer as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The first line of `pgbouncer --version`, such as `PgBouncer 1.18.0`: of what the processes were
    /// started from, else of what is installed.
    pub version: String,
    /// Absolute path of the user list, as PgBouncer sees it.
    pub auth_file: String,
    /// One for each process.
    pub places: Vec<Place>,
}

/// Why nothing can be known of PgBouncer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeError {
    /// The charm runs on a machine that has none.
    NotOnMachine,
    /// The image of the workload container has none.
    NotInImage,
    /// The workload container cannot be reached, with the reason.
    Away(String),
    /// It is there and does not say what it is.
    NoVersion(String),
}

/// What one process has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The digest of everything it runs.
    pub digest: String,
    /// The version it was rendered for.
    pub version: String,
}

/// The files all instances share; what is missing, unreadable or longer than 1 MiB is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The shared configuration.
    pub config: Option<String>,
    /// The user list.
    pub users: Option<Secret>,
}

//! What the processes are to run. Data only.

use crate::{
    pgbouncer::{InstanceConfig, UserList, Version},
    secret::Secret,
};

/// Everything the instances of a unit run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The configuration all units share; kept for the next hook, read by no process.
    pub shared: String,
    /// The user list all instances read.
    pub users: UserList,
    /// A user of that list with its password, to be named in `admin_users` or `stats_users`: a login proves
    /// that the list was read (PgBouncer's `SHOW CONFIG` does not).
    pub proof: Option<(String, Secret)>,
    /// The version the files are rendered for.
    pub version: Version,
    /// Where all processes listen, and the name of each console socket ends.
    pub port: u16,
    /// One for each process, with `syslog_ident = <digest>` as its last line.
    pub instances: Vec<InstanceConfig>,
}

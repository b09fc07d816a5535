//! The files that the processes should run. Data only.

use crate::{
    pgbouncer::{InstanceConfig, TlsFiles, UserList, Version},
    secret::Secret,
};

/// Everything that the instances of a unit run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The configuration that all units share. It is kept for the next hook; no process reads it.
    pub shared: String,
    /// The user list, which all instances read.
    pub users: UserList,
    /// A user of that list and its password, named in `admin_users` or `stats_users`. A login as
    /// this user proves that PgBouncer read the list, which `SHOW CONFIG` does not.
    pub proof: Option<(String, Secret)>,
    /// The version of PgBouncer that the files are rendered for.
    pub version: Version,
    /// The files for TLS that the configurations name.
    pub tls: TlsFiles,
    /// The port that all processes listen on. The name of each console socket ends with it.
    pub port: u16,
    /// The configuration of each process. Its last line is `syslog_ident = <digest>`.
    pub instances: Vec<InstanceConfig>,
}

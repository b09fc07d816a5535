//! The facts about PgBouncer where it runs. Data only.

use crate::{pgbouncer::Place, printable, secret::Secret};

/// The port of the first process's exporter, as with the Python charm. Each further exporter has
/// the next port.
pub const EXPORTER_PORT: u16 = 9127;

/// The facts about PgBouncer that do not depend on a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The first line of `pgbouncer --version`, such as `PgBouncer 1.18.0`. It is the version of
    /// the running processes; with none running, the installed one.
    pub version: String,
    /// Absolute path of the user list, as PgBouncer sees it.
    pub auth_file: String,
    /// The directories of each process.
    pub places: Vec<Place>,
    /// Each process has an exporter beside it, which measures it for Prometheus.
    pub has_exporter: bool,
}

/// Why PgBouncer cannot be probed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeError {
    /// The machine that the charm runs on has no PgBouncer.
    NotOnMachine,
    /// The image of the workload container has no PgBouncer.
    NotInImage,
    /// The workload container cannot be reached, for this reason.
    Away(String),
    /// The workload container answers, but too slowly, or its files cannot be read.
    Unreadable(String),
    /// `pgbouncer --version` fails, for this reason.
    NoVersion(String),
}

/// What one process was confirmed to have loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The digest of everything it runs.
    pub digest: String,
    /// The version it was rendered for.
    pub version: String,
}

/// The files that all instances share. `None` stands for a file that is missing, unreadable or
/// larger than 1 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The shared configuration.
    pub config: Option<String>,
    /// The user list.
    pub users: Option<Secret>,
    /// The private key and certificates for clients.
    pub identity: Option<Secret>,
}

/// The longest version that counts as one, in bytes: the leader and Juju get it.
pub(super) const VERSION_LENGTH_MAX: usize = 100;

/// The first line that `pgbouncer --version` printed, or the error that it printed instead.
pub(super) fn printed_version(
    is_success: bool,
    status: &str,
    stdout: &[u8],
    stderr: &[u8],
) -> Result<String, ProbeError> {
    let line = |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().next().map(|line| printable::line(line, VERSION_LENGTH_MAX))
    };
    if let Some(version) = line(stdout).filter(|_| is_success) {
        return Ok(version);
    }
    let reason = line(stderr).unwrap_or_else(|| "it says nothing".to_owned());
    Err(ProbeError::NoVersion(format!("{reason}, {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_reported_if_pgbouncer_prints_no_version() {
        let printed = |is_success, stdout: &str, stderr: &str| {
            printed_version(is_success, "exit status 1", stdout.as_bytes(), stderr.as_bytes())
        };
        let version = "PgBouncer 1.18.0\nlibevent 2.1.12-stable\n";
        assert_eq!(printed(true, version, "a warning\n"), Ok("PgBouncer 1.18.0".to_owned()));
        for (stdout, stderr, reason) in [
            ("", "", "it says nothing, exit status 1"),
            (version, "", "it says nothing, exit status 1"),
            ("", "libevent is missing\n", "libevent is missing, exit status 1"),
        ] {
            assert_eq!(
                printed(false, stdout, stderr),
                Err(ProbeError::NoVersion(reason.to_owned()))
            );
        }
        assert!(printed(true, "", "").is_err());
    }
}

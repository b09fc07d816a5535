//! A running PgBouncer process, distinct from any process that later has the same id.

use std::{fmt, fs, os::unix::fs::MetadataExt, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid},
};

use super::host::Text;

/// A process that was PgBouncer, with a certain ini, when the charm looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// The start in clock ticks since boot; unique with the pid (proc(5), field 22 of
    /// `/proc/<pid>/stat`).
    pub(super) started: u64,
}

impl Process {
    /// The process of a pid file, if it still runs and runs this ini.
    pub(super) fn of(pid_file: &Path, ini: &Path) -> Option<Self> {
        Self::running(Text::read(pid_file).whole()?.trim().parse().ok()?, ini)
    }

    /// Removes a pid file whose id now belongs to another program: PgBouncer would refuse to start,
    /// as if it were already running. PgBouncer itself removes a pid file whose id belongs to no
    /// process.
    pub(super) fn remove_stale(pid_file: &Path, ini: &Path) {
        let pid = Text::read(pid_file).whole().and_then(|text| text.trim().parse().ok());
        let taken = pid.is_some_and(|pid: i32| Path::new(&format!("/proc/{pid}")).exists());
        if taken && Self::of(pid_file, ini).is_none() {
            let _ = fs::remove_file(pid_file);
        }
    }

    /// The process with this id, if it is PgBouncer with this ini on its command line. A pid file
    /// stays after a kill, and another program may now have its id. A zombie has no command
    /// line.
    pub(super) fn running(pid: i32, ini: &Path) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may contain any character, hence the last parenthesis.
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
        let started = fields.split_whitespace().nth(19)?.parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let names_ini =
            command.split(|&byte| byte == 0).any(|word| word == ini.as_os_str().as_encoded_bytes());
        (name == "pgbouncer" && names_ini).then_some(Self { pid, started })
    }

    /// Signals the process. A process that no longer runs is no error.
    pub(super) fn signal(self, ini: &Path, signal: Signal) -> nix::Result<()> {
        if Self::running(self.pid, ini) != Some(self) {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(nix::Error::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// The user it runs as: the owner of its directory in `/proc` is its effective user.
    pub(super) fn user(self) -> Option<(Uid, Gid)> {
        let process = fs::metadata(format!("/proc/{}", self.pid)).ok()?;
        Some((process.uid().into(), process.gid().into()))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_pgbouncer_is_ignored() {
        let own = i32::try_from(std::process::id()).expect("a process id fits");
        let ini = std::env::current_exe().expect("a test has an executable");
        assert_eq!(Process::running(own, &ini), None);
        assert_eq!(Process { pid: own, started: 1 }.signal(&ini, Signal::SIGKILL), Ok(()));
    }
}

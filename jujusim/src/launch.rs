//! Starts a hook from a small process, because a child's peak memory is never less than that of the
//! process that started it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, raise};
use serde::{Deserialize, Serialize};
use wait4::Wait4 as _;

/// The name of the launcher.
pub(crate) const NAME: &str = "jujusim-launch";

/// What a hook and the processes it waited for used.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// In bytes.
    pub(crate) max_rss: u64,
}

/// A command that runs `program`. The launcher runs it if its usage
/// is to be reported or if it runs in a network namespace.
pub(crate) fn command(
    launcher: &Path,
    report: Option<&Path>,
    network: Option<&Path>,
    program: &Path,
) -> Command {
    use std::os::unix::process::CommandExt as _;
    if report.is_none() && network.is_none() {
        return Command::new(program);
    }
    let mut command = Command::new(launcher);
    command.arg0(NAME);
    command.args([report, network].map(|path| path.unwrap_or(Path::new("")))).arg(program);
    command
}

/// The usage that the launcher reported; zero if the launcher was killed with the hook.
pub(crate) fn usage(report: &Path) -> Usage {
    std::fs::read(report)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Runs a program, writes its usage to a file, and ends with the program's status. The arguments
/// are that file, a network namespace, the program, and the program's arguments; the first two may
/// be empty.
pub fn run(mut args: impl Iterator<Item = OsString>) -> u8 {
    let (Some(report), Some(network), Some(program)) =
        (args.next().map(PathBuf::from), args.next(), args.next())
    else {
        return 2;
    };
    let started = Instant::now();
    let child = join(&network).and_then(|()| spawn(Command::new(&program).args(args)));
    let end = child.and_then(|mut child| child.wait4());
    let end = match end {
        Ok(end) => end,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: {error}", program.display());
            return 127;
        }
    };
    let (cpu, max_rss) = (end.rusage.utime + end.rusage.stime, end.rusage.maxrss);
    let usage = Usage { wall: started.elapsed(), cpu, max_rss };
    // Ignore errors: without the report the run has no usage, and nobody may want one.
    let _ = std::fs::write(report, serde_json::to_vec(&usage).unwrap_or_default());
    if let Some(signal) = end.status.signal().and_then(|number| Signal::try_from(number).ok()) {
        let _ = raise(signal);
    }
    end.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn join(network: &OsStr) -> io::Result<()> {
    if network.is_empty() {
        return Ok(());
    }
    Ok(setns(File::open(network)?, CloneFlags::CLONE_NEWNET)?)
}

/// Starts a process. Retries while the file is busy: another process may still have it open for
/// writing.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..100 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
    command.spawn()
}

//! PgBouncer's supervisor: keeps a process running for each configuration under a unit's root.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const LOOK: Duration = Duration::from_millis(20);
/// A process that ran for less than this time waits this long before its next start.
const BACK_OFF: Duration = Duration::from_millis(300);

/// The user that PgBouncer runs as on this machine.
const USER: &str = "postgres";

/// How long a process may take to open its socket.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A process that was started this many times without success cannot start.
const STARTS: u32 = 3;
/// The same for a process in a container, which Pebble starts.
pub(crate) const CONTAINER_START_TIMEOUT: Duration = Duration::from_millis(1500);

/// Keeps one `pgbouncer` running for every `<root>/var/lib/pgbouncer/instance_*/pgbouncer.ini`,
/// until dropped.
pub(crate) struct Supervisor(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    over: bool,
    /// Searched before `PATH`.
    path: Option<PathBuf>,
    roots: Vec<PathBuf>,
    processes: BTreeMap<PathBuf, Process>,
}

#[derive(Default)]
struct Process {
    child: Option<Child>,
    starts: u32,
    started: Option<Instant>,
}

/// A PgBouncer process, as the supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The configuration file.
    pub ini: PathBuf,
    /// The process id, while the process runs.
    pub pid: Option<u32>,
    /// How often the process was restarted.
    pub restarts: u32,
    /// The directory of the console's socket.
    pub(crate) sockets: PathBuf,
    /// The user that the process runs as, by name or number.
    pub(crate) user: String,
}

impl Supervisor {
    pub(crate) fn start(path: Option<PathBuf>) -> Supervisor {
        let shared = Arc::new(Mutex::new(Shared { path, ..Shared::default() }));
        let seen = Arc::clone(&shared);
        thread::spawn(move || {
            loop {
                {
                    let mut shared = lock(&seen);
                    if shared.over {
                        return;
                    }
                    shared.look();
                }
                thread::sleep(LOOK);
            }
        });
        Supervisor(shared)
    }

    /// Starts to supervise a unit.
    pub(crate) fn add(&self, root: &Path) {
        lock(&self.0).roots.push(root.to_owned());
    }

    /// Ends a unit's processes and stops supervising it, as when the pod ends.
    pub(crate) fn remove(&self, root: &Path) {
        let mut shared = lock(&self.0);
        shared.roots.retain(|other| other != root);
        let gone: Vec<PathBuf> =
            shared.processes.keys().filter(|ini| ini.starts_with(root)).cloned().collect();
        for ini in gone {
            if let Some(process) = shared.processes.remove(&ini) {
                process.end();
            }
        }
    }

    /// Waits until every configured process runs and has its socket, or until a timeout.
    pub(crate) fn wait(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        let starts = lock(&self.0).starts();
        while Instant::now() < deadline && !lock(&self.0).complete(&starts) {
            thread::sleep(LOOK);
        }
    }

    pub(crate) fn instances(&self, root: &Path) -> Vec<Instance> {
        let mut shared = lock(&self.0);
        let own = shared.processes.iter_mut().filter(|(ini, _)| ini.starts_with(root));
        own.map(|(ini, process)| Instance {
            ini: ini.clone(),
            pid: process.running(),
            restarts: process.starts.saturating_sub(1),
            sockets: setting(ini, "unix_socket_dir").unwrap_or_default().into(),
            user: USER.to_owned(),
        })
        .collect()
    }

    /// Kills one process; the supervisor restarts it.
    pub(crate) fn kill(&self, ini: &Path) -> Result<()> {
        let mut shared = lock(&self.0);
        let child = shared.processes.get_mut(ini).and_then(|process| process.child.as_mut());
        let child =
            child.ok_or_else(|| Error::refused(format!("{} does not run", ini.display())))?;
        child
            .kill()
            .and_then(|()| child.wait())
            .map_err(|source| Error::Io { doing: "kill PgBouncer".to_owned(), source })?;
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        shared.over = true;
        for (_, process) in std::mem::take(&mut shared.processes) {
            process.end();
        }
    }
}

impl Shared {
    /// How often each process was started.
    fn starts(&self) -> BTreeMap<PathBuf, u32> {
        self.processes.iter().map(|(ini, process)| (ini.clone(), process.starts)).collect()
    }

    /// Whether each process has its socket, or cannot start since there were so many `starts`.
    fn complete(&mut self, starts: &BTreeMap<PathBuf, u32>) -> bool {
        let wanted: Vec<PathBuf> =
            self.roots.iter().flat_map(|root| configurations(root)).collect();
        wanted.iter().all(|ini| {
            let Some(process) = self.processes.get_mut(ini) else { return false };
            let has_socket = || socket(ini).is_none_or(|socket| socket.exists());
            let before = starts.get(ini).copied().unwrap_or_default();
            process.running().is_some() && has_socket() || process.starts >= before + STARTS
        })
    }

    fn look(&mut self) {
        let wanted: Vec<(PathBuf, PathBuf)> = self
            .roots
            .iter()
            .flat_map(|root| configurations(root).into_iter().map(|ini| (root.clone(), ini)))
            .collect();
        let gone: Vec<PathBuf> = self
            .processes
            .keys()
            .filter(|ini| !wanted.iter().any(|(_, other)| other == *ini))
            .cloned()
            .collect();
        for ini in gone {
            if let Some(process) = self.processes.remove(&ini) {
                process.end();
            }
        }
        for (root, ini) in wanted {
            let process = self.processes.entry(ini.clone()).or_default();
            if process.running().is_some()
                || process.started.is_some_and(|at| at.elapsed() < BACK_OFF)
            {
                continue;
            }
            process.started = Some(Instant::now());
            // A process that cannot start is retried after the back-off; its log has the reason.
            if let Ok(child) = start(&root, &ini, self.path.as_deref()) {
                process.child = Some(child);
                process.starts += 1;
            }
        }
    }
}

impl Process {
    fn running(&mut self) -> Option<u32> {
        let child = self.child.as_mut()?;
        matches!(child.try_wait(), Ok(None)).then(|| child.id())
    }

    fn end(mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn configurations(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root.join("var/lib/pgbouncer")) else { return Vec::new() };
    let instance = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("instance_");
    let inis = entries
        .flatten()
        .filter(|entry| instance(&entry.file_name()))
        .map(|entry| entry.path().join("pgbouncer.ini"));
    let mut inis: Vec<PathBuf> = inis.filter(|ini| ini.exists()).collect();
    inis.sort();
    inis
}

/// The last value of a setting in a configuration file.
pub(crate) fn setting(ini: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(ini).ok()?;
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    };
    text.lines()
        .filter(|line| !line.trim_start().starts_with([';', '#']))
        .filter_map(value)
        .next_back()
}

/// The path of the process's local socket.
pub(crate) fn socket(ini: &Path) -> Option<PathBuf> {
    let dir = setting(ini, "unix_socket_dir")?;
    let port = setting(ini, "listen_port").unwrap_or_else(|| "6432".to_owned());
    Some(PathBuf::from(dir).join(format!(".s.PGSQL.{port}")))
}

fn start(root: &Path, ini: &Path, path: Option<&Path>) -> std::io::Result<Child> {
    let instance =
        ini.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let logs = root.join("var/log");
    fs::create_dir_all(&logs)?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(logs.join(format!("pgbouncer-{instance}.log")))?;
    let program = path.map(|path| path.join("pgbouncer")).filter(|program| program.exists());
    let mut command = as_postgres("KILL");
    command.arg(program.unwrap_or_else(|| PathBuf::from("pgbouncer"))).arg(ini).current_dir("/");
    // The socket of a killed process would look like that of the new one.
    if let Some(stale) = socket(ini) {
        let _ = std::fs::remove_file(stale);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
}

/// A command that runs its arguments as user `postgres` if the simulator is root, and that gets a
/// signal when the simulator ends.
pub(crate) fn as_postgres(signal: &str) -> Command {
    as_user(USER, signal)
}

/// As [`as_postgres`], for another user, whose group has the same name or number.
pub(crate) fn as_user(user: &str, signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    // Ctrl-C at a terminal is for the simulator alone.
    command.process_group(0).arg(format!("--pdeathsig={signal}"));
    if nix::unistd::geteuid().is_root() {
        command.args([
            format!("--reuid={user}"),
            format!("--regid={user}"),
            "--clear-groups".to_owned(),
        ]);
    }
    command
}

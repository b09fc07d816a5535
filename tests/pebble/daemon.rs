//! A real Pebble daemon, alone in a PID namespace: as in a container it has a boot id of its own,
//! and all that it started dies with it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use pgbouncer_k8s::workload::pebble::Pebble;

use crate::programs::cache;

/// How long to wait for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon and its directory, both gone when it is dropped.
pub(crate) struct Daemon {
    program: PathBuf,
    directory: PathBuf,
    namespace: Child,
}

impl Daemon {
    /// Of this version. `None` is not there, which is an error where everything must be.
    pub(crate) fn start(version: &str) -> Option<Self> {
        static DAEMONS: AtomicU16 = AtomicU16::new(0);
        let program = cache().join(format!("pebble-{version}/bin/pebble"));
        let missing = format!("Pebble {version} is missing: run scripts/pebble");
        if let Some(why) = (!program.exists()).then_some(missing).or_else(refusal) {
            let test = thread::current().name().unwrap_or_default().to_owned();
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "{why}");
            // Not by a macro, whose words the test harness would keep to itself.
            writeln!(io::stderr(), "NOT RUN: {test}: {why}").expect("standard error is open");
            return None;
        }
        let number = DAEMONS.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("pebble-{}-{number}", std::process::id()));
        fs::create_dir(&directory).expect("the directory is new");
        let namespace = spawn(&program, &directory);
        let daemon = Self { program, directory, namespace };
        daemon.await_answer();
        Some(daemon)
    }

    /// Another one in its place, with the same directory: what a restart of the container is.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.namespace = spawn(&self.program, &self.directory);
        self.await_answer();
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        // `unshare` passes its own end on to the daemon.
        self.namespace.kill().expect("it is ours");
        self.namespace.wait().expect("it is ours");
        until("nobody listens", || {
            std::os::unix::net::UnixStream::connect(self.socket()).is_err().then_some(())
        });
    }

    /// Lets it neither run nor end.
    pub(crate) fn freeze(&self) {
        let children = format!("/proc/{0}/task/{0}/children", self.namespace.id());
        let children = fs::read_to_string(children).expect("unshare runs");
        let pid: i32 = children.trim().parse().expect("it has one child");
        kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("it is ours");
        let threads = PathBuf::from(format!("/proc/{pid}/task"));
        let stopped = |thread: PathBuf| {
            fs::read_to_string(thread.join("stat")).is_ok_and(|stat| stat.contains(") T "))
        };
        until("every thread has stopped", || {
            let threads = fs::read_dir(&threads).expect("it runs");
            threads.map(|thread| thread.expect("it runs").path()).all(stopped).then_some(())
        });
    }

    pub(crate) fn client(&self) -> Pebble {
        Pebble::new(self.socket())
    }

    /// What Pebble's own command line prints.
    pub(crate) fn cli(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(words).env("PEBBLE_SOCKET", self.socket()).env("HOME", "/nonexistent");
        let output = command.output().expect("the program is there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// A path in its directory, the same inside and outside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Everything it and its services have printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("its log")
    }

    fn await_answer(&self) {
        until("Pebble answers", || self.client().services().ok());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            writeln!(io::stderr(), "Pebble's log:\n{}", self.log())
                .expect("standard error is open");
        }
        fs::remove_dir_all(&self.directory).expect("the directory is ours");
    }
}

/// Asks until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Why namespaces cannot be made here, as in many a container.
fn refusal() -> Option<String> {
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        let output = in_namespaces().arg("true").output().expect("env and unshare are installed");
        (!output.status.success())
            .then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
    };
    REFUSAL.get_or_init(find).clone()
}

fn in_namespaces() -> Command {
    // A shell cannot trap a signal that was ignored when it began, as under `nohup`.
    let mut command = Command::new("env");
    command.args([
        "--default-signal=HUP",
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    if !geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

fn spawn(program: &Path, directory: &Path) -> Child {
    let log =
        File::options().create(true).append(true).open(directory.join("log")).expect("its log");
    let mut command = in_namespaces();
    command.arg(program).args(["run", "--create-dirs", "--hold", "--verbose"]);
    let identities = directory.join("identities.yaml");
    if identities.exists() {
        command.arg("--identities").arg(identities);
    }
    command.env("PEBBLE", directory.join("pebble")).env("PEBBLE_SOCKET", directory.join("socket"));
    // As in an image whose user has no home.
    command.env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("its log")).stderr(log);
    command.spawn().expect("env and unshare are installed")
}

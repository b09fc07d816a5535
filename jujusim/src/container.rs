//! Workload containers: Pebble as the first process of its own namespaces, as Kubernetes runs it
//! for Juju.
//!
//! A pod has one network namespace, which outlives the containers in it, and volumes, which are
//! directories of the unit. Each container has its own file system, new at each start.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use crate::error::{Doing as _, Error, Result};
use crate::pooler::{self, Instance};

/// The script that creates a container's file system and starts Pebble in it.
const START: &str = include_str!("container.sh");

/// The Pebble version that ships with Juju 3.6 and 4.0.
pub const PEBBLE: &str = "1.26.0";

/// The user id of `postgres` in the image that the charm's metadata names.
const USER: &str = "584788";

/// Path, in the workload container, of the directory shared with the charm container.
const VOLUME: &str = "/charm/container";

/// How long namespaces and Pebble may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The grace period that Juju sets for pods: then Kubernetes kills what still runs.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// How long Pebble may take to answer, and how long its answer may be: what listens at the socket
/// may send without end.
const ANSWER: Duration = Duration::from_secs(2);
const LONGEST_ANSWER: usize = 16 << 20;

/// What all containers of a model have in common.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// Path of the Pebble binary.
    pub(crate) pebble: PathBuf,
    /// A directory with the image's `pgbouncer`, searched before `PATH`.
    pub(crate) image: Option<PathBuf>,
    /// The host's address in the model's network.
    pub(crate) gateway: Ipv4Addr,
    /// Path of the script in [`START`].
    script: PathBuf,
}

/// A pod: its network, held by a process that does nothing, and its containers.
pub(crate) struct Pod {
    pause: Group,
    runtime: Runtime,
    root: PathBuf,
    pub(crate) containers: Vec<Container>,
    /// When Kubernetes kills what still runs in the pod; set when the pod is told to terminate.
    ends: Option<Instant>,
}

/// One container of a pod.
pub(crate) struct Container {
    pub(crate) name: String,
    /// Counted from 0, in the order of the names.
    index: usize,
    running: Option<Group>,
    /// The boot id that the agent last saw.
    pub(crate) boot: Option<String>,
    /// The time of the last notice that was processed.
    pub(crate) noticed: Option<String>,
    /// How many CPUs the container may use.
    pub(crate) cpus: Option<f32>,
}

/// A process whose end also ends all processes in its namespaces.
struct Group {
    child: Child,
    /// The first process inside the namespaces.
    pid: u32,
}

impl Runtime {
    /// Finds the Pebble that `scripts/pebble` built.
    pub(crate) fn new(
        version: &str,
        image: Option<&Path>,
        gateway: Ipv4Addr,
        dir: &Path,
    ) -> Result<Runtime> {
        let pebble = pebble_of(version)?;
        let script = dir.join("container.sh");
        fs::write(&script, START).doing(|| format!("write {}", script.display()))?;
        Ok(Runtime { pebble, image: image.map(Path::to_owned), gateway, script })
    }

    /// Creates the pod of the unit with this root and address, with these containers running.
    pub(crate) fn pod<'a>(
        &self,
        root: &Path,
        address: Ipv4Addr,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<Pod> {
        let mut pause = dies_with_parent();
        let pause = pause.args(["unshare", "--net", "sleep", "infinity"]).stdin(Stdio::null());
        let pause = Group::start(pause, 0)?;
        wait_until("a network namespace", || has_own_namespace(pause.pid, "net"))?;
        // Interface names are limited to 15 characters, and must be unique on the host.
        let interface = format!("jj{}", pause.pid);
        run(Command::new("bash")
            .arg(&self.script)
            .arg("network")
            .arg(pause.pid.to_string())
            .args([&interface, &address.to_string(), &self.gateway.to_string()]))?;
        let mut pod = Pod {
            pause,
            runtime: self.clone(),
            root: root.to_owned(),
            containers: Vec::new(),
            ends: None,
        };
        for (index, name) in names.enumerate() {
            let volume = pod.volume(name);
            fs::create_dir_all(&volume).doing(|| format!("make {}", volume.display()))?;
            let name = name.clone();
            pod.containers.push(Container {
                name,
                index,
                running: None,
                boot: None,
                noticed: None,
                cpus: None,
            });
        }
        pod.start(None)?;
        Ok(pod)
    }
}

/// The path of a Pebble version for containers. Fails with the reason if containers cannot run
/// here.
pub fn pebble_of(version: &str) -> Result<PathBuf> {
    static NAMESPACE_ERROR: OnceLock<Option<String>> = OnceLock::new();
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::refused(
            "containers need namespaces: run as root, or without --containers",
        ));
    }
    let pebble = crate::server::cache().join(format!("pebble-{version}/bin/pebble"));
    if !pebble.exists() {
        return Err(Error::refused(format!("cannot find Pebble {version}: run scripts/pebble")));
    }
    match NAMESPACE_ERROR.get_or_init(namespace_error) {
        None => Ok(pebble),
        Some(why) => Err(Error::refused(format!(
            "containers need namespaces, which cannot be created here: {why}"
        ))),
    }
}

/// Why root cannot create a pod here, as inside many containers; `None` if it can.
fn namespace_error() -> Option<String> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "bash", "-euc"]);
    unshare.arg("mount -t tmpfs container /mnt; ip link add jj0 type veth peer name eth0");
    match unshare.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

impl Pod {
    /// The file of the pod's network namespace.
    pub(crate) fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pause.pid).into()
    }

    /// The directory shared by a container and the charm container, as the charm sees it.
    pub(crate) fn volume(&self, container: &str) -> PathBuf {
        self.root.join("charm/containers").join(container)
    }

    /// Starts the named container, or all, unless already running.
    pub(crate) fn start(&mut self, name: Option<&str>) -> Result<()> {
        let Pod { pause, runtime, root, containers, .. } = self;
        for container in
            containers.iter_mut().filter(|one| name.is_none_or(|name| one.name == name))
        {
            if container.is_running() {
                continue;
            }
            let log = root.join(format!("var/log/pebble-{}.log", container.name));
            let log = File::options()
                .create(true)
                .append(true)
                .open(&log)
                .doing(|| "open a log".to_owned())?;
            let errors = log.try_clone().doing(|| "open a log".to_owned())?;
            let limit = container.cpus.map_or_else(
                || "max 100000".to_owned(),
                |cpus| format!("{:.0} 100000", cpus * 100_000.0),
            );
            let mut command = dies_with_parent();
            command.arg("nsenter").arg(format!("--net=/proc/{}/ns/net", pause.pid));
            command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]);
            command
                .arg("bash")
                .arg(&runtime.script)
                .arg("container")
                .arg(&*root)
                .arg(&container.name);
            command.arg((38813 + container.index).to_string()).arg(&runtime.pebble).arg(limit);
            command.args(runtime.image.iter()).stdin(Stdio::null()).stdout(log).stderr(errors);
            let group = Group::start(&mut command, 1)?;
            let socket = root.join("charm/containers").join(&container.name).join("pebble.socket");
            wait_until("Pebble", || ask(&socket, "/v1/system-info").is_ok())?;
            container.running = Some(group);
        }
        Ok(())
    }

    /// Stops the named container, or all, as if its first process was killed.
    pub(crate) fn stop(&mut self, name: Option<&str>) {
        for container in
            self.containers.iter_mut().filter(|one| name.is_none_or(|name| one.name == name))
        {
            container.running = None;
        }
    }

    /// Sends SIGTERM to all containers; Kubernetes tells the agent at the same moment.
    pub(crate) fn terminate(&mut self) {
        // Pebble ends at once at a second SIGTERM, without waiting for its services.
        if self.ends.is_some() {
            return;
        }
        self.ends = Some(Instant::now() + GRACE_PERIOD);
        for container in &mut self.containers {
            // Check that the container runs: the process id of an ended container may be reused.
            if let Some(pid) = container.is_running().then(|| container.pid()).flatten() {
                signal(pid, Signal::SIGTERM);
            }
        }
    }

    /// Waits until all containers end or the grace period is over; returns the names of those that
    /// still run.
    pub(crate) fn end(&mut self) -> Vec<String> {
        self.terminate();
        let Pod { containers, ends, .. } = self;
        loop {
            let left =
                containers.iter_mut().filter_map(|one| one.is_running().then(|| one.name.clone()));
            let left: Vec<String> = left.collect();
            if left.is_empty() || ends.is_none_or(|ends| Instant::now() > ends) {
                return left;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// How many requests the pod's containers have answered, by their logs.
    pub(crate) fn requests(&self) -> usize {
        let request =
            |line: &&str| line.contains("[pebble] GET /v1/") || line.contains("[pebble] POST /v1/");
        let count = |container: &Container| {
            let log = fs::read_to_string(self.log(&container.name)).unwrap_or_default();
            log.lines().filter(request).count()
        };
        self.containers.iter().map(count).sum()
    }

    /// Sends a request to the Pebble of a container.
    pub(crate) fn ask(&self, container: &str, path: &str) -> Result<Value> {
        ask(&self.volume(container).join("pebble.socket"), path)
    }

    /// The PgBouncer processes that are configured in the containers.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        self.containers.iter().flat_map(|container| self.instances_of(container)).collect()
    }

    /// [`Pod::instances`], after each process runs and has its socket, or after a timeout.
    pub(crate) fn settled_instances(&self) -> Vec<Instance> {
        let deadline = Instant::now() + pooler::CONTAINER_START_TIMEOUT;
        loop {
            let instances = self.instances();
            let is_there = |instance: &Instance| {
                let port = pooler::setting(&instance.ini, "listen_port").unwrap_or_default();
                instance.pid.is_some() && instance.sockets.join(format!(".s.PGSQL.{port}")).exists()
            };
            if instances.iter().all(is_there) || Instant::now() > deadline {
                return instances;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn instances_of(&self, container: &Container) -> Vec<Instance> {
        let (Some(files), Some(pid)) = (container.files(), container.pid()) else {
            return Vec::new();
        };
        let volume = self.volume(&container.name);
        let log = fs::read_to_string(self.log(&container.name)).unwrap_or_default();
        let instance = |ini: PathBuf| {
            let runs = |pid: &u32| {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let words = command
                    .split(|byte| *byte == 0)
                    .map(String::from_utf8_lossy)
                    .collect::<Vec<_>>();
                words
                    .iter()
                    .any(|word| !word.is_empty() && ini.ends_with(word.trim_start_matches('/')))
            };
            let inside = pooler::setting(&ini, "unix_socket_dir").unwrap_or_default();
            let sockets = Path::new(&inside).strip_prefix(VOLUME).map(|rest| volume.join(rest));
            let number =
                ini.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            let started =
                format!("Service \"{}\" starting", number.replace("instance", "pgbouncer"));
            Instance {
                pid: children(pid).into_iter().find(runs),
                restarts: u32::try_from(log.matches(&started).count())
                    .unwrap_or_default()
                    .saturating_sub(1),
                sockets: sockets.unwrap_or_default(),
                user: USER.to_owned(),
                ini,
            }
        };
        pooler::configurations(&files).into_iter().map(instance).collect()
    }

    /// The log of a process: Pebble prefixes each line with the name of the service.
    pub(crate) fn log_of(&self, instance: &Instance) -> String {
        let name =
            instance.ini.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let mark = format!("[{}]", name.replace("instance", "pgbouncer"));
        let logs = self
            .containers
            .iter()
            .map(|one| fs::read_to_string(self.log(&one.name)).unwrap_or_default());
        let lines = logs.flat_map(|log| log.lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|line| line.contains(&mark)).map(|line| line + "\n").collect()
    }

    fn log(&self, container: &str) -> PathBuf {
        self.root.join(format!("var/log/pebble-{container}.log"))
    }

    /// The root of the file system that holds the workload, while its container runs.
    pub(crate) fn files(&self) -> Option<PathBuf> {
        self.containers.first()?.files()
    }

    /// Whether Kubernetes would send clients to this pod.
    pub(crate) fn is_ready(&self) -> bool {
        let healthy = |container: &Container| {
            let answer = self.ask(&container.name, "/v1/health?level=ready");
            answer.is_ok_and(|answer| answer["healthy"] == true)
        };
        self.containers.iter().all(healthy)
    }
}

impl Container {
    fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|group| matches!(group.child.try_wait(), Ok(None)))
    }

    /// The container's file system, as the host sees it while the container runs.
    pub(crate) fn files(&self) -> Option<PathBuf> {
        self.running.as_ref().map(|group| PathBuf::from(format!("/proc/{}/root", group.pid)))
    }

    /// Pebble's process id on the host.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|group| group.pid)
    }
}

impl Group {
    /// Starts a process whose descendant, after `generations` forks, is the first process inside.
    fn start(command: &mut Command, generations: usize) -> Result<Group> {
        let child = command.spawn().doing(|| format!("run {command:?}"))?;
        let mut group = Group { pid: child.id(), child };
        for _ in 0..generations {
            let mut found = None;
            wait_until("namespaces", || {
                found = children(group.pid).first().copied();
                found.is_some()
            })?;
            group.pid = found.unwrap_or(group.pid);
        }
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Killing the first process of a PID namespace kills all others in it. After `wait` the
        // process id may be reused.
        if matches!(self.child.try_wait(), Ok(None)) {
            kill(self.pid);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a process.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::SIGKILL);
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // Ignore errors: the process may have ended.
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
    }
}

/// The children of a process that it has not waited for.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    // Each thread has its own children.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let text: String = texts.collect();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Sends a GET to Pebble and returns the `result` of the answer.
pub(crate) fn ask(socket: &Path, path: &str) -> Result<Value> {
    let get = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        let deadline = Instant::now() + ANSWER;
        stream.set_write_timeout(Some(ANSWER))?;
        // HTTP/1.0 has no chunked encoding.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let (mut answer, mut part) = (Vec::new(), [0; 8192]);
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() || answer.len() > LONGEST_ANSWER {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(rest))?;
            match stream.read(&mut part)? {
                0 => return String::from_utf8(answer).map_err(|_| ErrorKind::InvalidData.into()),
                read => answer.extend_from_slice(&part[..read]),
            }
        }
    };
    let answer = get().doing(|| "ask Pebble".to_owned())?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let value: Value = serde_json::from_str(body)
        .map_err(|_| Error::refused(format!("Pebble answers {answer:?}")))?;
    Ok(value["result"].clone())
}

/// A command whose process is killed when the simulator ends.
fn dies_with_parent() -> Command {
    let mut command = Command::new("setpriv");
    // Ctrl-C at a terminal is for the simulator alone.
    command.process_group(0).arg("--pdeathsig=KILL");
    command
}

/// Whether a process is in another namespace of this kind than the simulator.
fn has_own_namespace(pid: u32, kind: &str) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
    let own = of("self");
    own.is_some() && of(&pid.to_string()).is_some_and(|other| Some(other) != own)
}

fn wait_until(what: &str, mut is_there: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while !is_there() {
        if Instant::now() > deadline {
            return Err(Error::refused(format!(
                "{what} did not start within {} s",
                START_TIMEOUT.as_secs()
            )));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().doing(|| "run bash".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "cannot make a pod: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Anything may listen at the socket: a container is not trusted.
    #[test]
    fn an_answer_without_end_is_given_up() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, pause) in [("fast", Duration::ZERO), ("slow", Duration::from_millis(100))] {
            let socket = dir.path().join(name);
            let listener = UnixListener::bind(&socket).expect("a socket");
            thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a request");
                let part = if pause.is_zero() { vec![b' '; 1 << 16] } else { vec![b' '] };
                while stream.write_all(&part).is_ok() {
                    thread::sleep(pause);
                }
            });
            let start = Instant::now();
            let error = ask(&socket, "/v1/system-info").expect_err(name).to_string();
            assert!(error.contains("ask Pebble") && start.elapsed() < 2 * ANSWER, "{error}");
        }
    }
}

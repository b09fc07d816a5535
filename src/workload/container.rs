//! PgBouncer in the container beside the charm's: files, services and signals go through Pebble,
//! the consoles through the directory that both containers see.

use std::{
    collections::BTreeMap,
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::Signal,
    unistd::{Gid, Uid},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    console::{Console, ConsoleError},
    facts::{Loaded, Probe, ProbeError, Saved, VERSION_LENGTH_MAX, printed_version},
    files::Files,
    host::{FILE_SIZE_MAX, Host, Marker, Text},
    interface::Workload,
    layer::{EXPORTER, KILL_DELAY, LABEL, SOCKETS, USER, VOLUME, exporter, layer, pgbouncer},
    load,
    log_targets::{Forwarding, LogTargets},
    outcome::{Done, NotLoaded},
    paths::Paths,
    pebble::{Current, Directory, File, PathError, PathErrorKind, Pebble, PebbleError, Service},
};
use crate::{
    pgbouncer::{Place, TlsFiles, Version},
    secret::Secret,
    x509::certificate::digest,
};

/// The label of the layer with the log targets, as with charms on Canonical's library.
const LOGS_LABEL: &str = "pgbouncer-log-forwarding";

/// The least number of processes: one alone could not be restarted without a gap.
const PROCESSES_MIN: u16 = 2;

/// The largest number of processes: more did not serve more transactions.
const PROCESSES_MAX: u16 = 4;

/// How long Pebble may take to end a process and start another one, including the second in which
/// it watches the new one.
const REPLACE_LIMIT: Duration = KILL_DELAY.saturating_add(Duration::from_secs(6));

/// How long `pgbouncer --version` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// The workload of a pod.
#[derive(Debug)]
pub struct Container {
    /// The paths inside the container.
    paths: Paths,
    /// The directory that both containers see, as the charm sees it.
    volume: PathBuf,
    pebble: Pebble,
    /// What this dispatch found when it first looked; `None` again after a load.
    snapshot: Option<Result<Snapshot, ProbeError>>,
    /// The log targets, once they are known: a load does not change them.
    forwarding: Option<Forwarding>,
}

/// Everything that a dispatch without any news reads from the container, in two requests.
#[derive(Debug)]
struct Snapshot {
    facts: ContainerFacts,
    /// An earlier hook saved the facts in this container.
    has_saved_facts: bool,
    services: Vec<Service>,
    texts: BTreeMap<PathBuf, Secret>,
}

/// What does not change while a container runs. It is determined once and saved in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ContainerFacts {
    /// The first line of `pgbouncer --version`.
    version: String,
    processes: u16,
    /// The image has [`EXPORTER`].
    exporter: bool,
}

/// The process of a running service, identified by the time of its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process(String);

impl ContainerFacts {
    /// Parses the saved facts. Every process of the container may have written the file, so facts
    /// that [`Container::determine_facts`] cannot return count as missing.
    fn parse(text: &str) -> Option<Self> {
        let facts: Self = serde_json::from_str(text).ok()?;
        let is_valid = (PROCESSES_MIN..=PROCESSES_MAX).contains(&facts.processes)
            && facts.version.len() <= VERSION_LENGTH_MAX
            && Version::parse(&facts.version).is_some();
        is_valid.then_some(facts)
    }
}

impl Container {
    /// The workload of the unit of this name. The charm has the container's shared directory at
    /// `volume`.
    pub fn new(volume: PathBuf, unit: &str) -> Self {
        let pebble = Pebble::new(volume.join("pebble.socket"));
        let paths = Paths::new(PathBuf::from("/"), unit);
        Self { paths, volume, pebble, snapshot: None, forwarding: None }
    }

    fn snapshot(&mut self) -> Result<&Snapshot, ProbeError> {
        let snapshot = self.snapshot.take().unwrap_or_else(|| {
            let snapshot = self.read_snapshot();
            if let Err(ProbeError::Away(reason) | ProbeError::Unreadable(reason)) = &snapshot {
                tracing::warn!("{reason}");
            }
            snapshot
        });
        self.snapshot.insert(snapshot).as_ref().map_err(ProbeError::clone)
    }

    fn read_snapshot(&mut self) -> Result<Snapshot, ProbeError> {
        let services =
            self.pebble.services().map_err(|error| not_probed(&error, ProbeError::Away))?;
        let users = self.user_list();
        let identity = users.with_file_name(TlsFiles::IDENTITY);
        let logs = self.logs_file();
        let mut paths = vec![
            self.facts_file(),
            self.layer_file(),
            logs.clone(),
            self.paths.shared(),
            users,
            identity,
        ];
        paths.extend((0..PROCESSES_MAX).map(|instance| self.paths.marker(instance)));
        let texts = self.texts(&paths).map_err(|error| unreadable(&error))?;
        let forwarding = Forwarding::parse(texts.get(&logs).map(Secret::reveal));
        self.forwarding.get_or_insert(forwarding);
        let known =
            texts.get(&self.facts_file()).and_then(|text| ContainerFacts::parse(text.reveal()));
        let has_saved_facts = known.is_some();
        let facts = known.map_or_else(|| self.determine_facts(), Ok)?;
        Ok(Snapshot { facts, has_saved_facts, services, texts })
    }

    /// The file in the container with [`ContainerFacts`].
    fn facts_file(&self) -> PathBuf {
        self.paths.instances_dir().join("container.json")
    }

    /// The file in the container with its log targets.
    fn logs_file(&self) -> PathBuf {
        self.paths.instances_dir().join("log-targets.json")
    }

    /// The file in the container with the digest of our layer.
    fn layer_file(&self) -> PathBuf {
        self.paths.instances_dir().join("layer")
    }

    /// Sets our layer, unless the container has it: after a change of its plan, Pebble sends every
    /// line that it keeps to Loki once more.
    fn set_layer(&mut self, layer: &Value) -> Result<(), NotLoaded> {
        let (file, digest) = (self.layer_file(), digest(&layer.to_string()));
        let is_set = self.snapshot().is_ok_and(|snapshot| {
            let names = layer["services"].as_object().into_iter().flatten();
            let has = |name: &str| snapshot.services.iter().any(|service| service.name == name);
            snapshot.texts.get(&file).is_some_and(|text| text.reveal() == digest)
                && names.into_iter().all(|(name, _)| has(name))
        });
        if is_set {
            return Ok(());
        }
        // A hook that dies now must not leave the digest of an earlier layer: the next layer may be
        // that one again.
        self.remove(std::slice::from_ref(&file))?;
        self.pebble.add_layer(LABEL, layer)?;
        self.write(&[(&file, &digest)])
    }

    fn determine_facts(&mut self) -> Result<ContainerFacts, ProbeError> {
        let output = match self.pebble.exec(&["pgbouncer", "--version"], VERSION_LIMIT) {
            Ok(output) => output,
            Err(error) if error.is_not_in_image() => return Err(ProbeError::NotInImage),
            Err(error @ PebbleError::TimedOut { .. }) => {
                return Err(ProbeError::Away(error.to_string()));
            }
            Err(error) => return Err(not_probed(&error, ProbeError::NoVersion)),
        };
        let status = format!("exit status {}", output.status);
        let version = printed_version(output.status == 0, &status, &output.stdout, &output.stderr)?;
        let limits = [CPU_MAX, CPU_QUOTA, CPU_PERIOD, CPUS_ONLINE].map(PathBuf::from);
        let limits = self.texts(&limits).map_err(|error| unreadable(&error))?;
        let limit = |path: &str| limits.get(Path::new(path)).map(|text| text.reveal().trim());
        let cpus = quota(limit(CPU_MAX), limit(CPU_QUOTA), limit(CPU_PERIOD))
            .or_else(|| online(limit(CPUS_ONLINE)?));
        let exporter = self.pebble.exec(&[EXPORTER, "--version"], VERSION_LIMIT);
        Ok(ContainerFacts {
            version,
            exporter: !exporter.is_err_and(|error| error.is_not_in_image()),
            processes: cpus.unwrap_or(PROCESSES_MIN).clamp(PROCESSES_MIN, PROCESSES_MAX),
        })
    }

    /// The texts of the files that can be read, in one request.
    fn texts(&mut self, paths: &[PathBuf]) -> Result<BTreeMap<PathBuf, Secret>, PebbleError> {
        let names: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let found = self.pebble.read(&names)?;
        let readable = |(path, content): (&PathBuf, Result<Vec<u8>, _>)| {
            Some((path.clone(), Secret::new(text(content.ok()?)?)))
        };
        Ok(paths.iter().zip(found).filter_map(readable).collect())
    }

    fn service(instance: u16) -> String {
        format!("pgbouncer_{instance}")
    }

    /// The service of a process's exporter. The first one has the name of the Python charm's only
    /// one.
    fn exporter(instance: u16) -> String {
        if instance == 0 {
            "metrics_server".to_owned()
        } else {
            format!("metrics_server_{instance}")
        }
    }

    fn running(services: &[Service], instance: u16) -> Option<Process> {
        let name = Self::service(instance);
        let service = services.iter().find(|service| service.name == name)?;
        (service.current == Current::Active).then(|| service.since.clone().map(Process))?
    }

    fn directory(path: &PathBuf) -> Directory<'_> {
        Directory { path, mode: 0o700, user: USER, group: USER }
    }
}

impl Workload for Container {
    fn probe(&mut self) -> Result<Probe, ProbeError> {
        let auth_file = self.user_list().display().to_string();
        let ContainerFacts { version, processes, exporter } = self.snapshot()?.facts.clone();
        let place = |instance| Place {
            socket_dir: format!("{VOLUME}/{SOCKETS}/{instance}"),
            pid_file: None,
        };
        let places = (0..processes).map(place).collect();
        Ok(Probe { version, auth_file, places, has_exporter: exporter })
    }

    fn loaded(&mut self, instance: u16) -> Option<Loaded> {
        let marker = self.paths.marker(instance);
        let snapshot = self.snapshot().ok()?;
        let marker = Marker::parse(snapshot.texts.get(&marker)?.reveal())?;
        marker.of(Self::running(&snapshot.services, instance).as_ref())
    }

    fn saved(&mut self) -> Saved {
        let (config, users) = (self.paths.shared(), self.user_list());
        let identity = users.with_file_name(TlsFiles::IDENTITY);
        let Ok(snapshot) = self.snapshot() else { return Saved::default() };
        let text = |path: &Path| snapshot.texts.get(path).cloned();
        Saved {
            config: text(&config).map(|text| text.reveal().to_owned()),
            users: text(&users),
            identity: text(&identity),
        }
    }

    fn load(&mut self, files: &Files) -> Result<Done, NotLoaded> {
        let done = load::load(self, files);
        self.snapshot = None;
        done
    }

    fn foresee(&mut self, files: &Files) -> Result<Done, NotLoaded> {
        load::foresee(self, files)
    }

    fn unhealthy(&mut self) -> Option<String> {
        match self.pebble.is_ready() {
            Ok(true) => None,
            Ok(false) => Some("PgBouncer does not answer its health check: see its log".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    fn forwarding(&mut self) -> Forwarding {
        if self.forwarding.is_none() {
            let _ = self.snapshot();
        }
        self.forwarding.clone().unwrap_or(Forwarding::Away)
    }

    fn forward_logs(&mut self, targets: &LogTargets) -> Result<(), NotLoaded> {
        let earlier = self.forwarding().urls();
        let file = self.logs_file();
        // A hook that dies now leaves a record of every target that may be set.
        let all = earlier.union(&targets.urls).cloned().collect();
        let changing = Forwarding::Changing(all);
        self.pebble.make_dirs(&[Self::directory(&self.paths.instances_dir())])?;
        self.write(&[(&file, &changing.render())])?;
        self.forwarding = Some(changing);
        self.pebble.add_layer(LOGS_LABEL, &targets.layer(&earlier))?;
        let set = Forwarding::Set(targets.clone());
        if targets.urls.is_empty() {
            self.remove(&[file])?;
        } else {
            self.write(&[(&file, &set.render())])?;
        }
        self.forwarding = Some(set);
        Ok(())
    }
}

impl Host for Container {
    type Process = Process;

    fn paths(&self) -> &Paths {
        &self.paths
    }

    fn user_list(&self) -> PathBuf {
        self.paths.user_list_in_memory()
    }

    fn socket_dir(&self, instance: u16) -> PathBuf {
        self.volume.join(SOCKETS).join(instance.to_string())
    }

    fn prepare(&mut self, files: &Files) -> Result<(), NotLoaded> {
        let instances = || files.instances.iter().map(|file| file.instance);
        let sockets = Path::new(VOLUME).join(SOCKETS);
        let mut directories = vec![self.paths.instances_dir(), sockets.clone()];
        directories.extend(self.user_list().parent().map(Path::to_owned));
        directories.extend(instances().map(|instance| self.paths.instance_dir(instance)));
        directories.extend(instances().map(|instance| sockets.join(instance.to_string())));
        let directories: Vec<_> = directories.iter().map(Self::directory).collect();
        self.pebble.make_dirs(&directories)?;
        // The file goes with the container, so a new container has none.
        let snapshot = self.snapshot().ok().filter(|snapshot| !snapshot.has_saved_facts);
        let facts = snapshot.map(|snapshot| snapshot.facts.clone());
        if let Some(text) = facts.and_then(|facts| serde_json::to_string(&facts).ok()) {
            self.write(&[(&self.facts_file(), &text)])?;
        }
        Ok(())
    }

    fn define(&mut self, files: &Files) -> Result<(), NotLoaded> {
        let instances = files.instances.iter().map(|file| file.instance);
        let services = instances.flat_map(|instance| {
            let process = pgbouncer(&self.paths.ini(instance));
            [
                (Self::service(instance), process),
                (Self::exporter(instance), exporter(instance, files.port)),
            ]
        });
        self.set_layer(&layer(services))
    }

    fn read(&mut self, path: &Path) -> Result<Text, NotLoaded> {
        let found = self.pebble.read(&[path])?.pop();
        Ok(match found.map_or(Ok(None), |content| content.map(text)) {
            Ok(Some(text)) => Text::Whole(text),
            Err(PathError { kind: PathErrorKind::NotFound, .. }) => Text::Absent,
            Ok(None) | Err(_) => Text::Unreadable,
        })
    }

    fn write(&mut self, files: &[(&Path, &str)]) -> Result<(), NotLoaded> {
        let mut all = Vec::new();
        for (path, text) in files {
            all.push(File { path, content: text.as_bytes(), mode: 0o400, user: USER, group: USER });
        }
        Ok(self.pebble.write(&all)?)
    }

    fn remove(&mut self, paths: &[PathBuf]) -> Result<(), NotLoaded> {
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        Ok(self.pebble.remove(&paths)?)
    }

    fn start(&mut self, instance: u16) -> Result<(), NotLoaded> {
        if self.process(instance)?.is_some() {
            return Ok(());
        }
        Ok(self.pebble.begin_to_start(&[&Self::service(instance)])?)
    }

    fn process(&mut self, instance: u16) -> Result<Option<Process>, NotLoaded> {
        Ok(Self::running(&self.pebble.services()?, instance))
    }

    fn signal(
        &mut self,
        instance: u16,
        process: &Process,
        signal: Signal,
    ) -> Result<(), NotLoaded> {
        let sent = self.pebble.signal(signal.as_str(), &[&Self::service(instance)]);
        match sent {
            // Pebble answers the same error for a process that does not run and for a wrong signal.
            Err(PebbleError::Api { .. }) if self.process(instance)?.as_ref() != Some(process) => {
                Ok(())
            }
            sent => Ok(sent?),
        }
    }

    fn stop_exporter(&mut self, instance: u16) -> Result<(), NotLoaded> {
        Ok(self.pebble.stop(&[&Self::exporter(instance)], REPLACE_LIMIT)?)
    }

    /// Does not wait, and does not fail where the image has no exporter.
    fn start_exporter(&mut self, instance: u16) -> Result<(), NotLoaded> {
        Ok(self.pebble.begin_to_start(&[&Self::exporter(instance)])?)
    }

    fn replace(&mut self, instance: u16, _: &Process) -> Result<(), NotLoaded> {
        Ok(self.pebble.restart(&[&Self::service(instance)], REPLACE_LIMIT)?)
    }

    fn console(&mut self, instance: u16, _: &Process) -> Result<Console, ConsoleError> {
        let directory = self.socket_dir(instance);
        // Only the image knows the id of its user; the directory was made for that user. A link in
        // its place could name a directory, and so a user, of the charm's container.
        let found = |path: &Path| fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir);
        let owner = found(&self.volume.join(SOCKETS)).and_then(|_| found(&directory));
        let owner = owner.ok_or_else(|| ConsoleError::NoSocket(directory.display().to_string()))?;
        Console::connect(&directory, Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a container cannot be probed: `otherwise`, if its Pebble answers in time.
fn not_probed(error: &PebbleError, otherwise: impl FnOnce(String) -> ProbeError) -> ProbeError {
    match error {
        PebbleError::Absent { .. } => ProbeError::Away(error.to_string()),
        PebbleError::Slow { .. } => ProbeError::Unreadable(error.to_string()),
        _ => otherwise(error.to_string()),
    }
}

/// Why files cannot be read in a container that has just answered: one may be longer than the charm
/// reads. A pipe is no reason: Pebble reads regular files only.
fn unreadable(error: &PebbleError) -> ProbeError {
    not_probed(error, |error| {
        ProbeError::Unreadable(format!(
            "cannot read PgBouncer's files in the workload container; delete the pod to get new \
             ones: {error}"
        ))
    })
}

/// The text of a file that was read as a whole.
fn text(content: Vec<u8>) -> Option<String> {
    String::from_utf8(content).ok().filter(|text| text.len() as u64 <= FILE_SIZE_MAX)
}

/// The CPU limit of the container, by control groups of version 2 (`max 100000`, `150000 100000`).
const CPU_MAX: &str = "/sys/fs/cgroup/cpu.max";
/// The same by control groups of version 1.
const CPU_QUOTA: &str = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us";
const CPU_PERIOD: &str = "/sys/fs/cgroup/cpu/cpu.cfs_period_us";
/// The processors of the node: `0-3,8`.
const CPUS_ONLINE: &str = "/sys/devices/system/cpu/online";

/// The number of processors that a container may use, rounded up; `None` without a limit.
fn quota(max: Option<&str>, quota: Option<&str>, period: Option<&str>) -> Option<u16> {
    let (quota, period) = max.and_then(|text| text.split_once(' ')).or(quota.zip(period))?;
    // Anything but a positive number (`max`, `-1`) is no limit.
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    u16::try_from(quota.div_ceil(period.max(1))).ok()
}

/// The number of processors in a list of ranges.
fn online(ranges: &str) -> Option<u16> {
    let count = |range: &str| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        to.parse::<u16>().ok()?.checked_sub(from.parse().ok()?)?.checked_add(1)
    };
    ranges.split(',').map(count).try_fold(0u16, |sum, part| sum.checked_add(part?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_limit_is_rounded_up() {
        assert_eq!(quota(Some("150000 100000"), None, None), Some(2));
        assert_eq!(quota(Some("max 100000"), None, None), None);
        assert_eq!(quota(None, Some("300000"), Some("100000")), Some(3));
        assert_eq!(quota(None, Some("-1"), Some("100000")), None);
        assert_eq!(quota(None, None, None), None);
    }

    #[test]
    fn processors_are_counted_in_ranges() {
        for (list, expected) in
            [("0", Some(1)), ("0-3", Some(4)), ("0-1,4,6-7", Some(5)), ("3-1", None), ("", None)]
        {
            assert_eq!(online(list), expected, "{list:?}");
        }
    }

    #[test]
    fn saved_facts_that_the_charm_did_not_save_count_as_missing() {
        let saved =
            ContainerFacts { version: "PgBouncer 1.24.1".to_owned(), processes: 3, exporter: true };
        let text = serde_json::to_string(&saved).expect("it is JSON");
        assert_eq!(ContainerFacts::parse(&text), Some(saved));
        for processes in
            ["0", "1", "5", "65535", "65536", "-1", "2.5", "1e300", "1e999", "\"3\"", "null", "[3]"]
        {
            let text = format!(
                r#"{{"version":"PgBouncer 1.24.1","processes":{processes},"exporter":true}}"#
            );
            assert_eq!(ContainerFacts::parse(&text), None, "{text}");
        }
        let long = format!("PgBouncer 1.24.1 {}", "x".repeat(VERSION_LENGTH_MAX));
        for version in ["", "moon", "PgBouncer", &long] {
            let text = json!({"version": version, "processes": 3, "exporter": true}).to_string();
            assert_eq!(ContainerFacts::parse(&text), None, "{text}");
        }
        for text in ["", "{}", "null", "3", r#"{"processes":3}"#, &"[".repeat(1 << 20)] {
            assert_eq!(ContainerFacts::parse(text), None, "{text:.99}");
        }
    }

    #[test]
    fn no_link_in_the_shared_directory_is_followed() {
        for is_parent in [false, true] {
            let (volume, elsewhere) = (tempfile::tempdir(), tempfile::tempdir());
            let (volume, elsewhere) = (volume.expect("a directory"), elsewhere.expect("another"));
            let (sockets, other) = (volume.path().join(SOCKETS), elsewhere.path().join("0"));
            fs::create_dir(&other).expect("the directory is new");
            let listener = UnixListener::bind(other.join(".s.PGSQL.6432")).expect("a socket");
            listener.set_nonblocking(true).expect("it is ours");
            if is_parent {
                symlink(elsewhere.path(), &sockets).expect("a link");
            } else {
                fs::create_dir(&sockets).expect("the directory is new");
                symlink(&other, sockets.join("0")).expect("a link");
            }
            let mut container = Container::new(volume.path().to_owned(), "pgb/0");
            let error = container.console(0, &Process("12:00".to_owned())).err();
            assert!(matches!(error, Some(ConsoleError::NoSocket(_))), "{error:?}");
            assert!(listener.accept().is_err(), "the charm followed a link");
        }
    }

    #[test]
    fn a_service_is_identified_by_its_start() {
        let service = |current, since: &str| Service {
            name: "pgbouncer_1".to_owned(),
            current,
            since: Some(since.to_owned()),
        };
        let running = |current| Container::running(&[service(current, "12:00")], 1);
        assert_eq!(running(Current::Active), Some(Process("12:00".to_owned())));
        for current in [Current::Inactive, Current::Backoff, Current::Error] {
            assert_eq!(running(current), None);
        }
        assert_eq!(Container::running(&[service(Current::Active, "12:00")], 0), None);
    }
}

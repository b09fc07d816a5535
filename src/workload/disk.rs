//! PgBouncer on this machine: files replaced whole, processes that a supervisor keeps, signals.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    sys::signal::Signal,
    unistd::{Gid, Uid, User, getegid, geteuid},
};

use super::{
    Done, Files, InstanceFile, Loaded, NotLoaded, Paths, Saved, VersionUnknown, Workload,
    console::{self, Console, ConsoleError, Shown},
    process::Process,
};
use crate::{
    pgbouncer::{
        difference::{Difference, Need},
        ini::Ini,
        validate::validate,
        version::Version,
    },
    secret::Secret,
};

/// Whom PgBouncer runs as on a machine whose charm runs as root.
const USER: &str = "postgres";

/// The longest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// How long a process may take to start or to reload; it takes milliseconds.
const RELOAD: Duration = Duration::from_secs(3);

/// How long a process may take to end and the next one to come. From 1.23 SIGTERM waits for the clients to
/// leave, and a second one does not (PgBouncer's documentation, "Signals").
const RESTART: Duration = Duration::from_secs(10);

/// The workload of a machine.
#[derive(Debug)]
pub struct Disk {
    paths: Paths,
}

/// What `loaded` holds: what was confirmed, and of which process.
struct Marker {
    loaded: Loaded,
    process: Process,
}

/// Whom the files and directories belong to.
#[derive(Clone, Copy)]
struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Disk {
    /// The workload with its files at these paths.
    pub fn new(paths: Paths) -> Self {
        Self { paths }
    }

    /// The running process of an instance.
    fn process(&self, instance: u16) -> Option<Process> {
        Process::of(&self.paths.pid_file(instance), &self.paths.ini(instance))
    }

    fn signal(&self, process: Process, instance: u16, signal: Signal) -> Result<(), NotLoaded> {
        let signalled = process.signal(&self.paths.ini(instance), signal);
        signalled.map_err(|reason| NotLoaded::NotSignalled { instance, reason })
    }

    /// Makes one process run its file; true if it had to be another process.
    fn load_instance(&self, owner: Owner, file: &InstanceFile, files: &Files) -> Result<bool, NotLoaded> {
        let instance = file.instance;
        let (ini, owed) = (self.paths.ini(instance), self.paths.owed(instance));
        let version = Version::parse(&files.version).unwrap_or(Version::OLDEST);
        let new = Ini::parse(&file.text, version).ok();
        let mut need = read(&owed).map_or((Need::Nothing, String::new()), noted);
        if let Some(old) = read(&ini) {
            need = need.max(match (Ini::parse(&old, version), &new) {
                (Ok(old), Some(new)) => described(&Difference::between(&old, new, version)),
                _ => (Need::Restart, "restart for a file that cannot be compared".to_owned()),
            });
            // Noted first: who comes after a kill finds the new file and sees no difference.
            if need.0 > Need::Reload {
                owner.write(&owed, &need.1)?;
            }
        }
        owner.write(&ini, &file.text)?;
        let (mut process, config) = self.confirm(file, None, RELOAD)?;

        if let Some(new) = &new {
            need = need.max(described(&Difference::left(new, shown(&config))));
        }
        match need.0 {
            Need::Restart => {
                tracing::info!("instance {instance} of PgBouncer: {}", need.1);
                process = self.restart(file, process)?;
            }
            Need::Reconnect => {
                let reconnected = self.console(process, instance).and_then(|mut open| open.reconnect(None));
                reconnected
                    .map_err(|error| NotLoaded::NotConfirmed { instance, reason: error.to_string() })?;
            }
            Need::Nothing | Need::Reload => {}
        }
        if let Some((user, password)) = &files.proof {
            self.prove(instance, user, password)?;
        }
        remove(&owed).map_err(|source| NotLoaded::Io { path: owed, source })?;
        let loaded = Loaded { digest: file.digest.clone(), version: files.version.clone() };
        owner.write(&self.paths.marker(instance), &Marker { loaded, process }.render())?;
        Ok(need.0 == Need::Restart)
    }

    /// Ends a process and waits for the one its supervisor starts instead. That one has read the whole file;
    /// should it spell a value differently all the same, restarting again would not help, nor is it tried.
    fn restart(&self, file: &InstanceFile, old: Process) -> Result<Process, NotLoaded> {
        self.signal(old, file.instance, Signal::SIGTERM)?;
        let restarted = self.confirm(file, Some(old), RESTART).or_else(|_| {
            self.signal(old, file.instance, Signal::SIGTERM)?;
            self.confirm(file, Some(old), RELOAD)
        });
        restarted.map(|(process, _)| process)
    }

    /// Waits until a process, other than the one to be replaced, shows the digest; gives it and its settings.
    /// Every process met is told once to read its file: it may have started just before the file was there.
    fn confirm(
        &self,
        file: &InstanceFile,
        replaced: Option<Process>,
        limit: Duration,
    ) -> Result<(Process, BTreeMap<String, Shown>), NotLoaded> {
        let instance = file.instance;
        let until = Instant::now() + limit;
        let mut nap = Duration::from_millis(2);
        let mut told = None;
        let mut failure = NotLoaded::NotRunning { instance };
        let mut console = None;
        loop {
            if let Some(process) = self.process(instance).filter(|process| Some(*process) != replaced) {
                if told != Some(process) {
                    self.signal(process, instance, Signal::SIGHUP)?;
                    told = Some(process);
                    console = None;
                }
                let reason = match self.ask(&mut console, process, instance) {
                    Ok(config)
                        if config.get("syslog_ident").is_some_and(|shown| shown.value == file.digest) =>
                    {
                        return Ok((process, config));
                    }
                    Ok(_) => "it still shows another digest".to_owned(),
                    Err(ConsoleError::PathTooLong(_)) => {
                        return Err(NotLoaded::PathTooLong { path: self.paths.instance_dir(instance) });
                    }
                    Err(error) => error.to_string(),
                };
                failure = NotLoaded::NotConfirmed { instance, reason };
            } else {
                Process::forget(&self.paths.pid_file(instance), &self.paths.ini(instance));
            }
            if Instant::now() > until {
                return Err(failure);
            }
            thread::sleep(nap);
            nap = (nap * 3 / 2).min(Duration::from_millis(100));
        }
    }

    /// The settings in force, by a console that stays open while it answers.
    fn ask(
        &self,
        console: &mut Option<Console>,
        process: Process,
        instance: u16,
    ) -> Result<BTreeMap<String, Shown>, ConsoleError> {
        let mut open = console.take().map_or_else(|| self.console(process, instance), Ok)?;
        let config = open.show_config()?;
        *console = Some(open);
        Ok(config)
    }

    fn console(&self, process: Process, instance: u16) -> Result<Console, ConsoleError> {
        let directory = self.paths.instance_dir(instance);
        let gone = || ConsoleError::NoSocket(directory.display().to_string());
        let (uid, gid) = process.user().ok_or_else(gone)?;
        Console::connect(&directory, uid, gid)
    }

    /// Logs in with a password: a user list that cannot be read fails no reload, and only a login tells.
    fn prove(&self, instance: u16, user: &str, password: &Secret) -> Result<(), NotLoaded> {
        let directory = self.paths.instance_dir(instance);
        match Console::log_in(&directory, user, password) {
            Ok(_) => Ok(()),
            Err(ConsoleError::Refused(reason)) => Err(NotLoaded::UserListRefused { instance, reason }),
            Err(error) => Err(NotLoaded::NotConfirmed { instance, reason: error.to_string() }),
        }
    }

    fn marker(&self, instance: u16) -> Option<Marker> {
        Marker::parse(&read(&self.paths.marker(instance))?)
    }
}

/// Name, value and default of each setting.
fn shown(config: &BTreeMap<String, Shown>) -> impl Iterator<Item = (&str, &str, &str)> {
    config.iter().map(|(name, shown)| (name.as_str(), shown.value.as_str(), shown.default.as_str()))
}

/// What a difference takes, and its words.
fn described(difference: &Difference) -> (Need, String) {
    (difference.need(), difference.to_string())
}

/// What was noted of a difference: its words, which begin with what it takes.
fn noted(words: String) -> (Need, String) {
    let needs = [Need::Restart, Need::Reconnect];
    let need = needs.into_iter().find(|need| words.starts_with(&need.to_string()));
    (need.unwrap_or(Need::Nothing), words)
}

impl Workload for Disk {
    fn version(&mut self) -> Result<Option<String>, VersionUnknown> {
        let output = match Command::new("pgbouncer").arg("--version").stdin(Stdio::null()).output() {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().next() {
            Some(line) if output.status.success() => Ok(Some(line.to_owned())),
            _ => Err(io::Error::other(format!("it says nothing, {}", output.status)).into()),
        }
    }

    fn processes(&self) -> u16 {
        2
    }

    fn loaded(&mut self, instance: u16) -> Option<Loaded> {
        let marker = self.marker(instance)?;
        let running = Process::running(marker.process.pid, &self.paths.ini(instance));
        (running == Some(marker.process)).then_some(marker.loaded)
    }

    fn saved(&mut self) -> Saved {
        Saved { config: read(&self.paths.shared()), users: read(&self.paths.user_list()).map(Secret::new) }
    }

    fn load(&mut self, files: &Files) -> Result<Done, NotLoaded> {
        // What a process would take only in part it must not even find.
        let version = Version::parse(&files.version).unwrap_or(Version::OLDEST);
        for file in &files.instances {
            if let Err(found) = validate(&file.text, version) {
                let first = found.into_iter().next();
                let (line, reason) = first.map_or_else(Default::default, |first| (first.line, first.reason));
                return Err(NotLoaded::Unfit { instance: file.instance, line, reason });
            }
        }

        let owner = Owner::find()?;
        let user_list = self.paths.user_list();
        owner.directory(&self.paths.instances_dir())?;
        user_list.parent().map_or(Ok(()), |directory| owner.directory(directory))?;
        for file in &files.instances {
            let directory = self.paths.instance_dir(file.instance);
            if !console::fits(&directory) {
                return Err(NotLoaded::PathTooLong { path: directory });
            }
            owner.directory(&directory)?;
        }

        // From here on a process may meet new files: what a marker said of the old ones is over.
        let owed: Vec<_> = files
            .instances
            .iter()
            .filter(|file| self.loaded(file.instance).is_none_or(|loaded| loaded.digest != file.digest))
            .collect();
        for file in &owed {
            let marker = self.paths.marker(file.instance);
            let removed = remove(&marker).and_then(|()| sync_directory(&marker));
            removed.map_err(|source| NotLoaded::Io { path: marker, source })?;
        }
        owner.write(&user_list, files.users.reveal())?;
        owner.write(&self.paths.shared(), &files.shared)?;

        let mut done = Done::default();
        for file in owed {
            if self.load_instance(owner, file, files)? {
                done.restarted.push(file.instance);
            }
            done.loaded.push(file.instance);
        }
        Ok(done)
    }
}

impl Marker {
    fn render(&self) -> String {
        let (Loaded { digest, version }, Process { pid, started }) = (&self.loaded, self.process);
        format!("{digest}\n{version}\n{pid}\n{started}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let loaded = Loaded { digest: lines.next()?.to_owned(), version: lines.next()?.to_owned() };
        let process = Process { pid: lines.next()?.parse().ok()?, started: lines.next()?.parse().ok()? };
        Some(Self { loaded, process })
    }
}

impl Owner {
    /// PgBouncer refuses to run as root; as anybody else it runs as whoever runs the charm.
    fn find() -> Result<Self, NotLoaded> {
        if !geteuid().is_root() {
            return Ok(Self { uid: geteuid(), gid: getegid() });
        }
        match User::from_name(USER) {
            Ok(Some(user)) => Ok(Self { uid: user.uid, gid: user.gid }),
            _ => Err(NotLoaded::NoUser { user: USER }),
        }
    }

    /// Makes a directory that is the owner's alone, or repairs one of which only the making was finished.
    /// Another user's is refused: everybody may make one in `/dev/shm`.
    fn directory(self, path: &Path) -> Result<(), NotLoaded> {
        let stranger = || -> io::Result<Option<u32>> {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(path.parent().unwrap_or(path))?;
                    DirBuilder::new().mode(0o700).create(path)?;
                }
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let found = fs::symlink_metadata(path)?;
            if !found.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if ![geteuid().as_raw(), self.uid.as_raw()].contains(&found.uid()) {
                return Ok(Some(found.uid()));
            }
            if (found.uid(), found.gid()) != (self.uid.as_raw(), self.gid.as_raw()) {
                lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
            }
            if found.mode() & 0o7777 != 0o700 {
                fs::set_permissions(path, Permissions::from_mode(0o700))?;
            }
            Ok(None)
        };
        match stranger() {
            Ok(None) => Ok(()),
            Ok(Some(owner)) => Err(NotLoaded::ForeignDirectory { path: path.to_path_buf(), owner }),
            Err(source) => Err(NotLoaded::Io { path: path.to_path_buf(), source }),
        }
    }

    /// Replaces a file by one with this text that only its owner can read, from its first byte on. One that is
    /// so already stays: PgBouncer takes a new inode for a new user list.
    fn write(self, path: &Path, text: &str) -> Result<(), NotLoaded> {
        let write = || {
            // One hook of a unit runs at a time, so whatever has this name was left by one that was killed.
            let new = path.with_extension("new");
            remove(&new)?;
            if self.has(path, text) {
                return Ok(());
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&new)?;
            fchown(&file, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            sync_directory(path)
        };
        write().map_err(|source| NotLoaded::Io { path: path.to_path_buf(), source })
    }

    fn has(self, path: &Path, text: &str) -> bool {
        let right = fs::symlink_metadata(path).is_ok_and(|found| {
            (found.mode() & 0o7777, found.uid(), found.gid()) == (0o400, self.uid.as_raw(), self.gid.as_raw())
        });
        right && read(path).is_some_and(|found| found == text)
    }
}

/// A file's text. The directory is PgBouncer's: a link or a pipe in it could lead a root reader astray.
fn read(path: &Path) -> Option<String> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let length = file.take(LONGEST + 1).read_to_string(&mut text).ok()?;
    (length as u64 <= LONGEST).then_some(text)
}

/// Removes a file; that it is not there is no error.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a name's appearing, changing or vanishing outlive a power cut.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

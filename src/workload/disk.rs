//! PgBouncer on this machine: its files, and processes that a supervisor keeps running.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::Signal,
    unistd::{Gid, Uid, User, getegid, geteuid},
};

use super::{
    console::{Console, ConsoleError},
    facts::{Loaded, Probe, ProbeError, Saved, printed_version},
    files::Files,
    host::{Host, Text},
    interface::Workload,
    load,
    outcome::{Done, NotLoaded},
    paths::Paths,
    process::Process,
};
use crate::{
    pgbouncer::{Place, TlsFiles},
    secret::Secret,
};

/// The user that PgBouncer runs as where the charm runs as root.
const USER: &str = "postgres";

/// The number of processes that share the port.
const PROCESSES: u16 = 2;

/// The workload of a machine.
#[derive(Debug)]
pub struct Disk {
    paths: Paths,
}

/// The owner of the files and directories.
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
}

impl Workload for Disk {
    fn probe(&mut self) -> Result<Probe, ProbeError> {
        let version = match (0..PROCESSES).find_map(|instance| self.loaded(instance)) {
            Some(loaded) => loaded.version,
            None => installed()?,
        };
        let place = |instance| Place::at(&self.paths.instance_dir(instance).display().to_string());
        Ok(Probe {
            version,
            auth_file: self.paths.user_list().display().to_string(),
            places: (0..PROCESSES).map(place).collect(),
            has_exporter: false,
        })
    }

    fn loaded(&mut self, instance: u16) -> Option<Loaded> {
        load::loaded(self, instance).ok().flatten()
    }

    fn saved(&mut self) -> Saved {
        let users = Text::read(&self.paths.user_list()).whole().map(Secret::new);
        let identity = self.paths.user_list().with_file_name(TlsFiles::IDENTITY);
        let identity = Text::read(&identity).whole().map(Secret::new);
        Saved { config: Text::read(&self.paths.shared()).whole(), users, identity }
    }

    fn load(&mut self, files: &Files) -> Result<Done, NotLoaded> {
        load::load(self, files)
    }

    fn foresee(&mut self, files: &Files) -> Result<Done, NotLoaded> {
        load::foresee(self, files)
    }
}

/// The first line of `pgbouncer --version`.
fn installed() -> Result<String, ProbeError> {
    let output = match Command::new("pgbouncer").arg("--version").stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ProbeError::NotOnMachine);
        }
        Err(error) => return Err(ProbeError::NoVersion(error.to_string())),
    };
    let status = output.status.to_string();
    printed_version(output.status.success(), &status, &output.stdout, &output.stderr)
}

impl Host for Disk {
    type Process = Process;

    fn paths(&self) -> &Paths {
        &self.paths
    }

    fn user_list(&self) -> PathBuf {
        self.paths.user_list()
    }

    fn socket_dir(&self, instance: u16) -> PathBuf {
        self.paths.instance_dir(instance)
    }

    fn prepare(&mut self, files: &Files) -> Result<(), NotLoaded> {
        let owner = Owner::find()?;
        owner.directory(&self.paths.instances_dir())?;
        self.paths.user_list().parent().map_or(Ok(()), |directory| owner.directory(directory))?;
        files
            .instances
            .iter()
            .try_for_each(|file| owner.directory(&self.paths.instance_dir(file.instance)))
    }

    fn read(&mut self, path: &Path) -> Result<Text, NotLoaded> {
        Ok(Text::read(path))
    }

    fn write(&mut self, files: &[(&Path, &str)]) -> Result<(), NotLoaded> {
        let owner = Owner::find()?;
        files.iter().try_for_each(|(path, text)| owner.write(path, text))
    }

    fn remove(&mut self, paths: &[PathBuf]) -> Result<(), NotLoaded> {
        let remove = |path: &PathBuf| {
            let removed = remove(path).and_then(|()| sync_directory(path));
            removed.map_err(|source| NotLoaded::io(path, source))
        };
        paths.iter().try_for_each(remove)
    }

    /// Leaves the start to the supervisor, and removes a stale pid file that would prevent it.
    fn start(&mut self, instance: u16) -> Result<(), NotLoaded> {
        if self.process(instance)?.is_none() {
            Process::remove_stale(&self.paths.pid_file(instance), &self.paths.ini(instance));
        }
        Ok(())
    }

    fn process(&mut self, instance: u16) -> Result<Option<Process>, NotLoaded> {
        Ok(Process::of(&self.paths.pid_file(instance), &self.paths.ini(instance)))
    }

    fn signal(
        &mut self,
        instance: u16,
        process: &Process,
        signal: Signal,
    ) -> Result<(), NotLoaded> {
        let signalled = process.signal(&self.paths.ini(instance), signal);
        signalled.map_err(|reason| NotLoaded::NotSignalled { instance, reason })
    }

    fn replace(&mut self, instance: u16, process: &Process) -> Result<(), NotLoaded> {
        self.signal(instance, process, Signal::SIGTERM)
    }

    fn console(&mut self, instance: u16, process: &Process) -> Result<Console, ConsoleError> {
        let directory = self.paths.instance_dir(instance);
        let gone = || ConsoleError::NoSocket(directory.display().to_string());
        let (uid, gid) = process.user().ok_or_else(gone)?;
        Console::connect(&directory, uid, gid)
    }
}

impl Owner {
    /// The user that runs the charm, or [`USER`] for root: PgBouncer refuses to run as root.
    fn find() -> Result<Self, NotLoaded> {
        if !geteuid().is_root() {
            return Ok(Self { uid: geteuid(), gid: getegid() });
        }
        match User::from_name(USER) {
            Ok(Some(user)) => Ok(Self { uid: user.uid, gid: user.gid }),
            _ => Err(NotLoaded::NoUser { user: USER }),
        }
    }

    /// Makes a directory that only the owner can use. Repairs one that a killed hook left without
    /// its owner or mode. Refuses a directory of another user: every user may make one in
    /// `/dev/shm`.
    fn directory(self, path: &Path) -> Result<(), NotLoaded> {
        let foreign_owner = || -> io::Result<Option<u32>> {
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
        match foreign_owner() {
            Ok(None) => Ok(()),
            Ok(Some(owner)) => Err(NotLoaded::ForeignDirectory { path: path.to_path_buf(), owner }),
            Err(source) => Err(NotLoaded::io(path, source)),
        }
    }

    /// Replaces a file by one with this text, which only its owner can read from the first byte on.
    /// A file that is the same already stays: PgBouncer takes a new inode for a new user list.
    fn write(self, path: &Path, text: &str) -> Result<(), NotLoaded> {
        let write = || {
            // One hook of a unit runs at a time: a file of this name was left by a killed hook.
            let new = path.with_extension("new");
            remove(&new)?;
            if self.has(path, text) {
                return Ok(());
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o400).open(&new)?;
            fchown(&file, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            sync_directory(path)
        };
        write().map_err(|source| NotLoaded::io(path, source))
    }

    fn has(self, path: &Path, text: &str) -> bool {
        let right = fs::symlink_metadata(path).is_ok_and(|found| {
            (found.mode() & 0o7777, found.uid(), found.gid())
                == (0o400, self.uid.as_raw(), self.gid.as_raw())
        });
        right && Text::read(path).whole().is_some_and(|found| found == text)
    }
}

/// Removes a file. A file that is not there is no error.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the creation, change or removal of a name survive a power cut.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

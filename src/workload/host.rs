//! What a load needs of the place where processes and their files are.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;

use super::{
    console::{Console, ConsoleError},
    facts::Loaded,
    files::Files,
    outcome::NotLoaded,
    paths::Paths,
};

/// The longest file that is read, in bytes.
pub(super) const LONGEST: u64 = 1 << 20;

/// Where processes and their files are.
pub(super) trait Host {
    /// A running process, told apart from every other one this instance ever had.
    type Process: Clone + PartialEq + fmt::Display;

    /// Where the files are, as PgBouncer sees them.
    fn paths(&self) -> &Paths;

    /// The user list, as PgBouncer sees it.
    fn user_list(&self) -> PathBuf;

    /// The directory of an instance's console socket, as the charm sees it.
    fn sockets(&self, instance: u16) -> PathBuf;

    /// Makes the directories, and whatever else the processes need before their files.
    fn prepare(&mut self, files: &Files) -> Result<(), NotLoaded>;

    /// What lies at this path.
    fn read(&mut self, path: &Path) -> Result<Text, NotLoaded>;

    /// Replaces files one after another, each whole, such that only PgBouncer can read them.
    fn write(&mut self, files: &[(&Path, &str)]) -> Result<(), NotLoaded>;

    /// Removes files for good; that one is not there is no error.
    fn remove(&mut self, paths: &[PathBuf]) -> Result<(), NotLoaded>;

    /// Has the process of an instance started, where nobody else sees to that.
    fn start(&mut self, instance: u16) -> Result<(), NotLoaded>;

    /// The running process of an instance.
    fn process(&mut self, instance: u16) -> Result<Option<Self::Process>, NotLoaded>;

    /// Signals a process if it still runs; that it does not is no error.
    fn signal(&mut self, instance: u16, process: &Self::Process, signal: Signal) -> Result<(), NotLoaded>;

    /// Has whatever measures a process hold no connection to it, which could keep it from ending.
    fn stop_exporter(&mut self, _: u16) -> Result<(), NotLoaded> {
        Ok(())
    }

    /// Has the process measured that an instance has now, where there is something that does.
    fn start_exporter(&mut self, _: u16) -> Result<(), NotLoaded> {
        Ok(())
    }

    /// Ends a process that was told to end and has not, and has another one started.
    fn replace(&mut self, instance: u16, process: &Self::Process) -> Result<(), NotLoaded>;

    /// The console of a process.
    fn console(&mut self, instance: u16, process: &Self::Process) -> Result<Console, ConsoleError>;
}

/// What lies where a file may be.
pub(super) enum Text {
    /// Nothing.
    Absent,
    /// Something that is no file, no UTF-8, longer than [`LONGEST`], or that the file system refuses to give.
    Unreadable,
    /// A text of at most [`LONGEST`] bytes.
    Whole(String),
}

impl Text {
    /// The text, if it could be read.
    pub(super) fn whole(self) -> Option<String> {
        match self {
            Self::Whole(text) => Some(text),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// What `loaded` holds: what was confirmed, and of which process.
pub(super) struct Marker {
    pub(super) loaded: Loaded,
    pub(super) process: String,
}

impl Marker {
    pub(super) fn render(&self) -> String {
        let (Loaded { digest, version }, process) = (&self.loaded, &self.process);
        format!("{digest}\n{version}\n{process}\n")
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let loaded = Loaded { digest: lines.next()?.to_owned(), version: lines.next()?.to_owned() };
        Some(Self { loaded, process: lines.next()?.to_owned() })
    }

    /// What was confirmed, if it was of this process.
    pub(super) fn of(self, process: Option<&impl fmt::Display>) -> Option<Loaded> {
        (process?.to_string() == self.process).then_some(self.loaded)
    }
}

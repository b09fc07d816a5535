//! What a load needs of the place where processes and their files are.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, sys::signal::Signal};

use super::{
    console::{Console, ConsoleError},
    facts::Loaded,
    files::Files,
    outcome::NotLoaded,
    paths::Paths,
};

/// The largest file that is read, in bytes.
pub(super) const FILE_SIZE_MAX: u64 = 1 << 20;

/// The place where processes and their files are.
pub(super) trait Host {
    /// A running process, distinct from every other process that this instance ever had.
    type Process: Clone + PartialEq + fmt::Display;

    /// The paths of the files, as PgBouncer sees them.
    fn paths(&self) -> &Paths;

    /// The path of the user list, as PgBouncer sees it.
    fn user_list(&self) -> PathBuf;

    /// The directory of an instance's console socket, as the charm sees it.
    fn socket_dir(&self, instance: u16) -> PathBuf;

    /// Makes the directories, and everything else that the processes need before their files.
    fn prepare(&mut self, files: &Files) -> Result<(), NotLoaded>;

    /// Defines the services, where the charm does. The markers are removed before: a hook that dies
    /// after this is repeated, also if the next hook wants the old files again.
    fn define(&mut self, _: &Files) -> Result<(), NotLoaded> {
        Ok(())
    }

    /// Reads what lies at this path.
    fn read(&mut self, path: &Path) -> Result<Text, NotLoaded>;

    /// Replaces files one after another, each as a whole. Only PgBouncer can read them.
    fn write(&mut self, files: &[(&Path, &str)]) -> Result<(), NotLoaded>;

    /// Removes files, durably. A file that is not there is no error.
    fn remove(&mut self, paths: &[PathBuf]) -> Result<(), NotLoaded>;

    /// Starts the process of an instance, where no supervisor does.
    fn start(&mut self, instance: u16) -> Result<(), NotLoaded>;

    /// The running process of an instance.
    fn process(&mut self, instance: u16) -> Result<Option<Self::Process>, NotLoaded>;

    /// Signals a process. A process that no longer runs is no error.
    fn signal(
        &mut self,
        instance: u16,
        process: &Self::Process,
        signal: Signal,
    ) -> Result<(), NotLoaded>;

    /// Stops the exporter of a process: its connection could keep the process from ending.
    fn stop_exporter(&mut self, _: u16) -> Result<(), NotLoaded> {
        Ok(())
    }

    /// Starts the exporter of the process that an instance has now, where there is an exporter.
    fn start_exporter(&mut self, _: u16) -> Result<(), NotLoaded> {
        Ok(())
    }

    /// Replaces a process that has not ended after SIGTERM.
    fn replace(&mut self, instance: u16, process: &Self::Process) -> Result<(), NotLoaded>;

    /// Connects to the console of a process.
    fn console(&mut self, instance: u16, process: &Self::Process) -> Result<Console, ConsoleError>;
}

/// What lies at the path of a file.
pub(super) enum Text {
    /// Nothing.
    Absent,
    /// Something that is not a file, is not UTF-8, is larger than [`FILE_SIZE_MAX`] or cannot be
    /// read.
    Unreadable,
    /// The text of a file.
    Whole(String),
}

impl Text {
    /// Reads what lies at a path of this machine. PgBouncer owns the directory: a link or a pipe in
    /// it must not make root read another file, or wait.
    pub(super) fn read(path: &Path) -> Self {
        let whole = || -> io::Result<Option<String>> {
            let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
            let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
            if !file.metadata()?.is_file() {
                return Ok(None);
            }
            let mut text = String::new();
            let length = file.take(FILE_SIZE_MAX + 1).read_to_string(&mut text)?;
            Ok((length as u64 <= FILE_SIZE_MAX).then_some(text))
        };
        match whole() {
            Ok(Some(text)) => Self::Whole(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Ok(None) | Err(_) => Self::Unreadable,
        }
    }

    /// The text, if it could be read.
    pub(super) fn whole(self) -> Option<String> {
        match self {
            Self::Whole(text) => Some(text),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// The content of the file `loaded`: what a process was confirmed to have loaded, and which
/// process.
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

    /// What was confirmed, if it was confirmed for this process.
    pub(super) fn of(self, process: Option<&impl fmt::Display>) -> Option<Loaded> {
        (process?.to_string() == self.process).then_some(self.loaded)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, os::unix::net::UnixListener, time::Instant};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_a_regular_file_of_a_bounded_size_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let longest = usize::try_from(FILE_SIZE_MAX).expect("it is small");
        fs::write(at("file"), "text").expect("a file");
        fs::write(at("longest"), "x".repeat(longest)).expect("a file");
        fs::write(at("longer"), "x".repeat(longest + 1)).expect("a file");
        fs::File::create(at("huge")).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        fs::write(at("binary"), b"\xff").expect("a file");
        fs::create_dir(at("directory")).expect("a directory");
        symlink(at("file"), at("link")).expect("a link");
        symlink("/dev/zero", at("device")).expect("a link");
        mkfifo(&at("pipe"), Mode::S_IRWXU).expect("a pipe");
        let _socket = UnixListener::bind(at("socket")).expect("a socket");
        let start = Instant::now();
        for (name, expected) in [
            ("file", Some(4)),
            ("longest", Some(longest)),
            ("longer", None),
            ("huge", None),
            ("binary", None),
            ("directory", None),
            ("link", None),
            ("device", None),
            ("pipe", None),
            ("socket", None),
        ] {
            let found = Text::read(&at(name));
            let is_expected = match (&found, expected) {
                (Text::Whole(text), Some(length)) => text.len() == length,
                (Text::Unreadable, None) => true,
                _ => false,
            };
            assert!(is_expected, "{name}");
        }
        assert!(matches!(Text::read(&at("missing")), Text::Absent));
        assert!(matches!(Text::read(Path::new("/dev/zero")), Text::Unreadable));
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}

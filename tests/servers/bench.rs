//! One process of PgBouncer, and the directory it runs in.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{getegid, geteuid};
use pgbouncer_k8s::workload::console::Console;

use super::leave_root;
use super::pgbouncer::Program;

/// The directory of one process, and the process while it runs.
pub(crate) struct Bench {
    pub(crate) program: Program,
    pub(crate) directory: PathBuf,
    child: Option<Child>,
}

impl Bench {
    /// As somebody PgBouncer does not refuse.
    pub(crate) fn new(program: &Program) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        leave_root();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("pgbouncer-{}-{count}", std::process::id()));
        fs::create_dir(&directory).expect("a new directory");
        Self { program: program.clone(), directory, child: None }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("stderr")).expect("a log")
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(self.directory.join("pgbouncer.ini"), text).expect("the directory is ours");
    }

    /// Starts a process with this file; its log if it refuses to.
    pub(crate) fn start(&mut self, text: &str) -> Result<(), String> {
        self.stop();
        self.write(text);
        let log = File::create(self.directory.join("stderr")).expect("the directory is ours");
        let program = self.program.directory.join("pgbouncer");
        let mut child = Command::new(program)
            .arg("pgbouncer.ini")
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("PgBouncer can be run");
        let start = Instant::now();
        loop {
            if child.try_wait().expect("the child is ours").is_some() {
                return Err(self.log());
            }
            if self.log().contains("process up") {
                self.child = Some(child);
                return Ok(());
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "neither up nor gone: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the child is ours");
            child.wait().expect("the child is ours");
        }
        for file in ["socket", "pid"] {
            let _ = fs::remove_file(self.directory.join(file));
        }
        for entry in fs::read_dir(&self.directory).expect("the directory is ours").flatten() {
            if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub(crate) fn console(&self) -> Console {
        Console::connect(&self.directory, geteuid(), getegid())
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

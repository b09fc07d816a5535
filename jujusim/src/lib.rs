//! A Juju model on one machine: runs charms, in any language, the way Juju's controller and unit
//! agents do.
//!
//! [`Sim::run`] takes commands as a person would type them (`deploy`, `integrate`, `settle`, …);
//! [`Sim::model`] gives tests typed access; [`check_script`] compares a script with its transcript.
//! The binary `jujusim` is the command line; the binary `jujusim-launch` starts hooks.

mod actors;
mod agent;
mod charm;
mod clock;
mod commands;
mod commit;
mod console;
mod container;
mod cost;
mod error;
mod events;
mod fault;
pub mod front;
mod hook;
pub mod launch;
mod lifecycle;
mod load;
mod model;
mod network;
mod pebble;
mod pods;
mod pooler;
mod ports;
mod prompt;
mod report;
mod resolver;
mod run;
mod secret;
mod server;
mod tables;
mod tls;
mod tools;
mod transcript;
mod version;
mod wire;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;

pub use commands::help::readme as commands_table;
pub use container::{PEBBLE, pebble_of};
pub use cost::{CALL_COSTS, OTHER_CALL_COST, call_cost};
pub use error::{Error, Result};
pub use hook::{Exit, HookRun, ToolCall};
pub use model::{Bag, Consumer, Entity, Model, Rotate, Secret, Status, UnitName};
pub use pooler::Instance;
pub use prompt::run_prompt;
pub use server::Sql;
pub use tools::{Answer, Request};
pub use transcript::{Transcript, accept_script, check_script, compare_transcript, run_script};
pub use version::Version;

use error::Doing as _;
use transcript::Stable;

/// The virtual environment with this Python module that `scripts/ops` keeps; an error if it is not
/// there. A charm runs `venv/bin/python`, a link to it.
pub fn python_of(module: &str) -> Result<PathBuf> {
    let venv = server::cache().join(module);
    if venv.join("requirements.txt").exists() {
        return Ok(venv);
    }
    Err(Error::refused(format!("no {module} in {}: run scripts/ops", venv.display())))
}

/// The directory with the programs of a channel's PostgreSQL; fails if they are not installed.
pub fn postgresql_of(channel: &str) -> Result<PathBuf> {
    server::Release::find(actors::Track::of(channel)?.major()).map(|release| release.programs)
}

/// The statements by which a channel's PostgreSQL charm sets up roles, each with its database.
pub fn set_up_of(channel: &str) -> Result<Vec<(&'static str, &'static str)>> {
    actors::Track::of(channel).map(actors::Track::statements)
}

/// How to create a model.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `jujusim-launch` binary.
    pub launcher: PathBuf,
    /// The Juju version to behave as: `3.6.14`, `2.9.52` (without secrets) or `4.0.15`.
    pub juju: String,
    /// A directory with another `pgbouncer`, searched before `PATH`.
    pub pgbouncer: Option<PathBuf>,
    /// The channel of PostgreSQL charms that are deployed without one, such as `14/stable`. Without
    /// it the machine's newest PostgreSQL runs, and admits everyone with a password.
    pub postgresql: Option<String>,
    /// Run the workload containers in the charms' metadata, with this version of Pebble. Without it
    /// a charm's workload is in the unit's own file system.
    pub containers: Option<String>,
    /// Keep the model's directory.
    pub keep: bool,
    /// The model's name.
    pub model: String,
    /// Measure the time and the peak memory of hooks, and sample their processes. Costs one more
    /// process for each hook, and a look at the processes every few milliseconds.
    pub measures: bool,
    /// Print stable names instead of values that change from run to run.
    pub stable: bool,
    /// Chooses where Juju's order is arbitrary; without it the first candidate is chosen.
    pub seed: Option<u64>,
}

impl Default for Options {
    /// Expects the launcher beside the running binary, or one directory above for test binaries
    /// in `deps`.
    fn default() -> Options {
        let exe = std::env::current_exe().unwrap_or_default();
        let dir = exe.parent().unwrap_or(Path::new("/"));
        let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
        Options {
            launcher: dir.join("jujusim-launch"),
            juju: "3.6.14".to_owned(),
            pgbouncer: None,
            postgresql: None,
            containers: None,
            keep: false,
            model: "dev".to_owned(),
            measures: false,
            stable: false,
            seed: None,
        }
    }
}

/// A model and the state of its command session.
pub struct Sim {
    model: Model,
    stable: Option<Stable>,
    /// The output of the previous command, which `expect` searches.
    printed: String,
    /// Whether the previous command failed: then only `expect-error` can succeed.
    failed: bool,
    /// The unit whose hook ran last; the next unit has the next turn.
    turn: Option<UnitName>,
    /// Background clients of the command `load`.
    load: Option<load::Load>,
    /// The last field, so that the directory is removed after everything in it has ended.
    _dir: Option<tempfile::TempDir>,
}

impl Sim {
    /// Creates an empty model.
    pub fn new(options: &Options) -> Result<Sim> {
        if !options.launcher.exists() {
            return Err(Error::refused(format!(
                "cannot find {}: build it with `cargo build --package jujusim`",
                options.launcher.display()
            )));
        }
        sweep();
        let place = scratch();
        let dir = tempfile::Builder::new().prefix("js-").rand_bytes(5).tempdir_in(&place);
        let dir = dir.doing(|| format!("create a directory in {}", place.display()))?;
        let path = dir.path().to_owned();
        let dir = if options.keep {
            let _ = dir.keep();
            None
        } else {
            Some(dir)
        };
        if dir.is_some() {
            let owner = path.join("pid");
            let pid = std::process::id().to_string();
            std::fs::write(&owner, pid).map_err(|source| Error::Io {
                doing: format!("write {}", owner.display()),
                source,
            })?;
        }
        let model = Model::new(options, path)?;
        let stable = options.stable.then(|| Stable::new(&model));
        Ok(Sim {
            model,
            stable,
            printed: String::new(),
            failed: false,
            turn: None,
            load: None,
            _dir: dir,
        })
    }

    /// Runs one command, as a line of a script; returns its output.
    pub fn run(&mut self, line: &str) -> Result<String> {
        let result = match self.execute(line) {
            Ok(text) => Ok(self.cleaned(&text)),
            Err(Error::Refused(text)) => Err(Error::Refused(self.cleaned(&text))),
            Err(Error::Stuck { unit, hook, times, log }) => {
                Err(Error::Stuck { unit, hook, times, log: self.cleaned(&log) })
            }
            Err(other) => Err(other),
        };
        match &result {
            // Keep the output: several expectations may follow one command.
            Ok(_) if line.trim_start().starts_with("expect") => {}
            Ok(text) => {
                self.printed.clone_from(text);
                self.failed = false;
            }
            Err(error) => {
                self.printed = self.cleaned(&error.to_string());
                self.failed = true;
            }
        }
        result
    }

    /// Advances the model's clock by the real time that passed.
    pub(crate) fn tick(&mut self, elapsed: Duration) {
        let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        self.model.advance(self.model.now.saturating_add(elapsed).unwrap_or(self.model.now));
    }

    /// The model, for typed reads.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Masks passwords, and in transcripts replaces values that change from run to run.
    fn cleaned(&mut self, text: &str) -> String {
        self.cleaned_of(&self.model.passwords(), text)
    }

    /// As [`cleaned`](Self::cleaned), with the model's passwords: finding them takes longer than
    /// cleaning a line.
    fn cleaned_of(&mut self, passwords: &BTreeSet<String>, text: &str) -> String {
        let masked = transcript::mask(text, passwords);
        match &mut self.stable {
            Some(stable) => {
                // The version depends on the machine's PostgreSQL, not on the script.
                let actors = self
                    .model
                    .apps
                    .values()
                    .filter(|app| matches!(app.kind, model::Kind::Actor(..)));
                let versions =
                    actors.map(|app| app.version.as_str()).filter(|version| !version.is_empty());
                let text = versions.fold(stable.rename(&masked), |text, version| {
                    text.replace(version, "‹version›")
                });
                match self.model.ahead {
                    Some(_) => text.replace(&report::time(&self.model), "‹time›"),
                    None => text,
                }
            }
            None => masked,
        }
    }
}

/// Where models have their directories: `TMPDIR`, else `/tmp`. The path of a socket has at most 107
/// bytes, so a long `TMPDIR` is not used.
fn scratch() -> PathBuf {
    let place = std::env::temp_dir();
    if place.as_os_str().len() <= "/dev/shm".len() { place } else { PathBuf::from("/tmp") }
}

/// Removes the directories of models whose process was killed; their child processes got a signal
/// then.
fn sweep() {
    for entry in std::fs::read_dir(scratch()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("js-") {
            continue;
        }
        let owner = std::fs::read_to_string(entry.path().join("pid"))
            .ok()
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

//! A Juju model on one machine: it runs charms, in any language, the way Juju's controller and unit agents do.
//!
//! [`Sim`] takes words as a person would type them (`deploy`, `integrate`, `settle`, …); [`Sim::model`] gives typed answers
//! to tests; [`check_script`] compares a whole script with its transcript. `jujusim` is the command line; `jujusim-tool` is, under
//! its links' names, every hook tool.

mod actors;
mod charm;
pub mod client;
mod clock;
mod commit;
mod console;
mod container;
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
mod tools;
mod transcript;
mod version;
mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;

pub use container::{PEBBLE, pebble_of};
pub use error::{Error, Result};
pub use hook::{Exit, HookRun, ToolCall};
pub use model::{Bag, Consumer, Entity, Model, Rotate, Secret, Status, UnitName};
pub use pooler::Instance;
pub use prompt::converse;
pub use server::Sql;
pub use tools::{Answer, Request};
pub use transcript::{Transcript, accept_script, check_script, follow_script, run_script};
pub use version::Version;
pub use words::help::readme as words_table;

use transcript::Stable;

/// The programs of the PostgreSQL that a channel's charm runs; an error when they are not installed.
pub fn postgresql_of(channel: &str) -> Result<PathBuf> {
    server::Release::find(actors::Track::of(channel)?.major()).map(|release| release.programs)
}

/// How a model is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `jujusim-tool` binary, which the hook tools are links to.
    pub tools: PathBuf,
    /// The Juju to behave as: `3.6.14`, `2.9.52` without secrets, `4.0.15`.
    pub juju: String,
    /// A directory with another `pgbouncer`, searched before `PATH`.
    pub pgbouncer: Option<PathBuf>,
    /// The channel of PostgreSQL charms that are deployed without one, such as `14/stable`; without it the newest PostgreSQL of
    /// the machine plays them, set up for everybody who has a password.
    pub postgresql: Option<String>,
    /// Run the workload containers that charms name, with this Pebble in them; without it a charm finds its workload on its own disk.
    pub containers: Option<String>,
    /// Leave the model's directory behind.
    pub keep: bool,
    /// The model's name.
    pub model: String,
    /// Print stable names for what changes from run to run.
    pub stable: bool,
    /// Decides where Juju's order is arbitrary; without it the first comes first.
    pub seed: Option<u64>,
}

impl Default for Options {
    /// The binary is looked for beside the running one, or above it where test binaries lie in `deps`.
    fn default() -> Options {
        let exe = std::env::current_exe().unwrap_or_default();
        let dir = exe.parent().unwrap_or(Path::new("/"));
        let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
        Options {
            tools: dir.join("jujusim-tool"),
            juju: "3.6.14".to_owned(),
            pgbouncer: None,
            postgresql: None,
            containers: None,
            keep: false,
            model: "dev".to_owned(),
            stable: false,
            seed: None,
        }
    }
}

/// A model and the state of the conversation with it.
pub struct Sim {
    model: Model,
    stable: Option<Stable>,
    /// What the previous word printed: `expect` looks there.
    printed: String,
    /// Whether it failed: then `expect-error` looks there, and no other expectation can be met.
    failed: bool,
    /// The unit whose hook ran last: the next one's turn comes first.
    turn: Option<UnitName>,
    /// Clients at work in the background.
    load: Option<load::Load>,
    /// Last: removed after everything in it has ended.
    _dir: Option<tempfile::TempDir>,
}

impl Sim {
    /// An empty model.
    pub fn new(options: &Options) -> Result<Sim> {
        if !options.tools.exists() {
            return Err(Error::refused(format!(
                "{} is not there: build jujusim first",
                options.tools.display()
            )));
        }
        sweep();
        let dir = tempfile::Builder::new().prefix("js-").rand_bytes(5).tempdir_in("/tmp");
        let dir = dir.map_err(|source| Error::Io { doing: "make a directory in /tmp".to_owned(), source })?;
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
            std::fs::write(&owner, pid)
                .map_err(|source| Error::Io { doing: format!("write {}", owner.display()), source })?;
        }
        let model = Model::new(options, path)?;
        let stable = options.stable.then(|| Stable::new(&model));
        Ok(Sim { model, stable, printed: String::new(), failed: false, turn: None, load: None, _dir: dir })
    }

    /// Does one word, as a line of a script; what it prints.
    pub fn run(&mut self, line: &str) -> Result<String> {
        let result = match self.word(line) {
            Ok(text) => Ok(self.cleaned(&text)),
            Err(Error::Refused(text)) => Err(Error::Refused(self.cleaned(&text))),
            Err(Error::Stuck { unit, hook, times, log }) => {
                Err(Error::Stuck { unit, hook, times, log: self.cleaned(&log) })
            }
            Err(other) => Err(other),
        };
        match &result {
            // Several expectations may follow one word.
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

    /// Time passes outside: the model's clock goes on as far.
    pub(crate) fn tick(&mut self, elapsed: Duration) {
        let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        self.model.advance(self.model.now.saturating_add(elapsed).unwrap_or(self.model.now));
    }

    /// The model, for typed reads.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Text without passwords and, in a transcript, without what changes from run to run.
    fn cleaned(&mut self, text: &str) -> String {
        let masked = transcript::mask(text, &self.model.passwords());
        match &mut self.stable {
            Some(stable) => {
                // The machine's PostgreSQL, not the script, decides on this one.
                let actors =
                    self.model.apps.values().filter(|app| matches!(app.kind, model::Kind::Actor(..)));
                let versions = actors.map(|app| app.version.as_str()).filter(|version| !version.is_empty());
                versions.fold(stable.rename(&masked), |text, version| text.replace(version, "‹version›"))
            }
            None => masked,
        }
    }
}

/// Removes what models left behind whose process was killed; their children got a signal then.
fn sweep() {
    for entry in std::fs::read_dir("/tmp").into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("js-") {
            continue;
        }
        let owner =
            std::fs::read_to_string(entry.path().join("pid")).ok().and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

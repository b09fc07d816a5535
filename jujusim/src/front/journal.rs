//! The output of `juju debug-log`: the model's hooks and their log lines.

use std::fmt;

use jiff::Timestamp;

use crate::hook::{Exit, HookRun};
use crate::model::{Model, UnitName};

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
}

impl Level {
    fn named(name: &str) -> Option<Level> {
        clap::ValueEnum::from_str(name, true).ok()
    }
}

/// One line of the log.
struct Line {
    time: Timestamp,
    unit: UnitName,
    level: Level,
    module: String,
    text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { time, unit, level, module, text } = self;
        let level = format!("{level:?}").to_uppercase();
        writeln!(f, "{}: {} {level} {module} {text}", unit.tag(), time.strftime("%H:%M:%S"))
    }
}

/// Which lines to print.
pub(super) struct Filter {
    /// Units and applications; all when empty.
    pub(super) include: Vec<String>,
    pub(super) level: Level,
}

impl Filter {
    fn takes(&self, line: &Line) -> bool {
        let named = |name: &String| {
            *name == line.unit.app || *name == line.unit.to_string() || *name == line.unit.tag()
        };
        line.level >= self.level && (self.include.is_empty() || self.include.iter().any(named))
    }
}

/// The log of a served model.
#[derive(Default)]
pub(super) struct Journal {
    /// How many of the model's runs the log contains.
    read: usize,
    lines: Vec<Line>,
}

impl Journal {
    /// Adds the runs since the last call, and passes each to `watch`.
    pub(super) fn read(&mut self, model: &Model, mut watch: impl FnMut(&HookRun)) {
        for run in &model.hook_runs()[self.read..] {
            watch(run);
            self.enter(run, model.now);
        }
        self.read = model.hook_runs().len();
    }

    fn enter(&mut self, run: &HookRun, time: Timestamp) {
        let Ok(unit) = run.unit.parse::<UnitName>() else { return };
        for line in &run.log {
            let (level, text) = line.split_once(' ').unwrap_or((line, ""));
            self.lines.push(Line {
                time,
                unit: unit.clone(),
                level: Level::named(level).unwrap_or(Level::Info),
                module: format!("unit.{unit}.juju-log"),
                text: text.to_owned(),
            });
        }
        let (level, text) = match &run.exit {
            Exit::Success => (Level::Info, format!("ran {:?} hook", run.hook)),
            other => (Level::Error, format!("hook {:?} failed: {other}", run.hook)),
        };
        let module = "juju.worker.uniter.operation".to_owned();
        self.lines.push(Line { time, unit, level, module, text });
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The matching lines from line `first` on.
    pub(super) fn since<'a>(
        &'a self,
        first: usize,
        filter: &'a Filter,
    ) -> impl Iterator<Item = String> + 'a {
        self.lines[first..].iter().filter(|line| filter.takes(line)).map(Line::to_string)
    }
}

//! The prompt: commands typed at a terminal, with history and completion.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Context, Editor, Helper, Highlighter, Hinter, Validator};

use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use crate::commands::help::COMMANDS;
use crate::error::{Doing as _, Error, Result};
use crate::{Options, Sim};

/// What the tab key completes: command names, then names in the model and paths.
#[derive(Helper, Highlighter, Hinter, Validator, Default)]
struct Completion {
    /// Applications and units.
    names: Vec<String>,
}

impl Completion {
    /// Where the last part of the line begins, and its completions.
    fn candidates(&self, line: &str) -> (usize, Vec<&str>) {
        let start = line.trim_end_matches(|part: char| !part.is_whitespace()).len();
        let (before, part) = line.split_at(start);
        let names = COMMANDS.iter().map(|command| command.name);
        let all: Vec<&str> = match before.trim() {
            "" | "help" => names.collect(),
            _ => self.names.iter().map(String::as_str).collect(),
        };
        (start, all.into_iter().filter(|name| name.starts_with(part)).collect())
    }

    /// Whether the last part of the line is a path: of a command that takes one, or by its looks.
    fn is_path(line: &str) -> bool {
        let (before, part) = line.rsplit_once(char::is_whitespace).unwrap_or(("", line));
        let value = part.rsplit(['=', '@']).next().unwrap_or(part);
        value.starts_with(['.', '/']) || ["deploy", "refresh"].contains(&before.trim())
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = self.candidates(&line[..at]);
        if found.is_empty() && Completion::is_path(&line[..at]) {
            return FilenameCompleter::new().complete_path(line, at);
        }
        // No blank after an application: it may become a unit.
        let end = if start == 0 { " " } else { "" };
        let pair =
            |name: &str| Pair { display: name.to_owned(), replacement: format!("{name}{end}") };
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

/// Runs typed commands until the end of input.
pub fn run_prompt(options: &Options) -> Result<()> {
    let mut sim = Sim::new(options)?;
    let mut editor: Editor<Completion, DefaultHistory> =
        Editor::with_config(Config::builder().completion_type(CompletionType::List).build())
            .map_err(|error| refused(&error))?;
    let history = history();
    if let Some(history) = &history {
        // The file does not exist the first time.
        let _ = editor.load_history(history);
    }
    let interrupts = sim.model.interrupts.clone();
    let mut signals = Signals::new([SIGINT]).doing(|| "handle signals".to_owned())?;
    thread::spawn({
        let interrupts = interrupts.clone();
        move || signals.forever().for_each(|_| _ = interrupts.fetch_add(1, Ordering::Relaxed))
    });
    let mut out = io::stdout();
    let _ = writeln!(
        out,
        "jujusim {} as Juju {}: `help` lists the commands, the tab key completes, Ctrl-C ends a \
         command, `exit` ends the model.",
        env!("CARGO_PKG_VERSION"),
        sim.model.version
    );
    loop {
        editor.set_helper(Some(Completion { names: names(&sim) }));
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(refused(&error)),
        };
        let _ = editor.add_history_entry(line.trim());
        let line = match line.trim() {
            "exit" | "quit" => break,
            typed => typed
                .strip_prefix('?')
                .map_or_else(|| typed.to_owned(), |command| format!("help {command}")),
        };
        interrupts.store(0, Ordering::Relaxed);
        // Ignore errors: when the terminal is gone, the next read ends the loop.
        let _ = match sim.run(&line) {
            Ok(text) => write!(out, "{text}"),
            Err(error) => writeln!(out, "ERROR {error}"),
        };
    }
    match history {
        Some(history) => editor.save_history(&history).map_err(|error| refused(&error)),
        None => Ok(()),
    }
}

fn refused(error: &ReadlineError) -> Error {
    Error::refused(format!("the prompt: {error}"))
}

fn names(sim: &Sim) -> Vec<String> {
    let units = sim.model.units.keys().map(ToString::to_string);
    sim.model.apps.keys().cloned().chain(units).collect()
}

/// The file of the command history, in an existing directory; `None` without a home.
fn history() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home)?;
    let dir = state.join("jujusim");
    std::fs::create_dir_all(&dir).ok()?;
    Some(dir.join("history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_is_completed_to_commands_and_the_others_to_names() {
        let completion = Completion {
            names: ["shop", "shop/0", "pooler"].into_iter().map(str::to_owned).collect(),
        };
        assert_eq!(completion.candidates("set"), (0, vec!["settle"]));
        assert_eq!(completion.candidates("show-unit sh"), (10, vec!["shop", "shop/0"]));
        assert_eq!(completion.candidates("help show-c"), (5, vec!["show-config"]));
        assert_eq!(completion.candidates("integrate shop p"), (15, vec!["pooler"]));
        assert_eq!(completion.candidates("leader nobody"), (7, vec![]));
        assert_eq!(completion.candidates("leader\u{a0}po"), (8, vec!["pooler"]));
    }

    #[test]
    fn paths_are_completed_where_a_path_is_meant() {
        for (line, is_path) in [
            ("deploy te", true),
            ("refresh pooler --path ./te", true),
            ("config pooler label=@./te", true),
            ("deploy\u{a0}/tmp/", true),
            ("status sh", false),
            ("deploy", false),
            ("cat shop/0 etc", false),
            ("", false),
        ] {
            assert_eq!(Completion::is_path(line), is_path, "{line:?}");
        }
        let completion = Completion::default();
        let history = DefaultHistory::new();
        let complete = |line: &str| {
            let found = completion.complete(line, line.len(), &Context::new(&history));
            found.expect("completions").1.into_iter().map(|pair| pair.replacement)
        };
        let dir = env!("CARGO_MANIFEST_DIR");
        let found: Vec<String> = complete(&format!("deploy {dir}/tests/charms/pu")).collect();
        assert_eq!(found, [format!("{dir}/tests/charms/puppet/")]);
    }

    #[test]
    fn ctrl_c_ends_a_command_that_runs_hooks_and_the_model_goes_on() {
        let launcher = std::env::current_exe().expect("this test");
        let mut sim = Sim::new(&Options { launcher, ..Options::default() }).expect("a new model");
        sim.run("deploy actor:client shop").expect("an actor");
        for command in ["settle", "step", "wait 1m"] {
            sim.model.interrupts.store(1, Ordering::Relaxed);
            let error = sim.run(command).expect_err(command).to_string();
            assert_eq!(error, "interrupted: settle runs the hooks that are left");
        }
        assert!(sim.model.runs.is_empty(), "no hook was started");
        sim.model.interrupts.store(0, Ordering::Relaxed);
        sim.run("settle").expect("hooks are left");
        assert!(!sim.model.runs.is_empty());
    }
}

//! The prompt: commands typed at a terminal, with history and completion.

use std::io::{self, Write as _};
use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Context, Editor, Helper, Highlighter, Hinter, Validator};

use crate::commands::help::COMMANDS;
use crate::error::{Error, Result};
use crate::{Options, Sim};

/// What the tab key completes: command names, then names in the model.
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
    let mut out = io::stdout();
    loop {
        editor.set_helper(Some(Completion { names: names(&sim) }));
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(refused(&error)),
        };
        let _ = editor.add_history_entry(line.trim());
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
}

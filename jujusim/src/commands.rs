//! The commands of a script: Juju's own, and the simulator's.

mod backend;
mod change;
mod container;
mod edit;
mod faults;
pub(crate) mod help;
mod scale;
mod secrets;
mod settle;
mod show;
mod units;
mod workload;

use crate::Sim;
use crate::error::{Error, Result};

/// The arguments of a command. Options are removed as they are read.
pub(crate) struct Arguments {
    words: Vec<String>,
}

impl Arguments {
    /// Splits a line as a shell does: blanks, quotes, backslashes; `#` starts a comment.
    fn split(line: &str) -> Result<Arguments> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match (quote, character) {
                (Some(open), close) if open == close => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
                (None, blank) if blank.is_whitespace() => words.extend(word.take()),
                (None, '#') if word.is_none() => break,
                (_, other) => word.get_or_insert_default().push(other),
            }
        }
        if quote.is_some() {
            return Err(Error::refused(format!("missing closing quote: {line}")));
        }
        words.extend(word);
        words.reverse();
        Ok(Arguments { words })
    }

    fn next(&mut self, what: &str) -> Result<String> {
        self.words.pop().ok_or_else(|| Error::refused(format!("expected {what}")))
    }

    fn maybe(&mut self) -> Option<String> {
        self.words.pop()
    }

    fn rest(&mut self) -> Vec<String> {
        let mut rest = std::mem::take(&mut self.words);
        rest.reverse();
        rest
    }

    /// Removes a flag, at any position; returns whether it was there.
    fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() < before
    }

    /// Removes an option and its value, at any position. If it is given more than once, the last
    /// one is removed first.
    fn option(&mut self, name: &str) -> Result<Option<String>> {
        let Some(index) = self.words.iter().position(|word| word == name) else { return Ok(None) };
        if index == 0 {
            return Err(Error::refused(format!("{name} needs a value")));
        }
        self.words.remove(index);
        Ok(Some(self.words.remove(index - 1)))
    }

    /// The number after an option, `default` without the option.
    fn count(&mut self, name: &str, default: usize) -> Result<usize> {
        match self.option(name)? {
            Some(text) => text
                .parse()
                .map_err(|_| Error::refused(format!("{name} needs a number, got {text:?}"))),
            None => Ok(default),
        }
    }

    /// An optional number, 1 by default.
    fn nth(&mut self) -> Result<usize> {
        match self.maybe() {
            Some(text) => {
                text.parse().map_err(|_| Error::refused(format!("expected a number, got {text:?}")))
            }
            None => Ok(1),
        }
    }

    /// The arguments before the first `mark`, and those after it.
    fn split_at(mut self, mark: &str) -> (Arguments, Vec<String>) {
        let Some(index) = self.words.iter().rposition(|word| word == mark) else {
            return (self, Vec::new());
        };
        let before = self.words.split_off(index + 1);
        self.words.pop();
        (Arguments { words: before }, self.rest())
    }

    /// Joins arguments into a line that splits into the same arguments.
    fn join(words: &[String]) -> String {
        let quoted: Vec<String> = words
            .iter()
            .map(|word| {
                let plain = |c: char| !c.is_whitespace() && !['\'', '"', '\\', '#'].contains(&c);
                let bare = !word.is_empty() && word.chars().all(plain);
                if bare { word.clone() } else { format!("'{}'", word.replace('\'', "'\"'\"'")) }
            })
            .collect();
        quoted.join(" ")
    }

    fn end(self) -> Result<()> {
        match self.words.last() {
            Some(surplus) => Err(Error::refused(format!("unrecognized args: {surplus:?}"))),
            None => Ok(()),
        }
    }
}

impl Sim {
    pub(crate) fn execute(&mut self, line: &str) -> Result<String> {
        if let Some((name @ ("expect" | "expect-not" | "expect-error"), text)) =
            line.trim().split_once(' ')
        {
            let text = text.trim().trim_matches('"');
            // Do not search the text of an error: a digit of an address in it would match an
            // `expect 1`.
            if self.failed != (name == "expect-error") {
                let ended = if self.failed { "failed" } else { "did not fail" };
                return Err(Error::refused(format!(
                    "expectation failed: the previous command {ended}:\n{}",
                    self.printed
                )));
            }
            return self.expect(name != "expect-not", text);
        }
        let mut args = Arguments::split(line)?;
        let Some(name) = args.maybe() else { return Ok(String::new()) };
        (help::find(&name)?.run)(self, args)
    }

    /// Runs a command whose arguments are already split.
    pub(crate) fn run_command(
        &mut self,
        name: &str,
        arguments: impl IntoIterator<Item = String, IntoIter: DoubleEndedIterator>,
    ) -> Result<String> {
        (help::find(name)?.run)(self, Arguments { words: arguments.into_iter().rev().collect() })
    }

    fn expect(&self, wanted: bool, text: &str) -> Result<String> {
        if self.printed.contains(text) == wanted {
            return Ok(String::new());
        }
        let not = if wanted { "not found" } else { "found" };
        Err(Error::refused(format!("expectation failed: {text:?} {not} in\n{}", self.printed)))
    }
}

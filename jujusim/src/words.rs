//! The words of a script: Juju's own, and the simulator's.

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

/// The words after the first, with options taken out as they are asked for.
pub(crate) struct Words {
    words: Vec<String>,
}

impl Words {
    /// Splits as a shell would: blanks, quotes, backslashes; `#` begins a comment.
    fn split(line: &str) -> Result<Words> {
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
            return Err(Error::refused(format!("a quote is not closed: {line}")));
        }
        words.extend(word);
        words.reverse();
        Ok(Words { words })
    }

    fn next(&mut self, what: &str) -> Result<String> {
        self.words.pop().ok_or_else(|| Error::refused(format!("{what} expected")))
    }

    fn maybe(&mut self) -> Option<String> {
        self.words.pop()
    }

    fn rest(&mut self) -> Vec<String> {
        let mut rest = std::mem::take(&mut self.words);
        rest.reverse();
        rest
    }

    /// Takes a flag out, wherever it stands.
    fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() < before
    }

    /// Takes an option and its value out, wherever it stands; the last given first.
    fn option(&mut self, name: &str) -> Result<Option<String>> {
        let Some(index) = self.words.iter().position(|word| word == name) else { return Ok(None) };
        if index == 0 {
            return Err(Error::refused(format!("{name} needs a value")));
        }
        self.words.remove(index);
        Ok(Some(self.words.remove(index - 1)))
    }

    /// A count after an option, `default` without it.
    fn count(&mut self, name: &str, default: usize) -> Result<usize> {
        match self.option(name)? {
            Some(text) => {
                text.parse().map_err(|_| Error::refused(format!("{name} needs a number, got {text:?}")))
            }
            None => Ok(default),
        }
    }

    /// A number at the end, 1 without it.
    fn nth(&mut self) -> Result<usize> {
        match self.maybe() {
            Some(text) => {
                text.parse().map_err(|_| Error::refused(format!("a number expected, got {text:?}")))
            }
            None => Ok(1),
        }
    }

    /// The words before the first `mark`, and those after it in their order.
    fn split_at(mut self, mark: &str) -> (Words, Vec<String>) {
        let Some(index) = self.words.iter().rposition(|word| word == mark) else { return (self, Vec::new()) };
        let before = self.words.split_off(index + 1);
        self.words.pop();
        (Words { words: before }, self.rest())
    }

    /// One line that splits into these words again.
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
    pub(crate) fn word(&mut self, line: &str) -> Result<String> {
        if let Some((word @ ("expect" | "expect-not" | "expect-error"), text)) = line.trim().split_once(' ') {
            let text = text.trim().trim_matches('"');
            // The text of an error is no answer: a digit of its address would meet an `expect 1`.
            if self.failed != (word == "expect-error") {
                let ended = if self.failed { "failed" } else { "did not fail" };
                return Err(Error::refused(format!(
                    "expectation failed: the word before {ended}:\n{}",
                    self.printed
                )));
            }
            return self.expect(word != "expect-not", text);
        }
        let mut words = Words::split(line)?;
        let Some(word) = words.maybe() else { return Ok(String::new()) };
        (help::find(&word)?.run)(self, words)
    }

    /// Does one word whose arguments are split already.
    pub(crate) fn do_word(
        &mut self,
        name: &str,
        arguments: impl IntoIterator<Item = String, IntoIter: DoubleEndedIterator>,
    ) -> Result<String> {
        (help::find(name)?.run)(self, Words { words: arguments.into_iter().rev().collect() })
    }

    fn expect(&self, wanted: bool, text: &str) -> Result<String> {
        if self.printed.contains(text) == wanted {
            return Ok(String::new());
        }
        let not = if wanted { "not found" } else { "found" };
        Err(Error::refused(format!("expectation failed: {text:?} {not} in\n{}", self.printed)))
    }
}

//! Scripts and their transcripts: the commands and their output, the same in every run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use regex::{Captures, Regex};
use similar::{ChangeTag, TextDiff};

use crate::error::{Doing as _, Error, Result};
use crate::model::Model;
use crate::{Options, Sim};

/// The output of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Every line of the script, after `> `, and its output.
    pub text: String,
    /// Why the script stopped before its end.
    pub failure: Option<String>,
}

/// Runs a script in a new model; see [`Sim::follow`].
pub fn run_script(script: &str, options: &Options) -> Result<Transcript> {
    let mut text = String::new();
    let failure = Sim::new(options)?.follow(script, |printed| text.push_str(printed));
    Ok(Transcript { text, failure })
}

impl Sim {
    /// Runs a script, one command per line, until its end or the first command that fails. Passes
    /// on each piece of output at once, and returns why the script stopped before its end.
    ///
    /// After a command fails, the script continues only if the next line is an `expect-error`,
    /// which searches the error's text.
    pub fn follow(&mut self, script: &str, mut print: impl FnMut(&str)) -> Option<String> {
        let lines: Vec<&str> = script.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                print(&format!("{line}\n"));
                continue;
            }
            print(&format!("> {line}\n"));
            if let Ok(printed) = self.run(line) {
                print(&printed);
                // The output of `cat` may end without a newline.
                if !printed.is_empty() && !printed.ends_with('\n') {
                    print("\n");
                }
                continue;
            }
            print(&format!("ERROR {}\n", self.printed.trim_end().trim_start_matches("ERROR ")));
            if !lines.get(index + 1).is_some_and(|next| next.starts_with("expect-error ")) {
                return Some(format!("line {}: {line}: {}", index + 1, self.printed));
            }
        }
        None
    }
}

/// Runs the script in a file and compares its output with its transcript; see
/// [`compare_transcript`].
pub fn check_script(script: &Path, options: &Options) -> Result<()> {
    compare_transcript(script, &printed(script, options)?)
}

/// Compares the output of the script in a file with the transcript beside it,
/// `<name>.transcript`.
///
/// With `UPDATE_TRANSCRIPTS=1` in the environment, rewrites the transcript instead.
pub fn compare_transcript(script: &Path, found: &str) -> Result<()> {
    let golden = script.with_extension("transcript");
    if std::env::var("UPDATE_TRANSCRIPTS").is_ok_and(|value| value == "1") {
        return write(&golden, found);
    }
    let wanted = read(&golden)?;
    if wanted == found {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{} differs from the output of the script:\n{}To accept the new output: {}",
        golden.display(),
        difference(&wanted, found),
        acceptance(script)
    )))
}

/// Runs the script in a file and writes the transcript beside it, `<name>.transcript`.
pub fn accept_script(script: &Path, options: &Options) -> Result<()> {
    write(&script.with_extension("transcript"), &printed(script, options)?)
}

/// The output of a script; fails if the script fails.
fn printed(script: &Path, options: &Options) -> Result<String> {
    let found = run_script(&read(script)?, &Options { stable: true, ..options.clone() })?;
    match found.failure {
        Some(failure) => Err(Error::refused(format!("{failure}\n{}", found.text))),
        None => Ok(found.text),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).doing(|| format!("write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).doing(|| format!("read {}", path.display()))
}

/// The command that accepts the new output: of the running test, or of the simulator.
fn acceptance(script: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let package = std::env::var("CARGO_PKG_NAME");
    match (package, target.rsplit_once('-')) {
        (Ok(package), Some((target, _))) => {
            // The standard test runner names its threads after tests; other runners name the test
            // after the script.
            let stem = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let thread = std::thread::current();
            let test = thread.name().filter(|name| *name != "main").unwrap_or(&stem);
            format!("UPDATE_TRANSCRIPTS=1 cargo test -p {package} --test {target} {test}")
        }
        _ => format!("jujusim --accept {}", script.display()),
    }
}

/// A unified diff; each hunk names the command that printed it.
fn difference(wanted: &str, found: &str) -> String {
    // Not `from_lines`: it also ends a line at a carriage return.
    let lines: Vec<&str> = wanted.split_inclusive('\n').collect();
    let found: Vec<&str> = found.split_inclusive('\n').collect();
    let mut text = String::new();
    for piece in TextDiff::from_slices(&lines, &found).unified_diff().context_radius(3).iter_hunks()
    {
        let same =
            piece.iter_changes().take_while(|change| change.tag() == ChangeTag::Equal).count();
        let line = piece.ops().first().map_or(0, |op| op.old_range().start) + same;
        let command = lines[..line]
            .iter()
            .rev()
            .find(|line| line.starts_with("> "))
            .map_or("the beginning", |line| line.trim_end_matches('\n'));
        let _ = writeln!(text, "@@ line {}, {command} @@", line + 1);
        for change in piece.iter_changes() {
            let end = if change.missing_newline() { "\n" } else { "" };
            let _ = write!(text, "{}{}{end}", change.tag(), change.value());
        }
    }
    text
}

/// Replaces every password in `text` by its length.
pub(crate) fn mask(text: &str, passwords: &BTreeSet<String>) -> String {
    let mut longest: Vec<&String> = passwords.iter().collect();
    longest.sort_by_key(|password| std::cmp::Reverse(password.len()));
    longest
        .into_iter()
        .fold(text.to_owned(), |text, password| text.replace(password, &masked(password)))
}

/// The form in which a secret value is shown.
pub(crate) fn masked(value: &str) -> String {
    format!("‹{} characters›", value.chars().count())
}

/// Stable names for values that change from run to run, numbered by first appearance.
pub(crate) struct Stable {
    network: String,
    dir: String,
    uuid: String,
    volatile: Regex,
    names: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Stable {
    pub(crate) fn new(model: &Model) -> Stable {
        let pattern = concat!(
            r"(?P<secret>secret:(?://[0-9a-f-]{36}/)?[0-9a-v]{20})",
            r"|(?P<verifier>SCRAM-SHA-256\$[0-9]+:[^\s\x22]+|\bmd5[0-9a-f]{32}\b)",
            r"|(?P<digest>\bpgb-[0-9a-f]{24}\b)",
            r"|(?P<time>\b[0-9-]{10}T[0-9:]{8}\.[0-9]+(?:Z|[+-][0-9:]{5}))",
            // The name of Pebble's new file beside the file that it replaces.
            r"|(?P<new>\.[0-9A-Za-z]{12}~)",
        );
        Stable {
            network: model.network.prefix(),
            dir: model.dir.display().to_string(),
            uuid: model.uuid.clone(),
            volatile: Regex::new(pattern).expect("a constant pattern"),
            names: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(crate) fn rename(&mut self, text: &str) -> String {
        let Stable { names, counts, .. } = self;
        let renamed = self.volatile.replace_all(text, |found: &Captures<'_>| {
            let kind = ["secret", "verifier", "digest", "time", "new"]
                .into_iter()
                .find(|kind| found.name(kind).is_some())
                .unwrap_or("");
            let whole = &found[0];
            // A secret has one name, in any form of its URI.
            let key = if kind == "secret" { &whole[whole.len() - 20..] } else { whole };
            names
                .entry(key.to_owned())
                .or_insert_with(|| {
                    let count = counts.entry(kind).or_insert(0);
                    *count += 1;
                    if kind == "secret" {
                        format!("secret:‹{count}›")
                    } else {
                        format!("‹{kind} {count}›")
                    }
                })
                .clone()
        });
        renamed
            .replace(&self.network, "10.1.0.")
            .replace(&self.dir, "‹model›")
            .replace(&self.uuid, "‹uuid›")
            // Names of a model's applications for other models have its first part.
            .replace(&format!("_{}_", &self.uuid[..8]), "_‹uuid›_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_command_that_printed_it() {
        let wanted = "> status\na\nb\nc\nd\n> hooks\none\ntwo\n";
        let found = "> status\na\nb\nc\nd\n> hooks\none\nthree\n";
        assert_eq!(
            difference(wanted, found),
            "@@ line 8, > hooks @@\n d\n > hooks\n one\n-two\n+three\n"
        );
    }

    #[test]
    fn a_carriage_return_ends_no_line() {
        assert_eq!(
            difference("> status\na\rb\rc\n", "> status\na\rb\rd\n"),
            "@@ line 2, > status @@\n > status\n-a\rb\rc\n+a\rb\rd\n"
        );
    }

    #[test]
    fn an_added_line_belongs_to_the_command_before_it() {
        let wanted = "> status\na\n> hooks\n";
        let found = "> status\na\nb\n> hooks\n";
        assert_eq!(
            difference(wanted, found),
            "@@ line 3, > status @@\n > status\n a\n+b\n > hooks\n"
        );
    }
}

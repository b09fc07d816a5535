//! Scripts and their transcripts: what a person types and what the simulator prints, the same in every run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use regex::{Captures, Regex};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::{Options, Sim};

/// What a script printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Every line typed, after `> `, and what it printed.
    pub text: String,
    /// Why the script stopped before its end.
    pub failure: Option<String>,
}

/// Runs a script, one word a line, until its end or the first word that fails.
///
/// A failing word goes on only when the next line is an `expect-error`, which looks at the error's text.
pub fn run_script(script: &str, options: &Options) -> Result<Transcript> {
    let mut text = String::new();
    let failure = follow_script(script, options, |printed| text.push_str(printed))?;
    Ok(Transcript { text, failure })
}

/// Runs a script as [`run_script`] does and hands on each piece as it is printed. Tells why the script
/// stopped before its end.
pub fn follow_script(script: &str, options: &Options, mut print: impl FnMut(&str)) -> Result<Option<String>> {
    let mut sim = Sim::new(options)?;
    let lines: Vec<&str> = script.lines().map(str::trim).collect();
    for (index, line) in lines.iter().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            print(&format!("{line}\n"));
            continue;
        }
        print(&format!("> {line}\n"));
        if let Ok(printed) = sim.run(line) {
            print(&printed);
            // A file may end without one.
            if !printed.is_empty() && !printed.ends_with('\n') {
                print("\n");
            }
            continue;
        }
        print(&format!("ERROR {}\n", sim.printed.trim_end().trim_start_matches("ERROR ")));
        if !lines.get(index + 1).is_some_and(|next| next.starts_with("expect-error ")) {
            return Ok(Some(format!("line {}: {line}: {}", index + 1, sim.printed)));
        }
    }
    Ok(None)
}

/// Runs the script in a file and compares with the transcript beside it, `<name>.transcript`.
///
/// With `UPDATE_TRANSCRIPTS=1` in the environment the transcript is rewritten instead.
pub fn check_script(script: &Path, options: &Options) -> Result<()> {
    let read = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|source| Error::Io { doing: format!("read {}", path.display()), source })
    };
    let found = run_script(&read(script)?, &Options { stable: true, ..options.clone() })?;
    if let Some(failure) = found.failure {
        return Err(Error::refused(format!("{failure}\n{}", found.text)));
    }
    let golden = script.with_extension("transcript");
    if std::env::var("UPDATE_TRANSCRIPTS").is_ok_and(|value| value == "1") {
        return fs::write(&golden, found.text)
            .map_err(|source| Error::Io { doing: format!("write {}", golden.display()), source });
    }
    let wanted = read(&golden)?;
    if wanted == found.text {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{} differs (UPDATE_TRANSCRIPTS=1 rewrites it):\n{}",
        golden.display(),
        diff(&wanted, &found.text)
    )))
}

/// The lines between the common beginning and the common end, with three lines around them.
fn diff(wanted: &str, found: &str) -> String {
    let (wanted, found): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), found.lines().collect());
    let head = wanted.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let shorter = wanted.len().min(found.len()) - head;
    let tail = wanted.iter().rev().zip(found.iter().rev()).take(shorter).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let mut add = |mark: char, lines: &[&str]| {
        for line in lines {
            let _ = writeln!(text, "{mark} {line}");
        }
    };
    add(' ', &found[head.saturating_sub(3)..head]);
    add('-', &wanted[head..wanted.len() - tail]);
    add('+', &found[head..found.len() - tail]);
    add(' ', &found[found.len() - tail..found.len().min(found.len() - tail + 3)]);
    text
}

/// `text` with every password as its length.
pub(crate) fn mask(text: &str, passwords: &BTreeSet<String>) -> String {
    let mut longest: Vec<&String> = passwords.iter().collect();
    longest.sort_by_key(|password| std::cmp::Reverse(password.len()));
    longest.into_iter().fold(text.to_owned(), |text, password| text.replace(password, &masked(password)))
}

/// How a secret value is shown.
pub(crate) fn masked(value: &str) -> String {
    format!("‹{} characters›", value.chars().count())
}

/// Names for what changes from run to run, by first appearance.
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
            let kind = ["secret", "verifier", "digest"]
                .into_iter()
                .find(|kind| found.name(kind).is_some())
                .unwrap_or("");
            let whole = &found[0];
            // A secret has one name however its URI is spelled.
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
        renamed.replace(&self.network, "10.1.0.").replace(&self.dir, "‹model›").replace(&self.uuid, "‹uuid›")
    }
}

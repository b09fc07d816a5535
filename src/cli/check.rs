//! `check`: whether PgBouncer accepts all of a file.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::{Format, print, to_json};
use crate::pgbouncer::Version;
use crate::pgbouncer::validate::{Finding, validate};

/// The result of checking a file.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Answer {
    file: String,
    /// The version of PgBouncer for which the file was checked.
    version: String,
    /// The arguments named no version.
    #[serde(skip)]
    is_assumed: bool,
    fit: bool,
    /// Warnings if the file is fit, else problems.
    findings: Vec<Line>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    line: usize,
    reason: String,
}

/// Prints the findings in each file. The exit code is 1 if a file cannot be read or is not fit.
pub(super) fn run(
    files: &[PathBuf],
    version: Option<Version>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        match read(file) {
            Ok(text) => {
                let answer = check(file, &text, version);
                print(&match format {
                    Format::Text => answer.to_string(),
                    Format::Json => to_json(&answer)?,
                })?;
                if !answer.fit {
                    code = ExitCode::FAILURE;
                }
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: cannot read {}: {error}", file.display());
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn check(file: &Path, text: &[u8], version: Option<Version>) -> Answer {
    let is_assumed = version.is_none();
    let version = version.unwrap_or(Version::NEWEST);
    let line = |Finding { line, reason, .. }: Finding| Line { line, reason };
    let (fit, findings) = match std::str::from_utf8(text) {
        Ok(text) => match validate(text, version) {
            Ok(warnings) => (true, warnings.into_iter().map(line).collect()),
            Err(problems) => (false, problems.into_iter().map(line).collect()),
        },
        Err(error) => {
            let line = text[..error.valid_up_to()].split(|&byte| byte == b'\n').count();
            (false, vec![Line { line, reason: "not UTF-8".to_owned() }])
        }
    };
    Answer { file: file.display().to_string(), version: short(version), is_assumed, fit, findings }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, version, is_assumed, fit, findings } = self;
        for Line { line, reason } in findings {
            writeln!(f, "{file}:{line}: {}{reason}", if *fit { "warning: " } else { "" })?;
        }
        let assumed =
            if *is_assumed { ", the newest known; choose another with --for" } else { "" };
        writeln!(
            f,
            "{file}: {}fit for PgBouncer {version}{assumed}",
            if *fit { "" } else { "not " }
        )
    }
}

/// The version without a patch number of 0: 1.24 for 1.24.0.
fn short(version: Version) -> String {
    let text = version.to_string();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Parses the argument of `--for`.
pub(super) fn version(text: &str) -> Result<Version, String> {
    match Version::parse(text) {
        None => Err("not a version such as 1.24".into()),
        Some(version) if version < Version::OLDEST => {
            Err("the oldest known version is 1.18".into())
        }
        Some(version) if Version { patch: 0, ..version } > Version::NEWEST => {
            Err(format!("the newest known version is {}", short(Version::NEWEST)))
        }
        Some(version) => Ok(version),
    }
}

/// Reads a file, or standard input for `-`.
#[expect(clippy::disallowed_methods, reason = "the operator names the file")]
fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file != Path::new("-") {
        return std::fs::read(file);
    }
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, version: Option<Version>) -> String {
        check(Path::new("my.ini"), text.as_bytes(), version).to_string()
    }

    #[test]
    fn the_answer_names_the_file_the_line_and_the_version() {
        let old = Some(Version::new(1, 18));
        assert_eq!(
            answer("[pgbouncer]\nquery_wait_timeout = 0\n", old),
            "my.ini:2: warning: query_wait_timeout: clients of a dead server wait forever\n\
             my.ini: fit for PgBouncer 1.18\n"
        );
        assert_eq!(
            answer("[pgbouncer]\nmax_prepared_statements = 1\n", old),
            "my.ini:2: cannot set max_prepared_statements: PgBouncer 1.18.0 does not know it; it needs 1.21.0\n\
             my.ini: not fit for PgBouncer 1.18\n"
        );
        assert_eq!(
            answer("[pgbouncer]\n", None),
            "my.ini: fit for PgBouncer 1.25, the newest known; choose another with --for\n"
        );
        let binary = check(Path::new("my.ini"), b"\n\n\xff", old);
        assert_eq!(binary.findings, [Line { line: 3, reason: "not UTF-8".into() }]);
        assert!(!binary.fit);
    }

    #[test]
    fn only_known_versions_are_accepted() {
        for (text, known) in [
            ("1.17", false),
            ("1.18", true),
            ("1.24.1", true),
            ("1.25.9", true),
            ("1.26", false),
            ("x", false),
        ] {
            assert_eq!(version(text).is_ok(), known, "{text}");
        }
    }
}

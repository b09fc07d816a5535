//! What a person who types the command is told.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::pgbouncer::Version;
use crate::pgbouncer::validate::{Finding, validate};

/// A Juju charm that operates PgBouncer. Juju runs it for each hook through `dispatch`, with the
/// hook in the environment and no arguments.
#[derive(Parser)]
#[command(
    name = "pgbouncer-k8s",
    version,
    after_help = "Deploy it: juju deploy pgbouncer-k8s\nSee what it does: juju status, juju debug-log"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Tell whether PgBouncer takes a pgbouncer.ini in full
    ///
    /// Reads the file as PgBouncer's own parser does and judges every setting, connection string and
    /// name for one version. Stricter than PgBouncer where it would take a value for another one, or
    /// half of a file: docs/settings.md tells where. Nothing is started or changed, and no value of a
    /// connection string is printed.
    ///
    /// Exits with 0 if the file is fit, with 1 if not: then each line at fault is printed as
    /// `FILE:LINE: reason`.
    #[command(after_help = "Example: pgbouncer-k8s check /etc/pgbouncer/pgbouncer.ini --for 1.24")]
    Check {
        /// The file
        file: PathBuf,
        /// The version that is to read it, such as 1.18 or 1.24.1 [default: the newest that is known]
        #[arg(long = "for", value_name = "VERSION", value_parser = version)]
        version: Option<Version>,
    },
}

/// Does what the arguments say; without any prints the help.
pub fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Some(Command::Check { file, version }) => {
            let text = match read(&file) {
                Ok(text) => text,
                Err(error) => {
                    writeln!(io::stderr(), "cannot read {}: {error}", file.display())?;
                    return Ok(ExitCode::FAILURE);
                }
            };
            let answer = check(&file, &text, version);
            io::stdout().lock().write_all(answer.as_ref().map_or_else(String::as_bytes, String::as_bytes))?;
            Ok(if answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        None => {
            Cli::command().print_help()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What to print: `Ok` if the file is fit.
fn check(file: &Path, text: &[u8], version: Option<Version>) -> Result<String, String> {
    let file = file.display();
    let assumed = if version.is_none() { ", the newest known; name another with --for" } else { "" };
    let version = version.unwrap_or(Version::NEWEST);
    let lines = |word: &str, findings: &[Finding]| -> String {
        let line = |finding: &Finding| format!("{file}:{}: {word}{}\n", finding.line, finding.reason);
        findings.iter().map(line).collect()
    };
    let text = std::str::from_utf8(text).map_err(|error| {
        let line = text[..error.valid_up_to()].split(|&byte| byte == b'\n').count();
        format!("{file}:{line}: not UTF-8\n")
    })?;
    match validate(text, version) {
        Ok(warnings) => {
            let warnings = lines("warning: ", &warnings);
            Ok(format!("{warnings}{file}: fit for PgBouncer {}{assumed}\n", short(version)))
        }
        Err(problems) => {
            let problems = lines("", &problems);
            Err(format!("{problems}{file}: not fit for PgBouncer {}{assumed}\n", short(version)))
        }
    }
}

/// As people write it: 1.24 for 1.24.0.
fn short(version: Version) -> String {
    let text = version.to_string();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn version(text: &str) -> Result<Version, String> {
    match Version::parse(text) {
        None => Err("not a version such as 1.24".into()),
        Some(version) if version < Version::OLDEST => Err("the oldest that is known is 1.18".into()),
        Some(version) if Version { patch: 0, ..version } > Version::NEWEST => {
            Err(format!("the newest that is known is {}", short(Version::NEWEST)))
        }
        Some(version) => Ok(version),
    }
}

#[expect(clippy::disallowed_methods, reason = "a person names the file")]
fn read(file: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, version: Option<Version>) -> Result<String, String> {
        check(Path::new("my.ini"), text.as_bytes(), version)
    }

    #[test]
    fn the_answer_names_the_file_the_line_and_the_version() {
        let old = Some(Version::new(1, 18));
        assert_eq!(
            answer("[pgbouncer]\nquery_wait_timeout = 0\n", old),
            Ok("my.ini:2: warning: query_wait_timeout: clients of a dead server wait for ever\n\
                my.ini: fit for PgBouncer 1.18\n"
                .into())
        );
        assert_eq!(
            answer("[pgbouncer]\nmax_prepared_statements = 1\n", old),
            Err("my.ini:2: cannot set max_prepared_statements: PgBouncer 1.18.0 does not know it; it needs 1.21.0\n\
                 my.ini: not fit for PgBouncer 1.18\n"
                .into())
        );
        assert_eq!(
            answer("[pgbouncer]\n", None),
            Ok("my.ini: fit for PgBouncer 1.25, the newest known; name another with --for\n".into())
        );
        assert_eq!(check(Path::new("my.ini"), b"\n\n\xff", old), Err("my.ini:3: not UTF-8\n".into()));
    }

    #[test]
    fn only_versions_that_are_known_are_judged_for() {
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

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}

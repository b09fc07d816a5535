//! The command line of the simulator.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use jujusim::{Options, Result, Sim, follow_script};

/// A Juju model on one machine: runs a script, or the words typed.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// A script, one word a line.
    script: Option<PathBuf>,
    /// Words instead of a script, separated by newlines or `;`.
    #[arg(short, conflicts_with = "script")]
    command: Option<String>,
    /// The Juju to behave as: 3.6.x, or 2.9.x without secrets.
    #[arg(long, default_value = "3.6.14")]
    juju: String,
    /// A directory with another pgbouncer.
    #[arg(long, value_name = "DIR")]
    pgbouncer: Option<PathBuf>,
    /// Leave the model's directory behind.
    #[arg(long)]
    keep: bool,
    /// Print stable names for what changes from run to run, as transcripts have them.
    #[arg(long)]
    stable: bool,
}

fn main() -> ExitCode {
    match simulate(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ERROR {error}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(cli: Cli) -> Result<ExitCode> {
    let refused = |source| jujusim::Error::Io { doing: "read the script".to_owned(), source };
    let options = Options {
        juju: cli.juju,
        pgbouncer: cli.pgbouncer,
        keep: cli.keep,
        stable: cli.stable,
        ..Options::default()
    };
    let script = match (cli.command, cli.script) {
        (Some(words), _) => words.replace(';', "\n"),
        (None, Some(file)) => std::fs::read_to_string(file).map_err(refused)?,
        (None, None) if io::stdin().is_terminal() => return converse(&options),
        (None, None) => io::read_to_string(io::stdin()).map_err(refused)?,
    };
    let failure = follow_script(&script, &options, |text| {
        let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    })?;
    Ok(if failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A prompt, until the end of input.
fn converse(options: &Options) -> Result<ExitCode> {
    let mut sim = Sim::new(options)?;
    let mut out = io::stdout();
    let mut lines = io::stdin().lock().lines();
    loop {
        let _ = write!(out, "> ").and_then(|()| out.flush());
        let Some(Ok(line)) = lines.next() else { return Ok(ExitCode::SUCCESS) };
        let _ = match sim.run(&line) {
            Ok(text) => write!(out, "{text}"),
            Err(error) => writeln!(out, "ERROR {error}"),
        };
    }
}

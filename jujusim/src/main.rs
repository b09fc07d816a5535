//! The command line of the simulator; under the name `juju` or `kubectl`, the client of a served
//! model.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use jujusim::{Options, PEBBLE, Result, Sim, accept_script, check_script, front, run_prompt};

/// A Juju model on one machine: runs a script, or commands typed at a prompt.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// A script, one command per line.
    script: Option<PathBuf>,
    /// Commands instead of a script, separated by newlines or `;`.
    #[arg(short, conflicts_with = "script")]
    command: Option<String>,
    /// Compare the output with the transcript beside the script, `<name>.transcript`.
    #[arg(long, requires = "script")]
    check: bool,
    /// Write the transcript beside the script.
    #[arg(long, requires = "script", conflicts_with = "check")]
    accept: bool,
    /// Print stable names for values that change from run to run, as in transcripts.
    #[arg(long)]
    stable: bool,
    #[command(flatten)]
    model: ModelOptions,
    #[command(subcommand)]
    mode: Option<Mode>,
}

#[derive(Subcommand)]
enum Mode {
    /// Serve a model for the `juju` command, as used by integration tests and people.
    ///
    /// Prints the shell commands that put this `juju` on `PATH`, or runs a command with it and
    /// exits with the command's code. Reports the model's hooks on standard error.
    Serve {
        /// The socket of the model; by default in the model's directory.
        #[arg(long)]
        socket: Option<PathBuf>,
        #[command(flatten)]
        model: ModelOptions,
        /// The command to run; the model ends with it.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

/// How to create the model.
#[derive(Args)]
struct ModelOptions {
    /// The Juju version to behave as: 3.6.x, 2.9.x (without secrets) or 4.0.x.
    #[arg(long, default_value = "3.6.14")]
    juju: String,
    /// A directory with another `pgbouncer`.
    #[arg(long, value_name = "DIR")]
    pgbouncer: Option<PathBuf>,
    /// The channel of PostgreSQL charms that are deployed without one: 14/stable, 15 or 16.
    #[arg(long, value_name = "CHANNEL")]
    postgresql: Option<String>,
    /// Run the workload containers in the charms' metadata, with this version of Pebble.
    #[arg(long, value_name = "PEBBLE", num_args = 0..=1, require_equals = true, default_missing_value = PEBBLE)]
    containers: Option<String>,
    /// Keep the model's directory.
    #[arg(long)]
    keep: bool,
    /// Chooses where Juju's order is arbitrary; without it the first candidate is chosen.
    #[arg(long)]
    seed: Option<u64>,
}

impl ModelOptions {
    fn options(self, stable: bool) -> Options {
        let ModelOptions { juju, pgbouncer, postgresql, containers, keep, seed } = self;
        Options {
            juju,
            pgbouncer,
            postgresql,
            containers,
            keep,
            measures: true,
            stable,
            seed,
            ..Options::default()
        }
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(OsStr::to_str).unwrap_or("jujusim");
    if [front::client::NAME, front::client::KUBECTL].contains(&name) {
        return ExitCode::from(front::client::run(name, args));
    }
    match simulate(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "ERROR {error}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(cli: Cli) -> Result<u8> {
    if let Some(Mode::Serve { socket, model, command }) = cli.mode {
        return front::serve(&model.options(false), socket.as_deref(), &command);
    }
    let options = cli.model.options(cli.stable);
    let refused = |source| jujusim::Error::Io { doing: "read the script".to_owned(), source };
    let script = match (cli.command, cli.script) {
        (Some(commands), _) => commands.replace(';', "\n"),
        (None, Some(file)) if cli.check => return check_script(&file, &options).map(|()| 0),
        (None, Some(file)) if cli.accept => return accept_script(&file, &options).map(|()| 0),
        (None, Some(file)) => std::fs::read_to_string(file).map_err(refused)?,
        (None, None) if io::stdin().is_terminal() => return run_prompt(&options).map(|()| 0),
        (None, None) => io::read_to_string(io::stdin()).map_err(refused)?,
    };
    let failure = Sim::new(&options)?.follow(&script, |text| {
        let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    });
    Ok(u8::from(failure.is_some()))
}

//! What a person who types the command is told.

use clap::{CommandFactory, Parser};

/// A Juju charm that operates PgBouncer. Juju runs it for each hook through `dispatch`, with the
/// hook in the environment and no arguments; there is nothing to do with it by hand.
#[derive(Parser)]
#[command(
    name = "pgbouncer-k8s",
    version,
    after_help = "Deploy it: juju deploy pgbouncer-k8s\nSee what it does: juju status, juju debug-log"
)]
struct Cli {}

/// Answers `--help` and `--version`; without an argument prints the help.
pub fn run() -> anyhow::Result<()> {
    Cli::parse();
    Cli::command().print_help()?;
    Ok(())
}

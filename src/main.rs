//! The charm's binary: runs a command, an action or a hook and returns the exit code.

use std::process::ExitCode;

use pgbouncer_k8s::event::{self, Event};
use pgbouncer_k8s::hook::{self, Counted};
use pgbouncer_k8s::journal::Journal;
use pgbouncer_k8s::{actions, cli, log};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            log::flush();
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn run() -> anyhow::Result<ExitCode> {
    let env = |name: &str| std::env::var(name).ok();
    if std::env::args_os().len() > 1 || env("JUJU_DISPATCH_PATH").is_none_or(|path| path.is_empty())
    {
        return Ok(cli::run(env));
    }
    let (unit, event) = event::from_env(env)?;
    log::start(&event);
    match &event {
        Event::Action(action) => actions::run(action, &unit)?,
        event => hook::run(&unit, event, Journal::real(), Counted::Loaded).map(drop)?,
    }
    log::flush();
    Ok(ExitCode::SUCCESS)
}

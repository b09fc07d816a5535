//! The charm's binary: runs a command, an action or a hook and returns the exit code.

use std::process::ExitCode;

use anyhow::Result;
use pgbouncer_k8s::event::{self, Event, Unit};
use pgbouncer_k8s::notes::TracingNote;
use pgbouncer_k8s::{actions, cli, hook, log, otlp, spans};

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let env = |name: &str| std::env::var(name).ok();
    let Some(path) = env("JUJU_DISPATCH_PATH").filter(|path| !path.is_empty()) else {
        return cli::run(env);
    };
    if std::env::args_os().len() > 1 {
        return cli::run(env);
    }
    let name = path.rsplit('/').next().unwrap_or(&path);
    let mut trace = None;
    let done = spans::within(name, || run(env, &mut trace));
    if let Err(error) = &done {
        tracing::error!("{error:#}");
    }
    if let Some((unit, provider)) = &trace {
        send(unit, provider);
    } else {
        log::flush();
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs an action or a hook. Stores in `trace` where to send the trace of a hook.
fn run(
    env: impl Fn(&str) -> Option<String>,
    trace: &mut Option<(Unit, TracingNote)>,
) -> Result<()> {
    let (unit, event) = event::from_env(env)?;
    log::start(&event);
    if let Event::Action(action) = &event {
        return actions::run(action, &unit);
    }
    let (done, provider) = hook::dispatch(&unit, &event);
    *trace = provider.filter(TracingNote::is_usable).map(|provider| (unit, provider));
    done
}

/// Sends the trace, as the last act of a hook: Juju commits the hook afterwards, or not.
fn send(unit: &Unit, provider: &TracingNote) {
    let id = otlp::TraceId::random();
    tracing::debug!("trace {}", id.text());
    log::flush();
    if let Err(reason) = otlp::send(provider, unit, &id, &spans::recorded()) {
        tracing::debug!("cannot send the trace (tracing:{}): {reason}", provider.relation);
    }
}

//! The command line: `explain`, `render` and `check`, for operators and administrators.

mod check;
mod explain;
mod render;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context as _, bail};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::event::{self, Endpoint, Event, NotAHook, RelationId, Unit};
use crate::journal::Journal;
use crate::juju::Juju;
use crate::pgbouncer::Version;

/// A Juju charm that operates PgBouncer. Juju runs it for each hook through `dispatch`, with the
/// hook in the environment and no arguments.
#[derive(Parser)]
#[command(
    name = "pgbouncer-k8s",
    version,
    after_help = "Deploy: juju deploy pgbouncer-k8s\nObserve: juju status, juju debug-log, and on a \
                  unit:\n  juju exec --unit pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s explain"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List what a hook would change on this unit, without changing anything
    ///
    /// Runs the charm's own code for the hook. It reads Juju, PostgreSQL and PgBouncer, and lists
    /// every change instead of making it. Two things are not predicted: what PostgreSQL or a
    /// PgBouncer process would reject, and what follows from reading a secret for the first time.
    /// Juju records the first read of a secret, so such a secret stays unread; the output names it.
    #[command(
        after_help = "Example: juju exec --unit pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s explain config-changed"
    )]
    Explain {
        /// The hook, such as config-changed or database-relation-changed [default: the running
        /// hook, else update-status]
        event: Option<String>,
        /// The number of the relation; needed if the endpoint has several
        #[arg(long)]
        relation: Option<u32>,
        /// The output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the pgbouncer.ini that this unit should run
    ///
    /// Prints what the charm would render now, loaded or not. The file contains no password:
    /// passwords are in the user list that it names.
    #[command(
        after_help = "Example: juju exec --unit pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s render"
    )]
    Render {
        /// The process; the files differ in the console's socket and the pid file
        #[arg(long, default_value_t)]
        instance: u16,
        /// The output format; json prints the files of all processes
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Check whether PgBouncer accepts all of a pgbouncer.ini
    ///
    /// Parses each file as PgBouncer does and checks every setting, connection string and name for
    /// one version. It is stricter than PgBouncer where PgBouncer would misread a value or apply
    /// only a part of the file; docs/settings.md lists these cases. Nothing is started or changed,
    /// and no value of a connection string is printed.
    ///
    /// Exits with 0 if all files are valid. Otherwise exits with 1 and prints each invalid line as
    /// `FILE:LINE: reason`. The output format json prints one object for each file.
    #[command(after_help = "Example: pgbouncer-k8s check /etc/pgbouncer/pgbouncer.ini --for 1.24")]
    Check {
        /// The files to check; - reads standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The version of PgBouncer, such as 1.18 or 1.24.1 [default: the newest known version]
        #[arg(long = "for", value_name = "VERSION", value_parser = check::version)]
        version: Option<Version>,
        /// The output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// An output format.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Runs the command in the arguments; without arguments prints the help. `env` looks up a variable
/// of the environment.
pub fn run(env: impl Fn(&str) -> Option<String>) -> ExitCode {
    answer(env).unwrap_or_else(|error| {
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        // The reader has seen enough, such as `head`.
        if io == Some(io::ErrorKind::BrokenPipe) {
            return ExitCode::FAILURE;
        }
        // A closed stderr leaves no other way to report the error.
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn answer(env: impl Fn(&str) -> Option<String>) -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Some(Command::Explain { event, relation, format }) => {
            let (unit, event) = hook("explain", event, relation, env)?;
            if let Some(relation) = relation {
                check_relation(RelationId(relation), &event, &mut reading(&unit.app, &unit.name))?;
            }
            explain::run(&unit, &event, format)
        }
        Some(Command::Render { instance, format }) => {
            let (unit, _) = hook("render", Some("config-changed".to_owned()), None, env)?;
            render::run(&unit, instance, format)
        }
        Some(Command::Check { files, version, format }) => check::run(&files, version, format),
        None => {
            Cli::command().print_help()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Renders the `--help` of each command, for `docs/actions.md`.
pub fn manual() -> String {
    let cli = Cli::command();
    let help = |command: &clap::Command| {
        // The same document wherever it is made.
        let help = command.clone().term_width(100).render_long_help();
        format!("\n### {}\n\n```\n{help}```\n", command.get_name())
    };
    cli.get_subcommands().map(help).collect()
}

/// Reads the unit, and the hook that the command simulates, from arguments and environment.
fn hook(
    command: &str,
    name: Option<String>,
    relation: Option<u32>,
    env: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<(Unit, Event)> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    if env("JUJU_CONTEXT_ID").is_none() {
        bail!(
            "cannot run {command}: it needs Juju's hook tools; run it on a unit:\n  juju exec --unit \
             pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s {command}"
        );
    }
    let path = match name {
        Some(name) => format!("hooks/{name}"),
        None => env("JUJU_DISPATCH_PATH").unwrap_or_else(|| "hooks/update-status".to_owned()),
    };
    let read = |relation: Option<RelationId>| {
        event::from_env(|variable| match variable {
            "JUJU_DISPATCH_PATH" => Some(path.clone()),
            "JUJU_RELATION_ID" => relation.map(|id| id.to_string()).or_else(|| env(variable)),
            _ => env(variable),
        })
    };
    let (unit, event) = match read(relation.map(RelationId)) {
        Err(NotAHook::Variable { variable: "JUJU_RELATION_ID", .. }) => {
            read(Some(only_relation(&path, env)?))?
        }
        read => read?,
    };
    match &event {
        Event::Unknown(name) => {
            bail!(
                "cannot simulate {name}: Juju has no hook {name}; try update-status, config-changed or \
                 database-relation-changed"
            )
        }
        Event::Action(name) => {
            bail!("cannot simulate {name}: it is an action; juju run {} {name}", unit.name)
        }
        _ => Ok((unit, event)),
    }
}

/// Checks that the hook could run: its endpoint has the relation that the operator names.
fn check_relation(relation: RelationId, event: &Event, juju: &mut Juju) -> anyhow::Result<()> {
    let Event::Relation(event) = event else {
        bail!("cannot use --relation: this hook is of no relation; leave --relation out")
    };
    let endpoint = event.endpoint;
    let found = juju.relations(endpoint)?;
    if found.contains(&relation) {
        return Ok(());
    }
    bail!(
        "cannot simulate a hook of {endpoint}:{relation}: there is no such relation; relations of \
         {endpoint}: {}",
        named(&found, juju)
    )
}

/// The relations with their applications, for a message.
fn named(relations: &[RelationId], juju: &mut Juju) -> String {
    let name = |relation: &RelationId| match juju.remote_app(*relation) {
        Ok(Some(app)) => format!("{relation} ({app})"),
        _ => relation.to_string(),
    };
    let names: Vec<_> = relations.iter().map(name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The hook tools, for reading alone.
fn reading(app: &str, unit: &str) -> Juju {
    Juju::new(app, unit, Rc::new(Journal::dry_run()))
}

/// Finds the only relation of the endpoint in a hook's name.
fn only_relation(path: &str, env: impl Fn(&str) -> Option<String>) -> anyhow::Result<RelationId> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_of = |endpoint: &&Endpoint| {
        name.strip_prefix(endpoint.name()).is_some_and(|rest| rest.starts_with("-relation-"))
    };
    let endpoint =
        *Endpoint::ALL.iter().find(is_of).with_context(|| format!("Juju has no hook {name}"))?;
    let unit = env("JUJU_UNIT_NAME").unwrap_or_default();
    let mut juju = reading("", &unit);
    let relations = juju.relations(endpoint)?;
    match relations.as_slice() {
        [relation] => Ok(*relation),
        [] => bail!(
            "cannot simulate {name}: nothing is related by {endpoint} yet; run juju integrate first"
        ),
        several => {
            bail!(
                "cannot choose a relation: {endpoint} has the relations {}; pass one with --relation",
                named(several, &mut juju)
            )
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn to_json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn outside_a_unit_a_command_names_the_juju_exec_line() {
        let error = hook("explain", None, None, |_| None).expect_err("no hook");
        assert!(
            error
                .to_string()
                .contains("juju exec --unit pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s explain")
        );
    }

    #[test]
    fn a_hook_name_unknown_to_juju_is_rejected() {
        let env = |name: &str| {
            let values =
                [("JUJU_CONTEXT_ID", "c"), ("JUJU_UNIT_NAME", "p/0"), ("JUJU_MODEL_NAME", "dev")];
            values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let hook = |name: Option<&str>| hook("explain", name.map(str::to_owned), Some(7), env);
        assert_eq!(hook(None).expect("a hook").1, Event::UpdateStatus);
        let Event::Relation(event) = hook(Some("database-relation-changed")).expect("a hook").1
        else {
            panic!("not of a relation");
        };
        assert_eq!(event.relation, RelationId(7));
        assert!(
            hook(Some("moon-rises"))
                .expect_err("no hook")
                .to_string()
                .contains("no hook moon-rises")
        );
    }
}

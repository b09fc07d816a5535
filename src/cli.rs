//! What a person who types the command is told.

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
    after_help = "Deploy it: juju deploy pgbouncer-k8s\nSee what it does: juju status, juju debug-log, and on a unit:\n  \
                  juju exec --unit pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s explain"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Tell what a hook would do on this unit, and change nothing
    ///
    /// Runs the charm's own code for the hook. Juju, PostgreSQL and PgBouncer are read as they are; what would be
    /// told to them is listed instead. A secret that this unit has not read before stays unread, since Juju notes
    /// who reads one: what follows from it is not foreseen, and it is said so. Neither is what PostgreSQL or a
    /// process would refuse.
    #[command(
        after_help = "Example: juju exec --unit pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s explain config-changed"
    )]
    Explain {
        /// The hook, such as config-changed or database-relation-changed [default: the one under way, else
        /// update-status]
        event: Option<String>,
        /// The number of the relation, where several fit
        #[arg(long)]
        relation: Option<u32>,
        /// As what to print it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the pgbouncer.ini that this unit is to run
    ///
    /// What would be rendered now, whether it is loaded or not. There is no password in it; those are in the user
    /// list that it names.
    #[command(after_help = "Example: juju exec --unit pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s render")]
    Render {
        /// Of which of the unit's processes; they differ in their console's socket and their pid file
        #[arg(long, default_value_t)]
        instance: u16,
        /// As what to print it; as json that of all processes
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
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
        #[arg(long = "for", value_name = "VERSION", value_parser = check::version)]
        version: Option<Version>,
        /// As what to print it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// As what something is printed.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Does what the arguments say; without any prints the help. `env` looks a variable of the environment up.
pub fn run(env: impl Fn(&str) -> Option<String>) -> ExitCode {
    answer(env).unwrap_or_else(|error| {
        // Who cannot be told cannot be told that either.
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn answer(env: impl Fn(&str) -> Option<String>) -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Some(Command::Explain { event, relation, format }) => {
            let (unit, event) = hook("explain", event, relation, env)?;
            explain::run(&unit, &event, format)
        }
        Some(Command::Render { instance, format }) => {
            let (unit, _) = hook("render", Some("config-changed".to_owned()), None, env)?;
            render::run(&unit, instance, format)
        }
        Some(Command::Check { file, version, format }) => check::run(&file, version, format),
        None => {
            Cli::command().print_help()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What `--help` says of each command, for the documentation.
pub fn manual() -> String {
    let mut cli = Cli::command();
    let commands = cli.get_subcommands_mut();
    let help = |command: &mut clap::Command| {
        let name = command.get_name().to_owned();
        format!("\n### {name}\n\n```\n{}```\n", command.render_long_help())
    };
    commands.map(help).collect::<Vec<_>>().concat()
}

/// The hook that a command is about, on the unit on which it runs.
fn hook(
    command: &str,
    name: Option<String>,
    relation: Option<u32>,
    env: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<(Unit, Event)> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    if env("JUJU_CONTEXT_ID").is_none() {
        bail!(
            "{command} asks Juju, which answers on a unit only:\n  juju exec --unit pgbouncer-k8s/0 -- \
             ./bin/pgbouncer-k8s {command}"
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
            bail!("Juju has no hook {name}: try update-status, config-changed or database-relation-changed")
        }
        Event::Action(name) => bail!("{name} is an action: juju run {} {name}", unit.name),
        _ => Ok((unit, event)),
    }
}

/// The one relation of the endpoint that a hook is about.
fn only_relation(path: &str, env: impl Fn(&str) -> Option<String>) -> anyhow::Result<RelationId> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_of = |endpoint: &&Endpoint| {
        name.strip_prefix(endpoint.name()).is_some_and(|rest| rest.starts_with("-relation-"))
    };
    let endpoint = *Endpoint::ALL.iter().find(is_of).with_context(|| format!("there is no hook {name}"))?;
    let unit = env("JUJU_UNIT_NAME").unwrap_or_default();
    let relations = Juju::new("", &unit, Rc::new(Journal::dry_run())).relations(endpoint)?;
    match relations.as_slice() {
        [relation] => Ok(*relation),
        [] => bail!("nothing is related by {endpoint} yet"),
        several => {
            let ids: Vec<_> = several.iter().map(RelationId::to_string).collect();
            bail!("{endpoint} has the relations {}: name one with --relation", ids.join(", "))
        }
    }
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
    fn without_juju_a_command_says_what_to_type() {
        let error = hook("explain", None, None, |_| None).expect_err("no hook");
        assert!(
            error.to_string().contains("juju exec --unit pgbouncer-k8s/0 -- ./bin/pgbouncer-k8s explain")
        );
    }

    #[test]
    fn a_hook_that_juju_does_not_have_is_refused() {
        let env = |name: &str| {
            let values = [("JUJU_CONTEXT_ID", "c"), ("JUJU_UNIT_NAME", "p/0"), ("JUJU_MODEL_NAME", "dev")];
            values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let hook = |name: Option<&str>| hook("explain", name.map(str::to_owned), Some(7), env);
        assert_eq!(hook(None).expect("a hook").1, Event::UpdateStatus);
        let Event::Relation(event) = hook(Some("database-relation-changed")).expect("a hook").1 else {
            panic!("not of a relation");
        };
        assert_eq!(event.relation, RelationId(7));
        assert!(hook(Some("moon-rises")).expect_err("no hook").to_string().contains("no hook moon-rises"));
    }
}

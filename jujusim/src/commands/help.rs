//! The table of commands, and the help printed from it.

use std::fmt::Write as _;

use super::Arguments;
use crate::Sim;
use crate::error::{Error, Result};
use crate::tables::Table;

/// A command of a script.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// The arguments after the name.
    arguments: &'static str,
    does: &'static str,
    pub(super) run: fn(&mut Sim, Arguments) -> Result<String>,
}

/// Creates a row of the table.
const fn command(
    name: &'static str,
    arguments: &'static str,
    does: &'static str,
    run: fn(&mut Sim, Arguments) -> Result<String>,
) -> Command {
    Command { name, arguments, does, run }
}

/// Every command, in the order of help: the operator's commands, time, faults, output, the
/// workload, expectations.
pub(crate) const COMMANDS: &[Command] = &[
    command(
        "deploy",
        "PATH|actor:KIND [NAME] [-n N] [--channel CHANNEL] [--config k=v]…",
        "deploys an application: a charm's directory, `actor:postgresql` or `actor:client`; `--channel` (`14/stable`) chooses the PostgreSQL",
        Sim::deploy,
    ),
    command("add-unit", "APP [-n N]", "adds units", Sim::add_unit),
    command(
        "remove-unit",
        "APP [-n N] [--force]",
        "removes units, the highest ordinals first; by force without running hooks",
        Sim::remove_unit,
    ),
    command(
        "scale-application",
        "APP N",
        "adds or removes units until there are N",
        Sim::scale_application,
    ),
    command(
        "remove-application",
        "APP [--force]",
        "removes an application with its relations and units; by force without running hooks",
        Sim::remove_application,
    ),
    command(
        "refresh",
        "APP [--path DIR]",
        "replaces every pod by one with the new charm, the highest ordinal first",
        Sim::refresh,
    ),
    command(
        "integrate",
        "A[:ENDPOINT] B[:ENDPOINT]",
        "creates a relation; also `relate`",
        Sim::integrate,
    ),
    command(
        "remove-relation",
        "A[:ENDPOINT] B[:ENDPOINT] [--force]",
        "removes a relation; by force the controller removes it at once, and the agents later",
        Sim::remove_relation,
    ),
    command(
        "suspend-relation",
        "A[:ENDPOINT] B[:ENDPOINT]",
        "suspends a relation: its units leave, its databags stay",
        Sim::suspend_relation,
    ),
    command(
        "resume-relation",
        "A[:ENDPOINT] B[:ENDPOINT]",
        "resumes a relation: the units that left join again",
        Sim::resume_relation,
    ),
    command(
        "config",
        "APP [k=v]… [--reset k,…]",
        "sets options, or prints the options in effect",
        Sim::config,
    ),
    command(
        "model-config",
        "automatically-retry-hooks=true|false",
        "sets whether failed hooks are retried automatically",
        Sim::model_config,
    ),
    command("run", "UNIT ACTION [k=v]…", "runs an action at once", Sim::action),
    command(
        "exec",
        "UNIT [--relation ID] -- COMMAND…",
        "runs a command of this machine in the unit's context at once, as the user of the simulator",
        Sim::exec,
    ),
    command(
        "resolve",
        "UNIT [--no-retry]",
        "runs the failed hook again at once, or marks it as done",
        Sim::resolve,
    ),
    command(
        "settle",
        "[--verbose]",
        "runs hooks until none is left; advances the clock as far as retries and free leases need it",
        Sim::settle,
    ),
    command(
        "step",
        "[--unit UNIT] [N]",
        "runs the next N hooks, of all units or of one",
        Sim::step,
    ),
    command(
        "wait",
        "DURATION",
        "settles and advances the clock (`90s`, `5m`), with everything due until then: `update-status`, retries, leases, secrets",
        Sim::wait,
    ),
    command(
        "clock",
        "+DURATION",
        "moves the clock at once (`+9m`, `+30d`, `+0s`) and runs no hook: each timer is then due once; from the first such command on hooks see the model's clock, which runs on with the real one (needs `cc`)",
        Sim::clock,
    ),
    command(
        "seed",
        "N|none",
        "sets the seed that decides where Juju's order is arbitrary; without a seed the first candidate is chosen",
        Sim::seed,
    ),
    command(
        "leader",
        "UNIT|--none APP",
        "moves the lease; with `--none` no unit has it for a minute",
        Sim::leader,
    ),
    command(
        "replace-pod",
        "UNIT [--mid-hook [--hard] | --after-hook]",
        "terminates the pod, kills it after 30 s, and removes everything under the unit's root; `--mid-hook` ends the pod during the unit's next hook, which the new pod resumes; `--after-hook` ends the pod after the hook's commit, before the agent records it",
        Sim::replace_pod,
    ),
    command(
        "restart-agent",
        "UNIT [--killed]",
        "restarts only the charm container; its files are kept",
        Sim::restart_agent,
    ),
    command(
        "first",
        "APP|none",
        "runs hooks of this application before those of others from now on, as far as it has any, so that its `-relation-broken` precedes the `-departed` of the other side; `none` ends this",
        Sim::first,
    ),
    command(
        "hold",
        "UNIT ENDPOINT[:ID]",
        "withholds `-joined` and `-changed` of the relation from the unit until `release`",
        Sim::hold,
    ),
    command(
        "lose",
        "secret-expired|none",
        "withholds `secret-expired` from every unit from now on, as a Juju that loses it; `none` ends this",
        Sim::lose,
    ),
    command(
        "lose-agent",
        "UNIT",
        "cuts the unit's agent off: no hook runs until `release`, a leader's lease expires after a minute, the unit's processes run on, and Juju shows the last known state",
        Sim::lose_agent,
    ),
    command("release", "UNIT", "ends `hold` or `lose-agent`", Sim::release),
    command(
        "trigger",
        "UNIT HOOK",
        "queues `update-status`, `start`, `…-pebble-ready`, …",
        Sim::trigger,
    ),
    command(
        "databag",
        "APP:ENDPOINT[:ID] ENTITY k=v…",
        "writes to a databag without a hook; accepts `k=@FILE` and `k=@hex:…`; `k=` removes a key",
        Sim::databag,
    ),
    command(
        "add-secret",
        "NAME field=value…",
        "adds a secret of the model's user and prints its URI, for an option of type `secret`",
        Sim::add_secret,
    ),
    command(
        "update-secret",
        "NAME field=value…",
        "adds a revision to a user's secret",
        Sim::update_secret,
    ),
    command(
        "grant-secret",
        "NAME APP",
        "grants an application access to a user's secret",
        Sim::grant_secret,
    ),
    command("revoke-secret", "NAME APP", "revokes that access", Sim::revoke_secret),
    command("remove-secret", "NAME", "removes a user's secret", Sim::remove_secret),
    command(
        "secret-edit",
        "LABEL field=value…",
        "adds a revision to a charm's secret without a hook",
        Sim::secret_edit,
    ),
    command(
        "kill",
        "UNIT at TOOL|syscall NAME [N] [--no-follow] [--path FILE]",
        "kills the next hook at its N-th call of the tool, which then has no effect; or, with `syscall`, instead of its N-th such system call, on the named file if one is given (needs `strace`); each process that the hook starts, hook tools included, counts for itself and is killed, too, unless `--no-follow`",
        Sim::kill,
    ),
    command(
        "fail",
        "UNIT TOOL [N] [--message TEXT]",
        "makes the tool exit with 1 at its N-th call in the next hook; `UNIT syscall NAME [N] [--errno ENOSPC] [--onwards] [--no-follow] [--path FILE]` makes the system call fail, with `--onwards` also every later one",
        Sim::fail,
    ),
    command(
        "hang",
        "UNIT TOOL [N] [--for SECONDS]",
        "makes the tool's N-th call in the next hook hang, forever or for a time",
        Sim::hang,
    ),
    command(
        "answer",
        "UNIT TOOL [N] --stdout TEXT [--code N]",
        "makes the tool's N-th call in the next hook print a wrong answer; `\\n` is a newline",
        Sim::wrong_answer,
    ),
    command(
        "at",
        "UNIT TOOL [N]|syscall NAME [N] [--no-follow] [--path FILE]|commit do COMMAND…",
        "runs another command during the unit's next hook: before the call of a tool is answered, after a system call (needs `strace`), or before the commit",
        Sim::at,
    ),
    command(
        "fail-commit",
        "UNIT [--torn]",
        "makes the commit of the next hook fail; with `--torn` after the secrets are applied",
        Sim::fail_commit,
    ),
    command(
        "twice",
        "UNIT",
        "runs the next hook twice, as after an agent that died before it recorded the first run",
        Sim::twice,
    ),
    command(
        "every-hook",
        "twice|torn|once",
        "runs every hook twice from now on, or tears its first commit; `once` ends both",
        Sim::every_hook,
    ),
    command(
        "status",
        "[--relations] [--format tabular|yaml|json]",
        "prints the output of `juju status`",
        Sim::status,
    ),
    command(
        "show-unit",
        "UNIT [--endpoint NAME] [--format yaml|json]",
        "prints the output of `juju show-unit`; in YAML also `simulator`: the charm's state and the own application's databags",
        Sim::show_unit,
    ),
    command(
        "show-secret",
        "LABEL",
        "shows who owns a secret, who reads it and who may read it, without values",
        Sim::show_secret,
    ),
    command(
        "hooks",
        "[UNIT] [--last N] [--juju-time] [--sql] [--pebble] [--cost]",
        "lists the hooks that ran with their calls of each tool; also what these calls take on a real Juju, their SQL, requests to Pebble, time and memory",
        Sim::hooks,
    ),
    command("log", "UNIT [--last N]", "prints the log of the unit's last hooks", Sim::log),
    command(
        "files",
        "UNIT",
        "lists the files under the unit's root; in a container the files that were put there, with their directories",
        Sim::files,
    ),
    command("cat", "UNIT PATH", "prints a file under the unit's root", Sim::cat),
    command(
        "sql",
        "CLIENT STATEMENT [--through UNIT] [--database NAME]|APP|UNIT STATEMENT [--database NAME]",
        "runs SQL as a client, with the credentials of its relation, on another database if one is named; with `--through` that unit's own processes must count the query; on an application or unit with a server as its superuser",
        Sim::sql,
    ),
    command(
        "postgresql",
        "stop|start|freeze|thaw|failover|rotate|noticed|tls KIND [APP]",
        "stops or starts the servers; `freeze`: the primary answers no client and keeps its connections, until `thaw`; `failover` kills the primary and promotes a standby; `rotate` gives clients new passwords; `noticed` waits until the observer has admitted all existing roles; `tls` gives the servers certificates, publishes their CA and admits only connections with TLS: `on`, `rotate` (a new CA), `intermediate` (publishes an intermediate without its root), `wrong-ca` (publishes a CA that signed nothing), `expired`, `foreign` (another host name), or `off`",
        Sim::postgresql,
    ),
    command("pooler", "APP", "shows what PgBouncer's processes have loaded", Sim::pooler),
    command("processes", "UNIT", "lists PgBouncer's processes and their restarts", Sim::processes),
    command(
        "restart-container",
        "UNIT [CONTAINER]",
        "restarts the workload container: its plan and files are removed, its volumes stay",
        Sim::restart_container,
    ),
    command(
        "stop-container",
        "UNIT [CONTAINER]",
        "stops the workload container: Pebble's socket does not answer",
        Sim::stop_container,
    ),
    command(
        "start-container",
        "UNIT [CONTAINER]",
        "starts the workload container again",
        Sim::start_container,
    ),
    command(
        "limit",
        "UNIT CPUS|none",
        "limits the CPUs of the unit's containers, from their next start on",
        Sim::limit,
    ),
    command(
        "ssh",
        "UNIT [--container NAME] -- COMMAND…",
        "runs a command in a workload container as root",
        Sim::ssh,
    ),
    command("reloads", "UNIT", "shows how many SIGHUPs each process has logged", Sim::reloads),
    command(
        "kill-process",
        "UNIT [N]",
        "kills the unit's N-th PgBouncer process, which is then restarted",
        Sim::kill_process,
    ),
    command(
        "show-config",
        "UNIT NAME",
        "shows a setting, by `SHOW CONFIG` of each process",
        Sim::show_config,
    ),
    command(
        "load",
        "start CLIENT [-c N] [--through UNIT] [--reconnect [--or-port PORT]]|stop",
        "runs `pgbench` through every unit, or clients that reconnect for each query",
        Sim::load,
    ),
    command(
        "expect",
        "TEXT",
        "checks that the output of the previous command contains the text; fails if that command failed",
        expect_nothing,
    ),
    command(
        "expect-not",
        "TEXT",
        "checks that the output does not contain the text; fails if that command failed",
        expect_nothing,
    ),
    command(
        "expect-error",
        "TEXT",
        "checks that the previous command failed, with the text in its error",
        expect_nothing,
    ),
    command("help", "[COMMAND]", "lists all commands, or describes one", help),
];

/// The command of this name; an error names the most similar command.
pub(super) fn find(name: &str) -> Result<&'static Command> {
    let name = if name == "relate" { "integrate" } else { name };
    if let Some(command) = COMMANDS.iter().find(|command| command.name == name) {
        return Ok(command);
    }
    let far = |command: &Command| {
        if command.name.starts_with(name) { 0 } else { distance(name, command.name) }
    };
    let nearest = COMMANDS.iter().map(|command| (far(command), command.name)).min();
    Err(Error::refused(match nearest {
        Some((distance, near)) if distance <= 1 + name.len() / 3 => {
            format!("unknown command {name:?}: did you mean {near}?")
        }
        _ => format!("unknown command {name:?}: help lists all commands"),
    }))
}

/// `help [COMMAND]`
fn help(_: &mut Sim, mut args: Arguments) -> Result<String> {
    let wanted = args.maybe();
    args.end()?;
    if let Some(name) = wanted {
        let Command { name, arguments, does, .. } = find(&name)?;
        return Ok(format!("{}\n  {does}\n", format!("{name} {arguments}").trim_end()));
    }
    let brief =
        |does: &str| does.split_once([';', ':']).map_or(does, |(first, _)| first).to_owned();
    let rows = COMMANDS.iter().map(|command| vec![command.name.to_owned(), brief(command.does)]);
    Ok(Table::of(rows.collect()).text() + "help COMMAND shows how to use a command.\n")
}

/// Refuses an expectation without a text; one with a text is handled before its arguments are
/// split.
fn expect_nothing(_: &mut Sim, _: Arguments) -> Result<String> {
    Err(Error::refused("expected a text"))
}

/// The args as the table in the README.
pub fn readme() -> String {
    let mut text = "| command | what it does |\n| --- | --- |\n".to_owned();
    for Command { name, arguments, does, .. } in COMMANDS {
        let usage = format!("{name} {arguments}").trim_end().replace('|', "\\|");
        let _ = writeln!(text, "| `{usage}` | {} |", does.replace('|', "\\|"));
    }
    text
}

/// The number of letters to insert, remove or change (Levenshtein distance).
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}

//! The words: their one table, and what is printed from it.

use std::fmt::Write as _;

use super::Words;
use crate::Sim;
use crate::error::{Error, Result};
use crate::tables::Table;

/// A word of a script.
pub(crate) struct Word {
    pub(crate) name: &'static str,
    /// What follows the name.
    arguments: &'static str,
    does: &'static str,
    pub(super) run: fn(&mut Sim, Words) -> Result<String>,
}

/// A table row without the struct's noise.
const fn word(
    name: &'static str,
    arguments: &'static str,
    does: &'static str,
    run: fn(&mut Sim, Words) -> Result<String>,
) -> Word {
    Word { name, arguments, does, run }
}

/// Every word, in the order of help: what an operator says, time, faults, looking, the workload, expectations.
pub(crate) const WORDS: &[Word] = &[
    word(
        "deploy",
        "PATH|actor:KIND [NAME] [-n N] [--channel CHANNEL] [--config k=v]…",
        "a charm's directory; `actor:postgresql`, `actor:client`; the channel (`14/stable`) chooses which PostgreSQL",
        Sim::deploy,
    ),
    word("add-unit", "APP [-n N]", "more units", Sim::add_unit),
    word(
        "remove-unit",
        "APP [-n N] [--force]",
        "fewer units: the highest ordinals go first; by force without a hook",
        Sim::remove_unit,
    ),
    word("scale-application", "APP N", "as many units as said", Sim::scale_application),
    word(
        "remove-application",
        "APP [--force]",
        "its relations break, its units leave; by force without a hook",
        Sim::remove_application,
    ),
    word(
        "refresh",
        "APP [--path DIR]",
        "every pod is replaced by one with the new charm, the highest ordinal first",
        Sim::refresh,
    ),
    word("integrate", "A[:ENDPOINT] B[:ENDPOINT]", "a relation; also `relate`", Sim::integrate),
    word(
        "remove-relation",
        "A[:ENDPOINT] B[:ENDPOINT] [--force]",
        "it breaks; by force the controller forgets it at once, the agents later",
        Sim::remove_relation,
    ),
    word(
        "suspend-relation",
        "A[:ENDPOINT] B[:ENDPOINT]",
        "its units leave it, its bags stay",
        Sim::suspend_relation,
    ),
    word(
        "resume-relation",
        "A[:ENDPOINT] B[:ENDPOINT]",
        "for those that left, it begins anew",
        Sim::resume_relation,
    ),
    word("config", "APP [k=v]… [--reset k]", "sets options, or prints what is in effect", Sim::config),
    word(
        "model-config",
        "automatically-retry-hooks=true|false",
        "whether failed hooks are tried again by themselves",
        Sim::model_config,
    ),
    word("run", "UNIT ACTION [k=v]…", "an action, at once", Sim::action),
    word(
        "exec",
        "UNIT [--relation ID] -- COMMAND…",
        "a command of this machine, as you, in the unit's context, at once",
        Sim::exec,
    ),
    word(
        "resolve",
        "UNIT [--no-retry]",
        "the failed hook runs again at once, or counts as done",
        Sim::resolve,
    ),
    word(
        "settle",
        "[--verbose]",
        "runs hooks until none is left; time passes as far as retries and free leases need it",
        Sim::settle,
    ),
    word("step", "[--unit UNIT] [N]", "runs the next N hooks, of all units or one", Sim::step),
    word(
        "wait",
        "DURATION",
        "settles and lets time pass (`90s`, `5m`), with all that falls due: `update-status`, retries, leases, secrets",
        Sim::wait,
    ),
    word(
        "seed",
        "N|none",
        "decides from now on where Juju's order is arbitrary; without one the first comes first",
        Sim::seed,
    ),
    word(
        "leader",
        "UNIT|--none APP",
        "moves the lease; with `--none` nobody has it for a minute",
        Sim::leader,
    ),
    word(
        "replace-pod",
        "UNIT [--mid-hook [--hard] | --after-hook]",
        "all in the pod is told to end, and killed after 30 s; everything under the unit's root is lost; it dies within the unit's next hook, which is resumed, or after its effects are committed and before that is noted",
        Sim::replace_pod,
    ),
    word(
        "restart-agent",
        "UNIT [--killed]",
        "the charm's container restarts alone, its files are kept",
        Sim::restart_agent,
    ),
    word(
        "hold",
        "UNIT ENDPOINT[:ID]",
        "no `-joined` and `-changed` of the relation reaches the unit until `release`",
        Sim::hold,
    ),
    word(
        "lose-agent",
        "UNIT",
        "its node is cut off: no hook runs until `release`, its processes run on, and Juju shows what it last knew",
        Sim::lose_agent,
    ),
    word("release", "UNIT", "what was held comes, or a lost agent is found again", Sim::release),
    word("trigger", "UNIT HOOK", "queues `update-status`, `start`, `…-pebble-ready`, …", Sim::trigger),
    word(
        "databag",
        "APP:ENDPOINT[:ID] ENTITY k=v…",
        "writes into a bag from outside; `k=@FILE`, `k=@hex:…`, `k=` removes",
        Sim::databag,
    ),
    word(
        "add-secret",
        "NAME field=value…",
        "a secret of the model's user; its URI is for an option of type `secret`",
        Sim::add_secret,
    ),
    word("update-secret", "NAME field=value…", "a new revision of a user's secret", Sim::update_secret),
    word("grant-secret", "NAME APP", "the application may read a user's secret", Sim::grant_secret),
    word("revoke-secret", "NAME APP", "it may no longer", Sim::revoke_secret),
    word("remove-secret", "NAME", "a user's secret is gone", Sim::remove_secret),
    word("secret-edit", "LABEL field=value…", "a new revision from outside", Sim::secret_edit),
    word(
        "kill",
        "UNIT at TOOL|syscall NAME [N] [--no-follow] [--path FILE]",
        "the next hook is killed when it makes its N-th call of the tool, which has no effect; or it dies instead of its N-th such system call (needs `strace`), on that file if one is named, and so does every process it starts, hook tools too, each counting for itself, but for `--no-follow`",
        Sim::kill,
    ),
    word(
        "fail",
        "UNIT TOOL [N] [--message TEXT]",
        "in the next hook the tool exits with 1 at its N-th call; or `UNIT syscall NAME [N] [--errno ENOSPC] [--onwards] [--no-follow] [--path FILE]`: the system call fails, and with `--onwards` so do all after it",
        Sim::fail,
    ),
    word(
        "hang",
        "UNIT TOOL [N] [--for SECONDS]",
        "in the next hook the tool's N-th call hangs, for ever or so long",
        Sim::hang,
    ),
    word(
        "answer",
        "UNIT TOOL [N] --stdout TEXT [--code N]",
        "in the next hook the tool's N-th call gives a wrong answer; `\\n` is a newline",
        Sim::wrong_answer,
    ),
    word(
        "at",
        "UNIT TOOL [N]|syscall NAME [N] [--no-follow] [--path FILE]|commit do WORD…",
        "another word within the unit's next hook: before the call of a tool is answered, after a system call (needs `strace`), before the commit",
        Sim::at,
    ),
    word(
        "fail-commit",
        "UNIT [--torn]",
        "the next hook's effects are refused; torn: after the secrets",
        Sim::fail_commit,
    ),
    word(
        "twice",
        "UNIT",
        "the next hook runs twice, as after an agent that died before it noted the first",
        Sim::twice,
    ),
    word(
        "every-hook",
        "twice|torn|once",
        "from now on every hook comes twice, or its first commit is torn; `once` ends both",
        Sim::every_hook,
    ),
    word("status", "[--relations] [--format tabular|yaml|json]", "as `juju status`", Sim::status),
    word(
        "show-unit",
        "UNIT [--endpoint NAME] [--format yaml|json]",
        "as `juju show-unit`; in YAML then `simulator`: the charm's state and its own side's bags",
        Sim::show_unit,
    ),
    word("show-secret", "LABEL", "who owns, reads and may read it; no values", Sim::show_secret),
    word(
        "hooks",
        "[UNIT] [--last N] [--sql] [--pebble] [--cost]",
        "what ran and its calls of each tool; what it asked of PostgreSQL and Pebble; time and memory",
        Sim::hooks,
    ),
    word("log", "UNIT [--last N]", "log lines of its last hooks", Sim::log),
    word(
        "files",
        "UNIT",
        "what lies below the unit's root; in a container what was put there, with its directories",
        Sim::files,
    ),
    word("cat", "UNIT PATH", "a file below the unit's root", Sim::cat),
    word(
        "sql",
        "CLIENT STATEMENT [--through UNIT] [--database NAME]|APP|UNIT STATEMENT [--database NAME]",
        "logs in as the relation says, to another database if one is named; that unit's own processes must count the query; of an application or unit with a server: its superuser",
        Sim::sql,
    ),
    word(
        "postgresql",
        "stop|start|freeze|thaw|failover|rotate|noticed [APP]",
        "its servers go away and return; the primary answers nobody, its connections stay, and goes on; it dies and a standby takes its place; clients get new passwords; waits until the observer has let in all roles that are there",
        Sim::postgresql,
    ),
    word("pooler", "APP", "what PgBouncer's processes loaded", Sim::pooler),
    word("processes", "UNIT", "PgBouncer's processes and their restarts", Sim::processes),
    word(
        "restart-container",
        "UNIT [CONTAINER]",
        "the workload container dies and starts anew: its plan and files are gone, its volumes stay",
        Sim::restart_container,
    ),
    word(
        "stop-container",
        "UNIT [CONTAINER]",
        "it dies and does not start: nobody answers on Pebble's socket",
        Sim::stop_container,
    ),
    word("start-container", "UNIT [CONTAINER]", "it starts again", Sim::start_container),
    word(
        "limit",
        "UNIT CPUS|none",
        "how many CPUs its containers may use from their next start on",
        Sim::limit,
    ),
    word(
        "ssh",
        "UNIT [--container NAME] -- COMMAND…",
        "runs a command in a workload container, as root",
        Sim::ssh,
    ),
    word("reloads", "UNIT", "how often each process was told to read its configuration again", Sim::reloads),
    word(
        "kill-process",
        "UNIT [N]",
        "its N-th PgBouncer process dies, and is started again",
        Sim::kill_process,
    ),
    word("show-config", "UNIT NAME", "a setting, by `SHOW CONFIG` of each process", Sim::show_config),
    word(
        "load",
        "start CLIENT [-c N] [--through UNIT] [--reconnect [--or-port PORT]]|stop",
        "`pgbench` through every unit, or clients that connect anew for each query",
        Sim::load,
    ),
    word(
        "expect",
        "TEXT",
        "looks at what the previous word printed; not met if that word failed",
        expect_nothing,
    ),
    word("expect-not", "TEXT", "the opposite; not met either if that word failed", expect_nothing),
    word("expect-error", "TEXT", "the previous word failed, with this in its error", expect_nothing),
    word("help", "[WORD]", "all words, or one", help),
];

/// The word of this name, or a refusal that names the nearest one.
pub(super) fn find(name: &str) -> Result<&'static Word> {
    let name = if name == "relate" { "integrate" } else { name };
    if let Some(word) = WORDS.iter().find(|word| word.name == name) {
        return Ok(word);
    }
    let far = |word: &Word| if word.name.starts_with(name) { 0 } else { distance(name, word.name) };
    let nearest = WORDS.iter().map(|word| (far(word), word.name)).min();
    Err(Error::refused(match nearest {
        Some((distance, near)) if distance <= 1 + name.len() / 3 => {
            format!("unknown word {name:?}: did you mean {near}?")
        }
        _ => format!("unknown word {name:?}: help lists all"),
    }))
}

/// `help [WORD]`
fn help(_: &mut Sim, mut words: Words) -> Result<String> {
    let wanted = words.maybe();
    words.end()?;
    if let Some(name) = wanted {
        let Word { name, arguments, does, .. } = find(&name)?;
        return Ok(format!("{}\n  {does}\n", format!("{name} {arguments}").trim_end()));
    }
    let brief = |does: &str| does.split_once([';', ':']).map_or(does, |(first, _)| first).to_owned();
    let rows = WORDS.iter().map(|word| vec![word.name.to_owned(), brief(word.does)]);
    Ok(Table::of(rows.collect()).text() + "help WORD tells how one is used.\n")
}

/// An expectation without a text: with one the line is taken as it is.
fn expect_nothing(_: &mut Sim, _: Words) -> Result<String> {
    Err(Error::refused("a text expected"))
}

/// The words as the table in the README.
pub fn readme() -> String {
    let mut text = "| word | does |\n| --- | --- |\n".to_owned();
    for Word { name, arguments, does, .. } in WORDS {
        let usage = format!("{name} {arguments}").trim_end().replace('|', "\\|");
        let _ = writeln!(text, "| `{usage}` | {} |", does.replace('|', "\\|"));
    }
    text
}

/// How many letters have to be put in, taken out or changed (Levenshtein).
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

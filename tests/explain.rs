//! What `explain` lists is what then happens: for every hook of the demo it is asked first, and the
//! hook itself then runs under `strace`. Of the run the tools it starts, the files it replaces, its
//! signals, its orders to Pebble and its SQL are read from the trace.

#![expect(clippy::disallowed_methods, reason = "the test reads traces")]

mod common;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jujusim::{Options, PEBBLE, pebble_of, run_script};
use serde_json::Value;

use trace::{CALLS, Sql, Trace, files};

/// Explains the hook, traced, and then runs it, traced. What explain leaves unread because nobody
/// may read it for the first time but the hook, is read then, and explain asked again.
const DISPATCH: &str = r#"#!/bin/sh
out=TRACES/$(date +%s%N)
echo "$JUJU_UNIT_NAME ${JUJU_DISPATCH_PATH##*/}" >$out.hook
traced() {
    kind=$1
    shift
    strace --seccomp-bpf -qq -ff -s 1000000 -e signal=none -e trace=CALLS -o $out.$kind ./bin/pgbouncer-k8s "$@"
}
traced explain explain --format json >$out.json || exit 9
unread=$(sed -n 's/^ *"\(.*\.user\.secret\)",\{0,1\}$/\1/p' $out.json)
if [ "$unread" ]; then
    mv $out.json $out.unread
    relation=${unread#backend-database.}
    uri=$(relation-get -r ${relation%%.*} --app secret-user postgresql-k8s)
    secret-get "$uri" --label "$unread" >/dev/null || exit 9
    traced again explain --format json >$out.json || exit 9
fi
traced run
"#;

/// What else changes what a unit does: a port, which takes another process, new passwords, a
/// request that is refused, a relation that is not served, a refresh, and the end of the backend.
/// On Juju without secrets.
const REST: &str = "
deploy CHARM -n 2
deploy actor:postgresql postgresql-k8s
deploy actor:client shop --config database=shop
integrate pgbouncer-k8s:backend-database postgresql-k8s
integrate pgbouncer-k8s:database shop
settle
config pgbouncer-k8s listen_port=6543
settle
config pgbouncer-k8s pool_mode=bad
settle
config pgbouncer-k8s --reset pool_mode
settle
postgresql rotate postgresql-k8s
settle
deploy actor:client broken --config database=no/name
integrate pgbouncer-k8s:database broken
settle
remove-application broken
settle
refresh pgbouncer-k8s --path CHARM
settle
wait 6m
remove-relation pgbouncer-k8s:backend-database postgresql-k8s
settle
";

/// What changes what a unit in a container does: a client, options, a port, which takes another
/// process, and a container that starts anew.
const CONTAINERS: &str = "
deploy CHARM -n 2
deploy actor:postgresql postgresql-k8s
deploy actor:client shop --config database=shop
integrate pgbouncer-k8s:backend-database postgresql-k8s
integrate pgbouncer-k8s:database shop
settle
config pgbouncer-k8s pool_mode=transaction
settle
config pgbouncer-k8s listen_port=6543
settle
restart-container pgbouncer-k8s/1
settle
pooler pgbouncer-k8s
expect-not 0/2
";

#[test]
fn explain_lists_exactly_what_the_next_hook_does() {
    let demo = include_str!("../demo.txt").replace("./target/stage/pgbouncer-k8s", "CHARM");
    let found = compare("demo", &demo, &Options::default());
    assert!(found.deeds.len() > 150, "only {} deeds", found.deeds.len());
    assert_eq!(
        found.unread.len(),
        4,
        "each unit reads the backend's secret once: {:?}",
        found.unread
    );
    let changed = ["drop the role", "install get_auth for", "make the auth", "make the database"];
    assert_eq!(Vec::from_iter(found.changed), changed);
}

#[test]
fn explain_lists_the_remaining_kinds_of_changes_too() {
    let found = compare("rest", REST, &Options { juju: "2.9.52".into(), ..Options::default() });
    assert!(found.deeds.len() > 100, "only {} deeds", found.deeds.len());
    assert!(found.unread.is_empty(), "there are no secrets: {:?}", found.unread);
    let changed = ["install get_auth for", "make the auth", "make the database", "remove the auth"];
    assert_eq!(Vec::from_iter(found.changed), changed);
}

#[test]
fn in_containers_explain_changes_nothing_and_lists_the_changes() {
    if let Err(why) = pebble_of(PEBBLE) {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        writeln!(std::io::stderr(), "NOT RUN in containers: {why}").expect("standard error");
        return;
    }
    let options = Options { containers: Some(PEBBLE.to_owned()), ..Options::default() };
    let found = compare("containers", CONTAINERS, &options);
    for deed in ["pgbouncer: reload instance 0", "pgbouncer: restart instance 1"] {
        assert!(found.deeds.iter().any(|found| found == deed), "never {deed}");
    }
}

/// What came of a script.
#[derive(Default)]
struct Found {
    /// What was foreseen, of all hooks.
    deeds: Vec<String>,
    /// By unit and label, how often a secret was read for the first time.
    unread: BTreeMap<String, usize>,
    /// The effects that changed something in PostgreSQL, by their first words.
    changed: BTreeSet<String>,
}

/// Runs a script in which every hook is explained before it runs, and compares the two.
fn compare(name: &str, script: &str, options: &Options) -> Found {
    common::stage();
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explained").join(name);
    let _ = fs::remove_dir_all(&root);
    let (charm, traces) = (root.join("pgbouncer-k8s"), root.join("traces"));
    fs::create_dir_all(charm.join("bin")).expect("a directory");
    fs::create_dir_all(&traces).expect("a directory");
    for file in ["metadata.yaml", "config.yaml", "actions.yaml", "bin/pgbouncer-k8s"] {
        fs::copy(Path::new("pgbouncer-k8s").join(file), charm.join(file))
            .expect("the charm is staged");
    }
    let dispatch = charm.join("dispatch");
    let text = DISPATCH.replace("TRACES", &traces.display().to_string()).replace("CALLS", CALLS);
    fs::write(&dispatch, text).expect("a file");
    fs::set_permissions(&dispatch, fs::Permissions::from_mode(0o755)).expect("our file");

    let script = script.replace("CHARM", &charm.display().to_string());
    let ran = run_script(&script, options).expect("the script can run");
    assert!(ran.failure.is_none(), "{:?}\n{}", ran.failure, ran.text);

    let mut hooks: Vec<PathBuf> =
        files(&traces).filter(|path| path.extension() == Some("hook".as_ref())).collect();
    hooks.sort();
    let mut found = Found::default();
    for hook in hooks {
        let name = fs::read_to_string(&hook).expect("a file");
        let name = name.trim();
        let run = Trace::read(&hook.with_extension("run"));
        let mut rehearsals = vec!["explain"];
        if hook.with_extension("unread").exists() {
            rehearsals.push("again");
            for label in &told(&hook.with_extension("unread"), "unread") {
                assert!(run.reads(label), "{name} did not read {label}");
                let unit = name.split(' ').next().unwrap_or_default();
                *found.unread.entry(format!("{unit} {label}")).or_default() += 1;
            }
        }
        for rehearsal in rehearsals {
            let changes = Trace::read(&hook.with_extension(rehearsal)).changes();
            assert_eq!(changes, Vec::<String>::new(), "explain changed something before {name}");
        }
        let answer = hook.with_extension("json");
        assert_eq!(
            told(&answer, "unread"),
            Vec::<String>::new(),
            "{name}: nothing is left to be read"
        );
        let listed = told(&answer, "changes");
        found.deeds.extend(listed.iter().cloned());
        let (sql, others): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|deed| deed.starts_with("postgresql: "));
        assert_eq!(others, run.deeds(), "{name}");
        assert_eq!(sql, done(&sql, &run.sql(), &mut found.changed), "{name}");
    }
    assert!(
        found.unread.values().all(|times| *times == 1),
        "a secret is read for the first time once: {:?}",
        found.unread
    );
    found
}

/// A list of what explain printed; of deeds `where: what`.
fn told(answer: &Path, list: &str) -> Vec<String> {
    let text = fs::read_to_string(answer).expect("what explain printed");
    let answer: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let text = |value: &Value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => format!("{}: {}", text_of(&value["where"]), text_of(&value["what"])),
    };
    answer[list].as_array().expect("a list").iter().map(text).collect()
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Those of the listed effects that were done, and then what else was said to PostgreSQL: each
/// begins with its questions, and what is changed after them is what it may change.
fn done(listed: &[String], said: &[Sql], changed: &mut BTreeSet<String>) -> Vec<String> {
    let mut done = Vec::new();
    let mut said = said.iter().filter_map(sign).peekable();
    'listed: for effect in listed {
        let (asks, may_follow) = signs(effect);
        for ask in asks {
            if said.next_if_eq(&ask).is_none() {
                break 'listed;
            }
            while said
                .next_if(|sign| may_follow.iter().any(|begin| sign.starts_with(begin)))
                .is_some()
            {
                changed.insert(effect.split(' ').skip(1).take(3).collect::<Vec<_>>().join(" "));
            }
        }
        done.push(effect.clone());
    }
    done.extend(said);
    done
}

/// What an effect begins with, or what it changes.
fn sign(sql: &Sql) -> Option<String> {
    match sql {
        Sql::Changes(text) => Some(text.clone()),
        Sql::Asks(text, values) if text.ends_with("pg_authid WHERE rolname = $1") => {
            Some(format!("asks for role {}", values[0]))
        }
        Sql::Asks(text, values) if text.ends_with("WHERE datname = $1 AND datallowconn") => {
            Some(format!("asks for database {}", values[0]))
        }
        Sql::Asks(text, _) if text.contains("NOT rolname::text = ANY ($2") => {
            Some("asks for roles by their mark".to_owned())
        }
        Sql::Asks(..) => None,
    }
}

/// The questions an effect begins with, and how that begins which it may then change.
fn signs(effect: &str) -> (Vec<String>, Vec<String>) {
    let role = |role: &str| vec![format!("asks for role {role}")];
    let gone = |role: &str| {
        vec![
            format!("ALTER ROLE \"{role}\" NOLOGIN"),
            "REVOKE CONNECT ON DATABASE".to_owned(),
            "SELECT pg_catalog.pg_terminate_backend(pid)".to_owned(),
            format!("REASSIGN OWNED BY \"{role}\""),
            format!("DROP OWNED BY \"{role}\"; DROP ROLE"),
        ]
    };
    match effect.split(' ').skip(1).collect::<Vec<_>>()[..] {
        ["make", "the", "auth", "role", name] => (
            role(name),
            ["CREATE", "ALTER"]
                .map(|how| format!("{how} ROLE \"{name}\" LOGIN NOSUPERUSER"))
                .into(),
        ),
        ["remove", "the", "auth", "role", name, ..] => {
            let removed = [
                format!("ALTER ROLE \"{name}\" NOLOGIN"),
                format!("DROP FUNCTION IF EXISTS \"{name}\".get_auth"),
                format!("REASSIGN OWNED BY \"{name}\""),
            ];
            (role(name), removed.into())
        }
        ["install", "get_auth", "for", user, "in", ref databases @ ..] => (
            databases
                .iter()
                .map(|name| format!("asks for database {}", name.trim_end_matches(',')))
                .collect(),
            vec![format!("DROP SCHEMA IF EXISTS \"{user}\" CASCADE; CREATE SCHEMA \"{user}\"")],
        ),
        ["make", "the", "database", database, "and", "the", "role", name] => (
            role(name),
            vec![
                format!("CREATE DATABASE {database}"),
                format!("REVOKE ALL ON DATABASE {database}"),
                format!("GRANT ALL ON DATABASE {database}"),
                "CREATE ROLE \"pgbouncer_heir_".to_owned(),
                format!("CREATE ROLE \"{name}\" LOGIN PASSWORD"),
                format!("ALTER ROLE \"{name}\" LOGIN PASSWORD"),
                format!("ALTER ROLE \"{name}\" NOSUPERUSER"),
                format!("ALTER ROLE \"{name}\" INHERIT"),
            ],
        ),
        ["drop", "the", "role", name] => (role(name), gone(name)),
        ["drop", "the", "roles", ..] => {
            let begins =
                |sign: String| sign.split("relation_id_").next().unwrap_or_default().to_owned();
            let gone = gone("relation_id_").into_iter().map(begins).collect();
            (vec!["asks for roles by their mark".to_owned()], gone)
        }
        _ => (Vec::new(), Vec::new()),
    }
}

//! What `explain` lists is what then happens: for every hook of the demo it is asked first, and the hook itself then runs
//! under `strace`. Of the run the tools it starts, the files it replaces, its signals and its SQL are read from the trace.

#![expect(clippy::disallowed_methods, reason = "the test reads traces")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jujusim::{Options, run_script};
use pgbouncer_k8s::event::RelationId;
use serde_json::Value;

/// The hook tools that change nothing, and the log.
const READ: [&str; 12] = [
    "config-get",
    "goal-state",
    "is-leader",
    "juju-log",
    "network-get",
    "pgbouncer",
    "relation-get",
    "relation-ids",
    "relation-list",
    "secret-get",
    "secret-info-get",
    "state-get",
];
/// How the charm's own log lines of what it does in PostgreSQL begin.
const SQL_EFFECTS: [&str; 6] = [
    "make the auth role ",
    "install get_auth ",
    "remove the auth role ",
    "drop the roles ",
    "make the database ",
    "drop the role ",
];
/// What changes something in PostgreSQL.
const SQL_VERBS: [&str; 7] =
    ["CREATE ", "ALTER ROLE", "GRANT ", "REVOKE ", "DROP ", "COMMENT ON", "REASSIGN "];

/// Explains the hook, traced, and then runs it, traced.
const DISPATCH: &str = "#!/bin/sh
out=TRACES/$(date +%s%N)
echo \"$JUJU_UNIT_NAME ${JUJU_DISPATCH_PATH##*/}\" >$out.hook
trace='execve,clone,clone3,vfork,write,writev,sendto,sendmsg,openat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,kill'
strace -qq -ff -s 1000000 -e signal=none -e trace=$trace -o $out.explain ./bin/pgbouncer-k8s explain --format json >$out.json || exit 9
exec strace -qq -ff -s 1000000 -e signal=none -e trace=$trace -o $out.run ./bin/pgbouncer-k8s
";

/// What else changes what a unit does: a port, which takes another process, new passwords, a request that is refused, a
/// relation that is not served, a refresh, and the end of the backend. On Juju without secrets.
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

#[test]
fn what_explain_lists_is_what_the_hook_then_does() {
    let demo = include_str!("../demo.txt").replace("./target/stage/pgbouncer-k8s", "CHARM");
    let (deeds, unread) = compare("demo", &demo, &Options::default());
    assert!(deeds > 200, "only {deeds} deeds");
    assert_eq!(unread.len(), 4, "each unit reads the backend's secret once: {unread:?}");
}

#[test]
fn the_rest_of_what_a_hook_does_is_foreseen_too() {
    let (deeds, unread) = compare("rest", REST, &Options { juju: "2.9.52".into(), ..Options::default() });
    assert!(deeds > 100, "only {deeds} deeds");
    assert!(unread.is_empty(), "there are no secrets: {unread:?}");
}

/// Runs a script in which every hook is explained before it runs, and compares the two. How many deeds were foreseen, and by
/// unit and label which secrets were read for the first time.
fn compare(name: &str, script: &str, options: &Options) -> (usize, BTreeMap<String, usize>) {
    common::stage();
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explained").join(name);
    let _ = fs::remove_dir_all(&root);
    let (charm, traces) = (root.join("pgbouncer-k8s"), root.join("traces"));
    fs::create_dir_all(charm.join("bin")).expect("a directory");
    fs::create_dir_all(&traces).expect("a directory");
    for file in ["metadata.yaml", "config.yaml", "actions.yaml", "bin/pgbouncer-k8s"] {
        fs::copy(Path::new("pgbouncer-k8s").join(file), charm.join(file)).expect("the charm is staged");
    }
    let dispatch = charm.join("dispatch");
    fs::write(&dispatch, DISPATCH.replace("TRACES", &traces.display().to_string())).expect("a file");
    fs::set_permissions(&dispatch, fs::Permissions::from_mode(0o755)).expect("our file");

    let script = script.replace("CHARM", &charm.display().to_string());
    let found = run_script(&script, options).expect("the script can run");
    assert!(found.failure.is_none(), "{:?}\n{}", found.failure, found.text);

    let mut hooks: Vec<PathBuf> =
        files(&traces).filter(|path| path.extension() == Some("hook".as_ref())).collect();
    hooks.sort();
    let (mut deeds, mut unread) = (0, BTreeMap::<String, usize>::new());
    for hook in hooks {
        let name = fs::read_to_string(&hook).expect("a file");
        let name = name.trim();
        let text = fs::read_to_string(hook.with_extension("json")).expect("what explain printed");
        let told: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
        let rehearsal = Trace::read(&hook.with_extension("explain"));
        assert_eq!(rehearsal.changes(), Vec::<String>::new(), "explain changed something before {name}");
        let run = Trace::read(&hook.with_extension("run"));

        let unknown = told["unread"].as_array().expect("a list");
        if unknown.is_empty() {
            let listed = told["deeds"].as_array().expect("a list");
            deeds += listed.len();
            let listed =
                listed.iter().map(|deed| format!("{}: {}", text_of(&deed["where"]), text_of(&deed["what"])));
            assert_eq!(listed.collect::<Vec<_>>(), run.deeds(), "{name}");
        }
        for label in unknown {
            assert!(run.reads(text_of(label)), "{name} did not read {label}");
            let unit = name.split(' ').next().unwrap_or_default();
            *unread.entry(format!("{unit} {label}")).or_default() += 1;
        }
    }
    assert!(unread.values().all(|times| *times == 1), "a secret is read for the first time once: {unread:?}");
    (deeds, unread)
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path())
}

/// The system calls of one process, in order, and what the processes it started were.
#[derive(Default)]
struct Trace {
    calls: Vec<Call>,
    /// By process id: the arguments.
    programs: BTreeMap<String, Vec<String>>,
}

/// One call: its name, the texts among its arguments, and its line.
struct Call {
    name: String,
    texts: Vec<String>,
    line: String,
}

impl Trace {
    /// Reads the files `PREFIX.PID`, of the charm's process and of those it started.
    fn read(prefix: &Path) -> Trace {
        let mut trace = Trace::default();
        let name = prefix.file_name().and_then(|name| name.to_str()).expect("a name");
        for path in files(prefix.parent().expect("a directory")) {
            let Some(pid) =
                path.file_name().and_then(|file| file.to_str()?.strip_prefix(name)?.strip_prefix('.'))
            else {
                continue;
            };
            let bytes = fs::read(&path).expect("a trace");
            let calls: Vec<Call> = String::from_utf8_lossy(&bytes).lines().filter_map(call).collect();
            let ran = calls.iter().find(|call| call.name == "execve" && call.line.ends_with("= 0"));
            let Some(program) = ran.map(|call| call.texts[1..].to_vec()) else { continue };
            if program[0].ends_with("/pgbouncer-k8s") {
                trace.calls = calls;
            } else {
                trace.programs.insert(pid.to_owned(), program);
            }
        }
        assert!(!trace.calls.is_empty(), "no trace of the charm at {}", prefix.display());
        trace
    }

    /// The tools and programs the charm started, in order.
    fn started(&self) -> impl Iterator<Item = (usize, &[String])> {
        self.calls.iter().enumerate().filter_map(|(at, call)| {
            let is_new = ["clone", "clone3", "vfork"].contains(&call.name.as_str());
            let pid = call.line.rsplit("= ").next().filter(|_| is_new)?;
            Some((at, self.programs.get(pid)?.as_slice()))
        })
    }

    /// Whether the secret of this label was read.
    fn reads(&self, label: &str) -> bool {
        self.started().any(|(_, args)| args[0] == "secret-get" && args.iter().any(|arg| arg == label))
    }

    /// Everything that would not be left as it was.
    fn changes(&self) -> Vec<String> {
        let started = self.started().filter(|(_, args)| !READ.contains(&args[0].as_str()));
        let started = started.map(|(_, args)| args.join(" "));
        // A label for a URI makes Juju keep a record of the reader, and so does a look at the newest without `--peek`.
        let has = |args: &[String], begin: &str| args.iter().any(|arg| arg.starts_with(begin));
        let registered = self.started().filter(|(_, args)| {
            args[0] == "secret-get" && (!has(args, "--peek") || has(args, "secret:") && has(args, "--label"))
        });
        let registered = registered.map(|(_, args)| args.join(" "));
        let calls = self.calls.iter().filter(|call| match call.name.as_str() {
            "openat" => {
                !call.line.contains("\"/dev/null\"")
                    && ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| call.line.contains(flag))
            }
            "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" | "mkdir" | "mkdirat" | "kill" => {
                true
            }
            _ => is_sql(call),
        });
        started.chain(registered).chain(calls.map(|call| call.line.clone())).collect()
    }

    /// What the run did, in the words and the order of `explain`.
    fn deeds(&self) -> Vec<String> {
        let (mut unit, mut postgresql, mut pgbouncer, mut juju) =
            (Vec::new(), Vec::new(), Vec::<(String, &str)>::new(), Vec::new());
        let (mut content, mut has_sql) = (String::new(), false);
        let started: BTreeMap<usize, &[String]> = self.started().collect();
        for (at, call) in self.calls.iter().enumerate() {
            let text = call.texts.first().map_or("", String::as_str);
            match call.name.as_str() {
                "write" if call.line.starts_with("write(1,") => {
                    let lines =
                        text.lines().filter(|line| SQL_EFFECTS.iter().any(|effect| line.starts_with(effect)));
                    postgresql.extend(lines.map(|line| format!("postgresql: {line}")));
                }
                // Before a tool it is the content of a secret, after it what the tool reads.
                "write" if text.starts_with('{') => text.clone_into(&mut content),
                "openat" if text.ends_with("/.attempts") && call.line.contains("O_APPEND") => {
                    unit.push("unit: note that database:".to_owned());
                }
                "write" if text.trim().parse::<RelationId>().is_ok() => {
                    if let Some(note) = unit.last_mut().filter(|note| note.ends_with(':')) {
                        *note += text.trim();
                        *note += " is about to be answered";
                    }
                }
                "unlink" if text.ends_with("/.attempts") => {
                    unit.push("unit: clear the notes of who was about to be answered".to_owned());
                }
                "rename" | "renameat" | "renameat2" => {
                    let to = call.texts.last().expect("a path");
                    if let Some(instance) =
                        to.strip_suffix("/pgbouncer.ini").and_then(|path| path.rsplit('_').next())
                    {
                        pgbouncer.push((instance.to_owned(), "reload"));
                    }
                }
                "kill" if call.line.contains("SIGTERM") => {
                    pgbouncer.last_mut().expect("a file first").1 = "restart";
                }
                _ => has_sql |= is_sql(call),
            }
            if let Some(args) = started.get(&at).filter(|args| !READ.contains(&args[0].as_str())) {
                if ["relation-set", "state-set"].contains(&args[0].as_str()) {
                    let later = self.calls[at..].iter().find(|call| {
                        call.name == "write" && call.texts.first().is_some_and(|text| text.starts_with('{'))
                    });
                    content.clone_from(&later.expect("what the tool reads").texts[0]);
                }
                let is_of_new =
                    juju.last().is_some_and(|last: &String| last.starts_with("juju: secret-add "));
                let mut deed = tool(args, &content);
                // Its URI is not known before.
                if is_of_new
                    && let [grant, uri, ..] = args
                    && grant == "secret-grant"
                {
                    deed = deed.replace(uri, "secret:new");
                }
                juju.push(deed);
            }
        }
        assert!(!has_sql || !postgresql.is_empty(), "SQL that changes something, and no effect that says so");
        let pgbouncer =
            pgbouncer.into_iter().map(|(instance, how)| format!("pgbouncer: {how} instance {instance}"));
        unit.into_iter().chain(postgresql).chain(pgbouncer).chain(juju).collect()
    }
}

/// A call of a tool as `explain` lists it: what is read from a file as keys.
fn tool(args: &[String], content: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut args = args.iter();
    let mut reads_file = false;
    while let Some(arg) = args.next() {
        if arg == "--file" {
            args.next();
            reads_file = true;
        } else {
            words.push(arg.clone());
        }
    }
    if reads_file {
        let texts: BTreeMap<String, String> = serde_json::from_str(content).expect("a map of texts");
        words.extend(
            texts.iter().map(|(key, value)| format!("{key}={}", if value.is_empty() { "" } else { "…" })),
        );
    }
    format!("juju: {}", words.join(" "))
}

/// Whether a call sends SQL that changes something.
fn is_sql(call: &Call) -> bool {
    let sends = ["write", "writev", "sendto", "sendmsg"].contains(&call.name.as_str());
    let is_log = call.line.starts_with("write(1,") || call.line.starts_with("write(2,");
    sends && !is_log && call.texts.iter().any(|text| SQL_VERBS.iter().any(|verb| text.contains(verb)))
}

/// `name(…, "text", …) = result`, with the escapes of C in its texts.
fn call(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let mut texts = Vec::new();
    let mut bytes = rest.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'"' {
            continue;
        }
        let mut text = Vec::new();
        while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
            if byte != b'\\' {
                text.push(byte);
                continue;
            }
            match bytes.next()? {
                b'n' => text.push(b'\n'),
                b't' => text.push(b'\t'),
                b'r' => text.push(b'\r'),
                b'v' => text.push(0x0b),
                b'f' => text.push(0x0c),
                first @ b'0'..=b'7' => {
                    let mut value = u32::from(first - b'0');
                    for _ in 0..2 {
                        let Some(digit) = bytes.next_if(|byte| (b'0'..=b'7').contains(byte)) else { break };
                        value = value * 8 + u32::from(digit - b'0');
                    }
                    text.push(u8::try_from(value).ok()?);
                }
                other => text.push(other),
            }
        }
        texts.push(String::from_utf8_lossy(&text).into_owned());
    }
    Some(Call { name: name.to_owned(), texts, line: line.to_owned() })
}

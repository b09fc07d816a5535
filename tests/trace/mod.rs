//! What a process did, from the system calls that `strace` noted of it.

#![expect(clippy::disallowed_methods, reason = "the tests read traces")]

mod talk;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pgbouncer_k8s::event::RelationId;
use serde_json::Value;

pub(crate) use self::talk::Sql;
use self::talk::{Said, Talks};

/// The calls that are noted.
pub(crate) const CALLS: &str = "execve,clone,clone3,vfork,connect,write,writev,sendto,sendmsg,openat,rename,renameat,\
                                renameat2,unlink,unlinkat,mkdir,mkdirat,kill";

/// The programs that change nothing, and the log.
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

/// The system calls of one process, in order, and what the processes it started were.
#[derive(Default)]
pub(crate) struct Trace {
    calls: Vec<Call>,
    /// By process id: the arguments.
    programs: BTreeMap<String, Vec<String>>,
}

/// One call: its name, the texts among its arguments, and its line.
struct Call {
    name: String,
    texts: Vec<Vec<u8>>,
    line: String,
}

impl Call {
    fn text(&self, at: usize) -> Cow<'_, str> {
        self.texts.get(at).map_or(Cow::Borrowed(""), |text| String::from_utf8_lossy(text))
    }

    /// The first argument, where that is a file descriptor.
    fn descriptor(&self) -> &str {
        self.line[self.name.len() + 1..].split([',', ')']).next().unwrap_or_default()
    }

    fn is_rename(&self) -> bool {
        ["rename", "renameat", "renameat2"].contains(&self.name.as_str())
    }
}

impl Trace {
    /// Reads the files `PREFIX.PID`, of the charm's process and of those it started.
    pub(crate) fn read(prefix: &Path) -> Self {
        let mut trace = Self::default();
        let name = prefix.file_name().and_then(|name| name.to_str()).expect("a name");
        for path in files(prefix.parent().expect("a directory")) {
            let Some(pid) = path
                .file_name()
                .and_then(|file| file.to_str()?.strip_prefix(name)?.strip_prefix('.'))
            else {
                continue;
            };
            let bytes = fs::read(&path).expect("a trace");
            let calls: Vec<Call> =
                String::from_utf8_lossy(&bytes).lines().filter_map(call).collect();
            let ran = calls.iter().find(|call| call.name == "execve" && call.line.ends_with("= 0"));
            let Some(ran) = ran else { continue };
            let program: Vec<String> =
                (1..ran.texts.len()).map(|at| ran.text(at).into_owned()).collect();
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

    /// What it said on its connections, each with the number of the call.
    fn said(&self) -> Vec<(usize, Said)> {
        let mut talks = Talks::default();
        let mut said = Vec::new();
        for (at, call) in self.calls.iter().enumerate() {
            match call.name.as_str() {
                "connect" => talks.begin(call.descriptor(), &call.text(0), &call.line),
                "write" | "writev" | "sendto" | "sendmsg" => {
                    said.extend(
                        talks.go_on(call.descriptor(), &call.texts.concat()).map(|said| (at, said)),
                    );
                }
                _ => {}
            }
        }
        said
    }

    /// What it said to PostgreSQL.
    pub(crate) fn sql(&self) -> Vec<Sql> {
        let sql = |(_, said)| if let Said::Sql(sql) = said { Some(sql) } else { None };
        self.said().into_iter().filter_map(sql).collect()
    }

    /// Whether the secret of this label was read.
    pub(crate) fn reads(&self, label: &str) -> bool {
        self.started()
            .any(|(_, args)| args[0] == "secret-get" && args.iter().any(|arg| arg == label))
    }

    /// Everything that would not be left as it was.
    pub(crate) fn changes(&self) -> Vec<String> {
        let started = self.started().filter(|(_, args)| !READ.contains(&args[0].as_str()));
        let started = started.map(|(_, args)| args.join(" "));
        // A label for a URI makes Juju keep a record of the reader, and so does a look at the
        // newest without `--peek`.
        let has = |args: &[String], begin: &str| args.iter().any(|arg| arg.starts_with(begin));
        let registered = self.started().filter(|(_, args)| {
            args[0] == "secret-get"
                && (!has(args, "--peek") || has(args, "secret:") && has(args, "--label"))
        });
        let registered = registered.map(|(_, args)| args.join(" "));
        let calls = self.calls.iter().filter(|call| match call.name.as_str() {
            "openat" => {
                !call.line.contains("\"/dev/null\"")
                    && ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| call.line.contains(flag))
            }
            "unlink" | "unlinkat" | "mkdir" | "mkdirat" | "kill" => true,
            _ => call.is_rename(),
        });
        let calls = calls.map(|call| call.line.clone());
        let said = self.said().into_iter().filter_map(|(_, said)| match said {
            Said::Sql(Sql::Asks(..)) => None,
            Said::Sql(Sql::Changes(text)) => Some(text),
            Said::Console(command) => (!command.starts_with("SHOW ")).then_some(command),
            // Which PgBouncer a container has, only a program can tell that runs there.
            Said::Pebble { target, body } => (target != "/v1/exec"
                || !["pgbouncer", "pgbouncer_exporter"].iter().any(|program| {
                    body.contains(&format!(r#""command":["{program}","--version"]"#))
                }))
            .then(|| format!("{target} {body}")),
        });
        started.chain(registered).chain(calls).chain(said).collect()
    }

    /// What the run did on its unit, to PgBouncer and to Juju, in the words and the order of
    /// `explain`.
    pub(crate) fn deeds(&self) -> Vec<String> {
        let mut unit = Vec::new();
        let mut juju = Vec::new();
        let mut content = String::new();
        let started: BTreeMap<usize, &[String]> = self.started().collect();
        for (at, call) in self.calls.iter().enumerate() {
            let text = call.text(0);
            match call.name.as_str() {
                // Before a tool it is the content of a secret, after it what the tool reads.
                "write" if text.starts_with('{') => content = text.into_owned(),
                "openat" if text.ends_with("/.attempts") && call.line.contains("O_APPEND") => {
                    unit.push("unit: record an attempt to answer database:".to_owned());
                }
                "write" if text.trim().parse::<RelationId>().is_ok() => {
                    if let Some(note) = unit.last_mut().filter(|note| note.ends_with(':')) {
                        *note += text.trim();
                    }
                }
                "unlink" if text.ends_with("/.attempts") => {
                    unit.push("unit: clear the records of attempted answers".to_owned());
                }
                _ => {}
            }
            if let Some(args) = started.get(&at).filter(|args| !READ.contains(&args[0].as_str())) {
                if ["relation-set", "state-set"].contains(&args[0].as_str()) {
                    let later = self.calls[at..]
                        .iter()
                        .find(|call| call.name == "write" && call.text(0).starts_with('{'));
                    content = later.expect("what the tool reads").text(0).into_owned();
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
        unit.into_iter().chain(self.loads()).chain(juju).collect()
    }

    /// The processes that were given something, in order, and how. One counts when it was told: a
    /// file that was replaced and of which nobody was told, or a process that is noted to have
    /// loaded it untold, is something else.
    fn loads(&self) -> Vec<String> {
        let mut steps: Vec<(String, Vec<&str>)> = Vec::new();
        let mut step = |instance: &str, step| match steps.iter_mut().find(|(of, _)| of == instance)
        {
            Some((_, steps)) => steps.push(step),
            None => steps.push((instance.to_owned(), vec![step])),
        };
        let said = self.said();
        // What a signal and a command on a console are about is told by the path before them.
        let mut last = String::new();
        for (at, call) in self.calls.iter().enumerate() {
            let path =
                call.texts.last().map_or(Cow::Borrowed(""), |text| String::from_utf8_lossy(text));
            let names_path =
                call.is_rename() || ["openat", "connect"].contains(&call.name.as_str());
            if let Some(instance) = instance(&path).filter(|_| names_path) {
                instance.clone_into(&mut last);
            }
            match call.name.as_str() {
                _ if call.is_rename() && path.ends_with("/pgbouncer.ini") => step(&last, "ini"),
                _ if call.is_rename() && path.ends_with("/loaded") => step(&last, "loaded"),
                "kill" if call.line.contains("SIGHUP") => step(&last, "reload"),
                "kill" if call.line.contains("SIGTERM") => step(&last, "restart"),
                _ => {}
            }
            for (_, said) in said.iter().filter(|(of, _)| *of == at) {
                match said {
                    Said::Console(command) if command == "RELOAD" => step(&last, "reload"),
                    Said::Pebble { target, body } => order(target, body, &mut step),
                    _ => {}
                }
            }
        }
        let load = |(instance, steps): (String, Vec<&str>)| {
            let first = |step: &str| steps.iter().position(|found| *found == step);
            let how = if first("restart").is_some() { "restart" } else { "reload" };
            let (ini, told, loaded) = (first("ini"), first(how), first("loaded"));
            // One whose file was right already is told, too.
            let is_right = told.is_some() && ini < told && loaded > told;
            let how = if is_right { how.to_owned() } else { steps.join(", ") };
            format!("pgbouncer: {how} instance {instance}")
        };
        steps.into_iter().map(load).collect()
    }
}

/// What an order to Pebble is to an instance.
fn order(target: &str, body: &str, step: &mut impl FnMut(&str, &'static str)) {
    if target == "/v1/files" && body.contains(r#""action":"write""#) {
        for (ending, name) in [("/pgbouncer.ini", "ini"), ("/loaded", "loaded")] {
            for path in body.split('"').filter(|text| text.ends_with(ending)) {
                step(instance(path).expect("a file of an instance"), name);
            }
        }
        return;
    }
    let Ok(order) = serde_json::from_str::<Value>(body) else { return };
    let how = match (order["signal"].as_str(), order["action"].as_str()) {
        (Some("SIGHUP"), _) => "reload",
        (Some("SIGTERM"), _) | (_, Some("restart")) => "restart",
        _ => return,
    };
    for service in order["services"].as_array().into_iter().flatten() {
        if let Some(instance) = service.as_str().and_then(|name| name.strip_prefix("pgbouncer_")) {
            step(instance, how);
        }
    }
}

/// Whose file, or socket, this is.
fn instance(path: &str) -> Option<&str> {
    let (_, rest) = path
        .split_once("/instance_")
        .or_else(|| path.split_once("/containers/pgbouncer/pgbouncer/"))?;
    rest.split('/').next().filter(|number| number.parse::<u16>().is_ok())
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
        let texts: BTreeMap<String, String> =
            serde_json::from_str(content).expect("a map of texts");
        words.extend(
            texts
                .iter()
                .map(|(key, value)| format!("{key}={}", if value.is_empty() { "" } else { "…" })),
        );
    }
    format!("juju: {}", words.join(" "))
}

pub(crate) fn files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path())
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
                        let Some(digit) = bytes.next_if(|byte| (b'0'..=b'7').contains(byte)) else {
                            break;
                        };
                        value = value * 8 + u32::from(digit - b'0');
                    }
                    text.push(u8::try_from(value).ok()?);
                }
                other => text.push(other),
            }
        }
        texts.push(text);
    }
    Some(Call { name: name.to_owned(), texts, line: line.to_owned() })
}

//! The hook tools, with the answers of Juju's unit agent.
//!
//! Parsing, output, error texts and exit codes are Juju's (package `jujuc`). Where Juju refuses
//! only at the end of the hook, so does the simulator (`crate::commit`).

mod content;
mod files;
mod flags;
mod format;
pub(crate) mod relations;
pub(crate) mod secrets;
mod unit;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::events::Event;
use crate::model::{Bag, Model, Secret, Status, UnitName};
use crate::ports::OpenedPort;
use crate::secret::SecretUpdate;
use crate::version::Version;

use flags::{Args, Flag};
use format::Shown;

/// One call of a hook tool, as sent over the unit's socket.
#[derive(Clone, Debug)]
pub struct Request {
    /// `JUJU_CONTEXT_ID`.
    pub context: String,
    /// The caller's working directory.
    pub dir: String,
    /// The tool's name.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// All of standard input; sent only after the answer asked for it.
    pub stdin: Option<String>,
}

/// The output and exit code of a hook tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The exit code: 0, 1 for an error while running, 2 for a usage error.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The tool needs standard input: the caller sends the request again with it.
    pub wants_stdin: bool,
}

/// Why a tool failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Wrong flags or arguments: exit code 2.
    Usage(String),
    /// An error while running: exit code 1.
    Failed(String),
    /// The tool needs standard input first.
    Stdin,
    /// `--help`.
    Help,
}

impl Refusal {
    /// Prefixes the error with what failed.
    fn because(self, what: &str) -> Refusal {
        match self {
            Refusal::Failed(text) => Refusal::Failed(format!("{what}: {text}")),
            other => other,
        }
    }
}

type Result<T> = std::result::Result<T, Refusal>;

fn usage<T>(text: impl Into<String>) -> Result<T> {
    Err(Refusal::Usage(text.into()))
}

fn failed<T>(text: impl Into<String>) -> Result<T> {
    Err(Refusal::Failed(text.into()))
}

/// What a tool returns on success.
enum Output {
    /// No output.
    Silent,
    /// A value to be formatted.
    Value(Shown),
    /// Text, printed as it is.
    Text(String),
}

/// A hook while it runs: the unit, the event, and the buffered effects.
pub(crate) struct Context {
    pub(crate) id: String,
    pub(crate) unit: UnitName,
    pub(crate) event: Event,
    pub(crate) hook: String,
    pub(crate) buffer: Buffer,
    /// Whether the unit was the leader when the hook began: then the agent knows the application's
    /// secrets.
    led: bool,
    /// Whether `is-leader` said no: then it says no until the hook ends.
    lost: bool,
    /// Databags as this hook first read them, by relation and owner.
    fetched: BTreeMap<(u32, String), Bag>,
    /// The configuration as this hook first read it.
    config: Option<BTreeMap<String, Value>>,
    /// The status at the first `status-get`; `status-set` does not change it.
    status: Option<Status>,
    pub(crate) log: Vec<String>,
    pub(crate) action: ActionResult,
}

/// Effects that are committed when the hook exits with 0.
#[derive(Default)]
pub(crate) struct Buffer {
    pub(crate) unit_bags: BTreeMap<u32, Bag>,
    pub(crate) app_bags: BTreeMap<u32, Bag>,
    pub(crate) state: Option<Bag>,
    pub(crate) ports: Option<BTreeSet<OpenedPort>>,
    pub(crate) secrets: PendingSecrets,
}

#[derive(Default)]
pub(crate) struct PendingSecrets {
    pub(crate) creates: Vec<(String, Secret)>,
    pub(crate) updates: BTreeMap<String, SecretUpdate>,
    /// Owned secrets whose pending revision was read with `--refresh`.
    pub(crate) tracking: BTreeSet<String>,
    pub(crate) grants: Vec<(String, String, u32)>,
    pub(crate) revokes: Vec<(String, String)>,
    /// Revisions to remove; `None` removes the whole secret.
    pub(crate) removes: BTreeMap<String, Option<BTreeSet<u32>>>,
}

/// The results of an action.
#[derive(Default)]
pub(crate) struct ActionResult {
    /// Results by their path, such as `said.to`. A path holds either a text or longer paths.
    pub(crate) results: BTreeMap<String, String>,
    pub(crate) failure: Option<String>,
}

/// The function of a tool, which gets the model and the hook's own view of it.
type Run = fn(&mut Model, &mut Context, &Args<'_>) -> Result<Output>;

/// A hook tool.
struct Tool {
    name: &'static str,
    /// What follows the name, in `--help`.
    usage: &'static str,
    flags: &'static [Flag],
    /// Whether a release has the tool.
    known: fn(Version) -> bool,
    /// `None` if the tool is not modelled.
    run: Option<Run>,
}

impl Tool {
    const fn new(
        name: &'static str,
        usage: &'static str,
        flags: &'static [Flag],
        run: Run,
    ) -> Tool {
        Tool { name, usage, flags, known: always, run: Some(run) }
    }

    const fn refused(name: &'static str, known: fn(Version) -> bool) -> Tool {
        Tool { name, usage: "", flags: &[], known, run: None }
    }

    const fn when(self, known: fn(Version) -> bool) -> Tool {
        Tool { known, ..self }
    }
}

fn always(_: Version) -> bool {
    true
}

const NOT_MODELLED: &[Tool] = &[
    Tool::refused("juju-reboot", always),
    Tool::refused("credential-get", always),
    Tool::refused("resource-get", always),
    Tool::refused("storage-add", always),
    Tool::refused("storage-get", always),
    Tool::refused("storage-list", always),
    Tool::refused("payload-register", Version::has_pod_specs_and_payloads),
    Tool::refused("payload-unregister", Version::has_pod_specs_and_payloads),
    Tool::refused("payload-status-set", Version::has_pod_specs_and_payloads),
    Tool::refused("k8s-spec-set", Version::has_pod_specs_and_payloads),
    Tool::refused("k8s-spec-get", Version::has_pod_specs_and_payloads),
    Tool::refused("k8s-raw-set", Version::has_pod_specs_and_payloads),
    Tool::refused("k8s-raw-get", Version::has_pod_specs_and_payloads),
    Tool::refused("pod-spec-set", Version::has_pod_specs_and_payloads),
    Tool::refused("pod-spec-get", Version::has_pod_specs_and_payloads),
    Tool::refused("add-metric", Version::has_metrics),
];

/// The tools of this Juju version (runner/jujuc/server.go).
fn tools(version: Version) -> impl Iterator<Item = &'static Tool> {
    let all = [relations::TOOLS, unit::TOOLS, secrets::TOOLS, NOT_MODELLED];
    all.into_iter().flatten().filter(move |tool| (tool.known)(version))
}

/// The names under which this Juju version's unit agent links the hook tools.
pub(crate) fn names(version: Version) -> Vec<&'static str> {
    tools(version).map(|tool| tool.name).collect()
}

/// Runs one tool within a hook.
pub(crate) fn call(model: &mut Model, context: &mut Context, request: &Request) -> Answer {
    if request.context != context.id {
        let text = model.version.wrong_context_error(&context.id, &request.context);
        return refuse(1, &text);
    }
    let Some(tool) = tools(model.version).find(|tool| tool.name == request.command) else {
        return refuse(1, &format!("bad request: unknown command {:?}", request.command));
    };
    let Some(run) = tool.run else {
        return refuse(1, &format!("jujusim does not model {:?}", request.command));
    };
    let args = match Args::parse(request, tool.flags) {
        Ok(args) => args,
        Err(refusal) => return answer_refusal(refusal, tool),
    };
    // A tool without output accepts `--format`, with a warning when it runs.
    let mut complaint = String::new();
    if args.text("format").is_some() && !tool.flags.iter().any(|flag| flag.0 == flags::OUTPUT.0) {
        complaint = format!("--format flag deprecated for command {:?}", tool.name);
    }
    let mut answer = match run(model, context, &args).and_then(|output| print(output, &args)) {
        Ok(stdout) => Answer { stdout, ..Answer::default() },
        Err(refusal) => answer_refusal(refusal, tool),
    };
    if answer.code != 2 && !answer.wants_stdin {
        answer.stderr.insert_str(0, &complaint);
    }
    answer
}

fn answer_refusal(refusal: Refusal, tool: &Tool) -> Answer {
    match refusal {
        Refusal::Usage(text) => refuse(2, &text),
        Refusal::Failed(text) => refuse(1, &text),
        Refusal::Stdin => Answer { wants_stdin: true, ..Answer::default() },
        Refusal::Help => {
            let usage = format!("Usage: {} [options] {}", tool.name, tool.usage);
            Answer { stdout: format!("{}\n", usage.trim_end()), ..Answer::default() }
        }
    }
}

fn refuse(code: i32, text: &str) -> Answer {
    Answer { code, stderr: format!("ERROR {text}\n"), ..Answer::default() }
}

/// The text for standard output; with `--output` writes it to that file instead.
fn print(output: Output, args: &Args<'_>) -> Result<String> {
    let text = match output {
        Output::Silent => String::new(),
        Output::Text(text) => text,
        Output::Value(value) => value.render(args.format),
    };
    let Some(file) = args.text("output") else { return Ok(text) };
    let path = std::path::Path::new(&args.request.dir).join(file);
    match std::fs::write(&path, text) {
        Ok(()) => Ok(String::new()),
        Err(error) => failed(files::cannot_open(&path, &error)),
    }
}

impl ActionResult {
    /// Sets the value of a path; replaces a map at this path and a text at a prefix of it.
    fn set(&mut self, path: &str, value: &str) {
        let below = |short: &str, long: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'))
        };
        self.results.retain(|other, _| !below(path, other) && !below(other, path));
        self.results.insert(path.to_owned(), value.to_owned());
    }
}

impl Context {
    pub(crate) fn new(model: &Model, unit: &UnitName, event: &Event) -> Context {
        let hook = event.name(model, &unit.app);
        let random: u128 = rand::random();
        Context {
            id: format!("{unit}-{hook}-{random:032x}"),
            unit: unit.clone(),
            event: event.clone(),
            hook,
            buffer: Buffer::default(),
            led: model.is_leader(unit),
            lost: false,
            fetched: BTreeMap::new(),
            config: None,
            status: None,
            log: Vec::new(),
            action: ActionResult::default(),
        }
    }

    /// Whether the unit is the leader in this hook: checked each time, but never true again after
    /// it was false.
    fn leads(&mut self, model: &Model) -> bool {
        if !model.is_leader(&self.unit) {
            self.lost = true;
        }
        !self.lost
    }
}

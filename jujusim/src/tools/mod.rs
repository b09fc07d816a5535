//! The hook tools: what a charm calls, answered as Juju's unit agent answers.
//!
//! Parsing, output shapes, error texts and exit codes are Juju's (package `jujuc`); where Juju only refuses at the end of the
//! hook, so do we (`crate::commit`).

mod content;
mod files;
mod flags;
mod format;
pub(crate) mod relations;
pub(crate) mod secrets;
mod unit;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::events::Event;
use crate::model::{Bag, Model, Secret, Status, UnitName};
use crate::ports::OpenedPort;
use crate::secret::SecretUpdate;
use crate::version::Version;

use flags::{Args, Flag};
use format::Shown;

/// One call of a hook tool, as it comes over the unit's socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// `JUJU_CONTEXT_ID`.
    pub context: String,
    /// The caller's working directory.
    pub dir: String,
    /// The tool's name.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// All of standard input; sent only after an answer asked for it.
    pub stdin: Option<String>,
}

/// What a hook tool prints and returns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The exit code: 0, 1 for a failure while running, 2 for wrong usage.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The tool wants to read standard input: send the request again with it.
    pub wants_stdin: bool,
}

/// A tool's refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Wrong flags or arguments: exit code 2.
    Usage(String),
    /// Failed while running: exit code 1.
    Failed(String),
    /// Needs standard input first.
    Stdin,
    /// `--help`.
    Help,
}

impl Refusal {
    /// A failure, with what it hindered before it.
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

/// What a tool returns when it ran.
enum Output {
    /// Nothing to print.
    Silent,
    /// A value to be formatted.
    Value(Shown),
    /// Text as it is.
    Text(String),
}

/// One hook while it runs: who runs, why, and the effects that wait for its end.
pub(crate) struct Context {
    pub(crate) id: String,
    pub(crate) unit: UnitName,
    pub(crate) event: Event,
    pub(crate) hook: String,
    pub(crate) buffer: Buffer,
    /// Whether the unit led when the hook began: then the agent knows the application's secrets.
    led: bool,
    /// Once `is-leader` said no it says no until the hook ends.
    lost: bool,
    /// Bags as this hook first saw them, by relation and owner.
    fetched: BTreeMap<(u32, String), Bag>,
    /// The configuration as this hook first saw it.
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
    /// None: the whole secret.
    pub(crate) removes: BTreeMap<String, Option<BTreeSet<u32>>>,
}

/// What an action said.
#[derive(Default)]
pub(crate) struct ActionResult {
    /// By path: `said.to`. A path holds either a text or longer paths.
    pub(crate) results: BTreeMap<String, String>,
    pub(crate) failure: Option<String>,
}

/// What a tool does. The model and the hook's own view of it are in its hands.
type Run = fn(&mut Model, &mut Context, &Args<'_>) -> Result<Output>;

/// A hook tool.
struct Tool {
    name: &'static str,
    /// What follows the name, in `--help`.
    usage: &'static str,
    flags: &'static [Flag],
    /// Which releases have it.
    known: fn(Version) -> bool,
    /// None: it is not modelled.
    run: Option<Run>,
}

impl Tool {
    const fn new(name: &'static str, usage: &'static str, flags: &'static [Flag], run: Run) -> Tool {
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

/// The tools of this Juju (runner/jujuc/server.go).
fn tools(version: Version) -> impl Iterator<Item = &'static Tool> {
    let all = [relations::TOOLS, unit::TOOLS, secrets::TOOLS, NOT_MODELLED];
    all.into_iter().flatten().filter(move |tool| (tool.known)(version))
}

/// The names under which the unit agent of this Juju links the hook tools.
pub(crate) fn names(version: Version) -> Vec<&'static str> {
    tools(version).map(|tool| tool.name).collect()
}

/// Runs one tool within a hook.
pub(crate) fn call(model: &mut Model, context: &mut Context, request: &Request) -> Answer {
    if request.context != context.id {
        let text = format!("bad request: expected context id {:?}, got {:?}", context.id, request.context);
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
    // A tool that prints nothing takes `--format`, and complains once it runs.
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

/// What goes to standard output; with `--output` it goes to that file.
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
    /// The last value at a path holds; where it was a map before, or a text above, that is gone.
    fn set(&mut self, path: &str, value: &str) {
        let below =
            |short: &str, long: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'));
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

    /// Leadership as this hook sees it: asked anew each time, but never regained.
    fn leads(&mut self, model: &Model) -> bool {
        if !model.is_leader(&self.unit) {
            self.lost = true;
        }
        !self.lost
    }
}

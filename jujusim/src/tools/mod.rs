//! The hook tools: what a charm calls, answered as Juju's unit agent answers.
//!
//! Parsing, output shapes, error texts and exit codes are Juju's (package `jujuc`); where Juju only refuses at the end of the
//! hook, so do we (`crate::commit`).

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
use crate::version::Version;

use flags::Args;

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
    Value(Value),
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
    /// Once `is-leader` said no it says no until the hook ends.
    lost: bool,
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
    pub(crate) ports: Option<BTreeSet<String>>,
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

#[derive(Clone, Default)]
pub(crate) struct SecretUpdate {
    pub(crate) label: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) rotate: Option<String>,
    pub(crate) content: Option<Bag>,
}

/// What an action said.
#[derive(Default)]
pub(crate) struct ActionResult {
    pub(crate) results: BTreeMap<String, String>,
    pub(crate) failure: Option<String>,
}

const COMMON: &[&str] = &[
    "relation-ids",
    "relation-list",
    "relation-get",
    "relation-set",
    "is-leader",
    "config-get",
    "status-set",
    "status-get",
    "application-version-set",
    "juju-log",
    "state-get",
    "state-set",
    "state-delete",
    "network-get",
    "goal-state",
    "open-port",
    "close-port",
    "opened-ports",
    "unit-get",
    "action-get",
    "action-set",
    "action-fail",
    "action-log",
    "leader-get",
    "leader-set",
];
const SINCE_3: &[&str] = &[
    "relation-model-get",
    "secret-add",
    "secret-get",
    "secret-set",
    "secret-info-get",
    "secret-ids",
    "secret-grant",
    "secret-revoke",
    "secret-remove",
];
const NOT_MODELLED: &[&str] = &[
    "juju-reboot",
    "credential-get",
    "resource-get",
    "storage-add",
    "storage-get",
    "storage-list",
    "payload-register",
    "payload-unregister",
    "payload-status-set",
    "k8s-spec-set",
    "k8s-spec-get",
    "k8s-raw-set",
    "k8s-raw-get",
    "pod-spec-set",
    "pod-spec-get",
    "add-metric",
];

/// The names under which the unit agent of this Juju links the hook tools.
pub(crate) fn names(version: Version) -> Vec<&'static str> {
    let mut names = [COMMON, NOT_MODELLED].concat();
    if version.has_secrets() {
        names.extend(SINCE_3);
    }
    names
}

/// Runs one tool within a hook.
pub(crate) fn call(model: &mut Model, context: &mut Context, request: &Request) -> Answer {
    if request.context != context.id {
        let text = format!("bad request: expected context id {:?}, got {:?}", context.id, request.context);
        return refuse(1, &text);
    }
    if NOT_MODELLED.contains(&request.command.as_str()) {
        return refuse(1, &format!("jujusim does not model {:?}", request.command));
    }
    if !names(model.version).contains(&request.command.as_str()) {
        return refuse(1, &format!("bad request: unknown command {:?}", request.command));
    }
    match run(model, context, request) {
        Ok(answer) => answer,
        Err(Refusal::Usage(text)) => refuse(2, &text),
        Err(Refusal::Failed(text)) => refuse(1, &text),
        Err(Refusal::Stdin) => Answer { wants_stdin: true, ..Answer::default() },
    }
}

fn refuse(code: i32, text: &str) -> Answer {
    Answer { code, stderr: format!("ERROR {text}\n"), ..Answer::default() }
}

fn run(model: &mut Model, context: &mut Context, request: &Request) -> Result<Answer> {
    let name = request.command.as_str();
    let args = Args::parse(&request.args, flags::of(name))?;
    let output = match name {
        "relation-ids" => relations::ids(model, context, &args)?,
        "relation-list" => relations::list(model, context, &args)?,
        "relation-get" => relations::get(model, context, &args)?,
        "relation-set" => relations::set(model, context, &args, request)?,
        "relation-model-get" => relations::model_get(model, context, &args)?,
        "network-get" => relations::network_get(model, context, &args)?,
        "goal-state" => relations::goal_state(model, context, &args)?,
        "is-leader" => unit::is_leader(model, context, &args)?,
        "config-get" => unit::config_get(model, context, &args)?,
        "status-set" => unit::status_set(model, context, &args)?,
        "status-get" => unit::status_get(model, context, &args)?,
        "application-version-set" => unit::version_set(model, context, &args)?,
        "juju-log" => unit::log(model, context, &args)?,
        "state-get" => unit::state_get(model, context, &args)?,
        "state-set" => unit::state_set(model, context, &args, request)?,
        "state-delete" => unit::state_delete(model, context, &args)?,
        "open-port" | "close-port" => unit::port(model, context, &args, name == "open-port")?,
        "opened-ports" => unit::opened_ports(model, context, &args)?,
        "unit-get" => unit::unit_get(model, context, &args)?,
        "leader-get" => unit::leader_get(model, context, &args)?,
        "leader-set" => unit::leader_set(model, context, &args)?,
        "action-get" => unit::action_get(context, &args)?,
        "action-set" => unit::action_set(context, &args)?,
        "action-fail" => unit::action_fail(context, &args)?,
        "action-log" => unit::action_log(context, &args)?,
        "secret-add" => secrets::add(model, context, &args)?,
        "secret-get" => secrets::get(model, context, &args)?,
        "secret-set" => secrets::set(model, context, &args)?,
        "secret-info-get" => secrets::info_get(model, context, &args)?,
        "secret-ids" => secrets::ids(model, context, &args)?,
        "secret-grant" => secrets::grant(model, context, &args)?,
        "secret-revoke" => secrets::revoke(model, context, &args)?,
        "secret-remove" => secrets::remove(model, context, &args)?,
        other => return failed(format!("bad request: unknown command {other:?}")),
    };
    let mut answer = Answer::default();
    match output {
        Output::Silent => {
            if args.has("format") {
                answer.stderr = format!("--format flag deprecated for command {name:?}");
            }
        }
        Output::Text(text) => answer.stdout = text,
        Output::Value(value) => {
            let default = if ["secret-get", "secret-info-get", "goal-state"].contains(&name) {
                "yaml"
            } else {
                "smart"
            };
            answer.stdout = format::render(&value, args.value("format").unwrap_or(default))?;
        }
    }
    if let Some(file) = args.value("output") {
        let path = std::path::Path::new(&request.dir).join(file);
        if let Err(error) = std::fs::write(&path, &answer.stdout) {
            return failed(error.to_string());
        }
        answer.stdout.clear();
    }
    Ok(answer)
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
            lost: false,
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

/// `key=value` arguments as `relation-set` and `state-set` take them: trimmed, no key twice.
fn key_values(args: &[String]) -> Result<Bag> {
    let mut values = Bag::new();
    for arg in args {
        let Some((key, value)) = arg.split_once('=').filter(|(key, _)| !key.trim().is_empty()) else {
            return usage(format!("expected \"key=value\", got {arg:?}"));
        };
        let key = key.trim().to_owned();
        if values.contains_key(&key) {
            return usage(format!("key {key:?} specified more than once"));
        }
        values.insert(key, value.trim().to_owned());
    }
    Ok(values)
}

/// `--file`: one YAML map; scalars keep the text they had, null is empty, the file is not trimmed.
fn file_values(args: &Args, request: &Request) -> Result<Bag> {
    let text = match args.value("file") {
        None => return Ok(Bag::new()),
        Some("-") => request.stdin.clone().ok_or(Refusal::Stdin)?,
        Some(file) => {
            let path = std::path::Path::new(&request.dir).join(file);
            std::fs::read_to_string(&path)
                .map_err(|_| Refusal::Failed(format!("open {}: no such file or directory", path.display())))?
        }
    };
    parse_yaml(&text)
}

fn parse_yaml(text: &str) -> Result<Bag> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else { return Ok(Bag::new()) };
    match <Option<BTreeMap<String, Option<String>>>>::deserialize(first) {
        Ok(values) => Ok(values
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.unwrap_or_default()))
            .collect()),
        Err(error) => {
            let error = error.to_string();
            let tag = [("sequence", "!!seq"), ("map", "!!map")]
                .into_iter()
                .find(|(word, _)| error.contains(&format!("type: {word}")));
            match tag {
                Some((_, tag)) => {
                    failed(format!("yaml: unmarshal errors:\n  line 1: cannot unmarshal {tag} into string"))
                }
                None => failed(format!("yaml: {error}")),
            }
        }
    }
}

//! The record of a hook's run, a hook's environment, and the hook tools as an actor calls them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::events::{Event, Task};
use crate::model::{Bag, Model, UnitName};
use crate::server::Sql;
use crate::tools::{self, Context, Request};

/// The record of one run of a hook, an action or a command.
#[derive(Clone, Debug)]
pub struct HookRun {
    /// The unit.
    pub unit: String,
    /// The hook's name; for an action its name; otherwise `juju-exec`.
    pub hook: String,
    /// How the run ended.
    pub exit: Exit,
    /// The hook-tool calls, in order.
    pub calls: Vec<ToolCall>,
    /// Command lines of the hook's process and its descendants, if they lived long enough to be
    /// sampled (a few milliseconds). Hook tools are complete in `calls`. Empty, and the time and
    /// memory below zero, if the model does not measure; see `Options::measures`.
    pub processes: BTreeSet<String>,
    /// Wall-clock time of the run.
    pub wall: Duration,
    /// User and system time of the hook's process and of all processes it waited for.
    pub cpu: Duration,
    /// The peak memory of the largest of these processes, in bytes. Like the times, 0 for a hook
    /// that was killed with its process group.
    pub max_rss: u64,
    /// The charm's connections and statements to the model's PostgreSQL servers, as far as they use
    /// the charm's name as `application_name` and the login of a relation.
    pub sql: Sql,
    /// The charm's requests to Pebble in its containers, except health checks and version queries.
    pub pebble: usize,
    /// The log, with the level before each line.
    pub log: Vec<String>,
    /// Standard output of an action or command.
    pub stdout: String,
    /// Standard error of an action or command.
    pub stderr: String,
    /// The results set by `action-set`.
    pub results: BTreeMap<String, String>,
    /// The message of `action-fail`.
    pub failure: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With exit code 0, and its effects were committed.
    Success,
    /// With another exit code; its effects were discarded.
    Code(i32),
    /// By this signal.
    Killed(i32),
    /// With exit code 0, but Juju refused to commit its effects.
    Refused(String),
}

/// One hook-tool call.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// The arguments, without standard input.
    pub args: Vec<String>,
    /// The exit code.
    pub code: i32,
}

impl HookRun {
    pub(crate) fn new(context: &Context) -> HookRun {
        HookRun {
            unit: context.unit.to_string(),
            hook: context.hook.clone(),
            exit: Exit::Success,
            calls: Vec::new(),
            processes: BTreeSet::new(),
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            max_rss: 0,
            sql: Sql::default(),
            pebble: 0,
            log: Vec::new(),
            stdout: String::new(),
            stderr: String::new(),
            results: BTreeMap::new(),
            failure: None,
        }
    }

    /// The number of calls of each tool.
    pub fn tool_counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for call in &self.calls {
            *counts.entry(call.name.as_str()).or_insert(0) += 1;
        }
        counts
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Success => f.write_str("exit 0"),
            Exit::Code(code) => write!(f, "exit {code}"),
            Exit::Killed(_) => f.write_str("killed"),
            Exit::Refused(why) => write!(f, "commit refused: {why}"),
        }
    }
}

impl Model {
    /// Builds the hook's environment from scratch, as Juju does.
    pub(crate) fn environment(&self, context: &Context, root: &Path) -> Vec<(String, String)> {
        let unit = &context.unit;
        let charm = charm_dir(root, unit).display().to_string();
        let caller = std::env::var("PATH")
            .unwrap_or_else(|_| "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        let mut path = vec![self.dir.join("tools").join(unit.dashed()).display().to_string()];
        path.extend(self.path.iter().map(|path| path.display().to_string()));
        path.push(caller);
        let (hook, action) = if context.event.is_hook() {
            (context.hook.as_str(), "")
        } else {
            ("", context.hook.as_str())
        };
        let mut variables: Vec<(&str, String)> = vec![
            ("JUJU_HOOK_NAME", hook.to_owned()),
            ("JUJU_UNIT_NAME", unit.to_string()),
            ("JUJU_MODEL_NAME", self.name.clone()),
            ("JUJU_MODEL_UUID", self.uuid.clone()),
            ("JUJU_CHARM_DIR", charm.clone()),
            ("CHARM_DIR", charm),
            ("JUJU_VERSION", self.version.to_string()),
            ("JUJU_CONTEXT_ID", context.id.clone()),
            ("JUJU_AGENT_SOCKET_ADDRESS", socket(root, unit).display().to_string()),
            ("JUJU_AGENT_SOCKET_NETWORK", "unix".to_owned()),
            ("JUJU_API_ADDRESSES", format!("{}:17070", self.network.address(254))),
            ("JUJU_MACHINE_ID", String::new()),
            ("JUJU_PRINCIPAL_UNIT", String::new()),
            ("JUJU_AVAILABILITY_ZONE", String::new()),
            ("JUJU_CHARM_HTTP_PROXY", String::new()),
            ("JUJU_CHARM_HTTPS_PROXY", String::new()),
            ("JUJU_CHARM_FTP_PROXY", String::new()),
            ("JUJU_CHARM_NO_PROXY", "127.0.0.1,localhost,::1".to_owned()),
            ("PATH", path.join(":")),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "tmux-256color".to_owned()),
            ("DEBIAN_FRONTEND", "noninteractive".to_owned()),
            ("APT_LISTCHANGES_FRONTEND", "none".to_owned()),
        ];
        let of_release = self.version.variables().iter();
        variables.extend(of_release.map(|(name, value)| (*name, (*value).to_owned())));
        variables.extend(self.clock_variables());
        variables.extend(tools::relations::environment(self, context));
        match &context.event {
            Event::Exec { .. } => {}
            Event::Action { .. } => {
                variables.push(("JUJU_DISPATCH_PATH", format!("actions/{action}")));
            }
            _ => variables.push(("JUJU_DISPATCH_PATH", format!("hooks/{hook}"))),
        }
        if let Some(Task { number, .. }) = context.event.task() {
            variables.push(("JUJU_ACTION_NAME", action.to_owned()));
            variables.push(("JUJU_ACTION_UUID", number.to_string()));
            variables.push(("JUJU_ACTION_TAG", format!("action-{number}")));
        }
        if let Some(id) = context.event.secret() {
            variables.push(("JUJU_SECRET_ID", format!("secret:{id}")));
            variables.push(("JUJU_SECRET_LABEL", self.secret_label(id, unit)));
        }
        if let Event::SecretExpired { revision, .. } | Event::SecretRemove { revision, .. } =
            &context.event
        {
            variables.push(("JUJU_SECRET_REVISION", revision.to_string()));
        }
        if let (Event::Workload(_) | Event::Check { .. }, Some((container, _))) =
            (&context.event, hook.split_once("-pebble-"))
        {
            variables.push(("JUJU_WORKLOAD_NAME", container.to_owned()));
        }
        if let Event::Check { check, notice, change, .. } = &context.event {
            variables.extend([
                ("JUJU_NOTICE_ID", notice.clone()),
                ("JUJU_NOTICE_TYPE", "change-update".to_owned()),
                ("JUJU_NOTICE_KEY", change.clone()),
                ("JUJU_PEBBLE_CHECK_NAME", check.clone()),
            ]);
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The consumer's label, otherwise, for units of the owner, the owner's label.
    fn secret_label(&self, id: &str, unit: &UnitName) -> String {
        let Some(secret) = self.secrets.get(id) else { return String::new() };
        let consumer = secret.consumers.get(unit).and_then(|consumer| consumer.label.clone());
        consumer.unwrap_or_else(|| {
            if secret.owner.includes(unit) { secret.label.clone() } else { String::new() }
        })
    }
}

impl Model {
    /// Runs one tool in a unit's context outside any hook, and commits its effects.
    pub(crate) fn tool_as(
        &mut self,
        unit: &UnitName,
        command: &str,
        args: &[&str],
    ) -> Result<String> {
        let event = Event::Exec { command: Vec::new(), relation: None, task: None };
        let mut context = Context::new(self, unit, &event);
        let request = Request {
            context: context.id.clone(),
            dir: "/".to_owned(),
            command: command.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            stdin: None,
        };
        let answer = tools::call(self, &mut context, &request);
        if answer.code != 0 {
            return Err(Error::refused(answer.stderr.trim().to_owned()));
        }
        self.commit(&mut context, None).map_err(Error::Refused)?;
        Ok(answer.stdout)
    }
}

/// The hook tools as an actor calls them: the same tools, without a process.
pub(crate) struct Port<'a> {
    model: &'a mut Model,
    context: &'a mut Context,
    run: &'a mut HookRun,
}

impl<'a> Port<'a> {
    pub(crate) fn new(
        model: &'a mut Model,
        context: &'a mut Context,
        run: &'a mut HookRun,
    ) -> Port<'a> {
        Port { model, context, run }
    }
}

impl Port<'_> {
    pub(crate) fn event(&self) -> &Event {
        &self.context.event
    }

    /// The actor's own application.
    pub(crate) fn app(&self) -> String {
        self.context.unit.app.clone()
    }

    /// An option of the actor, read without a tool call.
    pub(crate) fn option(&self, name: &str) -> Option<Value> {
        self.model.apps.get(&self.context.unit.app)?.effective_config().remove(name)
    }

    /// How many applications request this database at an endpoint.
    pub(crate) fn count_requests(&self, endpoint: &str, database: &str) -> usize {
        let app = &self.context.unit.app;
        let relations = self.model.relations_at(&format!("{app}:{endpoint}"));
        let asks = |id: &&u32| {
            let remote = self.model.relations.get(*id).and_then(|relation| relation.remote(app));
            remote.is_some_and(|end| {
                self.model
                    .bag(**id, &end.app)
                    .get("database")
                    .is_some_and(|asked| asked == database)
            })
        };
        relations.iter().filter(asks).count()
    }

    /// A file in the unit's own directory, for values that must not appear in arguments.
    pub(crate) fn scratch(&self) -> PathBuf {
        let root = self
            .model
            .units
            .get(&self.context.unit)
            .map(|unit| unit.root.clone())
            .unwrap_or_default();
        root.join("dev/shm/content")
    }

    pub(crate) fn has_secrets(&self) -> bool {
        self.model.version.has_secrets()
    }

    /// Runs a tool; returns its standard output or its error.
    pub(crate) fn tool(
        &mut self,
        command: &str,
        args: &[&str],
        stdin: Option<String>,
    ) -> std::result::Result<String, String> {
        let request = Request {
            context: self.context.id.clone(),
            dir: "/".to_owned(),
            command: command.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            stdin,
        };
        let answer = tools::call(self.model, self.context, &request);
        self.run.calls.push(ToolCall {
            name: request.command,
            args: request.args,
            code: answer.code,
        });
        if answer.code == 0 {
            Ok(answer.stdout)
        } else {
            Err(format!("{command}: {}", answer.stderr.trim()))
        }
    }

    /// Reads a databag with `relation-get`.
    pub(crate) fn bag(&mut self, relation: u32, entity: &str) -> std::result::Result<Bag, String> {
        let id = relation.to_string();
        let app = if entity.contains('/') { "--app=false" } else { "--app" };
        let text =
            self.tool("relation-get", &["--format=json", "-r", &id, app, "-", entity], None)?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    pub(crate) fn json(
        &mut self,
        command: &str,
        args: &[&str],
    ) -> std::result::Result<Value, String> {
        let args = [&["--format=json"], args].concat();
        serde_json::from_str(&self.tool(command, &args, None)?).map_err(|error| error.to_string())
    }
}

/// The charm's directory: `<root>/var/lib/juju/agents/unit-<app>-<n>/charm`.
pub(crate) fn charm_dir(root: &Path, unit: &UnitName) -> PathBuf {
    agent_dir(root, unit).join("charm")
}

pub(crate) fn agent_dir(root: &Path, unit: &UnitName) -> PathBuf {
    root.join("var/lib/juju/agents").join(unit.tag())
}

pub(crate) fn socket(root: &Path, unit: &UnitName) -> PathBuf {
    agent_dir(root, unit).join("agent.socket")
}

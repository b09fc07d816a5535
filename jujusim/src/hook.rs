//! A hook as it was seen from outside, its environment, and the tools as an actor calls them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::events::Event;
use crate::model::{Bag, Model, UnitName};
use crate::server::Sql;
use crate::tools::{self, Context, Request};

/// One run of a hook, an action or a command, as it was seen from outside.
#[derive(Clone, Debug)]
pub struct HookRun {
    /// The unit.
    pub unit: String,
    /// The hook's name; an action's own; `juju-exec`.
    pub hook: String,
    /// How it ended.
    pub exit: Exit,
    /// Its calls of hook tools, in order.
    pub calls: Vec<ToolCall>,
    /// Command lines of the hook's process and of those it started, as far as they lived long enough to be seen (a few
    /// milliseconds); the hook tools' are complete in `calls`.
    pub processes: BTreeSet<String>,
    /// From start to end.
    pub wall: Duration,
    /// User and system time of the hook's process and all it waited for.
    pub cpu: Duration,
    /// The peak of the largest of these processes, in bytes; 0 like the times for a hook that was killed with its group.
    pub max_rss: u64,
    /// What the charm asked of the model's PostgreSQL servers, in connections with the charm's name as their application name and
    /// the login of a relation.
    pub sql: Sql,
    /// What the charm asked of Pebble in its containers, but for its health and its version.
    pub pebble: usize,
    /// The log, each line after its level.
    pub log: Vec<String>,
    /// Standard output of an action or command.
    pub stdout: String,
    /// Standard error of an action or command.
    pub stderr: String,
    /// What `action-set` said.
    pub results: BTreeMap<String, String>,
    /// What `action-fail` said.
    pub failure: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With 0, and its effects are committed.
    Success,
    /// With another code; its effects are dropped.
    Code(i32),
    /// By a signal, by its number.
    Killed(i32),
    /// With 0, but Juju refused its effects.
    Refused(String),
}

/// One call of a hook tool.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// Its arguments, without standard input.
    pub args: Vec<String>,
    /// Its exit code.
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

    /// How many calls of each tool.
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
    /// The environment Juju builds, from nothing.
    pub(crate) fn environment(&self, context: &Context, root: &Path) -> Vec<(String, String)> {
        let unit = &context.unit;
        let charm = charm_dir(root, unit).display().to_string();
        let caller = std::env::var("PATH")
            .unwrap_or_else(|_| "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        let mut path = vec![self.dir.join("tools").join(unit.dashed()).display().to_string()];
        path.extend(self.path.iter().map(|path| path.display().to_string()));
        path.push(caller);
        let (hook, action) =
            if context.event.is_hook() { (context.hook.as_str(), "") } else { ("", context.hook.as_str()) };
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
            ("CLOUD_API_VERSION", "1.31".to_owned()),
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
        if !self.version.at_least(4, 0, 0) {
            variables.push(("JUJU_SLA", "unsupported".to_owned()));
        }
        variables.extend(tools::relations::environment(self, context));
        match &context.event {
            Event::Exec { .. } => {}
            Event::Action { number, .. } => {
                variables.push(("JUJU_DISPATCH_PATH", format!("actions/{action}")));
                variables.push(("JUJU_ACTION_NAME", action.to_owned()));
                variables.push(("JUJU_ACTION_UUID", number.to_string()));
                variables.push(("JUJU_ACTION_TAG", format!("action-{number}")));
            }
            _ => variables.push(("JUJU_DISPATCH_PATH", format!("hooks/{hook}"))),
        }
        if let Some(id) = context.event.secret() {
            variables.push(("JUJU_SECRET_ID", format!("secret:{id}")));
            variables.push(("JUJU_SECRET_LABEL", self.secret_label(id, unit)));
        }
        if let Event::SecretExpired { revision, .. } | Event::SecretRemove { revision, .. } = &context.event {
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

    /// The owner's label to units of the owner, else the consumer's.
    fn secret_label(&self, id: &str, unit: &UnitName) -> String {
        let Some(secret) = self.secrets.get(id) else { return String::new() };
        let consumer = secret.consumers.get(unit).and_then(|consumer| consumer.label.clone());
        consumer
            .unwrap_or_else(|| if secret.owner.includes(unit) { secret.label.clone() } else { String::new() })
    }
}

impl Model {
    /// Runs one tool in a unit's context outside any hook, and commits.
    pub(crate) fn tool_as(&mut self, unit: &UnitName, command: &str, args: &[&str]) -> Result<String> {
        let mut context = Context::new(self, unit, &Event::Exec { command: Vec::new(), relation: None });
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
    pub(crate) fn new(model: &'a mut Model, context: &'a mut Context, run: &'a mut HookRun) -> Port<'a> {
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

    /// An option of the actor, without a tool's call.
    pub(crate) fn option(&self, name: &str) -> Option<Value> {
        self.model.apps.get(&self.context.unit.app)?.effective_config().remove(name)
    }

    /// How many applications ask for this database at an endpoint.
    pub(crate) fn askers(&self, endpoint: &str, database: &str) -> usize {
        let app = &self.context.unit.app;
        let relations = self.model.relations_at(&format!("{app}:{endpoint}"));
        let asks = |id: &&u32| {
            let remote = self.model.relations.get(*id).and_then(|relation| relation.remote(app));
            remote.is_some_and(|end| {
                self.model.bag(**id, &end.app).get("database").is_some_and(|asked| asked == database)
            })
        };
        relations.iter().filter(asks).count()
    }

    /// A file in the unit's own directory, for what must not stand in an argument.
    pub(crate) fn scratch(&self) -> PathBuf {
        let root = self.model.units.get(&self.context.unit).map(|unit| unit.root.clone()).unwrap_or_default();
        root.join("dev/shm/content")
    }

    pub(crate) fn has_secrets(&self) -> bool {
        self.model.version.has_secrets()
    }

    /// Runs a tool; its standard output, or its error.
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
        self.run.calls.push(ToolCall { name: request.command, args: request.args, code: answer.code });
        if answer.code == 0 { Ok(answer.stdout) } else { Err(format!("{command}: {}", answer.stderr.trim())) }
    }

    /// A bag as `relation-get` gives it.
    pub(crate) fn bag(&mut self, relation: u32, entity: &str) -> std::result::Result<Bag, String> {
        let id = relation.to_string();
        let app = if entity.contains('/') { "--app=false" } else { "--app" };
        let text = self.tool("relation-get", &["--format=json", "-r", &id, app, "-", entity], None)?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    pub(crate) fn json(&mut self, command: &str, args: &[&str]) -> std::result::Result<Value, String> {
        let args = [&["--format=json"], args].concat();
        serde_json::from_str(&self.tool(command, &args, None)?).map_err(|error| error.to_string())
    }
}

/// `<root>/var/lib/juju/agents/unit-<app>-<n>/charm`.
pub(crate) fn charm_dir(root: &Path, unit: &UnitName) -> PathBuf {
    agent_dir(root, unit).join("charm")
}

pub(crate) fn agent_dir(root: &Path, unit: &UnitName) -> PathBuf {
    root.join("var/lib/juju/agents").join(unit.tag())
}

pub(crate) fn socket(root: &Path, unit: &UnitName) -> PathBuf {
    agent_dir(root, unit).join("agent.socket")
}

//! One run of a unit's charm: its environment, its process, its tools, its end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, atomic};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::commit::Refused;
use crate::error::{Doing as _, Error, Result};
use crate::events::Event;
use crate::launch::{self, Usage};
use crate::model::{Bag, Kind, Model, Pending, UnitName};
use crate::tools::{self, Answer, Context, Request};

/// A hook that runs longer than this is killed.
const LIMIT: Duration = Duration::from_secs(120);
/// How long output may still come after the hook's process ended: what it started may hold the pipes open.
const LINGER: Duration = Duration::from_millis(200);

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

/// A mishap prepared for a unit's next hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The hook dies when it makes this call, which then has no effect.
    KillAtTool { tool: String, nth: usize },
    /// The hook dies instead of making this system call.
    ///
    /// With `follow`, so does each process it starts.
    KillAtSyscall { name: String, nth: usize, follow: bool },
    /// The tool exits with 1.
    FailTool { tool: String, nth: usize, message: String },
    /// The effects are refused.
    Commit(Refused),
}

/// What reaches the model while a hook runs.
pub(crate) enum Message {
    Tool { request: Request, stream: UnixStream },
    Line { run: usize, error: bool, text: String },
    Closed { run: usize },
    Exited { run: usize, status: io::Result<ExitStatus> },
}

/// The socket of a unit's agent, open while the unit's pod lives.
pub(crate) struct Agent {
    path: PathBuf,
    over: Arc<atomic::AtomicBool>,
}

impl Agent {
    pub(crate) fn listen(path: &Path, sender: Sender<Message>) -> Result<Agent> {
        let listener = UnixListener::bind(path).doing(|| format!("listen at {}", path.display()))?;
        let over = Arc::new(atomic::AtomicBool::new(false));
        let ended = Arc::clone(&over);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(atomic::Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let mut line = String::new();
                // A tool that was killed before it sent its request is no call.
                let Ok(_) = BufReader::new(&stream).read_line(&mut line) else { continue };
                let Ok(request) = serde_json::from_str(&line) else { continue };
                if sender.send(Message::Tool { request, stream }).is_err() {
                    return;
                }
            }
        });
        Ok(Agent { path: path.to_owned(), over })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.over.store(true, atomic::Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
    }
}

impl HookRun {
    fn new(context: &Context) -> HookRun {
        HookRun {
            unit: context.unit.to_string(),
            hook: context.hook.clone(),
            exit: Exit::Success,
            calls: Vec::new(),
            processes: BTreeSet::new(),
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            max_rss: 0,
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
    /// Runs one event of a unit to its end, commits or drops its effects, and records it.
    pub(crate) fn run(&mut self, name: &UnitName, event: &Event) -> Result<&HookRun> {
        self.before(name, event);
        let version = self.version_for(name, event);
        let mut context = Context::new(self, name, event);
        let mut run = HookRun::new(&context);
        let faults =
            if event.is_hook() { std::mem::take(&mut self.unit_mut(name)?.faults) } else { Vec::new() };
        let actor = match &self.app(&name.app)?.kind {
            Kind::Actor(actor, _) => Some(Arc::clone(actor)),
            Kind::Charm(_) => None,
        };
        match actor {
            Some(actor) => {
                let mut port = Port { model: self, context: &mut context, run: &mut run };
                if let Err(text) = actor.handle(&mut port) {
                    run.log.push(format!("ERROR {text}"));
                    run.exit = Exit::Code(1);
                }
            }
            None => self.run_process(&mut context, &mut run, &faults)?,
        }
        run.log.append(&mut context.log);
        if let Event::Broken { .. } = event {
            // The relation's passwords are still worth searching for when it is gone.
            self.past_passwords = self.passwords();
        }
        if run.exit == Exit::Success {
            let refused = faults.iter().find_map(|fault| match fault {
                Fault::Commit(refused) => Some(*refused),
                _ => None,
            });
            if let Err(text) = self.commit(&mut context, refused) {
                run.log.push(format!("ERROR {text}"));
                run.exit = Exit::Refused(text);
            }
        }
        run.results = std::mem::take(&mut context.action.results);
        run.failure = context.action.failure.take();
        if event.is_hook() {
            let unit = self.unit_mut(name)?;
            if run.exit == Exit::Success {
                unit.pending = None;
                self.after(name, event, version);
            } else {
                let failures = unit.pending.as_ref().map_or(0, |pending| pending.failures) + 1;
                let error = !matches!(run.exit, Exit::Killed(_));
                unit.pending = Some(Pending { event: event.clone(), failures, error });
            }
        }
        self.runs.push(run);
        self.runs.last().ok_or_else(|| Error::refused("no hook ran"))
    }

    fn run_process(&mut self, context: &mut Context, run: &mut HookRun, faults: &[Fault]) -> Result<()> {
        let number = self.runs.len();
        let root = self.unit(&context.unit)?.root.clone();
        let charm = charm_dir(&root, &context.unit);
        let (program, args) = match &context.event {
            Event::Exec { command } => {
                let (program, args) =
                    command.split_first().ok_or_else(|| Error::refused("no command specified"))?;
                (PathBuf::from(program), args.to_vec())
            }
            event => {
                let folder = if event.is_hook() { "hooks" } else { "actions" };
                let candidates = [charm.join("dispatch"), charm.join(folder).join(&context.hook)];
                match candidates.into_iter().find(|path| executable(path)) {
                    Some(program) => (program, Vec::new()),
                    None if event.is_hook() => return Ok(()),
                    None => {
                        run.exit = Exit::Code(1);
                        run.failure =
                            Some(format!("action not implemented on unit {:?}", context.unit.to_string()));
                        return Ok(());
                    }
                }
            }
        };
        let report = self.dir.join("usage");
        let _ = fs::remove_file(&report);
        let mut command = match strace(faults) {
            Some(options) => {
                let mut command = launch::command(&self.tools, &report, Path::new("strace"));
                command.args(options).arg(program);
                command
            }
            None => launch::command(&self.tools, &report, &program),
        };
        command.args(args).current_dir(&charm).env_clear().envs(self.environment(context, &root));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().doing(|| format!("run {}", self.tools.display()))?;
        let pid = child.id();
        if let Some(stdout) = child.stdout.take() {
            forward(stdout, number, false, self.sender.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            forward(stderr, number, true, self.sender.clone());
        }
        let sender = self.sender.clone();
        thread::spawn(move || {
            let _ = sender.send(Message::Exited { run: number, status: child.wait() });
        });
        let watch = Watch::start(pid);
        let status = self.serve(context, run, faults, pid)?;
        run.processes = watch.stop();
        Usage { wall: run.wall, cpu: run.cpu, max_rss: run.max_rss } = launch::usage(&report);
        run.exit = match (status.code(), status.signal()) {
            (Some(0), _) => Exit::Success,
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Killed(signal.unwrap_or_default()),
        };
        Ok(())
    }

    /// Answers tools and gathers output until the hook's process has ended.
    fn serve(
        &mut self,
        context: &mut Context,
        run: &mut HookRun,
        faults: &[Fault],
        pid: u32,
    ) -> Result<ExitStatus> {
        let number = self.runs.len();
        let started = Instant::now();
        let (mut open, mut ended) = (2, None);
        while open > 0 || ended.is_none() {
            let patience = if ended.is_some() { LINGER } else { LIMIT.saturating_sub(started.elapsed()) };
            let message = match self.receiver.recv_timeout(patience) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) if ended.is_some() => break,
                Err(_) => {
                    kill_group(pid);
                    run.log.push(format!("ERROR killed: did not end within {} s", LIMIT.as_secs()));
                    match self.receiver.recv_timeout(LIMIT) {
                        Ok(message) => message,
                        Err(_) => {
                            return Err(Error::refused(format!("{} {} cannot be ended", run.unit, run.hook)));
                        }
                    }
                }
            };
            match message {
                Message::Tool { request, stream } => {
                    if let Some(answer) = self.tool(context, run, faults, request, pid) {
                        let _ = reply(stream, &answer);
                    }
                }
                Message::Line { run: from, error, text } if from == number => {
                    keep_line(context, run, error, &text);
                }
                Message::Closed { run: from } if from == number => open -= 1,
                Message::Exited { run: from, status } if from == number => {
                    ended = Some(status.doing(|| format!("wait for {}", run.hook))?);
                }
                _ => {}
            }
        }
        ended.ok_or_else(|| Error::refused("the hook has no end"))
    }

    /// One call, or what a fault makes of it; none when the caller was killed.
    fn tool(
        &mut self,
        context: &mut Context,
        run: &mut HookRun,
        faults: &[Fault],
        request: Request,
        pid: u32,
    ) -> Option<Answer> {
        let repeated = request.stdin.is_some();
        let before = run.calls.iter().filter(|call| call.name == request.command).count();
        let nth = if repeated { before } else { before + 1 };
        let mut answer = None;
        for fault in faults {
            match fault {
                Fault::KillAtTool { tool, nth: at }
                    if *tool == request.command && *at == nth && !repeated =>
                {
                    kill_group(pid);
                    return None;
                }
                Fault::FailTool { tool, nth: at, message } if *tool == request.command && *at == nth => {
                    answer =
                        Some(Answer { code: 1, stderr: format!("ERROR {message}\n"), ..Answer::default() });
                }
                _ => {}
            }
        }
        let answer = answer.unwrap_or_else(|| tools::call(self, context, &request));
        if repeated {
            if let Some(call) = run.calls.iter_mut().rfind(|call| call.name == request.command) {
                call.code = answer.code;
            }
        } else {
            run.calls.push(ToolCall { name: request.command, args: request.args, code: answer.code });
        }
        Some(answer)
    }

    /// The environment Juju builds, from nothing.
    fn environment(&self, context: &Context, root: &Path) -> Vec<(String, String)> {
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
            ("JUJU_SLA", "unsupported".to_owned()),
        ];
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
        if let Event::SecretChanged { id } | Event::SecretRemove { id, .. } = &context.event {
            variables.push(("JUJU_SECRET_ID", format!("secret:{id}")));
            variables.push(("JUJU_SECRET_LABEL", self.secret_label(id, unit)));
        }
        if let Event::SecretRemove { revision, .. } = &context.event {
            variables.push(("JUJU_SECRET_REVISION", revision.to_string()));
        }
        if let Some((container, _)) = hook.split_once("-pebble-") {
            variables.push(("JUJU_WORKLOAD_NAME", container.to_owned()));
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The owner's label to units of the owner, else the consumer's.
    fn secret_label(&self, id: &str, unit: &UnitName) -> String {
        let Some(secret) = self.secrets.get(id) else { return String::new() };
        let consumer = secret.consumers.get(unit).and_then(|consumer| consumer.label.clone());
        consumer.unwrap_or_else(|| {
            let ours = match &secret.owner {
                crate::model::Entity::App(app) => *app == unit.app,
                crate::model::Entity::Unit(owner) => owner == unit,
            };
            if ours { secret.label.clone() } else { String::new() }
        })
    }
}

impl Model {
    /// Runs one tool in a unit's context outside any hook, and commits.
    pub(crate) fn tool_as(&mut self, unit: &UnitName, command: &str, args: &[&str]) -> Result<String> {
        let mut context = Context::new(self, unit, &Event::Exec { command: Vec::new() });
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

impl Port<'_> {
    pub(crate) fn event(&self) -> &Event {
        &self.context.event
    }

    /// The actor's own application.
    pub(crate) fn app(&self) -> String {
        self.context.unit.app.clone()
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

/// A hook's output is logged line by line; an action's is its result.
fn keep_line(context: &mut Context, run: &mut HookRun, error: bool, text: &str) {
    if context.event.is_hook() {
        let level = if error { "WARNING" } else { "DEBUG" };
        context.log.push(format!("{level} {}", text.trim_end_matches('\n')));
    } else if error {
        run.stderr.push_str(text);
    } else {
        run.stdout.push_str(text);
    }
}

fn executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The options that kill a process instead of its n-th call of a system call.
fn strace(faults: &[Fault]) -> Option<Vec<String>> {
    let (name, nth, follow) = faults.iter().find_map(|fault| match fault {
        Fault::KillAtSyscall { name, nth, follow } => Some((name, nth, *follow)),
        _ => None,
    })?;
    let (trace, inject) =
        (format!("trace={name}"), format!("inject={name}:error=EIO:signal=SIGKILL:when={nth}"));
    let options = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    Some(options.into_iter().skip(usize::from(!follow)).map(str::to_owned).collect())
}

fn forward(stream: impl Read + Send + 'static, run: usize, error: bool, sender: Sender<Message>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            if sender.send(Message::Line { run, error, text }).is_err() {
                return;
            }
        }
        let _ = sender.send(Message::Closed { run });
    });
}

fn reply(mut stream: UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_string(answer)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}

fn kill_group(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Looks at the command lines of a process and its descendants until stopped.
struct Watch {
    over: Arc<atomic::AtomicBool>,
    seen: Arc<Mutex<BTreeSet<String>>>,
}

impl Watch {
    fn start(pid: u32) -> Watch {
        let watch = Watch { over: Arc::default(), seen: Arc::default() };
        let (over, seen) = (Arc::clone(&watch.over), Arc::clone(&watch.seen));
        thread::spawn(move || {
            while !over.load(atomic::Ordering::Relaxed) {
                let mut found = BTreeSet::new();
                command_lines(pid, &mut found);
                seen.lock().unwrap_or_else(PoisonError::into_inner).append(&mut found);
                thread::sleep(Duration::from_millis(3));
            }
        });
        watch
    }

    fn stop(self) -> BTreeSet<String> {
        self.over.store(true, atomic::Ordering::Relaxed);
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn command_lines(pid: u32, found: &mut BTreeSet<String>) {
    if let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) {
        let text = String::from_utf8_lossy(&line).replace('\0', " ");
        // The launcher is ours.
        if !text.is_empty() && !text.starts_with(launch::NAME) {
            found.insert(text.trim_end().to_owned());
        }
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        command_lines(child, found);
    }
}

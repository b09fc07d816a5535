//! One run of a unit's charm, from its start to its commit. The run may halt in between while a
//! script command runs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, atomic};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::Sim;
use crate::agent::{Message, locked};
use crate::clock::{COMMIT_RETRIES, back_off};
use crate::commit::Refused;
use crate::container::Pod;
use crate::error::{Doing as _, Error, Result};
use crate::events::Event;
use crate::fault::{Fault, HookPoint, ToolFault};
use crate::hook::{Exit, HookRun, Port, ToolCall, charm_dir};
use crate::launch::{self, Usage};
use crate::model::{Kind, Model, Pending, UnitName};
use crate::server::Mark;
use crate::tools::{self, Answer, Context, Request};
use crate::wire;

/// The time limit of a hook; then the simulator kills the hook.
const HOOK_TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait for output after the hook's process ended: processes that it started may hold
/// the pipes open.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);
/// How often a hook that does nothing is asked whether the user wants to end it.
const INTERRUPT_POLL: Duration = Duration::from_millis(200);

/// A run in progress.
struct Running {
    context: Context,
    run: HookRun,
    faults: Vec<Fault>,
    /// The version of the event's data at the start of the run.
    version: u64,
    /// The ends of the PostgreSQL servers' logs at the start of the run.
    marks: Vec<Mark>,
    /// How many requests the unit's containers had answered at the start of the run.
    requests: usize,
    inbox: Receiver<Message>,
    process: Option<Process>,
    /// The call that is answered after a script command has run.
    halted: Option<(Request, UnixStream)>,
    /// Calls that are never answered.
    hung: Vec<UnixStream>,
}

/// The hook's process.
struct Process {
    number: usize,
    pid: u32,
    report: Option<PathBuf>,
    /// When the process is killed; after its end, until when to wait for output.
    deadline: Instant,
    killed: bool,
    watch: Option<Watch>,
    /// How many output streams are still open.
    open: u8,
    ended: Option<ExitStatus>,
}

impl Sim {
    /// Runs one event of a unit to its end, commits or discards its effects, and records the run.
    pub(crate) fn run_event(&mut self, name: &UnitName, event: &Event) -> Result<&HookRun> {
        let mut running = self.model.begin(name, event)?;
        loop {
            let command = match self.model.proceed(&mut running) {
                Ok(Some(command)) => command,
                Ok(None) => return self.model.finish(running),
                Err(error) => return self.model.abandon(running, error),
            };
            match self.execute(&command) {
                Ok(printed) => {
                    let lines = printed.lines().map(|line| format!("JUJUSIM   {line}"));
                    running.context.log.push(format!("JUJUSIM > {command}"));
                    running.context.log.extend(lines);
                }
                Err(error) => return self.model.abandon(running, error),
            }
        }
    }
}

impl Model {
    fn begin(&mut self, name: &UnitName, event: &Event) -> Result<Running> {
        self.follow_real_clock();
        let unit = self.unit_mut(name)?;
        let inbox = unit.receiver.take();
        let inbox = inbox.ok_or_else(|| Error::refused(format!("a hook of {name} is running")))?;
        let faults = if event.is_hook() { std::mem::take(&mut unit.faults) } else { Vec::new() };
        self.before(name, event);
        let version = self.version_for(name, event);
        let context = Context::new(self, name, event);
        let run = HookRun::new(&context);
        let mut running = Running {
            context,
            run,
            faults,
            version,
            marks: self.marks(),
            requests: self.requests(name),
            inbox,
            process: None,
            halted: None,
            hung: Vec::new(),
        };
        match self.start(&mut running) {
            Ok(()) => Ok(running),
            Err(error) => self.abandon(running, error),
        }
    }

    /// Starts the hook's process; an actor does all its work here.
    fn start(&mut self, running: &mut Running) -> Result<()> {
        let Running { context, run, .. } = running;
        if let Kind::Actor(actor, _) = &self.app(&context.unit.app)?.kind {
            let actor = Arc::clone(actor);
            if let Err(text) = actor.handle(&mut Port::new(self, context, run)) {
                run.log.push(format!("ERROR {text}"));
                run.exit = Exit::Code(1);
            }
            return Ok(());
        }
        let root = self.unit(&context.unit)?.root.clone();
        let charm = charm_dir(&root, &context.unit);
        let Some((program, args)) = program(context, &charm)? else {
            if !context.event.is_hook() {
                run.exit = Exit::Code(1);
                run.failure =
                    Some(format!("action not implemented on unit {:?}", context.unit.to_string()));
            }
            return Ok(());
        };
        let number = self.next_run;
        self.next_run += 1;
        let report = self.measures.then(|| self.dir.join(format!("usage-{number}")));
        // In a pod the charm shares its network with the other containers.
        let network = self.unit(&context.unit)?.pod.as_ref().map(Pod::network);
        let launch = |program: &Path| {
            launch::command(&self.launcher, report.as_deref(), network.as_deref(), program)
        };
        let mut command = match running.faults.iter().find_map(Fault::syscall) {
            Some(syscall) => {
                let trace = self.dir.join(format!("trace-{number}"));
                mkfifo(&trace, Mode::S_IRWXU)
                    .map_err(io::Error::from)
                    .doing(|| "make a pipe".to_owned())?;
                watch_for_stop(trace.clone(), number, self.unit(&context.unit)?.sender.clone());
                let mut command = launch(Path::new("strace"));
                command.args(syscall.strace(&trace)).arg(program);
                command
            }
            None => launch(&program),
        };
        command.args(args).current_dir(&charm).env_clear().envs(self.environment(context, &root));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let unit = self.unit(&context.unit)?;
        if let Some(agent) = &unit.agent {
            agent.serve(Some(context.id.clone()));
        }
        let mut child = match launch::spawn(&mut command) {
            Ok(child) => child,
            Err(error) => {
                running.keep_line(true, &format!("{}: {error}\n", command.get_program().display()));
                running.run.exit = Exit::Code(127);
                return Ok(());
            }
        };
        let pid = child.id();
        if let Some(stdout) = child.stdout.take() {
            forward(stdout, number, false, unit.sender.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            forward(stderr, number, true, unit.sender.clone());
        }
        let sender = unit.sender.clone();
        thread::spawn(move || {
            let _ = sender.send(Message::Exited { run: number, status: child.wait() });
        });
        running.process = Some(Process {
            number,
            pid,
            report,
            deadline: Instant::now() + HOOK_TIMEOUT,
            killed: false,
            watch: self.measures.then(|| Watch::start(pid)),
            open: 2,
            ended: None,
        });
        Ok(())
    }

    /// Answers tools and collects output until the hook ends or a script command is due.
    fn proceed(&mut self, running: &mut Running) -> Result<Option<String>> {
        if let Some((request, stream)) = running.halted.take() {
            self.answer(running, &request, &stream);
        }
        if let Some(process) = &running.process {
            // Continue the process if a system call fault stopped it.
            process.signal(Signal::SIGCONT);
        }
        while running.process.is_some() {
            let command = self.attend(running)?;
            if command.is_some() {
                return Ok(command);
            }
        }
        let commits = running.run.exit == Exit::Success;
        Ok(running.take_command(&HookPoint::Commit).filter(|_| commits))
    }

    /// Waits for one message from the hook's process.
    fn attend(&mut self, running: &mut Running) -> Result<Option<String>> {
        let Some(process) = &mut running.process else { return Ok(None) };
        if process.ended.is_some() && process.open == 0 {
            running.process_ended();
            return Ok(None);
        }
        let timeout = process.deadline.saturating_duration_since(Instant::now());
        // After the deadline, do not read on: a process that prints without end would never time
        // out.
        let message = match timeout {
            Duration::ZERO => Err(RecvTimeoutError::Timeout),
            _ => running.inbox.recv_timeout(timeout.min(INTERRUPT_POLL)),
        };
        let is_late = process.deadline <= Instant::now();
        let is_unwanted = self.interrupted() > 1 && !process.killed;
        match message {
            Ok(Message::Tool { request, stream, late }) => {
                return Ok(self.called(running, request, stream, late));
            }
            Ok(Message::Line { run, error, text }) if run == process.number => {
                running.keep_line(error, &text);
            }
            Ok(Message::Closed { run }) if run == process.number => process.open -= 1,
            Ok(Message::Stopped { run }) if run == process.number => {
                let syscall = running.faults.iter().find_map(Fault::syscall).cloned();
                return Ok(
                    syscall.and_then(|syscall| running.take_command(&HookPoint::Syscall(syscall)))
                );
            }
            Ok(Message::Exited { run, status }) if run == process.number => {
                process.ended = Some(status.doing(|| format!("wait for {}", running.run.hook))?);
                process.deadline = Instant::now() + OUTPUT_TIMEOUT;
            }
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if !is_late && !is_unwanted => {}
            Err(RecvTimeoutError::Timeout) if process.ended.is_some() => process.open = 0,
            Err(_) if process.killed => {
                let HookRun { unit, hook, .. } = &running.run;
                return Err(Error::refused(format!("cannot kill {unit} {hook}")));
            }
            Err(_) => {
                process.kill();
                running.run.log.push(if is_unwanted {
                    "ERROR killed: interrupted".to_owned()
                } else {
                    format!("ERROR killed: did not end within {} s", HOOK_TIMEOUT.as_secs())
                });
            }
        }
        Ok(None)
    }

    /// Handles a tool call and its fault, if one is set; returns the script command to run before
    /// the answer.
    fn called(
        &mut self,
        running: &mut Running,
        request: Request,
        stream: UnixStream,
        late: bool,
    ) -> Option<String> {
        // The same call, repeated with standard input or after a delay, or a call of an earlier
        // hook, which is refused.
        if request.stdin.is_some() || late || request.context != running.context.id {
            self.answer(running, &request, &stream);
            return None;
        }
        let tool = request.command.clone();
        running.run.calls.push(ToolCall {
            name: tool.clone(),
            args: request.args.clone(),
            code: 0,
        });
        let nth = running.run.calls.iter().filter(|call| call.name == tool).count();
        let tool_fault = running.faults.iter().find_map(|fault| match fault {
            Fault::Tool { tool: of, nth: at, tool_fault } if *of == tool && *at == nth => {
                Some(tool_fault.clone())
            }
            _ => None,
        });
        match tool_fault {
            Some(ToolFault::Kill) => {
                // Do not record a call that had no effect.
                running.run.calls.pop();
                if let Some(process) = &mut running.process {
                    process.kill();
                }
                None
            }
            Some(ToolFault::Fail(message)) => {
                let stderr = format!("ERROR {message}\n");
                running.reply(&tool, &stream, &Answer { code: 1, stderr, ..Answer::default() });
                None
            }
            Some(ToolFault::Answer { stdout, code }) => {
                running.reply(&tool, &stream, &Answer { code, stdout, ..Answer::default() });
                None
            }
            Some(ToolFault::Hang(None)) => {
                running.hung.push(stream);
                None
            }
            Some(ToolFault::Hang(Some(seconds))) => {
                let sender = self.units.get(&running.context.unit)?.sender.clone();
                thread::spawn(move || {
                    thread::sleep(Duration::from_secs(seconds));
                    let _ = sender.send(Message::Tool { request, stream, late: true });
                });
                None
            }
            None => {
                let command = running.take_command(&HookPoint::Tool { tool, nth });
                if command.is_some() {
                    running.halted = Some((request, stream));
                } else {
                    self.answer(running, &request, &stream);
                }
                command
            }
        }
    }

    /// The current ends of all logs of PostgreSQL servers.
    fn marks(&self) -> Vec<Mark> {
        let clusters = self.apps.values().filter_map(|app| app.kind.cluster());
        clusters
            .flat_map(|cluster| {
                cluster.members().map(|server| Mark::end(server.log())).collect::<Vec<_>>()
            })
            .collect()
    }

    fn requests(&self, name: &UnitName) -> usize {
        self.units.get(name).and_then(|unit| unit.pod.as_ref()).map_or(0, Pod::requests)
    }

    fn answer(&mut self, running: &mut Running, request: &Request, stream: &UnixStream) {
        let answer = tools::call(self, &mut running.context, request);
        running.reply(&request.command, stream, &answer);
    }

    /// Commits or discards the effects, updates the unit, and records the run.
    fn finish(&mut self, running: Running) -> Result<&HookRun> {
        let Running { mut context, mut run, faults, version, marks, requests, inbox, .. } = running;
        let (name, event) = (context.unit.clone(), context.event.clone());
        run.log.append(&mut context.log);
        if let Kind::Charm(charm) = &self.app(&name.app)?.kind {
            for mark in &marks {
                run.sql += mark.since(&charm.name);
            }
        }
        // The count of a container that was replaced during the hook starts at 0.
        run.pebble = self.requests(&name).saturating_sub(requests);
        if let Event::Broken { .. } = event {
            // Remember the relation's passwords for leak searches: the relation is about to be
            // removed.
            self.past_passwords = self.passwords();
        }
        let first = self.unit(&name)?.pending.is_none();
        let (now, permanent_faults, retries) = (self.now, self.permanent_faults, self.retries);
        // The end of the commit, on the model's clock.
        let mut committed = now;
        if run.exit == Exit::Success {
            let prepared = faults.iter().find_map(|fault| match fault {
                Fault::Commit(refused) => Some(*refused),
                _ => None,
            });
            let permanent =
                (self.permanent_faults.torn && first && event.is_hook()).then_some(Refused::Torn);
            let lacks_lease = self.lacks_lease(&context);
            if let Err(text) = self.commit(&mut context, prepared.or(permanent)) {
                if lacks_lease && self.version.retries_commits_without_lease() {
                    committed = now + COMMIT_RETRIES;
                }
                run.log.push(format!("ERROR {text}"));
                run.exit = Exit::Refused(text);
            }
        }
        run.results = std::mem::take(&mut context.action.results);
        run.failure = context.action.failure.take().or(run.failure);
        let unit = self.unit_mut(&name)?;
        unit.committing_until = (committed > now).then_some(committed);
        unit.receiver = Some(inbox);
        if let Some(agent) = &unit.agent {
            agent.serve(None);
        }
        if event.is_hook() {
            let before = unit.pending.take();
            let again = before.as_ref().is_some_and(|pending| pending.again);
            if run.exit != Exit::Success {
                let failures = before.map_or(0, |pending| pending.failures) + 1;
                let error = !matches!(run.exit, Exit::Killed(_));
                let due = match error {
                    true if retries => committed + back_off(failures),
                    true => Timestamp::MAX,
                    false => now,
                };
                unit.pending = Some(Pending { event, failures, error, due, again });
            } else if !again && (permanent_faults.twice || faults.contains(&Fault::Twice)) {
                unit.pending =
                    Some(Pending { event, failures: 0, error: false, due: now, again: true });
            } else {
                self.after(&name, &event, version);
            }
        }
        self.runs.push(run);
        self.runs.last().ok_or_else(|| Error::refused("no hook ran"))
    }

    /// Ends a run after an error of the simulator.
    fn abandon<T>(&mut self, mut running: Running, error: Error) -> Result<T> {
        if let Some(process) = &mut running.process {
            process.kill();
        }
        if let Some(unit) = self.units.get_mut(&running.context.unit) {
            unit.receiver = Some(running.inbox);
            if let Some(agent) = &unit.agent {
                agent.serve(None);
            }
        }
        Err(error)
    }
}

impl Running {
    /// Takes the script command for this point of the hook; each command runs once.
    fn take_command(&mut self, point: &HookPoint) -> Option<String> {
        let here = |fault: &Fault| matches!(fault, Fault::Command { at, .. } if at == point);
        let index = self.faults.iter().position(here)?;
        match self.faults.remove(index) {
            Fault::Command { command, .. } => Some(command),
            _ => None,
        }
    }

    fn reply(&mut self, tool: &str, stream: &UnixStream, answer: &Answer) {
        if let Some(call) = self.run.calls.iter_mut().rfind(|call| call.name == tool) {
            call.code = answer.code;
        }
        // Ignore errors: the caller may have been killed.
        let _ = wire::answer(stream, answer);
    }

    /// Logs a hook's output line by line; collects the output of an action or command.
    fn keep_line(&mut self, error: bool, text: &str) {
        if self.context.event.is_hook() {
            let level = if error { "WARNING" } else { "DEBUG" };
            self.context.log.push(format!("{level} {}", text.trim_end_matches('\n')));
        } else if error {
            self.run.stderr.push_str(text);
        } else {
            self.run.stdout.push_str(text);
        }
    }

    fn process_ended(&mut self) {
        let Some(process) = self.process.take() else { return };
        let run = &mut self.run;
        run.processes = process.watch.map(Watch::stop).unwrap_or_default();
        if let Some(report) = process.report {
            Usage { wall: run.wall, cpu: run.cpu, max_rss: run.max_rss } = launch::usage(&report);
            let _ = fs::remove_file(&report);
        }
        let status = process.ended.unwrap_or_default();
        run.exit = match (status.code(), status.signal()) {
            (Some(0), _) => Exit::Success,
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Killed(signal.unwrap_or_default()),
        };
    }
}

impl Process {
    fn kill(&mut self) {
        self.killed = true;
        self.deadline = Instant::now() + HOOK_TIMEOUT;
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.pid) {
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }
}

/// The program and arguments for an event; `None` when the charm has no program for the event.
fn program(context: &Context, charm: &Path) -> Result<Option<(PathBuf, Vec<String>)>> {
    if let Event::Exec { command, .. } = &context.event {
        let (program, args) =
            command.split_first().ok_or_else(|| Error::refused("no command specified"))?;
        return Ok(Some((PathBuf::from(program), args.to_vec())));
    }
    let folder = if context.event.is_hook() { "hooks" } else { "actions" };
    let candidates = [charm.join("dispatch"), charm.join(folder).join(&context.hook)];
    Ok(candidates.into_iter().find(|path| executable(path)).map(|program| (program, Vec::new())))
}

fn executable(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
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

/// Reads the trace of `strace` to its end: without a reader `strace` would be killed.
fn watch_for_stop(trace: PathBuf, run: usize, sender: Sender<Message>) {
    thread::spawn(move || {
        let Ok(file) = fs::File::open(&trace) else { return };
        let _ = fs::remove_file(&trace);
        for line in BufReader::new(file).lines().map_while(io::Result::ok) {
            if line.contains("--- stopped by SIGSTOP ---") {
                let _ = sender.send(Message::Stopped { run });
            }
        }
    });
}

/// Samples the command lines of a process and its descendants until stopped or dropped.
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
                locked(&seen).append(&mut found);
                thread::sleep(Duration::from_millis(3));
            }
        });
        watch
    }

    fn stop(self) -> BTreeSet<String> {
        std::mem::take(&mut *locked(&self.seen))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, atomic::Ordering::Relaxed);
    }
}

fn command_lines(pid: u32, found: &mut BTreeSet<String>) {
    if let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) {
        let text = String::from_utf8_lossy(&line).replace('\0', " ");
        // Skip the simulator's launcher.
        if !text.is_empty() && !text.starts_with(launch::NAME) {
            found.insert(text.trim_end().to_owned());
        }
    }
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        command_lines(child, found);
    }
}

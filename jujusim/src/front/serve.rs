//! A served model: runs hooks one at a time, and `juju` commands between two hooks.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::journal::{Filter, Journal};
use super::{Answer, Call, Outcome, Reply, SOCKET, client};
use crate::error::{Doing as _, Error, Result};
use crate::{Options, Sim};

/// How often the model checks for expired timers.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Clears a terminal, before each status of a `juju status --watch`.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Input of the model's loop.
enum Message {
    Call(Call, UnixStream),
    /// The command that `serve` was started with ended.
    Ended(ExitStatus),
    /// A signal asked the model to end.
    Stop,
}

/// A served model and the commands that wait for it.
pub(super) struct Front {
    pub(super) sim: Sim,
    pub(super) journal: Journal,
    /// Trusted applications; shown by `juju`, without other effect.
    pub(super) trusted: BTreeSet<String>,
    waiting: Vec<Waiting>,
    followers: Vec<Follower>,
    watchers: Vec<Watcher>,
}

/// A command that cannot be done yet.
struct Waiting {
    call: Call,
    stream: UnixStream,
    since: Instant,
}

/// A `juju status --watch`.
struct Watcher {
    call: Call,
    stream: UnixStream,
    due: Instant,
}

/// A `juju debug-log` that follows the log.
struct Follower {
    stream: UnixStream,
    filter: Filter,
    read: usize,
}

/// Serves a new model until a signal, or until `command` ends, with its exit code.
pub fn serve(options: &Options, socket: Option<&Path>, command: &[OsString]) -> Result<u8> {
    let (sender, receiver) = mpsc::channel();
    stop_on_signals(sender.clone())?;
    let sim = Sim::new(options)?;
    let socket = socket.map_or_else(|| sim.model.dir.join("juju.socket"), Path::to_owned);
    let socket = std::path::absolute(&socket).doing(|| format!("find {}", socket.display()))?;
    let path = link(&sim, options)?;
    let listener =
        UnixListener::bind(&socket).doing(|| format!("listen at {}", socket.display()))?;
    let _socket = Socket(socket.clone());
    listen(listener, sender.clone());
    let child = match command {
        [] => {
            let quoted =
                |text: &Path| format!("'{}'", text.display().to_string().replace('\'', r"'\''"));
            let _ = writeln!(
                io::stdout(),
                "export PATH={}:\"$PATH\"; export {SOCKET}={}",
                quoted(&path),
                quoted(&socket)
            );
            None
        }
        [program, args @ ..] => Some(start(program, args, &path, &socket, sender)?),
    };
    let mut front = Front {
        sim,
        journal: Journal::default(),
        trusted: BTreeSet::new(),
        waiting: Vec::new(),
        followers: Vec::new(),
        watchers: Vec::new(),
    };
    let ended = front.live(&receiver);
    if let (Some(child), Ok(None) | Err(_)) = (child, &ended) {
        let _ = kill(child, Signal::SIGTERM);
    }
    Ok(ended?.map_or(0, code))
}

/// The exit code as a shell reports it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Creates a directory for `PATH` with the simulator under the names `juju` and `kubectl`.
fn link(sim: &Sim, options: &Options) -> Result<PathBuf> {
    let dir = sim.model.dir.join("bin");
    std::fs::create_dir_all(&dir).doing(|| format!("make {}", dir.display()))?;
    for name in [client::NAME, client::KUBECTL] {
        let link = dir.join(name);
        symlink(options.launcher.with_file_name("jujusim"), &link)
            .doing(|| format!("make {}", link.display()))?;
    }
    Ok(dir)
}

/// Ends the model on a signal, so that its directory and processes are removed. The signals are
/// handled, not blocked: child processes would inherit a signal mask.
fn stop_on_signals(sender: Sender<Message>) -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).doing(|| "handle signals".to_owned())?;
    thread::spawn(move || {
        for _ in signals.forever() {
            if sender.send(Message::Stop).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn listen(listener: UnixListener, sender: Sender<Message>) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut line = String::new();
                let Ok(_) = BufReader::new(&stream).read_line(&mut line) else { return };
                let Ok(call) = serde_json::from_str(&line) else { return };
                let _ = sender.send(Message::Call(call, stream));
            });
        }
    });
}

fn start(
    program: &OsString,
    args: &[OsString],
    path: &Path,
    socket: &Path,
    sender: Sender<Message>,
) -> Result<Pid> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(path.to_owned()).chain(std::env::split_paths(&old));
    let paths = std::env::join_paths(dirs)
        .map_err(|error| Error::refused(format!("cannot use {}: {error}", path.display())))?;
    let mut command = Command::new(program);
    command.args(args).env("PATH", paths).env(SOCKET, socket);
    let mut child: Child = command.spawn().doing(|| format!("run {}", program.display()))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    thread::spawn(move || {
        let ended = child.wait().map_or(Message::Stop, Message::Ended);
        let _ = sender.send(ended);
    });
    Ok(pid)
}

impl Front {
    /// Runs hooks and commands until the end; returns the exit status of the command that `serve`
    /// was started with.
    fn live(&mut self, receiver: &Receiver<Message>) -> Result<Option<ExitStatus>> {
        let mut seen = Instant::now();
        loop {
            let now = Instant::now();
            self.sim.tick(now.duration_since(seen));
            seen = now;
            let busy = self.run_hook()?;
            self.try_again();
            self.tell_followers();
            self.tell_watchers();
            let pause = if busy { Duration::ZERO } else { POLL_INTERVAL };
            match receiver.recv_timeout(pause) {
                Ok(Message::Call(call, stream)) => {
                    self.answer(Waiting { call, stream, since: Instant::now() });
                }
                Ok(Message::Ended(status)) => return Ok(Some(status)),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Runs the next hook of the unit whose turn it is; returns whether one ran.
    fn run_hook(&mut self) -> Result<bool> {
        let Some(unit) = self.sim.next_unit() else { return Ok(false) };
        self.sim.run_next(&unit, false, &mut String::new())?;
        self.read_log();
        Ok(true)
    }

    fn read_log(&mut self) {
        self.journal.read(&self.sim.model, |run| {
            let _ = writeln!(io::stderr(), "{} {}: {}", run.unit, run.hook, run.exit);
        });
    }

    fn try_again(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.answer(waiting);
        }
    }

    fn answer(&mut self, asked: Waiting) {
        let outcome = self.attempt(&asked.call);
        self.read_log();
        let Waiting { stream, since, .. } = &asked;
        match outcome {
            Outcome::Done(answer) => finish(stream, answer),
            Outcome::Wait { limit, overdue } if since.elapsed() >= limit => {
                finish(stream, Answer::error(&overdue, 1));
            }
            Outcome::Wait { .. } => self.waiting.push(asked),
            Outcome::Become { line, dir } => {
                send(stream, &Reply::Become { line, dir }).unwrap_or_default();
            }
            Outcome::Repeat { answer, every } => {
                let text = format!("{CLEAR}{}{}", answer.stdout, answer.stderr);
                if send(stream, &Reply::Out(text)).is_ok() {
                    let Waiting { call, stream, .. } = asked;
                    self.watchers.push(Watcher { call, stream, due: Instant::now() + every });
                }
            }
            Outcome::Follow(filter) => {
                self.followers.push(Follower { stream: asked.stream, filter, read: 0 });
            }
        }
    }

    /// Answers the watchers whose interval is over.
    fn tell_watchers(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.watchers)
            .into_iter()
            .partition::<Vec<_>, _>(|watcher| watcher.due <= now);
        self.watchers = later;
        for Watcher { call, stream, .. } in due {
            self.answer(Waiting { call, stream, since: now });
        }
    }

    /// Sends new log lines to followers, and drops followers that closed their connection.
    fn tell_followers(&mut self) {
        let journal = &self.journal;
        self.followers.retain_mut(|Follower { stream, filter, read }| {
            let text: String = journal.since(*read, filter).collect();
            *read = journal.len();
            text.is_empty() || send(stream, &Reply::Out(text)).is_ok()
        });
    }
}

/// Sends an answer. Ignores errors: the caller may be gone.
fn finish(stream: &UnixStream, answer: Answer) {
    let Answer { stdout, stderr, code } = answer;
    let replies = [Reply::Out(stdout), Reply::Err(stderr), Reply::Exit(code)];
    let _ = replies.iter().try_for_each(|reply| send(stream, reply));
}

fn send(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let line = serde_json::to_string(reply)?;
    stream.write_all(format!("{line}\n").as_bytes())
}

/// The socket's file, removed when dropped.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

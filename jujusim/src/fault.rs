//! Faults to inject into a unit's next hook.

use std::path::Path;

use crate::commit::Refused;

/// A fault of a unit's next hook, or a command to run during that hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A fault of one hook-tool call.
    Tool { tool: String, nth: usize, tool_fault: ToolFault },
    /// A fault of system calls, injected with `strace -e inject`.
    Syscall(Syscall),
    /// The commit fails.
    Commit(Refused),
    /// The hook succeeds, but the agent dies before it records the success: the hook runs a second
    /// time.
    Twice,
    /// Runs a script command at this point.
    Command { at: HookPoint, command: String },
}

/// What happens to a hook-tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToolFault {
    /// Kills the hook; the call has no effect.
    Kill,
    /// The tool exits with 1 and this message.
    Fail(String),
    /// The tool prints this instead of its output; the call has no effect.
    Answer { stdout: String, code: i32 },
    /// Delays the answer by this number of seconds; forever without a number. The call has its
    /// effect when the tool answers.
    Hang(Option<u64>),
}

/// A point within a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HookPoint {
    /// After the tool is called, before it answers.
    Tool { tool: String, nth: usize },
    /// After the system call; the process continues when the command is done.
    Syscall(Syscall),
    /// After the hook exits with 0, before the commit.
    Commit,
}

/// System calls with an injected fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Syscall {
    pub(crate) name: String,
    /// Which call, counted from 1 in each process.
    pub(crate) nth: usize,
    /// Also every later call.
    pub(crate) onwards: bool,
    /// Only calls on this file.
    pub(crate) path: Option<String>,
    /// Also in the processes that the hook starts.
    pub(crate) follow: bool,
    pub(crate) outcome: Outcome,
}

/// How a system call with an injected fault ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process is killed instead.
    Kill,
    /// The call fails with this error (such as `ENOSPC`) and has no effect.
    Error(String),
    /// The process is stopped after the call.
    Stop,
}

impl Fault {
    /// The system call of this fault.
    pub(crate) fn syscall(&self) -> Option<&Syscall> {
        match self {
            Fault::Syscall(syscall) | Fault::Command { at: HookPoint::Syscall(syscall), .. } => {
                Some(syscall)
            }
            _ => None,
        }
    }
}

impl Syscall {
    /// The arguments of `strace` before the program; the trace goes to `output`.
    pub(crate) fn strace(&self, output: &Path) -> Vec<String> {
        let Syscall { name, nth, .. } = self;
        let onwards = if self.onwards { "+" } else { "" };
        let outcome = match &self.outcome {
            Outcome::Kill => "error=EIO:signal=SIGKILL".to_owned(),
            Outcome::Error(errno) => format!("error={errno}"),
            Outcome::Stop => "signal=SIGSTOP".to_owned(),
        };
        let mut options = vec!["-qq".to_owned(), "-o".to_owned(), output.display().to_string()];
        options.extend(self.follow.then(|| "-f".to_owned()));
        if let Some(path) = &self.path {
            options.extend(["-P".to_owned(), path.clone()]);
        }
        options.extend(["-e".to_owned(), format!("trace={name}")]);
        options.extend(["-e".to_owned(), format!("inject={name}:{outcome}:when={nth}{onwards}")]);
        options
    }
}

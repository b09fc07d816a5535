//! Mishaps prepared for a unit's next hook.

use std::path::Path;

use crate::commit::Refused;

/// What goes wrong in the next hook of a unit, or happens meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// At one call of a hook tool.
    Tool { tool: String, nth: usize, mishap: Mishap },
    /// The process makes system calls that end otherwise (`strace -e inject`).
    Syscall(Syscall),
    /// The effects are refused.
    Commit(Refused),
    /// The hook succeeds, but the agent dies before it notes that: the hook runs a second time.
    Twice,
    /// A word is done before this moment.
    Word { at: Moment, word: String },
}

/// What becomes of a call of a hook tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The hook dies; the call has no effect.
    Kill,
    /// The tool exits with 1 and this message.
    Fail(String),
    /// The tool prints something else than it should; the call has no effect.
    Answer { stdout: String, code: i32 },
    /// No answer before so many seconds; without a number, never. The call has its effect when it is answered.
    Hang(Option<u64>),
}

/// A point within a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The tool was called and has not been answered.
    Tool { tool: String, nth: usize },
    /// The system call was made; the process goes on when the word is done.
    Syscall(Syscall),
    /// The hook exited with 0, nothing is committed.
    Commit,
}

/// System calls that are interfered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Syscall {
    pub(crate) name: String,
    /// Counted from 1, for each process by itself.
    pub(crate) nth: usize,
    /// Every later call, too.
    pub(crate) onwards: bool,
    /// Only calls that touch this file.
    pub(crate) path: Option<String>,
    /// Also in the processes that the hook starts.
    pub(crate) follow: bool,
    pub(crate) outcome: Outcome,
}

/// How a system call that is interfered with ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process dies instead.
    Kill,
    /// It fails with this error (`ENOSPC`) and has no effect.
    Error(String),
    /// The process stops after it.
    Stop,
}

impl Fault {
    /// The system call it is about.
    pub(crate) fn syscall(&self) -> Option<&Syscall> {
        match self {
            Fault::Syscall(syscall) | Fault::Word { at: Moment::Syscall(syscall), .. } => Some(syscall),
            _ => None,
        }
    }
}

impl Syscall {
    /// The arguments of `strace` before the program; what it sees goes to a file.
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

//! A hook tool: a program on `PATH` that Juju puts there for the hook.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::printable::argument;
use crate::spans;

/// How long a tool may take. On a busy cluster `secret-get` takes seconds.
const LONGEST: Duration = Duration::from_secs(120);
/// The longest output of a tool, in bytes.
const LARGEST: u64 = 16 << 20;

/// The failure of a hook tool.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The tool could not be started, as outside a hook.
    #[error("cannot start {tool}: {source}; check the unit's agent, Juju retries the hook")]
    Start {
        /// The tool.
        tool: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// The tool exited with an error: status 2 for a malformed call, 1 for a request that Juju
    /// refuses.
    #[error("{tool} failed ({status}): {stderr}")]
    Failed {
        /// The tool.
        tool: &'static str,
        /// The exit status.
        status: ExitStatus,
        /// The tool's error output.
        stderr: String,
    },
    /// The tool did not end in time, and was killed.
    #[error("{tool} took too long and was killed; check the unit's agent, Juju retries the hook")]
    Timeout {
        /// The tool.
        tool: &'static str,
    },
    /// The tool's output is too large.
    #[error("the answer of {tool} is too long; check the databags of this unit's relations")]
    TooLarge {
        /// The tool.
        tool: &'static str,
    },
    /// The tool's output is not the expected JSON. The message omits the output, which may hold
    /// a secret.
    #[error("cannot read the answer of {tool}: line {line}, column {column}")]
    Answer {
        /// The tool.
        tool: &'static str,
        /// The line of the output.
        line: usize,
        /// The column in that line.
        column: usize,
    },
}

impl ToolError {
    /// Whether a relation, secret, label or revision does not exist, or this unit may not read it.
    /// Juju's wording differs by version; these two phrases occur in all (juju/juju's `jujuc`).
    fn is_absent(&self) -> bool {
        matches!(self, Self::Failed { stderr, .. }
            if stderr.contains("not found") || stderr.contains("permission denied"))
    }
}

/// Renders a map as YAML for `--file`. Compact JSON is valid YAML, except DEL and the C1 control
/// characters, which Juju's YAML reader accepts only escaped.
pub(super) fn to_yaml(texts: &BTreeMap<String, String>) -> String {
    let json = serde_json::to_string(texts).unwrap_or_default();
    if !json.contains(|c| matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')) {
        return json;
    }
    json.chars()
        .map(|c| match c {
            '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

/// Runs a tool and parses its JSON output.
pub(super) fn query<T: DeserializeOwned>(
    tool: &'static str,
    args: &[&str],
) -> Result<T, ToolError> {
    let stdout = run(tool, &[args, &["--format=json"]].concat(), None)?;
    serde_json::from_slice(&stdout).map_err(|error| ToolError::Answer {
        tool,
        line: error.line(),
        column: error.column(),
    })
}

/// Turns an error about an absent object into `None`.
pub(super) fn absent_is_none<T>(answer: Result<T, ToolError>) -> Result<Option<T>, ToolError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs a tool and returns its output. The error of a failed tool contains its error output.
pub(super) fn run(
    tool: &'static str,
    args: &[&str],
    stdin: Option<&str>,
) -> Result<Vec<u8>, ToolError> {
    spans::within(tool, || run_within(LONGEST, LARGEST, tool, args, stdin))
}

/// As [`run`], for a log line, which is no work of the hook.
pub(super) fn log(args: &[&str]) -> Result<(), ToolError> {
    run_within(LONGEST, LARGEST, "juju-log", args, None).map(drop)
}

/// As [`run`], for a tool that takes at most `longest` and prints at most `largest` bytes.
#[expect(clippy::disallowed_methods, reason = "the one place that starts a hook tool")]
fn run_within(
    longest: Duration,
    largest: u64,
    tool: &'static str,
    args: &[&str],
    stdin: Option<&str>,
) -> Result<Vec<u8>, ToolError> {
    let start = |source| ToolError::Start { tool, source };
    tracing::trace!(tool, ?args);
    let mut child = Command::new(tool)
        .args(args.iter().map(|text| argument(text)))
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    let watch =
        child.stderr.take().map(|stderr| thread::spawn(move || watch(stderr, pid, longest)));
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        // A tool that fails before it reads closes the pipe; the tool's own error is reported.
        let _ = pipe.write_all(text.as_bytes());
    }
    let mut stdout = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(largest + 1).read_to_end(&mut stdout).map_err(start)?;
    }
    let status = child.wait().map_err(start)?;
    let (stderr, is_in_time) = watch.and_then(|watch| watch.join().ok()).unwrap_or_default();
    if !is_in_time {
        return Err(ToolError::Timeout { tool });
    }
    if stdout.len() as u64 > largest {
        return Err(ToolError::TooLarge { tool });
    }
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        let stderr = if stderr.is_empty() { "it printed no reason".to_owned() } else { stderr };
        return Err(ToolError::Failed { tool, status, stderr });
    }
    Ok(stdout)
}

/// Collects the error output of a tool until the tool ends, and whether it ended in time. A tool
/// that takes too long is killed.
#[expect(clippy::disallowed_methods, reason = "a tool has a time limit")]
fn watch(mut stderr: ChildStderr, pid: Pid, longest: Duration) -> (Vec<u8>, bool) {
    let deadline = Instant::now() + longest;
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => {
                let _ = kill(pid, Signal::SIGKILL);
                return (text, false);
            }
            Err(nix::errno::Errno::EINTR) => continue,
            _ => {}
        }
        match stderr.read(&mut chunk) {
            Ok(0) | Err(_) => return (text, true),
            // The reason of a failure is short.
            Ok(read) if text.len() < 1 << 16 => text.extend_from_slice(&chunk[..read]),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Texts;

    #[test]
    fn a_tool_is_limited_in_time_and_output() {
        let (soon, later) = (Duration::from_millis(100), Duration::from_secs(60));
        // Neither ends by itself, and the first one never reads its input.
        assert!(matches!(
            run_within(soon, 9, "sleep", &["1h"], Some(&"x".repeat(1 << 20))),
            Err(ToolError::Timeout { tool: "sleep" })
        ));
        assert!(matches!(
            run_within(later, 9, "yes", &[], None),
            Err(ToolError::TooLarge { tool: "yes" })
        ));
        assert_eq!(run_within(later, 9, "printf", &["123456789"], None).expect("9"), b"123456789");
        let failed = run_within(later, 9, "sh", &["-c", "echo why >&2; exit 3"], None);
        assert!(matches!(failed, Err(ToolError::Failed { stderr, .. }) if stderr == "why"));
    }

    #[test]
    fn characters_that_jujus_yaml_reader_rejects_are_escaped() {
        let texts = BTreeMap::from([("k".to_owned(), "a\u{7f}b\u{85}é😀\n".to_owned())]);
        let yaml = to_yaml(&texts);
        assert_eq!(yaml, r#"{"k":"a\u007fb\u0085é😀\n"}"#);
        assert_eq!(serde_json::from_str::<Texts>(&yaml).expect("json"), texts);
    }
}

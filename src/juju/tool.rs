//! A hook tool: a program on `PATH` that Juju puts there for the hook.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::printable::argument;

/// The failure of a hook tool.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The tool could not be started, as outside a hook.
    #[error("cannot start {tool}: {source}")]
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
#[expect(clippy::disallowed_methods, reason = "the one place that starts a hook tool")]
pub(super) fn run(
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
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        // A tool that fails before it reads closes the pipe; the tool's own error is reported.
        let _ = pipe.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let stderr = if stderr.is_empty() { "it printed no reason".to_owned() } else { stderr };
        return Err(ToolError::Failed { tool, status: output.status, stderr });
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Texts;

    #[test]
    fn characters_that_jujus_yaml_reader_rejects_are_escaped() {
        let texts = BTreeMap::from([("k".to_owned(), "a\u{7f}b\u{85}é😀\n".to_owned())]);
        let yaml = to_yaml(&texts);
        assert_eq!(yaml, r#"{"k":"a\u007fb\u0085é😀\n"}"#);
        assert_eq!(serde_json::from_str::<Texts>(&yaml).expect("json"), texts);
    }
}

//! The process of a hook tool: one request to the unit agent's socket, one answer.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use crate::tools::{Answer, Request};

/// Asks the unit agent to run the tool `name` and prints the answer; returns the exit code.
pub fn run(name: &str, args: impl Iterator<Item = OsString>) -> u8 {
    let answer = ask(name, args).unwrap_or_else(|text| Answer {
        code: 1,
        stderr: format!("ERROR {text}\n"),
        ..Answer::default()
    });
    // Ignore errors: the caller may have closed its end.
    let _ = io::stdout().write_all(answer.stdout.as_bytes());
    let _ = io::stderr().write_all(answer.stderr.as_bytes());
    u8::try_from(answer.code).unwrap_or(1)
}

/// Asks the unit agent of this environment to run a tool; fails when no agent answers.
pub fn ask(name: &str, args: impl Iterator<Item = OsString>) -> Result<Answer, String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} not set"));
    let context = variable("JUJU_CONTEXT_ID")?;
    let socket = variable("JUJU_AGENT_SOCKET_ADDRESS")?;
    let dir =
        std::env::current_dir().map_err(|error| error.to_string())?.to_string_lossy().into_owned();
    let args: Result<Vec<String>, OsString> = args.map(OsString::into_string).collect();
    let args = args.map_err(|arg| {
        format!("jujusim does not model the argument {}: not UTF-8", arg.display())
    })?;
    let mut request = Request { context, dir, command: name.to_owned(), args, stdin: None };
    let answer = send(&socket, &request)?;
    if !answer.wants_stdin {
        return Ok(answer);
    }
    let mut stdin = Vec::new();
    io::stdin().read_to_end(&mut stdin).map_err(|error| error.to_string())?;
    let stdin = String::from_utf8(stdin);
    request.stdin =
        Some(stdin.map_err(|_| "jujusim does not model standard input that is not UTF-8")?);
    send(&socket, &request)
}

fn send(socket: &str, request: &Request) -> Result<Answer, String> {
    let mut stream =
        UnixStream::connect(socket).map_err(|error| format!("dial unix {socket}: {error}"))?;
    let mut line = serde_json::to_string(request).map_err(|error| error.to_string())?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(|error| error.to_string())?;
    serde_json::from_str(&answer).map_err(|_| "connection is shut down".to_owned())
}

//! Commands in the workload container: started by HTTP, their output read from websockets.

use std::{
    fmt, io,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;
use tungstenite::{
    Error, HandshakeError, Message, WebSocket, client::client, error::ProtocolError,
};

use super::{
    client::{ANSWER_LIMIT, Pebble, duration},
    error::PebbleError,
    http::{self, ANSWER_SIZE_MAX},
};
use crate::workload::bounded::Bounded;

/// The message by which either side ends its stream; the socket stays open.
const END: &str = r#"{"command":"end"}"#;

/// The exit code and output of a command that ended.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code, or 128 plus the number of the signal that killed the command.
    pub status: i32,
    /// What the command printed to standard output.
    pub stdout: Vec<u8>,
    /// What the command printed to standard error.
    pub stderr: Vec<u8>,
}

/// The task for whose websockets Pebble waits.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Started {
    task_id: String,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("status", &self.status)
            .field("stdout", &format_args!("‹{} bytes›", self.stdout.len()))
            .field("stderr", &format_args!("‹{} bytes›", self.stderr.len()))
            .finish()
    }
}

impl Pebble {
    /// Runs a command without input, in `/` and as the user of Pebble.
    ///
    /// Pebble kills the command at the limit, which is a [`PebbleError::Change`]. A command that is
    /// not installed is a [`PebbleError::Api`] with status 400.
    pub fn exec(&self, command: &[&str], limit: Duration) -> Result<Output, PebbleError> {
        let request = json!({
            "command": command,
            "working-dir": "/",
            "timeout": duration(limit),
            "split-stderr": true,
        });
        let begun = self.post("/v1/exec", &request)?;
        let change = begun.change()?;
        let Started { task_id } = begun.result()?;
        let (stdout, stderr) = self.within(limit + ANSWER_LIMIT, |left| {
            let run = Run { pebble: self, command, limit, deadline: Instant::now() + left };
            run.output(&task_id)
        })?;
        let status = self.wait(&change, ANSWER_LIMIT)?.exit_code()?;
        Ok(Output { status, stdout, stderr })
    }
}

/// A command that was started.
struct Run<'a> {
    pebble: &'a Pebble,
    command: &'a [&'a str],
    limit: Duration,
    deadline: Instant,
}

impl Run<'_> {
    /// Reads both streams to their end. The command starts when both sockets are open. It blocks on
    /// a stream that nobody reads, so both are read at the same time.
    fn output(&self, task: &str) -> Result<(Vec<u8>, Vec<u8>), PebbleError> {
        let mut stdout = self.open(task, "stdio")?;
        let mut stderr = self.open(task, "stderr")?;
        stdout.send(Message::text(END)).map_err(|error| self.failed(error))?;
        thread::scope(|scope| {
            let stderr = scope.spawn(|| self.drain(&mut stderr));
            let stdout = self.drain(&mut stdout);
            let stderr = stderr.join().expect("reading does not panic");
            Ok((stdout?, stderr?))
        })
    }

    fn open(
        &self,
        task: &str,
        stream: &str,
    ) -> Result<WebSocket<Bounded<UnixStream>>, PebbleError> {
        let bounded =
            Bounded { stream: http::connect(&self.pebble.socket)?, deadline: self.deadline };
        let opened = client(format!("ws://localhost/v1/tasks/{task}/websocket/{stream}"), bounded);
        match opened {
            Ok((socket, _)) => Ok(socket),
            Err(HandshakeError::Failure(error)) => Err(self.failed(error)),
            Err(HandshakeError::Interrupted(_)) => Err(self.timed_out()),
        }
    }

    /// Reads a stream to its end, or else the command would block, and keeps no more than the
    /// limit.
    fn drain(&self, socket: &mut WebSocket<Bounded<UnixStream>>) -> Result<Vec<u8>, PebbleError> {
        let mut printed = Vec::new();
        loop {
            match socket.read().map_err(|error| self.failed(error))? {
                Message::Binary(bytes) if printed.len() <= ANSWER_SIZE_MAX => {
                    printed.extend_from_slice(&bytes);
                }
                Message::Text(text) if text == END => break,
                _ => {}
            }
        }
        if printed.len() > ANSWER_SIZE_MAX {
            let command = self.command.join(" ");
            return Err(PebbleError::Protocol(format!(
                "the command {command} prints more than {ANSWER_SIZE_MAX} bytes"
            )));
        }
        Ok(printed)
    }

    fn failed(&self, error: Error) -> PebbleError {
        match error {
            Error::Io(reason) if reason.kind() == io::ErrorKind::TimedOut => self.timed_out(),
            Error::Io(reason) => http::absent(&self.pebble.socket, reason),
            Error::ConnectionClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                http::absent(&self.pebble.socket, io::ErrorKind::UnexpectedEof.into())
            }
            other => PebbleError::Protocol(format!("a websocket: {other}")),
        }
    }

    fn timed_out(&self) -> PebbleError {
        let what = format!("the command {}", self.command.join(" "));
        PebbleError::TimedOut { what, limit: self.limit }
    }
}

//! A client's side of PostgreSQL's protocol, message by message, for what no driver here would
//! send.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

/// The version that every driver speaks.
pub(crate) const PROTOCOL_3_0: u32 = 3 << 16;

/// A connection to a port of 127.0.0.1.
pub(crate) struct Wire(TcpStream);

/// What the other side sent.
pub(crate) struct Message {
    pub(crate) kind: u8,
    body: Vec<u8>,
}

impl Wire {
    /// Sends a startup packet.
    pub(crate) fn start(port: u16, protocol: u32, parameters: &[(&str, &str)]) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut body = protocol.to_be_bytes().to_vec();
        for (key, value) in parameters {
            body.extend(text(key));
            body.extend(text(value));
        }
        body.push(0);
        let mut wire = Self(stream);
        wire.0.write_all(&with_length(&body))?;
        Ok(wire)
    }

    /// The same, and the whole login by SCRAM; or why not.
    pub(crate) fn log_in(
        port: u16,
        parameters: &[(&str, &str)],
        password: &str,
    ) -> io::Result<Self> {
        let mut wire = Self::start(port, PROTOCOL_3_0, parameters)?;
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        wire.sasl()?;
        let length = i32::try_from(scram.message().len()).expect("it is short");
        let first = [&text("SCRAM-SHA-256"), &length.to_be_bytes()[..], scram.message()].concat();
        wire.send(&[message(b'p', &first)])?;
        scram.update(&wire.sasl()?)?;
        wire.send(&[message(b'p', scram.message())])?;
        scram.finish(&wire.sasl()?)?;
        wire.rows()?;
        Ok(wire)
    }

    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).expect("it is short");
        let mut body = vec![0; length - length_size()];
        self.0.read_exact(&mut body)?;
        Ok(Message { kind, body })
    }

    /// The first column of each row, by a batch of messages that ends with [`sync`].
    pub(crate) fn ask(&mut self, batch: &[Vec<u8>]) -> io::Result<Vec<String>> {
        self.send(batch)?;
        self.rows()
    }

    fn send(&mut self, batch: &[Vec<u8>]) -> io::Result<()> {
        self.0.write_all(&batch.concat())
    }

    /// Up to where the other side is ready, or to its first error if it says no more.
    fn rows(&mut self) -> io::Result<Vec<String>> {
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            let message = match (self.receive(), error.take()) {
                (Err(_), Some(error)) => return Err(error),
                (message, earlier) => {
                    error = earlier;
                    message?
                }
            };
            match message.kind {
                b'D' => rows.push(message.first_column()),
                b'E' => error = error.or(Some(io::Error::other(message.error()))),
                b'Z' => return error.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// What SCRAM is to go on with.
    fn sasl(&mut self) -> io::Result<Vec<u8>> {
        let message = self.receive()?;
        match message.kind {
            b'R' => Ok(message.body.into_iter().skip(length_size()).collect()),
            _ => Err(io::Error::other(message.error())),
        }
    }
}

impl Message {
    /// The message in an error.
    pub(crate) fn error(&self) -> String {
        let mut fields = self.body.split(|byte| *byte == 0);
        let message = fields.find_map(|field| field.strip_prefix(b"M")).unwrap_or_default();
        String::from_utf8_lossy(message).into_owned()
    }

    /// After the number of columns and the length of the first.
    fn first_column(&self) -> String {
        let value = self.body.get(2..).and_then(|rest| rest.split_first_chunk());
        let (length, value) = value.expect("a column");
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or_default();
        String::from_utf8_lossy(&value[..length]).into_owned()
    }
}

/// Prepares a statement of this name, which may be empty.
pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[text(name), text(sql), vec![0; 2]].concat())
}

/// Makes the unnamed portal of a statement without parameters.
pub(crate) fn bind(statement: &str) -> Vec<u8> {
    message(b'B', &[text(""), text(statement), vec![0; 6]].concat())
}

/// Executes the unnamed portal, without a limit.
pub(crate) fn execute() -> Vec<u8> {
    message(b'E', &[text(""), vec![0; 4]].concat())
}

/// Ends a batch.
pub(crate) fn sync() -> Vec<u8> {
    message(b'S', &[])
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [vec![kind], with_length(body)].concat()
}

/// The length counts itself.
fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length_size() + body.len()).expect("it is short");
    [&length.to_be_bytes(), body].concat()
}

const fn length_size() -> usize {
    size_of::<u32>()
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

//! What was said on connections, from the bytes that were sent: to PostgreSQL and on consoles in
//! PostgreSQL's protocol, to Pebble in HTTP.

use std::collections::BTreeMap;

/// One thing that was said.
pub(crate) enum Said {
    Sql(Sql),
    /// A command on the console of a process.
    Console(String),
    /// What Pebble is ordered. What it is asked is left out.
    Pebble {
        target: String,
        body: String,
    },
}

/// What was said to PostgreSQL. What only keeps a connection going is left out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sql {
    /// A question and its values.
    Asks(String, Vec<String>),
    /// Anything else.
    Changes(String),
}

/// How that begins which is said of a connection, or changes nothing but it.
const OF_CONNECTION: [&str; 3] =
    ["SHOW ", "SET ROLE NONE; SET search_path ", "SET statement_timeout "];

/// The connections of a process, by file descriptor.
#[derive(Default)]
pub(crate) struct Talks(BTreeMap<String, Talk>);

struct Talk {
    with: With,
    /// What was sent and is not whole yet.
    bytes: Vec<u8>,
    has_begun: bool,
    /// Prepared statements, by name.
    prepared: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Postgresql,
    Console,
    Pebble,
}

impl Talks {
    /// A connection to a path, if it has one.
    pub(crate) fn begin(&mut self, descriptor: &str, path: &str, line: &str) {
        let with = if line.contains("AF_INET") {
            With::Postgresql
        } else if path.contains("/.s.PGSQL.") {
            With::Console
        } else if path.ends_with("/pebble.socket") {
            With::Pebble
        } else {
            self.0.remove(descriptor);
            return;
        };
        let talk = Talk { with, bytes: Vec::new(), has_begun: false, prepared: BTreeMap::new() };
        self.0.insert(descriptor.to_owned(), talk);
    }

    /// What becomes whole by these bytes.
    pub(crate) fn go_on(&mut self, descriptor: &str, bytes: &[u8]) -> impl Iterator<Item = Said> {
        let mut said = Vec::new();
        if let Some(talk) = self.0.get_mut(descriptor) {
            talk.bytes.extend(bytes);
            match talk.with {
                With::Pebble => said.extend(talk.order()),
                With::Postgresql | With::Console => {
                    while let Some(message) = talk.message() {
                        said.extend(talk.read(&message));
                    }
                }
            }
        }
        said.into_iter()
    }
}

impl Talk {
    /// The next message, with its letter, but for the first ones, which have none.
    fn message(&mut self) -> Option<Vec<u8>> {
        let begin = usize::from(self.has_begun);
        let length: [u8; 4] = self.bytes.get(begin..begin + 4)?.try_into().ok()?;
        let length = begin + usize::try_from(u32::from_be_bytes(length)).ok()?;
        (self.bytes.len() >= length).then(|| self.bytes.drain(..length).collect())
    }

    fn read(&mut self, message: &[u8]) -> Option<Said> {
        if !self.has_begun {
            // A request for TLS comes before, and is refused; of what went on inside nothing could
            // be read.
            self.has_begun = message.get(4..8) != Some(&[4, 210, 22, 47]);
            let is_plain = !self.has_begun || message.get(4..8) == Some(&[0, 3, 0, 0]);
            assert!(is_plain, "not PostgreSQL's protocol, or TLS");
            return None;
        }
        let mut body = Body(&message[5..]);
        match (message[0], self.with) {
            (b'Q', With::Console) => Some(Said::Console(body.text())),
            (b'Q', _) => {
                let sql = body.text();
                let is_of_connection = OF_CONNECTION.iter().any(|begin| sql.starts_with(begin));
                (!is_of_connection).then(|| Said::Sql(Sql::Changes(sql.trim().to_owned())))
            }
            (b'P', _) => {
                let name = body.text();
                self.prepared.insert(name, body.text());
                None
            }
            (b'B', _) => {
                let _portal = body.text();
                let sql = self.prepared.get(&body.text()).map(|sql| sql.trim()).unwrap_or_default();
                let formats = body.number(2);
                body.skip(2 * formats);
                let values: Vec<String> = (0..body.number(2)).map(|_| body.value()).collect();
                let is_question = sql.starts_with("SELECT ");
                let sql = sql.to_owned();
                Some(Said::Sql(if is_question {
                    Sql::Asks(sql, values)
                } else {
                    Sql::Changes(sql)
                }))
            }
            _ => None,
        }
    }

    /// An order, once all of it was sent.
    fn order(&mut self) -> Option<Said> {
        let text = String::from_utf8_lossy(&self.bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let target = head.strip_prefix("POST ").and_then(|rest| rest.split(' ').next());
        let length = head.to_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length: ").and_then(|length| length.parse::<usize>().ok())
        });
        let (target, body) = (target?.to_owned(), body.to_owned());
        if body.len() < length.unwrap_or(0) {
            return None;
        }
        self.bytes.clear();
        Some(Said::Pebble { target, body })
    }
}

/// What is left of a message.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn skip(&mut self, length: usize) {
        self.0 = self.0.get(length..).unwrap_or_default();
    }

    fn text(&mut self) -> String {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let text = String::from_utf8_lossy(&self.0[..length]).into_owned();
        self.skip(length + 1);
        text
    }

    fn number(&mut self, length: usize) -> usize {
        let number =
            self.0.iter().take(length).fold(0, |number, byte| number << 8 | usize::from(*byte));
        self.skip(length);
        number
    }

    /// A value; nothing for NULL.
    fn value(&mut self) -> String {
        let length = self.number(4).min(self.0.len());
        let value = String::from_utf8_lossy(&self.0[..length]).into_owned();
        self.skip(length);
        value
    }
}

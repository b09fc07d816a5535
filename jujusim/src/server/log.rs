//! What clients asked of a server, from the server's log.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::ops::AddAssign;
use std::path::PathBuf;

/// What a hook asked of PostgreSQL servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sql {
    /// Authorized connections.
    pub connections: usize,
    /// Messages with statements; several statements in one message count once.
    pub statements: usize,
}

impl AddAssign for Sql {
    fn add_assign(&mut self, other: Sql) {
        self.connections += other.connections;
        self.statements += other.statements;
    }
}

impl std::fmt::Display for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let Sql { connections, statements } = *self;
        write!(
            f,
            "{connections} connection{}, {statements} statement{}",
            plural(connections),
            plural(statements)
        )
    }
}

/// A position in a server's log.
pub(crate) struct Mark {
    log: PathBuf,
    position: u64,
}

impl Mark {
    /// The current end of a log.
    pub(crate) fn end(log: PathBuf) -> Mark {
        let position = log.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        Mark { log, position }
    }

    /// What clients with this application name asked since then; the server logs before it answers.
    pub(crate) fn since(&self, application: &str) -> Sql {
        let mut sql = Sql::default();
        let Ok(mut log) = File::open(&self.log) else { return sql };
        if log.seek(SeekFrom::Start(self.position)).is_err() {
            return sql;
        }
        let (prefix, name) =
            (format!("[{application} "), format!(" application_name={application}"));
        // The server logs durations, because a session may hide its statements. A statement with
        // bound values takes three messages: the tag of the first two says so.
        let is_statement = |tag: &str, rest: &str| {
            rest.starts_with("duration: ") && !["PARSE", "BIND"].contains(&tag)
        };
        for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let asked = line.strip_prefix(&prefix).and_then(|rest| rest.split_once("] LOG:  "));
            if asked.is_some_and(|(tag, rest)| is_statement(tag, rest)) {
                sql.statements += 1;
            } else if line.contains("] LOG:  connection authorized: ") && line.ends_with(&name) {
                sql.connections += 1;
            }
        }
        sql
    }
}

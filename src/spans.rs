//! The spans of this process: what it did, when, inside of what, and whether it succeeded. They
//! become the trace of a hook ([`otlp`](crate::otlp)).
//!
//! A span's name is a tool, a row, a request or the kind of a statement. It never has a value.

#![expect(clippy::disallowed_methods, reason = "a span has a time")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The most spans of one process; a hook has some dozens. Later ones are left out.
const MOST: usize = 4096;

static RECORD: Mutex<Record> = Mutex::new(Record { spans: Vec::new(), open: Vec::new() });

/// All spans of this process.
struct Record {
    spans: Vec<Span>,
    /// The spans that have not ended, the innermost last.
    open: Vec<usize>,
}

/// A piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub name: String,
    /// The index of the span around it.
    pub parent: Option<usize>,
    /// When it began.
    pub start: SystemTime,
    /// When it ended; `None` if it has not.
    pub end: Option<SystemTime>,
    /// It failed.
    pub is_failed: bool,
}

/// Does a piece of work within a span.
pub fn within<T, E>(name: impl Into<String>, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let index = begin(name.into());
    let result = work();
    end(index, result.is_err());
    result
}

/// The spans so far, each after the span around it.
pub fn recorded() -> Vec<Span> {
    record().spans.clone()
}

fn record() -> MutexGuard<'static, Record> {
    RECORD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(name: String) -> Option<usize> {
    let mut record = record();
    let index = record.spans.len();
    if index == MOST {
        return None;
    }
    let parent = record.open.last().copied();
    record.spans.push(Span { name, parent, start: SystemTime::now(), end: None, is_failed: false });
    record.open.push(index);
    Some(index)
}

fn end(index: Option<usize>, is_failed: bool) {
    let mut record = record();
    if let Some(index) = index {
        record.open.retain(|open| *open != index);
        record.spans[index].end = Some(SystemTime::now());
        record.spans[index].is_failed = is_failed;
    }
}

/// The kind of an SQL statement: its first word.
pub fn statement(sql: &str) -> &str {
    let sql = sql.trim_start();
    let end = sql.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(sql.len());
    if (1..=12).contains(&end) { &sql[..end] } else { "statement" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_nest_and_tell_whether_they_failed() {
        let _ = within("outer of this test", || {
            within("inner of this test", || Err::<(), ()>(())).or(Ok::<(), ()>(()))
        });
        let spans = recorded();
        let find = |name| spans.iter().position(|span| span.name == name).expect("a span");
        let (outer, inner) = (find("outer of this test"), find("inner of this test"));
        assert!(!spans[outer].is_failed && spans[inner].is_failed);
        assert!(spans[outer].end >= spans[inner].end && spans[inner].end.is_some());
        // Other tests of this process have spans, too.
        assert!(spans[inner].parent.is_some());
    }

    #[test]
    fn a_statement_is_known_by_its_first_word_alone() {
        for (sql, kind) in [
            ("SELECT 'secret'", "SELECT"),
            ("\n    ALTER ROLE x PASSWORD 'secret'", "ALTER"),
            ("'secret'", "statement"),
            ("", "statement"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "statement"),
        ] {
            assert_eq!(statement(sql), kind, "{sql:?}");
        }
    }
}

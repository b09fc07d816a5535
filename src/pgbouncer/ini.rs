//! `pgbouncer.ini`, read and written exactly as PgBouncer's own parser takes it.
//!
//! The grammar is that of libusual's `cfparser.c`, connection strings that of PgBouncer's
//! `cstr_get_pair`. Where PgBouncer is lax, for instance about a key given twice, this module refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::settings::{self, lookup};
use super::{Unrepresentable, printable};

/// A whole file. Written in this order; read in any, but with exactly one `[pgbouncer]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ini {
    /// The lines at the very top that begin with `; `, without it.
    pub comment: Vec<String>,
    /// `[databases]`; `*` is the fallback for names not listed.
    pub databases: BTreeMap<String, ConnectionString>,
    /// `[peers]`, since 1.19; the section is written only if there are any.
    pub peers: BTreeMap<u16, ConnectionString>,
    /// `[pgbouncer]`, in the order of the file. The last section, so that a reload that fails in
    /// another one leaves the settings alone.
    pub pgbouncer: Vec<(String, String)>,
}

/// The right side of a database or peer: `host='10.0.0.1' port='5432'`.
///
/// `Debug` shows the keys only, for a value can be a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectionString(BTreeMap<Key, String>);

/// A key of a connection string. The position in [`KEYS`] is its place in the line.
type Key = usize;

/// Those in use somewhere, of all versions (PgBouncer's documentation, "Section \[databases\]").
const KEYS: [&str; 18] = [
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "auth_user",
    "auth_dbname",
    "auth_query",
    "pool_size",
    "min_pool_size",
    "reserve_pool",
    "max_db_connections",
    "pool_mode",
    "connect_query",
    "client_encoding",
    "datestyle",
    "timezone",
    "application_name",
];
const PEER_KEYS: [&str; 3] = ["host", "port", "pool_size"];

/// A text that is not the file we want: where, and why. Never holds a value of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read line {line} of pgbouncer.ini: {reason}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, by name.
    pub reason: String,
}

impl Ini {
    /// Reads a whole file. CRLF is taken as PgBouncer takes it: the CR is blank space.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut ini = Self { comment: leading_comment(text), ..Self::default() };
        let mut section = None;
        let mut seen_pgbouncer = false;
        let mut last = 1;
        for (number, line) in (1..).zip(text.split('\n')) {
            last = number;
            let refused = |reason: String| ParseError { line: number, reason };
            let mut rest = line.trim_start_matches(is_space);
            if rest.contains('\0') {
                return Err(refused("a NUL byte, where PgBouncer would stop reading".into()));
            }
            // A section header may be followed by anything, a key or another header included.
            while let Some(header) = rest.strip_prefix('[') {
                let (name, after) =
                    header.split_once(']').ok_or_else(|| refused("a section without ]".into()))?;
                section = Some(Section::named(name).map_err(|reason| refused(reason.into()))?);
                if section == Some(Section::Pgbouncer) && std::mem::replace(&mut seen_pgbouncer, true) {
                    return Err(refused("a second [pgbouncer], which would reset the first".into()));
                }
                rest = after.trim_start_matches(is_space);
            }
            if rest.is_empty() || rest.starts_with([';', '#']) {
                continue;
            }
            if rest.starts_with("%include") {
                return Err(refused("%include is not supported here".into()));
            }
            let (key, value) = key_value(rest).map_err(|reason| refused(reason.into()))?;
            let section = section.ok_or_else(|| refused("a key before the first section".into()))?;
            // A name that is no setting's may be anything: the line is enough to find it.
            ini.insert(section, key, value).map_err(|reason| {
                match lookup(settings::Section::Pgbouncer, key) {
                    Some(setting) => refused(format!("{}: {reason}", setting.name)),
                    None => refused(reason.to_string()),
                }
            })?;
        }
        if !seen_pgbouncer {
            return Err(ParseError { line: last, reason: "the section [pgbouncer] is missing".into() });
        }
        Ok(ini)
    }

    fn insert(&mut self, section: Section, key: &str, value: &str) -> Result<(), &'static str> {
        let known = match section {
            Section::Databases => {
                check_name(key)?;
                self.databases.insert(key.into(), ConnectionString::parse(value, &KEYS)?).is_some()
            }
            Section::Peers => {
                let id = peer_id(key).ok_or("not a peer id, a number from 1 to 65535")?;
                self.peers.insert(id, ConnectionString::parse(value, &PEER_KEYS)?).is_some()
            }
            Section::Pgbouncer => {
                let known = self.setting(key).is_some();
                self.pgbouncer.push((key.into(), value.into()));
                known
            }
        };
        if known { Err("given twice") } else { Ok(()) }
    }

    /// The value of a setting in `[pgbouncer]`.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.pgbouncer.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The text of the file, if everything in it can be written for PgBouncer 1.18 to read.
    pub fn render(&self) -> Result<String, Unrepresentable> {
        let mut lines = Vec::new();
        for line in &self.comment {
            if line.contains(['\n', '\r', '\0']) {
                return Err(Unrepresentable::new("a comment", "it holds a line break or a NUL byte"));
            }
            lines.push(format!("; {line}"));
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }

        lines.push("[databases]".into());
        for (name, connection) in &self.databases {
            let what = || format!("the database {}", printable(name));
            check_name(name).map_err(|reason| Unrepresentable::new(what(), reason))?;
            lines.push(format!("{name} = {}", connection.render(what, &KEYS)?));
        }

        if !self.peers.is_empty() {
            lines.push("\n[peers]".into());
        }
        for (id, connection) in &self.peers {
            let what = || format!("the peer {id}");
            if *id == 0 {
                return Err(Unrepresentable::new(what(), "the id of a peer is a number from 1 to 65535"));
            }
            lines.push(format!("{id} = {}", connection.render(what, &PEER_KEYS)?));
        }

        lines.push("\n[pgbouncer]".into());
        let mut written = BTreeSet::new();
        for (key, value) in &self.pgbouncer {
            let refused = |reason| Unrepresentable::new(format!("the setting {}", printable(key)), reason);
            check_key(key).map_err(refused)?;
            check_value(value).map_err(refused)?;
            if !written.insert(key) {
                return Err(refused("given twice"));
            }
            lines.push(format!("{key} = {value}"));
        }
        Ok(lines.join("\n") + "\n")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Databases,
    Peers,
    Pgbouncer,
}

impl Section {
    fn named(name: &str) -> Result<Self, &'static str> {
        match name {
            "databases" => Ok(Self::Databases),
            "peers" => Ok(Self::Peers),
            "pgbouncer" => Ok(Self::Pgbouncer),
            "users" => Err("the section [users] is not supported here"),
            _ => Err("a section that PgBouncer does not know"),
        }
    }
}

impl ConnectionString {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(&place(key, &KEYS)?).map(String::as_str)
    }

    /// The keys, in the order of the line.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().map(|&key| KEYS[key])
    }

    /// Sets a key of PgBouncer's; whether the value can be written shows when rendering.
    ///
    /// # Panics
    ///
    /// If there is no such key: keys are spelled in our code, never taken from input.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.insert(place(key, &KEYS).expect("keys are spelled in code"), value.into());
        self
    }

    /// The same without this key, and whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        place(key, &KEYS).is_some_and(|key| self.0.remove(&key).is_some())
    }

    fn parse(text: &str, known: &[&str]) -> Result<Self, &'static str> {
        let mut pairs = BTreeMap::new();
        let mut rest = text.trim_start_matches(' ');
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=').ok_or("a connection parameter without =")?;
            let key = key.trim_end_matches(' ');
            let place = place(key, known).ok_or("a connection parameter that is not known here")?;
            let (value, after) = value(after.trim_start_matches(' '))?;
            if value.is_empty() {
                return Err("a connection parameter without a value: leave it out");
            }
            if pairs.insert(place, value).is_some() {
                return Err("a connection parameter given twice");
            }
            rest = after.trim_start_matches(' ');
        }
        Ok(Self(pairs))
    }

    /// Every value in quotes, so that only the quote itself is special.
    fn render(&self, what: impl Fn() -> String, known: &[&str]) -> Result<String, Unrepresentable> {
        let mut pairs = Vec::new();
        for (&key, value) in &self.0 {
            let key = KEYS[key];
            let refused = |reason| Unrepresentable::new(format!("{key} of {}", what()), reason);
            if place(key, known).is_none() {
                return Err(refused("no such connection parameter"));
            }
            if value.is_empty() {
                return Err(refused("a value here cannot be empty"));
            }
            if value.contains(['\n', '\0']) {
                return Err(refused("it holds a line break or a NUL byte"));
            }
            pairs.push(format!("{key}='{}'", value.replace('\'', "''")));
        }
        Ok(pairs.join(" "))
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

fn place(key: &str, known: &[&str]) -> Option<Key> {
    known.iter().find(|&&name| name == key).and_then(|name| KEYS.iter().position(|key| key == name))
}

/// One value of a connection string and what follows it. PgBouncer swallows the byte after a closing
/// quote whatever it is; here it has to be a space.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let (value, rest) = text.split_once(' ').unwrap_or((text, ""));
        return Ok((value.into(), rest));
    };
    let mut value = String::new();
    loop {
        let (part, after) =
            rest.split_once('\'').ok_or("a quote in a connection string that is never closed")?;
        value += part;
        if let Some(after) = after.strip_prefix('\'') {
            value.push('\'');
            rest = after;
        } else if after.is_empty() || after.starts_with(' ') {
            return Ok((value, after));
        } else {
            return Err("no space after a closing quote in a connection string");
        }
    }
}

fn leading_comment(text: &str) -> Vec<String> {
    let lines = text.split('\n').map_while(|line| line.strip_prefix("; "));
    lines.map(|line| line.strip_suffix('\r').unwrap_or(line).into()).collect()
}

fn key_value(line: &str) -> Result<(&str, &str), &'static str> {
    let end = line.find(|c| !is_key_char(c)).unwrap_or(line.len());
    let (key, rest) = line.split_at(end);
    if key.is_empty() {
        return Err("not a comment, a section or a key");
    }
    let value = rest.trim_start_matches(BLANK).strip_prefix('=').ok_or("a key that is not followed by =")?;
    Ok((key, value.trim_start_matches(BLANK).trim_end_matches(is_space)))
}

const BLANK: [char; 2] = [' ', '\t'];

/// C's `isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.-*".contains(c)
}

fn check_key(key: &str) -> Result<(), &'static str> {
    if !key.is_empty() && key.chars().all(is_key_char) {
        Ok(())
    } else {
        Err("PgBouncer before 1.25 reads only letters, digits, _ . - and * in a name; choose another name")
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "pgbouncer" => Err("the name is reserved for the admin console; choose another name"),
        _ if name.len() > 63 => Err("PgBouncer takes names of at most 63 bytes; choose a shorter name"),
        _ => check_key(name),
    }
}

fn check_value(value: &str) -> Result<(), &'static str> {
    if value.contains(['\n', '\0']) {
        return Err("the value holds a line break or a NUL byte");
    }
    if value.starts_with(BLANK) || value.ends_with(is_space) {
        return Err("PgBouncer would cut the blanks around the value");
    }
    Ok(())
}

fn peer_id(key: &str) -> Option<u16> {
    key.parse().ok().filter(|id: &u16| *id > 0 && id.to_string() == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pgbouncer(settings: &[(&str, &str)]) -> Ini {
        let pgbouncer = settings.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Ini { pgbouncer, ..Ini::default() }
    }

    fn database(name: &str, connection: ConnectionString) -> Ini {
        Ini { databases: BTreeMap::from([(name.into(), connection)]), ..Ini::default() }
    }

    /// All texts of up to three characters that a tokeniser may stumble over.
    fn awkward_texts() -> Vec<String> {
        let alphabet = ["'", "=", ";", "#", "\\", " ", "\"", "[", "%", "\t", "\r", "é", "a"];
        let mut texts = vec![String::new()];
        for from in [0, 1, 14] {
            let longer: Vec<_> =
                texts[from..].iter().flat_map(|text| alphabet.map(|next| format!("{text}{next}"))).collect();
            texts.extend(longer);
        }
        texts
    }

    #[test]
    fn what_is_written_is_read_back() {
        let full = Ini {
            comment: vec!["first; with = signs".into(), String::new(), " third".into()],
            databases: BTreeMap::from([
                ("*".into(), ConnectionString::default().with("host", "h").with("auth_dbname", "crm")),
                ("Shop_1.a-b".into(), ConnectionString::default()),
            ]),
            peers: BTreeMap::from([(1, ConnectionString::default().with("host", "/run/a b"))]),
            pgbouncer: vec![("admin_users".into(), String::new()), ("pool_mode".into(), "session".into())],
        };
        assert_eq!(Ini::parse(&full.render().expect("it can be written")), Ok(full));

        let mut written = 0;
        for text in awkward_texts() {
            for ini in [
                pgbouncer(&[("auth_query", &text)]),
                database("d", ConnectionString::default().with("host", text.clone()).with("port", "1")),
            ] {
                if let Ok(file) = ini.render() {
                    assert_eq!(Ini::parse(&file), Ok(ini), "{text:?}");
                    written += 1;
                }
            }
        }
        assert!(written > 3000, "{written}");
    }

    #[test]
    fn files_are_read_as_pgbouncer_reads_them() {
        for (text, expected) in [
            ("[pgbouncer]\na = b\n", pgbouncer(&[("a", "b")])),
            ("[pgbouncer] a = b", pgbouncer(&[("a", "b")])),
            ("\n \t[pgbouncer] ; x\n#c\n ; c\n\ta=b", pgbouncer(&[("a", "b")])),
            ("[pgbouncer]\r\na = b \r\nc =\r\n", pgbouncer(&[("a", "b"), ("c", "")])),
            ("[pgbouncer]\na = 11 ; x", pgbouncer(&[("a", "11 ; x")])),
            ("[pgbouncer]\na = 'b' \"c\"", pgbouncer(&[("a", "'b' \"c\"")])),
            ("[pgbouncer]\na = b \\\nc = d", pgbouncer(&[("a", "b \\"), ("c", "d")])),
            ("[pgbouncer]\n[databases]\nd =", database("d", ConnectionString::default())),
            (
                "[databases]\nd = host = h  port=1\n[pgbouncer]",
                database("d", ConnectionString::default().with("host", "h").with("port", "1")),
            ),
            (
                "[databases]\nd = host= port=25432\n[pgbouncer]",
                database("d", ConnectionString::default().with("host", "port=25432")),
            ),
            (
                "[databases]\nd = host=h\tport=1\n[pgbouncer]",
                database("d", ConnectionString::default().with("host", "h\tport=1")),
            ),
            (
                "[databases]\nd = dbname=it's\n[pgbouncer]",
                database("d", ConnectionString::default().with("dbname", "it's")),
            ),
            (
                "[databases]\nd = dbname='it''s \\' \n[pgbouncer]",
                database("d", ConnectionString::default().with("dbname", "it's \\")),
            ),
        ] {
            assert_eq!(Ini::parse(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_pgbouncer_or_we_refuse_is_refused_by_line() {
        for (text, line) in [
            ("", 1),
            ("[databases]\n", 2),
            ("\u{feff}[pgbouncer]", 1),
            ("[pgbouncer]\na = b\0c", 2),
            ("a = b\n[pgbouncer]", 1),
            ("[pgbouncer", 1),
            ("[ pgbouncer ]", 1),
            ("[Pgbouncer]", 1),
            ("[users]\n[pgbouncer]", 1),
            ("[other]\n[pgbouncer]", 1),
            ("[pgbouncer]\n[databases]\n[pgbouncer]", 3),
            ("[pgbouncer]\n%include secret.ini", 2),
            ("[pgbouncer]\na", 2),
            ("[pgbouncer]\n= a", 2),
            ("[pgbouncer]\n'a' = b", 2),
            ("[pgbouncer]\na b = c", 2),
            ("[pgbouncer]\na = 1\na = 1", 3),
            ("[pgbouncer]\n[databases]\nd =\nd =", 4),
            ("[pgbouncer]\n[databases]\npgbouncer =", 3),
            ("[pgbouncer]\n[databases]\n\"d\" =", 3),
            ("[pgbouncer]\n[databases]\nd = secret", 3),
            ("[pgbouncer]\n[databases]\nd = secret=x", 3),
            ("[pgbouncer]\n[databases]\nd = host=''", 3),
            ("[pgbouncer]\n[databases]\nd = host=", 3),
            ("[pgbouncer]\n[databases]\nd = host='secret", 3),
            ("[pgbouncer]\n[databases]\nd = host='secret'port=1", 3),
            ("[pgbouncer]\n[databases]\nd = host=secret host=secret", 3),
            ("[pgbouncer]\n[peers]\n0 = host=h", 3),
            ("[pgbouncer]\n[peers]\n01 = host=h", 3),
            ("[pgbouncer]\n[peers]\n65536 = host=h", 3),
            ("[pgbouncer]\n[peers]\n1 = host=h dbname=secret", 3),
        ] {
            let error = Ini::parse(text).expect_err(text);
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(!error.reason.contains("secret"), "{error}");
        }
        assert!(Ini::parse(&format!("[pgbouncer]\n[databases]\n{} =", "d".repeat(64))).is_err());
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_name() {
        for (ini, expected) in [
            (
                database("my db", ConnectionString::default()),
                "cannot write the database my db: PgBouncer before 1.25 reads only letters, digits, _ . - and * in a name; choose another name",
            ),
            (
                database("pgbouncer", ConnectionString::default()),
                "cannot write the database pgbouncer: the name is reserved for the admin console; choose another name",
            ),
            (
                database("a]\nb", ConnectionString::default()),
                "cannot write the database a]\\nb: PgBouncer before 1.25 reads only letters, digits, _ . - and * in a name; choose another name",
            ),
            (
                database("d", ConnectionString::default().with("host", "")),
                "cannot write host of the database d: a value here cannot be empty",
            ),
            (
                database("d", ConnectionString::default().with("host", "a\nb")),
                "cannot write host of the database d: it holds a line break or a NUL byte",
            ),
            (
                pgbouncer(&[("a", "b\nc")]),
                "cannot write the setting a: the value holds a line break or a NUL byte",
            ),
            (
                pgbouncer(&[("a", " b")]),
                "cannot write the setting a: PgBouncer would cut the blanks around the value",
            ),
            (pgbouncer(&[("a", "b"), ("a", "b")]), "cannot write the setting a: given twice"),
        ] {
            assert_eq!(ini.render().expect_err("it cannot be written").to_string(), expected);
        }
        assert!(database(&"d".repeat(63), ConnectionString::default()).render().is_ok());
        assert!(database(&"d".repeat(64), ConnectionString::default()).render().is_err());
    }

    #[test]
    fn debug_shows_no_value_of_a_connection_string() {
        let connection = ConnectionString::default().with("password", "pencil").with("host", "h");
        assert_eq!(format!("{connection:?}"), r#"{"host", "password"}"#);
    }
}

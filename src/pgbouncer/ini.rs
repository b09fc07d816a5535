//! `pgbouncer.ini`, read and written exactly as PgBouncer's own parser reads it.
//!
//! The grammar is that of libusual's `cfparser.c`; connection strings follow PgBouncer's
//! `cstr_get_pair`. Where PgBouncer is lax, such as about a key given twice, this module refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::names::{DATABASE_NAME_LIMIT, USER_NAME_LIMIT};
use super::settings::{Section, lookup};
use super::text::{Unrepresentable, printable};
use super::version::Version;

/// A whole file. It is written in this order, and read in any with exactly one `[pgbouncer]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ini {
    /// The lines at the top that begin with `; `, without that prefix.
    pub comment: Vec<String>,
    /// `[databases]`, by name; `*` is for names that are not listed.
    pub databases: BTreeMap<String, ConnectionString>,
    /// `[users]`, limits of single users. An empty section is not written.
    pub users: BTreeMap<String, ConnectionString>,
    /// `[peers]`, since 1.19. An empty section is not written.
    pub peers: BTreeMap<u16, ConnectionString>,
    /// `[pgbouncer]`, in the order of the file. It is the last section, so that a reload that fails
    /// in another section leaves the settings unchanged.
    pub pgbouncer: Vec<(String, String)>,
}

/// The right side of the line of a database, user or peer: `host='10.0.0.1' port='5432'`.
///
/// `Debug` shows only the keys, because a value can be a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectionString(BTreeMap<Key, String>);

/// A key of a connection string: its position in [`KEYS`], which is the order in a line.
type Key = usize;

/// The keys of databases, users and peers in all versions. [`lookup`] knows which belongs where.
const KEYS: [&str; 28] = [
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
    "reserve_pool_size",
    "max_db_connections",
    "max_db_client_connections",
    "max_user_connections",
    "max_user_client_connections",
    "server_lifetime",
    "query_timeout",
    "transaction_timeout",
    "idle_transaction_timeout",
    "client_idle_timeout",
    "pool_mode",
    "load_balance_hosts",
    "connect_query",
    "client_encoding",
    "datestyle",
    "timezone",
    "application_name",
];

/// Where and why a text is not a valid file. Never holds a value of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read line {line} of pgbouncer.ini: {reason}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong, by name.
    pub reason: String,
}

/// A key and its value, as in the file.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) section: Section,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
}

impl Ini {
    /// Reads a whole file as this version of PgBouncer does. The CR of a CRLF is blank space, as
    /// for PgBouncer.
    pub fn parse(text: &str, version: Version) -> Result<Self, ParseError> {
        let mut ini = Self { comment: leading_comment(text), ..Self::default() };
        for (line, entry) in scan(text, version) {
            entry
                .and_then(|entry| ini.insert(entry, version))
                .map_err(|reason| ParseError { line, reason })?;
        }
        Ok(ini)
    }

    pub(super) fn insert(&mut self, entry: Entry<'_>, version: Version) -> Result<(), String> {
        let Entry { section, key, value } = entry;
        let connection = || ConnectionString::parse(value, section, version);
        let known = match section {
            Section::Databases => {
                check_name(section, key)?;
                self.databases.insert(key.into(), connection()?).is_some()
            }
            Section::Users => {
                check_name(section, key)?;
                self.users.insert(key.into(), connection()?).is_some()
            }
            Section::Peers => {
                let id = peer_id(key).ok_or("not a peer id, a number from 1 to 65535")?;
                let connection = connection()?;
                if connection.get("host").is_none() {
                    return Err("a peer without a host".into());
                }
                self.peers.insert(id, connection).is_some()
            }
            Section::Pgbouncer => {
                if !is_plain(key) {
                    return Err("no setting has such a name".into());
                }
                let known = self.setting(key).is_some();
                if !known {
                    self.pgbouncer.push((key.into(), value.into()));
                }
                known
            }
        };
        match lookup(section, key) {
            _ if !known => Ok(()),
            Some(setting) => Err(format!("{}: given twice", setting.name)),
            // An unknown name may be part of a password: the error has only the line.
            None => Err("given twice".into()),
        }
    }

    /// The value of a setting in `[pgbouncer]`.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.pgbouncer.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The text of the file, if this version can read everything in it.
    pub fn render(&self, version: Version) -> Result<String, Unrepresentable> {
        let mut lines = Vec::new();
        for line in &self.comment {
            if line.contains(['\n', '\0']) || line.ends_with('\r') {
                return Err(Unrepresentable::new(
                    "a comment",
                    "it holds a line break or a NUL byte",
                ));
            }
            lines.push(format!("; {line}"));
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }

        lines.push("[databases]".into());
        for (name, connection) in &self.databases {
            let what = format!("the database {}", printable(name));
            lines.push(named(Section::Databases, name, connection, &what, version)?);
        }

        if !self.users.is_empty() {
            lines.push("\n[users]".into());
        }
        for (name, connection) in &self.users {
            let what = format!("the user {}", printable(name));
            lines.push(named(Section::Users, name, connection, &what, version)?);
        }

        if !self.peers.is_empty() {
            lines.push("\n[peers]".into());
        }
        for (id, connection) in &self.peers {
            let what = format!("the peer {id}");
            let refused = |reason| Err(Unrepresentable::new(&what, reason));
            if *id == 0 {
                return refused("the id of a peer is a number from 1 to 65535");
            }
            if connection.get("host").is_none() {
                return refused("a peer needs a host");
            }
            if version < Version::PEERS {
                return refused("PgBouncer before 1.19 has no peers");
            }
            lines.push(format!("{id} = {}", connection.render(Section::Peers, &what, version)?));
        }

        lines.push("\n[pgbouncer]".into());
        let mut written = BTreeSet::new();
        for (key, value) in &self.pgbouncer {
            let refused =
                |reason| Unrepresentable::new(format!("the setting {}", printable(key)), reason);
            if !is_plain(key) {
                return Err(refused("no setting has such a name"));
            }
            check_value(value).map_err(refused)?;
            if !written.insert(key) {
                return Err(refused("given twice"));
            }
            lines.push(format!("{key} = {value}"));
        }
        Ok(lines.join("\n") + "\n")
    }
}

/// The keys of the file and the lines that cannot be read, each with its line number. A problem of
/// the whole file has the number of the last line.
pub(super) fn scan(text: &str, version: Version) -> Vec<(usize, Result<Entry<'_>, String>)> {
    let mut found = Vec::new();
    let mut section = None;
    let mut seen_pgbouncer = false;
    let mut last = 1;
    for (number, line) in (1..).zip(text.split('\n')) {
        last = number;
        match entry(line, &mut section, &mut seen_pgbouncer, version) {
            Ok(None) => {}
            Ok(Some(entry)) => found.push((number, Ok(entry))),
            Err(reason) => found.push((number, Err(reason))),
        }
    }
    if !seen_pgbouncer {
        found.push((last, Err("the section [pgbouncer] is missing".into())));
    }
    found
}

fn entry<'a>(
    line: &'a str,
    section: &mut Option<Section>,
    seen_pgbouncer: &mut bool,
    version: Version,
) -> Result<Option<Entry<'a>>, String> {
    let mut rest = line.trim_start_matches(is_space);
    if rest.contains('\0') {
        return Err("a NUL byte, where PgBouncer would stop reading".into());
    }
    // A section header may be followed by anything, including a key or another header.
    while let Some(header) = rest.strip_prefix('[') {
        let (name, after) = header.split_once(']').ok_or("a section without ]")?;
        *section = Some(section_named(name, version)?);
        if *section == Some(Section::Pgbouncer) && std::mem::replace(seen_pgbouncer, true) {
            return Err("a second [pgbouncer], which would reset the first".into());
        }
        rest = after.trim_start_matches(is_space);
    }
    if rest.is_empty() || rest.starts_with([';', '#']) {
        return Ok(None);
    }
    if rest.starts_with("%include") {
        return Err("%include is not supported here".into());
    }
    let (key, value) = key_value(rest, version)?;
    let section = section.ok_or("a key before the first section")?;
    Ok(Some(Entry { section, key, value }))
}

fn section_named(name: &str, version: Version) -> Result<Section, &'static str> {
    match name {
        "databases" => Ok(Section::Databases),
        "users" => Ok(Section::Users),
        "peers" if version < Version::PEERS => Err("the section [peers] needs PgBouncer 1.19"),
        "peers" => Ok(Section::Peers),
        "pgbouncer" => Ok(Section::Pgbouncer),
        _ => Err("a section that PgBouncer does not know"),
    }
}

/// The line of a database or user.
fn named(
    section: Section,
    name: &str,
    connection: &ConnectionString,
    what: &str,
    version: Version,
) -> Result<String, Unrepresentable> {
    let refused = |reason| Unrepresentable::new(what, reason);
    check_name(section, name).map_err(refused)?;
    let name = if is_plain(name) {
        name.into()
    } else if version < Version::QUOTED_KEYS {
        return Err(refused(
            "PgBouncer before 1.25 reads only letters, digits, _ . - and * in a name; \
             choose another name",
        ));
    } else if name.contains(['\'', '\n', '\0']) {
        return Err(refused(
            "PgBouncer reads no ' and no line break in a name; choose another name",
        ));
    } else {
        format!("'{name}'")
    };
    Ok(format!("{name} = {}", connection.render(section, what, version)?))
}

impl ConnectionString {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(&place(key)?).map(String::as_str)
    }

    /// The keys, in the order of the line.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().map(|&key| KEYS[key])
    }

    /// Sets a key. [`ConnectionString::render`] checks whether the value can be written.
    ///
    /// # Panics
    ///
    /// If there is no such key. Keys are literals in the code, never input.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.insert(place(key).expect("keys are literals in the code"), value.into());
        self
    }

    /// Removes this key; true if it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        place(key).is_some_and(|key| self.0.remove(&key).is_some())
    }

    /// Reads the right side of a line in this section. An error names the parameter before the
    /// problem, because a text that is no parameter may be part of a password.
    pub fn parse(text: &str, section: Section, version: Version) -> Result<Self, String> {
        let mut pairs = BTreeMap::new();
        let mut before = "=";
        let mut rest = text.trim_start_matches(' ');
        while !rest.is_empty() {
            let at = |reason: &str| format!("{reason} (after {before})");
            let (key, after) =
                rest.split_once('=').ok_or_else(|| at("a connection parameter without ="))?;
            let (setting, place) = lookup(section, key.trim_end_matches(' '))
                .and_then(|setting| Some((setting, place(setting.name)?)))
                .ok_or_else(|| at("a connection parameter that is not known here"))?;
            if version < setting.since {
                return Err(format!("{}: it needs PgBouncer {}", setting.name, setting.since));
            }
            let (value, after) = value(after.trim_start_matches(' '))
                .map_err(|reason| format!("{}: {reason}", setting.name))?;
            if value.is_empty() {
                return Err(format!("{}: a value cannot be empty; leave it out", setting.name));
            }
            if pairs.insert(place, value).is_some() {
                return Err(format!("{}: given twice", setting.name));
            }
            before = setting.name;
            rest = after.trim_start_matches(' ');
        }
        Ok(Self(pairs))
    }

    /// The right side of a line in this section. Every value is in quotes, where only the quote
    /// itself is special. `what` names the line in errors.
    pub fn render(
        &self,
        section: Section,
        what: &str,
        version: Version,
    ) -> Result<String, Unrepresentable> {
        let mut pairs = Vec::new();
        for (&key, value) in &self.0 {
            let key = KEYS[key];
            let refused = |reason| Unrepresentable::new(format!("{key} of {what}"), reason);
            match lookup(section, key) {
                None => return Err(refused("no such connection parameter")),
                Some(setting) if version < setting.since => {
                    return Err(refused("this version of PgBouncer does not know it"));
                }
                Some(_) => {}
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

fn place(key: &str) -> Option<Key> {
    KEYS.iter().position(|name| *name == key)
}

/// One value of a connection string, and the text after it. PgBouncer skips the byte after a
/// closing quote, whatever it is; here it must be a space.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let (value, rest) = text.split_once(' ').unwrap_or((text, ""));
        return Ok((value.into(), rest));
    };
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('\'').ok_or("a quote that is never closed")?;
        value += part;
        if let Some(after) = after.strip_prefix('\'') {
            value.push('\'');
            rest = after;
        } else if after.is_empty() || after.starts_with(' ') {
            return Ok((value, after));
        } else {
            return Err("no space after a closing quote");
        }
    }
}

fn leading_comment(text: &str) -> Vec<String> {
    let lines = text.split('\n').map_while(|line| line.strip_prefix("; "));
    lines.map(|line| line.strip_suffix('\r').unwrap_or(line).into()).collect()
}

fn key_value(line: &str, version: Version) -> Result<(&str, &str), &'static str> {
    let (key, rest) = match line.strip_prefix('\'') {
        Some(_) if version < Version::QUOTED_KEYS => {
            return Err("a quoted name needs PgBouncer 1.25");
        }
        Some(quoted) => quoted.split_once('\'').ok_or("a quoted name that is never closed")?,
        None => line.split_at(line.find(|c| !is_key_char(c)).unwrap_or(line.len())),
    };
    if key.is_empty() {
        return Err("not a comment, a section or a key");
    }
    let value = rest
        .trim_start_matches(BLANK)
        .strip_prefix('=')
        .ok_or("a key that is not followed by =")?;
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

/// Whether every version reads the name without quotes.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_key_char)
}

fn check_name(section: Section, name: &str) -> Result<(), &'static str> {
    match section {
        _ if name.is_empty() => Err("the name is empty"),
        Section::Databases if name == "pgbouncer" => {
            Err("the name is reserved for the admin console; choose another name")
        }
        Section::Databases if name.len() > DATABASE_NAME_LIMIT => {
            Err("PgBouncer takes names of at most 63 bytes; choose a shorter name")
        }
        Section::Users if name.len() > USER_NAME_LIMIT => {
            Err("PgBouncer takes names of at most 127 bytes; choose a shorter name")
        }
        _ => Ok(()),
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

    const OLD: Version = Version::new(1, 24);
    const NEW: Version = Version::QUOTED_KEYS;

    fn pgbouncer(settings: &[(&str, &str)]) -> Ini {
        let pgbouncer =
            settings.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Ini { pgbouncer, ..Ini::default() }
    }

    fn database(name: &str, connection: ConnectionString) -> Ini {
        Ini { databases: BTreeMap::from([(name.into(), connection)]), ..Ini::default() }
    }

    /// All texts of up to three characters that are special to a tokeniser.
    fn awkward_texts() -> Vec<String> {
        let alphabet = ["'", "=", ";", "#", "\\", " ", "\"", "[", "%", "\t", "\r", "é", "a"];
        let mut texts = vec![String::new()];
        for from in [0, 1, 14] {
            let longer: Vec<_> = texts[from..]
                .iter()
                .flat_map(|text| alphabet.map(|next| format!("{text}{next}")))
                .collect();
            texts.extend(longer);
        }
        texts
    }

    #[test]
    fn a_written_file_is_read_back() {
        let full = Ini {
            comment: vec!["first; with = signs\rand a CR".into(), String::new(), " third".into()],
            databases: BTreeMap::from([
                (
                    "*".into(),
                    ConnectionString::default().with("host", "h").with("auth_dbname", "crm"),
                ),
                ("Shop_1.a-b".into(), ConnectionString::default()),
            ]),
            users: BTreeMap::from([(
                "Bob".into(),
                ConnectionString::default().with("pool_mode", "session"),
            )]),
            peers: BTreeMap::from([(1, ConnectionString::default().with("host", "/run/a b"))]),
            pgbouncer: vec![
                ("admin_users".into(), String::new()),
                ("pool_mode".into(), "session".into()),
            ],
        };
        assert_eq!(Ini::parse(&full.render(NEW).expect("it can be written"), NEW), Ok(full));

        let mut written = 0;
        for text in awkward_texts() {
            for ini in [
                pgbouncer(&[("auth_query", &text)]),
                database(
                    "d",
                    ConnectionString::default().with("host", text.clone()).with("port", "1"),
                ),
                database(&text, ConnectionString::default()),
            ] {
                if let Ok(file) = ini.render(NEW) {
                    assert_eq!(Ini::parse(&file, NEW), Ok(ini), "{text:?}");
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
            assert_eq!(Ini::parse(text, OLD), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn an_invalid_file_is_refused_with_its_line() {
        for (text, line) in [
            ("", 1),
            ("[databases]\n", 2),
            ("\u{feff}[pgbouncer]", 1),
            ("[pgbouncer]\na = b\0c", 2),
            ("a = b\n[pgbouncer]", 1),
            ("[pgbouncer", 1),
            ("[ pgbouncer ]", 1),
            ("[Pgbouncer]", 1),
            ("[users]\n'a' =\n[pgbouncer]", 2),
            ("[users]\na = host=h\n[pgbouncer]", 2),
            ("[pgbouncer]\n[peers]\n1 = port=1", 3),
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
            let error = Ini::parse(text, OLD).expect_err(text);
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(!error.reason.contains("secret"), "{error}");
        }
        assert!(
            Ini::parse(&format!("[pgbouncer]\n[databases]\n{} =", "d".repeat(64)), OLD).is_err()
        );
    }

    #[test]
    fn unrepresentable_values_are_refused_by_name() {
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
                database("d", ConnectionString::default().with("max_user_connections", "1")),
                "cannot write max_user_connections of the database d: no such connection parameter",
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
            assert_eq!(ini.render(OLD).expect_err("it cannot be written").to_string(), expected);
        }
        assert!(database(&"d".repeat(63), ConnectionString::default()).render(NEW).is_ok());
        assert!(database(&"d".repeat(64), ConnectionString::default()).render(NEW).is_err());
    }

    #[test]
    fn names_are_quoted_for_the_versions_that_read_quotes() {
        let odd = database("my db", ConnectionString::default());
        assert!(odd.render(OLD).is_err());
        let text = odd.render(NEW).expect("it can be written");
        assert!(text.contains("\n'my db' = \n"), "{text}");
        assert_eq!(Ini::parse(&text, NEW), Ok(odd));
        assert!(Ini::parse(&text, OLD).is_err());
        assert!(Ini::parse("[pgbouncer]\n'my db' = 1", NEW).is_err());
        assert_eq!(Ini::parse("['pgbouncer]", NEW).expect_err("no such section").line, 1);
        for name in ["it's", "a\nb", "a\0b", ""] {
            assert!(database(name, ConnectionString::default()).render(NEW).is_err(), "{name:?}");
        }
    }

    #[test]
    fn old_versions_get_no_unknown_key_or_section() {
        let auth = database("d", ConnectionString::default().with("auth_dbname", "crm"));
        assert!(auth.render(Version::OLDEST).is_err());
        let text = auth.render(Version::PEERS).expect("it can be written");
        assert!(Ini::parse(&text, Version::OLDEST).is_err());
        assert!(Ini::parse("[pgbouncer]\n[peers]\n", Version::OLDEST).is_err());
        assert!(Ini::parse("[pgbouncer]\n[peers]\n", Version::PEERS).is_ok());
    }

    #[test]
    fn the_keys_match_the_table() {
        let table: BTreeSet<_> = super::super::settings::TABLE
            .iter()
            .filter(|setting| setting.section != Section::Pgbouncer)
            .map(|setting| setting.name)
            .collect();
        assert_eq!(BTreeSet::from(KEYS), table);
    }

    #[test]
    fn debug_shows_no_value_of_a_connection_string() {
        let connection = ConnectionString::default().with("password", "pencil").with("host", "h");
        assert_eq!(format!("{connection:?}"), r#"{"host", "password"}"#);
    }
}

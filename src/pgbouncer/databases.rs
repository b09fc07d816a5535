//! The databases by client relation: `pgb_dbs_config` of the peer databag.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use sha3::Shake128;
use sha3::digest::{ExtendableOutput, Update, XofReader};

use super::names::DATABASE_NAME_LIMIT;
use super::text::{hex, printable};

/// The databases by relation, sorted as they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PgbDbs(pub BTreeMap<Origin, Entry>);

/// The reason for an entry. Sorted as in the text: relations by number, then the wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A client relation, by its id.
    Relation(u32),
    /// `*`, for clients whose roles may use every database.
    Wildcard,
}

/// One database. Its `name` is not checked; [`DatabaseName`](super::DatabaseName) checks whether it
/// can be served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The name of the database; `*` for the wildcard.
    pub name: String,
    /// Whether the relation is `db` or `db-admin`. Charms before revision 316 do not write it.
    #[serde(default)]
    pub legacy: bool,
    /// The database in which the passwords of the wildcard's users are looked up.
    #[serde(default)]
    pub auth_dbname: Option<String>,
}

/// Why a text is not a `pgb_dbs_config`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPgbDbs {
    /// It is not a JSON object.
    #[error("cannot read pgb_dbs_config: not a JSON object")]
    NotAnObject,
    /// An entry is malformed.
    #[error("cannot read pgb_dbs_config: the entry {key} is malformed")]
    Entry {
        /// The printable form of its key.
        key: String,
    },
}

impl PgbDbs {
    /// Reads the current layout and the older ones. Ignores unknown keys.
    pub fn parse(text: &str) -> Result<Self, InvalidPgbDbs> {
        let Ok(Value::Object(object)) = serde_json::from_str(text) else {
            return Err(InvalidPgbDbs::NotAnObject);
        };
        let entry = |(key, value): (String, Value)| {
            let entry = Origin::parse(&key).zip(Entry::deserialize(value).ok());
            entry.ok_or_else(|| InvalidPgbDbs::Entry { key: printable(&key) })
        };
        object.into_iter().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// The names of the databases that relations asked for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(origin, _)| **origin != Origin::Wildcard)
            .map(|(_, entry)| entry.name.as_str())
    }

    /// The entry whose clients may use every database.
    pub fn wildcard(&self) -> Option<&Entry> {
        self.0.get(&Origin::Wildcard)
    }

    /// The entry that has `name` as the read-only alias of its database.
    pub fn with_alias(&self, name: &str) -> Option<&Entry> {
        self.0.values().find(|entry| entry.aliases().any(|alias| alias == name))
    }

    /// The bytes that Python's `json.dumps` gives for the same content, so that the hashes agree.
    pub fn render(&self) -> String {
        let entries: Vec<_> = self
            .0
            .iter()
            .map(|(origin, entry)| format!("\"{origin}\": {}", entry.render()))
            .collect();
        format!("{{{}}}", entries.join(", "))
    }
}

/// The hash by which a unit confirms `pgb_dbs_config` in `pgb_dbs`: SHAKE128, 16 bytes in hex, of
/// the text exactly as read (`{}` if there is none).
pub fn hash(text: &str) -> String {
    let mut digest = [0; 16];
    let mut hasher = Shake128::default();
    hasher.update(text.as_bytes());
    hasher.finalize_xof().read(&mut digest);
    hex(&digest)
}

impl Origin {
    /// The id of the client relation; `None` for the wildcard.
    pub fn relation(self) -> Option<u32> {
        match self {
            Self::Relation(id) => Some(id),
            Self::Wildcard => None,
        }
    }

    fn parse(key: &str) -> Option<Self> {
        if key == "*" {
            return Some(Self::Wildcard);
        }
        key.parse().ok().map(Self::Relation).filter(|origin| origin.to_string() == key)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relation(id) => id.fmt(f),
            Self::Wildcard => f.write_str("*"),
        }
    }
}

impl Entry {
    /// The names by which clients read the database from a replica, except those too long for
    /// PgBouncer.
    pub fn aliases(&self) -> impl Iterator<Item = String> {
        let suffixes: &[&str] =
            if self.legacy { &["_readonly", "_standby"] } else { &["_readonly"] };
        let aliases = suffixes.iter().map(|suffix| format!("{}{suffix}", self.name));
        aliases.filter(|alias| alias.len() <= DATABASE_NAME_LIMIT)
    }

    fn render(&self) -> String {
        let auth_dbname = self
            .auth_dbname
            .as_deref()
            .map(|name| format!(", \"auth_dbname\": {}", python_string(name)));
        format!(
            "{{\"name\": {}{}, \"legacy\": {}}}",
            python_string(&self.name),
            auth_dbname.unwrap_or_default(),
            self.legacy
        )
    }
}

/// A JSON list of texts, as Python writes it.
pub fn python_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.into_iter().map(python_string).collect();
    format!("[{}]", texts.join(", "))
}

/// A JSON string in ASCII, as Python writes it with `ensure_ascii`.
fn python_string(text: &str) -> String {
    let mut json = String::from('"');
    for c in text.chars() {
        match c {
            '"' => json += "\\\"",
            '\\' => json += "\\\\",
            '\n' => json += "\\n",
            '\r' => json += "\\r",
            '\t' => json += "\\t",
            '\u{8}' => json += "\\b",
            '\u{c}' => json += "\\f",
            ' '..='~' => json.push(c),
            _ => {
                json.extend(
                    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")),
                );
            }
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: &str = r#"{"6": {"name": "shop", "legacy": false}, "7": {"name": "crm", "legacy": false}, "8": {"name": "waltz", "legacy": true}, "*": {"name": "*", "auth_dbname": "crm", "legacy": false}}"#;

    #[test]
    fn hashes_are_those_of_the_python_charm() {
        for (text, expected) in [
            ("{}", "468067f3e2f88531db254c9c96b0e335"),
            (r#"{"5": {"name": "mydb", "legacy": false}}"#, "039a24cd89b607aa8f9119a1e3833f39"),
            (FOUR, "34d41c6d0381b29696b7111737885258"),
        ] {
            assert_eq!(hash(text), expected);
            let databases = PgbDbs::parse(text).expect("a valid text");
            assert_eq!(hash(&databases.render()), expected);
        }
    }

    #[test]
    fn relations_come_in_the_order_of_numbers_and_the_wildcard_last() {
        let databases = PgbDbs::parse(
            r#"{"*":{"name":"*"},"10":{"name":"b"},"9":{"name":"a\"\u00e9\ud83d\ude00\u007f"}}"#,
        )
        .expect("a valid text");
        let expected = r#"{"9": {"name": "a\"\u00e9\ud83d\ude00\u007f", "legacy": false}, "10": {"name": "b", "legacy": false}, "*": {"name": "*", "legacy": false}}"#;
        assert_eq!(databases.render(), expected);
        assert_eq!(PgbDbs::parse(expected), Ok(databases));
    }

    #[test]
    fn old_layouts_are_read() {
        let databases = PgbDbs::parse(r#"{"5": {"name": "mydb", "more": 1, "auth_dbname": null}}"#);
        let entry = Entry { name: "mydb".into(), legacy: false, auth_dbname: None };
        assert_eq!(databases, Ok(PgbDbs(BTreeMap::from([(Origin::Relation(5), entry)]))));
    }

    #[test]
    fn malformed_entries_are_named_without_their_value() {
        for text in ["", "[]", "None", "1"] {
            assert_eq!(PgbDbs::parse(text), Err(InvalidPgbDbs::NotAnObject));
        }
        for (text, key) in [
            (r#"{"5": {"legacy": false}}"#, "5"),
            (r#"{"5": "secret"}"#, "5"),
            (r#"{"5": {"name": 1}}"#, "5"),
            (r#"{"5": {"name": "a", "legacy": "no"}}"#, "5"),
            (r#"{"05": {"name": "a"}}"#, "05"),
            (r#"{"-1": {"name": "a"}}"#, "-1"),
            (r#"{"a\nb": {"name": "a"}}"#, "a\\nb"),
        ] {
            assert_eq!(
                PgbDbs::parse(text),
                Err(InvalidPgbDbs::Entry { key: key.into() }),
                "{text}"
            );
        }
    }
}

//! The names that databases and users can have, and those that the charm keeps for itself.

use std::fmt;

use super::text::printable;

/// PostgreSQL cuts names at this many bytes, and PgBouncer refuses longer ones of databases.
pub const DATABASE_NAME_LIMIT: usize = 63;

/// The longest name of a user, in bytes, its quotes doubled (PgBouncer's `MAX_USERNAME`, less the end mark).
pub(super) const USER_NAME_LIMIT: usize = 127;

/// How the name of the auth role begins: PostgreSQL's charms recognise it by that.
pub const AUTH_USER_PREFIX: &str = "pgbouncer_auth_";

/// The entry behind which, on the primary, the lookup function lies. It is no client's: PostgreSQL lets
/// only us and the auth role into the database it leads to.
pub const AUTH_DATABASE: &str = "pgbouncer_auth";
/// The same on the replicas, so that who only reads can log in while there is no primary.
pub const AUTH_DATABASE_READONLY: &str = "pgbouncer_auth_readonly";

/// The name of a database that a client may have: one that every supported PgBouncer can list and
/// PostgreSQL can create.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseName(String);

/// A name that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid database name {name:?}: {reason}", name = Bare(.name))]
pub struct InvalidName {
    /// Printable form of the name.
    pub name: String,
    /// Why, and the remedy.
    pub reason: &'static str,
}

/// A text that is quoted but not escaped a second time.
struct Bare<'a>(&'a str);

impl fmt::Debug for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl DatabaseName {
    /// Takes a name exactly as it is, or refuses it in words.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let reason = match name {
            "" => "the name is empty",
            "*" => "* stands for every other database; ask for one by name",
            "pgbouncer" => "the name belongs to PgBouncer's console; choose another name",
            AUTH_DATABASE | AUTH_DATABASE_READONLY => {
                "PgBouncer looks up passwords there; choose another name"
            }
            "postgres" | "template0" | "template1" => "the name belongs to PostgreSQL; choose another name",
            _ if !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) => {
                "PgBouncer before 1.25 cannot list such a name; use letters, digits, _ . -"
            }
            _ if name.len() > 63 => "PostgreSQL cuts names at 63 bytes; choose a shorter name",
            _ => return Ok(Self(name.into())),
        };
        Err(InvalidName { name: printable(name), reason })
    }

    /// By the rules of PostgreSQL 16's charm, which names roles after databases.
    pub fn from_16(self) -> Result<Self, InvalidName> {
        let reason = match self.as_str() {
            "databases" => "the name belongs to PostgreSQL 16's charm; choose another name",
            name if name.len() > 49 => "PostgreSQL 16's charm takes 49 bytes at most; choose a shorter name",
            _ => return Ok(self),
        };
        Err(InvalidName { name: self.0, reason })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_exactly_or_refused_in_words() {
        for name in ["shop", "Shop", "a.b-c_1", &"d".repeat(63)] {
            assert_eq!(DatabaseName::parse(name).expect(name).as_str(), name);
        }
        for name in [
            "",
            "*",
            "a*",
            "pgbouncer",
            "postgres",
            "template0",
            "template1",
            "a b",
            "a]",
            "a=b",
            "a'b",
            "a\"b",
            "é",
            "a;b",
            &"d".repeat(64),
        ] {
            assert!(DatabaseName::parse(name).is_err(), "{name}");
        }
        let message = |name: &str| DatabaseName::parse(name).expect_err(name).to_string();
        assert_eq!(
            message("a\n\u{1b}[31m"),
            r#"invalid database name "a\n\u{1b}[31m": PgBouncer before 1.25 cannot list such a name; use letters, digits, _ . -"#
        );
        assert!(message(&" ".repeat(1000)).len() < 200);
    }
}

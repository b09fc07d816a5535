//! The names that databases and users can have, and those that the charm keeps for itself.

use std::fmt;

use super::text::printable;

/// The longest name of a database, in bytes: PostgreSQL truncates longer ones, PgBouncer refuses
/// them.
pub const DATABASE_NAME_LIMIT: usize = 63;

/// The longest name of a user, in bytes with doubled quotes (PgBouncer's `MAX_USERNAME` without the
/// terminating NUL).
pub(super) const USER_NAME_LIMIT: usize = 127;

/// The prefix by which PostgreSQL's charms recognise the auth role.
pub const AUTH_USER_PREFIX: &str = "pgbouncer_auth_";

/// The entry of the database with the lookup function, on the primary. No client uses this entry:
/// PostgreSQL lets only the charm and the auth role into its database.
pub const AUTH_DATABASE: &str = "pgbouncer_auth";
/// The same on the replicas, so that clients that only read can log in while there is no primary.
pub const AUTH_DATABASE_READONLY: &str = "pgbouncer_auth_readonly";

/// A database name that a client may have: every supported PgBouncer can list it, and PostgreSQL
/// can create it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseName(String);

/// Why a database name cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid database name {name:?}: {reason}", name = Bare(.name))]
pub struct InvalidName {
    /// The printable form of the name.
    pub name: String,
    /// The reason and the remedy.
    pub reason: &'static str,
}

/// A text that is printed in quotes, without being escaped again.
struct Bare<'a>(&'a str);

impl fmt::Debug for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl DatabaseName {
    /// Accepts a name unchanged, or returns why it cannot be served.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let reason = match name {
            "" => "the name is empty",
            "*" => "* stands for every other database; ask for one by name",
            "pgbouncer" => "the name belongs to PgBouncer's console; choose another name",
            AUTH_DATABASE | AUTH_DATABASE_READONLY => {
                "PgBouncer looks up passwords there; choose another name"
            }
            "postgres" | "template0" | "template1" => {
                "the name belongs to PostgreSQL; choose another name"
            }
            _ if !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) => {
                "PgBouncer before 1.25 cannot list such a name; use letters, digits, _ . -"
            }
            _ if name.len() > 63 => "PostgreSQL cuts names at 63 bytes; choose a shorter name",
            _ => return Ok(Self(name.into())),
        };
        Err(InvalidName { name: printable(name), reason })
    }

    /// Checks the rules of PostgreSQL 16's charm, which names roles after databases.
    pub fn from_16(self) -> Result<Self, InvalidName> {
        let reason = match self.as_str() {
            "databases" => "the name belongs to PostgreSQL 16's charm; choose another name",
            name if name.len() > 49 => {
                "PostgreSQL 16's charm takes 49 bytes at most; choose a shorter name"
            }
            _ => return Ok(self),
        };
        Err(InvalidName { name: self.0, reason })
    }

    /// The name as a text.
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
    fn names_are_kept_exactly_or_refused_with_a_reason() {
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

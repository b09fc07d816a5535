//! Versions of PgBouncer, and those that introduced what the charm uses.

use std::fmt;

/// A released version of PgBouncer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number, 1 so far.
    pub major: u16,
    /// The second number.
    pub minor: u16,
    /// The third number, of bug fixes.
    pub patch: u16,
}

impl Version {
    /// The oldest supported version.
    pub const OLDEST: Self = Self::new(1, 18);
    /// The newest version that the table of settings was compared with.
    pub const NEWEST: Self = Self::new(1, 25);
    /// `[peers]`, `peer_id` and `auth_dbname` (PgBouncer's changelog, 1.19.0).
    pub const PEERS: Self = Self::new(1, 19);
    /// `max_prepared_statements` (PgBouncer's changelog, 1.21.0).
    pub const PREPARED_STATEMENTS: Self = Self::new(1, 21);
    /// Statements are prepared again after `DEALLOCATE ALL` or `DISCARD ALL` (PgBouncer's
    /// changelog, 1.22.0).
    pub const TRACKS_DEALLOCATE: Self = Self::new(1, 22);
    /// A reload that changes nothing keeps server connections over TLS (seen on 1.24, not on 1.18).
    /// In earlier versions `server_fast_close` would close idle sessions on every reload.
    pub const KEEPS_TLS_ON_RELOAD: Self = Self::new(1, 24);
    /// The name in a certificate is compared with the host in use. Earlier versions compare it with
    /// the whole list of hosts (PgBouncer's issue 1303; seen on 1.18).
    pub const VERIFIES_EACH_HOST: Self = Self::new(1, 25);
    /// Quoted names in the file (PgBouncer's changelog, 1.25.0).
    pub const QUOTED_KEYS: Self = Self::new(1, 25);

    /// The first release of a minor version.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// Reads `1.24`, `1.24.1`, and either after `PgBouncer `, as in `SHOW VERSION` and in the first
    /// line of `pgbouncer --version`.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.trim();
        let mut numbers = line.strip_prefix("PgBouncer ").unwrap_or(line).split('.');
        let mut number = || numbers.next().map(decimal);
        let version =
            Self { major: number()??, minor: number()??, patch: number().unwrap_or(Some(0))? };
        numbers.next().is_none().then_some(version)
    }
}

fn decimal(digits: &str) -> Option<u16> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_pgbouncer_prints_them() {
        for (text, expected) in [
            ("PgBouncer 1.18.0", Some("1.18.0")),
            ("PgBouncer 1.24.1\nlibevent 2.1.12-stable\n", Some("1.24.1")),
            ("1.24", Some("1.24.0")),
            ("1.24.1", Some("1.24.1")),
            ("", None),
            ("1", None),
            ("1.", None),
            ("1.24.x", None),
            ("1.+4", None),
            ("1.24.1.2", None),
            ("pgbouncer 1.24", None),
        ] {
            assert_eq!(
                Version::parse(text).map(|version| version.to_string()).as_deref(),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn versions_compare_by_number_not_by_letter() {
        assert!(Version::parse("1.9.0") < Version::parse("1.18.0"));
        assert!(Version::parse("1.21.0") >= Some(Version::PREPARED_STATEMENTS));
    }
}

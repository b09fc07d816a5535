//! The settings of `[pgbouncer]`: kind, range, first version, and what it takes to change one.

use super::printable;
use super::version::Version;

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// As the file spells it.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The first version that knows it; an older one refuses the whole file.
    pub since: Version,
    /// What a change takes.
    pub change: Change,
}

/// What a setting holds. Stricter than PgBouncer, which takes `010` for 8 and 4294967299 for 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number in decimal, both ends included.
    Int {
        /// The lowest.
        min: u32,
        /// The highest.
        max: u32,
    },
    /// One of these words.
    Enum(&'static [&'static str]),
    /// 0 or 1.
    Bool,
    /// Seconds, from 0, with an optional fraction.
    Time,
    /// An absolute path.
    Path,
    /// Any line.
    Text,
}

/// What it takes to change a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A reload takes it over.
    Reload,
    /// A reload ignores it in silence; only a new process takes it over.
    Restart,
}

/// A setting that the running version would refuse, or take for something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    /// In no version.
    #[error("cannot set {name}: there is no such setting; check its spelling")]
    Unknown {
        /// Printable form of the name.
        name: String,
    },
    /// In a later version only.
    #[error("cannot set {name}: PgBouncer {version} does not know it; it needs {since}")]
    TooNew {
        /// The setting.
        name: &'static str,
        /// Its first version.
        since: Version,
        /// The version that was asked for.
        version: Version,
    },
    /// Out of its range.
    #[error("cannot set {name} to {value}: set it to {expected}")]
    Value {
        /// The setting.
        name: &'static str,
        /// Printable form of the value. Not for values from the other side of a relation.
        value: String,
        /// The range in words.
        expected: String,
    },
}

/// The largest number that PgBouncer's `int` holds.
const INT_MAX: u32 = i32::MAX.unsigned_abs();
const SSLMODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

use Change::{Reload, Restart};
use Kind::{Bool, Enum, Int, Path, Text, Time};

/// All settings in use here, by name.
pub const TABLE: &[Setting] = &[
    setting("admin_users", Text, Reload),
    setting("auth_file", Path, Reload),
    setting("auth_query", Text, Reload),
    setting(
        "auth_type",
        Enum(&["any", "trust", "plain", "md5", "cert", "hba", "pam", "scram-sha-256"]),
        Reload,
    ),
    setting("client_tls_ca_file", Path, Reload),
    setting("client_tls_cert_file", Path, Reload),
    setting("client_tls_key_file", Path, Reload),
    setting("client_tls_sslmode", Enum(SSLMODES), Reload),
    setting("default_pool_size", Int { min: 1, max: INT_MAX }, Reload),
    setting("ignore_startup_parameters", Text, Reload),
    setting("listen_addr", Text, Restart),
    setting("listen_port", Int { min: 1, max: 65535 }, Restart),
    setting("logfile", Path, Reload),
    setting("max_client_conn", Int { min: 1, max: INT_MAX }, Reload),
    setting("max_db_connections", Int { min: 0, max: INT_MAX }, Reload),
    since(Version::PREPARED_STATEMENTS, "max_prepared_statements", Int { min: 0, max: INT_MAX }, Reload),
    setting("min_pool_size", Int { min: 0, max: INT_MAX }, Reload),
    since(Version::PEERS, "peer_id", Int { min: 1, max: 16383 }, Reload),
    setting("pidfile", Path, Restart),
    setting("pool_mode", Enum(&["session", "transaction", "statement"]), Reload),
    setting("query_wait_timeout", Time, Reload),
    setting("reserve_pool_size", Int { min: 0, max: INT_MAX }, Reload),
    setting("server_login_retry", Time, Reload),
    setting("server_tls_sslmode", Enum(SSLMODES), Reload),
    setting("so_reuseport", Bool, Restart),
    setting("stats_users", Text, Reload),
    setting("syslog", Bool, Reload),
    setting("syslog_ident", Text, Reload),
    setting("unix_socket_dir", Path, Restart),
    setting("user", Text, Restart),
];

const fn setting(name: &'static str, kind: Kind, change: Change) -> Setting {
    since(Version::OLDEST, name, kind, change)
}

const fn since(since: Version, name: &'static str, kind: Kind, change: Change) -> Setting {
    Setting { name, kind, since, change }
}

/// The setting of this name, in exactly this spelling.
pub fn lookup(name: &str) -> Option<&'static Setting> {
    TABLE.binary_search_by(|setting| setting.name.cmp(name)).ok().map(|place| &TABLE[place])
}

/// Whether this version takes this value for what it says.
pub fn check(name: &str, value: &str, version: Version) -> Result<(), InvalidSetting> {
    let setting = lookup(name).ok_or_else(|| InvalidSetting::Unknown { name: printable(name) })?;
    if version < setting.since {
        return Err(InvalidSetting::TooNew { name: setting.name, since: setting.since, version });
    }
    if !setting.kind.takes(value) {
        return Err(InvalidSetting::Value {
            name: setting.name,
            value: printable(value),
            expected: setting.kind.to_string(),
        });
    }
    Ok(())
}

impl Kind {
    fn takes(self, value: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Int { min, max } => {
                let canonical = digits(value) && (value == "0" || !value.starts_with('0'));
                canonical && value.parse::<u32>().is_ok_and(|number| (min..=max).contains(&number))
            }
            Enum(words) => words.contains(&value),
            Bool => matches!(value, "0" | "1"),
            Time => {
                let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
                digits(whole) && digits(fraction) && whole.len() <= 9
            }
            Path => value.starts_with('/') && !value.contains(['\n', '\r', '\0']),
            Text => !value.contains(['\n', '\r', '\0']),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Int { min, max } => write!(f, "a whole number from {min} to {max}"),
            Enum(words) => write!(f, "one of {}", words.join(", ")),
            Bool => f.write_str("0 or 1"),
            Time => f.write_str("a number of seconds from 0 to 999999999"),
            Path => f.write_str("an absolute path"),
            Text => f.write_str("a text of one line"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_the_lookup() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        assert!(TABLE.iter().all(|setting| lookup(setting.name) == Some(setting)));
    }

    #[test]
    fn values_that_pgbouncer_would_misread_are_refused() {
        for (name, good, bad) in [
            (
                "listen_port",
                &["1", "6432", "65535"][..],
                &["", "0", "65536", "06432", "0x20", "+5", "-1", "5.0", " 1", "6432 ; x"][..],
            ),
            ("max_db_connections", &["0", "2147483647"], &["2147483648", "4294967299", "none"]),
            ("pool_mode", &["session"], &["Session", "'session'", ""]),
            ("so_reuseport", &["0", "1"], &["yes", "true", "7"]),
            ("query_wait_timeout", &["0", "30", "0.25"], &["30s", "inf", "nan", "-1", "1e3", ".5", "5.", ""]),
            ("auth_file", &["/a/b c"], &["", "a", "/a\nb"]),
            ("admin_users", &["", "a,b"], &["a\nb", "a\0"]),
        ] {
            for value in good {
                assert_eq!(check(name, value, Version::OLDEST), Ok(()), "{name} {value:?}");
            }
            for value in bad {
                assert!(check(name, value, Version::OLDEST).is_err(), "{name} {value:?}");
            }
        }
    }

    #[test]
    fn errors_name_the_setting_the_range_and_the_remedy() {
        let message = |name, value| check(name, value, Version::OLDEST).expect_err(name).to_string();
        assert_eq!(
            message("listen_port", "70000"),
            "cannot set listen_port to 70000: set it to a whole number from 1 to 65535"
        );
        assert_eq!(
            message("max_prepared_statements", "1"),
            "cannot set max_prepared_statements: PgBouncer 1.18.0 does not know it; it needs 1.21.0"
        );
        assert_eq!(
            message("LISTEN_PORT", "1"),
            "cannot set LISTEN_PORT: there is no such setting; check its spelling"
        );
        assert_eq!(check("max_prepared_statements", "1", Version::PREPARED_STATEMENTS), Ok(()));
    }
}

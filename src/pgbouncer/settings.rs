//! The settings of PgBouncer's file: kind, default, first version, and what a change takes.
//!
//! The facts are those of PgBouncer's documentation and changelog, compared with `SHOW CONFIG` of
//! 1.18 to 1.25. None of these versions removed a setting.

use std::fmt;
use std::net::IpAddr;

use super::names::DATABASE_NAME_LIMIT;
use super::openssl;
use super::text::printable;
use super::version::Version;

/// One setting, or one key of a database, user or peer.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The section in which it stands.
    pub section: Section,
    /// Its name, spelled as in the file.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// The unit of its value: `s`, `ms`, `bytes`, or none.
    pub unit: &'static str,
    /// The value in force without it.
    pub initial: Initial,
    /// The first version that knows it; an older one refuses the whole file.
    pub since: Version,
    /// What it takes to change it.
    pub change: Change,
    /// A remark for the documentation.
    pub note: &'static str,
}

/// A section of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The settings of the process.
    Pgbouncer,
    /// A connection string for each database.
    Databases,
    /// Limits of single users.
    Users,
    /// The processes that share the port, since 1.19.
    Peers,
}

/// The kind of a value. It is stricter than PgBouncer: see [`Kind::misread`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number in decimal, both ends included.
    Int {
        /// The lowest.
        min: u32,
        /// The highest.
        max: u32,
    },
    /// The mode of a file: four octal digits, the first of them 0.
    Octal,
    /// One of these words.
    Enum(&'static [&'static str]),
    /// Some of these words, separated by commas.
    Words(&'static [&'static str]),
    /// 0 or 1.
    Bool,
    /// Seconds, from 0, with an optional fraction.
    Time,
    /// An absolute path.
    Path,
    /// An absolute path, or nothing.
    MaybePath,
    /// The directory of the unix socket, `@` and a name for an abstract socket, or nothing.
    SocketDirectory,
    /// OpenSSL's list of ciphers up to TLS 1.2.
    Ciphers,
    /// OpenSSL's list of suites of TLS 1.3.
    Suites,
    /// Any line.
    Text,
    /// Names separated by commas. A `=` is refused: it shows that two lines became one.
    List,
    /// Host names and addresses separated by commas, `*` for all, or nothing.
    Addresses,
    /// A line of 1 to so many bytes.
    Short(usize),
    /// The name of a database other than the console.
    Database,
}

/// The value in force where a setting is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// None. A reload without the line keeps the old value; only a restart removes it.
    Null,
    /// A value, as `SHOW CONFIG` spells it.
    Is(&'static str),
    /// The first value before this minor version of 1, and the second one since.
    Since(u16, &'static str, &'static str),
    /// The value of another setting.
    Of(&'static str),
}

/// What it takes to change a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A reload applies it.
    Reload,
    /// A reload applies it, but open server connections keep the old value until `RECONNECT`.
    Reconnect,
    /// A reload ignores it and reports nothing; only a new process applies it.
    Restart,
}

/// Why the running version would refuse a setting, or misread it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    /// No version has this setting.
    #[error("cannot set {name}: there is no such setting in [{section}]; check its spelling")]
    Unknown {
        /// The section in which it stands.
        section: Section,
        /// The printable form of the name.
        name: String,
    },
    /// Only later versions have it.
    #[error("cannot set {name}: PgBouncer {version} does not know it; it needs {since}")]
    TooNew {
        /// The name of the setting.
        name: &'static str,
        /// Its first version.
        since: Version,
        /// The version that is to read it.
        version: Version,
    },
    /// The value is out of its range.
    #[error("cannot set {name}{value}: set it to {expected}")]
    Value {
        /// The name of the setting.
        name: &'static str,
        /// ` to ` and the printable value; nothing for a key of a connection string.
        value: String,
        /// The range in words.
        expected: String,
    },
}

use Change::{Reconnect, Reload, Restart};
use Initial::{Is, Null, Of, Since};
use Kind::{
    Addresses, Bool, Ciphers, Database, Enum, Int, List, MaybePath, Octal, Path, Short,
    SocketDirectory, Suites, Text, Time, Words,
};
use Section::{Databases, Peers, Pgbouncer, Users};

/// The largest number that PgBouncer's `int` holds.
const INT_MAX: u32 = i32::MAX.unsigned_abs();
const NUMBER: Kind = Int { min: 0, max: INT_MAX };
const POSITIVE: Kind = Int { min: 1, max: INT_MAX };
const PORT: Kind = Int { min: 1, max: 65535 };

const AUTH_TYPES: &[&str] =
    &["any", "trust", "plain", "md5", "cert", "hba", "pam", "scram-sha-256"];
const FACILITIES: &[&str] = &[
    "auth", "authpriv", "daemon", "user", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];
const POOL_MODES: &[&str] = &["session", "transaction", "statement"];
const PROTOCOLS: &[&str] = &["secure", "all", "tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"];
const SSLMODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const AUTH_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL \
                          ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin";

/// Every setting of PgBouncer 1.18 to 1.25, by section and name, except `service_name`, which only
/// a build for Windows knows.
#[rustfmt::skip]
pub const TABLE: &[Setting] = &[
    row(Pgbouncer, "admin_users", List, Is(""), Reload).note("a console session that is open keeps its rights"),
    row(Pgbouncer, "application_name_add_host", Bool, Is("0"), Reload),
    row(Pgbouncer, "auth_dbname", Database, Null, Reload).since(19),
    row(Pgbouncer, "auth_file", Path, Null, Reload).note("read again only if the file itself changed"),
    row(Pgbouncer, "auth_hba_file", MaybePath, Is(""), Reload).note("read with auth_type = hba; without the file no client can log in"),
    row(Pgbouncer, "auth_ident_file", Path, Null, Reload).since(23).note("read with auth_type = hba"),
    row(Pgbouncer, "auth_ldap_options", Text, Null, Reload).since(25).note("only a build with LDAP uses it"),
    row(Pgbouncer, "auth_query", Text, Is(AUTH_QUERY), Reload).note("before 1.24.1 the default was another, but distributions carry this one in older versions"),
    row(Pgbouncer, "auth_type", Enum(AUTH_TYPES), Is("md5"), Reload).note("counts for new logins; pam needs a build with PAM; ldap, in some builds of 1.25, is not taken here"),
    row(Pgbouncer, "auth_user", Short(127), Null, Reload),
    row(Pgbouncer, "autodb_idle_timeout", Time, Is("3600"), Reload),
    row(Pgbouncer, "cancel_wait_timeout", Time, Is("10"), Reload).since(19).note("0 waits forever"),
    row(Pgbouncer, "client_idle_timeout", Time, Is("0"), Reload),
    row(Pgbouncer, "client_login_timeout", Time, Is("60"), Reload),
    row(Pgbouncer, "client_tls13_ciphers", Suites, Null, Reload).since(25),
    row(Pgbouncer, "client_tls_ca_file", MaybePath, Is(""), Reload),
    row(Pgbouncer, "client_tls_cert_file", MaybePath, Is(""), Reload),
    row(Pgbouncer, "client_tls_ciphers", Ciphers, Since(21, "fast", "default"), Reload),
    row(Pgbouncer, "client_tls_dheparams", Enum(&["none", "auto"]), Is("auto"), Reload).note("legacy, which 1.24 refuses, is not taken here"),
    row(Pgbouncer, "client_tls_ecdhcurve", Enum(openssl::CURVES), Is("auto"), Reload),
    row(Pgbouncer, "client_tls_key_file", MaybePath, Is(""), Reload),
    row(Pgbouncer, "client_tls_protocols", Words(PROTOCOLS), Is("secure"), Reload),
    row(Pgbouncer, "client_tls_sslmode", Enum(SSLMODES), Is("disable"), Reload).note("anything but disable needs key and certificate"),
    row(Pgbouncer, "conffile", Path, Null, Reload).note("the file of the next reload; with a wrong one each later reload fails"),
    row(Pgbouncer, "default_pool_size", POSITIVE, Is("20"), Reload).note("surplus connections close as clients release them; 0, unlimited from 1.24, is not taken here"),
    row(Pgbouncer, "disable_pqexec", Bool, Is("0"), Restart),
    row(Pgbouncer, "dns_max_ttl", Time, Is("15"), Reload),
    row(Pgbouncer, "dns_nxdomain_ttl", Time, Is("15"), Reload),
    row(Pgbouncer, "dns_zone_check_period", Time, Is("0"), Reload).note("only with c-ares"),
    row(Pgbouncer, "idle_transaction_timeout", Time, Is("0"), Reload),
    row(Pgbouncer, "ignore_startup_parameters", List, Is(""), Reload),
    row(Pgbouncer, "job_name", Text, Is("pgbouncer"), Restart),
    row(Pgbouncer, "listen_addr", Addresses, Is(""), Restart).note("* for all; from 1.19 PgBouncer does not start if none can be bound"),
    row(Pgbouncer, "listen_backlog", POSITIVE, Is("128"), Restart),
    row(Pgbouncer, "listen_port", PORT, Is("6432"), Restart),
    row(Pgbouncer, "log_connections", Bool, Is("1"), Reload),
    row(Pgbouncer, "log_disconnections", Bool, Is("1"), Reload),
    row(Pgbouncer, "log_pooler_errors", Bool, Is("1"), Reload),
    row(Pgbouncer, "log_stats", Bool, Is("1"), Reload),
    row(Pgbouncer, "logfile", MaybePath, Is(""), Reload).note("opened anew by each reload"),
    row(Pgbouncer, "max_client_conn", POSITIVE, Is("100"), Reload).note("those connected stay; the console is exempt"),
    row(Pgbouncer, "max_db_client_connections", NUMBER, Is("0"), Reload).since(24),
    row(Pgbouncer, "max_db_connections", NUMBER, Is("0"), Reload),
    row(Pgbouncer, "max_packet_size", Int { min: 1024, max: INT_MAX }, Is("2147483647"), Reload).unit("bytes"),
    row(Pgbouncer, "max_prepared_statements", NUMBER, Since(24, "0", "200"), Reload).since(21).note("0 turns the tracking off"),
    row(Pgbouncer, "max_user_client_connections", NUMBER, Is("0"), Reload).since(24),
    row(Pgbouncer, "max_user_connections", NUMBER, Is("0"), Reload),
    row(Pgbouncer, "min_pool_size", NUMBER, Is("0"), Reload),
    row(Pgbouncer, "peer_id", Int { min: 0, max: 16383 }, Is("0"), Reload).since(19).note("0 for none; unique among the peers"),
    row(Pgbouncer, "pidfile", MaybePath, Is(""), Restart),
    row(Pgbouncer, "pkt_buf", Int { min: 512, max: 1 << 20 }, Is("4096"), Restart).unit("bytes"),
    row(Pgbouncer, "pool_mode", Enum(POOL_MODES), Is("session"), Reload).note("live clients change over at their next release"),
    row(Pgbouncer, "query_timeout", Time, Is("0"), Reload),
    row(Pgbouncer, "query_wait_notify", NUMBER, Is("5"), Reload).unit("s").since(25).note("0 turns it off"),
    row(Pgbouncer, "query_wait_timeout", Time, Is("120"), Reload).note("0 waits forever; it covers logins that wait for a server too"),
    row(Pgbouncer, "reserve_pool_size", NUMBER, Is("0"), Reload),
    row(Pgbouncer, "reserve_pool_timeout", Time, Is("5"), Reload),
    row(Pgbouncer, "resolv_conf", MaybePath, Is(""), Restart).note("only with c-ares or libevent"),
    row(Pgbouncer, "sbuf_loopcnt", NUMBER, Is("5"), Reload),
    row(Pgbouncer, "scram_iterations", Int { min: 4096, max: 1_000_000 }, Is("4096"), Reload).since(25),
    row(Pgbouncer, "server_check_delay", Time, Is("30"), Reload),
    row(Pgbouncer, "server_check_query", Text, Since(25, "select 1", "<empty>"), Reload).note("nothing turns the check off; <empty>, an empty query, is known from 1.25"),
    row(Pgbouncer, "server_connect_timeout", Time, Is("15"), Reload),
    row(Pgbouncer, "server_fast_close", Bool, Is("0"), Reload),
    row(Pgbouncer, "server_idle_timeout", Time, Is("600"), Reload),
    row(Pgbouncer, "server_lifetime", Time, Is("3600"), Reload).note("0 for one use of each connection"),
    row(Pgbouncer, "server_login_retry", Time, Is("15"), Reload).note("the pause after a failed connection to the server"),
    row(Pgbouncer, "server_reset_query", Text, Is("DISCARD ALL"), Reload).note("together with another statement, DISCARD ALL always fails, and PgBouncer does not report it"),
    row(Pgbouncer, "server_reset_query_always", Bool, Is("0"), Reload).note("in transaction and statement pools too"),
    row(Pgbouncer, "server_round_robin", Bool, Is("0"), Reload),
    row(Pgbouncer, "server_tls13_ciphers", Suites, Null, Reload).since(25),
    row(Pgbouncer, "server_tls_ca_file", MaybePath, Is(""), Reload),
    row(Pgbouncer, "server_tls_cert_file", MaybePath, Is(""), Reload),
    row(Pgbouncer, "server_tls_ciphers", Ciphers, Since(21, "fast", "default"), Reload),
    row(Pgbouncer, "server_tls_key_file", MaybePath, Is(""), Reload),
    row(Pgbouncer, "server_tls_protocols", Words(PROTOCOLS), Is("secure"), Reload),
    row(Pgbouncer, "server_tls_sslmode", Enum(SSLMODES), Since(20, "disable", "prefer"), Reload).note("a change replaces the server connections; before 1.24 with TLS each reload does"),
    row(Pgbouncer, "so_reuseport", Bool, Is("0"), Restart).note("each process needs a socket directory and a pidfile of its own"),
    row(Pgbouncer, "stats_period", POSITIVE, Is("60"), Reload).unit("s"),
    row(Pgbouncer, "stats_users", List, Is(""), Reload),
    row(Pgbouncer, "suspend_timeout", Time, Is("10"), Reload),
    row(Pgbouncer, "syslog", Bool, Is("0"), Reload),
    row(Pgbouncer, "syslog_facility", Enum(FACILITIES), Is("daemon"), Reload),
    row(Pgbouncer, "syslog_ident", Text, Is("pgbouncer"), Reload).note("has no effect without syslog, so the charm uses it for the digest"),
    row(Pgbouncer, "tcp_defer_accept", Bool, Is("1"), Reload).note("the default of Linux"),
    row(Pgbouncer, "tcp_keepalive", Bool, Is("1"), Reload).note("new connections"),
    row(Pgbouncer, "tcp_keepcnt", Int { min: 0, max: 127 }, Is("0"), Reload).note("new connections"),
    row(Pgbouncer, "tcp_keepidle", Int { min: 0, max: 32767 }, Is("0"), Reload).unit("s").note("new connections"),
    row(Pgbouncer, "tcp_keepintvl", Int { min: 0, max: 32767 }, Is("0"), Reload).unit("s").note("new connections"),
    row(Pgbouncer, "tcp_socket_buffer", NUMBER, Is("0"), Reload).unit("bytes").note("new connections"),
    row(Pgbouncer, "tcp_user_timeout", NUMBER, Is("0"), Reload).unit("ms").note("new connections"),
    row(Pgbouncer, "track_extra_parameters", List, Is("IntervalStyle"), Restart).since(20).note("cannot hold options"),
    row(Pgbouncer, "transaction_timeout", Time, Is("0"), Reload).since(25),
    row(Pgbouncer, "unix_socket_dir", SocketDirectory, Is("/tmp"), Restart).note("/tmp unless built otherwise; @ for an abstract socket; nothing for none"),
    row(Pgbouncer, "unix_socket_group", Text, Is(""), Restart),
    row(Pgbouncer, "unix_socket_mode", Octal, Is("0777"), Restart),
    row(Pgbouncer, "user", Text, Null, Restart).note("only when started as root"),
    row(Pgbouncer, "verbose", Int { min: 0, max: 3 }, Null, Reload).note("one more for each -v"),
    row(Databases, "application_name", Text, Null, Reconnect),
    row(Databases, "auth_dbname", Database, Null, Reload).since(19).note("replaces the server connections"),
    row(Databases, "auth_query", Text, Null, Reload).since(22).note("replaces the server connections"),
    row(Databases, "auth_user", Short(127), Null, Reload).note("the next auth_query uses it"),
    row(Databases, "client_encoding", Text, Null, Reconnect),
    row(Databases, "connect_query", Text, Null, Reload).note("replaces the server connections; an error in it is only logged"),
    row(Databases, "datestyle", Text, Null, Reconnect),
    row(Databases, "dbname", Short(63), Of("the name before ="), Reload).note("replaces the server connections"),
    row(Databases, "host", List, Null, Reload).note("replaces the server connections; nothing for the socket in unix_socket_dir"),
    row(Databases, "load_balance_hosts", Enum(&["disable", "round-robin"]), Is("round-robin"), Reload).since(24).note("replaces the server connections"),
    row(Databases, "max_db_client_connections", NUMBER, Of("max_db_client_connections"), Reload).since(24),
    row(Databases, "max_db_connections", NUMBER, Of("max_db_connections"), Reload),
    row(Databases, "min_pool_size", NUMBER, Of("min_pool_size"), Reload),
    row(Databases, "password", Short(2047), Of("the user list"), Reconnect).note("the next server connection uses it; only together with user"),
    row(Databases, "pool_mode", Enum(POOL_MODES), Of("pool_mode"), Reload).note("live clients change over at their next release"),
    row(Databases, "pool_size", POSITIVE, Of("default_pool_size"), Reload),
    row(Databases, "port", PORT, Is("5432"), Reload).note("replaces the server connections"),
    row(Databases, "reserve_pool", NUMBER, Of("reserve_pool_size"), Reload).note("from 1.24 another name of reserve_pool_size"),
    row(Databases, "reserve_pool_size", NUMBER, Of("reserve_pool_size"), Reload).since(24),
    row(Databases, "server_lifetime", POSITIVE, Of("server_lifetime"), Reload).unit("s").since(23).note("whole seconds here; 0, not set, is not taken here"),
    row(Databases, "timezone", Text, Null, Reconnect),
    row(Databases, "user", Short(127), Null, Reload).note("replaces the server connections; taking it away needs a restart"),
    row(Users, "client_idle_timeout", NUMBER, Of("client_idle_timeout"), Reload).unit("s").since(24),
    row(Users, "idle_transaction_timeout", NUMBER, Of("idle_transaction_timeout"), Reload).unit("s").since(24),
    row(Users, "max_user_client_connections", NUMBER, Of("max_user_client_connections"), Reload).since(24),
    row(Users, "max_user_connections", NUMBER, Of("max_user_connections"), Reload),
    row(Users, "pool_mode", Enum(POOL_MODES), Of("pool_mode"), Reload),
    row(Users, "pool_size", POSITIVE, Of("default_pool_size"), Reload).since(23),
    row(Users, "query_timeout", NUMBER, Of("query_timeout"), Reload).unit("s").since(24),
    row(Users, "reserve_pool_size", NUMBER, Of("reserve_pool_size"), Reload).since(24),
    row(Users, "transaction_timeout", NUMBER, Of("transaction_timeout"), Reload).unit("s").since(25),
    row(Peers, "host", Text, Null, Reload).since(19).note("required"),
    row(Peers, "pool_size", POSITIVE, Of("default_pool_size"), Reload).since(19).note("cancel requests under way to this peer"),
    row(Peers, "port", PORT, Is("6432"), Reload).since(19).note("names the socket file too, when host is a directory"),
];

const fn row(
    section: Section,
    name: &'static str,
    kind: Kind,
    initial: Initial,
    change: Change,
) -> Setting {
    Setting { section, name, kind, unit: "", initial, since: Version::OLDEST, change, note: "" }
}

impl Setting {
    const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    const fn since(self, minor: u16) -> Self {
        Self { since: Version::new(1, minor), ..self }
    }

    const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// The default in this version, as `SHOW CONFIG` spells it; `None` without a default of its
    /// own.
    pub fn default(&self, version: Version) -> Option<&'static str> {
        match self.initial {
            Null | Of(_) => None,
            Is(value) => Some(value),
            Since(minor, before, after) => {
                Some(if version < Version::new(1, minor) { before } else { after })
            }
        }
    }
}

/// The setting of exactly this name.
pub fn lookup(section: Section, name: &str) -> Option<&'static Setting> {
    let place =
        TABLE.binary_search_by(|setting| (setting.section, setting.name).cmp(&(section, name)));
    place.ok().map(|place| &TABLE[place])
}

/// Checks that this version accepts this value, and reads it as intended.
pub fn check(
    section: Section,
    name: &str,
    value: &str,
    version: Version,
) -> Result<(), InvalidSetting> {
    let setting = lookup(section, name)
        .ok_or_else(|| InvalidSetting::Unknown { section, name: printable(name) })?;
    if version < setting.since {
        return Err(InvalidSetting::TooNew { name: setting.name, since: setting.since, version });
    }
    if !setting.kind.takes(value) {
        // A connection string may hold a password, and any part of it may be misplaced.
        let value = (section == Pgbouncer).then(|| format!(" to {}", printable(value)));
        return Err(InvalidSetting::Value {
            name: setting.name,
            value: value.unwrap_or_default(),
            expected: setting.kind.to_string(),
        });
    }
    Ok(())
}

impl Kind {
    fn takes(self, value: &str) -> bool {
        let line = !value.contains(['\n', '\r', '\0']);
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Int { min, max } => {
                let canonical = digits(value) && (value == "0" || !value.starts_with('0'));
                canonical && value.parse::<u32>().is_ok_and(|number| (min..=max).contains(&number))
            }
            Octal => {
                value.len() == 4
                    && value.starts_with('0')
                    && value.bytes().all(|byte| matches!(byte, b'0'..=b'7'))
            }
            Enum(words) => words.contains(&value),
            Words(words) => value.split(',').all(|word| words.contains(&word)),
            Bool => matches!(value, "0" | "1"),
            Time => {
                let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
                digits(whole) && digits(fraction) && whole.len() <= 9
            }
            Path => line && value.starts_with('/'),
            MaybePath => line && (value.is_empty() || value.starts_with('/')),
            SocketDirectory => {
                line && value.len() <= SOCKET_DIRECTORY_MAX
                    && (value.is_empty() || value.starts_with(['/', '@']))
            }
            Ciphers => openssl::has_ciphers(value),
            Suites => openssl::has_suites(value),
            Text => line,
            List => line && !value.contains('='),
            Addresses => {
                value.is_empty() || value.split(',').all(|host| is_host(host.trim_matches(' ')))
            }
            Short(max) => line && (1..=max).contains(&value.len()),
            Database => {
                line && (1..=DATABASE_NAME_LIMIT).contains(&value.len()) && value != "pgbouncer"
            }
        }
    }

    /// Values that PgBouncer takes and the charm refuses, each with what `SHOW CONFIG` then shows.
    pub fn misread(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Int { .. } => &[("0x20", "32"), ("010", "8"), ("+5", "5"), ("4294967299", "3")],
            // In decimal, as for every mode: 01411.
            Octal => &[("777", "777")],
            Bool => &[("7", "7"), ("-1", "-1")],
            Time => &[("1e3", "1000"), ("0x10", "16"), ("inf", "0")],
            Enum(_) | Words(_) | Path | MaybePath | SocketDirectory | Ciphers | Suites | Text
            | List | Addresses | Short(_) | Database => &[],
        }
    }
}

/// Whether a text is `*`, an address, or possibly a host name.
fn is_host(text: &str) -> bool {
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let letters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if numeric || text.contains(':') {
        let (address, zone) = text.split_once('%').unwrap_or((text, ""));
        address.parse::<IpAddr>().is_ok() && zone.chars().all(letters)
    } else {
        text == "*" || text.chars().all(letters)
    }
}

/// The longest directory of a socket, in bytes: `/.s.PGSQL.65535` must fit into a socket's address
/// of 108 bytes (unix(7)).
const SOCKET_DIRECTORY_MAX: usize = 92;

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pgbouncer => "pgbouncer",
            Databases => "databases",
            Users => "users",
            Peers => "peers",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Int { min, max } => write!(f, "a whole number from {min} to {max}"),
            Octal => f.write_str("four octal digits beginning with 0, such as 0770"),
            Enum(words) => write!(f, "one of {}", words.join(", ")),
            Words(words) => write!(f, "one or, with commas, more of {}", words.join(", ")),
            Bool => f.write_str("0 or 1"),
            Time => f.write_str("a number of seconds from 0 to 999999999"),
            Path => f.write_str("an absolute path"),
            MaybePath => f.write_str("an absolute path, or nothing"),
            SocketDirectory => write!(
                f,
                "an absolute path of at most {SOCKET_DIRECTORY_MAX} bytes, @ and a name, or nothing"
            ),
            Ciphers => f.write_str("a list of ciphers that OpenSSL knows, such as HIGH:!aNULL"),
            Suites => f.write_str("suites of TLS 1.3 with : between them"),
            Text => f.write_str("a text of one line"),
            List => f.write_str("names with commas between them, without ="),
            Addresses => {
                f.write_str("host names and addresses with commas between them, *, or nothing")
            }
            Short(max) => write!(f, "a text of 1 to {max} bytes in one line"),
            Database => {
                write!(
                    f,
                    "the name of a database, at most {DATABASE_NAME_LIMIT} bytes, but not pgbouncer"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_the_lookup() {
        assert!(TABLE.is_sorted_by(|a, b| (a.section, a.name) < (b.section, b.name)));
        assert!(TABLE.iter().all(|setting| lookup(setting.section, setting.name) == Some(setting)));
        assert_eq!(TABLE.len(), 132);
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
            (
                "query_wait_timeout",
                &["0", "30", "0.25"],
                &["30s", "inf", "nan", "-1", "1e3", ".5", "5.", ""],
            ),
            ("auth_file", &["/a/b c"], &["", "a", "/a\nb"]),
            (
                "listen_addr",
                &["", "*", "127.0.0.1, ::1", "fe80::1%eth0", "db-1.example"],
                &["127.0.", "327.0.0.1", "1 2", "a=", ",", "a:b"],
            ),
            ("unix_socket_mode", &["0770"], &["770", "0888", "00770"]),
            (
                "server_tls_protocols",
                &["secure", "tlsv1.2,tlsv1.3"],
                &["", "tls", "tlsv1.2 tlsv1.3"],
            ),
            ("unix_socket_dir", &["", "/run", "@x"], &["run", &"/".repeat(93)]),
            ("auth_dbname", &["crm"], &["", "pgbouncer", &"d".repeat(64)]),
            ("admin_users", &["", "a,b"], &["a\nb", "a\0"]),
        ] {
            for value in good {
                assert_eq!(
                    check(Pgbouncer, name, value, Version::NEWEST),
                    Ok(()),
                    "{name} {value:?}"
                );
            }
            for value in bad {
                assert!(
                    check(Pgbouncer, name, value, Version::NEWEST).is_err(),
                    "{name} {value:?}"
                );
            }
        }
    }

    #[test]
    fn every_default_is_accepted() {
        for setting in TABLE {
            for version in [setting.since, Version::NEWEST] {
                if let Some(value) = setting.default(version) {
                    assert_eq!(check(setting.section, setting.name, value, version), Ok(()));
                }
            }
        }
    }

    #[test]
    fn every_value_listed_as_misread_is_refused() {
        for setting in TABLE {
            for (value, _) in setting.kind.misread() {
                assert!(!setting.kind.takes(value), "{} {value}", setting.name);
            }
        }
    }

    #[test]
    fn errors_name_the_setting_the_range_and_the_remedy() {
        let message = |name, value| {
            check(Pgbouncer, name, value, Version::OLDEST).expect_err(name).to_string()
        };
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
            "cannot set LISTEN_PORT: there is no such setting in [pgbouncer]; check its spelling"
        );
        assert_eq!(
            check(Pgbouncer, "max_prepared_statements", "1", Version::PREPARED_STATEMENTS),
            Ok(())
        );
    }
}

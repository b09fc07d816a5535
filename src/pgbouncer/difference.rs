//! What a running process needs to change to another configuration: a reload, a reconnect, or a
//! restart.
//!
//! A reload changes less than it seems. PgBouncer ignores changes of some settings, and keeps the
//! old value of others that the new file does not name. It reports neither (PgBouncer's source,
//! `cf_load_file` and `loader.c`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::{
    ini::{ConnectionString, Ini},
    settings::{Change, Initial, Section, lookup},
    text::printable,
    version::Version,
};

/// Every change that a process has to apply, and every other cause of a reload or a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference(BTreeSet<Cause>);

/// What a process needs to apply a change, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The process already runs the configuration.
    Nothing,
    /// SIGHUP or `RELOAD`.
    Reload,
    /// A reload, then `RECONNECT`: open server connections would keep the old value.
    Reconnect,
    /// A new process.
    Restart,
}

/// One change, by name and never by value: the value may be a password.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cause {
    /// What changes.
    pub what: What,
    /// What a reload does with the change.
    pub reload: OnReload,
}

/// What changes, in the order of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A setting of `[pgbouncer]`.
    Setting(String),
    /// A database, or one key of its line.
    Database {
        /// The name that clients use.
        name: String,
        /// `None` for the whole line.
        key: Option<String>,
    },
    /// The line of a user.
    User(String),
    /// The line of a peer.
    Peer(u16),
    /// The port: it refuses connections although the process runs.
    RefusedPort,
    /// The whole file: the old one cannot be read.
    UnreadableFile,
    /// Anything: the record of a pending restart cannot be read.
    UnreadableRecord,
}

/// What a reload does with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnReload {
    /// The change takes effect.
    Applies,
    /// The change takes effect, and the clients of the database are disconnected.
    Disconnects,
    /// New server connections get the new value; open ones keep the old one.
    SparesConnections,
    /// The process keeps the old value, because the new file does not name it.
    KeepsOld,
    /// The process ignores the change.
    Ignores,
    /// Not known.
    Unknown,
}

impl Difference {
    /// The changes from the file that a process of this version runs to the one it should run.
    pub fn between(old: &Ini, new: &Ini, version: Version) -> Self {
        let mut causes = BTreeSet::new();
        settings(old, new, version, &mut causes);
        databases(&old.databases, &new.databases, &mut causes);
        for (name, _, after) in changes(&old.users, &new.users) {
            let reload = if after.is_none() { OnReload::KeepsOld } else { OnReload::Applies };
            causes.insert(Cause { what: What::User(name.clone()), reload });
        }
        for (id, ..) in changes(&old.peers, &new.peers) {
            causes.insert(Cause { what: What::Peer(*id), reload: OnReload::Applies });
        }
        Self(causes)
    }

    /// The changes that a process has ignored in a file that it has just loaded. `shown` has the
    /// settings of its `SHOW CONFIG`, with values and built-in defaults. `SHOW CONFIG` does not
    /// show the keys of databases.
    pub fn left<'a>(new: &Ini, shown: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Self {
        let ignored = |(name, value, default): (&str, &str, &str)| {
            let setting = lookup(Section::Pgbouncer, name)?;
            // The path of the file, from the command line.
            if name == "conffile" {
                return None;
            }
            let wanted = new.setting(name);
            let reload = match (setting.change, wanted) {
                (Change::Restart, _) => OnReload::Ignores,
                (_, None) if setting.initial == Initial::Null => OnReload::KeepsOld,
                _ => return None,
            };
            let same = shown_as(name, wanted.unwrap_or(default)) == shown_as(name, value);
            (!same).then(|| Cause { what: What::Setting(name.to_owned()), reload })
        };
        Self(shown.filter_map(ignored).collect())
    }

    /// The port of a process that does not listen on it. A process tries only once, when it starts.
    pub fn refused_port() -> Self {
        Self::unknown(What::RefusedPort)
    }

    /// The change from a file that cannot be read.
    pub fn unreadable_file() -> Self {
        Self::unknown(What::UnreadableFile)
    }

    fn unknown(what: What) -> Self {
        Self(BTreeSet::from([Cause { what, reload: OnReload::Unknown }]))
    }

    /// Adds the causes of another difference.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// What the process needs for all causes together.
    pub fn need(&self) -> Need {
        self.0.iter().map(Cause::need).max().unwrap_or(Need::Nothing)
    }

    /// Whether a process that exits after this restart may have failed to bind its port.
    pub fn may_concern_port(&self) -> bool {
        self.0.iter().any(|cause| match &cause.what {
            What::Setting(name) => name == "listen_port",
            What::RefusedPort | What::UnreadableFile | What::UnreadableRecord => true,
            What::Database { .. } | What::User(_) | What::Peer(_) => false,
        })
    }

    /// The causes, in the order of a file.
    pub fn causes(&self) -> impl Iterator<Item = &Cause> {
        self.0.iter()
    }

    /// Renders the causes that need more than a reload. If this load is killed, the next load reads
    /// this record.
    pub fn record(&self) -> String {
        let causes: Vec<_> = self.0.iter().filter(|cause| cause.need() > Need::Reload).collect();
        // An empty record cannot be read, and so counts as a restart.
        serde_json::to_string(&causes).unwrap_or_default()
    }

    /// Reads [`Difference::record`]. A record that cannot be read is a cause for a restart.
    pub fn from_record(text: &str) -> Self {
        serde_json::from_str(text).map_or_else(|_| Self::unreadable_record(), Self)
    }

    /// The causes of a record that cannot be read: unknown, and so a restart.
    pub fn unreadable_record() -> Self {
        Self::unknown(What::UnreadableRecord)
    }
}

impl Cause {
    /// What a process needs to apply this change.
    pub fn need(&self) -> Need {
        match self.reload {
            OnReload::Applies | OnReload::Disconnects => Need::Reload,
            OnReload::SparesConnections => Need::Reconnect,
            OnReload::KeepsOld | OnReload::Ignores | OnReload::Unknown => Need::Restart,
        }
    }
}

fn settings(old: &Ini, new: &Ini, version: Version, causes: &mut BTreeSet<Cause>) {
    let named = |ini: &Ini| ini.pgbouncer.iter().cloned().collect::<BTreeMap<_, _>>();
    for (name, before, after) in changes(&named(old), &named(new)) {
        let reload = match lookup(Section::Pgbouncer, name) {
            Some(setting) if setting.change == Change::Restart => {
                let or_default = |value: Option<&String>| {
                    value.map_or_else(
                        || setting.default(version).unwrap_or_default().to_owned(),
                        String::clone,
                    )
                };
                if or_default(before) == or_default(after) {
                    continue;
                }
                OnReload::Ignores
            }
            Some(setting) if setting.initial == Initial::Null && after.is_none() => {
                if before.is_some_and(|before| shown_as(name, before) == shown_as(name, "")) {
                    continue;
                }
                OnReload::KeepsOld
            }
            _ => OnReload::Applies,
        };
        causes.insert(Cause { what: What::Setting(name.clone()), reload });
    }
}

fn databases(
    old: &BTreeMap<String, ConnectionString>,
    new: &BTreeMap<String, ConnectionString>,
    causes: &mut BTreeSet<Cause>,
) {
    for (name, before, after) in changes(old, new) {
        let mut insert = |key: Option<&str>, reload| {
            let what = What::Database { name: name.clone(), key: key.map(str::to_owned) };
            causes.insert(Cause { what, reload });
        };
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) => (before, after),
            (_, None) if name == "*" => {
                insert(None, OnReload::KeepsOld);
                continue;
            }
            (_, None) => {
                insert(None, OnReload::Disconnects);
                continue;
            }
            (None, Some(_)) => {
                insert(None, OnReload::Applies);
                continue;
            }
        };
        let keys = |connection: &ConnectionString| {
            connection.keys().map(|key| (key, connection.get(key).map(str::to_owned))).collect()
        };
        for (key, _, after) in changes::<_, Option<String>>(&keys(before), &keys(after)) {
            let change = lookup(Section::Databases, key).map(|setting| setting.change);
            let reload = match (*key, after) {
                ("user", None) => OnReload::KeepsOld,
                _ if change == Some(Change::Reconnect) => OnReload::SparesConnections,
                _ => OnReload::Applies,
            };
            insert(Some(key), reload);
        }
    }
}

/// A value in one spelling. `SHOW CONFIG` shows a mode in decimal and its default in octal, and an
/// unset level as 0.
fn shown_as(name: &str, value: &str) -> String {
    match (name, value) {
        ("unix_socket_mode", octal) if octal.starts_with('0') => {
            i64::from_str_radix(octal, 8).map_or_else(|_| octal.to_owned(), |mode| mode.to_string())
        }
        ("verbose", "") => "0".to_owned(),
        _ => value.to_owned(),
    }
}

/// The keys whose values differ, with the value on either side.
fn changes<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> Vec<(&'a K, Option<&'a V>, Option<&'a V>)> {
    let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| (name, old.get(name), new.get(name)))
        .filter(|(_, before, after)| before != after)
        .collect()
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Reload => "reload",
            Self::Reconnect => "reconnect",
            Self::Restart => "restart",
        })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(name) => f.write_str(name),
            Self::Database { name, key: None } => write!(f, "the database {}", printable(name)),
            Self::Database { name, key: Some(key) } => {
                write!(f, "{key} of the database {}", printable(name))
            }
            Self::User(name) => write!(f, "the user {}", printable(name)),
            Self::Peer(id) => write!(f, "the peer {id}"),
            Self::RefusedPort => f.write_str("a port that it does not listen on"),
            Self::UnreadableFile => f.write_str("a file that cannot be compared"),
            Self::UnreadableRecord => f.write_str("a pending-restart record that cannot be read"),
        }
    }
}

/// The change, and why a reload is not enough or what else it does.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reload {
            OnReload::Applies | OnReload::Unknown => return self.what.fmt(f),
            OnReload::Disconnects => "a reload disconnects its clients",
            OnReload::SparesConnections => "open server connections keep the old one",
            OnReload::KeepsOld => "a reload without it keeps the old one",
            OnReload::Ignores => "a reload ignores it",
        };
        write!(f, "{} ({why})", self.what)
    }
}

/// The need, and the changes that cause it: `restart for listen_port (a reload ignores it)`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let need = self.need();
        write!(f, "{need}")?;
        let causes = self.0.iter().filter(|cause| cause.need() == need);
        for (separator, cause) in
            std::iter::once(" for ").chain(std::iter::repeat(", ")).zip(causes)
        {
            write!(f, "{separator}{cause}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(old: &str, new: &str) -> String {
        let read = |text: &str| Ini::parse(text, Version::NEWEST).expect("the text can be read");
        Difference::between(&read(old), &read(new), Version::OLDEST).to_string()
    }

    #[test]
    fn a_difference_names_its_causes() {
        for (old, new, expected) in [
            ("[pgbouncer]\npool_mode = session\n", "[pgbouncer]\npool_mode = session\n", "nothing"),
            (
                "[pgbouncer]\npool_mode = session\n",
                "; x\n[pgbouncer]\npool_mode = transaction\nmax_client_conn = 7\n",
                "reload for max_client_conn, pool_mode",
            ),
            (
                "[pgbouncer]\nlisten_port = 1\npool_mode = session\n",
                "[pgbouncer]\nlisten_port = 2\npool_mode = transaction\n",
                "restart for listen_port (a reload ignores it)",
            ),
            (
                "[pgbouncer]\nauth_file = /a\n",
                "[pgbouncer]\n",
                "restart for auth_file (a reload without it keeps the old one)",
            ),
            ("[pgbouncer]\nlisten_backlog = 128\n", "[pgbouncer]\n", "nothing"),
            (
                "[pgbouncer]\nauth_file = /a\n",
                "[pgbouncer]\nauth_file = /b\n",
                "reload for auth_file",
            ),
            ("[pgbouncer]\nadmin_users = a\n", "[pgbouncer]\n", "reload for admin_users"),
            (
                "[databases]\n* = host=a\n[pgbouncer]\n",
                "[databases]\n[pgbouncer]\n",
                "restart for the database * (a reload without it keeps the old one)",
            ),
            (
                "[databases]\n[pgbouncer]\n",
                "[databases]\n* = host=a\n[pgbouncer]\n",
                "reload for the database *",
            ),
            (
                "[databases]\na = host=a\n[pgbouncer]\n",
                "[databases]\n[pgbouncer]\n",
                "reload for the database a (a reload disconnects its clients)",
            ),
            (
                "[databases]\na = host=a user=u\n[pgbouncer]\n",
                "[databases]\na = host=b\n[pgbouncer]\n",
                "restart for user of the database a (a reload without it keeps the old one)",
            ),
            (
                "[databases]\na = host=a timezone=UTC\n[pgbouncer]\n",
                "[databases]\na = host=b\n[pgbouncer]\n",
                "reconnect for timezone of the database a (open server connections keep the old one)",
            ),
            (
                "[users]\na = pool_mode=session\nb = pool_mode=session\n[pgbouncer]\n",
                "[users]\na = pool_mode=statement\n[pgbouncer]\n",
                "restart for the user b (a reload without it keeps the old one)",
            ),
            (
                "[peers]\n1 = host=a\n2 = host=b\n[pgbouncer]\n",
                "[peers]\n1 = host=a\n3 = host=b\n[pgbouncer]\n",
                "reload for the peer 2, the peer 3",
            ),
        ] {
            assert_eq!(difference(old, new), expected, "{old}{new}");
        }
    }

    #[test]
    fn a_difference_names_no_value() {
        let text = difference(
            "[databases]\na = user=u password=hunter2\n[pgbouncer]\nadmin_users = hunter2\n",
            "[databases]\na = user=hunter3 password=hunter3\n[pgbouncer]\nadmin_users = hunter3\n",
        );
        assert!(text.contains("password of the database a") && !text.contains("hunter"), "{text}");
    }

    /// The pairs are the causes recorded by a killed load and those of the next load.
    #[test]
    fn merged_causes_are_all_kept_and_so_is_their_record() {
        let read = |text: &str| Ini::parse(text, Version::NEWEST).expect("the text can be read");
        let between =
            |old: &str, new: &str| Difference::between(&read(old), &read(new), Version::OLDEST);
        let port = ("[pgbouncer]\nlisten_port = 1\n", "[pgbouncer]\nlisten_port = 2\n");
        let address = ("[pgbouncer]\nlisten_addr = a\n", "[pgbouncer]\nlisten_addr = b\n");
        let wildcard = ("[databases]\n* = host=a\n[pgbouncer]\n", "[databases]\n[pgbouncer]\n");
        let mode = ("[pgbouncer]\npool_mode = session\n", "[pgbouncer]\npool_mode = statement\n");
        // A database that has the name of a setting.
        let named = (
            "[databases]\nlisten_port = host=a user=u\n[pgbouncer]\n",
            "[databases]\nlisten_port = host=a\n[pgbouncer]\n",
        );
        let same = ("[pgbouncer]\n", "[pgbouncer]\n");
        for (noted, new, concerns_port, words) in [
            (
                port,
                wildcard,
                true,
                "restart for listen_port (a reload ignores it), \
                 the database * (a reload without it keeps the old one)",
            ),
            (
                wildcard,
                port,
                true,
                "restart for listen_port (a reload ignores it), \
                 the database * (a reload without it keeps the old one)",
            ),
            (
                port,
                address,
                true,
                "restart for listen_addr (a reload ignores it), listen_port (a reload ignores it)",
            ),
            (port, mode, true, "restart for listen_port (a reload ignores it)"),
            (port, port, true, "restart for listen_port (a reload ignores it)"),
            (port, same, true, "restart for listen_port (a reload ignores it)"),
            (mode, same, false, "nothing"),
            (
                wildcard,
                named,
                false,
                "restart for the database * (a reload without it keeps the old one), \
                 user of the database listen_port (a reload without it keeps the old one)",
            ),
        ] {
            let mut difference = Difference::from_record(&between(noted.0, noted.1).record());
            difference.merge(between(new.0, new.1));
            assert_eq!(difference.to_string(), words);
            assert_eq!(difference.may_concern_port(), concerns_port, "{words}");
            let read = Difference::from_record(&difference.record());
            let restarts = || difference.causes().filter(|cause| cause.need() > Need::Reload);
            assert!(read.causes().eq(restarts()), "{words}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_a_restart_that_may_be_for_the_port() {
        let record = Difference::refused_port().record();
        assert_eq!(Difference::from_record(&record), Difference::refused_port());
        for text in ["", "restart for auth_file (a reload ignores it)", "{}", &record[1..]] {
            let difference = Difference::from_record(text);
            assert_eq!(difference.need(), Need::Restart, "{text}");
            assert!(difference.may_concern_port(), "{text}");
        }
    }
}

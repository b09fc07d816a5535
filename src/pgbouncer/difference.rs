//! What it takes to bring a running process from one configuration to another.
//!
//! A reload changes less than it seems: some settings it ignores, and of others it keeps the old value where
//! the new file does not name them (PgBouncer's source, `cf_load_file` and `loader.c`). It says so of none.

use std::{collections::BTreeMap, fmt};

use super::{
    ini::{ConnectionString, Ini},
    printable,
    settings::{Change, Initial, Section, lookup},
    version::Version,
};

/// Every change between two configurations that a process of one version has to notice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference(Vec<Cause>);

/// What a process needs to notice a change, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// It runs it already.
    Nothing,
    /// SIGHUP or `RELOAD`.
    Reload,
    /// A reload, then `RECONNECT`: the server connections there are would keep the old value.
    Reconnect,
    /// A new process.
    Restart,
}

/// One change, by name, never by value: it may be a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Such as `listen_port` or `user of the database shop`.
    pub what: String,
    /// What it takes.
    pub need: Need,
    /// Why a reload is not enough, or what it does beyond the expected; otherwise empty.
    pub why: &'static str,
}

impl Difference {
    /// From what a process of this version runs to what it is to run.
    pub fn between(old: &Ini, new: &Ini, version: Version) -> Self {
        let mut causes = Vec::new();
        settings(old, new, version, &mut causes);
        databases(&old.databases, &new.databases, &mut causes);
        for (name, _, after) in changes(&old.users, &new.users) {
            let cause = Cause::reload(format!("the user {}", printable(name)));
            causes.push(match after {
                None => Cause { need: Need::Restart, why: KEPT, ..cause },
                Some(_) => cause,
            });
        }
        for (id, ..) in changes(&old.peers, &new.peers) {
            causes.push(Cause::reload(format!("the peer {id}")));
        }
        Self(causes)
    }

    /// What a process still ignores of a file that it has just loaded, going by its `SHOW CONFIG`: the
    /// settings it shows, with their values and built-in defaults. A database's leftovers do not show there.
    pub fn left<'a>(new: &Ini, shown: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Self {
        let ignored = |(name, value, default): (&str, &str, &str)| {
            let setting = lookup(Section::Pgbouncer, name)?;
            // The file's own name, which the command line gave.
            if name == "conffile" {
                return None;
            }
            let wanted = new.setting(name);
            let why = match (setting.change, wanted) {
                (Change::Restart, _) => IGNORED,
                (_, None) if setting.initial == Initial::Null => KEPT,
                _ => return None,
            };
            let same = shown_as(name, wanted.unwrap_or(default)) == shown_as(name, value);
            (!same).then(|| Cause { what: name.to_owned(), need: Need::Restart, why })
        };
        Self(shown.filter_map(ignored).collect())
    }

    /// What all changes together take.
    pub fn need(&self) -> Need {
        self.0.iter().map(|cause| cause.need).max().unwrap_or(Need::Nothing)
    }

    /// The changes, in the order of a file.
    pub fn causes(&self) -> &[Cause] {
        &self.0
    }
}

impl Cause {
    fn reload(what: impl Into<String>) -> Self {
        Self { what: what.into(), need: Need::Reload, why: "" }
    }
}

const IGNORED: &str = "a reload ignores it";
const KEPT: &str = "a reload without it keeps the old one";
const RECYCLED: &str = "the server connections there are keep the old one";

fn settings(old: &Ini, new: &Ini, version: Version, causes: &mut Vec<Cause>) {
    let named = |ini: &Ini| ini.pgbouncer.iter().cloned().collect::<BTreeMap<_, _>>();
    for (name, before, after) in changes(&named(old), &named(new)) {
        let cause = Cause::reload(name);
        causes.push(match lookup(Section::Pgbouncer, name) {
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
                Cause { need: Need::Restart, why: IGNORED, ..cause }
            }
            Some(setting) if setting.initial == Initial::Null && after.is_none() => {
                if before.is_some_and(|before| shown_as(name, before) == shown_as(name, "")) {
                    continue;
                }
                Cause { need: Need::Restart, why: KEPT, ..cause }
            }
            _ => cause,
        });
    }
}

fn databases(
    old: &BTreeMap<String, ConnectionString>,
    new: &BTreeMap<String, ConnectionString>,
    causes: &mut Vec<Cause>,
) {
    for (name, before, after) in changes(old, new) {
        let what = format!("the database {}", printable(name));
        let (Some(before), Some(after)) = (before, after) else {
            causes.push(match after {
                None if name == "*" => Cause { what, need: Need::Restart, why: KEPT },
                None => Cause { why: "a reload disconnects its clients", ..Cause::reload(what) },
                Some(_) => Cause::reload(what),
            });
            continue;
        };
        let keys = |connection: &ConnectionString| {
            connection.keys().map(|key| (key, connection.get(key).map(str::to_owned))).collect()
        };
        for (key, _, after) in changes::<_, Option<String>>(&keys(before), &keys(after)) {
            let cause = Cause::reload(format!("{key} of {what}"));
            let change = lookup(Section::Databases, key).map(|setting| setting.change);
            causes.push(match (*key, after) {
                ("user", None) => Cause { need: Need::Restart, why: KEPT, ..cause },
                _ if change == Some(Change::Reconnect) => {
                    Cause { need: Need::Reconnect, why: RECYCLED, ..cause }
                }
                _ => cause,
            });
        }
    }
}

/// A value in one spelling. `SHOW CONFIG` shows a mode in decimal and its default in octal, and a level that
/// is not set as 0.
fn shown_as(name: &str, value: &str) -> String {
    match (name, value) {
        ("unix_socket_mode", octal) if octal.starts_with('0') => {
            i64::from_str_radix(octal, 8).map_or_else(|_| octal.to_owned(), |mode| mode.to_string())
        }
        ("verbose", "") => "0".to_owned(),
        _ => value.to_owned(),
    }
}

/// What is not the same on both sides, by name.
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

/// The need, and the changes that make it so: `restart for listen_port (a reload ignores it)`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let need = self.need();
        write!(f, "{need}")?;
        let causes = self.0.iter().filter(|cause| cause.need == need);
        for (separator, cause) in std::iter::once(" for ").chain(std::iter::repeat(", ")).zip(causes) {
            write!(f, "{separator}{}", cause.what)?;
            if !cause.why.is_empty() {
                write!(f, " ({})", cause.why)?;
            }
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
    fn the_difference_names_what_makes_it_so() {
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
            ("[pgbouncer]\nauth_file = /a\n", "[pgbouncer]\nauth_file = /b\n", "reload for auth_file"),
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
                "reconnect for timezone of the database a (the server connections there are keep the old one)",
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
    fn no_value_is_named() {
        let text = difference(
            "[databases]\na = user=u password=hunter2\n[pgbouncer]\nadmin_users = hunter2\n",
            "[databases]\na = user=hunter3 password=hunter3\n[pgbouncer]\nadmin_users = hunter3\n",
        );
        assert!(text.contains("password of the database a") && !text.contains("hunter"), "{text}");
    }
}

//! Checks that a version of PgBouncer accepts a file in full and reads it as intended.
//!
//! PgBouncer stops at the first line that it cannot read. After a reload half of such a file is in
//! force, so every file is checked here before PgBouncer sees it.

use std::collections::BTreeMap;

use super::ini::{ConnectionString, Entry, Ini, is_plain, scan};
use super::reset;
use super::settings::{Kind, Section, TABLE, check, lookup};
use super::text::printable;
use super::version::Version;

/// A problem or warning at a line. Never holds a value of a connection string.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The line, counted from 1; 1 for a line that is missing.
    pub line: usize,
    /// What is wrong, and the remedy where there is one.
    pub reason: String,
}

/// Checks a whole file for this version: the warnings if it is valid, otherwise every problem, by
/// line.
///
/// A version after [`Version::NEWEST`] counts as `NEWEST`.
pub fn validate(text: &str, version: Version) -> Result<Vec<Finding>, Vec<Finding>> {
    let mut ini = Ini::default();
    let mut found = Found::default();
    for (line, entry) in scan(text, version) {
        let judged = entry.and_then(|entry| {
            // Not kept: looking up each of many settings among many others takes minutes.
            if !is_unknown_setting(entry) {
                ini.insert(entry, version)?;
            }
            found.lines.insert((entry.section, entry.key.into()), line);
            if let Some(reason) = suspicion(entry) {
                found.warnings.push(Finding { line, reason });
            }
            check_entry(entry, version)
        });
        if let Err(reason) = judged {
            found.problems.push(Finding { line, reason });
        }
    }
    check_process(&ini, version, &mut found);
    check_sessions(&ini, version, &mut found);
    check_logins(&ini, version, &mut found);
    let Found { mut problems, mut warnings, .. } = found;
    problems.sort();
    warnings.sort();
    if problems.is_empty() { Ok(warnings) } else { Err(problems) }
}

fn is_unknown_setting(Entry { section, key, .. }: Entry<'_>) -> bool {
    section == Section::Pgbouncer && is_plain(key) && lookup(section, key).is_none()
}

#[derive(Default)]
struct Found {
    problems: Vec<Finding>,
    warnings: Vec<Finding>,
    /// The line of each key.
    lines: BTreeMap<(Section, String), usize>,
}

impl Found {
    fn problem(&mut self, section: Section, key: &str, reason: &str) {
        let finding = self.finding(section, key, reason);
        self.problems.push(finding);
    }

    fn warning(&mut self, section: Section, key: &str, reason: &str) {
        let finding = self.finding(section, key, reason);
        self.warnings.push(finding);
    }

    fn finding(&self, section: Section, key: &str, reason: &str) -> Finding {
        let line = self.lines.get(&(section, key.to_owned())).copied().unwrap_or(1);
        Finding { line, reason: format!("{}: {reason}", printable(key)) }
    }
}

fn check_entry(entry: Entry<'_>, version: Version) -> Result<(), String> {
    let Entry { section, key, value } = entry;
    if section == Section::Pgbouncer {
        if let Some(swallowed) = swallowed_line(value) {
            return Err(format!(
                "{key}: the value goes on with \"{swallowed} =\"; a line break is missing"
            ));
        }
        return check(section, key, value, version).map_err(|error| error.to_string());
    }
    let connection = ConnectionString::parse(value, section, version)?;
    for key in connection.keys() {
        check(section, key, connection.get(key).unwrap_or_default(), version)
            .map_err(|error| error.to_string())?;
    }
    if connection.get("reserve_pool").is_some() && connection.get("reserve_pool_size").is_some() {
        return Err(
            "reserve_pool and reserve_pool_size are one setting; leave out the first".into()
        );
    }
    Ok(())
}

/// The setting whose line became part of the value before. `user` does not count: any SQL may
/// contain it.
fn swallowed_line(value: &str) -> Option<&'static str> {
    let heads = value.match_indices('=').map(|(end, _)| value[..end].trim_end_matches([' ', '\t']));
    heads.into_iter().find_map(|head| {
        let names = TABLE.iter().filter(|setting| setting.section == Section::Pgbouncer);
        let name = names.map(|setting| setting.name).find(|name| head.ends_with(name));
        name.filter(|&name| name != "user")
    })
}

/// A warning about a value that PgBouncer accepts but probably does not read as intended.
fn suspicion(entry: Entry<'_>) -> Option<String> {
    let Entry { section: Section::Pgbouncer, key, value } = entry else { return None };
    let setting = lookup(Section::Pgbouncer, key)?;
    if key.ends_with("_query") || matches!(setting.kind, Kind::Int { .. } | Kind::Bool | Kind::Time)
    {
        return None;
    }
    if [" ;", "\t;", " #", "\t#"].iter().any(|comment| value.contains(comment)) {
        Some(format!(
            "{key}: PgBouncer does not support a comment after a value; it is part of the value"
        ))
    } else if value.starts_with(['"', '\'']) {
        Some(format!("{key}: the quotes are part of the value"))
    } else {
        None
    }
}

/// The value in force in `[pgbouncer]`; empty without any.
fn value<'a>(ini: &'a Ini, name: &str, version: Version) -> &'a str {
    let default = || lookup(Section::Pgbouncer, name).and_then(|setting| setting.default(version));
    ini.setting(name).or_else(default).unwrap_or_default()
}

/// Finds what keeps a process from starting or from reaching its peers.
fn check_process(ini: &Ini, version: Version, found: &mut Found) {
    let value = |name| value(ini, name, version);
    if value("listen_addr").is_empty() && value("unix_socket_dir").is_empty() {
        found.problem(
            Section::Pgbouncer,
            "unix_socket_dir",
            "without listen_addr there is nowhere to listen",
        );
    }
    let without_key =
        value("client_tls_key_file").is_empty() || value("client_tls_cert_file").is_empty();
    if value("client_tls_sslmode") != "disable" && without_key {
        let reason = "PgBouncer needs client_tls_key_file and client_tls_cert_file for it";
        found.problem(Section::Pgbouncer, "client_tls_sslmode", reason);
    }
    if value("track_extra_parameters")
        .split([',', ' '])
        .any(|word| word.eq_ignore_ascii_case("options"))
    {
        found.problem(Section::Pgbouncer, "track_extra_parameters", "options cannot be tracked");
    }
    if !ini.peers.is_empty() && matches!(value("peer_id"), "" | "0") {
        found.warning(Section::Pgbouncer, "peer_id", "without it [peers] has no use");
    }
}

/// Finds what makes a session leak into the next, or hang.
fn check_sessions(ini: &Ini, version: Version, found: &mut Found) {
    let value = |name| value(ini, name, version);
    let reset = value("server_reset_query").to_ascii_uppercase();
    let reset = reset.split_whitespace().collect::<Vec<_>>().join(" ");
    let reset = reset.trim_end_matches([' ', ';']);
    if reset.contains("DISCARD ALL") && reset != "DISCARD ALL" {
        let reason = "DISCARD ALL fails beside anything else, without an error, and every session \
                      leaks into the next; put the rest into connect_query";
        found.problem(Section::Pgbouncer, "server_reset_query", reason);
    }
    if value("server_reset_query").len() > reset::LIMIT {
        let reason =
            "PgBouncer cannot send more than 506 bytes and would use each server connection once";
        found.problem(Section::Pgbouncer, "server_reset_query", reason);
    }
    if reset.is_empty() {
        let reason =
            "without it a session's settings, locks and temporary tables go to the next client";
        found.warning(Section::Pgbouncer, "server_reset_query", reason);
    }

    let connections = || ini.databases.values().chain(ini.users.values());
    let shares = |mode: &str| matches!(mode, "transaction" | "statement");
    let pooled = shares(value("pool_mode"))
        || connections().any(|connection| connection.get("pool_mode").is_some_and(shares));
    let forgets = reset.contains("DISCARD ALL") || reset.contains("DEALLOCATE ALL");
    if pooled && forgets && value("server_reset_query_always") == "1" {
        let tracked = !matches!(value("max_prepared_statements"), "" | "0");
        if tracked && version < Version::TRACKS_DEALLOCATE {
            let reason =
                "before 1.22 it breaks every prepared statement; set max_prepared_statements to 0";
            found.problem(Section::Pgbouncer, "server_reset_query_always", reason);
        } else if !tracked {
            let reason = "clients lose their prepared statements after each transaction";
            found.warning(Section::Pgbouncer, "server_reset_query_always", reason);
        }
    }
    if value("server_check_query") == "<empty>" && version < Version::new(1, 25) {
        let reason = "<empty> needs PgBouncer 1.25; before, it is a query that fails";
        found.problem(Section::Pgbouncer, "server_check_query", reason);
    }
    if matches!(value("server_login_retry"), "0" | "0.0") {
        let reason = "a server that is down then costs half a processor; set it to 1 or more";
        found.warning(Section::Pgbouncer, "server_login_retry", reason);
    }
    if matches!(value("query_wait_timeout"), "0" | "0.0") {
        found.warning(
            Section::Pgbouncer,
            "query_wait_timeout",
            "clients of a dead server wait forever",
        );
    }
}

/// Finds settings that let in no client, or every client.
fn check_logins(ini: &Ini, version: Version, found: &mut Found) {
    let value = |name| value(ini, name, version);
    match value("auth_type") {
        "any" | "trust" => {
            found.warning(Section::Pgbouncer, "auth_type", "clients log in without a password");
        }
        "hba" if value("auth_hba_file").is_empty() => {
            found.warning(
                Section::Pgbouncer,
                "auth_type",
                "without auth_hba_file no client can log in",
            );
        }
        _ => {}
    }
    let listed = |name: &str| ini.databases.contains_key(name) || ini.databases.contains_key("*");
    let unlisted =
        "auth_dbname names a database that is not listed, so that no password can be looked up";
    let global = value("auth_dbname");
    if !global.is_empty() && !listed(global) {
        found.warning(Section::Pgbouncer, "auth_dbname", unlisted);
    }
    for (name, connection) in &ini.databases {
        if connection.get("auth_dbname").is_some_and(|auth_dbname| !listed(auth_dbname)) {
            found.warning(Section::Databases, name, unlisted);
        }
        if connection.get("password").is_some() && connection.get("user").is_none() {
            found.warning(Section::Databases, name, "a password without user has no effect");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[databases]
shop = host='10.0.0.1' port='5432' password='pencil' user='app'
* = host='10.0.0.1' auth_dbname='shop'

[users]
bob = pool_mode='session' max_user_connections='5'

[peers]
1 = host='/run/pgbouncer/0' port='6432'

[pgbouncer]
listen_addr = 127.0.0.1
auth_type = scram-sha-256
peer_id = 1
";

    fn v(minor: u16) -> Version {
        Version::new(1, minor)
    }

    #[track_caller]
    fn problems(text: &str, version: Version) -> Vec<String> {
        let problems = validate(text, version).expect_err("it has problems");
        problems.iter().map(|problem| format!("{}: {}", problem.line, problem.reason)).collect()
    }

    #[test]
    fn a_valid_file_passes_for_each_version_with_its_features() {
        for minor in 19..=26 {
            assert_eq!(validate(GOOD, v(minor)), Ok(vec![]), "1.{minor}");
        }
        let found = problems(GOOD, v(18));
        assert_eq!(found[0], "3: auth_dbname: it needs PgBouncer 1.19.0");
        assert_eq!(found[1], "8: the section [peers] needs PgBouncer 1.19");
    }

    #[test]
    fn a_derived_file_passes_for_the_version_of_the_unit() {
        use crate::pgbouncer::{
            InstanceConfig, Place, TlsFiles, Unit, UserList, shared::tests::example,
        };

        for minor in 18..=25 {
            let unit = Unit {
                listen_addr: "*".into(),
                auth_file: "/dev/shm/pgbouncer/userlist.txt".into(),
                places: vec![Place::at("/var/lib/pgbouncer/instance_0")],
                version: v(minor),
                tls: TlsFiles::default(),
            };
            let config = InstanceConfig::derive(&example(), &UserList::default(), &unit, 0);
            let text = config.expect("the example can be written").text;
            assert_eq!(validate(&text, v(minor)), Ok(vec![]), "1.{minor}");
        }
    }

    #[test]
    fn every_problem_is_reported_with_its_line_and_without_connection_values() {
        let text = "\
[databases]
shop = host='pencil' port='pencil'
crm = password=pencil pencil=1
crm2 = password='pencil
pgbouncer =

[pgbouncer]
max_client_conn = 0
MAX_CLIENT_CONN = 5
pool_mode = 'session'
pool_mode = session
%include pencil.ini
nonsense
[pgbouncer]
";
        let found = problems(text, v(24));
        assert_eq!(
            found,
            [
                "2: cannot set port: set it to a whole number from 1 to 65535",
                "3: a connection parameter that is not known here (after password)",
                "4: password: a quote that is never closed",
                "5: the name is reserved for the admin console; choose another name",
                "8: cannot set max_client_conn to 0: set it to a whole number from 1 to 2147483647",
                "9: cannot set MAX_CLIENT_CONN: there is no such setting in [pgbouncer]; check its spelling",
                "10: cannot set pool_mode to 'session': set it to one of session, transaction, statement",
                "11: pool_mode: given twice",
                "12: %include is not supported here",
                "13: a key that is not followed by =",
                "14: a second [pgbouncer], which would reset the first",
            ]
        );
        assert!(!found.concat().contains("pencil"));
    }

    #[test]
    fn of_many_problems_each_is_found() {
        let lines = |line: fn(usize) -> String| (0..50_000).map(line).collect::<String>();
        let unknown = lines(|number| format!("unknown_{number} = 1\n"));
        let twice = lines(|_| "pool_mode = session\nlisten_port = 1\n".to_owned());
        let text = format!("[pgbouncer]\n{unknown}{twice}");
        assert_eq!(validate(&text, v(24)).expect_err("it has problems").len(), 149_998);
    }

    #[test]
    fn settings_that_pgbouncer_accepts_but_mishandles_are_refused() {
        for (settings, minor, named) in [
            ("server_reset_query = DISCARD ALL; SELECT 1", 24, "server_reset_query"),
            ("server_reset_query = load 'x'; discard  all;", 24, "server_reset_query"),
            (&format!("server_reset_query = {}", "RESET ALL; ".repeat(47)), 24, "506 bytes"),
            ("unix_socket_dir =", 24, "nowhere"),
            ("auth_file = /a/busersmax_client_conn = 9", 24, "max_client_conn"),
            ("server_check_query = select 1query_timeout=5", 24, "query_timeout"),
            ("admin_users = bob =", 24, "without ="),
            ("listen_addr = 127.0.0.1=", 24, "addresses"),
            ("[databases]\na = host= port=5432", 24, "host"),
            ("client_tls_sslmode = require", 24, "client_tls_key_file"),
            ("client_tls_sslmode = allow\nclient_tls_key_file = /k", 24, "client_tls_cert_file"),
            ("track_extra_parameters = IntervalStyle, Options", 24, "options"),
            ("auth_dbname = pgbouncer", 24, "auth_dbname"),
            ("server_check_query = <empty>", 24, "<empty>"),
            (
                "pool_mode = transaction\nserver_reset_query_always = 1\nmax_prepared_statements = 9",
                21,
                "max_prepared_statements",
            ),
            ("[databases]\na = reserve_pool=1 reserve_pool_size=1", 24, "reserve_pool"),
            ("[databases]\na = auth_dbname=pgbouncer", 24, "auth_dbname"),
        ] {
            let found = problems(&format!("[pgbouncer]\n{settings}\n"), v(minor));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(named), "{settings}: {found:?}");
        }
        for (settings, minor) in [
            ("server_reset_query = discard all ;", 24),
            ("server_reset_query = RESET ALL; DISCARD TEMP", 24),
            ("server_check_query = <empty>", 25),
            ("auth_query = SELECT a, b FROM c WHERE user = $1", 24),
            ("pool_mode = transaction\nserver_reset_query_always = 1", 24),
        ] {
            assert_eq!(
                validate(&format!("[pgbouncer]\n{settings}\n"), v(minor)),
                Ok(vec![]),
                "{settings}"
            );
        }
    }

    #[test]
    fn probably_unintended_values_are_warnings() {
        for (settings, named) in [
            ("admin_users = bob ; the admin", "a comment"),
            ("admin_users = \"bob\"", "quotes"),
            ("query_wait_timeout = 0", "forever"),
            ("server_login_retry = 0", "half a processor"),
            ("server_reset_query =", "next client"),
            ("auth_type = trust", "without a password"),
            ("auth_type = hba", "no client"),
            ("auth_dbname = crm", "no password"),
            (
                "pool_mode = statement\nserver_reset_query_always = 1\nmax_prepared_statements = 0",
                "lose",
            ),
            ("[peers]\n1 = host=h", "no use"),
            ("[databases]\na = password=x", "no effect"),
            ("[databases]\na = auth_dbname=crm", "no password"),
        ] {
            let warnings = validate(&format!("[pgbouncer]\n{settings}\n"), v(24)).expect(settings);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].reason.contains(named), "{settings}: {warnings:?}");
        }
    }
}

//! The settings of `[pgbouncer]` in three layers, of which a later one wins:
//!
//! 1. ours ([`OURS`]): better defaults for a pooler in front of one PostgreSQL;
//! 2. the operator's: the charm's options, and `pgbouncer-parameters`;
//! 3. forced: settings by which an operator could let in everybody or nobody, mix sessions, or hide
//!    what a process runs. `auth.rs` and `instance.rs` know their values; [`reserved`] has the
//!    reasons.

use std::collections::BTreeMap;

use super::names::AUTH_DATABASE;

/// The layers of the configuration that all units share.
pub(super) struct Layers<'a> {
    /// The operator's settings from options of the charm, in the order of [`OPTIONS`].
    pub(super) options: [(&'static str, String); 6],
    /// The operator's settings from `pgbouncer-parameters`. None of them is reserved.
    pub(super) parameters: BTreeMap<&'static str, &'a str>,
    /// The forced settings.
    pub(super) forced: Vec<(&'static str, String)>,
}

/// The first layer, each line with its reason.
pub const OURS: [(&str, &str); 11] = [
    // The owner of a client's database cannot change the lookup function in this one. The line is
    // there without a backend, too, because a process keeps the old value when the line goes.
    ("auth_dbname", AUTH_DATABASE),
    // The pools limit the load of PostgreSQL, not the number of clients.
    ("max_client_conn", "10000"),
    // JDBC and libpq clients send these on connecting, and PgBouncer would refuse them.
    ("ignore_startup_parameters", "extra_float_digits,options"),
    // With PgBouncer's 120 s a client of a backend that is down waits longer than its own timeout.
    ("query_wait_timeout", "30"),
    // With PgBouncer's 15 s each pool is down for so much longer after a failover, and so is a
    // client whose server is logging in during a reload. With 0 a backend that is down costs half a
    // processor.
    ("server_login_retry", "1"),
    // A pool opens one connection at a time: an address that drops packets blocks the whole pool.
    ("server_connect_timeout", "5"),
    // After a failover the name of the primary has another address.
    ("dns_max_ttl", "2"),
    ("dns_nxdomain_ttl", "2"),
    // Without these a connection over a lost network lasts for a quarter of an hour, with data that
    // nobody acknowledges or an answer that never comes. Shorter times would cut off a server that
    // is too busy to read.
    ("tcp_user_timeout", "15000"),
    ("tcp_keepidle", "10"),
    ("tcp_keepintvl", "5"),
];

/// The settings that have an option of their own.
const OPTIONS: [&str; 6] = [
    "listen_port",
    "pool_mode",
    "max_db_connections",
    "max_prepared_statements",
    "client_tls_sslmode",
    "server_tls_sslmode",
];

/// The list to which the operator's value is added: the parameters that drivers send.
const EXTENDED: &str = "ignore_startup_parameters";

/// The settings that `pgbouncer-parameters` may not contain, by reason.
const RESERVED: [(&str, &[&str]); 7] = [
    (
        "it has an option of its own",
        &[
            "client_tls_sslmode",
            "listen_port",
            "max_db_connections",
            "max_prepared_statements",
            "pool_mode",
            "server_tls_sslmode",
        ],
    ),
    (
        "the charm derives it from max_db_connections",
        &["default_pool_size", "min_pool_size", "reserve_pool_size"],
    ),
    (
        "the charm decides who may log in and how",
        &[
            "admin_users",
            "auth_dbname",
            "auth_file",
            "auth_hba_file",
            "auth_ident_file",
            "auth_ldap_options",
            "auth_query",
            "auth_type",
            "auth_user",
            "stats_users",
        ],
    ),
    (
        "the charm writes the files with certificates and keys",
        &[
            "client_tls_ca_file",
            "client_tls_cert_file",
            "client_tls_key_file",
            "server_tls_ca_file",
            "server_tls_cert_file",
            "server_tls_key_file",
        ],
    ),
    (
        "each process has its own",
        &[
            "conffile",
            "job_name",
            "listen_addr",
            "peer_id",
            "pidfile",
            "resolv_conf",
            "service_name",
            "so_reuseport",
            "unix_socket_dir",
            "unix_socket_group",
            "unix_socket_mode",
            "user",
        ],
    ),
    (
        "the log goes to standard error, and syslog_ident holds the digest of what is loaded",
        &["logfile", "syslog", "syslog_facility", "syslog_ident"],
    ),
    (
        "it keeps the session of one client from the next one",
        &["server_fast_close", "server_reset_query", "server_reset_query_always"],
    ),
];

/// Why `pgbouncer-parameters` may not contain a setting; `None` if it may.
pub fn reserved(name: &str) -> Option<&'static str> {
    RESERVED.iter().find(|(_, names)| names.contains(&name)).map(|(reason, _)| *reason)
}

impl Layers<'_> {
    /// One line for each setting: first those of [`OURS`], with the operator's values where there
    /// are any; then the operator's other settings; then the forced ones.
    pub(super) fn lines(self) -> Vec<(&'static str, String)> {
        let Self { options, mut parameters, forced } = self;
        let mut lines = Vec::new();
        for (name, ours) in OURS {
            let chosen = parameters.remove(name);
            lines.push((
                name,
                chosen.map_or_else(|| ours.to_owned(), |chosen| with_ours(name, ours, chosen)),
            ));
        }
        lines.extend(options);
        lines.extend(parameters.into_iter().map(|(name, value)| (name, value.to_owned())));
        lines.extend(forced);
        lines
    }
}

/// Whether a setting is in the first layer or has an option of its own.
pub(super) fn has(name: &str) -> bool {
    OURS.iter().any(|(ours, _)| *ours == name) || OPTIONS.contains(&name)
}

/// The value of a setting in [`OURS`] for which the operator has chosen a value, too.
fn with_ours(name: &str, ours: &str, chosen: &str) -> String {
    if name == EXTENDED {
        [ours].into_iter().chain(added(ours, chosen)).collect::<Vec<_>>().join(",")
    } else {
        chosen.to_owned()
    }
}

/// The part of a value in a file that the operator has chosen.
pub(super) fn without_ours(name: &str, value: &str) -> String {
    match OURS.iter().find(|(ours, _)| *ours == EXTENDED && *ours == name) {
        Some((_, ours)) => added(ours, value).collect::<Vec<_>>().join(","),
        None => value.to_owned(),
    }
}

/// The items of a list that are not in `ours`.
fn added<'a>(ours: &str, list: &'a str) -> impl Iterator<Item = &'a str> {
    let is_new = |word: &&str| !word.is_empty() && !ours.split(',').any(|own| own == *word);
    list.split([',', ' ']).filter(is_new)
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Section, TABLE, check, lookup};
    use super::super::version::Version;
    use super::*;

    fn lines(parameters: &[(&'static str, &'static str)]) -> Vec<(&'static str, String)> {
        let layers = Layers {
            options: OPTIONS.map(|name| (name, "1".to_owned())),
            parameters: parameters.iter().copied().collect(),
            forced: vec![("auth_type", "md5".to_owned())],
        };
        layers.lines()
    }

    #[test]
    fn a_later_layer_wins_and_each_setting_appears_once() {
        let chosen = [("server_lifetime", "600"), ("dns_max_ttl", "7"), ("verbose", "1")];
        let lines = lines(&chosen);
        let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
        let ours = OURS.iter().map(|(name, _)| *name);
        let expected: Vec<_> =
            ours.chain(OPTIONS).chain(["server_lifetime", "verbose", "auth_type"]).collect();
        assert_eq!(names, expected);
        for (name, value) in chosen {
            assert!(lines.contains(&(name, value.to_owned())), "{name}: {lines:?}");
        }
    }

    #[test]
    fn additions_of_the_operator_to_our_lists_are_read_back() {
        let ours = OURS.iter().find(|(name, _)| *name == EXTENDED).expect("it is ours").1;
        for (chosen, stands, read) in [
            ("search_path", format!("{ours},search_path"), "search_path"),
            ("options, search_path", format!("{ours},search_path"), "search_path"),
            ("", ours.to_owned(), ""),
        ] {
            let lines = lines(&[(EXTENDED, chosen)]);
            assert!(lines.contains(&(EXTENDED, stands.clone())), "{chosen}: {lines:?}");
            assert_eq!(without_ours(EXTENDED, &stands), read);
        }
        assert_eq!(without_ours("dns_max_ttl", "2"), "2");
    }

    #[test]
    fn our_settings_are_valid_and_not_options() {
        for (name, value) in OURS {
            assert_eq!(check(Section::Pgbouncer, name, value, Version::NEWEST), Ok(()));
            assert!(!OPTIONS.contains(&name), "{name}");
        }
        for name in OPTIONS {
            assert_eq!(reserved(name), Some("it has an option of its own"));
        }
    }

    #[test]
    fn only_settings_are_reserved() {
        for name in RESERVED.iter().flat_map(|(_, names)| *names) {
            // Only a build for Windows has it.
            let is_known =
                lookup(Section::Pgbouncer, name).is_some_and(|setting| setting.name == *name);
            assert!(is_known || *name == "service_name", "{name}");
        }
        assert!(TABLE.iter().any(|setting| reserved(setting.name).is_none()));
    }
}

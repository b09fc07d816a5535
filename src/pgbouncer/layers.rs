//! The settings of `[pgbouncer]` in three layers, of which a later one wins:
//!
//! 1. ours ([`OURS`]): better defaults for a pooler in front of one PostgreSQL;
//! 2. the operator's: the charm's options, and `pgbouncer-parameters`;
//! 3. forced: what would let in everybody or nobody, mix sessions, or hide what a process runs. The lines stand
//!    where their values are known, in `auth.rs` and `instance.rs`; [`reserved`] has the reason of each.

use std::collections::BTreeMap;

use super::names::AUTH_DATABASE;

/// The layers of the configuration that all units share.
pub(super) struct Layers<'a> {
    /// The operator's, by an option of the charm: named in [`OPTIONS`], in its order.
    pub(super) options: [(&'static str, String); 4],
    /// The operator's, by `pgbouncer-parameters`; none of them is reserved.
    pub(super) parameters: BTreeMap<&'static str, &'a str>,
    /// What is forced.
    pub(super) forced: Vec<(&'static str, String)>,
}

/// The first layer, each line with its reason.
pub const OURS: [(&str, &str); 12] = [
    // In one database the lookup function is safe from whoever owns a client's. Named also while there is
    // no backend, because a process keeps the old value when the line goes.
    ("auth_dbname", AUTH_DATABASE),
    // The pool, not the door, is what limits PostgreSQL's load.
    ("max_client_conn", "10000"),
    // What JDBC and libpq clients send on connecting and PgBouncer would refuse.
    ("ignore_startup_parameters", "extra_float_digits,options"),
    // With PgBouncer's 120 s a client of a backend that is down hangs past its own patience.
    ("query_wait_timeout", "30"),
    // With PgBouncer's 15 s a failover costs each pool that much more, and a reload that meets a server's
    // login costs a client as much. With 0 a backend that is down costs half a processor.
    ("server_login_retry", "1"),
    // A pool makes one connection at a time: an address that swallows packets holds up all of it.
    ("server_connect_timeout", "5"),
    // The name of a primary moves to another address.
    ("dns_max_ttl", "2"),
    ("dns_nxdomain_ttl", "2"),
    // What a lost network would hang for a quarter of an hour ends: what was sent and is not acknowledged,
    // and what waits for an answer. A shorter one would cut a busy server that does not read.
    ("tcp_user_timeout", "15000"),
    ("tcp_keepidle", "10"),
    ("tcp_keepintvl", "5"),
    // The default since 1.20, so that 1.18 speaks TLS to the backend too.
    ("server_tls_sslmode", "prefer"),
];

/// The settings that have an option of their own.
const OPTIONS: [&str; 4] = ["listen_port", "pool_mode", "max_db_connections", "max_prepared_statements"];

/// The setting whose value of ours an operator adds to: the parameters that drivers send.
const EXTENDED: &str = "ignore_startup_parameters";

/// What an operator may not set, and why.
const RESERVED: [(&str, &[&str]); 7] = [
    (
        "it has an option of its own",
        &["listen_port", "max_db_connections", "max_prepared_statements", "pool_mode"],
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
        "certificates are not supported yet",
        &[
            "client_tls_ca_file",
            "client_tls_cert_file",
            "client_tls_key_file",
            "client_tls_sslmode",
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
        "the log goes to the container's, and the charm tells by syslog_ident what is loaded",
        &["logfile", "syslog", "syslog_facility", "syslog_ident"],
    ),
    (
        "it keeps the session of one client from the next one",
        &["server_fast_close", "server_reset_query", "server_reset_query_always"],
    ),
];

/// Why the charm keeps a setting to itself.
pub fn reserved(name: &str) -> Option<&'static str> {
    RESERVED.iter().find(|(_, names)| names.contains(&name)).map(|(reason, _)| *reason)
}

impl Layers<'_> {
    /// One line for each setting: ours with the operator's values, then the operator's own, then the forced ones.
    pub(super) fn lines(self) -> Vec<(&'static str, String)> {
        let Self { options, mut parameters, forced } = self;
        let mut lines = Vec::new();
        for (name, ours) in OURS {
            let chosen = parameters.remove(name);
            lines
                .push((name, chosen.map_or_else(|| ours.to_owned(), |chosen| with_ours(name, ours, chosen))));
        }
        lines.extend(options);
        lines.extend(parameters.into_iter().map(|(name, value)| (name, value.to_owned())));
        lines.extend(forced);
        lines
    }
}

/// Whether a setting is of the first layer or has an option of its own.
pub(super) fn has(name: &str) -> bool {
    OURS.iter().any(|(ours, _)| *ours == name) || OPTIONS.contains(&name)
}

/// The operator's value of a setting of ours.
fn with_ours(name: &str, ours: &str, chosen: &str) -> String {
    if name == EXTENDED {
        [ours].into_iter().chain(added(ours, chosen)).collect::<Vec<_>>().join(",")
    } else {
        chosen.to_owned()
    }
}

/// What the operator has chosen, of the value that stands in a file.
pub(super) fn without_ours(name: &str, value: &str) -> String {
    match OURS.iter().find(|(ours, _)| *ours == EXTENDED && *ours == name) {
        Some((_, ours)) => added(ours, value).collect::<Vec<_>>().join(","),
        None => value.to_owned(),
    }
}

/// The words of a list that are not among ours.
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
    fn a_later_layer_wins_and_each_setting_stands_once() {
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
    fn what_the_operator_adds_to_a_list_of_ours_is_read_back() {
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
    fn ours_are_settings_that_every_version_takes_or_that_a_unit_leaves_out() {
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
            // A build for Windows has it.
            let is_known = lookup(Section::Pgbouncer, name).is_some_and(|setting| setting.name == *name);
            assert!(is_known || *name == "service_name", "{name}");
        }
        assert!(TABLE.iter().any(|setting| reserved(setting.name).is_none()));
    }
}

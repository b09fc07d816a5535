//! What deployed models know of the charm: names and types that `juju refresh` must find again.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_yaml::{Mapping, Value};

const METADATA: &str = include_str!("../metadata.yaml");
const CONFIG: &str = include_str!("../config.yaml");
const ACTIONS: &str = include_str!("../actions.yaml");
const CHARMCRAFT: &str = include_str!("../charmcraft.yaml");
const DISPATCH: &str = include_str!("../dispatch");
const ICON: &str = include_str!("../icon.svg");
const LICENSE: &str = include_str!("../LICENSE");

fn parse(yaml: &str) -> Mapping {
    serde_yaml::from_str(yaml).expect("a file of the charm is a YAML mapping")
}

fn text(value: &Value) -> String {
    serde_yaml::to_string(value).expect("what was parsed can be written").trim().replace('\n', " ")
}

/// One line an entry: its name, then the values of `keys`, `-` where there is none.
fn table(entries: &Value, keys: &[&str]) -> String {
    let mut table = String::new();
    for (name, entry) in entries.as_mapping().expect("a section is a mapping") {
        table.push_str(&text(name));
        for key in keys {
            write!(table, " {}", entry.get(key).map_or("-".to_owned(), text))
                .expect("a String grows");
        }
        table.push('\n');
    }
    table
}

#[test]
fn every_endpoint_keeps_its_name_interface_and_limit() {
    let metadata = parse(METADATA);
    let keys = ["interface", "limit", "optional"];
    assert_eq!(
        table(&metadata["provides"], &keys),
        "database postgresql_client - true\n\
         db pgsql - true\n\
         db-admin pgsql - true\n\
         metrics-endpoint prometheus_scrape - true\n\
         grafana-dashboard grafana_dashboard - true\n"
    );
    assert_eq!(
        table(&metadata["requires"], &keys),
        "backend-database postgresql_client 1 false\n\
         certificates tls-certificates 1 true\n\
         receive-ca-cert certificate_transfer - true\n\
         logging loki_push_api 1 true\n\
         tracing tracing 1 true\n"
    );
    assert_eq!(table(&metadata["peers"], &keys), "pgb-peers pgb_peers - -\nupgrade upgrade - -\n");
}

#[test]
fn the_charm_keeps_its_name_container_and_resource_and_has_no_storage() {
    let metadata = parse(METADATA);
    assert_eq!(metadata["name"], "pgbouncer-k8s");
    assert_eq!(text(&metadata["assumes"]), "- k8s-api");
    assert_eq!(
        table(&metadata["containers"], &["resource", "mounts"]),
        "pgbouncer pgbouncer-image -\n"
    );
    assert_eq!(table(&metadata["resources"], &["type"]), "pgbouncer-image oci-image\n");
    assert!(!metadata.contains_key("storage"));
}

#[test]
fn the_charm_keeps_its_base_and_platforms() {
    let charmcraft = parse(CHARMCRAFT);
    assert_eq!(charmcraft["type"], "charm");
    assert_eq!(charmcraft["base"], "ubuntu@22.04");
    assert_eq!(table(&charmcraft["platforms"], &[]), "amd64\narm64\n");
}

#[test]
fn every_option_keeps_its_name_type_and_default() {
    assert_eq!(
        table(&parse(CONFIG)["options"], &["type", "default"]),
        "listen_port int 6432\n\
         pool_mode string session\n\
         max_db_connections int 100\n\
         max_prepared_statements int 100\n\
         client_tls_sslmode string prefer\n\
         server_tls_sslmode string prefer\n\
         expose-external string 'false'\n\
         loadbalancer-extra-annotations string '{}'\n\
         pgbouncer-parameters string '{}'\n"
    );
}

#[test]
fn every_action_keeps_its_name_and_parameters() {
    let actions = Value::from(parse(ACTIONS));
    assert_eq!(
        table(&actions, &[]),
        "set-tls-private-key\n\
         pre-upgrade-check\n\
         resume-upgrade\n\
         reconcile\n\
         show-config\n"
    );
    assert_eq!(table(&actions["set-tls-private-key"]["params"], &["type"]), "private-key string\n");
    assert!(actions["pre-upgrade-check"].get("params").is_none());
    assert!(actions["resume-upgrade"].get("params").is_none());
}

#[test]
fn every_option_and_action_is_described() {
    let (config, actions) = (parse(CONFIG), Value::from(parse(ACTIONS)));
    for section in [&config["options"], &actions] {
        for (name, entry) in section.as_mapping().expect("a section is a mapping") {
            let description = entry.get("description").and_then(Value::as_str).unwrap_or_default();
            assert!(!description.trim().is_empty(), "{} has no description", text(name));
        }
    }
}

// Charmcraft ships neither file unless a part stages it, and minds neither a missing `dispatch`
// nor one that cannot be executed.
#[test]
fn dispatch_is_executable_and_runs_the_binary_without_arguments() {
    assert_eq!(DISPATCH.split_whitespace().last(), Some("./bin/pgbouncer-k8s"));
    assert_eq!(env!("CARGO_PKG_NAME"), "pgbouncer-k8s");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dispatch");
    let mode =
        path.metadata().expect("dispatch is there: it was included above").permissions().mode();
    assert_ne!(mode & 0o100, 0, "dispatch has mode {mode:o}");
}

#[test]
fn dispatch_the_licence_and_the_icon_are_packed() {
    let charmcraft = parse(CHARMCRAFT);
    assert_eq!(text(&charmcraft["parts"]["files"]["stage"]), "- dispatch - LICENSE - icon.svg");
    assert!(LICENSE.contains("Apache License"));
    assert!(LICENSE.contains("Version 2.0, January 2004"));
    assert_eq!(env!("CARGO_PKG_LICENSE"), "Apache-2.0");
    assert!(ICON.starts_with("<svg "));
}

//! A client that asks for a database and reads what it gets.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Actor, Done, leads, remote_bag};
use crate::events::Event;
use crate::hook::Port;

/// A client that asks for a database and reads what it gets.
pub(super) struct Client;

const REQUESTED: &str = r#"["username", "password", "tls", "tls-ca", "uris", "read-only-uris"]"#;

impl Actor for Client {
    fn handle(&self, port: &mut Port<'_>) -> Done {
        match port.event().clone() {
            Event::Start => {
                port.tool("status-set", &["waiting", "no database yet"], None)?;
            }
            Event::Created { relation } if leads(port)? => {
                let config = port.json("config-get", &[])?;
                let option = |name: &str| config[name].as_str().map(str::to_owned);
                let mut wanted = BTreeMap::new();
                wanted.insert("database", option("database").unwrap_or_else(|| "client".to_owned()));
                wanted.insert(
                    "requested-secrets",
                    option("requested-secrets").unwrap_or_else(|| REQUESTED.to_owned()),
                );
                if let Some(roles) = option("extra-user-roles") {
                    wanted.insert("extra-user-roles", roles);
                }
                let id = relation.to_string();
                port.tool(
                    "relation-set",
                    &["--app", "-r", &id, "--file", "-"],
                    Some(json!(wanted).to_string()),
                )?;
            }
            Event::Changed { relation, .. } => {
                let answer = remote_bag(port, relation)?;
                for group in ["user", "tls"] {
                    if let Some(uri) = answer.get(&format!("secret-{group}")) {
                        let label = format!("database.{relation}.{group}.secret");
                        port.tool("secret-get", &[uri, "--label", &label, "--refresh"], None)?;
                    }
                }
                if answer.contains_key("endpoints") {
                    port.tool("status-set", &["active", "has a database"], None)?;
                }
            }
            Event::SecretChanged { id } => {
                port.tool("secret-get", &[&id, "--refresh"], None)?;
            }
            Event::Broken { .. } => {
                port.tool("status-set", &["waiting", "no database any more"], None)?;
            }
            _ => {}
        }
        Ok(())
    }
}

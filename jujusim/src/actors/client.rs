//! A client that asks for a database and reads the answer.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Actor, Done, leads, remote_bag};
use crate::events::Event;
use crate::hook::Port;

pub(super) struct Client;

/// The action that shows the credentials, named as in `data-integrator`.
pub(super) const GET_CREDENTIALS: &str = "get-credentials";

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
                let database = option("database").or_else(|| option("database-name"));
                wanted.insert("database", database.unwrap_or_else(|| "client".to_owned()));
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
            Event::Action { name, .. } if name == GET_CREDENTIALS => credentials(port)?,
            Event::Broken { .. } => {
                port.tool("status-set", &["waiting", "no database any more"], None)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Sets the action's results: everything in the answer, and the content of its secrets.
fn credentials(port: &mut Port<'_>) -> Done {
    let ids = port.json("relation-ids", &["database"])?;
    let relation = ids[0].as_str().and_then(|id| id.rsplit(':').next()?.parse().ok());
    let mut answer =
        relation.map(|relation| remote_bag(port, relation)).transpose()?.unwrap_or_default();
    if !answer.contains_key("endpoints") {
        port.tool("action-fail", &["no database yet"], None)?;
        return Ok(());
    }
    if let Some(uri) = answer.get("secret-user").cloned() {
        let content = port.json("secret-get", &[&uri, "--refresh"])?;
        for (key, value) in content.as_object().into_iter().flatten() {
            answer.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
        }
    }
    let mut results = vec!["ok=True".to_owned()];
    results.extend(answer.iter().map(|(key, value)| format!("postgresql.{key}={value}")));
    port.tool("action-set", &results.iter().map(String::as_str).collect::<Vec<_>>(), None)?;
    Ok(())
}

//! Actors: charms in Rust that run inside the simulator as neighbours of the charm under test.
//!
//! Actors use the interface `postgresql_client` through the same hook tools, permissions and
//! commits as any charm.

mod charmed;
mod client;
mod postgresql;

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use serde_json::Value;

use self::client::Client;
use self::postgresql::Postgresql;
use crate::charm::{Charm, ConfigOption, Endpoint, Role};
use crate::error::{Error, Result};
use crate::hook::Port;
use crate::model::{Bag, Kind, Model};
use crate::server::Cluster;

pub(crate) use self::charmed::Track;

type Done<T = ()> = std::result::Result<T, String>;

/// A charm without a process.
pub(crate) trait Actor: Send + Sync {
    /// Handles one event. An error fails the hook.
    fn handle(&self, port: &mut Port<'_>) -> Done;

    /// The PostgreSQL servers that the actor operates.
    fn cluster(&self) -> Option<MutexGuard<'_, Cluster>> {
        None
    }

    /// Gives the actor's clients new passwords in the leader's next hook.
    fn rotate(&self) {}
}

/// Returns the actor of this kind, with its metadata. `channel` chooses the PostgreSQL charm that
/// the actor stands for.
pub(crate) fn make(kind: &str, channel: Option<&str>, model: &mut Model) -> Result<Kind> {
    let endpoint = |role| Endpoint { role, interface: "postgresql_client".to_owned(), limit: None };
    let option = |kind: &str, default| ConfigOption {
        kind: kind.to_owned(),
        default,
        description: String::new(),
    };
    match kind {
        "postgresql" => {
            let default = model.postgresql.clone();
            let track = channel.or(default.as_deref()).map(Track::of).transpose()?;
            let mut options = BTreeMap::from([("withhold".to_owned(), option("string", None))]);
            // Without a channel `pg_hba.conf` is static and admits every role.
            if track.is_some() {
                options.insert("hba-delay".to_owned(), option("float", Some(Value::from(0.2))));
            }
            let charm = Charm {
                name: "postgresql-k8s".to_owned(),
                endpoints: BTreeMap::from([("database".to_owned(), endpoint(Role::Provider))]),
                options,
                ..Charm::default()
            };
            Ok(Kind::Actor(Arc::new(Postgresql::deploy(model, track)?), charm))
        }
        "client" => {
            // `data-integrator`, for which this actor stands, calls the option `database-name`.
            let options = ["database", "database-name", "extra-user-roles", "requested-secrets"];
            let charm = Charm {
                name: "client".to_owned(),
                endpoints: BTreeMap::from([("database".to_owned(), endpoint(Role::Requirer))]),
                options: options
                    .into_iter()
                    .map(|name| (name.to_owned(), option("string", None)))
                    .collect(),
                actions: BTreeMap::from([(client::GET_CREDENTIALS.to_owned(), Value::Null)]),
                ..Charm::default()
            };
            Ok(Kind::Actor(Arc::new(Client), charm))
        }
        other => Err(Error::refused(format!("unknown actor {other:?}: use postgresql or client"))),
    }
}

fn leads(port: &mut Port<'_>) -> Done<bool> {
    Ok(port.json("is-leader", &[])? == Value::Bool(true))
}

fn remote_bag(port: &mut Port<'_>, relation: u32) -> Done<Bag> {
    let app = port.json("relation-list", &["--app", "-r", &relation.to_string()])?;
    port.bag(relation, app.as_str().unwrap_or_default())
}

fn own_bag(port: &mut Port<'_>, relation: u32) -> Done<Bag> {
    let app = port.app();
    port.bag(relation, &app)
}

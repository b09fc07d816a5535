//! The users in the peer secret, or in the app bag on a Juju without secrets.

use crate::facts::users::{Store, Users};
use crate::peer_bag::{ADMIN_PASSWORD, AUTH, AUTH_REVISION, MONITORING_PASSWORD, field};
use crate::plan::{Bag, Effect, Plan, Value};
use crate::secret::Secret;

/// The flowchart's "Add auth file to secret store": stores the users in the peer secret or the app
/// bag, and migrates older layouts.
pub fn publish_users(users: &Users, store: &Store) -> Plan {
    let mut plan = Plan::default();
    let passwords = [(MONITORING_PASSWORD, &users.monitoring), (ADMIN_PASSWORD, &users.admin)];
    let Ok(list) = users.list.render() else { return plan };
    match store {
        Store::Known => {}
        Store::Bag => {
            plan.set(Bag::PeerApp, AUTH, Secret::new(list));
            for (key, password) in passwords {
                if let Some(password) = password {
                    plan.set(Bag::PeerApp, key, password.clone());
                }
            }
        }
        Store::Secret { content, adopt, revision, plain } => {
            let mut wanted = content.clone();
            wanted.insert(field(AUTH), Secret::new(list));
            for (key, password) in passwords {
                if let Some(password) = password {
                    wanted.insert(field(key), password.clone());
                }
            }
            match revision {
                Some(revision) if wanted == *content && adopt.is_none() => {
                    plan.set(Bag::PeerApp, AUTH_REVISION, revision.to_string());
                }
                _ => plan.push(Effect::SetPeerSecret { content: wanted, adopt: adopt.clone() }),
            }
            for key in plain {
                plan.set(Bag::PeerApp, key.as_str(), Value::Absent);
            }
        }
    }
    plan
}

//! Performs the effects on databags and secrets.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::endpoints::database::answer::GROUPS;
use crate::event::{RelationId, secret_id};
use crate::juju::{Owner, labels, place};
use crate::look::Look;
use crate::peer_bag::{DATABASES, role};
use crate::pgbouncer::{Origin, PgbDbs};
use crate::plan::{Bag, Value};
use crate::secret::Secret;

/// Sets a databag key, and returns whether the value differed.
pub(super) fn set(bag: Bag, key: &str, value: &Value, look: &mut Look<'_>) -> Result<bool> {
    let (relation, owner) = place(bag, look.peers());
    let value = match value {
        Value::Text(text) => Some(text.as_str()),
        Value::Secret(secret) => Some(secret.reveal()),
        Value::Absent => None,
    };
    Ok(look.handles().juju.set(relation, &owner, key, value)?)
}

pub(super) fn set_peer_secret(
    content: &BTreeMap<String, Secret>,
    adopt: Option<&str>,
    look: &mut Look<'_>,
) -> Result<()> {
    let label = labels::peer_label(&look.unit().app);
    look.handles().juju.set_secret(&label, &Owner::App, content, adopt)?;
    Ok(())
}

pub(super) fn set_unit_secret(
    content: &BTreeMap<String, Secret>,
    adopt: Option<&str>,
    look: &mut Look<'_>,
) -> Result<()> {
    let label = labels::unit_label(&look.unit().app);
    look.handles().juju.set_secret(&label, &Owner::Unit, content, adopt)?;
    Ok(())
}

pub(super) fn set_client_secret(
    relation: RelationId,
    group: &str,
    content: &BTreeMap<String, Secret>,
    look: &mut Look<'_>,
) -> Result<()> {
    let key = format!("secret-{group}");
    let juju = &mut look.handles().juju;
    let uri =
        juju.set_secret(&labels::client_label(relation, group), &Owner::App, content, None)?;
    let published = juju.bag(relation, &Owner::App)?.get(&key);
    // After a suspension, the bag may still have the URI of a secret that was removed.
    if published.is_none_or(|published| secret_id(published) != secret_id(&uri)) {
        juju.grant(&uri, relation)?;
        juju.set(relation, &Owner::App, &key, Some(&uri))?;
    }
    Ok(())
}

pub(super) fn remove_revision(id: &str, revision: u64, look: &mut Look<'_>) -> Result<()> {
    let juju = &mut look.handles().juju;
    // Juju may announce a revision more than once, also after the secret was removed.
    if juju.secret_info_by_id(id)?.is_some() {
        juju.remove_revision(id, revision)?;
    }
    Ok(())
}

/// Removes a client's secrets, and its entry in the databases.
pub(super) fn forget_client(relation: RelationId, look: &mut Look<'_>) -> Result<()> {
    look.notes_mut().clients.notes.remove(&relation);
    let (peers, has_secrets) = (look.peers(), look.has_secrets());
    let juju = &mut look.handles().juju;
    if has_secrets {
        for group in GROUPS {
            let label = labels::client_label(relation, group);
            if let Some(info) = juju.secret_info(&label)? {
                juju.remove_secret(&label, &info.id)?;
            }
        }
    }
    // A model without secrets keeps a copy of the password there.
    juju.set(peers, &Owner::App, &role(relation), None)?;
    let text = juju.bag(peers, &Owner::App)?.get(DATABASES).cloned();
    if let Some(mut databases) = text.and_then(|text| PgbDbs::parse(&text).ok())
        && databases.0.remove(&Origin::Relation(relation.0)).is_some()
    {
        juju.set(peers, &Owner::App, DATABASES, Some(&databases.render()))?;
    }
    Ok(())
}

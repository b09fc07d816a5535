//! The end of the relation, and the removal of what the charm created in PostgreSQL.

use crate::endpoints::database::client;
use crate::event::RelationId;
use crate::facts::lookup::GetAuth;
use crate::peer_bag::GET_AUTH;
use crate::plan::{Bag, Effect, Plan};

/// The facts in the last hook in which PostgreSQL still accepts our credentials.
pub struct Ending {
    /// The number of the relation.
    pub relation: RelationId,
    /// The auth role, if it was created.
    pub auth_user: Option<String>,
    /// The beginning of the comment on every role of this application.
    pub comment_prefix: String,
    /// The roles of existing clients.
    pub roles: Vec<String>,
    /// The units of PostgreSQL that have not left yet.
    pub members: Vec<String>,
    /// The whole application is being removed or scaled to zero.
    pub is_leaving: bool,
}

/// Whether the charm has removed everything from PostgreSQL because the relation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The charm has not removed anything.
    NotDone,
    /// Everything was removed and no unit has joined since. Holds the note with the current
    /// members.
    Done(GetAuth),
    /// Everything was removed, but a unit of PostgreSQL has joined since: the relation goes on.
    Rejoined,
}

/// Whether the departure of a unit of PostgreSQL means that the relation ends. `staying` are its
/// units that are not being removed; `None` if PostgreSQL is in another model.
pub fn is_end(departing: &str, staying: Option<&[&str]>, members: usize) -> bool {
    match staying {
        None => members == 0,
        // A unit that departs but is not being removed leaves the relation, not the model.
        Some(staying) => staying.is_empty() || staying.contains(&departing),
    }
}

/// Interprets the note of a removal, given the current members of the relation.
pub fn removal(note: Option<&GetAuth>, relation: RelationId, members: &[String]) -> Removal {
    match note {
        Some(GetAuth::Removed { relation: ended, left }) if *ended == relation => {
            if members.iter().all(|member| left.contains(member)) {
                Removal::Done(GetAuth::Removed { relation, left: members.to_vec() })
            } else {
                Removal::Rejoined
            }
        }
        _ => Removal::NotDone,
    }
}

/// Handles the last hook in which PostgreSQL still accepts our credentials: removes the auth role
/// and the lookup. The role of a client is removed with its own relation.
pub fn cleaned_up(seen: &Ending) -> Plan {
    let mut plan = Plan::default();
    if seen.is_leaving && !seen.roles.is_empty() {
        // The roles stay: an application that is scaled to zero may get units and clients again,
        // and Juju does not say whether its relations have ended.
        plan.push(Effect::Warn(format!(
            "left in PostgreSQL: the roles {}; if the application is removed, drop them and their \
             objects",
            seen.roles.join(", ")
        )));
    }
    if let Some(role) = &seen.auth_user {
        let comment = comment(&seen.comment_prefix, seen.relation);
        plan.push(Effect::RemoveAuth { role: role.clone(), comment });
        // The note keeps later hooks from creating the role again, until the relation breaks or a
        // unit of PostgreSQL joins it.
        let note = GetAuth::Removed { relation: seen.relation, left: seen.members.clone() };
        plan.set(Bag::PeerApp, GET_AUTH, note.to_string());
        plan.push_apart(drop_strays(&seen.comment_prefix, &seen.roles));
    }
    plan
}

/// Drops the roles of removed clients. `prefix` begins the comment on every role of this
/// application.
pub fn drop_strays(prefix: &str, roles: &[String]) -> Plan {
    let mut plan = Plan::default();
    plan.push(Effect::DropStrays {
        comment_prefix: client::comment_prefix(prefix),
        keep: roles.to_vec(),
    });
    plan
}

/// The comment on a relation's auth role, with the prefix for every role of this application.
pub fn comment(prefix: &str, relation: RelationId) -> String {
    format!("{prefix}, relation backend-database:{relation}")
}

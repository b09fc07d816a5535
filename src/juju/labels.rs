//! The labels of secrets: the names under which this unit reads them.

use crate::event::RelationId;

/// The label of the secret that all units of an application share.
pub fn peer_label(app: &str) -> String {
    format!("pgb-peers.{app}.app")
}

/// The label of that secret in an older layout.
pub fn old_peer_label(app: &str) -> String {
    format!("{app}.app")
}

/// The label of a secret with a client's credentials; `group` is `user` or `tls`.
pub fn client_label(relation: RelationId, group: &str) -> String {
    format!("database.{relation}.{group}.secret")
}

/// The label under which each unit reads the secret with PostgreSQL's credentials.
pub fn backend_label(relation: RelationId) -> String {
    format!("backend-database.{relation}.user.secret")
}

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

/// The label of the secret that this unit has for itself.
pub fn unit_label(app: &str) -> String {
    format!("pgb-peers.{app}.unit")
}

/// The label of that secret in an older layout.
pub fn old_unit_label(app: &str) -> String {
    format!("{app}.unit")
}

/// The label of a secret with a client's credentials; `group` is `user` or `tls`.
pub fn client_label(relation: RelationId, group: &str) -> String {
    format!("database.{relation}.{group}.secret")
}

/// The label under which each unit reads the secret with PostgreSQL's credentials.
pub fn backend_label(relation: RelationId) -> String {
    format!("backend-database.{relation}.user.secret")
}

/// The label under which each unit reads the secret about PostgreSQL's TLS.
pub fn backend_tls_label(relation: RelationId) -> String {
    format!("backend-database.{relation}.tls.secret")
}

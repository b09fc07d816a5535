//! What Juju knows of a secret.

/// What `secret-info-get` tells the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    /// The bare id.
    pub id: String,
    /// The newest revision; none where this hook has just asked for another one.
    pub revision: Option<u64>,
}

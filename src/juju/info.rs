//! The metadata of a secret.

/// The metadata that `secret-info-get` shows to a secret's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    /// The bare id.
    pub id: String,
    /// The newest revision: 1 for a secret that this hook added, and `None` for a secret that this
    /// hook changed, since Juju assigns the number at the commit.
    pub revision: Option<u64>,
}

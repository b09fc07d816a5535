//! The address of the server, and the login there.

use super::method::AllowedMethods;
use super::tls::TlsDemand;
use crate::secret::Secret;

/// The address of the server, and the login there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Host names or addresses with their ports, tried in order until one accepts writes. A host
    /// that starts with `/` is the directory of a Unix socket.
    pub hosts: Vec<(String, u16)>,
    /// The name of a superuser.
    pub user: String,
    /// The password of the superuser.
    pub password: Secret,
    /// The database that is connected to first.
    pub database: String,
    /// The methods by which the charm logs in.
    pub methods: AllowedMethods,
    /// How much TLS the charm demands.
    pub tls: TlsDemand,
}

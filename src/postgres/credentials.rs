//! Where the server is, and the login for it.

use crate::secret::Secret;

/// Where the server is and as whom to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Host names or addresses with their ports, tried in order until one takes writes. A host that starts
    /// with `/` is the directory of a Unix socket.
    pub hosts: Vec<(String, u16)>,
    /// A superuser.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The database to begin with.
    pub database: String,
}

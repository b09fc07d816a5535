//! PgBouncer's files: the published configuration, that of one process, and the user list.
//!
//! Everything here is pure. Equal input gives equal bytes.

mod auth;
pub mod choices;
pub mod databases;
pub mod difference;
pub mod ini;
pub mod instance;
pub mod layers;
mod names;
mod openssl;
pub mod parameters;
pub mod reset;
pub mod settings;
pub mod shared;
mod text;
pub mod userlist;
pub mod validate;
pub mod verifier;
pub mod version;

pub use auth::Auth;
pub use choices::{AuthType, PoolMode, SslMode};
pub use databases::{Entry, Origin, PgbDbs, hash};
pub use difference::{Difference, Need};
pub use instance::{InstanceConfig, Place, TlsFile, TlsFiles, Unit};
pub use names::{
    AUTH_DATABASE, AUTH_DATABASE_READONLY, AUTH_USER_PREFIX, DATABASE_NAME_LIMIT, DatabaseName,
};
pub use parameters::Parameters;
pub use shared::{Database, Invalid, SharedConfig};
pub use text::{Unrepresentable, hex};
pub use userlist::{User, UserList};
pub use version::Version;

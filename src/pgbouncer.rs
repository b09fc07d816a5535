//! PgBouncer's files: what the leader publishes, what one process runs, and the user list.
//!
//! Everything here is pure, and equal input gives equal bytes.

pub mod databases;
pub mod difference;
pub mod ini;
pub mod instance;
pub mod parameters;
pub mod reset;
pub mod settings;
pub mod shared;
pub mod userlist;
pub mod validate;
pub mod verifier;
pub mod version;

pub use databases::{DatabaseName, Entry, Origin, PgbDbs, hash};
pub use difference::{Difference, Need};
pub use instance::{InstanceConfig, Place, Unit};
pub use parameters::Parameters;
pub use shared::{
    AUTH_DATABASE, AUTH_DATABASE_READONLY, Auth, AuthType, Database, Invalid, PoolMode, SharedConfig,
};
pub use userlist::{AUTH_USER as AUTH_USER_PREFIX, User, UserList};
pub use version::Version;

/// PostgreSQL cuts names at this many bytes, and PgBouncer refuses longer ones.
pub const DATABASE_NAME_LIMIT: usize = 63;

/// Something that a file of PgBouncer has no way to say.
///
/// `what` names the thing without its value, so the message can be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write {what}: {reason}")]
pub struct Unrepresentable {
    /// The key, name or position at fault, harmless to print.
    pub what: String,
    /// Why, and what to do about it where there is a remedy.
    pub reason: &'static str,
}

impl Unrepresentable {
    fn new(what: impl Into<String>, reason: &'static str) -> Self {
        Self { what: what.into(), reason }
    }
}

/// A name fit for a message: control characters escaped, 40 characters at most.
fn printable(name: &str) -> String {
    let escaped: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    let mut short = escaped.replace("\\'", "'");
    if name.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

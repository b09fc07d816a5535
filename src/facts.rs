//! The parsed facts of a dispatch: plain data and pure functions. [`Look`](crate::look::Look) reads
//! and parses each fact once.

pub mod backend;
pub mod certificates;
pub mod configuration;
pub mod local;
pub mod lookup;
pub mod options;
pub mod tls;
pub mod topology;
pub mod units;
pub mod users;

use std::collections::BTreeMap;

/// A databag, or the unit's state: texts by key.
pub type Texts = BTreeMap<String, String>;

/// The longest databag value of our own that is parsed, in bytes.
const LONGEST: usize = 1024 * 1024;

/// Rejects a text longer than 1 MiB.
pub fn bounded(text: &str) -> Result<&str, String> {
    if text.len() > LONGEST { Err("it is larger than 1 MiB".into()) } else { Ok(text) }
}

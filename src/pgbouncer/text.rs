//! Texts of files and messages: what a file cannot hold, and how names and bytes are written.

/// Why something cannot be written into a file of PgBouncer.
///
/// `what` names the thing without its value, so the message can be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write {what}: {reason}")]
pub struct Unrepresentable {
    /// The key, name or position at fault. It is safe to print.
    pub what: String,
    /// The reason, and the remedy where there is one.
    pub reason: &'static str,
}

impl Unrepresentable {
    pub(super) fn new(what: impl Into<String>, reason: &'static str) -> Self {
        Self { what: what.into(), reason }
    }
}

/// A name for a message: at most 40 characters, with control characters escaped.
pub(super) fn printable(name: &str) -> String {
    let escaped: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    let mut short = escaped.replace("\\'", "'");
    if name.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

/// Bytes in lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

//! What a file cannot hold, and how names and bytes look in messages and files.

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
    pub(super) fn new(what: impl Into<String>, reason: &'static str) -> Self {
        Self { what: what.into(), reason }
    }
}

/// A name fit for a message: control characters escaped, 40 characters at most.
pub(super) fn printable(name: &str) -> String {
    let escaped: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    let mut short = escaped.replace("\\'", "'");
    if name.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

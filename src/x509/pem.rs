//! The form of PEM in which providers compare requests.

use base64::Engine as _;

/// Renders DER as PEM with lines of 64 columns, without a line break at its end: the form in which
/// providers of `tls-certificates` compare requests.
pub(super) fn to_pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (i, c) in text.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem + &format!("\n-----END {label}-----")
}

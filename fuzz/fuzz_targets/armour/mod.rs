//! Bytes as PEM: a fuzzer that changes base64 hardly ever reaches the parser of DER.

use base64::Engine as _;

/// The bytes as a text, and as DER in PEM with each of the labels.
pub fn texts(bytes: &[u8], labels: &[&str]) -> Vec<String> {
    let der = base64::engine::general_purpose::STANDARD.encode(bytes);
    let pem = |label: &&str| format!("-----BEGIN {label}-----\n{der}\n-----END {label}-----\n");
    let text = String::from_utf8(bytes.to_vec()).ok();
    text.into_iter().chain(labels.iter().map(pem)).collect()
}

//! Any list of certificates that parses can be rendered and parses to the same value; so does any
//! private key, in the form in which the charm stores it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::x509::{Bundle, PrivateKey};

mod armour;

const LABELS: [&str; 4] = ["CERTIFICATE", "RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY"];

fuzz_target!(|bytes: &[u8]| {
    for text in armour::texts(bytes, &LABELS) {
        if let Some(bundle) = Bundle::parse(&text) {
            assert_eq!(Bundle::parse(&bundle.to_pem()), Some(bundle));
        }
        if let Ok(key) = PrivateKey::parse(&text) {
            assert_eq!(PrivateKey::parse(key.to_pem().reveal()), Ok(key));
        }
    }
});

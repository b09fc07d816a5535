//! Any certificate signing request that parses has a text that parses to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::x509::Request;

mod armour;

fuzz_target!(|bytes: &[u8]| {
    for text in armour::texts(bytes, &["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"]) {
        if let Some(request) = Request::parse(&text) {
            assert_eq!(Request::parse(&request.pem), Some(request));
        }
    }
});

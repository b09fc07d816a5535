//! Any connection string that parses can be rendered, in one line, and parses to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::pgbouncer::Version;
use pgbouncer_k8s::pgbouncer::ini::ConnectionString;
use pgbouncer_k8s::pgbouncer::settings::Section;

fuzz_target!(|text: &str| {
    // The reader of the file passes on single lines without NUL.
    if text.contains(['\n', '\0']) {
        return;
    }
    for section in [Section::Databases, Section::Users, Section::Peers] {
        if let Ok(connection) = ConnectionString::parse(text, section, Version::NEWEST) {
            let again = connection.render(section, "x", Version::NEWEST).expect("a parsed value can be rendered");
            assert_eq!(ConnectionString::parse(&again, section, Version::NEWEST), Ok(connection));
        }
    }
});

//! Any text: a connection string that is read can be written, in one line, and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::pgbouncer::Version;
use pgbouncer_k8s::pgbouncer::ini::ConnectionString;
use pgbouncer_k8s::pgbouncer::settings::Section;

fuzz_target!(|text: &str| {
    // The file's reader hands on one line without NUL.
    if text.contains(['\n', '\0']) {
        return;
    }
    for section in [Section::Databases, Section::Users, Section::Peers] {
        if let Ok(connection) = ConnectionString::parse(text, section, Version::NEWEST) {
            let again = connection.render(section, "x", Version::NEWEST).expect("what was read can be written");
            assert_eq!(ConnectionString::parse(&again, section, Version::NEWEST), Ok(connection));
        }
    }
});

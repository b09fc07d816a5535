//! Any file that parses can be rendered and parses to the same value; any file that is valid
//! parses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::pgbouncer::ini::Ini;
use pgbouncer_k8s::pgbouncer::validate::validate;
use pgbouncer_k8s::pgbouncer::{SharedConfig, Version};

fuzz_target!(|text: &str| {
    for version in [Version::OLDEST, Version::NEWEST] {
        let ini = Ini::parse(text, version);
        assert!(ini.is_ok() || validate(text, version).is_err());
        if let Ok(ini) = ini {
            let again = ini.render(version).expect("a parsed value can be rendered");
            assert_eq!(Ini::parse(&again, version), Ok(ini));
        }
    }
    if let Ok(config) = SharedConfig::parse(text) {
        let again = config.render().expect("a parsed value can be rendered");
        assert_eq!(SharedConfig::parse(&again), Ok(config));
    }
});

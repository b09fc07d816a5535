//! Any `pgb_dbs_config` that parses can be rendered and parses to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::pgbouncer::PgbDbs;

fuzz_target!(|text: &str| {
    if let Ok(databases) = PgbDbs::parse(text) {
        assert_eq!(PgbDbs::parse(&databases.render()), Ok(databases));
    }
});

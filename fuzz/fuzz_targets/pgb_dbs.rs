//! Any text: a `pgb_dbs_config` that is read can be written and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::pgbouncer::PgbDbs;

fuzz_target!(|text: &str| {
    if let Ok(databases) = PgbDbs::parse(text) {
        assert_eq!(PgbDbs::parse(&databases.render()), Ok(databases));
    }
});

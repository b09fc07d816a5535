//! Any user list that parses can be rendered and parses to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::pgbouncer::UserList;

fuzz_target!(|text: &str| {
    if let Ok(list) = UserList::parse(text) {
        let again = list.render().expect("a parsed value can be rendered");
        assert_eq!(UserList::parse(&again), Ok(list));
    }
});

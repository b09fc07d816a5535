//! Any text: a user list that is read can be written and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::pgbouncer::UserList;

fuzz_target!(|text: &str| {
    if let Ok(list) = UserList::parse(text) {
        let again = list.render().expect("what was read can be written");
        assert_eq!(UserList::parse(&again), Ok(list));
    }
});

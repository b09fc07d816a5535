//! Real servers for tests: PgBouncer and PostgreSQL, of every version that is here.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod bench;
pub(crate) mod cluster;
#[path = "../pgbouncer/mod.rs"]
pub(crate) mod pgbouncer;
pub(crate) mod proxy;
pub(crate) mod session;
pub(crate) mod tls;
pub(crate) mod wire;

use std::sync::Once;

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

/// Both servers refuse to run as root, so the whole test program is somebody else from here on.
pub(crate) fn leave_root() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if geteuid().is_root() {
            pgbouncer::cache();
            let user =
                User::from_name("postgres").ok().flatten().expect("postgresql-common makes it");
            initgroups(c"postgres", user.gid).expect("root may");
            setgid(user.gid).expect("root may");
            setuid(user.uid).expect("root may");
        }
    });
}

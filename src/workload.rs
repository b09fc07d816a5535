//! The PgBouncer processes of this unit: what they run, and how they load another configuration.

#[expect(clippy::disallowed_methods, reason = "waits until a deadline")]
mod bounded;
#[expect(clippy::disallowed_methods, reason = "looks for the socket")]
pub mod console;
#[expect(clippy::disallowed_methods, reason = "looks whose the directory of sockets is")]
mod container;
#[expect(clippy::disallowed_methods, reason = "files and processes are what it is for")]
mod disk;
mod facts;
mod files;
#[expect(clippy::disallowed_methods, reason = "connects as a client would")]
mod handshake;
#[expect(clippy::disallowed_methods, reason = "reads files that another party may replace")]
mod host;
mod interface;
mod layer;
#[expect(clippy::disallowed_methods, reason = "waits for processes, with a deadline")]
mod load;
mod log_targets;
mod outcome;
mod paths;
#[expect(clippy::disallowed_methods, reason = "waits until a deadline")]
pub mod pebble;
#[expect(clippy::disallowed_methods, reason = "processes are read from /proc")]
mod process;

pub use self::{
    container::Container,
    disk::Disk,
    facts::{EXPORTER_PORT, Loaded, Probe, ProbeError, Saved},
    files::Files,
    interface::Workload,
    log_targets::{Forwarding, LOG_URLS_MAX, LogTargets, is_log_url},
    outcome::{Done, NotLoaded},
    paths::Paths,
};

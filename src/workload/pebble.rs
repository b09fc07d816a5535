//! Pebble, which keeps the processes of the workload container: its HTTP API on a Unix socket, as far as the
//! charm needs it.

mod checks;
mod client;
mod envelope;
pub(super) mod error;
mod exec;
mod files;
mod http;
mod multipart;
mod services;

pub use self::{
    client::Pebble,
    error::{PathError, PathErrorKind, PebbleError},
    exec::Output,
    files::{Directory, File},
    services::{Current, Service},
};

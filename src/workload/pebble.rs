//! Pebble, the service manager of the workload container: the part of its HTTP API that the charm
//! needs.

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

//! A Juju charm that operates PgBouncer: each hook is one process, from the environment to an exit
//! code.
//!
//! In reading order: [`event`] reads the environment; [`hook`] runs the rows of [`endpoints`] that
//! are due. A row gathers its input from a [`look`], which only reads, and decides in a pure
//! function. [`apply`] performs the resulting [`plan`]; [`status`] shows why work is left.

pub mod event;
pub mod hook;

pub mod endpoints;
pub mod facts;
pub mod look;
pub mod plan;

pub mod apply;
pub mod status;

pub mod notes;
pub mod peer_bag;

pub mod pgbouncer;
pub mod printable;
pub mod secret;
pub mod x509;

pub mod attempts;
pub mod journal;
pub mod juju;
pub mod last_status;
pub mod postgres;
pub mod spans;
pub mod workload;

pub mod actions;
pub mod cli;
pub mod log;
pub mod otlp;

//! A Juju charm that operates PgBouncer: one process a hook, from the environment to an exit code.
//!
//! The modules in reading order follow the flow: environment → [`event`] → [`observe`] →
//! [`handlers`] → [`plan`] → [`apply`] → [`status`].

pub mod apply;
pub mod cli;
pub mod dispatch;
pub mod event;
pub mod handlers;
pub mod observe;
pub mod outcome;
pub mod plan;
pub mod status;

pub mod options;
pub mod pgbouncer;
pub mod secret;

pub mod attempts;
pub mod juju;
pub mod postgres;
pub mod siblings;
pub mod workload;
pub mod world;

pub mod log;

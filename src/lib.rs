//! A Juju charm that operates PgBouncer: one process a hook, from the environment to an exit code.
//!
//! The modules in reading order follow the flow: environment → [`event`] → [`observe`] →
//! [`handlers`] → [`plan`] → [`apply`] → [`status`].

pub mod cli;
pub mod dispatch;
pub mod event;
pub mod observe;
pub mod handlers;
pub mod plan;
pub mod apply;
pub mod status;

pub mod options;
pub mod pgbouncer;
pub mod secret;

pub mod world;
pub mod juju;
pub mod postgres;
pub mod workload;

pub mod log;

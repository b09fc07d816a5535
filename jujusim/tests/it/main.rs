//! The simulator, from outside.

mod agent;
mod hooks;
mod puppets;
mod tools;
mod workload;

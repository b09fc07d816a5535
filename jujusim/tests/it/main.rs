//! The simulator, from outside.

mod hooks;
mod puppets;
mod tools;
mod workload;

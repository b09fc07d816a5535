//! The simulator, from outside.

mod agent;
mod contract;
mod front;
mod hooks;
mod listed;
mod puppets;
mod servers;
mod witness;
mod words;
mod workload;

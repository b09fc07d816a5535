//! The simulator, from outside.

mod agent;
mod containers;
mod contract;
mod front;
mod hooks;
mod listed;
mod puppets;
mod servers;
mod witness;
mod words;
mod workload;

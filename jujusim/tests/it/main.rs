//! Tests of the simulator through its public interface.

mod agent;
mod certificates;
mod commands;
mod containers;
mod contract;
mod front;
mod hooks;
mod listed;
mod puppets;
mod servers;
#[path = "../../../tests/soak/mod.rs"]
mod soak;
mod witness;
mod workload;

//! The operations of the charm on this unit's processes, on a machine or in a container.

use super::{
    facts::{Loaded, Probe, ProbeError, Saved},
    files::Files,
    log_targets::{Forwarding, LogTargets},
    outcome::{Done, NotLoaded},
};

/// The processes of a unit: on this machine, or in a container beside the charm's.
pub trait Workload {
    /// Probes PgBouncer, at most once in a dispatch. Needs nothing to be loaded.
    fn probe(&mut self) -> Result<Probe, ProbeError>;

    /// What the running process of an instance was confirmed to have loaded. `None` if that was not
    /// confirmed, or if another process runs now: then a load is due. Does not query the process.
    fn loaded(&mut self, instance: u16) -> Option<Loaded>;

    /// The files that all instances share, as they are now.
    fn saved(&mut self) -> Saved;

    /// Makes every instance run these files, one after another. A load that was killed at any point
    /// can be repeated.
    fn load(&mut self, files: &Files) -> Result<Done, NotLoaded>;

    /// Predicts what a load would do now, and changes nothing.
    fn foresee(&mut self, files: &Files) -> Result<Done, NotLoaded>;

    /// Why the health check keeps clients from this unit although everything is loaded; `None` if
    /// the unit is healthy or has no health check.
    fn unhealthy(&mut self) -> Option<String> {
        None
    }

    /// Where the output of the processes goes. Queries no process.
    fn forwarding(&mut self) -> Forwarding {
        Forwarding::WithoutPebble
    }

    /// Sends the output of every process to exactly these targets. A change that was killed at any
    /// point can be repeated. Without Pebble it does nothing.
    fn forward_logs(&mut self, _: &LogTargets) -> Result<(), NotLoaded> {
        Ok(())
    }
}

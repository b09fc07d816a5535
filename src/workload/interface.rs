//! What the charm asks of the processes of this unit, wherever they live.

use super::{
    facts::{Loaded, Probe, ProbeError, Saved},
    files::Files,
    outcome::{Done, NotLoaded},
};

/// Where the processes of a unit live: on this machine's disk, or in a container beside the charm.
pub trait Workload {
    /// What can be known before anything is loaded. Asks no more than once a dispatch.
    fn probe(&mut self) -> Result<Probe, ProbeError>;

    /// What the running process of an instance has been seen to have loaded. `None` if it was not seen, or
    /// is another process by now: a load is owed. Does not ask the process.
    fn loaded(&mut self, instance: u16) -> Option<Loaded>;

    /// The files all instances share, as they lie there now.
    fn saved(&mut self) -> Saved;

    /// Makes every instance run these files, one after another. May be killed anywhere and repeated.
    fn load(&mut self, files: &Files) -> Result<Done, NotLoaded>;

    /// What a load would do now. Changes nothing.
    fn foresee(&mut self, files: &Files) -> Result<Done, NotLoaded>;

    /// Why clients are not sent here though everything is loaded, where somebody watches over that.
    fn unhealthy(&mut self) -> Option<String> {
        None
    }
}

//! What the charm asks of the processes of this unit, wherever they run.

use super::{
    facts::{Loaded, Probe, ProbeError, Saved},
    files::Files,
    outcome::{Done, NotLoaded},
};

/// The processes of a unit: on this machine, or in a container beside the charm's.
pub trait Workload {
    /// What can be known before anything is loaded. Looks at most once in a dispatch.
    fn probe(&mut self) -> Result<Probe, ProbeError>;

    /// What the running process of an instance was confirmed to have loaded. `None` if that was not
    /// confirmed, or if another process runs by now: then a load is due. Does not ask the process.
    fn loaded(&mut self, instance: u16) -> Option<Loaded>;

    /// The files that all instances share, as they are now.
    fn saved(&mut self) -> Saved;

    /// Makes every instance run these files, one after another. May be killed anywhere and
    /// repeated.
    fn load(&mut self, files: &Files) -> Result<Done, NotLoaded>;

    /// What a load would do now. Changes nothing.
    fn foresee(&mut self, files: &Files) -> Result<Done, NotLoaded>;

    /// Why clients are not sent to this unit although it has loaded everything, where a health
    /// check decides that.
    fn unhealthy(&mut self) -> Option<String> {
        None
    }
}

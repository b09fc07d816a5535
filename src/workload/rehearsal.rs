//! Processes that are looked at and left as they are.

use super::{Done, Files, Loaded, NotLoaded, Probe, ProbeError, Saved, Workload};
use crate::secret::Secret;

/// A workload that would have loaded what it was given.
pub struct Rehearsal {
    real: Box<dyn Workload>,
    knows_loaded: bool,
    given: Option<Files>,
}

impl Rehearsal {
    /// In front of the real one. Without `knows_loaded` it has seen no process load anything, so that everything
    /// is given to it.
    pub fn new(real: Box<dyn Workload>, knows_loaded: bool) -> Self {
        Self { real, knows_loaded, given: None }
    }
}

impl Workload for Rehearsal {
    fn probe(&mut self) -> Result<Probe, ProbeError> {
        self.real.probe()
    }

    fn loaded(&mut self, instance: u16) -> Option<Loaded> {
        if let Some(files) = &self.given {
            let file = files.instances.iter().find(|file| file.instance == instance)?;
            return Some(Loaded { digest: file.digest.clone(), version: files.version.to_string() });
        }
        self.real.loaded(instance).filter(|_| self.knows_loaded)
    }

    fn saved(&mut self) -> Saved {
        match &self.given {
            Some(files) => Saved {
                config: Some(files.shared.clone()),
                users: files.users.file_text().ok().map(Secret::new),
            },
            None => self.real.saved(),
        }
    }

    fn load(&mut self, files: &Files) -> Result<Done, NotLoaded> {
        let done = self.foresee(files)?;
        self.given = Some(files.clone());
        Ok(done)
    }

    fn foresee(&mut self, files: &Files) -> Result<Done, NotLoaded> {
        self.real.foresee(files)
    }

    fn unhealthy(&mut self) -> Option<String> {
        self.real.unhealthy()
    }
}

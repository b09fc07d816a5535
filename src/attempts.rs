//! Records of attempts to answer a client, on this unit's own disk. Juju discards the state of a
//! hook that fails; without these records Juju would retry a hook with a rejected answer forever.

#![expect(clippy::disallowed_methods, reason = "the file is private to this module")]

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::event::RelationId;

/// The error of a hook that cannot keep its own records, before what the system answered.
pub const CANNOT_WRITE: &str = "cannot write into the charm's directory; make room or repair the \
     unit's disk, Juju retries the hook";

/// The file of records, with one line for each attempt.
pub struct Attempts(PathBuf);

impl Attempts {
    /// The file beside the charm. A new pod starts without one.
    pub fn new(charm_dir: &Path) -> Self {
        Self(charm_dir.join(".attempts"))
    }

    /// Number of recorded attempts for this relation.
    pub fn count(&self, relation: RelationId) -> usize {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter(|line| *line == relation.to_string()).count()
    }

    /// Records an attempt.
    pub fn note(&self, relation: RelationId) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.0)?;
        writeln!(file, "{relation}")
    }

    /// Removes all records.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

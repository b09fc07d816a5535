//! Notes on this unit's own disk of clients that were about to be answered: what Juju keeps is lost with a hook that
//! fails. Without them a hook whose answer Juju refuses would be repeated for ever.

#![expect(clippy::disallowed_methods, reason = "a file that is nobody's business but the next hook's")]

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::event::RelationId;

/// One line for each time.
pub struct Attempts(PathBuf);

impl Attempts {
    /// The notes beside the charm: a new pod has none.
    pub fn new(charm_dir: &Path) -> Self {
        Self(charm_dir.join(".attempts"))
    }

    /// How often that client was.
    pub fn count(&self, relation: RelationId) -> usize {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter(|line| *line == relation.to_string()).count()
    }

    /// Adds one.
    pub fn note(&self, relation: RelationId) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.0)?;
        writeln!(file, "{relation}")
    }

    /// Forgets all.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

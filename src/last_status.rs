//! The statuses that this unit last set, on this unit's own disk, so that a hook sets only a
//! changed status. Juju applies a status at once, also if the hook fails later: its state, which it
//! commits with the hook, could not hold this record.

#![expect(clippy::disallowed_methods, reason = "the files are private to this module")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::status::{Scope, Status};

/// The files with the last statuses, one for each scope.
pub struct LastStatus(PathBuf);

impl LastStatus {
    /// The files beside the charm. A new pod starts without any.
    pub fn new(charm_dir: &Path) -> Self {
        Self(charm_dir.to_owned())
    }

    /// Whether this unit last set this status, and certainly no other one since.
    pub fn is(&self, scope: Scope, status: &Status) -> bool {
        fs::read_to_string(self.file(scope)).is_ok_and(|text| text == line(status))
    }

    /// Removes the record, before another status is set. A record that cannot be removed would be
    /// wrong afterwards, so the error counts.
    pub fn forget(&self, scope: Scope) -> std::io::Result<()> {
        match fs::remove_file(self.file(scope)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Records the status that was set. Without a record, the next hook sets the status again.
    pub fn record(&self, scope: Scope, status: &Status) {
        if fs::write(self.file(scope), line(status)).is_err() {
            let _ = self.forget(scope);
        }
    }

    fn file(&self, scope: Scope) -> PathBuf {
        self.0.join(format!(".status-{scope}"))
    }
}

fn line(status: &Status) -> String {
    format!("{} {}", status.kind, status.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Kind;

    #[test]
    fn a_record_is_of_one_scope_and_one_status_until_it_is_forgotten() {
        let directory = std::env::temp_dir().join(format!("last-status-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let last = LastStatus::new(&directory);
        let status = |message: &str| Status { kind: Kind::Active, message: message.to_owned() };
        assert!(!last.is(Scope::Unit, &status("1 database")));
        last.record(Scope::Unit, &status("1 database"));
        assert!(last.is(Scope::Unit, &status("1 database")));
        assert!(!last.is(Scope::Unit, &status("1 databas")));
        assert!(!last.is(Scope::Application, &status("1 database")));
        last.forget(Scope::Unit).expect("a file");
        assert!(!last.is(Scope::Unit, &status("1 database")));
        last.forget(Scope::Unit).expect("no file");
        fs::remove_dir_all(&directory).expect("the directory");
    }
}

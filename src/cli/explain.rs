//! `explain`: what a hook would change.

use std::fmt;
use std::process::ExitCode;

use super::{Format, print, to_json};
use crate::event::{Event, Unit};
use crate::hook::{self, Counted};
use crate::journal::{Journal, Outcome};

/// Runs the hook as a dry run and prints its outcome.
pub(super) fn run(unit: &Unit, event: &Event, format: Format) -> anyhow::Result<ExitCode> {
    crate::log::to_stderr();
    let outcome = hook::run(unit, event, Journal::dry_run(), Counted::Loaded)?;
    let shown = match format {
        Format::Text => Table(&outcome).to_string(),
        Format::Json => to_json(&outcome)?,
    };
    print(&shown)?;
    Ok(ExitCode::SUCCESS)
}

/// An outcome as text for people.
struct Table<'a>(&'a Outcome);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { changes, unread, waits, status, .. } = self.0;
        let width = changes
            .iter()
            .map(|change| change.target.to_string().len())
            .max()
            .unwrap_or(0)
            .max("Where".len());
        writeln!(f, "{:width$}  What", "Where")?;
        for change in changes {
            writeln!(f, "{:width$}  {}", change.target.to_string(), change.what)?;
        }
        if changes.is_empty() {
            writeln!(f, "{:width$}  nothing", "")?;
        }
        let mut list = |title: &str, lines: &mut dyn Iterator<Item = String>| {
            let mut lines = lines.peekable();
            if lines.peek().is_some() {
                writeln!(f, "\n{title}")?;
            }
            lines.try_for_each(|line| writeln!(f, "{line}"))
        };
        list(
            "Not predicted: what follows from reading these secrets",
            &mut unread.iter().cloned(),
        )?;
        list("Waits for", &mut waits.iter().cloned())?;
        list(
            "Status",
            &mut status.iter().map(|status| format!("{}: {}", status.kind, status.message)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Change, Target};
    use crate::status::{Kind, Status};

    #[test]
    fn a_table_is_aligned_and_lists_unread_secrets() {
        let change = |target, what: &str| Change { target, what: what.to_owned() };
        let outcome = Outcome {
            changes: vec![
                change(Target::Pgbouncer, "reload instance 0"),
                change(Target::Juju, "open-port 6432/tcp"),
            ],
            unread: vec!["database.3.user.secret".to_owned()],
            waits: Vec::new(),
            status: Some(Status { kind: Kind::Active, message: "1 database".to_owned() }),
            files: None,
        };
        assert_eq!(
            Table(&outcome).to_string(),
            "Where      What\n\
             pgbouncer  reload instance 0\n\
             juju       open-port 6432/tcp\n\
             \n\
             Not predicted: what follows from reading these secrets\n\
             database.3.user.secret\n\
             \n\
             Status\n\
             active: 1 database\n"
        );
    }
}

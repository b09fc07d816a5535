//! `scale-application`.

use super::Arguments;
use crate::Sim;
use crate::error::{Error, Result};

impl Sim {
    /// `scale-application APP N`: adds units, or removes the highest ordinals.
    pub(crate) fn scale_application(&mut self, mut args: Arguments) -> Result<String> {
        let app = args.next("an application")?;
        let wanted = args.next("a number of units")?;
        args.end()?;
        let wanted: usize = wanted
            .parse()
            .map_err(|_| Error::refused(format!("expected a number, got {wanted:?}")))?;
        self.model.app(&app)?;
        let alive =
            self.model.units.iter().filter(|(name, unit)| name.app == app && !unit.dying).count();
        if alive < wanted {
            self.run_command("add-unit", [app, "-n".to_owned(), (wanted - alive).to_string()])
        } else {
            self.run_command("remove-unit", [app, "-n".to_owned(), (alive - wanted).to_string()])
        }
    }
}

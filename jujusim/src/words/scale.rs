//! `scale-application`.

use super::Words;
use crate::Sim;
use crate::error::{Error, Result};

impl Sim {
    /// `scale-application APP N`: units are added, or the highest ordinals leave.
    pub(crate) fn scale_application(&mut self, mut words: Words) -> Result<String> {
        let app = words.next("an application")?;
        let wanted = words.next("a number of units")?;
        words.end()?;
        let wanted: usize =
            wanted.parse().map_err(|_| Error::refused(format!("a number expected, got {wanted:?}")))?;
        self.model.app(&app)?;
        let alive = self.model.units.iter().filter(|(name, unit)| name.app == app && !unit.dying).count();
        if alive < wanted {
            self.do_word("add-unit", [app, "-n".to_owned(), (wanted - alive).to_string()])
        } else {
            self.do_word("remove-unit", [app, "-n".to_owned(), (alive - wanted).to_string()])
        }
    }
}

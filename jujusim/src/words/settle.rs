//! Running hooks: until nothing is left to do, or a few.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Words;
use crate::Sim;
use crate::error::{Error, Result};
use crate::hook::Exit;
use crate::model::UnitName;

/// A hook that failed this often in a row stops `settle`.
const PATIENCE: u32 = 5;
/// More hooks than this mean that they cause each other.
const BOUND: usize = 5000;

impl Sim {
    /// Runs hooks until no unit has one; a hook that fails is tried again once the others are through.
    pub(crate) fn settle(&mut self, mut words: Words) -> Result<String> {
        let verbose = words.flag("--verbose");
        words.end()?;
        let (mut printed, mut count, mut failures) = (String::new(), 0, 0);
        let mut aside = BTreeSet::new();
        while count < BOUND {
            let Some(unit) = self.whose_turn(&aside) else {
                if aside.is_empty() {
                    let _ = writeln!(printed, "settled: {count} hooks, {failures} failed");
                    return Ok(printed);
                }
                aside.clear();
                continue;
            };
            let failed = self.run_next(&unit, verbose, &mut printed)?;
            count += 1;
            if failed {
                failures += 1;
                self.patience(&unit)?;
                aside.insert(unit);
            }
        }
        Err(Error::Unsettled(BOUND))
    }

    /// `step [--unit UNIT] [N]`: runs the next hooks, of all units or of one; one hook by default.
    pub(crate) fn step(&mut self, mut words: Words) -> Result<String> {
        let only = words.option("--unit")?.map(|unit| unit.parse::<UnitName>()).transpose()?;
        let count = words.nth()?;
        words.end()?;
        let mut printed = String::new();
        for _ in 0..count {
            let next = match &only {
                Some(unit) => self.model.next_event(unit).map(|_| unit.clone()),
                None => self.whose_turn(&BTreeSet::new()),
            };
            let Some(unit) = next else {
                printed.push_str("nothing to do\n");
                break;
            };
            self.run_next(&unit, true, &mut printed)?;
        }
        Ok(printed)
    }

    /// The next unit with something to do, after the one that had its turn.
    fn whose_turn(&self, aside: &BTreeSet<UnitName>) -> Option<UnitName> {
        let ready: Vec<&UnitName> = self
            .model
            .units
            .keys()
            .filter(|unit| !aside.contains(*unit) && self.model.next_event(unit).is_some())
            .collect();
        let after = ready.iter().find(|unit| Some(**unit) > self.turn.as_ref());
        after.or_else(|| ready.first()).map(|unit| (*unit).clone())
    }

    fn run_next(&mut self, unit: &UnitName, verbose: bool, printed: &mut String) -> Result<bool> {
        let Some(event) = self.model.next_event(unit) else { return Ok(false) };
        self.turn = Some(unit.clone());
        let run = self.model.run(unit, &event)?;
        let failed = run.exit != Exit::Success;
        if failed || verbose {
            let _ = writeln!(printed, "{} {}: {}", run.unit, run.hook, run.exit);
        }
        Ok(failed)
    }

    fn patience(&mut self, unit: &UnitName) -> Result<()> {
        let Some(pending) = self.model.units.get_mut(unit).and_then(|unit| unit.pending.as_mut()) else {
            return Ok(());
        };
        if pending.failures < PATIENCE {
            return Ok(());
        }
        let times = std::mem::take(&mut pending.failures);
        let (hook, log) =
            self.model.runs.last().map(|run| (run.hook.clone(), run.log.join("\n"))).unwrap_or_default();
        Err(Error::Stuck { unit: unit.to_string(), hook, times, log })
    }
}

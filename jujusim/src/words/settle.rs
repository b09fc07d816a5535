//! Running hooks: until nothing is left to do, or a few.

use std::fmt::Write as _;

use jiff::Timestamp;

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
    /// Runs hooks until no unit has one; when only failed hooks and free leases are left, the clock moves on to the next of them.
    pub(crate) fn settle(&mut self, mut words: Words) -> Result<String> {
        let verbose = words.flag("--verbose");
        words.end()?;
        self.settle_until(Timestamp::MAX, verbose)
    }

    /// As [`Sim::settle`], but the clock does not pass `end`.
    pub(crate) fn settle_until(&mut self, end: Timestamp, verbose: bool) -> Result<String> {
        let (mut printed, mut failures) = (String::new(), 0);
        for count in 0..BOUND {
            let Some(unit) = self.someone_s_turn(end) else {
                let _ = writeln!(printed, "settled: {count} hooks, {failures} failed");
                return Ok(printed);
            };
            if self.run_next(&unit, verbose, &mut printed)? {
                failures += 1;
                self.patience(&unit)?;
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
                Some(unit) => self.turn_of(unit)?.then(|| unit.clone()),
                None => self.someone_s_turn(Timestamp::MAX),
            };
            let Some(unit) = next else {
                printed.push_str("nothing to do\n");
                break;
            };
            self.run_next(&unit, true, &mut printed)?;
        }
        Ok(printed)
    }

    /// The next unit with something to do; time passes as far as a retry or a lease needs it.
    fn someone_s_turn(&mut self, end: Timestamp) -> Option<UnitName> {
        loop {
            self.model.look_at_pods();
            if let Some(unit) = self.whose_turn() {
                return Some(unit);
            }
            let next = self.model.next_retry_or_lease().filter(|next| *next <= end)?;
            self.model.advance(next);
        }
    }

    /// Whether the unit has something to do, be it after the pause before a retry.
    fn turn_of(&mut self, unit: &UnitName) -> Result<bool> {
        self.model.look_at_pods();
        let due = self.model.unit(unit)?.pending.as_ref().map(|pending| pending.due);
        if let Some(due) = due.filter(|_| self.model.retries) {
            self.model.advance(due);
        }
        Ok(self.model.next_event(unit).is_some())
    }

    /// The next unit with something to do, after the one that had its turn; any of them under a seed.
    pub(crate) fn whose_turn(&self) -> Option<UnitName> {
        let busy = |unit: &&UnitName| self.model.next_event(unit).is_some();
        let ready: Vec<&UnitName> = self.model.units.keys().filter(busy).collect();
        if self.model.seed.is_some() {
            return self.model.pick("turn", ready).cloned();
        }
        let after = ready.iter().find(|unit| Some(**unit) > self.turn.as_ref());
        after.or_else(|| ready.first()).map(|unit| (*unit).clone())
    }

    pub(crate) fn run_next(&mut self, unit: &UnitName, verbose: bool, printed: &mut String) -> Result<bool> {
        let Some(event) = self.model.next_event(unit) else { return Ok(false) };
        self.turn = Some(unit.clone());
        let run = self.run_event(unit, &event)?;
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

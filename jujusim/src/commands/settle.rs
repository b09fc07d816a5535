//! Commands that run hooks: until no hook is left, or a number of hooks.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::Arguments;
use crate::Sim;
use crate::error::{Error, Result};
use crate::hook::Exit;
use crate::model::UnitName;

/// A hook that failed this often in a row stops `settle`.
const MAX_FAILURES: u32 = 5;
/// The limit of hooks: more mean that the hooks cause each other without end.
const MAX_HOOKS: usize = 5000;

impl Sim {
    /// Runs hooks until no unit has one left. When only failed hooks and free leases are left,
    /// moves the clock to the next of them.
    pub(crate) fn settle(&mut self, mut args: Arguments) -> Result<String> {
        let verbose = args.flag("--verbose");
        args.end()?;
        self.settle_until(Timestamp::MAX, verbose)
    }

    /// As [`Sim::settle`], but does not move the clock beyond `end`.
    pub(crate) fn settle_until(&mut self, end: Timestamp, verbose: bool) -> Result<String> {
        let (mut printed, mut failures) = (String::new(), 0);
        for count in 0..MAX_HOOKS {
            self.go_on()?;
            let Some(unit) = self.next_turn(end) else {
                let _ = writeln!(printed, "settled: {count} hooks, {failures} failed");
                return Ok(printed);
            };
            if self.run_next(&unit, verbose, &mut printed)? {
                failures += 1;
                self.patience(&unit)?;
            }
        }
        Err(Error::Unsettled(MAX_HOOKS))
    }

    /// `step [--unit UNIT] [N]`: runs the next hooks, of all units or of one; one hook by default.
    pub(crate) fn step(&mut self, mut args: Arguments) -> Result<String> {
        let only = args.option("--unit")?.map(|unit| unit.parse::<UnitName>()).transpose()?;
        let count = args.nth()?;
        args.end()?;
        let mut printed = String::new();
        for _ in 0..count {
            self.go_on()?;
            let next = match &only {
                Some(unit) => self.turn_of(unit)?.then(|| unit.clone()),
                None => self.next_turn(Timestamp::MAX),
            };
            let Some(unit) = next else {
                printed.push_str("nothing to do\n");
                break;
            };
            self.run_next(&unit, true, &mut printed)?;
        }
        Ok(printed)
    }

    /// Fails if the user pressed Ctrl-C.
    fn go_on(&self) -> Result<()> {
        match self.model.interrupted() {
            0 => Ok(()),
            _ => Err(Error::refused("interrupted: settle runs the hooks that are left")),
        }
    }

    /// The next unit with a hook to run; moves the clock if a retry or a lease needs it.
    fn next_turn(&mut self, end: Timestamp) -> Option<UnitName> {
        loop {
            self.model.observe_pods();
            if let Some(unit) = self.next_unit() {
                return Some(unit);
            }
            let next = self.model.next_retry_or_lease().filter(|next| *next <= end)?;
            self.model.advance(next);
        }
    }

    /// Whether the unit has a hook to run, possibly after the delay of a retry.
    fn turn_of(&mut self, unit: &UnitName) -> Result<bool> {
        self.model.observe_pods();
        let due = self.model.unit(unit)?.pending.as_ref().map(|pending| pending.due);
        if let Some(due) = due.filter(|_| self.model.retries) {
            self.model.advance(due);
        }
        Ok(self.model.next_event(unit).is_some())
    }

    /// The next unit with a hook to run, after the one whose hook ran last; with a seed any of
    /// them. Units of the application that the command `first` named come before others.
    pub(crate) fn next_unit(&self) -> Option<UnitName> {
        let busy = |unit: &&UnitName| self.model.next_event(unit).is_some();
        let mut ready: Vec<&UnitName> = self.model.units.keys().filter(busy).collect();
        let preferred = |unit: &&UnitName| self.model.first.as_ref() == Some(&unit.app);
        if ready.iter().any(preferred) {
            ready.retain(preferred);
        }
        if self.model.seed.is_some() {
            return self.model.pick("turn", ready).cloned();
        }
        let after = ready.iter().find(|unit| Some(**unit) > self.turn.as_ref());
        after.or_else(|| ready.first()).map(|unit| (*unit).clone())
    }

    pub(crate) fn run_next(
        &mut self,
        unit: &UnitName,
        verbose: bool,
        printed: &mut String,
    ) -> Result<bool> {
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
        let Some(pending) = self.model.units.get_mut(unit).and_then(|unit| unit.pending.as_mut())
        else {
            return Ok(());
        };
        if pending.failures < MAX_FAILURES {
            return Ok(());
        }
        let times = std::mem::take(&mut pending.failures);
        let (hook, log) = self
            .model
            .runs
            .last()
            .map(|run| (run.hook.clone(), run.log.join("\n")))
            .unwrap_or_default();
        Err(Error::Stuck { unit: unit.to_string(), hook, times, log })
    }
}

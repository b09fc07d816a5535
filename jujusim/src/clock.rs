//! The model's clock. It stands still while hooks run; script commands move it. After the command
//! `clock` it runs on with the real clock, and hooks see it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use crate::error::{Doing as _, Error, Result};
use crate::model::{Held, Model, Stage, UnitName};

/// How long a leader's lease lasts. After a leader is lost the application has no leader for this
/// long (leadership/tracker.go).
pub(crate) const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// The model's `update-status-hook-interval`.
const UPDATE_STATUS: SignedDuration = SignedDuration::from_mins(5);
/// The shortest and the longest delay before a failed hook is retried (uniter/retrystrategy).
const RETRY: SignedDuration = SignedDuration::from_secs(5);
const LONGEST_RETRY: SignedDuration = SignedDuration::from_mins(5);
/// How long the agent retries a commit for which the unit does not hold the lease (seen on 4.0.15:
/// ten times in over three minutes).
pub(crate) const COMMIT_RETRIES: SignedDuration = SignedDuration::from_secs(190);

/// The delay before a unit's next retry, doubled with each failure.
pub(crate) fn back_off(failures: u32) -> SignedDuration {
    let factor = 1 << failures.saturating_sub(1).min(6);
    (RETRY * factor).min(LONGEST_RETRY)
}

/// The real time, in whole seconds.
fn real() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

impl Model {
    /// The time after a duration from now: `90s`, `5m`, `1h30m`, `30d`.
    pub(crate) fn later(&self, duration: &str) -> Result<Timestamp> {
        let span = duration.parse::<Span>().ok().filter(|span| !span.is_negative());
        let length =
            span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        length.and_then(|length| self.now.checked_add(length).ok()).ok_or_else(|| {
            Error::refused(format!("invalid duration {duration:?}; write 90s, 5m or 30d"))
        })
    }

    /// Shows the model's clock to hooks from now on, after moving the clock to the real time.
    pub(crate) fn show_clock(&mut self) -> Result<()> {
        if self.ahead.is_none() {
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-fPIC", "-O1", "-x", "c", "-", "-o"]).arg(self.shim());
            let compiled = cc.stdin(Stdio::piped()).spawn().and_then(|mut child| {
                if let Some(mut stdin) = child.stdin.take() {
                    stdin.write_all(include_bytes!("clock.c"))?;
                }
                child.wait()
            });
            let compiled = compiled.doing(|| {
                "run cc, which `clock` needs; install a C compiler: scripts/parts".to_owned()
            })?;
            if !compiled.success() {
                return Err(Error::refused("cc cannot compile jujusim/src/clock.c: see above"));
            }
            self.ahead = Some(SignedDuration::ZERO);
        }
        self.follow_real_clock();
        Ok(())
    }

    /// If hooks see the model's clock, moves it as far as real time has passed.
    pub(crate) fn follow_real_clock(&mut self) {
        if let Some(ahead) = self.ahead {
            self.advance(real().saturating_add(ahead).unwrap_or(self.now));
        }
    }

    /// The variables that show the model's clock to a hook.
    pub(crate) fn clock_variables(&self) -> Vec<(&'static str, String)> {
        let Some(ahead) = self.ahead else { return Vec::new() };
        vec![
            ("LD_PRELOAD", self.shim().display().to_string()),
            ("JUJUSIM_CLOCK", ahead.as_secs().to_string()),
        ]
    }

    /// The library that moves the time of day of a process.
    fn shim(&self) -> PathBuf {
        self.dir.join("clock.so")
    }

    /// When the next failed hook may be retried or the next lease becomes free.
    pub(crate) fn next_retry_or_lease(&self) -> Option<Timestamp> {
        let retries =
            self.units.values().filter_map(|unit| unit.pending.as_ref()).map(|pending| pending.due);
        let commits = self.units.values().filter_map(|unit| unit.committing_until);
        let leases = self.apps.values().filter_map(|app| app.vacant_until);
        retries
            .chain(commits)
            .chain(leases)
            .filter(|time| *time > self.now && *time < Timestamp::MAX)
            .min()
    }

    /// When the next timer expires.
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        let statuses = self.units.values().filter_map(|unit| unit.update_status_due);
        let secrets =
            self.secrets.values().flat_map(|secret| [secret.expire, secret.next_rotate]).flatten();
        let timers = statuses.chain(secrets).filter(|time| *time > self.now);
        timers.chain(self.next_retry_or_lease()).min()
    }

    /// Moves the clock forward, never back, and assigns expired leases.
    pub(crate) fn advance(&mut self, to: Timestamp) {
        self.now = self.now.max(to);
        let ahead = |before: SignedDuration| before.max(self.now.duration_since(real()));
        self.ahead = self.ahead.map(ahead);
        let vacant: Vec<String> = self
            .apps
            .iter()
            .filter(|(_, app)| app.vacant_until.is_some_and(|until| until <= self.now))
            .map(|(name, _)| name.clone())
            .collect();
        for app in vacant {
            self.elect(&app);
        }
    }

    /// Assigns the free lease to a unit whose agent runs, preferably one that is not being removed.
    /// Without such a unit the lease stays free.
    pub(crate) fn elect(&mut self, app: &str) {
        let mut units = self.units_of(app);
        let runs = |unit: &UnitName| {
            self.units.get(unit).is_some_and(|unit| unit.held != Held::Everything)
        };
        units.retain(runs);
        let stays = |unit: &&UnitName| self.units.get(*unit).is_some_and(|unit| !unit.dying);
        let staying: Vec<&UnitName> = units.iter().filter(stays).collect();
        let candidates = if staying.is_empty() { units.iter().collect() } else { staying };
        let elected = self.pick("lease", candidates).cloned();
        let vacant = elected.is_none();
        self.lease(app, elected);
        if let Some(application) = self.apps.get_mut(app).filter(|_| vacant) {
            application.vacant_until = None;
        }
    }

    /// Frees the lease after [`LEASE`], because the leader does not renew it.
    pub(crate) fn let_lease_expire(&mut self, app: &str) {
        let until = self.now + LEASE;
        if let Some(application) = self.apps.get_mut(app) {
            application.vacant_until = Some(until);
        }
    }

    /// An agent that runs again renews its lease, or takes a lease that is free.
    pub(crate) fn claim_lease(&mut self, unit: &UnitName) {
        let Some(application) = self.apps.get_mut(&unit.app) else { return };
        if application.leader.as_ref() == Some(unit) {
            application.vacant_until = None;
        } else if application.leader.is_none() && application.vacant_until.is_none() {
            self.elect(&unit.app);
        }
    }

    /// Assigns the lease to a unit, or revokes it until [`LEASE`] has passed.
    ///
    /// The former leader records the loss without a hook (uniter/operation/leader.go).
    pub(crate) fn lease(&mut self, app: &str, unit: Option<UnitName>) {
        let until = self.now + LEASE;
        let deserted = self.units_of(app).is_empty();
        let Some(application) = self.apps.get_mut(app) else { return };
        application.vacant_until = (unit.is_none() && !deserted).then_some(until);
        if application.leader == unit {
            return;
        }
        let former = std::mem::replace(&mut application.leader, unit);
        let term = application.term;
        if application.leader.is_some() {
            application.term += 1;
        }
        if let Some(former) = former.and_then(|former| self.units.get_mut(&former)) {
            former.leadership = former.leadership.map(|_| (false, term));
        }
    }

    /// Schedules a unit's next `update-status`: one interval from now, plus or minus a fifth.
    pub(crate) fn schedule_update_status(&mut self, name: &UnitName) {
        let spread = self.pick((name.to_string(), "update-status"), 0..=24).map_or(0, |chosen| {
            match self.seed {
                Some(_) => (chosen - 12) * 5,
                None => 0,
            }
        });
        let due = self.now + UPDATE_STATUS + SignedDuration::from_secs(spread);
        if let Some(unit) = self.units.get_mut(name).filter(|unit| unit.stage == Stage::Started) {
            unit.update_status_due = Some(due);
        }
    }

    /// Chooses one candidate where Juju's order is arbitrary: by the seed, or the first without a
    /// seed.
    ///
    /// The same question between the same two hooks has the same answer.
    pub(crate) fn pick<T>(
        &self,
        question: impl Hash,
        candidates: impl IntoIterator<Item = T>,
    ) -> Option<T> {
        let mut candidates = candidates.into_iter();
        let Some(seed) = self.seed else { return candidates.next() };
        let mut all: Vec<T> = candidates.collect();
        let mut hasher = DefaultHasher::new();
        (seed, self.runs.len(), question).hash(&mut hasher);
        let count = u64::try_from(all.len()).ok().filter(|count| *count > 0)?;
        let index = usize::try_from(hasher.finish() % count).ok()?;
        Some(all.swap_remove(index))
    }
}

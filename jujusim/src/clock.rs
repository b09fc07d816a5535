//! The model's clock. It stands still while hooks run; script commands move it.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::{SignedDuration, Timestamp};

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

impl Model {
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

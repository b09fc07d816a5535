//! Secrets, as the controller stores them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};

use crate::model::{Bag, Entity, UnitName};

/// A secret with its revisions, consumers and grants.
#[derive(Clone)]
pub struct Secret {
    /// The owner.
    pub owner: Entity,
    /// The owner's label; may be empty.
    pub label: String,
    /// The text of `--description`.
    pub description: Option<String>,
    /// The rotation policy.
    pub rotate: Rotate,
    /// When the next rotation is due.
    pub next_rotate: Option<Timestamp>,
    /// When the secret expires.
    pub expire: Option<Timestamp>,
    /// The number of the newest revision, counted from 1.
    pub latest: u32,
    /// The content of each revision that was not removed.
    pub revisions: BTreeMap<u32, Bag>,
    /// Application or unit name → the relation of the grant; `None` for a user's secret.
    pub grants: BTreeMap<String, Option<u32>>,
    /// The units that read the secret, with what each tracks.
    pub consumers: BTreeMap<UnitName, Consumer>,
    pub(crate) obsolete_announced: BTreeSet<u32>,
}

/// A unit that read a secret.
#[derive(Clone)]
pub struct Consumer {
    /// The revision that a plain `secret-get` returns.
    pub pin: u32,
    /// The consumer's own label.
    pub label: Option<String>,
    /// Earlier labels of the consumer: up to Juju 3.6 they stay reserved while the secret exists.
    pub(crate) old_labels: BTreeSet<String>,
}

/// How often a secret should be rotated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotate {
    /// Not at all.
    #[default]
    Never,
    /// After an hour.
    Hourly,
    /// After a day.
    Daily,
    /// After seven days.
    Weekly,
    /// On the same day of the next month.
    Monthly,
    /// Three months later.
    Quarterly,
    /// A year later.
    Yearly,
}

/// The changes of one or more `secret-set` calls of a hook.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct SecretUpdate {
    pub(crate) label: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) rotate: Option<Rotate>,
    pub(crate) expire: Option<Timestamp>,
    pub(crate) content: Option<Bag>,
}

impl Secret {
    /// A secret whose first revision is `content`, without metadata.
    pub(crate) fn new(owner: Entity, content: Bag) -> Secret {
        Secret {
            owner,
            label: String::new(),
            description: None,
            rotate: Rotate::Never,
            next_rotate: None,
            expire: None,
            latest: 1,
            revisions: BTreeMap::from([(1, content)]),
            grants: BTreeMap::new(),
            consumers: BTreeMap::new(),
            obsolete_announced: BTreeSet::new(),
        }
    }

    /// The newest content.
    pub fn content(&self) -> &Bag {
        static EMPTY: Bag = Bag::new();
        self.revisions.get(&self.latest).unwrap_or(&EMPTY)
    }

    /// A unit's consumer entry; the first read creates it, with the newest revision at that time.
    pub(crate) fn consumer(&mut self, unit: &UnitName) -> &mut Consumer {
        let pin = self.latest;
        let new = || Consumer { pin, label: None, old_labels: BTreeSet::new() };
        self.consumers.entry(unit.clone()).or_insert_with(new)
    }

    /// Applies new metadata. A value that was set cannot be unset; a secret that already rotates
    /// keeps its date.
    pub(crate) fn describe(&mut self, update: &SecretUpdate, now: Timestamp) {
        if let Some(label) = &update.label {
            self.label.clone_from(label);
        }
        if update.description.is_some() {
            self.description.clone_from(&update.description);
        }
        self.expire = update.expire.or(self.expire);
        if let Some(rotate) = update.rotate {
            self.next_rotate = rotate.after(now).map(|next| self.next_rotate.unwrap_or(next));
            self.rotate = rotate;
        }
    }

    /// Applies new content. Equal content creates no new revision (3.6 and later).
    pub(crate) fn revise(&mut self, content: Bag) {
        if content != *self.content() {
            self.latest += 1;
            self.revisions.insert(self.latest, content);
        }
    }
}

impl Consumer {
    /// Whether this is or was the consumer's label.
    pub(crate) fn had(&self, label: &str) -> bool {
        self.label.as_deref() == Some(label) || self.old_labels.contains(label)
    }

    pub(crate) fn relabel(&mut self, label: &str) {
        let old = self.label.replace(label.to_owned());
        self.old_labels.extend(old.filter(|old| old != label));
    }
}

impl Rotate {
    const ALL: [(&str, Rotate); 7] = [
        ("never", Rotate::Never),
        ("hourly", Rotate::Hourly),
        ("daily", Rotate::Daily),
        ("weekly", Rotate::Weekly),
        ("monthly", Rotate::Monthly),
        ("quarterly", Rotate::Quarterly),
        ("yearly", Rotate::Yearly),
    ];

    /// When the rotation after one at `last` is due.
    pub(crate) fn after(self, last: Timestamp) -> Option<Timestamp> {
        let span = match self {
            Rotate::Never => return None,
            Rotate::Hourly => 1.hour(),
            Rotate::Daily => 1.day(),
            Rotate::Weekly => 7.days(),
            Rotate::Monthly => 1.month(),
            Rotate::Quarterly => 3.months(),
            Rotate::Yearly => 1.year(),
        };
        add(last, span)
    }
}

/// Adds to a date as Go does: days beyond the end of a month continue in the next month, so January
/// 31 plus a month is March 3.
fn add(time: Timestamp, span: Span) -> Option<Timestamp> {
    let time = time.to_zoned(TimeZone::UTC);
    let first = time.with().day(1).build().ok()?;
    let days = i64::from(time.day()) - 1;
    Some(first.checked_add(span).ok()?.checked_add(days.days()).ok()?.timestamp())
}

impl FromStr for Rotate {
    type Err = ();

    fn from_str(text: &str) -> Result<Rotate, ()> {
        Rotate::ALL.iter().find(|(name, _)| *name == text).map(|(_, rotate)| *rotate).ok_or(())
    }
}

impl fmt::Display for Rotate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            Rotate::ALL.iter().find(|(_, rotate)| rotate == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl SecretUpdate {
    /// Merges a later change of the same hook, which takes precedence.
    pub(crate) fn merge(&mut self, later: SecretUpdate) {
        self.label = later.label.or(self.label.take());
        self.description = later.description.or(self.description.take());
        self.rotate = later.rotate.or(self.rotate);
        self.expire = later.expire.or(self.expire);
        self.content = later.content.or(self.content.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(policy: &str, last: &str) -> String {
        let last: Timestamp = last.parse().expect("a time");
        let policy: Rotate = policy.parse().expect("a policy");
        policy.after(last).map(|next| next.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_date_past_the_end_of_a_month_falls_into_the_next() {
        assert_eq!(after("monthly", "2026-01-31T10:00:00Z"), "2026-03-03T10:00:00Z");
        assert_eq!(after("yearly", "2028-02-29T00:00:00Z"), "2029-03-01T00:00:00Z");
        assert_eq!(after("quarterly", "2026-01-01T00:00:00Z"), "2026-04-01T00:00:00Z");
        assert_eq!(after("weekly", "2026-01-31T00:00:00Z"), "2026-02-07T00:00:00Z");
        assert_eq!(after("hourly", "2026-01-31T23:30:00Z"), "2026-02-01T00:30:00Z");
        assert_eq!(after("never", "2026-01-31T00:00:00Z"), "");
    }

    #[test]
    fn a_secret_that_rotates_keeps_its_date_when_the_policy_changes() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut secret = Secret::new(Entity::Model, Bag::new());
        let policy = |rotate| SecretUpdate { rotate: Some(rotate), ..SecretUpdate::default() };
        secret.describe(&policy(Rotate::Daily), now);
        let due = secret.next_rotate;
        assert_eq!(due, Rotate::Daily.after(now));
        secret.describe(&policy(Rotate::Yearly), now);
        assert_eq!((secret.rotate, secret.next_rotate), (Rotate::Yearly, due));
        secret.describe(&policy(Rotate::Never), now);
        assert_eq!(secret.next_rotate, None);
    }
}

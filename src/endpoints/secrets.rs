//! Revisions of our secrets that no one reads any more.

use anyhow::Result;

use crate::event::{Event, JujuVersion, SecretEvent, SecretHook, secret_id};
use crate::look::Look;
use crate::plan::{Effect, Plan};

/// In `secret-remove`.
#[expect(clippy::unnecessary_wraps, reason = "a condition of the table may read and fail")]
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    Ok(matches!(look.event(), Event::Secret(event) if event.hook == SecretHook::Remove))
}

/// Removes the revision that Juju names.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    let leads = look.leads()?;
    Ok(match look.event() {
        Event::Secret(event) => decide(event, look.unit().juju, leads),
        _ => Plan::default(),
    })
}

/// Before Juju 3.6.11 the removal could take other revisions with it, so the revision stays.
fn decide(event: &SecretEvent, juju: JujuVersion, leads: bool) -> Plan {
    let mut plan = Plan::default();
    if let Some(revision) = event.revision.filter(|_| leads && juju.removes_single_revisions()) {
        plan.push(Effect::RemoveSecretRevision { id: secret_id(&event.uri).to_owned(), revision });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_removed_by_the_leader_where_juju_removes_that_one_alone() {
        let event = SecretEvent {
            hook: SecretHook::Remove,
            uri: "secret:abc".into(),
            label: None,
            revision: Some(3),
        };
        let new = JujuVersion(3, 6, 11);
        assert_eq!(decide(&event, new, true).to_string(), "remove revision 3 of secret abc\n");
        assert_eq!(decide(&event, new, false), Plan::default());
        assert_eq!(decide(&event, JujuVersion(3, 6, 10), true), Plan::default());
        assert_eq!(decide(&SecretEvent { revision: None, ..event }, new, true), Plan::default());
    }
}

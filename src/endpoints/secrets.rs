//! Removal of revisions of our secrets that no unit reads any more.

use anyhow::Result;

use crate::event::{Event, JujuVersion, SecretEvent, SecretHook, secret_id};
use crate::look::Look;
use crate::plan::{Effect, Plan};

/// Whether the hook is `secret-remove`.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    Ok(matches!(look.event(), Event::Secret(event) if event.hook == SecretHook::Remove))
}

/// Removes the revision that the hook names.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    let leads = look.leads()?;
    Ok(match look.event() {
        Event::Secret(event) => decide(event, look.unit().juju, leads),
        _ => Plan::default(),
    })
}

/// Decides whether to remove the revision. Juju before 3.6.11 may remove other revisions with it,
/// so there the revision stays.
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
    fn the_leader_removes_a_revision_if_juju_removes_no_other_with_it() {
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

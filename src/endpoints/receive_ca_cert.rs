//! The relation `receive-ca-cert` (interface `certificate_transfer`): CAs that the operator trusts,
//! for clients' certificates and PostgreSQL's.
//!
//! The row only notes the relations. [`Look::checked_tls`] reads the CAs when an option needs them.

use anyhow::Result;

use crate::event::{Endpoint, RelationId};
use crate::look::Look;
use crate::notes::EndpointNote;
use crate::plan::{Bag, Note, Plan};

/// The key and value that ask the provider for version 1 of the interface. Without it the provider
/// uses version 0, in which each unit's bag has the CAs.
const VERSION: (&str, &str) = ("version", "1");

/// The input of [`decide`].
struct Seen {
    relations: Vec<RelationId>,
    leads: bool,
}

/// Whether the row is due without a hook of the relation.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    Ok(look.is_first_for(Endpoint::ReceiveCaCert))
}

/// Gathers the facts and decides.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    let seen = Seen { relations: look.relations(Endpoint::ReceiveCaCert)?, leads: look.leads()? };
    Ok(decide(&seen))
}

fn decide(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    if seen.leads {
        for relation in &seen.relations {
            plan.set(Bag::App(*relation), VERSION.0, VERSION.1);
        }
    }
    let note = EndpointNote { relations: seen.relations.clone(), ..EndpointNote::default() };
    plan.note(Note::Endpoint(Endpoint::ReceiveCaCert, note));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_leader_asks_for_version_1_and_every_unit_notes_the_relations() {
        let decide = |leads| decide(&Seen { relations: vec![RelationId(8)], leads }).to_string();
        let note = "note receive-ca-cert: relations [RelationId(8)]\n";
        assert_eq!(decide(false), note);
        assert_eq!(decide(true), format!("set app 8 version = 1\n{note}"));
    }
}

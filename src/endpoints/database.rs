//! The relation `database` with clients.
//!
//! A dispatch handles clients in two rows. It [admits](mod@admit) a client's request before the
//! processes load their configuration, and [answers](mod@answer) the client with its credentials
//! after all units have loaded the client's database.

pub mod admit;
pub mod answer;
pub mod client;
pub mod queue;
pub mod reach;
pub mod serving;

use anyhow::Result;

pub use self::admit::plan as admit;
pub use self::answer::plan as answer;
use self::queue::ClientQueue;
use crate::event::RelationId;
use crate::look::Look;
use crate::notes::{ClientNote, Trust};
use crate::pgbouncer::Origin;

/// The facts that decide whether the row is due without a hook of a client.
struct Due {
    trust: Trust,
    /// The client relations.
    relations: Vec<RelationId>,
    /// The relations with an entry in the databases; `None` if the databases are missing or broken.
    entered: Option<Vec<RelationId>>,
    /// This hook compares PostgreSQL with the databases.
    is_compared: bool,
    /// The peer app bag has databases, valid or not.
    is_published: bool,
    /// A client may use every database.
    has_wildcard: bool,
    queue: ClientQueue,
}

/// Whether the leader may have work for a client in a hook that is not the client's own.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    if look.event().may_follow_missed_hooks() {
        return Ok(true);
    }
    if !look.leads()? {
        return Ok(false);
    }
    let databases = look.databases()?;
    let is_known = databases.text.is_some();
    let needs_relations = !is_known || look.trust() == Trust::Recheck;
    let due = Due {
        trust: look.trust(),
        relations: if needs_relations { look.client_relations()? } else { Vec::new() },
        entered: is_known.then(|| {
            databases
                .entries
                .0
                .keys()
                .filter_map(|origin| origin.relation())
                .map(RelationId)
                .collect()
        }),
        is_compared: admit::compares(look)?,
        is_published: is_known || databases.broken.is_some(),
        has_wildcard: databases.entries.0.contains_key(&Origin::Wildcard),
        queue: ClientQueue::gather(look)?,
    };
    Ok(is_needed(&due))
}

fn is_needed(due: &Due) -> bool {
    let Due { trust, relations, entered, is_compared, is_published, has_wildcard, queue } = due;
    // Missing or broken databases are rebuilt from the relations before they are loaded.
    let is_lost = entered.is_none() && (*is_published || !relations.is_empty());
    // Databases that no client requested by name appear and disappear without a hook, and an
    // operator may have skipped a client's hook.
    let is_unseen = *trust == Trust::Recheck
        && entered.as_ref().is_some_and(|entered| {
            *has_wildcard || !relations.iter().all(|relation| entered.contains(relation))
        });
    let is_looked_at = *is_compared && entered.as_ref().is_some_and(|entered| !entered.is_empty());
    let is_missing = queue.notes.notes.values().any(|note| *note == ClientNote::Missing);
    is_lost || is_unseen || is_looked_at || is_missing || !queue.is_noted()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notes::ClientNotes;

    fn due() -> Due {
        Due {
            trust: Trust::Full,
            relations: vec![RelationId(6)],
            entered: Some(vec![RelationId(6)]),
            is_compared: false,
            is_published: true,
            has_wildcard: false,
            queue: ClientQueue { published: String::new(), notes: ClientNotes::default() },
        }
    }

    #[test]
    fn nothing_is_due_if_every_client_is_entered_and_noted() {
        assert!(!is_needed(&due()));
        assert!(is_needed(&Due { is_compared: true, ..due() }));
        let none = Due { relations: Vec::new(), entered: Some(Vec::new()), ..due() };
        assert!(!is_needed(&Due { is_compared: true, ..none }));
    }

    #[test]
    fn the_row_is_due_for_lost_databases_and_unseen_clients() {
        assert!(is_needed(&Due { entered: None, ..due() }));
        assert!(is_needed(&Due { entered: None, relations: Vec::new(), ..due() }));
        let none = Due { entered: None, relations: Vec::new(), is_published: false, ..due() };
        assert!(!is_needed(&none));
        assert!(is_needed(&Due { trust: Trust::Recheck, entered: Some(Vec::new()), ..due() }));
        assert!(!is_needed(&Due { entered: Some(Vec::new()), ..due() }));
        assert!(is_needed(&Due { trust: Trust::Recheck, has_wildcard: true, ..due() }));
    }

    #[test]
    fn the_row_is_due_until_the_leader_has_noted_the_queue() {
        let queue = |published: &str, of: &str| ClientQueue {
            published: published.into(),
            notes: ClientNotes { queue: of.into(), ..ClientNotes::default() },
        };
        assert!(is_needed(&Due { queue: queue("6", ""), ..due() }));
        assert!(is_needed(&Due { queue: queue("6 7", "6"), ..due() }));
        assert!(!is_needed(&Due { queue: queue("6", "6"), ..due() }));
        let mut missing = queue("6", "6");
        missing.notes.notes.insert(RelationId(6), ClientNote::Missing);
        assert!(is_needed(&Due { queue: missing, ..due() }));
    }
}

//! The queue of clients with work left, and the choice of the clients that a hook reads.
//!
//! A client's own hook reads the client's bag. Other hooks read the bag only if it may have
//! changed, so that the cost of a hook does not grow with the number of clients.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::event::RelationId;
use crate::facts::configuration::Databases;
use crate::facts::units::{LoadedUnit, behind};
use crate::look::Look;
use crate::notes::{ClientNote, ClientNotes, Trust};
use crate::peer_bag::QUEUE;
use crate::pgbouncer::{Origin, PgbDbs};
use crate::plan::{Bag, Note, Plan, Value};

/// The number of `update-status` hooks after which a client stops waiting for units.
const LAST_UPDATE_STATUS: u32 = 2;

/// The queue of clients that may have no answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientQueue {
    /// The queue in the peer app bag.
    pub published: String,
    /// The leader's own notes.
    pub notes: ClientNotes,
}

impl ClientQueue {
    /// Reads the queue from the bag and the notes.
    pub fn gather(look: &mut Look<'_>) -> Result<Self> {
        let published = look.app_bag()?.text(QUEUE).unwrap_or_default().to_owned();
        Ok(Self { published, notes: look.notes().clients.clone() })
    }

    /// Whether the notes belong to the queue in the bag. They do not until a new leader has read
    /// the clients in the queue.
    pub fn is_noted(&self) -> bool {
        self.published.is_empty() || self.notes.queue == self.published
    }

    /// The clients that may wait: by the notes if they are trusted, else the whole queue.
    pub fn waiting(&self, trust: Trust) -> Vec<RelationId> {
        if trust.counts_notes() && self.is_noted() {
            self.noted_as(|note| matches!(note, ClientNote::Waiting(_) | ClientNote::AsksForMore))
        } else {
            relation_ids(&self.published)
        }
    }

    /// The clients whose note satisfies `is_such`.
    pub fn noted_as(&self, is_such: impl Fn(ClientNote) -> bool) -> Vec<RelationId> {
        let such = self.notes.notes.iter().filter(|(_, note)| is_such(**note));
        such.map(|(relation, _)| *relation).collect()
    }

    /// The noted number of `update-status` hooks during a client's wait for units.
    fn count(&self, relation: RelationId) -> u32 {
        match self.notes.notes.get(&relation) {
            Some(ClientNote::Waiting(count)) if self.is_noted() => *count,
            _ => 0,
        }
    }

    /// The plan that stores the notes and the queue. A changed queue wakes every unit, so it is
    /// written only if the databases change too, or if it lacks a client.
    pub fn note(&self, mut notes: ClientNotes, are_databases_new: bool) -> Plan {
        let mut plan = Plan::default();
        for (relation, note) in &mut notes.notes {
            if let ClientNote::Waiting(count) = note {
                *count = self.count(*relation);
            }
        }
        let waits =
            |note: &ClientNote| matches!(note, ClientNote::Waiting(_) | ClientNote::AsksForMore);
        let waiting: Vec<_> =
            notes.notes.iter().filter(|(_, note)| waits(note)).map(|(id, _)| *id).collect();
        notes.queue.clone_from(&self.published);
        let known = relation_ids(&self.published);
        if are_databases_new || !waiting.iter().all(|id| known.contains(id)) {
            notes.queue = ids(&waiting);
            let queue = notes.queue.as_str();
            plan.set(
                Bag::PeerApp,
                QUEUE,
                if queue.is_empty() { Value::Absent } else { queue.into() },
            );
        }
        if notes != self.notes {
            plan.note(Note::Clients(notes));
        }
        plan
    }
}

/// The facts that decide which requests a hook reads.
pub struct Selection<'a> {
    /// The client to which the hook belongs.
    pub own: Option<RelationId>,
    /// Which notes are trusted.
    pub trust: Trust,
    /// The client relations.
    pub relations: &'a [RelationId],
    /// The databases by relation.
    pub databases: &'a PgbDbs,
    /// The queue of clients that may have no answer yet.
    pub queue: &'a ClientQueue,
}

impl Selection<'_> {
    /// The clients whose request may be new, or was rejected: the status reports a rejected request
    /// in every hook until the request changes.
    pub fn requests(&self) -> Vec<RelationId> {
        let waiting = self.queue.waiting(self.trust);
        let asks_for_more = self.queue.noted_as(|note| note == ClientNote::AsksForMore);
        let is_refused = |id: &RelationId| {
            let is_known = self.trust.counts_notes() && self.queue.is_noted();
            waiting.contains(id)
                && (!is_known || !self.is_entered(*id) || asks_for_more.contains(id))
        };
        // A client makes its request in a hook of its own, which an operator may have skipped.
        let is_unseen = |id: &RelationId| self.trust != Trust::Full && !self.is_entered(*id);
        let relations = self.relations.iter().copied();
        relations.filter(|id| self.own == Some(*id) || is_refused(id) || is_unseen(id)).collect()
    }

    fn is_entered(&self, id: RelationId) -> bool {
        self.databases.0.contains_key(&Origin::Relation(id.0))
    }
}

/// The facts that decide which units a client waits for.
pub struct Steps<'a> {
    /// Every unit of the application.
    pub units: &'a [LoadedUnit],
    /// The databases after this dispatch.
    pub now: &'a Databases,
    /// The databases before this dispatch. A unit that has loaded them also serves each client that
    /// has an entry in both.
    pub before: &'a Databases,
    /// This hook is an `update-status`, which counts for every client that waits.
    pub is_update_status: bool,
}

impl Steps<'_> {
    /// The number of `update-status` hooks during a client's wait, including this hook.
    pub fn count(&self, id: RelationId, queue: &ClientQueue) -> u32 {
        queue.count(id) + u32::from(self.is_update_status)
    }

    /// Whether a client still has to wait for units.
    pub fn must_wait(&self, id: RelationId, queue: &ClientQueue) -> bool {
        !self.awaited(id, self.count(id, queue) < LAST_UPDATE_STATUS).is_empty()
    }

    /// The units for which a client waits. With `waits_on` false the client has waited long enough.
    pub fn awaited(&self, id: RelationId, waits_on: bool) -> BTreeSet<String> {
        let (entries, before) = (&self.now.entries.0, &self.before.entries.0);
        // A client that is entered in this dispatch makes every unit load new databases anyway.
        let is_new = entries.iter().any(|(origin, entry)| before.get(origin) != Some(entry));
        let behind = |databases: &Databases| -> BTreeSet<String> {
            behind(self.units, &databases.hash(), waits_on).into_iter().collect()
        };
        let now = behind(self.now);
        if is_new || !entries.contains_key(&Origin::Relation(id.0)) {
            return now;
        }
        now.intersection(&behind(self.before)).cloned().collect()
    }
}

/// Renders relation numbers, separated by spaces.
fn ids(relations: &[RelationId]) -> String {
    relations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Parses relation numbers that are separated by spaces.
fn relation_ids(text: &str) -> Vec<RelationId> {
    text.split(' ').filter_map(|id| id.parse().ok().map(RelationId)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::configuration::tests::databases;

    fn queue(published: &str, of: &str, notes: &[(u32, ClientNote)]) -> ClientQueue {
        let notes = notes.iter().map(|(id, note)| (RelationId(*id), *note)).collect();
        ClientQueue { published: published.into(), notes: ClientNotes { queue: of.into(), notes } }
    }

    fn relations(ids: &[u32]) -> Vec<RelationId> {
        ids.iter().copied().map(RelationId).collect()
    }

    const WAITS: ClientNote = ClientNote::Waiting(0);

    #[test]
    fn the_notes_list_the_waiting_clients_unless_another_leader_wrote_the_queue() {
        let noted = queue("5 6", "5 6", &[(5, WAITS), (7, ClientNote::Missing)]);
        assert_eq!(noted.waiting(Trust::Full), relations(&[5]));
        assert_eq!(noted.waiting(Trust::Recheck), relations(&[5]));
        // A new leader, or one that leads again after another unit did, uses the whole queue.
        assert_eq!(noted.waiting(Trust::NewLeader), relations(&[5, 6]));
        assert_eq!(queue("5 6", "5", &[(5, WAITS)]).waiting(Trust::Full), relations(&[5, 6]));
        assert_eq!(queue("", "", &[]).waiting(Trust::Full), relations(&[]));
    }

    #[test]
    fn the_queue_in_the_bag_changes_only_with_the_databases_or_a_new_client() {
        let notes = |ids: &[u32]| ClientNotes {
            notes: ids.iter().map(|id| (RelationId(*id), WAITS)).collect(),
            ..ClientNotes::default()
        };
        let known = queue("5 6", "", &[]);
        assert_eq!(known.note(notes(&[5]), false).to_string(), "note clients 5 Waiting(0)\n");
        let with_databases = known.note(notes(&[5]), true).to_string();
        assert_eq!(with_databases, "set peer app newest_clients = 5\nnote clients 5 Waiting(0)\n");
        let new = known.note(notes(&[5, 8]), false).to_string();
        assert!(new.starts_with("set peer app newest_clients = 5 8\n"), "{new}");
        assert_eq!(queue("5", "5", &[(5, WAITS)]).note(notes(&[5]), false), Plan::default());
        let none = queue("5", "5", &[(5, WAITS)]).note(notes(&[]), true).to_string();
        assert_eq!(none, "remove peer app newest_clients\nnote no clients\n");
    }

    #[test]
    fn the_wait_of_each_client_is_counted_separately() {
        let old = queue("5 6", "5 6", &[(5, ClientNote::Waiting(1)), (6, WAITS)]);
        let notes = ClientNotes {
            notes: [(RelationId(5), WAITS), (RelationId(6), WAITS)].into(),
            ..ClientNotes::default()
        };
        assert_eq!(old.note(notes, false), Plan::default());
        let (units, databases) = ([], Databases::default());
        let steps = |is_update_status| Steps {
            units: &units,
            now: &databases,
            before: &databases,
            is_update_status,
        };
        assert_eq!(steps(true).count(RelationId(5), &old), 2);
        assert_eq!(steps(true).count(RelationId(6), &old), 1);
        assert_eq!(steps(false).count(RelationId(5), &old), 1);
    }

    #[test]
    fn a_hook_reads_the_requests_of_its_own_client_and_of_rejected_clients() {
        let entered = databases(&[(5, "a"), (6, "b"), (7, "c")]).entries;
        // 8 was rejected, 7 is answered but requests something unsupported, 9 has no request.
        let queue =
            queue("5 7 8", "5 7 8", &[(5, WAITS), (7, ClientNote::AsksForMore), (8, WAITS)]);
        let all = relations(&[5, 6, 7, 8, 9]);
        let requests = |own: Option<u32>, trust| {
            let own = own.map(RelationId);
            Selection { own, trust, relations: &all, databases: &entered, queue: &queue }.requests()
        };
        assert_eq!(requests(None, Trust::Full), relations(&[7, 8]));
        assert_eq!(requests(Some(6), Trust::Full), relations(&[6, 7, 8]));
        // An operator may have skipped the hook with a request.
        assert_eq!(requests(None, Trust::Recheck), relations(&[7, 8, 9]));
        assert_eq!(requests(None, Trust::NewLeader), relations(&[5, 7, 8, 9]));
    }

    fn unit(name: &str, loaded: &Databases, counts: bool) -> LoadedUnit {
        LoadedUnit { unit: name.into(), loaded: Some(loaded.hash()), counts }
    }

    #[test]
    fn a_client_waits_for_units_until_the_second_update_status() {
        let (before, now) = (databases(&[(5, "a")]), databases(&[(5, "a"), (6, "b")]));
        let units =
            [unit("p/0", &now, true), unit("p/1", &before, true), unit("p/2", &before, false)];
        let late = |count, is_update_status| {
            let steps = Steps { units: &units, now: &now, before: &now, is_update_status };
            steps.must_wait(RelationId(6), &queue("6", "6", &[(6, ClientNote::Waiting(count))]))
        };
        assert!(late(0, false) && late(0, true) && late(1, false));
        assert!(!late(1, true) && !late(2, false));
        let steps = Steps { units: &units, now: &now, before: &now, is_update_status: false };
        assert_eq!(steps.awaited(RelationId(6), true), BTreeSet::from(["p/1".to_owned()]));
        // While no unit has loaded the database, the client waits on.
        let nobody = Steps { units: &units[1..], ..steps };
        assert!(nobody.must_wait(RelationId(6), &queue("6", "6", &[(6, ClientNote::Waiting(2))])));
    }

    #[test]
    fn a_unit_with_the_previous_databases_serves_the_clients_in_both() {
        let (before, now) = (databases(&[(5, "a"), (6, "b")]), databases(&[(6, "b")]));
        let units = [unit("p/0", &before, true), unit("p/1", &before, true)];
        let steps = Steps { units: &units, now: &now, before: &before, is_update_status: false };
        let queue = queue("6 7", "6 7", &[(6, WAITS), (7, WAITS)]);
        assert!(!steps.must_wait(RelationId(6), &queue));
        assert!(steps.must_wait(RelationId(7), &queue));
    }

    #[test]
    fn a_leader_that_has_not_noted_the_queue_reads_the_bags_of_all_in_it() {
        let entered = databases(&[(5, "a"), (6, "b")]).entries;
        // Both may have their answer since long: the queue in the bag is cut only with the
        // databases.
        let queue = queue("5 6", "", &[]);
        let all = relations(&[5, 6]);
        let selection = Selection {
            own: None,
            trust: Trust::Full,
            relations: &all,
            databases: &entered,
            queue: &queue,
        };
        assert_eq!(selection.requests(), all);
    }

    #[test]
    fn a_client_that_asks_for_another_database_waits_for_the_units_to_load_that_one() {
        let (before, now) = (databases(&[(6, "a")]), databases(&[(6, "b")]));
        let units = [unit("p/0", &before, true), unit("p/1", &before, true)];
        let steps = Steps { units: &units, now: &now, before: &before, is_update_status: false };
        assert!(steps.must_wait(RelationId(6), &queue("6", "6", &[(6, WAITS)])));
    }
}

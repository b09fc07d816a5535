//! Admission of clients: enters their requests into the databases before the databases are loaded,
//! and removes the roles and entries of ended relations.

use anyhow::Result;

use super::client::{self, Client, Request, Standing};
use super::queue::{ClientQueue, Selection};
use super::serving::ServingBackend;
use crate::event::{Endpoint, RelationId};
use crate::facts::Texts;
use crate::facts::configuration::{Databases, missing};
use crate::facts::lookup::GetAuth;
use crate::look::Look;
use crate::notes::{ClientNote, ClientNotes, Trust};
use crate::peer_bag::{DATABASES, GET_AUTH, OTHER_DATABASES, role};
use crate::pgbouncer::databases::python_list;
use crate::pgbouncer::{DatabaseName, Entry, Origin, PgbDbs};
use crate::plan::{Bag, Effect, Plan, Value};
use crate::postgres::{Lack, Place, ServerVersion};
use crate::status::{ClientName, Wait};

/// The input of [`decide`]; only the leader admits clients.
pub struct Admission {
    /// Whether this version of Juju has secrets.
    pub has_secrets: bool,
    /// The databases by relation.
    pub databases: Databases,
    /// The existing relations of clients.
    pub relations: Vec<RelationId>,
    /// The relation that this hook ends, with our app bag.
    pub ended: Option<(RelationId, Texts)>,
    /// The clients whose requests were read.
    pub clients: Vec<Client>,
    /// The queue of clients without an answer, and the leader's notes.
    pub queue: ClientQueue,
    /// The clients that may wait for an answer.
    pub waiting: Vec<RelationId>,
    /// Clients of another endpoint may use every database.
    pub others_reach_all: bool,
    /// PostgreSQL's version from `backend-database`.
    pub version: Option<ServerVersion>,
    /// The state of PostgreSQL.
    pub backend: ServingBackend,
    /// The clients that have their credentials, but lack something in PostgreSQL; `None` if this
    /// hook did not compare them.
    pub lost: Option<Vec<(ClientName, Lack)>>,
    /// The databases that no client requested by name: the published text; and, if PostgreSQL was
    /// queried, the current names with whether each has the lookup's function.
    pub others: (Option<String>, Option<Vec<(String, bool)>>),
    /// The beginning of the comment on every role of this application.
    pub comment_prefix: String,
}

/// Gathers the facts and decides; a follower admits no client.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    if look.leads()? { Ok(decide(&gather(look)?)) } else { Ok(Plan::default()) }
}

fn gather(look: &mut Look<'_>) -> Result<Admission> {
    let databases = look.databases()?.as_ref().clone();
    let relations = look.client_relations()?;
    let queue = ClientQueue::gather(look)?;
    let trust = look.trust();
    let ended = look.ended(Endpoint::Database);
    let own = look.event_of(Endpoint::Database).map(|event| event.relation);
    let has_gone = !missing(&relations, &databases.entries).is_empty();
    let has_wildcard = databases.entries.wildcard().is_some();
    let all = trust == Trust::Nothing
        // Whether the wildcard is still needed depends on the bags of all clients.
        || (has_gone && has_wildcard)
        || !look.published()?.is_ours();
    let read = if all {
        relations.clone()
    } else {
        let (relations, databases, queue) = (&relations[..], &databases.entries, &queue);
        Selection { own, trust, relations, databases, queue }.requests()
    };
    let mut clients = Vec::new();
    for relation in read {
        let is_entered = databases.entries.0.contains_key(&Origin::Relation(relation.0));
        let standing = if is_entered { Standing::Entered } else { Standing::Unknown };
        clients.push(client::read(look, relation, standing)?);
    }
    let reaches_all = has_wildcard || clients.iter().any(|c| c.roles().reach_every_database());
    let mut backend = ServingBackend::NotNeeded;
    if has_gone || reaches_all {
        backend = ServingBackend::gather(look)?;
    }
    let mut lost = None;
    if compares(look)? && !databases.entries.0.is_empty() {
        backend = ServingBackend::gather(look)?;
        if matches!(backend, ServingBackend::Ready { .. }) {
            let waiting = queue.waiting(trust);
            let is_answered = |id: &RelationId| {
                let read = clients.iter().find(|client| client.relation == *id);
                read.map_or(!waiting.contains(id), |client| client.is_answered)
            };
            match lost_clients(look, &databases.entries, &backend, &is_answered)? {
                Ok(found) => lost = Some(found),
                Err(wait) => backend = ServingBackend::Waiting(wait),
            }
        }
    }
    let others = match &backend {
        ServingBackend::Ready { lookup, .. } if reaches_all => look.other_databases(lookup)?,
        _ => None,
    };
    Ok(Admission {
        has_secrets: look.has_secrets(),
        ended: match ended {
            Some(relation) => Some((relation, look.bag(Bag::App(relation))?.clone())),
            None => None,
        },
        others_reach_all: has_wildcard && !look.relations(Endpoint::DbAdmin)?.is_empty(),
        version: look.backend()?.and_then(|backend| backend.version),
        waiting: queue.waiting(trust),
        others: (look.app_bag()?.text(OTHER_DATABASES).map(str::to_owned), others),
        comment_prefix: look.comment_prefix(),
        databases,
        relations,
        clients,
        queue,
        backend,
        lost,
    })
}

/// Whether this hook compares the clients with what PostgreSQL has for them.
pub(super) fn compares(look: &mut Look<'_>) -> Result<bool> {
    let is_new = look.app_bag()?.get_auth().is_some_and(|note| note.lacks_clients());
    Ok(is_new || look.inspects_postgres())
}

/// The clients that have their credentials, but lack something in PostgreSQL. A look into each
/// database takes a connection, so only a hook without trust in any note does that.
fn lost_clients(
    look: &mut Look<'_>,
    databases: &PgbDbs,
    backend: &ServingBackend,
    is_answered: &dyn Fn(&RelationId) -> bool,
) -> Result<Result<Vec<(ClientName, Lack)>, Wait>> {
    let trust = look.trust();
    let auth_user = match backend {
        ServingBackend::Ready { lookup, .. } if lookup.everywhere => {
            Some(lookup.auth_user.as_str())
        }
        _ => None,
    };
    let prefix = look.comment_prefix();
    let (mut clients, mut places) = (Vec::new(), Vec::new());
    for (origin, entry) in databases.0.iter().filter(|(_, entry)| !entry.legacy) {
        let Some(relation) = origin.relation().map(RelationId).filter(is_answered) else {
            continue;
        };
        let application = look.notes().remote_apps.get(&relation).cloned();
        clients.push(ClientName { relation, application });
        places.push(Place {
            role: role(relation),
            database: entry.name.clone(),
            comment: client::comment(&prefix, relation),
        });
    }
    let lacks = look.ask(|server| {
        let mut lacks = server.lacks(&places, auth_user)?;
        if trust == Trust::Nothing {
            server.add_lacks_of_content(&places, &mut lacks)?;
        }
        Ok(lacks)
    })?;
    Ok(lacks.map(|lacks| {
        let lacks = clients.into_iter().zip(lacks);
        lacks.filter_map(|(client, lack)| Some((client, lack?))).collect()
    }))
}

/// Enters requests that can be served, reports the others, and removes the roles and entries of
/// ended relations.
pub fn decide(seen: &Admission) -> Plan {
    let mut plan = Plan::default();
    if let Some((relation, app)) = &seen.ended {
        // Clear the bag: a suspended relation starts over, and the secrets in the bag are removed.
        for key in app.keys() {
            plan.set(Bag::App(*relation), key, Value::Absent);
        }
    }
    let mut databases = seen.databases.entries.clone();
    let mut notes = seen.notes_of_others();
    for (client, lack) in seen.lost.iter().flatten() {
        if seen.relations.contains(&client.relation) {
            let text = format!("{client}: in PostgreSQL {lack}; the charm repairs this");
            plan.push(Effect::Warn(text));
            notes.notes.insert(client.relation, ClientNote::Restored);
        }
    }
    let mut requests = Vec::new();
    for client in &seen.clients {
        let origin = Origin::Relation(client.relation.0);
        if !client.remote.is_empty() {
            plan.append(client::seen_data(Bag::App(client.relation), &client.app, &client.remote));
        }
        match client.request(seen.has_secrets, seen.version, &databases) {
            Ok(Some(request)) => {
                let entry =
                    Entry { name: request.database.clone(), legacy: false, auth_dbname: None };
                let is_new = databases.0.insert(origin, entry).is_none();
                // A later request that is not supported is reported; the client is still served.
                let refusal = client.not_served().filter(|_| client.is_answered);
                let known = seen.queue.notes.notes.get(&client.relation);
                let is_lost = notes.notes.get(&client.relation) == Some(&ClientNote::Restored);
                let is_restored = is_new || is_lost || known == Some(&ClientNote::Restored);
                let note = match (client.is_answered, &refusal) {
                    (false, _) => Some(ClientNote::Waiting(0)),
                    (true, _) if is_restored => Some(ClientNote::Restored),
                    (true, Some(_)) => Some(ClientNote::AsksForMore),
                    (true, None) => None,
                };
                notes.notes.extend(note.map(|note| (client.relation, note)));
                plan.waits.extend(refusal.map(|reason| Wait::Client(client.name(), reason)));
                requests.push(request);
            }
            Ok(None) => {}
            Err(reason) => {
                databases.0.remove(&origin);
                notes.notes.insert(client.relation, ClientNote::Waiting(0));
                plan.waits.push(Wait::Client(client.name(), reason));
            }
        }
    }
    enter_wildcard(seen, &requests, &mut databases);
    // Equal content keeps its text, also that of the Python charm, and so its hash.
    let before = seen.databases.text.as_ref();
    let text = match before {
        Some(text) if databases == seen.databases.entries => text.clone(),
        _ => databases.render(),
    };
    let is_nothing = databases.0.is_empty() && before.is_none();
    plan.set(
        Bag::PeerApp,
        DATABASES,
        if is_nothing { Value::Absent } else { text.as_str().into() },
    );
    plan.append(enter_others(seen, &databases));

    let missing = missing(&seen.relations, &databases);
    notes.notes.extend(missing.iter().map(|relation| (*relation, ClientNote::Missing)));
    plan.append(seen.queue.note(notes, Some(&text) != before));
    if let (Some(_), ServingBackend::Ready { lookup, .. }) = (&seen.lost, &seen.backend) {
        plan.set(Bag::PeerApp, GET_AUTH, GetAuth::installed(lookup, true).to_string());
    }
    plan.append(remove_ended(seen, &missing));
    plan
}

impl Admission {
    /// The notes on clients whose requests were not read.
    fn notes_of_others(&self) -> ClientNotes {
        let is_read = |id: RelationId| self.clients.iter().any(|client| client.relation == id);
        let is_there = |id: RelationId| self.relations.contains(&id) && !is_read(id);
        let known = &self.queue.notes.notes;
        let note = |id: &RelationId| {
            let known = known.get(id).filter(|note| **note != ClientNote::Missing);
            (*id, known.copied().unwrap_or(ClientNote::Waiting(0)))
        };
        let restored = self.queue.noted_as(|note| note == ClientNote::Restored);
        let others = self.waiting.iter().chain(&restored).filter(|id| is_there(**id)).map(note);
        ClientNotes { queue: String::new(), notes: others.collect() }
    }

    /// Whether a missing relation has ended.
    fn is_gone(&self, relation: RelationId) -> bool {
        self.queue.notes.notes.get(&relation) == Some(&ClientNote::Missing)
            || self.ended.as_ref().is_some_and(|(ended, _)| *ended == relation)
    }
}

/// Removes the roles and entries of ended relations. The entry is removed after the role: as long
/// as the entry exists, a later hook retries.
fn remove_ended(seen: &Admission, missing: &[RelationId]) -> Plan {
    let mut plan = Plan::default();
    let gone = missing.iter().copied().filter(|relation| seen.is_gone(*relation));
    match &seen.backend {
        ServingBackend::NotNeeded => {}
        ServingBackend::Waiting(wait) => {
            if *wait == Wait::NoBackend {
                // Without PostgreSQL there is no role to drop.
                gone.for_each(|relation| plan.push(Effect::ForgetClient(relation)));
            }
            return plan.wait(wait.clone());
        }
        ServingBackend::Ready { .. } => gone.for_each(|relation| {
            let mut part = Plan::default();
            let comment = client::comment(&seen.comment_prefix, relation);
            part.push(Effect::DropClient { role: role(relation), comment });
            part.push(Effect::ForgetClient(relation));
            plan.push_apart(part);
        }),
    }
    plan
}

/// Enters the wildcard `*` while the roles of a client reach every database, and removes it after
/// the last. Its entry names the database in which PgBouncer looks up such clients.
fn enter_wildcard(seen: &Admission, requests: &[Request<'_>], databases: &mut PgbDbs) {
    let holders: Vec<&str> = requests
        .iter()
        .filter(|request| request.roles.reach_every_database())
        .map(|request| request.database.as_str())
        .collect();
    let is_complete = seen.relations.len() == seen.clients.len()
        && missing(&seen.relations, databases).iter().all(|relation| seen.is_gone(*relation));
    let current = databases.wildcard();
    let stands = current.is_some_and(|entry| {
        let is_held = entry.auth_dbname.as_deref().is_some_and(|name| holders.contains(&name));
        is_held || !is_complete || (holders.is_empty() && seen.others_reach_all)
    });
    if stands {
        return;
    }
    match holders.first() {
        Some(name) => {
            let auth_dbname = Some((*name).to_owned());
            databases
                .0
                .insert(Origin::Wildcard, Entry { name: "*".into(), legacy: false, auth_dbname });
        }
        None => {
            databases.0.remove(&Origin::Wildcard);
        }
    }
}

/// Publishes the databases that no client requested by name, so that a client that may use every
/// database can read each from the replicas.
fn enter_others(seen: &Admission, databases: &PgbDbs) -> Plan {
    let mut plan = Plan::default();
    match &seen.others {
        (_, Some(others)) if databases.wildcard().is_some() => {
            let unnamed = others.iter().map(|(name, _)| name.as_str()).filter(|other| {
                DatabaseName::parse(other).is_ok() && databases.names().all(|name| name != *other)
            });
            plan.set(Bag::PeerApp, OTHER_DATABASES, python_list(unnamed));
            if let ServingBackend::Ready { lookup, .. } = &seen.backend
                && lookup.everywhere
            {
                let lacking = others.iter().filter(|(_, has_function)| !has_function);
                let databases: Vec<_> = lacking.map(|(name, _)| name.clone()).collect();
                let (auth_user, mut part) = (lookup.auth_user.clone(), Plan::default());
                if !databases.is_empty() {
                    part.push(Effect::InstallGetAuth { databases, auth_user });
                }
                plan.push_apart(part);
            }
        }
        (Some(text), _) if databases.wildcard().is_none() && text != "[]" => {
            plan.set(Bag::PeerApp, OTHER_DATABASES, Value::Absent);
        }
        _ => {}
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{CRM, REQUEST, answered_client, client, texts};
    use super::*;
    use crate::facts::lookup::Lookup;
    use crate::plan::Note;

    fn lookup() -> Lookup {
        Lookup { auth_user: "auth".into(), database: "pgbouncer".into(), everywhere: false }
    }

    fn ready() -> ServingBackend {
        ServingBackend::Ready { version: Some("15.18".into()), lookup: lookup() }
    }

    fn queue(notes: &[(u32, ClientNote)]) -> ClientQueue {
        let notes = notes.iter().map(|(id, note)| (RelationId(*id), *note)).collect();
        ClientQueue { published: String::new(), notes: ClientNotes { queue: String::new(), notes } }
    }

    fn seen(clients: Vec<Client>) -> Admission {
        Admission {
            has_secrets: true,
            databases: Databases::default(),
            relations: clients.iter().map(|client| client.relation).collect(),
            ended: None,
            clients,
            queue: queue(&[]),
            waiting: Vec::new(),
            others_reach_all: false,
            version: ServerVersion::parse("15.18"),
            backend: ready(),
            lost: None,
            others: (None, None),
            comment_prefix: "model m".into(),
        }
    }

    /// Adds these databases to the bag.
    fn with(text: &str, mut seen: Admission) -> Admission {
        let entries = PgbDbs::parse(text).expect("valid");
        seen.databases = Databases { text: Some(text.into()), entries, broken: None };
        seen
    }

    /// The databases that the plan sets.
    fn entered(plan: &Plan) -> String {
        let set = plan.effects().find_map(|effect| match effect {
            Effect::Set(_, key, Value::Text(text)) if key == DATABASES => Some(text.clone()),
            _ => None,
        });
        set.expect("the databases are entered")
    }

    /// The notes that the plan stores on clients.
    fn noted(plan: &Plan) -> Vec<(u32, ClientNote)> {
        let notes = plan.effects().find_map(|effect| match effect {
            Effect::Note(Note::Clients(clients)) => Some(&clients.notes),
            _ => None,
        });
        notes.into_iter().flatten().map(|(id, note)| (id.0, *note)).collect()
    }

    #[track_caller]
    fn check(seen: &Admission, expected: &str) {
        assert_eq!(decide(seen).to_string().trim(), expected.trim());
    }

    #[test]
    fn a_client_that_lacks_something_in_postgresql_is_repaired_and_reported() {
        let mut seen = with(r#"{"6": {"name": "shop"}}"#, seen(Vec::new()));
        seen.relations = vec![RelationId(6)];
        let name = |id| ClientName { relation: RelationId(id), application: Some("shop".into()) };
        // The relation 7 has ended: its role is dropped, not repaired.
        seen.lost = Some(vec![(name(6), Lack::Login), (name(7), Lack::Role)]);
        let plan = decide(&seen);
        assert_eq!(noted(&plan), [(6, ClientNote::Restored)]);
        let text = plan.to_string();
        assert!(
            text.contains(
                "shop (database:6): in PostgreSQL its role cannot log in through PgBouncer;"
            ),
            "{text}"
        );
        assert!(!text.contains("database:7"), "{text}");
    }

    #[test]
    fn a_client_is_entered_and_noted() {
        check(
            &seen(vec![client(6, &REQUEST)]),
            r#"
set app 6 data = ‹86 characters›
set peer app pgb_dbs_config = {"6": {"name": "shop", "legacy": false}}
set peer app newest_clients = 6
note clients 6 Waiting(0)"#,
        );
    }

    #[test]
    fn a_client_is_entered_before_postgresql_is_related() {
        let mut seen = seen(vec![client(6, &REQUEST)]);
        seen.backend = ServingBackend::NotNeeded;
        assert_eq!(entered(&decide(&seen)), r#"{"6": {"name": "shop", "legacy": false}}"#);
    }

    #[test]
    fn a_client_whose_request_is_not_read_stays_in_the_queue() {
        let text = r#"{"6": {"name": "shop", "legacy": false}}"#;
        let mut seen = with(text, seen(vec![client(7, &CRM)]));
        seen.relations.push(RelationId(6));
        seen.waiting = vec![RelationId(5), RelationId(6)];
        let plan = decide(&seen);
        assert!(plan.to_string().contains("set peer app newest_clients = 6 7\n"), "{plan}");
        assert_eq!(noted(&plan), [(6, ClientNote::Waiting(0)), (7, ClientNote::Waiting(0))]);
    }

    #[test]
    fn an_answered_client_stays_unchanged() {
        let text = r#"{"6": {"legacy": false, "name": "shop"}}"#;
        let mut client = answered_client(6, &REQUEST);
        client.app.insert(
            "data".into(),
            r#"{"requested-secrets": "[\"username\",\"password\",\"uris\",\"tls\"]", "database": "shop"}"#
                .into(),
        );
        let seen =
            Admission { backend: ServingBackend::NotNeeded, ..with(text, seen(vec![client])) };
        check(&seen, &format!("set peer app pgb_dbs_config = {text}"));
    }

    #[test]
    fn a_later_unsupported_request_is_reported_and_the_client_stays_served() {
        let text = r#"{"6": {"legacy": false, "name": "shop"}}"#;
        let mut client = answered_client(6, &REQUEST);
        client.remote.insert("requests".into(), "[]".into());
        let plan = decide(&with(text, seen(vec![client])));
        let [Wait::Client(name, reason)] = plan.waits.as_slice() else { panic!("{plan}") };
        assert_eq!(name.relation, RelationId(6));
        assert!(reason.contains("version 1 of the interface"), "{reason}");
        assert_eq!(entered(&plan), text);
        assert_eq!(noted(&plan), [(6, ClientNote::AsksForMore)]);
    }

    #[test]
    fn an_answered_client_without_an_entry_is_restored() {
        let plan = decide(&seen(vec![answered_client(6, &REQUEST)]));
        assert_eq!(entered(&plan), r#"{"6": {"name": "shop", "legacy": false}}"#);
        assert_eq!(noted(&plan), [(6, ClientNote::Restored)]);
        let mut later = with(&entered(&plan), seen(Vec::new()));
        later.relations.push(RelationId(6));
        later.queue = queue(&[(6, ClientNote::Restored)]);
        assert_eq!(noted(&decide(&later)), [], "it stays noted");
    }

    #[test]
    fn a_rejected_request_does_not_affect_other_clients() {
        for (remote, reason) in [
            (vec![("database", "a\nb")], "invalid database name"),
            (vec![("database", "*")], "invalid database name"),
            (vec![("database", "crm"), ("extra-user-roles", "superuser")], "invalid role(s)"),
            (vec![("database", "crm"), ("requested-secrets", "username")], "requested-secrets"),
            (vec![("version", "v1"), ("requests", "[]")], "version 1 of the interface"),
            (vec![("database", "crm"), ("entity-type", "USER")], "entity-type"),
            (
                vec![("database", "crm"), ("requested-entity-secret", "secret:x")],
                "requested-entity-secret",
            ),
            (vec![("database", "crm"), ("prefix-matching", "all")], "prefix-matching"),
        ] {
            let entered_before = r#"{"6": {"name": "crm", "legacy": false}}"#;
            let plan =
                decide(&with(entered_before, seen(vec![client(6, &remote), client(7, &REQUEST)])));
            let [wait] = plan.waits.as_slice() else { panic!("{plan}") };
            assert!(wait.to_string().contains("cannot serve database:6: "), "{wait}");
            assert!(wait.to_string().contains(reason), "{wait}");
            let waits = ClientNote::Waiting(0);
            assert_eq!(noted(&plan), [(6, waits), (7, waits)]);
            assert_eq!(entered(&plan), r#"{"7": {"name": "shop", "legacy": false}}"#);
        }
    }

    #[test]
    fn the_rules_for_names_and_roles_depend_on_the_servers_version() {
        let long = "d".repeat(50);
        for (name, roles, to_15, from_16) in [
            ("databases", "", true, false),
            (long.as_str(), "", true, false),
            ("shop", "admin", true, false),
            ("shop", " Createdb ", true, true),
        ] {
            for (version, is_served) in [("14.20", to_15), ("16.10", from_16)] {
                let remote = [("database", name), ("extra-user-roles", roles)];
                let version = ServerVersion::parse(version);
                let plan = decide(&Admission { version, ..seen(vec![client(6, &remote)]) });
                assert_eq!(plan.waits.is_empty(), is_served, "{name} {roles} {version:?}");
            }
        }
    }

    #[test]
    fn a_name_that_is_the_alias_of_another_database_is_rejected() {
        let alias = [("database", "shop_readonly")];
        let text = r#"{"6": {"name": "shop", "legacy": false}}"#;
        let plan = decide(&with(text, seen(vec![answered_client(6, &REQUEST), client(7, &alias)])));
        assert!(
            plan.to_string().contains("cannot serve database:7: invalid database name"),
            "{plan}"
        );
    }

    #[test]
    fn the_wildcard_exists_from_the_first_client_that_needs_it_to_the_last() {
        let text = r#"{"6": {"name": "shop", "legacy": false}, "7": {"name": "crm", "legacy": false}, "*": {"name": "*", "auth_dbname": "crm", "legacy": false}}"#;
        assert_eq!(entered(&decide(&seen(vec![client(6, &REQUEST), client(7, &CRM)]))), text);
        // Another client's request does not change it, whether all clients were read or not.
        let all = with(text, seen(vec![answered_client(6, &REQUEST), answered_client(7, &CRM)]));
        assert_eq!(entered(&decide(&all)), text);
        let mut one = with(text, seen(vec![answered_client(6, &REQUEST)]));
        one.relations.push(RelationId(7));
        assert_eq!(entered(&decide(&one)), text);
        // After the end of the relation that needed it, it stays until the role is dropped.
        let mut gone = with(text, seen(vec![answered_client(6, &REQUEST)]));
        assert_eq!(entered(&decide(&gone)), text);
        gone.queue = queue(&[(7, ClientNote::Missing)]);
        let rest =
            r#"{"6": {"name": "shop", "legacy": false}, "7": {"name": "crm", "legacy": false}}"#;
        assert_eq!(entered(&decide(&gone)), rest);
        let admins = Admission { others_reach_all: true, ..gone };
        assert_eq!(entered(&decide(&admins)), text);
    }

    #[test]
    fn a_wildcard_without_a_clients_database_is_repaired() {
        let text = r#"{"7": {"name": "crm", "legacy": false}, "*": {"name": "*", "auth_dbname": null, "legacy": false}}"#;
        let plan = decide(&with(text, seen(vec![answered_client(7, &CRM)])));
        assert!(entered(&plan).contains(r#""auth_dbname": "crm""#), "{plan}");
    }

    #[test]
    fn other_databases_are_published_for_clients_that_reach_every_database() {
        let names =
            |names: &[&str]| names.iter().map(|name| ((*name).into(), *name == "has")).collect();
        let mut seen = seen(vec![client(7, &CRM)]);
        seen.others = (None, Some(names(&["crm", "has", "old", "with space"])));
        let text = decide(&seen).to_string();
        assert!(text.contains("set peer app readonly_dbs = [\"has\", \"old\"]\n"), "{text}");
        assert!(!text.contains("install get_auth"), "{text}");
        let ServingBackend::Ready { lookup, .. } = &mut seen.backend else { panic!("it is") };
        lookup.everywhere = true;
        let text = decide(&seen).to_string();
        assert!(text.contains("install get_auth for auth in crm, old, with space"), "{text}");
        seen.clients[0].remote.remove("extra-user-roles");
        seen.others = (Some("[\"old\"]".into()), None);
        assert!(decide(&seen).to_string().contains("remove peer app readonly_dbs"));
    }

    #[test]
    fn an_ended_relation_keeps_its_entry_until_its_role_is_dropped() {
        let text =
            r#"{"6": {"name": "shop", "legacy": false}, "8": {"name": "old", "legacy": true}}"#;
        // A retried hook does not see the relations that were added meanwhile.
        let once = with(text, seen(Vec::new()));
        let plan = decide(&once);
        assert_eq!(noted(&plan), [(6, ClientNote::Missing)]);
        assert!(!plan.to_string().contains("drop"), "{plan}");
        let ended =
            Admission { ended: Some((RelationId(6), texts(&[("endpoints", "a:1")]))), ..once };
        let plan = decide(&ended).to_string();
        assert!(
            plan.contains("remove app 6 endpoints\n")
                && plan.contains("drop the role relation_id_6\n"),
            "{plan}"
        );
        // The entry is removed last, so that a later hook retries a role that was not dropped.
        let twice =
            Admission { queue: queue(&[(6, ClientNote::Missing)]), ..with(text, seen(Vec::new())) };
        check(
            &twice,
            &format!(
                "
set peer app pgb_dbs_config = ‹{} bytes›
drop the role relation_id_6
remove the entry of database:6",
                text.len()
            ),
        );
    }

    #[test]
    fn while_postgresql_is_unreachable_an_ended_relation_keeps_its_entry() {
        let text = r#"{"6": {"name": "shop", "legacy": false}}"#;
        let mut seen = with(text, seen(Vec::new()));
        seen.queue = queue(&[(6, ClientNote::Missing)]);
        seen.backend = ServingBackend::Waiting(Wait::Unreachable("no".into()));
        let plan = decide(&seen);
        assert_eq!(plan.waits, [Wait::Unreachable("no".into())]);
        assert_eq!(entered(&plan), text);
        assert!(!plan.to_string().contains("remove the entry"), "{plan}");
        seen.backend = ServingBackend::Waiting(Wait::NoBackend);
        assert!(decide(&seen).to_string().contains("remove the entry of database:6"));
    }

    #[test]
    fn databases_that_no_client_requested_are_removed_with_the_wildcard() {
        let text = r#"{"7": {"name": "crm", "legacy": false}, "*": {"name": "*", "auth_dbname": "crm", "legacy": false}}"#;
        let mut seen = with(text, seen(Vec::new()));
        seen.relations = Vec::new();
        seen.ended = Some((RelationId(7), Texts::new()));
        // Looked at because of the wildcard that goes in this hook.
        seen.others = (
            Some(r#"["extra"]"#.into()),
            Some(vec![("extra".into(), false), ("known".into(), true)]),
        );
        let plan = decide(&seen);
        assert!(plan.to_string().contains("remove peer app readonly_dbs"), "{plan}");
    }

    #[test]
    fn a_restored_client_stays_noted_until_its_role_is_ensured() {
        let text = r#"{"6": {"legacy": false, "name": "shop"}}"#;
        let mut seen = with(text, seen(vec![answered_client(6, &REQUEST)]));
        seen.queue = queue(&[(6, ClientNote::Restored)]);
        let plan = decide(&seen);
        // Nothing new is noted: it is as it was.
        assert!(!plan.to_string().contains("note "), "{plan}");
    }
}

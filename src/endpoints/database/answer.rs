//! Answers to clients: after all units have loaded a client's database, the client gets its role,
//! its credentials and our endpoints.

use std::collections::BTreeMap;

use anyhow::Result;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::client::{self, Answered, Client, DATABASE, Request, Standing};
use super::queue::{ClientQueue, Steps};
use super::reach::Reach;
use super::serving::ServingBackend;
use crate::event::RelationId;
use crate::facts::lookup::Lookup;
use crate::look::Look;
use crate::notes::{ClientNote, Trust};
use crate::peer_bag::{DATABASES_LOADED, PUBLISHED_TO_CLIENTS, ROUNDS, TLS_CA, role};
use crate::pgbouncer::{Entry, Origin, PgbDbs};
use crate::plan::{Bag, Effect, NewClient, Note, Plan, Value};
use crate::postgres::ServerVersion;
use crate::secret::Secret;
use crate::status::Wait;
use crate::x509::certificate::digest;

/// Our databag key with the endpoints.
const ENDPOINTS: &str = "endpoints";

/// Our field with the CAs by which a client verifies PgBouncer.
const TLS_CA_FIELD: &str = "tls-ca";

/// The groups of fields; each group has its own secret.
pub const GROUPS: [&str; 2] = ["user", "tls"];

/// Number of failed attempts after which a hook skips a client once, so that others are answered.
const ATTEMPTS: usize = 2;

/// Maximum number of hooks that wait for a line in `pg_hba.conf`. Together with the wait in each
/// hook, this is longer than PostgreSQL's charms take.
const LAST_ROUND: u32 = 30;

/// The input of [`decide`]; only the leader answers.
pub struct Answering {
    /// Whether this version of Juju has secrets.
    pub has_secrets: bool,
    /// The databases by relation.
    pub databases: PgbDbs,
    /// PostgreSQL's version from `backend-database`.
    pub version: Option<ServerVersion>,
    /// The state of PostgreSQL.
    pub backend: ServingBackend,
    /// Roles of clients without a comment are the Python charm's, and so this application's.
    pub is_of_python_charm: bool,
    /// The clients that wait for no unit.
    pub clients: Vec<Client>,
    /// The number of `update-status` hooks during each client's wait. It is stored even if
    /// PostgreSQL is unreachable when the client's wait for units ends.
    pub counts: Vec<(RelationId, u32)>,
    /// The units for which clients wait.
    pub awaited: Vec<String>,
    /// Our endpoints; `None` if they are not needed or not known yet.
    pub reach: Option<Reach>,
    /// The endpoints that were last published to all clients.
    pub published_endpoints: Option<String>,
    /// The CAs by which clients verify PgBouncer, in PEM; `None` without TLS.
    pub tls_ca: Option<String>,
    /// The number of hooks in which the leader has waited for `pg_hba.conf`.
    pub round: u32,
    /// The beginning of the comment on every role of this application.
    pub comment_prefix: String,
}

/// The answer to one client: the values that may change during the relation.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The number of the relation.
    pub relation: RelationId,
    /// The fields that the client wants in secrets; empty on a model without secrets.
    pub secrets: Vec<String>,
    /// The client's role.
    pub role: String,
    /// The client's password.
    pub password: Secret,
    /// The client's database.
    pub database: String,
    /// The name under which PgBouncer serves the database from a replica; the database itself if
    /// there is no such name.
    pub read_only: String,
    /// Our endpoints: `host:port`, separated by commas.
    pub endpoints: String,
    /// PostgreSQL's version.
    pub version: Option<String>,
    /// The CAs by which the client verifies PgBouncer, in PEM; `None` without TLS.
    pub tls_ca: Option<String>,
    /// Our bag has the CAs.
    pub has_ca: bool,
    /// The note of the last published endpoints equals these endpoints.
    pub is_noted: bool,
}

/// The changed values for clients that have their credentials.
#[derive(Clone, Debug, Default)]
pub struct Updates {
    /// The answers of the clients to update.
    pub answers: Vec<Answer>,
    /// The text to note as published to all clients; `None` if one client could not be updated.
    pub published: Option<String>,
    /// The CAs that all clients know then, if they changed.
    pub tls_ca: Option<Value>,
}

/// Gathers the facts and decides; a follower answers no client.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    if look.leads()? { Ok(decide(&gather(look)?)) } else { Ok(Plan::default()) }
}

fn gather(look: &mut Look<'_>) -> Result<Answering> {
    let databases = look.databases()?;
    let before = look.databases_before()?;
    let queue = ClientQueue::gather(look)?;
    let relations = look.client_relations()?;
    let is_entered = |id: &RelationId| databases.entries.0.contains_key(&Origin::Relation(id.0));
    let open = |is_such: fn(ClientNote) -> bool| {
        let such = queue.noted_as(is_such).into_iter();
        such.filter(|id| relations.contains(id) && is_entered(id)).collect::<Vec<_>>()
    };
    let restored = open(|note| note == ClientNote::Restored);
    let waiting = open(|note| matches!(note, ClientNote::Waiting(_)));
    let mut backend = ServingBackend::NotNeeded;
    if !(restored.is_empty() && waiting.is_empty()) {
        backend = ServingBackend::gather(look)?;
    }
    let (mut clients, mut counts, mut awaited) = (Vec::new(), Vec::new(), Vec::new());
    if matches!(backend, ServingBackend::Ready { .. }) {
        for relation in restored {
            clients.push(client::read(look, relation, Standing::Due)?);
        }
        if !waiting.is_empty() {
            let own = own_loaded(look)?;
            let units = look.loaded_units(own)?;
            let steps = Steps {
                units: &units,
                now: &databases,
                before: &before,
                is_update_status: look.trust() == Trust::Recheck,
            };
            for relation in waiting {
                counts.push((relation, steps.count(relation, &queue)));
                if steps.must_wait(relation, &queue) {
                    awaited.extend(steps.awaited(relation, true));
                } else {
                    clients.push(client::read(look, relation, Standing::Due)?);
                }
            }
        }
    }
    clients.sort_by_key(|client| client.relation);
    awaited.sort();
    awaited.dedup();
    // This unit has loaded its files; its next hook counts that.
    let own = &look.unit().name;
    if awaited.iter().any(|unit| unit != own) {
        awaited.retain(|unit| unit != own);
    }
    let is_of_python_charm = match &backend {
        ServingBackend::Ready { lookup, .. } => look.users()?.is_of_python_charm(&lookup.auth_user),
        _ => false,
    };
    let app = look.app_bag()?;
    let (round, published) = (app.rounds(), app.published_endpoints().map(str::to_owned));
    Ok(Answering {
        has_secrets: look.has_secrets(),
        version: look.backend()?.and_then(|backend| backend.version),
        reach: if clients.is_empty() { None } else { Reach::gather(look)? },
        published_endpoints: published,
        tls_ca: if clients.is_empty() { None } else { look.clients_ca()? },
        comment_prefix: look.comment_prefix(),
        is_of_python_charm,
        databases: databases.entries.clone(),
        backend,
        clients,
        counts,
        awaited,
        round,
    })
}

/// The hash of the databases that this unit has loaded. If this dispatch has changed the
/// application's bag, the hash from before this dispatch is returned: Juju runs another hook on the
/// leader, in which the new hash counts.
fn own_loaded(look: &mut Look<'_>) -> Result<Option<String>> {
    if look.app_bag_changes() {
        return Ok(look.unit_bag_before()?.remove(DATABASES_LOADED));
    }
    Ok(look.bag(Bag::PeerUnit)?.get(DATABASES_LOADED).cloned())
}

/// Creates database and role of each client that waits for no unit, and answers it.
pub fn decide(seen: &Answering) -> Plan {
    let mut plan = Plan::default();
    // A step below sets it again if PostgreSQL does not admit a role yet.
    plan.set(Bag::PeerApp, ROUNDS, Value::Absent);
    let (version, lookup) = match &seen.backend {
        ServingBackend::NotNeeded => return plan,
        ServingBackend::Waiting(wait) => return plan.wait(wait.clone()),
        ServingBackend::Ready { version, lookup } => (version, lookup),
    };
    for (relation, count) in &seen.counts {
        plan.note(Note::Client(*relation, ClientNote::Waiting(*count)));
    }
    if !seen.awaited.is_empty() {
        plan.waits.push(Wait::for_units(seen.awaited.clone()));
    }
    if seen.clients.is_empty() {
        return plan;
    }
    let Some(reach) = &seen.reach else {
        return plan.wait(Wait::NotLoaded("waiting for this unit's address".into()));
    };
    if seen.clients.iter().any(|client| client.attempts >= ATTEMPTS) {
        plan.push(Effect::ClearAttempts);
    }
    for client in &seen.clients {
        match client.request(seen.has_secrets, seen.version, &seen.databases) {
            Ok(Some(request)) => {
                plan.push_apart(seen.serve(&request, reach, version.as_ref(), lookup));
            }
            Ok(None) => {}
            Err(reason) => plan.waits.push(Wait::Client(client.name(), reason)),
        }
    }
    plan
}

impl Answering {
    fn serve(
        &self,
        request: &Request<'_>,
        reach: &Reach,
        version: Option<&String>,
        lookup: &Lookup,
    ) -> Plan {
        let mut plan = Plan::default();
        let Request { client, database, roles } = request;
        if client.attempts >= ATTEMPTS {
            // Juju rejects a grant over an ending relation, and with it all changes of the hook.
            // Skip this client once, so that the other clients get their answers.
            plan.set(Bag::PeerApp, ROUNDS, (self.round + 1).to_string());
            return plan.wait(Wait::Attempts(client.name()));
        }
        // Juju may have kept the secret of a failed hook; its password is used again.
        let password = client.password.as_ref().unwrap_or(&client.fresh).clone();
        let wanted = client.wanted(database, roles, password.clone(), &self.comment_prefix);
        let wanted = NewClient { known: self.is_of_python_charm, ..wanted };
        plan.push(Effect::EnsureClient(wanted));
        if lookup.everywhere {
            let (databases, auth_user) = (vec![database.clone()], lookup.auth_user.clone());
            plan.push(Effect::InstallGetAuth { databases, auth_user });
        }
        // Without this wait, the client's first logins would fail.
        plan.push(Effect::AwaitAdmission {
            logins: lookup.logins(&role(client.relation), database),
            next_round: (self.round < LAST_ROUND).then(|| self.round + 1),
        });
        if !client.is_answered {
            plan.push(Effect::NoteAttempt(client.relation));
        }
        let facts = AnswerFacts {
            databases: &self.databases,
            reach,
            published: self.published_endpoints.as_deref(),
            version: version.cloned(),
            tls_ca: self.tls_ca.clone(),
            has_secrets: self.has_secrets,
        };
        plan.append(answer(&Answer::new(client, database.clone(), password.clone(), &facts)));
        if !self.has_secrets {
            plan.set(Bag::PeerApp, role(client.relation), password);
        }
        // The status goes on to report a later request that is not supported.
        plan.note(match client.not_served() {
            Some(_) => Note::Client(client.relation, ClientNote::AsksForMore),
            None => Note::ClientDone(client.relation),
        });
        plan
    }
}

/// Gathers the changed values for clients. Reads the clients' bags only if a value has changed.
pub fn updates(look: &mut Look<'_>) -> Result<Updates> {
    let Some(reach) = Reach::gather(look)? else { return Ok(Updates::default()) };
    let version = look.backend()?.and_then(|backend| backend.version_text().map(str::to_owned));
    let tls_ca = look.clients_ca()?;
    let now = published(&reach, version.as_deref(), tls_ca.as_deref());
    let known = match &tls_ca {
        Some(ca) => Some(Value::Text(ca.clone())),
        None => look.app_bag()?.text(TLS_CA).map(|_| Value::Absent),
    };
    let before = look.app_bag()?.text(PUBLISHED_TO_CLIENTS).map(str::to_owned);
    if now.is_some() && before == now {
        return Ok(Updates { answers: Vec::new(), published: now, tls_ca: known });
    }
    if look.client_relations()?.is_empty() {
        return Ok(Updates { tls_ca: known, ..Updates::default() });
    }
    let clients = client::read_all(look)?;
    let databases = look.databases()?;
    let published = look.app_bag()?.published_endpoints().map(str::to_owned);
    let has_secrets = look.has_secrets();
    let facts = AnswerFacts {
        databases: &databases.entries,
        reach: &reach,
        published: published.as_deref(),
        version,
        tls_ca,
        has_secrets,
    };
    Ok(answers(clients, now, known, &facts))
}

/// The updates for all clients with readable credentials. If one password cannot be read, nothing
/// is noted as published, and a later hook updates all clients again.
fn answers(
    clients: Vec<Client>,
    now: Option<String>,
    known: Option<Value>,
    facts: &AnswerFacts<'_>,
) -> Updates {
    let (answered, is_one_unreadable) = client::answered(clients);
    let answer = |Answered { client, database, password }: Answered| {
        Answer::new(&client, database, password, facts)
    };
    Updates {
        answers: answered.into_iter().map(answer).collect(),
        published: now.filter(|_| !is_one_unreadable),
        tls_ca: known.filter(|_| !is_one_unreadable),
    }
}

/// The text in the peer app bag for endpoints, PostgreSQL's version and the CAs; `None` while not
/// all endpoints are known.
fn published(reach: &Reach, version: Option<&str>, tls_ca: Option<&str>) -> Option<String> {
    let endpoints = reach.complete_endpoints()?;
    let cas = tls_ca.map(|pem| format!(" {}", digest(pem))).unwrap_or_default();
    Some(format!("{endpoints} {}{cas}", version.unwrap_or_default()))
}

/// The flowchart's "Update peer data in relation databags": publishes the endpoints to clients.
pub fn publish(updates: &Updates) -> Plan {
    let mut plan = Plan::default();
    for client in &updates.answers {
        plan.append(answer(client));
    }
    if let Some(cas) = &updates.tls_ca {
        plan.set(Bag::PeerApp, TLS_CA, cas.clone());
    }
    if let Some(published) = &updates.published {
        plan.set(Bag::PeerApp, PUBLISHED_TO_CLIENTS, published.as_str());
    }
    plan
}

/// The facts for an answer that are not the client's own.
struct AnswerFacts<'a> {
    databases: &'a PgbDbs,
    reach: &'a Reach,
    /// The endpoints that were last published to all clients.
    published: Option<&'a str>,
    version: Option<String>,
    tls_ca: Option<String>,
    has_secrets: bool,
}

impl Answer {
    /// Builds the answer to `client`.
    fn new(client: &Client, database: String, password: Secret, facts: &AnswerFacts<'_>) -> Self {
        let endpoints = facts.reach.endpoints(client.app.get(ENDPOINTS).map(String::as_str));
        Self {
            is_noted: facts.published == Some(endpoints.as_str()),
            relation: client.relation,
            secrets: client.secrets(facts.has_secrets),
            role: role(client.relation),
            password,
            read_only: read_only(&database, facts.databases),
            database,
            endpoints,
            version: facts.version.clone(),
            tls_ca: facts.tls_ca.clone(),
            has_ca: client.app.contains_key(TLS_CA_FIELD),
        }
    }
}

/// The name under which PgBouncer serves `database` from a replica; `database` itself if that name
/// is too long or belongs to another database.
pub fn read_only(database: &str, databases: &PgbDbs) -> String {
    let entry = Entry { name: database.to_owned(), legacy: false, auth_dbname: None };
    let is_free = |alias: &String| databases.names().all(|name| name != alias);
    entry.aliases().find(is_free).unwrap_or_else(|| database.to_owned())
}

/// The characters to escape in a part of a URI.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn uri(client: &Answer, database: &str) -> Secret {
    let escape = |text| utf8_percent_encode(text, UNRESERVED);
    Secret::new(format!(
        "postgresql://{}:{}@{}/{}",
        escape(&client.role),
        escape(client.password.reveal()),
        client.endpoints,
        escape(database)
    ))
}

/// The plan that publishes an answer in secrets and databag. Equal values change nothing.
fn answer(client: &Answer) -> Plan {
    let mut plan = Plan::default();
    let bag = Bag::App(client.relation);
    let user = [
        ("username", Secret::new(client.role.clone())),
        ("password", client.password.clone()),
        ("uris", uri(client, &client.database)),
        ("read-only-uris", uri(client, &client.read_only)),
    ];
    // Without TLS there is no `tls-ca`: a secret cannot hold an empty value everywhere (Juju 4.0).
    let mut tls =
        vec![("tls", Secret::new(if client.tls_ca.is_some() { "True" } else { "False" }))];
    tls.extend(client.tls_ca.as_ref().map(|ca| (TLS_CA_FIELD, Secret::new(ca.trim_end()))));
    if client.tls_ca.is_none() && client.has_ca {
        plan.set(bag, TLS_CA_FIELD, Value::Absent);
    }
    for (group, fields) in GROUPS.into_iter().zip([&user[..], &tls[..]]) {
        let mut content = BTreeMap::new();
        for (key, value) in fields {
            let key = (*key).to_owned();
            if client.secrets.contains(&key) {
                content.insert(key, value.clone());
            } else if key != "read-only-uris" {
                // This field is published only to clients that request it in a secret.
                plan.set(bag, key, value.clone());
            }
        }
        if !content.is_empty() {
            plan.push(Effect::SetClientSecret(client.relation, group, content));
        }
    }
    plan.set(bag, DATABASE, client.database.as_str());
    if !client.is_noted {
        // The note does not hold for this client. It is set again after all clients are updated.
        plan.set(Bag::PeerApp, PUBLISHED_TO_CLIENTS, Value::Absent);
    }
    plan.set(bag, ENDPOINTS, client.endpoints.as_str());
    plan.set(bag, "read-only-endpoints", client.endpoints.as_str());
    if let Some(version) = &client.version {
        plan.set(bag, "version", version.as_str());
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{REQUEST, answered_client, client};
    use super::*;

    fn lookup() -> Lookup {
        Lookup { auth_user: "auth".into(), database: "pgbouncer".into(), everywhere: false }
    }

    fn seen(clients: Vec<Client>) -> Answering {
        Answering {
            has_secrets: true,
            databases: PgbDbs::parse(r#"{"6": {"name": "shop", "legacy": false}}"#).expect("valid"),
            version: ServerVersion::parse("15.18"),
            backend: ServingBackend::Ready { version: Some("15.18".into()), lookup: lookup() },
            clients,
            counts: Vec::new(),
            awaited: Vec::new(),
            reach: Some(Reach::Units { known: vec!["10.0.0.7:6432".into()], complete: true }),
            published_endpoints: Some("10.0.0.7:6432".into()),
            tls_ca: None,
            round: 0,
            comment_prefix: "model m".into(),
            is_of_python_charm: false,
        }
    }

    #[track_caller]
    fn check(seen: &Answering, expected: &str) {
        assert_eq!(decide(seen).to_string().trim(), expected.trim());
    }

    const SERVED: &str = r#"
remove peer app rounds
make the database "shop" and the role relation_id_6
wait until PostgreSQL admits relation_id_6 to shop, auth to pgbouncer
record an attempt to answer database:6
set the secret database.6.user: password, uris, username
set the secret database.6.tls: tls
set app 6 database = shop
set app 6 endpoints = 10.0.0.7:6432
set app 6 read-only-endpoints = 10.0.0.7:6432
set app 6 version = 15.18
note client 6 is done"#;

    #[test]
    fn a_client_is_answered_after_postgresql_admits_its_role() {
        check(&seen(vec![client(6, &REQUEST)]), SERVED);
    }

    #[test]
    fn a_wait_for_units_is_counted_and_names_the_units() {
        let late = Answering {
            counts: vec![(RelationId(6), 1)],
            awaited: vec!["p/1".into()],
            ..seen(Vec::new())
        };
        check(
            &late,
            "
remove peer app rounds
note client 6 Waiting(1)
wait: waiting for p/1 to load a new database",
        );
    }

    #[test]
    fn a_client_waits_for_postgresql() {
        let waiting = ServingBackend::Waiting(Wait::Backend);
        let plan = decide(&Answering { backend: waiting, ..seen(Vec::new()) });
        assert_eq!(plan.waits, [Wait::Backend]);
        let idle = Answering { backend: ServingBackend::NotNeeded, ..seen(Vec::new()) };
        check(&idle, "remove peer app rounds");
    }

    /// The client that a plan creates in PostgreSQL.
    #[track_caller]
    fn made(plan: &Plan) -> crate::plan::NewClient {
        let made = plan.effects().find_map(|effect| match effect {
            Effect::EnsureClient(client) => Some(client.clone()),
            _ => None,
        });
        made.unwrap_or_else(|| panic!("no client is made: {plan}"))
    }

    #[test]
    fn the_password_of_a_failed_hook_is_used_again() {
        let survivor = Client { password: Some(Secret::new("survivor")), ..client(6, &REQUEST) };
        assert_eq!(made(&decide(&seen(vec![survivor]))).password, Secret::new("survivor"));
    }

    #[test]
    fn a_restored_client_has_its_role_ensured_and_keeps_its_password() {
        let client = Client { password: Some(Secret::new("old")), ..answered_client(6, &REQUEST) };
        let plan = decide(&seen(vec![client]));
        assert_eq!(made(&plan).password, Secret::new("old"));
        assert!(!plan.to_string().contains("record an attempt"), "{plan}");
    }

    #[test]
    fn a_client_whose_answer_failed_twice_is_skipped_once() {
        let refused = Client { attempts: 2, ..client(6, &REQUEST) };
        let plan = decide(&seen(vec![refused, client(7, &REQUEST)]));
        let text = plan.to_string();
        assert!(
            text.contains("set peer app rounds = 1\n") && text.contains("clear the records"),
            "{text}"
        );
        assert!(text.contains("cannot answer database:6: Juju rejected the hook twice"), "{text}");
        assert_eq!(made(&plan).role, "relation_id_7");
        let once = Client { attempts: 1, ..client(6, &REQUEST) };
        assert_eq!(made(&decide(&seen(vec![once]))).role, "relation_id_6");
    }

    #[test]
    fn at_most_thirty_hooks_wait_for_pg_hba() {
        for (round, expected) in [(0, Some(1)), (29, Some(30)), (30, None)] {
            let plan = decide(&Answering { round, ..seen(vec![client(6, &REQUEST)]) });
            let next = plan.effects().find_map(|effect| match effect {
                Effect::AwaitAdmission { next_round, .. } => Some(*next_round),
                _ => None,
            });
            assert_eq!(next, Some(expected));
        }
    }

    #[test]
    fn without_secrets_credentials_are_in_the_clients_bag_and_in_the_peer_bag() {
        let mut seen = seen(vec![client(4, &[("database", "shop")])]);
        seen.has_secrets = false;
        let text = decide(&seen).to_string();
        for line in
            ["set app 4 password = ‹14 characters›", "set peer app relation_id_4 = ‹14 characters›"]
        {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("secret database"), "{text}");
        assert!(!text.contains("fresh password"), "{text}");
    }

    #[test]
    fn without_an_address_no_client_is_answered() {
        let none = Answering { reach: None, ..seen(vec![client(6, &REQUEST)]) };
        let plan = decide(&none);
        assert_eq!(plan.to_string().lines().next(), Some("remove peer app rounds"));
        assert!(!plan.to_string().contains("endpoints"), "{plan}");
        assert_eq!(plan.waits, [Wait::NotLoaded("waiting for this unit's address".into())]);
    }

    fn facts<'a>(
        databases: &'a PgbDbs,
        reach: &'a Reach,
        published: Option<&'a str>,
    ) -> AnswerFacts<'a> {
        AnswerFacts { databases, reach, published, version: None, tls_ca: None, has_secrets: true }
    }

    #[test]
    fn an_update_of_one_client_removes_the_note_about_all() {
        let tell = |published_before: Option<&str>, complete| {
            let reach = Reach::Units { known: vec!["10.0.0.7:6432".into()], complete };
            let client =
                Client { password: Some(Secret::new("secret")), ..answered_client(6, &REQUEST) };
            let databases = PgbDbs::default();
            let now = published(&reach, None, None);
            publish(&answers(vec![client], now, None, &facts(&databases, &reach, published_before)))
                .to_string()
        };
        assert!(tell(Some("10.0.0.9:6432"), false).contains("remove peer app clients_told"));
        assert!(!tell(Some("10.0.0.7:6432"), false).contains("clients_told"));
        // If every unit is known, the new note is set last.
        let all = tell(Some("10.0.0.9:6432"), true);
        assert!(all.trim_end().ends_with("set peer app clients_told = 10.0.0.7:6432"), "{all}");
    }

    #[test]
    fn with_an_unreadable_password_the_others_are_updated_and_nothing_is_noted() {
        let reach = Reach::Units { known: vec!["10.0.0.7:6432".into()], complete: true };
        let databases = PgbDbs::default();
        let readable =
            |id| Client { password: Some(Secret::new("p")), ..answered_client(id, &REQUEST) };
        let tell = |clients| {
            let updates = answers(
                clients,
                published(&reach, None, None),
                None,
                &facts(&databases, &reach, None),
            );
            (updates.answers.len(), updates.published.is_some())
        };
        assert_eq!(tell(vec![readable(6), readable(7)]), (2, true));
        assert_eq!(tell(vec![answered_client(6, &REQUEST), readable(7)]), (1, false));
    }

    #[test]
    fn the_read_only_name_is_the_alias_unless_it_is_too_long_or_another_database() {
        let databases = PgbDbs::parse(r#"{"7": {"name": "shop_readonly"}, "8": {"name": "shop"}}"#);
        let databases = databases.expect("valid");
        assert_eq!(read_only("shop", &databases), "shop");
        assert_eq!(read_only("crm", &databases), "crm_readonly");
        assert_eq!(read_only(&"d".repeat(55), &databases), "d".repeat(55));
    }

    #[test]
    fn the_parts_of_a_uri_are_escaped() {
        let databases = PgbDbs::default();
        let reach = Reach::Units { known: vec!["[::1]:6432".into(), "b:1".into()], complete: true };
        let (client, password) = (answered_client(6, &REQUEST), Secret::new("p@ss/w?rd"));
        let answer =
            Answer::new(&client, "my db".into(), password, &facts(&databases, &reach, None));
        assert_eq!(
            uri(&answer, &answer.database).reveal(),
            "postgresql://relation_id_6:p%40ss%2Fw%3Frd@[::1]:6432,b:1/my%20db"
        );
    }
}

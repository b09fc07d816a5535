//! The relation `database`: our clients, whose PostgreSQL we are.

use std::collections::BTreeMap;

use crate::event::RelationId;
use crate::handlers::backend_database::{self, Lookup};
use crate::handlers::peers;
use crate::pgbouncer::{DatabaseName, Entry, Origin, PgbDbs, hash};
use crate::plan::{Bag, Effect, NewClient, Plan, Texts, Value, Wait};
use crate::secret::Secret;

/// The client's key that asks for a database, and ours that grants it.
pub const DATABASE: &str = "database";
/// The client's key with the roles it wants for its user.
const ROLES: &str = "extra-user-roles";
/// The client's key with the fields it wants in secrets.
const REQUESTED_SECRETS: &str = "requested-secrets";

/// State: the endpoints all answered clients were last told by this unit.
pub const ENDPOINTS: &str = "endpoints";

/// Peer app bag: how many hooks have waited for PostgreSQL to let a new role in. To write it wakes the leader.
pub const ADMISSION: &str = "pg_hba_rounds";

/// What `changed` looks at; only the leader serves clients.
pub struct Changed {
    /// Whether the model has secrets.
    pub has_secrets: bool,
    /// The text of [`peers::DATABASES`] as it stands, if it is valid, and what it says.
    pub databases: (Option<String>, PgbDbs),
    /// The live relations of clients.
    pub clients: Vec<Client>,
    /// PostgreSQL.
    pub backend: Backend,
    /// Where clients reach us, if that is known.
    pub endpoints: Option<String>,
    /// Every other unit, with the hash of the databases it has loaded.
    pub units: Vec<(String, Option<String>)>,
    /// The first words of the mark on the roles we make.
    pub comment: String,
}

/// What serving a client needs of PostgreSQL.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Nobody waits for an answer, so nobody looked.
    NotNeeded,
    /// It cannot be used yet.
    Waiting(Wait),
    /// PgBouncer's users are made, so that it let us in once.
    Ready {
        /// Its version, as it tells in `backend-database`.
        version: Option<String>,
        /// Where PgBouncer looks passwords up.
        lookup: Lookup,
        /// In how many hooks new roles were waited for.
        round: Option<u32>,
    },
}

/// One client's relation.
pub struct Client {
    /// The relation.
    pub relation: RelationId,
    /// Our app bag.
    pub app: Texts,
    /// The client's app bag.
    pub remote: Texts,
    /// The password it has been given, in our bag or in a secret under our label.
    pub password: Option<Secret>,
    /// A password nobody used before.
    pub fresh: Secret,
    /// The salt for its verifier.
    pub salt: [u8; 16],
}

/// The answer to one client, as far as it can change while the relation lives.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The relation.
    pub relation: RelationId,
    /// The fields the client wants in secrets; empty on a model without them.
    pub secrets: Vec<String>,
    /// The client's role.
    pub role: String,
    /// Its password.
    pub password: Secret,
    /// Its database.
    pub database: String,
    /// Where it reaches us, `host:port` with commas between.
    pub endpoints: String,
    /// The backend's version.
    pub version: Option<String>,
}

/// Handles every hook of `database`: serves who can be served and says why others cannot.
pub fn changed(seen: &Changed) -> Plan {
    let mut plan = Plan::default();
    let mut databases = seen.databases.1.clone();

    let mut requests = Vec::new();
    for client in &seen.clients {
        if client.remote.is_empty() {
            continue;
        }
        plan.append(backend_database::seen_data(Bag::App(client.relation), &client.app, &client.remote));
        match request(client, seen.has_secrets) {
            Ok(Some(name)) => {
                let entry = Entry { name: name.clone(), legacy: false, auth_dbname: None };
                databases.0.insert(Origin::Relation(client.relation.0), entry);
                requests.push((client, name));
            }
            Ok(None) => {}
            Err(reason) => plan.append(Plan::waiting(Wait::Client(client.relation, reason))),
        }
    }
    let gone = gone(seen, &databases);
    if matches!(seen.backend, Backend::Waiting(Wait::NoBackend)) {
        // With no backend at all there is no role to drop.
        plan.append(forget(seen, &gone, &mut databases));
    }
    let text = if databases == seen.databases.1 && seen.databases.0.is_some() {
        // Whoever wrote it, an equal content keeps its bytes, and with them its hash.
        seen.databases.0.clone().unwrap_or_default()
    } else {
        databases.render()
    };
    if databases.0.is_empty() && seen.databases.0.is_none() {
        plan.set(Bag::PeerApp, peers::DATABASES, Value::Absent);
    } else {
        plan.set(Bag::PeerApp, peers::DATABASES, text.as_str());
    }

    // Set again where a role has to be waited for.
    plan.set(Bag::PeerApp, ADMISSION, Value::Absent);
    if let Backend::Waiting(wait) = &seen.backend {
        return plan.wait(wait.clone());
    }
    let Backend::Ready { version, lookup, round } = &seen.backend else { return plan };
    requests.retain(|(client, _)| !client.is_answered());
    if !requests.is_empty() {
        let known = (version.as_ref(), lookup, round.unwrap_or_default());
        plan.append(serve(seen, requests, &hash(&text), known));
    }
    if !gone.is_empty() {
        plan.parts.push(drop_gone(seen, &gone, databases));
    }
    plan
}

/// Gives each client that is new its database, role and answer, once all other units have loaded the
/// databases of this hash.
fn serve(
    seen: &Changed,
    clients: Vec<(&Client, String)>,
    wanted: &str,
    (version, lookup, round): (Option<&String>, &Lookup, u32),
) -> Plan {
    let mut plan = Plan::default();
    let behind: Vec<String> = seen
        .units
        .iter()
        .filter(|(_, loaded)| loaded.as_deref() != Some(wanted))
        .map(|(unit, _)| unit.clone())
        .collect();
    if !behind.is_empty() {
        return plan.wait(Wait::Units(behind));
    }
    let Some(endpoints) = &seen.endpoints else {
        return plan.wait(Wait::NotLoaded("waiting for this unit's address".into()));
    };
    for (client, name) in clients {
        let mut part = Plan::default();
        // A password that survived a hook which did not is taken up again.
        let password = client.password.as_ref().unwrap_or(&client.fresh).clone();
        part.push(Effect::EnsureClient(client.wanted(name.clone(), password.clone(), &seen.comment)));
        if lookup.everywhere {
            let (databases, auth_user) = (vec![name.clone()], lookup.auth_user.clone());
            part.push(Effect::InstallGetAuth { databases, auth_user });
        }
        // A client that is told too early tries and fails.
        part.push(Effect::AwaitAdmission { logins: lookup.logins(&role(client.relation), &name), round });
        part.append(answer(&Answer {
            relation: client.relation,
            secrets: secrets(client, seen.has_secrets),
            role: role(client.relation),
            password: password.clone(),
            database: name,
            endpoints: endpoints.clone(),
            version: version.cloned(),
        }));
        if !seen.has_secrets {
            part.set(Bag::PeerApp, role(client.relation), password);
        }
        plan.parts.push(part);
    }
    plan
}

/// Drops the roles of relations that are gone, and only then forgets them: their entries are the memory
/// of that work.
fn drop_gone(seen: &Changed, gone: &[RelationId], mut databases: PgbDbs) -> Plan {
    let mut plan = Plan::default();
    for relation in gone {
        plan.push(Effect::DropClient { role: role(*relation), comment: comment(&seen.comment, *relation) });
    }
    plan.append(forget(seen, gone, &mut databases));
    plan.set(Bag::PeerApp, peers::DATABASES, databases.render());
    plan
}

/// Takes the entries and the passwords of relations away.
fn forget(seen: &Changed, gone: &[RelationId], databases: &mut PgbDbs) -> Plan {
    let mut plan = Plan::default();
    for relation in gone {
        databases.0.remove(&Origin::Relation(relation.0));
        if !seen.has_secrets {
            plan.set(Bag::PeerApp, role(*relation), Value::Absent);
        }
    }
    plan
}

/// The flowchart's "Update peer data in relation databags": tells clients the units' addresses. The
/// leader remembers what it told all of them; a follower forgets it, for it may be leader again one
/// day, when others have told them something else.
pub fn update_peer_data(clients: &[Answer], endpoints: Option<&str>) -> Plan {
    let mut plan = Plan::default();
    for client in clients {
        plan.append(answer(client));
    }
    plan.push(Effect::Remember(ENDPOINTS, endpoints.unwrap_or_default().to_owned()));
    plan
}

impl Client {
    /// Whether the client has its credentials: then they stay for the relation's life.
    pub fn is_answered(&self) -> bool {
        is_answered(&self.app)
    }

    /// Its database and role as PostgreSQL should have them; `model` begins the mark of our roles.
    pub fn wanted(&self, database: String, password: Secret, model: &str) -> NewClient {
        NewClient {
            relation: self.relation,
            role: role(self.relation),
            database,
            password,
            salt: self.salt,
            comment: comment(model, self.relation),
            known: false,
        }
    }
}

/// Whether an app bag of ours holds credentials or the URI of those.
pub fn is_answered(app: &Texts) -> bool {
    app.contains_key("secret-user") || (app.contains_key("username") && app.contains_key("password"))
}

/// The role of a client.
pub fn role(relation: RelationId) -> String {
    format!("relation_id_{relation}")
}

/// The mark on a client's role; `mark` begins the marks on all our roles.
fn comment(mark: &str, relation: RelationId) -> String {
    format!("{}{relation}", self::mark(mark))
}

/// How the marks on the roles of clients begin.
pub fn mark(mark: &str) -> String {
    format!("{mark}, relation database:")
}

/// The fields that go into secrets for this client. A relation that began with plain credentials
/// stays with them: the client would not look elsewhere.
pub fn secrets(client: &Client, has_secrets: bool) -> Vec<String> {
    // Not told by `tls` or `uris`: who asked for no secret of that name has it plain beside one.
    let began_plain = ["username", "password"].iter().any(|key| client.app.contains_key(*key));
    if !has_secrets || began_plain {
        return Vec::new();
    }
    let requested = client.remote.get(REQUESTED_SECRETS);
    requested.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The database a client asks for, nothing if it has not asked yet, or why it cannot have it.
fn request(client: &Client, has_secrets: bool) -> Result<Option<String>, String> {
    let Some(name) = client.remote.get(DATABASE) else {
        return match ["entity-type", "requests"].iter().find(|key| client.remote.contains_key(**key)) {
            Some(key) => Err(format!("it uses the key {key}, which is not supported yet")),
            None => Ok(None),
        };
    };
    if client.is_answered() {
        // The name is the one that was granted; a client cannot rename its database.
        return Ok(Some(client.app.get(DATABASE).unwrap_or(name).clone()));
    }
    if client.remote.get(ROLES).is_some_and(|roles| !roles.trim().is_empty()) {
        return Err(format!("it asks for {ROLES}, which is not supported yet: remove the relation"));
    }
    let requested = client.remote.get(REQUESTED_SECRETS).filter(|_| has_secrets);
    if requested.is_some_and(|text| serde_json::from_str::<Vec<String>>(text).is_err()) {
        return Err(format!("its {REQUESTED_SECRETS} is not a JSON list of names"));
    }
    DatabaseName::parse(name).map(|name| Some(name.to_string())).map_err(|error| error.to_string())
}

/// The relations that have an entry in `databases` and are there no longer.
fn gone(seen: &Changed, databases: &PgbDbs) -> Vec<RelationId> {
    databases
        .0
        .iter()
        .filter(|(_, entry)| !entry.legacy)
        .filter_map(|(origin, _)| origin.relation())
        .filter(|id| seen.clients.iter().all(|client| client.relation.0 != *id))
        .map(RelationId)
        .collect()
}

/// Everything a client is told. Where it already stands nothing changes.
fn answer(client: &Answer) -> Plan {
    let mut plan = Plan::default();
    let bag = Bag::App(client.relation);
    let uri = |database: &str| {
        Secret::new(format!(
            "postgresql://{}:{}@{}/{database}",
            client.role,
            client.password.reveal(),
            client.endpoints
        ))
    };
    let read_only = format!("{}_readonly", client.database);
    let read_only =
        if read_only.len() <= crate::pgbouncer::DATABASE_NAME_LIMIT { &read_only } else { &client.database };
    let user = [
        ("username", Secret::new(client.role.clone())),
        ("password", client.password.clone()),
        ("uris", uri(&client.database)),
        ("read-only-uris", uri(read_only)),
    ];
    let tls = [("tls", Secret::new("False"))];
    for (group, fields) in [("user", &user[..]), ("tls", &tls[..])] {
        let mut content = BTreeMap::new();
        for (key, value) in fields {
            let key = (*key).to_owned();
            if client.secrets.contains(&key) {
                content.insert(key, value.clone());
            } else if key != "read-only-uris" {
                // Only clients that ask for it by name know this field.
                plan.set(bag, key, value.clone());
            }
        }
        if !content.is_empty() {
            plan.push(Effect::SetClientSecret(client.relation, group, content));
        }
    }
    plan.set(bag, DATABASE, client.database.as_str());
    plan.set(bag, "endpoints", client.endpoints.as_str());
    plan.set(bag, "read-only-endpoints", client.endpoints.as_str());
    if let Some(version) = &client.version {
        plan.set(bag, "version", version.as_str());
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn client(id: u32, remote: &[(&str, &str)]) -> Client {
        Client {
            relation: RelationId(id),
            app: Texts::new(),
            remote: texts(remote),
            password: None,
            fresh: Secret::new("fresh password"),
            salt: [7; 16],
        }
    }

    const REQUEST: [(&str, &str); 2] =
        [("database", "shop"), ("requested-secrets", r#"["username","password","uris","tls"]"#)];

    fn lookup() -> Lookup {
        Lookup { auth_user: "auth".into(), database: "pgbouncer".into(), everywhere: false }
    }

    fn seen(clients: Vec<Client>) -> Changed {
        Changed {
            has_secrets: true,
            databases: (None, PgbDbs::default()),
            clients,
            backend: Backend::Ready { version: Some("15.18".into()), lookup: lookup(), round: None },
            endpoints: Some("10.0.0.7:6432".into()),
            units: Vec::new(),
            comment: "model m".into(),
        }
    }

    #[track_caller]
    fn check(seen: &Changed, expected: &str) {
        assert_eq!(changed(seen).to_string().trim(), expected.trim());
    }

    #[test]
    fn a_client_alone_with_one_unit_is_served_in_one_hook() {
        check(
            &seen(vec![client(6, &REQUEST)]),
            r#"
set app 6 data = ‹86 characters›
set peer app pgb_dbs_config = {"6": {"name": "shop", "legacy": false}}
remove peer app pg_hba_rounds
make the database "shop" and the role relation_id_6
wait until PostgreSQL lets relation_id_6 into shop, auth into pgbouncer
set the secret database.6.user: password, uris, username
set the secret database.6.tls: tls
set app 6 database = shop
set app 6 endpoints = 10.0.0.7:6432
set app 6 read-only-endpoints = 10.0.0.7:6432
set app 6 version = 15.18"#,
        );
    }

    #[test]
    fn a_client_waits_until_every_other_unit_has_loaded_its_database() {
        let mut seen = seen(vec![client(6, &REQUEST)]);
        let hash = hash(r#"{"6": {"name": "shop", "legacy": false}}"#);
        seen.units = vec![("p/1".into(), Some(hash.clone())), ("p/2".into(), None)];
        let plan = changed(&seen);
        assert_eq!(plan.waits, [Wait::Units(vec!["p/2".into()])]);
        assert!(!plan.to_string().contains("relation_id_6"), "{plan}");
        seen.units[1].1 = Some(hash);
        assert_eq!(changed(&seen).waits, []);
    }

    #[test]
    fn a_client_is_entered_into_the_configuration_before_the_backend_is_there() {
        let mut seen = seen(vec![client(6, &REQUEST)]);
        seen.backend = Backend::Waiting(Wait::Backend);
        let plan = changed(&seen);
        assert!(plan.to_string().contains("pgb_dbs_config"), "{plan}");
        assert_eq!(plan.waits, [Wait::Backend]);
    }

    #[test]
    fn a_password_that_survived_a_failed_hook_is_taken_up_again() {
        let mut client = client(6, &REQUEST);
        client.password = Some(Secret::new("survivor"));
        let plan = changed(&seen(vec![client]));
        let made = plan.parts[0].effects.iter().find_map(|effect| match effect {
            Effect::EnsureClient(client) => Some(client.password.clone()),
            _ => None,
        });
        assert_eq!(made, Some(Secret::new("survivor")));
    }

    #[test]
    fn an_answered_client_is_left_alone() {
        let mut answered = client(6, &REQUEST);
        answered.app = texts(&[("secret-user", "secret:abc"), ("database", "shop")]);
        answered.app.insert(
            "data".into(),
            r#"{"requested-secrets": "[\"username\",\"password\",\"uris\",\"tls\"]", "database": "shop"}"#
                .into(),
        );
        let text = r#"{"6": {"legacy": false, "name": "shop"}}"#;
        let mut seen = seen(vec![answered]);
        seen.backend = Backend::NotNeeded;
        seen.databases = (Some(text.into()), PgbDbs::parse(text).expect("valid"));
        check(&seen, &format!("set peer app pgb_dbs_config = {text}\nremove peer app pg_hba_rounds"));
    }

    #[test]
    fn without_secrets_credentials_stand_in_the_bag_and_in_the_peer_bag() {
        let mut seen = seen(vec![client(4, &[("database", "shop")])]);
        seen.has_secrets = false;
        let text = changed(&seen).to_string();
        for line in ["set app 4 password = ‹14 characters›", "set peer app relation_id_4 = ‹14 characters›"]
        {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("secret database"), "{text}");
        assert!(!text.contains("fresh password"), "{text}");
    }

    #[test]
    fn a_relation_that_began_plain_stays_plain() {
        let mut began_plain = client(6, &REQUEST);
        assert_eq!(secrets(&began_plain, true).len(), 4);
        began_plain.app = texts(&[("username", "relation_id_6"), ("password", "p")]);
        assert_eq!(secrets(&began_plain, true), Vec::<String>::new());
    }

    #[test]
    fn a_password_given_in_a_secret_never_moves_into_the_bag() {
        let mut answered =
            client(6, &[("database", "shop"), ("requested-secrets", r#"["username","password"]"#)]);
        answered.app = texts(&[("secret-user", "secret:abc"), ("tls", "False"), ("uris", "postgresql://…")]);
        assert_eq!(secrets(&answered, true), ["username", "password"]);
    }

    #[test]
    fn one_client_that_cannot_be_served_does_not_stop_the_next() {
        for (remote, reason) in [
            (vec![("database", "a\nb")], "database:6"),
            (vec![("database", "*")], "database:6"),
            (vec![("database", "shop"), ("extra-user-roles", "admin")], "extra-user-roles"),
            (vec![("database", "shop"), ("requested-secrets", "username")], "requested-secrets"),
            (vec![("version", "v1"), ("requests", "[]")], "requests"),
            (vec![("entity-type", "USER")], "entity-type"),
        ] {
            let plan = changed(&seen(vec![client(6, &remote), client(7, &REQUEST)]));
            let [wait] = plan.waits.as_slice() else { panic!("{plan}") };
            assert!(wait.to_string().contains("cannot serve database:6: "), "{wait}");
            assert!(wait.to_string().contains(reason), "{wait}");
            assert!(plan.to_string().contains("the role relation_id_7"), "{plan}");
            assert!(!plan.to_string().contains("the role relation_id_6"), "{plan}");
        }
    }

    #[test]
    fn a_relation_that_is_gone_leaves_the_configuration_and_its_role_is_dropped() {
        let text = r#"{"6": {"name": "shop", "legacy": false}, "8": {"name": "old", "legacy": true}}"#;
        // Forgotten last: a role that could not be dropped is dropped by a later hook.
        let mut seen = seen(Vec::new());
        seen.databases = (Some(text.into()), PgbDbs::parse(text).expect("valid"));
        check(
            &seen,
            &format!(
                r#"
set peer app pgb_dbs_config = ‹{} bytes›
remove peer app pg_hba_rounds
drop the role relation_id_6
set peer app pgb_dbs_config = {{"8": {{"name": "old", "legacy": true}}}}"#,
                text.len()
            ),
        );
    }

    #[test]
    fn while_the_backend_is_away_a_gone_relation_stays_in_memory() {
        let text = r#"{"6": {"name": "shop", "legacy": false}}"#;
        let mut seen = seen(Vec::new());
        seen.databases = (Some(text.into()), PgbDbs::parse(text).expect("valid"));
        seen.backend = Backend::Waiting(Wait::Unreachable("no".into()));
        let plan = changed(&seen);
        assert_eq!(plan.waits, [Wait::Unreachable("no".into())]);
        assert!(plan.to_string().contains(text), "{plan}");
        seen.backend = Backend::Waiting(Wait::NoBackend);
        assert!(changed(&seen).to_string().contains("pgb_dbs_config = {}"));
        seen.has_secrets = false;
        assert!(changed(&seen).to_string().contains("remove peer app relation_id_6"));
    }
}

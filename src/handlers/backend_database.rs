//! The relation `backend-database`: PostgreSQL, whose client we are.

use std::collections::BTreeMap;

use crate::event::RelationId;
use crate::handlers::peers::{self, Store, Users};
use crate::handlers::{Seat, database};
use crate::pgbouncer::verifier;
use crate::pgbouncer::{AUTH_USER_PREFIX, User, UserList};
use crate::plan::{Bag, Effect, NewClient, Plan, Texts, Value, Wait};
use crate::secret::Secret;

/// Our key in the app bag that asks for a database of this name.
pub const DATABASE: &str = "database";
/// The key under which both sides of the interface keep what they saw of the other's app bag.
pub const DATA: &str = "data";

/// Peer app bag: what was installed in PostgreSQL, as [`Lookup::mark`] says it. While it stands nobody has to
/// ask PostgreSQL.
pub const INSTALLED: &str = "get_auth";

/// What we ask PostgreSQL for. A request that stands keeps its bytes: the other side refuses changes.
const REQUEST: [(&str, &str); 2] = [(DATABASE, "pgbouncer"), ("extra-user-roles", "SUPERUSER")];

/// The same, on models with secrets.
const REQUEST_SECRETS: [(&str, &str); 2] = [
    (
        "requested-secrets",
        r#"["username", "password", "tls", "tls-ca", "uris", "read-only-uris", "entity-name", "entity-password"]"#,
    ),
    ("provided-secrets", r#"["mtls-cert"]"#),
];

/// What `changed` looks at. Without a relation it does not run.
pub struct Changed {
    /// The relation.
    pub relation: RelationId,
    /// Whether the model has secrets.
    pub has_secrets: bool,
    /// This unit's bag.
    pub unit: Texts,
    /// PostgreSQL's app bag.
    pub remote: Texts,
    /// Whose work to do.
    pub seat: Seat<Leader, ()>,
}

/// What only the leader does: ask, and make PgBouncer's users once PostgreSQL answered.
pub struct Leader {
    /// Our app bag.
    pub app: Texts,
    /// Where PgBouncer is to look passwords up, once PostgreSQL's credentials can be read and it lets us in.
    pub backend: Result<Lookup, Wait>,
    /// Whether it said goodbye already.
    pub goodbye: Goodbye,
    /// PostgreSQL has all this relation needs of it: the auth role of these users, and the lookup.
    pub installed: bool,
    /// PgBouncer's users as far as they were made before: the list may be gone, and the passwords not.
    pub users: Users,
    /// Where they are kept.
    pub store: Store,
    /// The databases of our clients.
    pub databases: Vec<String>,
    /// The clients who have their credentials; read only where something is to be made.
    pub clients: Vec<NewClient>,
    /// The roles of all clients that are there.
    pub roles: Vec<String>,
    /// Our application's name.
    pub app_name: String,
    /// How the marks on all our roles begin.
    pub mark: String,
    /// Values nobody used before.
    pub fresh: Fresh,
}

/// How PgBouncer looks up passwords in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The role it logs in as.
    pub auth_user: String,
    /// The database PostgreSQL made for us, which has the function.
    pub database: String,
    /// A unit runs a PgBouncer that only looks in the database its client wants: before 1.19, or one that
    /// does not tell its version.
    pub everywhere: bool,
}

impl Lookup {
    /// The databases that need the function.
    fn databases(&self, clients: &[String]) -> Vec<String> {
        let mut databases = vec![self.database.clone()];
        if self.everywhere {
            databases.push("postgres".to_owned());
            databases.extend(clients.iter().cloned());
        }
        databases.sort();
        databases.dedup();
        databases
    }

    /// What [`INSTALLED`] says once this is so. The number is that of the function's own form.
    pub fn mark(&self) -> String {
        let place = if self.everywhere { "every database" } else { self.database.as_str() };
        format!("1: {} in {place}", self.auth_user)
    }

    /// What it says while a client of before still lacks its role or database.
    pub fn mark_without_clients(&self) -> String {
        format!("{}, not all clients", self.mark())
    }

    /// What a client's logins need: its role let into its database, the auth role into where it looks.
    pub fn logins(&self, role: &str, database: &str) -> Vec<(String, String)> {
        let mut logins =
            vec![(role.to_owned(), database.to_owned()), (self.auth_user.clone(), self.database.clone())];
        if self.everywhere {
            logins.push((self.auth_user.clone(), database.to_owned()));
        }
        logins
    }
}

/// Whether everything was removed from PostgreSQL because the relation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// It was not.
    Unsaid,
    /// It was, and since then nobody has joined; with the note of it as it should be now.
    Said(String),
    /// It was, and a unit of PostgreSQL has joined since.
    Over,
}

/// What `ending` looks at: the last hook in which PostgreSQL still knows us.
pub struct Ending {
    /// The relation.
    pub relation: RelationId,
    /// The auth role, if it was made.
    pub auth_user: Option<String>,
    /// How the marks on all our roles begin.
    pub mark: String,
    /// The roles of clients that stay.
    pub roles: Vec<String>,
    /// The units of PostgreSQL that have not left yet.
    pub members: Vec<String>,
}

/// Random values for one set of users.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// Of the auth role.
    pub auth: Secret,
    /// Of the statistics user.
    pub monitoring: Secret,
    /// Of the administrator.
    pub admin: Secret,
    /// One salt for each verifier: of the auth role, the statistics user, the administrator.
    pub salts: [[u8; 16]; 3],
}

/// Handles every hook of `backend-database` while the relation is there.
pub fn changed(seen: &Changed) -> Plan {
    let mut plan = Plan::default();
    let Seat::Leader(leader) = &seen.seat else {
        plan.append(remember(seen));
        return plan;
    };
    let request = REQUEST.iter().chain(if seen.has_secrets { &REQUEST_SECRETS[..] } else { &[] });
    for (key, value) in request {
        if !leader.app.contains_key(*key) {
            plan.set(Bag::App(seen.relation), *key, *value);
        }
    }
    plan.append(remember(seen));
    match &leader.goodbye {
        Goodbye::Unsaid => {}
        Goodbye::Said(note) => {
            plan.set(Bag::PeerApp, INSTALLED, note.as_str());
            return plan.wait(Wait::Backend);
        }
        Goodbye::Over => plan.set(Bag::PeerApp, INSTALLED, Value::Absent),
    }

    let lookup = match &leader.backend {
        Ok(lookup) => lookup,
        Err(wait) => return plan.wait(wait.clone()),
    };
    let users = users(leader, &lookup.auth_user);
    let mut publish = Plan::default();
    if !leader.installed {
        for user in users.list.0.iter().filter(|user| user.name == lookup.auth_user) {
            plan.push(Effect::EnsureAuthRole {
                role: user.name.clone(),
                secret: user.secret.clone(),
                salt: leader.fresh.salts[0],
                comment: comment(&leader.mark, seen.relation),
            });
        }
        // This PostgreSQL may be another than the one our clients were given their credentials for.
        let clients = leader.clients.iter().cloned().map(Effect::EnsureClient);
        plan.parts.extend(clients.map(|effect| Plan { effects: vec![effect], ..Plan::default() }));
        publish.push(Effect::InstallGetAuth {
            databases: lookup.databases(&leader.databases),
            auth_user: lookup.auth_user.clone(),
        });
        publish.set(Bag::PeerApp, INSTALLED, lookup.mark_without_clients());
        let (key, mark) = (INSTALLED.to_owned(), lookup.mark().into());
        plan.last.push(Effect::Set(Bag::PeerApp, key, mark));
    }
    publish.append(peers::publish_users(&users, &leader.store));
    plan.parts.push(publish);
    // Last: nobody waits for it.
    plan.parts.extend((!leader.installed).then(|| strays(&leader.mark, &leader.roles)));
    plan
}

/// Drops what is left of clients that are gone.
fn strays(mark: &str, roles: &[String]) -> Plan {
    let mut plan = Plan::default();
    plan.push(Effect::DropStrays { mark: database::mark(mark), keep: roles.to_vec() });
    plan
}

/// Handles the hook after which PostgreSQL will know us no more: what was made there for this relation goes,
/// while we still may. Clients' roles go with their own relations.
pub fn ending(seen: &Ending) -> Plan {
    let mut plan = Plan::default();
    if let Some(role) = &seen.auth_user {
        plan.push(Effect::RemoveAuth { role: role.clone(), comment: comment(&seen.mark, seen.relation) });
        // Until the relation breaks, or a unit of PostgreSQL joins it, it is not to be made anew.
        plan.set(Bag::PeerApp, INSTALLED, ended(seen.relation, &seen.members));
        plan.parts.push(strays(&seen.mark, &seen.roles));
    }
    plan
}

/// What [`INSTALLED`] says once everything was removed because the relation ends, with those who are still
/// there: from anybody else that joins one knows that it has not ended.
pub fn ended(relation: RelationId, members: &[String]) -> String {
    format!("{ENDED}{relation}, left: {}", members.join(" ")).trim_end().to_owned()
}

/// What the note of the end of a relation means while these are its members.
pub fn goodbye(noted: Option<&str>, relation: RelationId, members: &[String]) -> Goodbye {
    let begin = format!("{ENDED}{relation}, left:");
    let Some(left) = noted.and_then(|noted| noted.strip_prefix(&begin)) else { return Goodbye::Unsaid };
    let left: Vec<&str> = left.split_whitespace().collect();
    if members.iter().all(|member| left.contains(&member.as_str())) {
        Goodbye::Said(ended(relation, members))
    } else {
        Goodbye::Over
    }
}

/// How that begins.
pub const ENDED: &str = "removed with backend-database:";

/// The mark on the auth role of a relation.
fn comment(mark: &str, relation: RelationId) -> String {
    format!("{mark}, relation backend-database:{relation}")
}

/// Handles that there is no relation `backend-database`, on a leader that stays: without a backend there are no
/// users, and with them gone the configuration names no database.
pub fn broken(users: Option<&Users>, store: &Store) -> Plan {
    let mut plan = Plan::default();
    plan.set(Bag::PeerApp, INSTALLED, Value::Absent);
    if users.is_none() {
        return plan;
    }
    match store {
        Store::Bag => plan.set(Bag::PeerApp, peers::AUTH, Value::Absent),
        Store::Secret { content, adopt, .. } => {
            let mut content = content.clone();
            // A field of a peer secret is never taken away but marked: units of the Python charm
            // read this text as "not there".
            content.insert(peers::field(peers::AUTH), Secret::new(peers::DELETED));
            plan.push(Effect::SetPeerSecret { content, adopt: adopt.clone() });
        }
    }
    plan
}

/// Keeps what this unit saw of PostgreSQL's app bag, in the form the Python charm compares with.
fn remember(seen: &Changed) -> Plan {
    let mut plan = Plan::default();
    if !seen.remote.is_empty() {
        plan.append(seen_data(Bag::Unit(seen.relation), &seen.unit, &seen.remote));
    }
    plan
}

/// Sets [`DATA`] in `bag` where it does not already say what `remote` holds.
pub fn seen_data(bag: Bag, own: &Texts, remote: &Texts) -> Plan {
    let mut plan = Plan::default();
    let now: BTreeMap<_, _> = remote.iter().filter(|(key, _)| *key != DATA).collect();
    let before: Option<BTreeMap<String, String>> =
        own.get(DATA).and_then(|text| serde_json::from_str(text).ok());
    if before.is_none_or(|before| !before.iter().eq(now.iter().map(|(key, value)| (*key, *value)))) {
        // On a model without secrets the other side's bag holds passwords.
        plan.set(bag, DATA, Secret::new(serde_json::to_string(&now).unwrap_or_default()));
    }
    plan
}

/// The role PgBouncer asks for verifiers as. PostgreSQL's charms know it by the beginning of its name.
pub fn auth_user(username: &str) -> String {
    format!("{AUTH_USER_PREFIX}{}", username.replace('-', "_"))
}

/// The users as they should be. What is there stays: a new leader changes no password. Missing or outdated
/// lines are made good.
fn users(leader: &Leader, auth_user: &str) -> Users {
    let old = Some(&leader.users).filter(|users| users.list.auth_user() == Some(auth_user));
    let line = |name: &str| old?.list.line(name).cloned();
    let password = |old: Option<&Secret>, fresh: &Secret| old.unwrap_or(fresh).clone();
    let monitoring = password(leader.users.monitoring.as_ref(), &leader.fresh.monitoring);
    let admin = password(leader.users.admin.as_ref(), &leader.fresh.admin);
    // A line is kept only together with the password it was made of.
    let scram = |name: &str, password: &Secret, known: bool, salt: &[u8; 16]| {
        line(name)
            .filter(|secret| known && is_scram(secret))
            .unwrap_or_else(|| verifier::scram_sha_256(password, salt, verifier::ITERATIONS))
    };
    let (stats_user, admin_user) = (peers::stats_user(&leader.app_name), peers::admin_user(&leader.app_name));
    let known = |pick: fn(&Users) -> Option<&Secret>| old.and_then(pick).is_some();
    let stats_line =
        scram(&stats_user, &monitoring, known(|u| u.monitoring.as_ref()), &leader.fresh.salts[1]);
    let admin_line = scram(&admin_user, &admin, known(|u| u.admin.as_ref()), &leader.fresh.salts[2]);
    // The auth role's own password: PgBouncer cannot log in as `auth_user` with a SCRAM verifier, and an md5
    // verifier would bind PostgreSQL to md5. One that an older charm left is kept: nobody knows its password.
    let auth_line = line(auth_user).unwrap_or_else(|| leader.fresh.auth.clone());
    let list = UserList(vec![
        User { name: auth_user.to_owned(), secret: auth_line },
        User { name: stats_user, secret: stats_line },
        User { name: admin_user, secret: admin_line },
    ]);
    Users { list, monitoring: Some(monitoring), admin: Some(admin) }
}

/// Whether nothing is missing from the users that could be made good without a new auth role.
pub fn is_complete(users: &Users, app_name: &str) -> bool {
    let has_line = |name: String| users.list.line(&name).is_some_and(is_scram);
    users.monitoring.is_some()
        && users.admin.is_some()
        && has_line(peers::stats_user(app_name))
        && has_line(peers::admin_user(app_name))
}

fn is_scram(secret: &Secret) -> bool {
    secret.reveal().starts_with("SCRAM-SHA-256$")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Fresh {
        Fresh {
            auth: Secret::new("fresh auth"),
            monitoring: Secret::new("fresh monitoring"),
            admin: Secret::new("fresh admin"),
            salts: [[1; 16], [2; 16], [3; 16]],
        }
    }

    const AUTH_USER: &str = "pgbouncer_auth_relation_id_4";

    fn lookup() -> Lookup {
        Lookup { auth_user: AUTH_USER.into(), database: "pgbouncer".into(), everywhere: false }
    }

    fn leader() -> Leader {
        Leader {
            app: Texts::new(),
            backend: Ok(lookup()),
            goodbye: Goodbye::Unsaid,
            installed: false,
            users: Users::nobody(),
            store: Store::Secret { content: BTreeMap::new(), adopt: None, revision: None, plain: Vec::new() },
            databases: vec!["shop".into()],
            clients: Vec::new(),
            roles: vec!["relation_id_6".into()],
            app_name: "pgbouncer-k8s".into(),
            mark: "model m".into(),
            fresh: fresh(),
        }
    }

    fn seen(seat: Seat<Leader, ()>) -> Changed {
        Changed {
            relation: RelationId(4),
            has_secrets: true,
            unit: Texts::new(),
            remote: Texts::from([("endpoints".to_owned(), "pg:5432".to_owned())]),
            seat,
        }
    }

    #[track_caller]
    fn check(seen: &Changed, expected: &str) {
        assert_eq!(changed(seen).to_string().trim(), expected.trim());
    }

    #[test]
    fn a_leader_asks_for_a_database_and_waits_for_credentials() {
        check(
            &seen(Seat::Leader(Leader { backend: Err(Wait::Backend), ..leader() })),
            r#"
set app 4 database = pgbouncer
set app 4 extra-user-roles = SUPERUSER
set app 4 requested-secrets = ‹101 bytes›
set app 4 provided-secrets = ["mtls-cert"]
set unit 4 data = ‹23 characters›
wait: backend database relation not ready"#,
        );
    }

    #[test]
    fn a_request_that_stands_keeps_its_bytes_and_one_without_secrets_asks_for_none() {
        let app = Texts::from([("database".to_owned(), "other".to_owned())]);
        let mut seen = seen(Seat::Leader(Leader { app, backend: Err(Wait::Backend), ..leader() }));
        seen.has_secrets = false;
        seen.unit.insert("data".into(), r#"{"endpoints": "pg:5432"}"#.into());
        check(
            &seen,
            "
set app 4 extra-user-roles = SUPERUSER
wait: backend database relation not ready",
        );
    }

    #[test]
    fn a_follower_remembers_what_it_saw_and_asks_for_nothing() {
        check(&seen(Seat::Follower(())), "set unit 4 data = ‹23 characters›");
    }

    #[test]
    fn with_credentials_the_role_comes_first_and_the_users_are_published_after() {
        let mut leader = leader();
        leader.app =
            REQUEST.iter().chain(&REQUEST_SECRETS).map(|(k, v)| ((*k).into(), (*v).into())).collect();
        check(
            &seen(Seat::Leader(leader)),
            "
set unit 4 data = ‹23 characters›
make the auth role pgbouncer_auth_relation_id_4
install get_auth for pgbouncer_auth_relation_id_4 in pgbouncer
set peer app get_auth = ‹61 bytes›
set the peer secret: admin-password, auth-file, monitoring-password
drop the roles of clients that are gone
at last: set peer app get_auth = 1: pgbouncer_auth_relation_id_4 in pgbouncer",
        );
    }

    #[test]
    fn a_pgbouncer_that_looks_nowhere_else_finds_the_function_in_every_database() {
        let backend = Ok(Lookup { everywhere: true, ..lookup() });
        let text = changed(&seen(Seat::Leader(Leader { backend, ..leader() }))).to_string();
        for line in [
            "install get_auth for pgbouncer_auth_relation_id_4 in pgbouncer, postgres, shop",
            "at last: set peer app get_auth = 1: pgbouncer_auth_relation_id_4 in every database",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }

    #[test]
    fn what_is_installed_is_not_looked_at_again() {
        let text = changed(&seen(Seat::Leader(Leader { installed: true, ..leader() }))).to_string();
        assert!(!text.contains("auth role") && !text.contains("get_auth"), "{text}");
        assert!(text.contains("set the peer secret"), "{text}");
    }

    #[test]
    fn a_relation_taken_for_ended_that_a_unit_joins_begins_anew_even_if_postgresql_is_not_up_yet() {
        let backend = Err(Wait::Unreachable("not yet".into()));
        let leader = Leader { goodbye: Goodbye::Over, backend, ..leader() };
        let text = changed(&seen(Seat::Leader(leader))).to_string();
        assert!(text.contains("remove peer app get_auth\n"), "{text}");
    }

    #[test]
    fn a_goodbye_holds_while_members_leave_and_is_over_when_one_comes() {
        let units = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let note = ended(RelationId(4), &units(&["pg/1", "pg/2"]));
        assert_eq!(note, "removed with backend-database:4, left: pg/1 pg/2");
        let means = |members: &[&str]| goodbye(Some(&note), RelationId(4), &units(members));
        assert_eq!(means(&["pg/1", "pg/2"]), Goodbye::Said(note.clone()));
        let shorter = "removed with backend-database:4, left:";
        assert_eq!(means(&[]), Goodbye::Said(shorter.into()));
        assert_eq!(means(&["pg/0"]), Goodbye::Over);
        assert_eq!(goodbye(Some(shorter), RelationId(4), &units(&["pg/1"])), Goodbye::Over);
        for noted in [None, Some("1: pgbouncer_auth_relation_id_4 in pgbouncer")] {
            assert_eq!(goodbye(noted, RelationId(4), &[]), Goodbye::Unsaid);
        }
        assert_eq!(goodbye(Some(&note), RelationId(5), &[]), Goodbye::Unsaid);
    }

    #[test]
    fn while_a_goodbye_holds_nothing_is_made() {
        let leader = Leader { goodbye: Goodbye::Said("it".into()), ..leader() };
        let plan = changed(&seen(Seat::Leader(leader)));
        assert!(plan.to_string().contains("set peer app get_auth = it\n"), "{plan}");
        assert!(!plan.to_string().contains("auth role"), "{plan}");
        assert_eq!(plan.waits, [Wait::Backend]);
    }

    #[test]
    fn what_was_made_in_postgresql_goes_while_we_still_may() {
        let mut seen = Ending {
            relation: RelationId(4),
            auth_user: Some(AUTH_USER.into()),
            mark: "model m".into(),
            roles: vec!["relation_id_6".into()],
            members: vec!["pg/1".into()],
        };
        let plan = ending(&seen);
        let expected = "
remove the auth role pgbouncer_auth_relation_id_4 and its get_auth
set peer app get_auth = removed with backend-database:4, left: pg/1
drop the roles of clients that are gone";
        assert_eq!(plan.to_string().trim(), expected.trim());
        seen.auth_user = None;
        assert_eq!(ending(&seen), Plan::default());
    }

    #[test]
    fn users_that_are_there_keep_every_password_and_line() {
        let made = users(&leader(), AUTH_USER);
        assert!(is_complete(&made, "pgbouncer-k8s"));
        let other = Fresh { auth: Secret::new("other"), salts: [[9; 16]; 3], ..fresh() };
        let again = Leader { users: made.clone(), fresh: other, ..leader() };
        assert_eq!(users(&again, AUTH_USER), made);
    }

    #[test]
    fn an_md5_stats_line_and_a_missing_admin_line_are_made_good() {
        let whole = users(&leader(), AUTH_USER);
        let mut old = whole.clone();
        old.list.0[1].secret =
            verifier::md5("pgbouncer_stats_pgbouncer_k8s", &Secret::new("fresh monitoring"));
        assert!(!is_complete(&old, "pgbouncer-k8s"));
        old.list.0.truncate(2);
        old.admin = None;
        assert!(!is_complete(&old, "pgbouncer-k8s"));
        let again = Leader { users: old, ..leader() };
        assert_eq!(users(&again, AUTH_USER), whole);
    }

    #[test]
    fn an_md5_line_of_the_auth_role_is_kept() {
        let mut old = users(&leader(), AUTH_USER);
        old.list.0[0].secret = verifier::md5(AUTH_USER, &Secret::new("known to nobody"));
        let again = Leader { users: old.clone(), ..leader() };
        assert_eq!(users(&again, AUTH_USER), old);
    }

    #[test]
    fn another_backend_gets_an_auth_role_of_its_own() {
        let old = users(&leader(), AUTH_USER);
        let again = Leader { users: old.clone(), ..leader() };
        let new = users(&again, "pgbouncer_auth_relation_id_9");
        assert_eq!(new.list.auth_user(), Some("pgbouncer_auth_relation_id_9"));
        assert_eq!(new.monitoring, old.monitoring);
    }

    #[test]
    fn a_broken_relation_marks_the_users_as_deleted() {
        let made = users(&leader(), AUTH_USER);
        let plan = broken(Some(&made), &leader().store);
        let Some(Effect::SetPeerSecret { content, .. }) = plan.effects.last() else { panic!("{plan}") };
        assert_eq!(content["auth-file"], Secret::new("None"));
        assert_eq!(broken(None, &leader().store).to_string(), "remove peer app get_auth\n");
        assert_eq!(
            broken(Some(&made), &Store::Bag).to_string(),
            "remove peer app get_auth\nremove peer app auth_file\n"
        );
    }
}

//! The relation `backend-database`: PostgreSQL, whose client we are.

use std::collections::BTreeMap;

use crate::event::RelationId;
use crate::handlers::Seat;
use crate::handlers::peers::{self, Store, Users};
use crate::pgbouncer::verifier;
use crate::pgbouncer::{AUTH_USER_PREFIX, User, UserList};
use crate::plan::{Bag, Effect, NewClient, Plan, Texts, Value, Wait};
use crate::secret::Secret;

/// Our key in the app bag that asks for a database of this name.
pub const DATABASE: &str = "database";
/// The key under which both sides of the interface keep what they saw of the other's app bag.
pub const DATA: &str = "data";

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
    /// The role PostgreSQL gave us, once its credentials can be read and it lets us in.
    pub backend: Result<String, Wait>,
    /// PgBouncer's users as far as they were made before: the list may be gone, and the passwords not.
    pub users: Users,
    /// Where they are kept.
    pub store: Store,
    /// The databases of our clients.
    pub databases: Vec<String>,
    /// The clients who have their credentials; read only where the users are still to be made.
    pub clients: Vec<NewClient>,
    /// Our application's name.
    pub app_name: String,
    /// The mark on the roles of this relation.
    pub comment: String,
    /// Values nobody used before.
    pub fresh: Fresh,
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
    /// One salt for each verifier of the two.
    pub salts: [[u8; 16]; 2],
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

    let username = match &leader.backend {
        Ok(username) => username,
        Err(wait) => return plan.wait(wait.clone()),
    };
    let auth_user = auth_user(username);
    let (users, made) = users(leader, &auth_user);
    let mut publish = Plan::default();
    if let Some(verifier) = made {
        plan.push(Effect::EnsureAuthRole {
            role: auth_user.clone(),
            verifier,
            comment: leader.comment.clone(),
        });
        let mut databases = vec!["pgbouncer".to_owned(), "postgres".to_owned()];
        databases.extend(leader.databases.iter().cloned());
        databases.sort();
        databases.dedup();
        // This PostgreSQL may be another than the one our clients were given their credentials for.
        let clients = leader.clients.iter().cloned().map(Effect::EnsureClient);
        plan.parts.extend(clients.map(|effect| Plan { effects: vec![effect], ..Plan::default() }));
        publish.push(Effect::InstallGetAuth { databases, auth_user });
    }
    publish.append(peers::publish_users(&users, &leader.store));
    plan.parts.push(publish);
    plan
}

/// Handles that there is no relation `backend-database`, on a leader that stays: without a backend there are no
/// users, and with them gone the configuration names no database.
pub fn broken(users: Option<&Users>, store: &Store) -> Plan {
    let mut plan = Plan::default();
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

/// The users as they should be, and the auth role's new verifier if it needs one. What is there
/// stays: a new leader changes no password. Missing or outdated lines are made good.
fn users(leader: &Leader, auth_user: &str) -> (Users, Option<Secret>) {
    let old = Some(&leader.users).filter(|users| users.list.auth_user() == Some(auth_user));
    let line = |name: &str| old?.list.0.iter().find(|user| user.name == name).map(|user| user.secret.clone());
    let made = old.is_none().then(|| verifier::md5(auth_user, &leader.fresh.auth));
    let password = |old: Option<&Secret>, fresh: &Secret| old.unwrap_or(fresh).clone();
    let monitoring = password(leader.users.monitoring.as_ref(), &leader.fresh.monitoring);
    let admin = password(leader.users.admin.as_ref(), &leader.fresh.admin);
    // A line is kept only together with the password it was made of.
    let scram = |name: &str, password: &Secret, known: bool, salt: &[u8; 16]| {
        line(name)
            .filter(|secret| known && secret.reveal().starts_with("SCRAM-SHA-256$"))
            .unwrap_or_else(|| verifier::scram_sha_256(password, salt, verifier::ITERATIONS))
    };
    let (stats_user, admin_user) = (peers::stats_user(&leader.app_name), peers::admin_user(&leader.app_name));
    let known = |pick: fn(&Users) -> Option<&Secret>| old.and_then(pick).is_some();
    let stats_line =
        scram(&stats_user, &monitoring, known(|u| u.monitoring.as_ref()), &leader.fresh.salts[0]);
    let admin_line = scram(&admin_user, &admin, known(|u| u.admin.as_ref()), &leader.fresh.salts[1]);
    // The auth role can only be let in with an md5 line: PgBouncer cannot log in as `auth_user` with
    // a SCRAM verifier, and PostgreSQL's charms give names like this one the md5 method.
    let auth_line = line(auth_user).or_else(|| made.clone()).unwrap_or_else(|| leader.fresh.auth.clone());
    let list = UserList(vec![
        User { name: auth_user.to_owned(), secret: auth_line },
        User { name: stats_user, secret: stats_line },
        User { name: admin_user, secret: admin_line },
    ]);
    (Users { list, monitoring: Some(monitoring), admin: Some(admin) }, made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Fresh {
        Fresh {
            auth: Secret::new("fresh auth"),
            monitoring: Secret::new("fresh monitoring"),
            admin: Secret::new("fresh admin"),
            salts: [[1; 16], [2; 16]],
        }
    }

    fn leader() -> Leader {
        Leader {
            app: Texts::new(),
            backend: Ok("relation_id_4".into()),
            users: Users::nobody(),
            store: Store::Secret { content: BTreeMap::new(), adopt: None, revision: None, plain: Vec::new() },
            databases: vec!["shop".into()],
            clients: Vec::new(),
            app_name: "pgbouncer-k8s".into(),
            comment: "model m, relation backend-database:4".into(),
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
install get_auth for pgbouncer_auth_relation_id_4 in pgbouncer, postgres, shop
set the peer secret: admin-password, auth-file, monitoring-password",
        );
    }

    #[test]
    fn users_that_are_there_keep_every_password_and_line() {
        let (made, verifier) = users(&leader(), "pgbouncer_auth_relation_id_4");
        assert!(verifier.is_some());
        let other = Fresh { auth: Secret::new("other"), salts: [[9; 16]; 2], ..fresh() };
        let again = Leader { users: made.clone(), fresh: other, ..leader() };
        assert_eq!(users(&again, "pgbouncer_auth_relation_id_4"), (made, None));
    }

    #[test]
    fn an_md5_stats_line_and_a_missing_admin_line_are_made_good() {
        let (mut old, _) = users(&leader(), "pgbouncer_auth_relation_id_4");
        let whole = old.clone();
        old.list.0[1].secret =
            verifier::md5("pgbouncer_stats_pgbouncer_k8s", &Secret::new("fresh monitoring"));
        old.list.0.truncate(2);
        old.admin = None;
        let again = Leader { users: old, ..leader() };
        assert_eq!(users(&again, "pgbouncer_auth_relation_id_4"), (whole, None));
    }

    #[test]
    fn another_backend_gets_an_auth_role_of_its_own() {
        let (old, _) = users(&leader(), "pgbouncer_auth_relation_id_4");
        let again = Leader { users: old.clone(), ..leader() };
        let (new, verifier) = users(&again, "pgbouncer_auth_relation_id_9");
        assert!(verifier.is_some());
        assert_eq!(new.list.auth_user(), Some("pgbouncer_auth_relation_id_9"));
        assert_eq!(new.monitoring, old.monitoring);
    }

    #[test]
    fn a_broken_relation_marks_the_users_as_deleted() {
        let (made, _) = users(&leader(), "pgbouncer_auth_relation_id_4");
        let plan = broken(Some(&made), &leader().store);
        let Some(Effect::SetPeerSecret { content, .. }) = plan.effects.first() else { panic!("{plan}") };
        assert_eq!(content["auth-file"], Secret::new("None"));
        assert_eq!(broken(None, &leader().store), Plan::default());
        assert_eq!(broken(Some(&made), &Store::Bag).to_string(), "remove peer app auth_file\n");
    }
}

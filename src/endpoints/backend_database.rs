//! The relation `backend-database`: PostgreSQL, whose client we are.

pub mod users;

use anyhow::Result;

use self::users::{Fresh, auth_user, is_complete, made_by_python};
use crate::endpoints::database::client::{self, Answered, NewClientFacts};
use crate::endpoints::peers::{Leadership, publish_users};
use crate::event::{Endpoint, RelationId};
use crate::facts::Texts;
use crate::facts::backend::Backend;
use crate::facts::lookup::{GetAuth, Lookup, Noted};
use crate::facts::users::{Store, Users};
use crate::look::Look;
use crate::notes::Trust;
use crate::peer_bag::{AUTH, DELETED, GET_AUTH, field};
use crate::plan::{Bag, Effect, NewClient, Plan, Step, Value};
use crate::secret::Secret;
use crate::status::Wait;

/// What we ask PostgreSQL for. A request that stands keeps its bytes: the other side refuses changes.
const REQUEST: [(&str, &str); 2] = [("database", "pgbouncer"), ("extra-user-roles", "SUPERUSER")];

/// The same, on models with secrets.
const REQUEST_SECRETS: [(&str, &str); 2] = [
    (
        "requested-secrets",
        r#"["username", "password", "tls", "tls-ca", "uris", "read-only-uris", "entity-name", "entity-password"]"#,
    ),
    ("provided-secrets", r#"["mtls-cert"]"#),
];

/// The input of [`decide`].
pub enum Seen {
    /// The relation is there.
    Related(Box<Related>),
    /// PostgreSQL is about to forget us.
    Ending(Ending),
    /// There is no relation.
    Unrelated(Unrelated),
}

/// A relation with PostgreSQL.
pub struct Related {
    /// The relation.
    pub relation: RelationId,
    /// Whether the model has secrets.
    pub has_secrets: bool,
    /// This unit's bag.
    pub unit: Texts,
    /// PostgreSQL's app bag.
    pub remote: Texts,
    /// Whose work to do.
    pub leadership: Leadership<LeaderView, ()>,
}

/// What only the leader sees: it asks, and makes PgBouncer's users once PostgreSQL answered.
pub struct LeaderView {
    /// Our app bag.
    pub app: Texts,
    /// Where PgBouncer is to look up passwords, once PostgreSQL's credentials can be read and it lets
    /// us in.
    pub backend: Result<Lookup, Wait>,
    /// What is noted of PostgreSQL.
    pub note: Option<GetAuth>,
    /// The units of PostgreSQL that have joined.
    pub members: Vec<String>,
    /// PostgreSQL has all this relation needs of it: the auth role of these users, and the lookup.
    pub installed: bool,
    /// PgBouncer's users as far as they were made before: the list may be gone while the passwords
    /// are not.
    pub users: Users,
    /// Where they are kept.
    pub store: Store,
    /// The databases of our clients.
    pub databases: Vec<String>,
    /// The clients that have their credentials; read only where something is to be made.
    pub clients: Vec<NewClient>,
    /// The roles of all clients that are there.
    pub roles: Vec<String>,
    /// Our application's name.
    pub app_name: String,
    /// How the marks on all our roles begin.
    pub mark: String,
    /// Values that were never used before.
    pub fresh: Fresh,
}

/// The last hook in which PostgreSQL still knows us.
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
    /// This unit leaves, and with it the whole application.
    pub is_leaving: bool,
}

/// No relation with PostgreSQL.
pub struct Unrelated {
    /// This unit decides for all.
    pub leads: bool,
    /// This unit leaves, and other units stay.
    pub leaves_others: bool,
    /// What is noted of PostgreSQL.
    pub note: Option<GetAuth>,
    /// The users that are left.
    pub users: Option<Users>,
    /// Where they are kept.
    pub store: Store,
}

/// Whether everything was removed from PostgreSQL because the relation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Goodbye {
    /// It was not.
    Unsaid,
    /// It was, and since then no unit has joined; with the note of it as it should be now.
    Said(GetAuth),
    /// It was, and a unit of PostgreSQL has joined since.
    Over,
}

/// The relation's hooks, and every hook in which the leader finds that PostgreSQL lacks something.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    if look.event().begins_anew() {
        return Ok(true);
    }
    if look.notes().is_leaving && look.departs() && look.is_leader()? {
        // The whole application may leave; then the sooner the better.
        return Ok(true);
    }
    if !look.leads()? {
        return Ok(false);
    }
    let Some(backend) = look.backend()? else { return Ok(false) };
    let found = look.users()?;
    let Some(users) = &found.users else { return Ok(true) };
    let Some(auth_user) = users.list.auth_user() else { return Ok(true) };
    let lookup = look.lookup(&backend, auth_user)?;
    Ok(!is_complete(users, &look.unit().app) || !look.is_installed(&lookup)?)
}

/// Gathers and decides.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    let seen = match look.backend()? {
        Some(backend) if ends(look, &backend)? => Seen::Ending(ending(look, &backend)?),
        Some(backend) => Seen::Related(Box::new(related(look, &backend)?)),
        // A leader that was not led to the end of the relation has it to handle, too.
        None if look.is_leader()? => Seen::Unrelated(unrelated(look)?),
        None => return Ok(Plan::default()),
    };
    Ok(decide(&seen))
}

/// Whether PostgreSQL is about to forget us and it is for this unit to clean up: the relation ends,
/// or with it our whole application. PostgreSQL may have run all its hooks first, so the first unit
/// that departs is the sign.
fn ends(look: &mut Look<'_>, backend: &Backend) -> Result<bool> {
    if look.notes().is_leaving && look.is_leader()? {
        // One unit of ours less ends nothing for the others.
        return look.is_whole_application_leaving();
    }
    let Some(departing) = look.departing_from(Endpoint::BackendDatabase) else { return Ok(false) };
    if !look.leads()? {
        return Ok(false);
    }
    let app = departing.split('/').next().unwrap_or(&departing);
    let goal = look.goal(app)?.filter(|goal| !goal.is_empty());
    let staying = goal.as_ref().map(|goal| goal.staying().collect::<Vec<_>>());
    Ok(is_end(&departing, staying.as_deref(), look.members(backend.relation)?.len()))
}

/// Whether the departure of a unit of PostgreSQL is the end of the relation. `staying` are the units
/// that the model is to have; nothing is known of those in another model.
fn is_end(departing: &str, staying: Option<&[&str]>, members: usize) -> bool {
    match staying {
        None => members == 0,
        // A unit that stays and departs all the same leaves the relation, not the model.
        Some(staying) => staying.is_empty() || staying.contains(&departing),
    }
}

fn ending(look: &mut Look<'_>, backend: &Backend) -> Result<Ending> {
    Ok(Ending {
        relation: backend.relation,
        auth_user: look.users()?.auth_user().map(str::to_owned),
        mark: look.mark(),
        roles: client::roles_of_all(look)?,
        members: look.members(backend.relation)?,
        is_leaving: look.notes().is_leaving,
    })
}

fn unrelated(look: &mut Look<'_>) -> Result<Unrelated> {
    let is_leaving = look.notes().is_leaving;
    Ok(Unrelated {
        leads: look.leads()?,
        note: look.app_bag()?.get_auth(),
        leaves_others: is_leaving && !look.is_whole_application_leaving()?,
        users: look.users()?.users.clone(),
        store: look.store()?,
    })
}

fn related(look: &mut Look<'_>, backend: &Backend) -> Result<Related> {
    // On every unit: reading the secret once by its URI makes the label this unit's name for it.
    let username = look.credentials(backend)?.map(|credentials| credentials.user);
    let unit = look.bag(Bag::Unit(backend.relation))?.clone();
    let leadership = if look.leads()? {
        Leadership::Leader(leader_view(look, backend, username)?)
    } else {
        Leadership::Follower(())
    };
    Ok(Related {
        relation: backend.relation,
        has_secrets: look.has_secrets(),
        unit,
        remote: backend.remote.clone(),
        leadership,
    })
}

fn leader_view(look: &mut Look<'_>, backend: &Backend, username: Option<String>) -> Result<LeaderView> {
    let found = look.users()?;
    let lookup = match username {
        Some(username) => Some(look.lookup(backend, &auth_user(&username))?),
        None => None,
    };
    let note = look.app_bag()?.get_auth();
    let members = if note.as_ref().is_some_and(GetAuth::is_removed) {
        look.members(backend.relation)?
    } else {
        Vec::new()
    };
    let is_said = matches!(goodbye(note.as_ref(), backend.relation, &members), Goodbye::Said(_));
    let (mut installed, mut has_roles) = (false, false);
    if let Some(lookup) = &lookup {
        installed = look.is_installed(lookup)?;
        has_roles = look.trust() != Trust::Nothing && look.noted(lookup)? == Noted::Everything;
    }
    let usable = match (lookup, backend.too_old()) {
        (None, _) => Err(Wait::Backend),
        (Some(_), Some(version)) => {
            Err(Wait::Refused(format!("PostgreSQL {version} is too old: relate to version 14 or later")))
        }
        (Some(_), None) if is_said => Err(Wait::Backend),
        (Some(lookup), None) if installed => Ok(lookup),
        // Before its first unit joins, or after its last one left, there is no server to talk to.
        (Some(_), None) if look.members(backend.relation)?.is_empty() => Err(Wait::Backend),
        (Some(lookup), None) => look.server()?.map(|_| lookup),
    };
    let databases = look.databases()?;
    let mut clients = Vec::new();
    if let Ok(lookup) = usable.as_ref()
        && !installed
        && !has_roles
    {
        let list = found.users.as_ref().map(|users| &users.list);
        let known = made_by_python(list, &lookup.auth_user);
        let facts = NewClientFacts { databases: &databases.entries, mark: &look.mark() };
        let (answered, _) = client::answered(client::read_all(look)?);
        clients.extend(answered.into_iter().map(|answered| {
            let Answered { client, database, password } = answered;
            NewClient { known, ..client.wanted(&database, &client.roles(), password, facts) }
        }));
    }
    let name =
        |entry: &crate::pgbouncer::Entry| entry.auth_dbname.clone().unwrap_or_else(|| entry.name.clone());
    Ok(LeaderView {
        app: look.bag(Bag::App(backend.relation))?.clone(),
        backend: usable,
        note,
        members,
        installed,
        users: found.users.clone().unwrap_or_else(|| found.passwords.clone()),
        store: look.store()?,
        databases: databases.entries.0.values().map(name).collect(),
        clients,
        roles: client::roles_of_all(look)?,
        app_name: look.unit().app.clone(),
        mark: look.mark(),
        fresh: Fresh {
            auth: look.fresh_password(),
            monitoring: look.fresh_password(),
            admin: look.fresh_password(),
            salts: [look.fresh_salt(), look.fresh_salt(), look.fresh_salt()],
        },
    })
}

/// Handles every hook of `backend-database`.
pub fn decide(seen: &Seen) -> Plan {
    match seen {
        Seen::Related(seen) => changed(seen),
        Seen::Ending(seen) => cleaned_up(seen),
        Seen::Unrelated(seen) => broken(seen),
    }
}

/// Handles a hook while the relation is there.
fn changed(seen: &Related) -> Plan {
    let mut plan = Plan::default();
    let Leadership::Leader(leader) = &seen.leadership else {
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
    match goodbye(leader.note.as_ref(), seen.relation, &leader.members) {
        Goodbye::Unsaid => {}
        Goodbye::Said(note) => {
            plan.set(Bag::PeerApp, GET_AUTH, note.to_string());
            return plan.wait(Wait::Backend);
        }
        Goodbye::Over => plan.set(Bag::PeerApp, GET_AUTH, Value::Absent),
    }

    let lookup = match &leader.backend {
        Ok(lookup) => lookup,
        Err(wait) => return plan.wait(wait.clone()),
    };
    let users = users::complete(&leader.users, &lookup.auth_user, &leader.app_name, &leader.fresh);
    let (mut publish, mut finish) = (Plan::default(), Plan::default());
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
        for client in &leader.clients {
            let mut part = Plan::default();
            part.push(Effect::EnsureClient(client.clone()));
            plan.push_apart(part);
        }
        publish.push(Effect::InstallGetAuth {
            databases: lookup.databases(&leader.databases),
            auth_user: lookup.auth_user.clone(),
        });
        publish.set(Bag::PeerApp, GET_AUTH, GetAuth::installed(lookup, false).to_string());
        finish.push_apart(strays(&leader.mark, &leader.roles));
        let note = GetAuth::installed(lookup, true).to_string();
        finish.steps.push(Step::Finally(Effect::Set(Bag::PeerApp, GET_AUTH.into(), note.into())));
    }
    publish.append(publish_users(&users, &leader.store));
    plan.push_apart(publish);
    plan.append(finish);
    plan
}

/// Drops what is left of clients that are gone.
fn strays(mark: &str, roles: &[String]) -> Plan {
    let mut plan = Plan::default();
    plan.push(Effect::DropStrays { mark: client::mark(mark), keep: roles.to_vec() });
    plan
}

/// Handles the last hook in which PostgreSQL still knows us: what was made there for this relation
/// goes, while we still may. Clients' roles go with their own relations.
fn cleaned_up(seen: &Ending) -> Plan {
    let mut plan = Plan::default();
    if seen.is_leaving && !seen.roles.is_empty() {
        // An application that is scaled to nothing may come back, and with it its clients. Juju says
        // nothing any more of relations that end.
        plan.push(Effect::Warn(format!(
            "left in PostgreSQL, with what they own: {}; if the application is gone for good, drop them there",
            seen.roles.join(", ")
        )));
    }
    if let Some(role) = &seen.auth_user {
        plan.push(Effect::RemoveAuth { role: role.clone(), comment: comment(&seen.mark, seen.relation) });
        // Until the relation breaks, or a unit of PostgreSQL joins it, it is not to be made anew.
        let note = GetAuth::Removed { relation: seen.relation, left: seen.members.clone() };
        plan.set(Bag::PeerApp, GET_AUTH, note.to_string());
        plan.push_apart(strays(&seen.mark, &seen.roles));
    }
    plan
}

/// What the note of the end of a relation means while these are its members.
fn goodbye(note: Option<&GetAuth>, relation: RelationId, members: &[String]) -> Goodbye {
    match note {
        Some(GetAuth::Removed { relation: ended, left }) if *ended == relation => {
            if members.iter().all(|member| left.contains(member)) {
                Goodbye::Said(GetAuth::Removed { relation, left: members.to_vec() })
            } else {
                Goodbye::Over
            }
        }
        _ => Goodbye::Unsaid,
    }
}

/// The comment on the auth role of a relation.
fn comment(mark: &str, relation: RelationId) -> String {
    format!("{mark}, relation backend-database:{relation}")
}

/// Handles that there is no relation: without a backend there are no users, and without users the
/// configuration names no database.
fn broken(seen: &Unrelated) -> Plan {
    let mut plan = Plan::default();
    let role = seen.users.as_ref().and_then(|users| users.list.auth_user());
    // What was removed in time is noted as such.
    if let (Some(note), Some(role)) = (seen.note.as_ref().filter(|note| !note.is_removed()), role)
        && !seen.leaves_others
    {
        plan.push(Effect::Warn(format!(
            "left in PostgreSQL, which was gone before they could be removed: the role {role} and its schema \
             (get_auth {note}); if that server lives on, drop them there"
        )));
    }
    if !seen.leads {
        return plan;
    }
    plan.set(Bag::PeerApp, GET_AUTH, Value::Absent);
    if seen.users.is_none() {
        return plan;
    }
    match &seen.store {
        Store::Bag => plan.set(Bag::PeerApp, AUTH, Value::Absent),
        Store::Secret { content, adopt, .. } => {
            let mut content = content.clone();
            // A field of a peer secret is never removed but marked: units of the Python charm read
            // this text as "not there".
            content.insert(field(AUTH), Secret::new(DELETED));
            plan.push(Effect::SetPeerSecret { content, adopt: adopt.clone() });
        }
    }
    plan
}

/// Keeps what this unit saw of PostgreSQL's app bag, in the form the Python charm compares with.
fn remember(seen: &Related) -> Plan {
    if seen.remote.is_empty() {
        return Plan::default();
    }
    client::seen_data(Bag::Unit(seen.relation), &seen.unit, &seen.remote)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::users::tests::{AUTH_USER, fresh, made};
    use super::*;

    fn lookup() -> Lookup {
        Lookup { auth_user: AUTH_USER.into(), database: "pgbouncer".into(), everywhere: false }
    }

    fn leader() -> LeaderView {
        LeaderView {
            app: Texts::new(),
            backend: Ok(lookup()),
            note: None,
            members: Vec::new(),
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

    fn seen(leadership: Leadership<LeaderView, ()>) -> Related {
        Related {
            relation: RelationId(4),
            has_secrets: true,
            unit: Texts::new(),
            remote: Texts::from([("endpoints".to_owned(), "pg:5432".to_owned())]),
            leadership,
        }
    }

    #[track_caller]
    fn check(seen: &Related, expected: &str) {
        assert_eq!(changed(seen).to_string().trim(), expected.trim());
    }

    #[test]
    fn a_leader_asks_for_a_database_and_waits_for_credentials() {
        check(
            &seen(Leadership::Leader(LeaderView { backend: Err(Wait::Backend), ..leader() })),
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
        let mut seen = seen(Leadership::Leader(LeaderView { app, backend: Err(Wait::Backend), ..leader() }));
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
        check(&seen(Leadership::Follower(())), "set unit 4 data = ‹23 characters›");
    }

    #[test]
    fn with_credentials_the_role_comes_first_and_the_users_are_published_after() {
        let mut leader = leader();
        leader.app =
            REQUEST.iter().chain(&REQUEST_SECRETS).map(|(k, v)| ((*k).into(), (*v).into())).collect();
        check(
            &seen(Leadership::Leader(leader)),
            "
set unit 4 data = ‹23 characters›
make the auth role pgbouncer_auth_relation_id_4
install get_auth for pgbouncer_auth_relation_id_4 in pgbouncer
set peer app get_auth = ‹61 bytes›
set the peer secret: admin-password, auth-file, monitoring-password
drop the roles of clients that are gone
finally: set peer app get_auth = 1: pgbouncer_auth_relation_id_4 in pgbouncer",
        );
    }

    #[test]
    fn a_pgbouncer_that_looks_nowhere_else_finds_the_function_in_every_database() {
        let backend = Ok(Lookup { everywhere: true, ..lookup() });
        let text = changed(&seen(Leadership::Leader(LeaderView { backend, ..leader() }))).to_string();
        for line in [
            "install get_auth for pgbouncer_auth_relation_id_4 in pgbouncer, postgres, shop",
            "finally: set peer app get_auth = 1: pgbouncer_auth_relation_id_4 in every database",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }

    #[test]
    fn what_is_installed_is_not_looked_at_again() {
        let text = changed(&seen(Leadership::Leader(LeaderView { installed: true, ..leader() }))).to_string();
        assert!(!text.contains("auth role") && !text.contains("get_auth"), "{text}");
        assert!(text.contains("set the peer secret"), "{text}");
    }

    #[test]
    fn a_relation_taken_for_ended_that_a_unit_joins_begins_anew_even_if_postgresql_is_not_up_yet() {
        let backend = Err(Wait::Unreachable("not yet".into()));
        let (note, members) = (GetAuth::parse("removed with backend-database:4, left:"), vec!["pg/1".into()]);
        let text = changed(&seen(Leadership::Leader(LeaderView { note, members, backend, ..leader() })));
        assert!(text.to_string().contains("remove peer app get_auth\n"), "{text}");
    }

    #[test]
    fn a_goodbye_holds_while_members_leave_and_is_over_when_one_comes() {
        let units = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let removed = |left: &[&str]| GetAuth::Removed { relation: RelationId(4), left: units(left) };
        let note = removed(&["pg/1", "pg/2"]);
        let means = |members: &[&str]| goodbye(Some(&note), RelationId(4), &units(members));
        assert_eq!(means(&["pg/1", "pg/2"]), Goodbye::Said(note.clone()));
        assert_eq!(means(&[]), Goodbye::Said(removed(&[])));
        assert_eq!(means(&["pg/0"]), Goodbye::Over);
        assert_eq!(goodbye(Some(&removed(&[])), RelationId(4), &units(&["pg/1"])), Goodbye::Over);
        let installed = GetAuth::installed(&lookup(), true);
        for note in [None, Some(&installed)] {
            assert_eq!(goodbye(note, RelationId(4), &[]), Goodbye::Unsaid);
        }
        assert_eq!(goodbye(Some(&note), RelationId(5), &[]), Goodbye::Unsaid);
    }

    #[test]
    fn while_a_goodbye_holds_nothing_is_made() {
        let (note, members) = (GetAuth::parse("removed with backend-database:4, left: a/0"), Vec::new());
        let plan = changed(&seen(Leadership::Leader(LeaderView { note, members, ..leader() })));
        let text = plan.to_string();
        assert!(text.contains("set peer app get_auth = removed with backend-database:4, left:\n"), "{text}");
        assert!(!text.contains("auth role"), "{text}");
        assert_eq!(plan.waits, [Wait::Backend]);
    }

    #[test]
    fn a_relation_ends_with_all_of_postgresql_or_where_a_unit_leaves_it_alone() {
        for (departing, staying, members, expected) in [
            ("pg/0", Some(&["pg/1"][..]), 1, false),
            ("pg/0", Some(&["pg/0", "pg/1"][..]), 1, true),
            ("pg/0", Some(&[][..]), 1, true),
            // Of another model nothing is known but who has not left yet.
            ("pg/0", None, 1, false),
            ("pg/0", None, 0, true),
        ] {
            assert_eq!(is_end(departing, staying, members), expected, "{staying:?} {members}");
        }
    }

    #[test]
    fn what_was_made_in_postgresql_goes_while_we_still_may() {
        let mut seen = Ending {
            relation: RelationId(4),
            auth_user: Some(AUTH_USER.into()),
            mark: "model m".into(),
            roles: vec!["relation_id_6".into()],
            members: vec!["pg/1".into()],
            is_leaving: false,
        };
        let plan = cleaned_up(&seen);
        let expected = "
remove the auth role pgbouncer_auth_relation_id_4 and its get_auth
set peer app get_auth = removed with backend-database:4, left: pg/1
drop the roles of clients that are gone";
        assert_eq!(plan.to_string().trim(), expected.trim());
        seen.auth_user = None;
        assert_eq!(cleaned_up(&seen), Plan::default());
        seen.is_leaving = true;
        let warned = cleaned_up(&seen).to_string();
        assert!(
            warned.starts_with("warn: left in PostgreSQL, with what they own: relation_id_6;"),
            "{warned}"
        );
    }

    #[test]
    fn a_broken_relation_marks_the_users_as_deleted() {
        let unrelated = |users: Option<Users>, store| Unrelated {
            leads: true,
            leaves_others: false,
            note: None,
            users,
            store,
        };
        let made = made();
        let plan = broken(&unrelated(Some(made.clone()), leader().store));
        let Some(Effect::SetPeerSecret { content, .. }) = plan.effects().last() else { panic!("{plan}") };
        assert_eq!(content["auth-file"], Secret::new("None"));
        let without = broken(&unrelated(None, leader().store)).to_string();
        assert_eq!(without, "remove peer app get_auth\n");
        assert_eq!(
            broken(&unrelated(Some(made), Store::Bag)).to_string(),
            "remove peer app get_auth\nremove peer app auth_file\n"
        );
    }

    #[test]
    fn what_could_not_be_removed_is_named_by_a_leader_that_leaves_no_others() {
        let warns = |leads, leaves_others, note: &str| {
            let plan = broken(&Unrelated {
                leads,
                leaves_others,
                note: GetAuth::parse(note),
                users: Some(made()),
                store: Store::Bag,
            });
            assert_eq!(plan.to_string().contains("remove peer app get_auth"), leads, "{plan}");
            plan.to_string().contains("warn: left in PostgreSQL, which was gone before")
        };
        let installed = "1: pgbouncer_auth_relation_id_4 in pgbouncer";
        assert!(warns(true, false, installed) && warns(false, false, installed));
        assert!(!warns(false, true, installed));
        assert!(!warns(true, false, "removed with backend-database:4, left:"));
    }
}

//! The relation `backend-database` with PostgreSQL. The charm requests a superuser, creates
//! PgBouncer's own users, and installs the password lookup.

pub mod removal;
pub mod users;

use anyhow::Result;

use self::removal::{Ending, Removal, cleaned_up, comment, drop_strays, is_end, removal};
use self::users::{Fresh, auth_user, is_complete};
use crate::endpoints::database::client;
use crate::endpoints::peers::Leadership;
use crate::endpoints::peers::users::publish_users;
use crate::event::{Endpoint, RelationId};
use crate::facts::Texts;
use crate::facts::backend::Backend;
use crate::facts::lookup::{GetAuth, Lookup};
use crate::facts::users::{Store, Users};
use crate::look::Look;
use crate::notes::{Leaving, Trust};
use crate::peer_bag::{AUTH, DELETED, GET_AUTH, field};
use crate::pgbouncer::verifier;
use crate::plan::{Bag, Effect, Plan, Value};
use crate::secret::Secret;
use crate::status::Wait;

/// The request to PostgreSQL. Keys that are already set keep their values, because PostgreSQL's
/// charm rejects a changed request.
const REQUEST: [(&str, &str); 2] = [("database", "pgbouncer"), ("extra-user-roles", "SUPERUSER")];

/// The additional request on models with secrets.
const REQUEST_SECRETS: [(&str, &str); 2] = [
    (
        "requested-secrets",
        r#"["username", "password", "tls", "tls-ca", "uris", "read-only-uris", "entity-name", "entity-password"]"#,
    ),
    ("provided-secrets", r#"["mtls-cert"]"#),
];

/// The input of [`decide`].
pub enum Seen {
    /// The relation exists.
    Related(Box<Related>),
    /// The relation ends, and PostgreSQL still accepts our credentials.
    Ending(Ending),
    /// The relation does not exist.
    Unrelated(Unrelated),
}

/// The facts while the relation exists.
pub struct Related {
    /// The number of the relation.
    pub relation: RelationId,
    /// Whether this version of Juju has secrets.
    pub has_secrets: bool,
    /// This unit's bag; `None` if this hook only compares PostgreSQL with the notes.
    pub unit: Option<Texts>,
    /// PostgreSQL's app bag.
    pub remote: Texts,
    /// The leader's own facts; a follower needs none.
    pub leadership: Leadership<LeaderView, ()>,
}

/// The facts that only the leader gathers.
pub struct LeaderView {
    /// Our app bag; `None` if this hook only compares PostgreSQL with the notes.
    pub app: Option<Texts>,
    /// The password lookup to install, or why PostgreSQL is not usable yet.
    pub backend: Result<Lookup, Wait>,
    /// The note of what is installed in PostgreSQL.
    pub note: Option<GetAuth>,
    /// The units of PostgreSQL that have joined; read only if `note` says that all was removed.
    pub members: Vec<String>,
    /// What PostgreSQL lacks or has too much; `None` if a trusted note says that the lookup is
    /// installed.
    pub difference: Option<Difference>,
    /// The note of what is installed is about this lookup.
    pub is_noted: bool,
    /// PgBouncer's existing users. The list may be missing although the passwords exist.
    pub users: Users,
    /// The place where the users are stored.
    pub store: Store,
    /// The databases of our clients.
    pub databases: Vec<String>,
    /// The roles of all existing clients.
    pub roles: Vec<String>,
    /// The name of our application.
    pub app_name: String,
    /// The beginning of the comment on every role of this application.
    pub comment_prefix: String,
    /// New passwords and salts.
    pub fresh: Fresh,
}

/// What differs in PostgreSQL from what the lookup needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The auth role is missing or was changed.
    pub auth_role: bool,
    /// The databases that lack the function, in their order.
    pub get_auth: Vec<String>,
    /// There are roles of removed clients.
    pub strays: bool,
    /// The auth roles of earlier relations, with their comments.
    pub former_auth_roles: Vec<(String, String)>,
}

/// The facts while there is no relation.
pub struct Unrelated {
    /// This unit decides for the application.
    pub leads: bool,
    /// This unit leaves, and other units stay.
    pub others_stay: bool,
    /// The note of what is installed in PostgreSQL.
    pub note: Option<GetAuth>,
    /// The users of the ended relation.
    pub users: Option<Users>,
    /// The place where the users are stored.
    pub store: Store,
}

/// Whether the row is due without a hook of the relation: the leader finds that users or lookup are
/// incomplete, or the application may be going.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    if look.event().may_follow_missed_hooks() {
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
    let is_complete = found.is_known || is_complete(users, &look.unit().app);
    Ok(!is_complete || !look.is_installed(&lookup)?)
}

/// Gathers the facts and decides.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    let seen = match look.backend()? {
        Some(backend) if ends(look, &backend)? => Seen::Ending(ending(look, &backend)?),
        Some(backend) => Seen::Related(Box::new(related(look, &backend)?)),
        // Also for a leader that missed the relation's -broken hook.
        None if look.is_leader()? => Seen::Unrelated(unrelated(look)?),
        None => return Ok(Plan::default()),
    };
    Ok(decide(&seen))
}

/// Whether the relation or our whole application ends and this unit has to clean up PostgreSQL.
/// The first departing unit is the sign: a later hook may be too late, because PostgreSQL's charm
/// removes our user in its own hooks.
fn ends(look: &mut Look<'_>, backend: &Backend) -> Result<bool> {
    if look.notes().leaving != Leaving::No && look.is_leader()? {
        // If other units stay, the relation goes on for them.
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

fn ending(look: &mut Look<'_>, backend: &Backend) -> Result<Ending> {
    Ok(Ending {
        relation: backend.relation,
        auth_user: look.users()?.auth_user().map(str::to_owned),
        comment_prefix: look.comment_prefix(),
        roles: client::roles_of_all(look)?,
        members: look.members(backend.relation)?,
        is_leaving: look.notes().leaving != Leaving::No,
    })
}

fn unrelated(look: &mut Look<'_>) -> Result<Unrelated> {
    let note = look.app_bag()?.get_auth();
    // Only a warning about the note depends on the other units.
    let may_warn = note.as_ref().is_some_and(|note| !note.is_removed());
    let is_leaving = may_warn && look.notes().leaving != Leaving::No;
    let mut found = look.users()?;
    if found.users.is_some() {
        // The mark of deletion keeps the passwords.
        found = look.users_with_passwords()?;
    }
    Ok(Unrelated {
        leads: look.leads()?,
        note,
        others_stay: is_leaving && !look.is_whole_application_leaving()?,
        users: found.users.clone(),
        store: look.store()?,
    })
}

fn related(look: &mut Look<'_>, backend: &Backend) -> Result<Related> {
    // On every unit: the first read of the secret by its URI binds our label to the secret.
    let username = look.credentials(backend)?.map(|credentials| credentials.user);
    let unit = if only_compares(look) {
        None
    } else {
        Some(look.bag(Bag::Unit(backend.relation))?.clone())
    };
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

/// Whether this hook only compares PostgreSQL with the notes: what the two sides of the relation
/// told each other changes in its own hooks.
fn only_compares(look: &Look<'_>) -> bool {
    let is_left = look.notes().deferred.iter().any(|row| row == Endpoint::BackendDatabase.name());
    look.trust() == Trust::Recheck && !is_left && look.event_of(Endpoint::BackendDatabase).is_none()
}

fn leader_view(
    look: &mut Look<'_>,
    backend: &Backend,
    username: Option<String>,
) -> Result<LeaderView> {
    let lookup = match username {
        Some(username) => Some(look.lookup(backend, &auth_user(&username))?),
        None => None,
    };
    let mut found = look.users()?;
    if lookup.as_ref().is_some_and(|lookup| found.auth_user() != Some(&lookup.auth_user)) {
        // The users for another auth role keep their passwords.
        found = look.users_with_passwords()?;
    }
    let note = look.app_bag()?.get_auth();
    let members = if note.as_ref().is_some_and(GetAuth::is_removed) {
        look.members(backend.relation)?
    } else {
        Vec::new()
    };
    let is_removed = matches!(removal(note.as_ref(), backend.relation, &members), Removal::Done(_));
    let (mut is_installed, mut is_noted) = (false, false);
    if let Some(lookup) = &lookup {
        is_installed = look.is_installed(lookup)?;
        is_noted = look.is_noted(lookup)?;
    }
    let mut usable = match (lookup, backend.too_old()) {
        (None, _) => Err(Wait::Backend),
        (Some(_), Some(version)) => Err(Wait::Refused(format!(
            "PostgreSQL {version} is too old: relate to version 14 or later"
        ))),
        (Some(_), None) if is_removed => Err(Wait::Backend),
        (Some(lookup), None) if is_installed => Ok(lookup),
        // Before the first unit joins, and after the last unit has left, there is no server.
        (Some(_), None) if !is_noted && look.members(backend.relation)?.is_empty() => {
            Err(Wait::Backend)
        }
        (Some(lookup), None) => look.server()?.map(|_| lookup),
    };
    let databases = look.databases()?;
    let name = |entry: &crate::pgbouncer::Entry| {
        entry.auth_dbname.clone().unwrap_or_else(|| entry.name.clone())
    };
    let databases: Vec<_> = databases.entries.0.values().map(name).collect();
    let roles = client::roles_of_all(look)?;
    let mut difference = None;
    if let (Ok(lookup), false) = (&usable, is_installed) {
        let is_known = is_noted && look.trust().counts_databases();
        let places = if is_known { Vec::new() } else { lookup.databases(&databases) };
        let secret = found.users.as_ref().and_then(|users| users.list.line(&lookup.auth_user));
        match differs(look, backend.relation, lookup, secret, places, &roles)? {
            Ok(found) => difference = Some(found),
            Err(wait) => usable = Err(wait),
        }
    }
    Ok(LeaderView {
        app: if only_compares(look) {
            None
        } else {
            Some(look.bag(Bag::App(backend.relation))?.clone())
        },
        backend: usable,
        note,
        members,
        difference,
        is_noted,
        users: found.users.clone().unwrap_or_else(|| found.passwords.clone()),
        store: look.store()?,
        databases,
        roles,
        app_name: look.unit().app.clone(),
        comment_prefix: look.comment_prefix(),
        fresh: Fresh {
            auth: look.fresh_password(),
            monitoring: look.fresh_password(),
            admin: look.fresh_password(),
            salts: [look.fresh_salt(), look.fresh_salt(), look.fresh_salt()],
        },
    })
}

/// Compares PostgreSQL with what the lookup needs, in the database of our own and in `databases`.
fn differs(
    look: &mut Look<'_>,
    relation: RelationId,
    lookup: &Lookup,
    secret: Option<&Secret>,
    databases: Vec<String>,
    roles: &[String],
) -> Result<Result<Difference, Wait>> {
    let (prefix, auth_user) = (look.comment_prefix(), lookup.auth_user.as_str());
    let comment = comment(&prefix, relation);
    let fits = |stored: &str| {
        secret.is_some_and(|secret| verifier::matches_secret(stored, auth_user, secret))
    };
    look.ask(|server| {
        let found = server.inspect(auth_user, &comment, &fits, &prefix, roles)?;
        let mut get_auth = databases;
        get_auth.retain(|database| *database != lookup.database);
        let mut get_auth = server.lack_get_auth(get_auth, auth_user)?;
        if !found.has_get_auth {
            get_auth.insert(0, lookup.database.clone());
        }
        Ok(Difference {
            auth_role: !found.has_auth_role,
            get_auth,
            strays: found.has_strays,
            former_auth_roles: found.former_auth_roles,
        })
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

/// Handles a hook while the relation exists.
fn changed(seen: &Related) -> Plan {
    let mut plan = Plan::default();
    let Leadership::Leader(leader) = &seen.leadership else {
        plan.append(remember(seen));
        return plan;
    };
    let request = REQUEST.iter().chain(if seen.has_secrets { &REQUEST_SECRETS[..] } else { &[] });
    for (key, value) in request {
        if leader.app.as_ref().is_some_and(|app| !app.contains_key(*key)) {
            plan.set(Bag::App(seen.relation), *key, *value);
        }
    }
    plan.append(remember(seen));
    match removal(leader.note.as_ref(), seen.relation, &leader.members) {
        Removal::NotDone => {}
        Removal::Done(note) => {
            plan.set(Bag::PeerApp, GET_AUTH, note.to_string());
            return plan.wait(Wait::Backend);
        }
        Removal::Rejoined => plan.set(Bag::PeerApp, GET_AUTH, Value::Absent),
    }

    let lookup = match &leader.backend {
        Ok(lookup) => lookup,
        Err(wait) => return plan.wait(wait.clone()),
    };
    let users = users::complete(&leader.users, &lookup.auth_user, &leader.app_name, &leader.fresh);
    let mut publish = Plan::default();
    if let Some(difference) = &leader.difference {
        let Difference { auth_role, get_auth, strays, former_auth_roles } = difference;
        if leader.is_noted && (*auth_role || !get_auth.is_empty()) {
            let text = "the lookup of passwords in PostgreSQL was changed; the charm repairs this";
            plan.push(Effect::Warn(text.to_owned()));
        }
        for (role, comment) in former_auth_roles {
            let mut part = Plan::default();
            part.push(Effect::RemoveAuth { role: role.clone(), comment: comment.clone() });
            plan.push_apart(part);
        }
        if *strays {
            plan.push_apart(drop_strays(&leader.comment_prefix, &leader.roles));
        }
        for user in users.list.0.iter().filter(|user| user.name == lookup.auth_user && *auth_role) {
            plan.push(Effect::EnsureAuthRole {
                role: user.name.clone(),
                secret: user.secret.clone(),
                salt: leader.fresh.salts[0],
                comment: comment(&leader.comment_prefix, seen.relation),
            });
        }
        if !get_auth.is_empty() {
            publish.push(Effect::InstallGetAuth {
                databases: get_auth.clone(),
                auth_user: lookup.auth_user.clone(),
            });
        }
        if !leader.is_noted {
            // PostgreSQL may have been replaced since the clients got their credentials: the row
            // `database` compares them.
            let note = GetAuth::installed(lookup, leader.databases.is_empty());
            publish.set(Bag::PeerApp, GET_AUTH, note.to_string());
        }
    }
    publish.append(publish_users(&users, &leader.store));
    plan.push_apart(publish);
    plan
}

/// Handles a dispatch without a relation: marks the users as deleted. Without users the
/// configuration has no database.
fn broken(seen: &Unrelated) -> Plan {
    let mut plan = Plan::default();
    let role = seen.users.as_ref().and_then(|users| users.list.auth_user());
    // If the note says that all was removed, no warning is needed.
    if let (Some(note), Some(role)) = (seen.note.as_ref().filter(|note| !note.is_removed()), role)
        && !seen.others_stay
    {
        plan.push(Effect::Warn(format!(
            "left in PostgreSQL, which was unreachable: the role {role} and its schema (get_auth {note}); \
             if that server still runs, drop them there"
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
        Store::Known => {}
        Store::Bag => plan.set(Bag::PeerApp, AUTH, Value::Absent),
        Store::Secret { content, adopt, .. } => {
            let mut content = content.clone();
            // A field of a peer secret is not removed but set to a marker, which units of the
            // Python charm read as "absent".
            content.insert(field(AUTH), Secret::new(DELETED));
            plan.push(Effect::SetPeerSecret { content, adopt: adopt.clone() });
        }
    }
    plan
}

/// Stores PostgreSQL's app bag in this unit's bag, in the form that the Python charm compares.
fn remember(seen: &Related) -> Plan {
    match &seen.unit {
        Some(unit) if !seen.remote.is_empty() => {
            client::seen_data(Bag::Unit(seen.relation), unit, &seen.remote)
        }
        _ => Plan::default(),
    }
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
            app: Some(Texts::new()),
            backend: Ok(lookup()),
            note: None,
            members: Vec::new(),
            difference: Some(Difference {
                auth_role: true,
                get_auth: vec!["pgbouncer".into()],
                ..Difference::default()
            }),
            is_noted: false,
            users: Users::nobody(),
            store: Store::Secret {
                content: BTreeMap::new(),
                adopt: None,
                revision: None,
                plain: Vec::new(),
            },
            databases: vec!["shop".into()],
            roles: vec!["relation_id_6".into()],
            app_name: "pgbouncer-k8s".into(),
            comment_prefix: "model m".into(),
            fresh: fresh(),
        }
    }

    fn seen(leadership: Leadership<LeaderView, ()>) -> Related {
        Related {
            relation: RelationId(4),
            has_secrets: true,
            unit: Some(Texts::new()),
            remote: Texts::from([("endpoints".to_owned(), "pg:5432".to_owned())]),
            leadership,
        }
    }

    #[track_caller]
    fn check(seen: &Related, expected: &str) {
        assert_eq!(changed(seen).to_string().trim(), expected.trim());
    }

    #[test]
    fn a_leader_requests_a_database_and_waits_for_credentials() {
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
    fn a_published_request_keeps_its_values_and_a_model_without_secrets_requests_none() {
        let app = Some(Texts::from([("database".to_owned(), "other".to_owned())]));
        let mut seen =
            seen(Leadership::Leader(LeaderView { app, backend: Err(Wait::Backend), ..leader() }));
        seen.has_secrets = false;
        seen.unit = Some(Texts::from([("data".into(), r#"{"endpoints": "pg:5432"}"#.into())]));
        check(
            &seen,
            "
set app 4 extra-user-roles = SUPERUSER
wait: backend database relation not ready",
        );
    }

    #[test]
    fn a_follower_stores_postgresqls_bag_and_requests_nothing() {
        check(&seen(Leadership::Follower(())), "set unit 4 data = ‹23 characters›");
    }

    #[test]
    fn with_credentials_the_auth_role_is_created_before_the_users_are_published() {
        let mut leader = leader();
        let request = REQUEST.iter().chain(&REQUEST_SECRETS);
        leader.app = Some(request.map(|(k, v)| ((*k).into(), (*v).into())).collect());
        check(
            &seen(Leadership::Leader(leader)),
            "
set unit 4 data = ‹23 characters›
make the auth role pgbouncer_auth_relation_id_4
install get_auth for pgbouncer_auth_relation_id_4 in pgbouncer
set peer app get_auth = ‹61 bytes›
set the peer secret: admin-password, auth-file, monitoring-password",
        );
    }

    #[test]
    fn only_what_differs_is_changed_and_the_note_is_kept() {
        let plan = |difference: Difference| {
            let view = LeaderView { difference: Some(difference), is_noted: true, ..leader() };
            changed(&seen(Leadership::Leader(view))).to_string()
        };
        let nothing = plan(Difference::default());
        assert!(!nothing.contains("auth role") && !nothing.contains("get_auth"), "{nothing}");
        let function = Difference { get_auth: vec!["shop".into()], ..Difference::default() };
        let function = plan(function);
        assert!(
            function.contains("install get_auth for pgbouncer_auth_relation_id_4 in shop\n"),
            "{function}"
        );
        assert!(!function.contains("make the auth role"), "{function}");
        let leftovers = plan(Difference {
            strays: true,
            former_auth_roles: vec![("pgbouncer_auth_relation_id_2".into(), "of ours".into())],
            ..Difference::default()
        });
        for line in [
            "remove the auth role pgbouncer_auth_relation_id_2 and its get_auth\n",
            "drop the roles of removed clients\n",
        ] {
            assert!(leftovers.contains(line), "{leftovers}");
        }
    }

    #[test]
    fn without_clients_the_new_lookup_needs_no_comparison() {
        let view = LeaderView { databases: Vec::new(), ..leader() };
        let text = changed(&seen(Leadership::Leader(view))).to_string();
        assert!(
            text.contains("set peer app get_auth = 2: pgbouncer_auth_relation_id_4 in pgbouncer\n"),
            "{text}"
        );
    }

    #[test]
    fn an_installed_lookup_is_not_installed_again() {
        let text = changed(&seen(Leadership::Leader(LeaderView { difference: None, ..leader() })))
            .to_string();
        assert!(!text.contains("auth role") && !text.contains("get_auth"), "{text}");
        assert!(text.contains("set the peer secret"), "{text}");
    }

    #[test]
    fn a_joining_unit_revokes_the_removal_even_while_postgresql_is_unreachable() {
        let backend = Err(Wait::Unreachable("not yet".into()));
        let (note, members) =
            (GetAuth::parse("removed with backend-database:4, left:"), vec!["pg/1".into()]);
        let text =
            changed(&seen(Leadership::Leader(LeaderView { backend, note, members, ..leader() })));
        assert!(text.to_string().contains("remove peer app get_auth\n"), "{text}");
    }

    #[test]
    fn a_removal_holds_while_units_leave_and_ends_when_a_unit_joins() {
        let units =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let removed =
            |left: &[&str]| GetAuth::Removed { relation: RelationId(4), left: units(left) };
        let note = removed(&["pg/1", "pg/2"]);
        let means = |members: &[&str]| removal(Some(&note), RelationId(4), &units(members));
        assert_eq!(means(&["pg/1", "pg/2"]), Removal::Done(note.clone()));
        assert_eq!(means(&[]), Removal::Done(removed(&[])));
        assert_eq!(means(&["pg/0"]), Removal::Rejoined);
        assert_eq!(
            removal(Some(&removed(&[])), RelationId(4), &units(&["pg/1"])),
            Removal::Rejoined
        );
        let installed = GetAuth::installed(&lookup(), true);
        for note in [None, Some(&installed)] {
            assert_eq!(removal(note, RelationId(4), &[]), Removal::NotDone);
        }
        assert_eq!(removal(Some(&note), RelationId(5), &[]), Removal::NotDone);
    }

    #[test]
    fn after_a_removal_nothing_is_created() {
        let (note, members) =
            (GetAuth::parse("removed with backend-database:4, left: a/0"), Vec::new());
        let plan = changed(&seen(Leadership::Leader(LeaderView { note, members, ..leader() })));
        let text = plan.to_string();
        assert!(
            text.contains("set peer app get_auth = removed with backend-database:4, left:\n"),
            "{text}"
        );
        assert!(!text.contains("auth role"), "{text}");
        assert_eq!(plan.waits, [Wait::Backend]);
    }

    #[test]
    fn a_relation_ends_if_all_units_go_or_a_staying_unit_departs() {
        for (departing, staying, members, expected) in [
            ("pg/0", Some(&["pg/1"][..]), 1, false),
            ("pg/0", Some(&["pg/0", "pg/1"][..]), 1, true),
            ("pg/0", Some(&[][..]), 1, true),
            // Of another model, only the remaining members are known.
            ("pg/0", None, 1, false),
            ("pg/0", None, 0, true),
        ] {
            assert_eq!(is_end(departing, staying, members), expected, "{staying:?} {members}");
        }
    }

    #[test]
    fn the_auth_role_is_removed_before_the_relation_ends() {
        let mut seen = Ending {
            relation: RelationId(4),
            auth_user: Some(AUTH_USER.into()),
            comment_prefix: "model m".into(),
            roles: vec!["relation_id_6".into()],
            members: vec!["pg/1".into()],
            is_leaving: false,
        };
        let plan = cleaned_up(&seen);
        let expected = "
remove the auth role pgbouncer_auth_relation_id_4 and its get_auth
set peer app get_auth = removed with backend-database:4, left: pg/1
drop the roles of removed clients";
        assert_eq!(plan.to_string().trim(), expected.trim());
        seen.auth_user = None;
        assert_eq!(cleaned_up(&seen), Plan::default());
        seen.is_leaving = true;
        let warned = cleaned_up(&seen).to_string();
        assert!(
            warned.starts_with("warn: left in PostgreSQL: the roles relation_id_6;"),
            "{warned}"
        );
    }

    #[test]
    fn a_broken_relation_marks_the_users_as_deleted() {
        let unrelated = |users: Option<Users>, store| Unrelated {
            leads: true,
            others_stay: false,
            note: None,
            users,
            store,
        };
        let made = made();
        let plan = broken(&unrelated(Some(made.clone()), leader().store));
        let Some(Effect::SetPeerSecret { content, .. }) = plan.effects().last() else {
            panic!("{plan}")
        };
        assert_eq!(content["auth-file"], Secret::new("None"));
        let without = broken(&unrelated(None, leader().store)).to_string();
        assert_eq!(without, "remove peer app get_auth\n");
        assert_eq!(
            broken(&unrelated(Some(made), Store::Bag)).to_string(),
            "remove peer app get_auth\nremove peer app auth_file\n"
        );
    }

    #[test]
    fn a_role_that_was_not_removed_is_logged_unless_other_units_stay() {
        let warns = |leads, others_stay, note: &str| {
            let plan = broken(&Unrelated {
                leads,
                others_stay,
                note: GetAuth::parse(note),
                users: Some(made()),
                store: Store::Bag,
            });
            assert_eq!(plan.to_string().contains("remove peer app get_auth"), leads, "{plan}");
            plan.to_string().contains("warn: left in PostgreSQL, which was unreachable")
        };
        let installed = "2: pgbouncer_auth_relation_id_4 in pgbouncer";
        assert!(warns(true, false, installed) && warns(false, false, installed));
        assert!(!warns(false, true, installed));
        assert!(!warns(true, false, "removed with backend-database:4, left:"));
    }
}

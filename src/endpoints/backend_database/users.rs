//! Creation and repair of PgBouncer's own users: the auth role, the statistics user and the
//! administrator.

use crate::facts::users::{Users, admin_user, stats_user};
use crate::pgbouncer::verifier;
use crate::pgbouncer::{AUTH_USER_PREFIX, User, UserList};
use crate::secret::Secret;

/// Random values for one set of users.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// The password of the auth role.
    pub auth: Secret,
    /// The password of the statistics user.
    pub monitoring: Secret,
    /// The password of the administrator.
    pub admin: Secret,
    /// The salts of the verifiers of the auth role, the statistics user and the administrator.
    pub salts: [[u8; 16]; 3],
}

/// The name of the role with which PgBouncer looks up verifiers. PostgreSQL's charms recognise the
/// role by the prefix of its name.
pub fn auth_user(username: &str) -> String {
    format!("{AUTH_USER_PREFIX}{}", username.replace('-', "_"))
}

/// Completes the users: keeps all existing passwords, so that a new leader changes none, and adds
/// or replaces missing and outdated lines.
pub fn complete(found: &Users, auth_user: &str, app: &str, fresh: &Fresh) -> Users {
    let old = Some(found).filter(|users| users.list.auth_user() == Some(auth_user));
    let line = |name: &str| old?.list.line(name).cloned();
    let password = |old: Option<&Secret>, fresh: &Secret| old.unwrap_or(fresh).clone();
    let monitoring = password(found.monitoring.as_ref(), &fresh.monitoring);
    let admin = password(found.admin.as_ref(), &fresh.admin);
    // A verifier is kept only if its password is known.
    let scram = |name: &str, password: &Secret, known: bool, salt: &[u8; 16]| {
        line(name)
            .filter(|secret| known && is_scram(secret))
            .unwrap_or_else(|| verifier::scram_sha_256(password, salt, verifier::ITERATIONS))
    };
    let (stats_user, admin_user) = (stats_user(app), admin_user(app));
    let known = |pick: fn(&Users) -> Option<&Secret>| old.and_then(pick).is_some();
    let stats_line =
        scram(&stats_user, &monitoring, known(|u| u.monitoring.as_ref()), &fresh.salts[1]);
    let admin_line = scram(&admin_user, &admin, known(|u| u.admin.as_ref()), &fresh.salts[2]);
    // The line of the auth role holds its password: PgBouncer cannot log in as `auth_user` with a
    // SCRAM verifier, and an md5 verifier would bind PostgreSQL to md5. A verifier from an older
    // charm is kept, because its password is unknown.
    let auth_line = line(auth_user).unwrap_or_else(|| fresh.auth.clone());
    let list = UserList(vec![
        User { name: auth_user.to_owned(), secret: auth_line },
        User { name: stats_user, secret: stats_line },
        User { name: admin_user, secret: admin_line },
    ]);
    Users { list, monitoring: Some(monitoring), admin: Some(admin) }
}

/// Whether the users have all passwords and verifiers except those of the auth role.
pub fn is_complete(users: &Users, app: &str) -> bool {
    let has_line = |name: String| users.list.line(&name).is_some_and(is_scram);
    users.monitoring.is_some()
        && users.admin.is_some()
        && has_line(stats_user(app))
        && has_line(admin_user(app))
}

fn is_scram(secret: &Secret) -> bool {
    secret.reveal().starts_with("SCRAM-SHA-256$")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const AUTH_USER: &str = "pgbouncer_auth_relation_id_4";
    const APP: &str = "pgbouncer-k8s";

    /// Fixed values for tests.
    pub(crate) fn fresh() -> Fresh {
        Fresh {
            auth: Secret::new("fresh auth"),
            monitoring: Secret::new("fresh monitoring"),
            admin: Secret::new("fresh admin"),
            salts: [[1; 16], [2; 16], [3; 16]],
        }
    }

    /// Users made of the fixed values.
    pub(crate) fn made() -> Users {
        complete(&Users::nobody(), AUTH_USER, APP, &fresh())
    }

    #[test]
    fn complete_users_keep_every_password_and_line() {
        let made = made();
        assert!(is_complete(&made, APP));
        let other = Fresh { auth: Secret::new("other"), salts: [[9; 16]; 3], ..fresh() };
        assert_eq!(complete(&made, AUTH_USER, APP, &other), made);
    }

    #[test]
    fn an_md5_stats_line_and_a_missing_admin_line_are_repaired() {
        let whole = made();
        let mut old = whole.clone();
        old.list.0[1].secret =
            verifier::md5("pgbouncer_stats_pgbouncer_k8s", &Secret::new("fresh monitoring"));
        assert!(!is_complete(&old, APP));
        old.list.0.truncate(2);
        old.admin = None;
        assert!(!is_complete(&old, APP));
        assert_eq!(complete(&old, AUTH_USER, APP, &fresh()), whole);
    }

    #[test]
    fn an_md5_line_of_the_auth_role_is_kept() {
        let mut old = made();
        old.list.0[0].secret = verifier::md5(AUTH_USER, &Secret::new("known to nobody"));
        assert_eq!(complete(&old, AUTH_USER, APP, &fresh()), old);
    }

    #[test]
    fn another_backend_gets_an_auth_role_of_its_own() {
        let old = made();
        let new = complete(&old, "pgbouncer_auth_relation_id_9", APP, &fresh());
        assert_eq!(new.list.auth_user(), Some("pgbouncer_auth_relation_id_9"));
        assert_eq!(new.monitoring, old.monitoring);
    }
}

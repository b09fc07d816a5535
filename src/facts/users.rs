//! The facts about PgBouncer's own users, parsed from any layout of this charm or the Python charm.

use std::collections::BTreeMap;

use crate::facts::{Texts, bounded};
use crate::peer_bag::{ADMIN_PASSWORD, AUTH, DELETED, MONITORING_PASSWORD, field};
use crate::pgbouncer::UserList;
use crate::secret::Secret;

/// The user list with the passwords of its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// The lines of the user list.
    pub list: UserList,
    /// The statistics user's password.
    pub monitoring: Option<Secret>,
    /// The administrator's password.
    pub admin: Option<Secret>,
}

/// The place where the users are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A model without secrets: the app bag.
    Bag,
    /// A model with secrets. Nothing is to be stored: the secret is the one that this unit knows.
    Known,
    /// A model with secrets.
    Secret {
        /// The fields of the secret, of this or an older layout.
        content: BTreeMap<String, Secret>,
        /// The secret to relabel, if `content` comes from a secret without the current label.
        adopt: Option<String>,
        /// The newest revision of the secret with the current label.
        revision: Option<u64>,
        /// The keys that an older layout, or an older Juju, left as plain text in the app bag.
        plain: Vec<String>,
    },
}

/// The users that were found in the app bag and the peer secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundUsers {
    /// The users, if there is a list with a line for the auth role.
    pub users: Option<Users>,
    /// The passwords without a list. They outlive a list that is deleted or broken, so that a new
    /// list keeps them.
    pub passwords: Users,
    /// The list is marked as deleted.
    pub is_deleted: bool,
    /// Why the list is unusable.
    pub broken: Option<String>,
    /// The keys that are plain text in the app bag.
    pub plain: Vec<String>,
    /// The list is from this unit's files, because the secret has not changed since; the passwords
    /// were not read.
    pub is_known: bool,
}

impl Users {
    /// Explicitly no users, in contrast to unknown users (`None`).
    pub fn nobody() -> Self {
        Self { list: UserList::default(), monitoring: None, admin: None }
    }
}

impl FoundUsers {
    /// Parses the app bag and the content of the peer secret. A plain key takes precedence, as in
    /// the Python charm.
    pub fn read(app: &Texts, content: &BTreeMap<String, Secret>) -> Self {
        let keys = [AUTH, MONITORING_PASSWORD, ADMIN_PASSWORD];
        let plain: BTreeMap<String, &String> = keys
            .iter()
            .flat_map(|key| [(*key).to_owned(), field(key)])
            .filter_map(|name| Some((name.clone(), app.get(&name)?)))
            .collect();
        let value = |key: &str| {
            let in_bag = plain.get(key).or_else(|| plain.get(&field(key)));
            in_bag.map(|text| Secret::new(*text)).or_else(|| content.get(&field(key)).cloned())
        };
        let present = |key: &str| value(key).filter(|value| value.reveal() != DELETED);
        let list = present(AUTH).map(|text| {
            let text = bounded(text.reveal())?;
            let list = UserList::parse(text).map_err(|error| error.to_string())?;
            if list.is_initialised() {
                Ok(list)
            } else {
                Err("it has no line for the auth role".into())
            }
        });
        let (list, broken) = match list.transpose() {
            Ok(list) => (list, None),
            Err(reason) => (None, Some(reason)),
        };
        let passwords = Users {
            monitoring: present(MONITORING_PASSWORD),
            admin: present(ADMIN_PASSWORD),
            ..Users::nobody()
        };
        Self {
            users: list.map(|list| Users { list, ..passwords.clone() }),
            passwords,
            is_deleted: value(AUTH).is_some_and(|value| value.reveal() == DELETED),
            broken,
            plain: plain.into_keys().collect(),
            is_known: false,
        }
    }

    /// The users of a secret that has not changed since this unit read it: the list in this unit's
    /// files, or `None` for a list that is marked as deleted.
    pub fn known(list: Option<UserList>) -> Self {
        let is_deleted = list.is_none();
        Self {
            users: list.map(|list| Users { list, ..Users::nobody() }),
            is_deleted,
            is_known: true,
            ..Self::none()
        }
    }

    /// No users, because no leader has stored any.
    pub fn none() -> Self {
        Self {
            users: None,
            passwords: Users::nobody(),
            is_deleted: false,
            broken: None,
            plain: Vec::new(),
            is_known: true,
        }
    }

    /// Whether later hooks can do without the passwords: nothing is missing, and nothing is to be
    /// moved to another place.
    pub fn is_final(&self) -> bool {
        let has = |users: &Users| users.monitoring.is_some() && users.admin.is_some();
        (self.is_deleted || self.users.as_ref().is_some_and(has)) && self.plain.is_empty()
    }

    /// Whether roles with clients' names but without a comment belong to this application. Only the
    /// Python charm created such roles, and it left an md5 line for the auth role of the same
    /// relation. In another PostgreSQL such a role may belong to somebody else.
    pub fn is_of_python_charm(&self, auth_user: &str) -> bool {
        let line = self.users.as_ref().and_then(|users| users.list.line(auth_user));
        line.is_some_and(|line| line.reveal().starts_with("md5"))
    }

    /// The role with which PgBouncer looks up passwords.
    pub fn auth_user(&self) -> Option<&str> {
        self.users.as_ref()?.list.auth_user()
    }
}

/// The name of the user that may read statistics.
pub fn stats_user(app: &str) -> String {
    format!("pgbouncer_stats_{}", app.replace('-', "_"))
}

/// The name of the user that may run every command on the console.
pub fn admin_user(app: &str) -> String {
    format!("pgbouncer_admin_{}", app.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\"pgbouncer_auth_relation_id_4\" \"md5e21e02687122653119af0b4eabb4dc0e\"\n";

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn secret(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect()
    }

    #[test]
    fn users_are_found_in_every_layout() {
        let none = secret(&[]);
        for (app, content) in [
            (texts(&[("auth_file", LIST), ("monitoring_password", "m")]), none.clone()),
            (texts(&[("auth-file", LIST), ("monitoring-password", "m")]), none.clone()),
            (texts(&[]), secret(&[("auth-file", LIST), ("monitoring-password", "m")])),
            (
                texts(&[("auth_file", LIST)]),
                secret(&[("auth-file", "old"), ("monitoring-password", "m")]),
            ),
        ] {
            let found = FoundUsers::read(&app, &content);
            assert_eq!(found.auth_user(), Some("pgbouncer_auth_relation_id_4"), "{app:?}");
            assert_eq!(found.passwords.monitoring, Some(Secret::new("m")), "{app:?}");
            assert_eq!(found.plain.len(), app.len());
        }
    }

    #[test]
    fn an_unusable_list_is_broken_or_deleted() {
        for (text, is_deleted, broken) in [
            ("None", true, None),
            ("\"other\" \"x\"\n", false, Some("it has no line for the auth role")),
            ("nonsense", false, Some("")),
        ] {
            let found = FoundUsers::read(&texts(&[("auth_file", text)]), &secret(&[]));
            assert_eq!((found.is_deleted, found.users), (is_deleted, None), "{text}");
            match (found.broken, broken) {
                (Some(reason), Some(words)) => assert!(reason.contains(words), "{reason}"),
                (found, expected) => assert_eq!(found.as_deref(), expected, "{text}"),
            }
        }
        let nothing = FoundUsers::read(&texts(&[]), &secret(&[]));
        assert_eq!((nothing.users, nothing.is_deleted, nothing.broken), (None, false, None));
    }

    #[test]
    fn only_an_md5_line_of_the_auth_role_shows_the_python_charm() {
        let auth_user = "pgbouncer_auth_relation_id_4";
        let found = |line: &str| {
            FoundUsers::read(
                &texts(&[("auth_file", &format!("\"{auth_user}\" \"{line}\"\n"))]),
                &secret(&[]),
            )
        };
        assert!(found("md5d41d8cd98f00b204e9800998ecf8427e").is_of_python_charm(auth_user));
        let other = "pgbouncer_auth_relation_id_9";
        assert!(!found("md5d41d8cd98f00b204e9800998ecf8427e").is_of_python_charm(other));
        assert!(!found("a password").is_of_python_charm(auth_user));
        assert!(!FoundUsers::read(&texts(&[]), &secret(&[])).is_of_python_charm(auth_user));
    }
}

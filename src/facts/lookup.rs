//! The password lookup in PostgreSQL, and the note of what is installed for it.

use std::fmt;

use crate::event::RelationId;

/// The way in which PgBouncer looks up passwords in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The role with which PgBouncer logs in for the lookup.
    pub auth_user: String,
    /// The database that PostgreSQL created for us, which has the function `get_auth`.
    pub database: String,
    /// Every client's database needs the function too. A PgBouncer before 1.19 looks up passwords
    /// in the database that its client wants; so may a PgBouncer that reports no version.
    pub everywhere: bool,
}

impl Lookup {
    /// The databases that need the function.
    pub fn databases(&self, clients: &[String]) -> Vec<String> {
        let mut databases = vec![self.database.clone()];
        if self.everywhere {
            databases.push("postgres".to_owned());
            databases.extend(clients.iter().cloned());
        }
        databases.sort();
        databases.dedup();
        databases
    }

    /// The pairs of role and database that `pg_hba.conf` must admit for a client: the client's own,
    /// and the auth role in each database of the lookup.
    pub fn logins(&self, role: &str, database: &str) -> Vec<(String, String)> {
        let mut logins = vec![
            (role.to_owned(), database.to_owned()),
            (self.auth_user.clone(), self.database.clone()),
        ];
        if self.everywhere {
            logins.push((self.auth_user.clone(), database.to_owned()));
        }
        logins
    }
}

/// The leader's note in the peer app bag of what this charm has installed in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetAuth {
    /// The lookup is installed.
    Installed {
        /// The role with which PgBouncer logs in for the lookup.
        auth_user: String,
        /// The database that has the function; `None` for every database.
        database: Option<String>,
        /// The clients were compared with PostgreSQL, and those that lack something are noted.
        clients: bool,
    },
    /// Everything was removed because the relation ends.
    Removed {
        /// The ending relation.
        relation: RelationId,
        /// The units of PostgreSQL that were still in the relation. Any other unit that joins
        /// shows that the relation has not ended.
        left: Vec<String>,
    },
}

/// The prefix of the note: the version number of the function `get_auth`.
const FORM: &str = "2: ";
const EVERY_DATABASE: &str = "every database";
const WITHOUT_CLIENTS: &str = ", not all clients";
const REMOVED: &str = "removed with backend-database:";

impl GetAuth {
    /// The note for an installed lookup.
    pub fn installed(lookup: &Lookup, clients: bool) -> Self {
        let Lookup { auth_user, database, everywhere } = lookup.clone();
        Self::Installed { auth_user, database: (!everywhere).then_some(database), clients }
    }

    /// Parses the note; a malformed note, or one of another version, is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(REMOVED) {
            let (relation, left) = rest.split_once(", left:")?;
            let left = left.split_whitespace().map(str::to_owned).collect();
            return Some(Self::Removed { relation: relation.parse().ok()?, left });
        }
        let text = text.strip_prefix(FORM)?;
        let (text, clients) = match text.strip_suffix(WITHOUT_CLIENTS) {
            Some(text) => (text, false),
            None => (text, true),
        };
        let (auth_user, place) = text.split_once(" in ")?;
        let database = (place != EVERY_DATABASE).then(|| place.to_owned());
        Some(Self::Installed { auth_user: auth_user.to_owned(), database, clients })
    }

    /// Whether this lookup is installed.
    pub fn is_of(&self, lookup: &Lookup) -> bool {
        [true, false].iter().any(|clients| *self == Self::installed(lookup, *clients))
    }

    /// Whether the lookup is installed, but the clients were not compared with PostgreSQL yet.
    pub fn lacks_clients(&self) -> bool {
        matches!(self, Self::Installed { clients: false, .. })
    }

    /// Whether everything was removed.
    pub fn is_removed(&self) -> bool {
        matches!(self, Self::Removed { .. })
    }
}

impl fmt::Display for GetAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed { auth_user, database, clients } => {
                let place = database.as_deref().unwrap_or(EVERY_DATABASE);
                let clients = if *clients { "" } else { WITHOUT_CLIENTS };
                write!(f, "{FORM}{auth_user} in {place}{clients}")
            }
            Self::Removed { relation, left } => {
                write!(f, "{REMOVED}{relation}, left:")?;
                left.iter().try_for_each(|unit| write!(f, " {unit}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_a_round_trip() {
        for text in [
            "2: pgbouncer_auth_relation_id_4 in pgbouncer",
            "2: pgbouncer_auth_relation_id_4 in pgbouncer, not all clients",
            "2: pgbouncer_auth_relation_id_4 in every database",
            "removed with backend-database:4, left: pg/1 pg/2",
            "removed with backend-database:4, left:",
        ] {
            assert_eq!(GetAuth::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "1: a in b", "2: a", "removed with backend-database:x, left:"] {
            assert_eq!(GetAuth::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_note_names_auth_role_and_databases() {
        let lookup =
            Lookup { auth_user: "auth".into(), database: "pgbouncer".into(), everywhere: false };
        assert_eq!(GetAuth::installed(&lookup, true).to_string(), "2: auth in pgbouncer");
        let everywhere = Lookup { everywhere: true, ..lookup };
        assert_eq!(GetAuth::installed(&everywhere, true).to_string(), "2: auth in every database");
    }

    #[test]
    fn a_note_counts_only_for_its_own_lookup() {
        let lookup =
            Lookup { auth_user: "auth".into(), database: "pgbouncer".into(), everywhere: false };
        for clients in [true, false] {
            let note = GetAuth::installed(&lookup, clients);
            assert!(note.is_of(&lookup) && note.lacks_clients() != clients);
            assert!(!note.is_of(&Lookup { auth_user: "other".into(), ..lookup.clone() }));
            assert!(!note.is_of(&Lookup { everywhere: true, ..lookup.clone() }));
        }
    }
}

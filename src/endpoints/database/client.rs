//! One client: its request, its credentials, and its wanted state in PostgreSQL.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::event::{Endpoint, RelationId};
use crate::facts::Texts;
use crate::look::Look;
use crate::notes::Leaving;
use crate::peer_bag::role;
use crate::pgbouncer::{DatabaseName, PgbDbs};
use crate::plan::{Bag, NewClient, Plan};
use crate::postgres::{Roles, ServerVersion};
use crate::secret::Secret;
use crate::status::ClientName;

/// The client's key that requests a database, and our key that grants it.
pub const DATABASE: &str = "database";
/// The client's key with the requested roles of its user.
const ROLES: &str = "extra-user-roles";
/// The client's key with the fields that it wants in secrets.
const REQUESTED_SECRETS: &str = "requested-secrets";
/// The key under which each side of the interface stores a copy of the other side's app bag.
const DATA: &str = "data";

/// The longest list of requested secrets, in bytes.
const LONGEST_LIST: usize = 65_536;

/// The keys of unsupported requests, each with a description for the status.
const NOT_SERVED: [(&str, &str); 4] = [
    ("entity-type", "it requests a custom user or group"),
    ("requested-entity-secret", "it requests a user name of its choice"),
    ("prefix-matching", "it requests all databases with a name prefix"),
    ("requests", "it uses version 1 of the interface"),
];

/// One client's relation.
#[derive(Clone)]
pub struct Client {
    /// The number of the relation.
    pub relation: RelationId,
    /// The name of the client's application, for messages; `None` before Juju names it.
    pub application: Option<String>,
    /// Our app bag.
    pub app: Texts,
    /// The client's app bag.
    pub remote: Texts,
    /// The client has its credentials, which stay the same until the relation ends.
    pub is_answered: bool,
    /// The client's password, from our bag or a secret; `None` if it was not read or does not
    /// exist.
    pub password: Option<Secret>,
    /// Number of recorded attempts to answer this client; each may have failed.
    pub attempts: usize,
    /// A new password.
    pub fresh: Secret,
    /// A new salt for the verifier.
    pub salt: [u8; 16],
}

/// A client that has its credentials.
#[derive(Clone)]
pub struct Answered {
    /// The client.
    pub client: Client,
    /// The client's database.
    pub database: String,
    /// The client's password.
    pub password: Secret,
}

/// A valid request of a client.
#[derive(Clone)]
pub struct Request<'a> {
    /// The client.
    pub client: &'a Client,
    /// The requested database; for an answered client, the granted database.
    pub database: String,
    /// The requested roles.
    pub roles: Roles,
}

/// The state of a client according to databases and notes, before its bag is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The client's database is entered. The bag says whether the client has its credentials.
    Entered,
    /// Unknown. The client has its credentials if the bag says so and the password is readable.
    /// The bag of a suspended relation may name a secret that was removed.
    Unknown,
    /// The client's turn for its answer has come. A hook that failed may have left a secret with
    /// the password.
    Due,
}

/// Reads a client's relation. Reads the password only where it decides.
pub fn read(look: &mut Look<'_>, relation: RelationId, standing: Standing) -> Result<Client> {
    let app = look.bag(Bag::App(relation))?.clone();
    let remote = look.remote_bag(relation)?;
    let has_credentials = is_answered(&app);
    let is_password_read = match standing {
        Standing::Entered => false,
        Standing::Unknown => has_credentials,
        Standing::Due => true,
    };
    let password = match app.get("password") {
        Some(password) => Some(Secret::new(password)),
        None if look.has_secrets() && is_password_read && !remote.is_empty() => {
            look.client_password(relation)?
        }
        None => None,
    };
    let is_answered = match standing {
        Standing::Entered => has_credentials,
        Standing::Unknown | Standing::Due => has_credentials && password.is_some(),
    };
    // A model without secrets keeps a copy in the peer bag for the next leader.
    let kept = look.app_bag()?.text(&role(relation)).map(Secret::new);
    Ok(Client {
        relation,
        // Reading the client's bag has noted the name.
        application: look.notes().remote_apps.get(&relation).cloned(),
        app,
        remote,
        is_answered,
        password: password.or(kept),
        attempts: look.attempts(relation),
        fresh: look.fresh_password(),
        salt: look.fresh_salt(),
    })
}

/// Reads the relation and the password of every client.
pub fn read_all(look: &mut Look<'_>) -> Result<Vec<Client>> {
    let relations = look.client_relations()?;
    relations.into_iter().map(|relation| read(look, relation, Standing::Unknown)).collect()
}

/// The clients that have their credentials, and whether the password of one is unreadable.
pub fn answered(clients: Vec<Client>) -> (Vec<Answered>, bool) {
    let (mut answered, mut is_one_unreadable) = (Vec::new(), false);
    for client in clients.into_iter().filter(|client| is_answered(&client.app)) {
        match (client.app.get(DATABASE).cloned(), client.password.clone()) {
            (Some(database), Some(password)) => {
                answered.push(Answered { client, database, password });
            }
            _ => is_one_unreadable = true,
        }
    }
    (answered, is_one_unreadable)
}

/// The roles of all clients whose relations exist, or have an entry in the databases. A unit that
/// is being removed ignores the entries, because it has already left some of these relations.
pub fn roles_of_all(look: &mut Look<'_>) -> Result<Vec<String>> {
    let mut relations = look.relations(Endpoint::Database)?;
    if look.notes().leaving == Leaving::No {
        let databases = look.databases()?;
        let entered = databases.entries.0.keys().filter_map(|origin| origin.relation());
        relations.extend(entered.map(RelationId));
    }
    relations.sort();
    relations.dedup();
    Ok(relations.into_iter().map(role).collect())
}

impl Client {
    /// The client's name in messages.
    pub fn name(&self) -> ClientName {
        ClientName { relation: self.relation, application: self.application.clone() }
    }

    /// The wanted state of the client's database and role in PostgreSQL. `comment_prefix` begins
    /// the comment on every role of this application.
    pub fn wanted(
        &self,
        database: &str,
        roles: &Roles,
        password: Secret,
        comment_prefix: &str,
    ) -> NewClient {
        NewClient {
            client: self.name(),
            role: role(self.relation),
            database: database.to_owned(),
            password,
            salt: self.salt,
            comment: comment(comment_prefix, self.relation),
            known: false,
            roles: roles.clone(),
            is_answered: self.is_answered,
        }
    }

    /// The roles that the client requests.
    pub fn roles(&self) -> Roles {
        Roles::parse(self.remote.get(ROLES).map_or("", String::as_str))
    }

    /// The fields that this client gets in secrets. A relation that started with plain credentials
    /// keeps them plain, because the client would not look for a secret.
    pub fn secrets(&self, has_secrets: bool) -> Vec<String> {
        // Only these two keys count: `tls` and `uris` are plain for every client that did not
        // request them in a secret.
        let began_plain = ["username", "password"].iter().any(|key| self.app.contains_key(*key));
        if !has_secrets || began_plain {
            return Vec::new();
        }
        let requested = self.remote.get(REQUESTED_SECRETS);
        requested.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Why the kind of the client's request is not supported; `None` for a supported kind.
    pub fn not_served(&self) -> Option<String> {
        let is_asked = |key| self.remote.get(key).is_some_and(|value| value != "false");
        let (key, what) = NOT_SERVED.into_iter().find(|(key, _)| is_asked(*key))?;
        Some(format!("{what} ({key}), which is not supported; relate it to PostgreSQL directly"))
    }

    /// The client's request: `None` if there is none yet, an error if it cannot be served.
    pub fn request(
        &self,
        has_secrets: bool,
        version: Option<ServerVersion>,
        databases: &PgbDbs,
    ) -> Result<Option<Request<'_>>, String> {
        let roles = self.roles();
        let asked = self.remote.get(DATABASE);
        if self.is_answered {
            // The granted name counts, because a client cannot rename its database.
            let granted = self.app.get(DATABASE).or(asked);
            return Ok(granted.map(|database| Request {
                client: self,
                database: database.clone(),
                roles,
            }));
        }
        if let Some(reason) = self.not_served() {
            return Err(reason);
        }
        let asked_roles = self.remote.get(ROLES).map_or("", String::as_str);
        Roles::check_text(asked_roles).map_err(|reason| format!("invalid {ROLES}: {reason}"))?;
        let Some(name) = asked else { return Ok(None) };
        let requested = self.remote.get(REQUESTED_SECRETS).filter(|_| has_secrets);
        let is_list = |text: &str| {
            text.len() <= LONGEST_LIST && serde_json::from_str::<Vec<String>>(text).is_ok()
        };
        if requested.is_some_and(|text| !is_list(text)) {
            return Err(format!(
                "its {REQUESTED_SECRETS} is not a JSON list of names within 64 kB; update its charm"
            ));
        }
        let from_16 = version.is_some_and(ServerVersion::has_catalog_roles);
        let name = DatabaseName::parse(name)
            .and_then(|name| if from_16 { name.from_16() } else { Ok(name) });
        let database = name.map_err(|error| error.to_string())?.to_string();
        if let Some(entry) = databases.with_alias(&database) {
            return Err(format!(
                "invalid database name \"{database}\": it is the read-only name of database {}; choose \
                 another name",
                entry.name
            ));
        }
        roles.check(version)?;
        Ok(Some(Request { client: self, database, roles }))
    }
}

/// Whether our app bag holds credentials, or the URI of a secret with them.
pub fn is_answered(app: &Texts) -> bool {
    app.contains_key("secret-user")
        || (app.contains_key("username") && app.contains_key("password"))
}

/// The comment on a client's role, with the prefix for every role of this application.
pub fn comment(prefix: &str, relation: RelationId) -> String {
    format!("{}{relation}", comment_prefix(prefix))
}

/// The beginning of the comment on every client's role.
pub fn comment_prefix(prefix: &str) -> String {
    format!("{prefix}, relation database:")
}

/// The plan that stores a copy of `remote` under `data` in `bag`, if the copy there differs.
pub fn seen_data(bag: Bag, own: &Texts, remote: &Texts) -> Plan {
    let mut plan = Plan::default();
    let now: BTreeMap<_, _> = remote.iter().filter(|(key, _)| *key != DATA).collect();
    let before: Option<BTreeMap<String, String>> =
        own.get(DATA).and_then(|text| serde_json::from_str(text).ok());
    if before.is_none_or(|before| !before.iter().eq(now.iter().map(|(key, value)| (*key, *value))))
    {
        // In a model without secrets, the other side's bag holds passwords.
        plan.set(bag, DATA, Secret::new(serde_json::to_string(&now).unwrap_or_default()));
    }
    plan
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A databag with these pairs.
    pub(crate) fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// A client with this request.
    pub(crate) fn client(id: u32, remote: &[(&str, &str)]) -> Client {
        Client {
            relation: RelationId(id),
            application: None,
            app: Texts::new(),
            remote: texts(remote),
            is_answered: false,
            password: None,
            attempts: 0,
            fresh: Secret::new("fresh password"),
            salt: [7; 16],
        }
    }

    /// A client with this request that has its credentials.
    pub(crate) fn answered_client(id: u32, remote: &[(&str, &str)]) -> Client {
        let database = remote.iter().find(|(key, _)| *key == DATABASE).map_or("", |(_, name)| name);
        let app = texts(&[("secret-user", "secret:abc"), ("database", database)]);
        Client { app, is_answered: true, ..client(id, remote) }
    }

    /// A usual request.
    pub(crate) const REQUEST: [(&str, &str); 2] =
        [("database", "shop"), ("requested-secrets", r#"["username","password","uris","tls"]"#)];

    /// The request of a client that may use every database.
    pub(crate) const CRM: [(&str, &str); 2] =
        [("database", "crm"), ("extra-user-roles", "createdb, admin")];

    #[test]
    fn a_client_with_an_unreadable_password_is_omitted_and_reported() {
        let readable =
            |id| Client { password: Some(Secret::new("p")), ..answered_client(id, &REQUEST) };
        let hidden = answered_client(7, &REQUEST);
        let (found, is_one_unreadable) =
            answered(vec![readable(6), hidden, readable(8), client(9, &REQUEST)]);
        let found: Vec<_> = found.iter().map(|answered| answered.client.relation.0).collect();
        assert_eq!((found, is_one_unreadable), (vec![6, 8], true));
        assert!(!answered(vec![readable(6), client(9, &REQUEST)]).1);
    }

    #[test]
    fn a_relation_that_started_plain_stays_plain() {
        let mut began_plain = client(6, &REQUEST);
        assert_eq!(began_plain.secrets(true).len(), 4);
        began_plain.app = texts(&[("username", "relation_id_6"), ("password", "p")]);
        assert_eq!(began_plain.secrets(true), Vec::<String>::new());
    }

    #[test]
    fn a_password_in_a_secret_never_moves_into_the_bag() {
        let mut answered =
            client(6, &[("database", "shop"), ("requested-secrets", r#"["username","password"]"#)]);
        answered.app =
            texts(&[("secret-user", "secret:abc"), ("tls", "False"), ("uris", "postgresql://…")]);
        assert_eq!(answered.secrets(true), ["username", "password"]);
    }

    #[test]
    fn an_app_bag_with_a_part_of_the_credentials_is_no_answer() {
        assert!(is_answered(&texts(&[("secret-user", "secret:abc")])));
        assert!(is_answered(&texts(&[("username", "u"), ("password", "p")])));
        assert!(!is_answered(&texts(&[("data", "{}"), ("username", "u")])));
    }
}

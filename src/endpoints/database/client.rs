//! One client: what it asks for, and what it has.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::event::{Endpoint, RelationId};
use crate::facts::Texts;
use crate::look::Look;
use crate::peer_bag::role;
use crate::pgbouncer::{DatabaseName, PgbDbs};
use crate::plan::{Bag, NewClient, Plan};
use crate::postgres::{Roles, ServerVersion};
use crate::secret::Secret;

/// The client's key that asks for a database, and ours that grants it.
pub const DATABASE: &str = "database";
/// The client's key with the roles it wants for its user.
const ROLES: &str = "extra-user-roles";
/// The client's key with the fields it wants in secrets.
const REQUESTED_SECRETS: &str = "requested-secrets";
/// The key under which both sides of the interface keep what they saw of the other's app bag.
const DATA: &str = "data";

/// Keys of requests that are none for a database and a user of it, with what to do about them.
const NOT_SERVED: [(&str, &str); 4] = [
    ("entity-type", "it asks for a user or group of its own making"),
    ("requested-entity-secret", "it asks for a user of its own naming"),
    ("prefix-matching", "it asks for all databases whose names begin alike"),
    ("requests", "it speaks version 1 of the interface"),
];

/// One client's relation.
#[derive(Clone, Debug)]
pub struct Client {
    /// The relation.
    pub relation: RelationId,
    /// Our app bag.
    pub app: Texts,
    /// The client's app bag.
    pub remote: Texts,
    /// It has its credentials: then they stay for the relation's life.
    pub is_answered: bool,
    /// The password it has been given, in our bag or in a secret under our label, as far as it was
    /// read.
    pub password: Option<Secret>,
    /// How many hooks have failed that were to answer it.
    pub attempts: usize,
    /// A password that was never used before.
    pub fresh: Secret,
    /// The salt for its verifier.
    pub salt: [u8; 16],
}

/// A client that has its credentials.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The client.
    pub client: Client,
    /// Its database.
    pub database: String,
    /// Its password.
    pub password: Secret,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The client.
    pub client: &'a Client,
    /// Its database.
    pub database: String,
    /// Its roles.
    pub roles: Roles,
}

/// What a client's role and database depend on beside the client.
#[derive(Clone, Copy)]
pub struct NewClientFacts<'a> {
    /// The databases of all clients.
    pub databases: &'a PgbDbs,
    /// How the comments on all our roles begin.
    pub mark: &'a str,
}

/// What is known of a client before its bag is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its database is entered: it has its credentials if its bag says so.
    Entered,
    /// Nothing: it has its credentials if its bag says so and the password can be read. What is left
    /// in the bag of a relation that was suspended names a secret that is gone.
    Unknown,
    /// It is noted to wait: it has no credentials, whatever its bag says.
    Waiting,
    /// It is noted as restored: it has its credentials.
    Restored,
}

/// Reads a client's relation. The password of a client that has its credentials is read only where
/// its entry in the databases is missing.
pub fn read(look: &mut Look<'_>, relation: RelationId, standing: Standing) -> Result<Client> {
    let app = look.bag(Bag::App(relation))?.clone();
    let remote = look.remote_bag(relation)?;
    let has_credentials = is_answered(&app);
    let is_known = standing == Standing::Entered && has_credentials;
    let password = match app.get("password") {
        Some(password) => Some(Secret::new(password)),
        None if look.has_secrets() && !is_known && !remote.is_empty() => look.client_password(relation)?,
        None => None,
    };
    let is_answered = match standing {
        Standing::Entered => has_credentials,
        Standing::Unknown => has_credentials && password.is_some(),
        Standing::Waiting => false,
        Standing::Restored => true,
    };
    // A model without secrets keeps a copy for the next leader in the peer bag.
    let kept = look.app_bag()?.text(&role(relation)).map(Secret::new);
    Ok(Client {
        relation,
        app,
        remote,
        is_answered,
        password: password.or(kept),
        attempts: look.attempts(relation),
        fresh: look.fresh_password(),
        salt: look.fresh_salt(),
    })
}

/// Reads every client's relation, with its password.
pub fn read_all(look: &mut Look<'_>) -> Result<Vec<Client>> {
    let relations = look.relations(Endpoint::Database)?;
    relations.into_iter().map(|relation| read(look, relation, Standing::Unknown)).collect()
}

/// The clients that have their credentials, and whether the password of one cannot be read now.
pub fn answered(clients: Vec<Client>) -> (Vec<Answered>, bool) {
    let (mut answered, mut is_one_hidden) = (Vec::new(), false);
    for client in clients.into_iter().filter(|client| is_answered(&client.app)) {
        match (client.app.get(DATABASE).cloned(), client.password.clone()) {
            (Some(database), Some(password)) => answered.push(Answered { client, database, password }),
            _ => is_one_hidden = true,
        }
    }
    (answered, is_one_hidden)
}

/// The roles of all clients that are there, or are not known to be gone; for a unit that leaves, of
/// those that it has not left yet.
pub fn roles_of_all(look: &mut Look<'_>) -> Result<Vec<String>> {
    let mut relations = look.relations(Endpoint::Database)?;
    if !look.notes().is_leaving {
        let databases = look.databases()?;
        let entered = databases.entries.0.keys().filter_map(|origin| origin.relation());
        relations.extend(entered.map(RelationId));
    }
    relations.sort();
    relations.dedup();
    Ok(relations.into_iter().map(role).collect())
}

impl Client {
    /// Its database and role as PostgreSQL should have them.
    pub fn wanted(
        &self,
        database: &str,
        roles: &Roles,
        password: Secret,
        facts: NewClientFacts<'_>,
    ) -> NewClient {
        NewClient {
            relation: self.relation,
            role: role(self.relation),
            database: database.to_owned(),
            password,
            salt: self.salt,
            comment: comment(facts.mark, self.relation),
            known: false,
            roles: roles.clone(),
            alone: facts.databases.names().filter(|name| *name == database).count() <= 1,
            is_answered: self.is_answered,
        }
    }

    /// The roles it asks for.
    pub fn roles(&self) -> Roles {
        Roles::parse(self.remote.get(ROLES).map_or("", String::as_str))
    }

    /// The fields that go into secrets for this client. A relation that began with plain credentials
    /// keeps them plain: the client would not look elsewhere.
    pub fn secrets(&self, has_secrets: bool) -> Vec<String> {
        // `tls` and `uris` tell nothing: a client that asked for no secret of that name has it plain
        // beside one.
        let began_plain = ["username", "password"].iter().any(|key| self.app.contains_key(*key));
        if !has_secrets || began_plain {
            return Vec::new();
        }
        let requested = self.remote.get(REQUESTED_SECRETS);
        requested.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Why its request is none that is served here, whatever it names.
    pub fn not_served(&self) -> Option<String> {
        let is_asked = |key| self.remote.get(key).is_some_and(|value| value != "false");
        let (key, what) = NOT_SERVED.into_iter().find(|(key, _)| is_asked(*key))?;
        Some(format!("{what} ({key}), which is not served here: relate it to PostgreSQL itself"))
    }

    /// What it asks for, nothing if it has not asked yet, or why it cannot have it.
    pub fn request(
        &self,
        has_secrets: bool,
        version: Option<ServerVersion>,
        databases: &PgbDbs,
    ) -> Result<Option<Request<'_>>, String> {
        let roles = self.roles();
        let asked = self.remote.get(DATABASE);
        if self.is_answered {
            // The name is the one that was granted; a client cannot rename its database.
            let granted = self.app.get(DATABASE).or(asked);
            return Ok(granted.map(|database| Request { client: self, database: database.clone(), roles }));
        }
        if let Some(reason) = self.not_served() {
            return Err(reason);
        }
        let Some(name) = asked else { return Ok(None) };
        let requested = self.remote.get(REQUESTED_SECRETS).filter(|_| has_secrets);
        if requested.is_some_and(|text| serde_json::from_str::<Vec<String>>(text).is_err()) {
            return Err(format!("its {REQUESTED_SECRETS} is not a JSON list of names"));
        }
        let from_16 = version.is_some_and(ServerVersion::has_catalog_roles);
        let name = DatabaseName::parse(name).and_then(|name| if from_16 { name.from_16() } else { Ok(name) });
        let database = name.map_err(|error| error.to_string())?.to_string();
        if let Some(entry) = databases.with_alias(&database) {
            return Err(format!(
                "invalid database name \"{database}\": by it the database {} is read from replicas; choose another name",
                entry.name
            ));
        }
        roles.check(version)?;
        Ok(Some(Request { client: self, database, roles }))
    }
}

/// Whether an app bag of ours holds credentials or the URI of those.
pub fn is_answered(app: &Texts) -> bool {
    app.contains_key("secret-user") || (app.contains_key("username") && app.contains_key("password"))
}

/// The comment on a client's role; `mark` begins the comments on all our roles.
pub fn comment(mark: &str, relation: RelationId) -> String {
    format!("{}{relation}", self::mark(mark))
}

/// How the comments on the roles of clients begin.
pub fn mark(mark: &str) -> String {
    format!("{mark}, relation database:")
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A databag.
    pub(crate) fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// A client that asks for this.
    pub(crate) fn client(id: u32, remote: &[(&str, &str)]) -> Client {
        Client {
            relation: RelationId(id),
            app: Texts::new(),
            remote: texts(remote),
            is_answered: false,
            password: None,
            attempts: 0,
            fresh: Secret::new("fresh password"),
            salt: [7; 16],
        }
    }

    /// A client that the leader of this or an older revision has answered.
    pub(crate) fn answered_client(id: u32, remote: &[(&str, &str)]) -> Client {
        let database = remote.iter().find(|(key, _)| *key == DATABASE).map_or("", |(_, name)| name);
        let app = texts(&[("secret-user", "secret:abc"), ("database", database)]);
        Client { app, is_answered: true, ..client(id, remote) }
    }

    /// A usual request.
    pub(crate) const REQUEST: [(&str, &str); 2] =
        [("database", "shop"), ("requested-secrets", r#"["username","password","uris","tls"]"#)];

    /// The request of a client that may use every database.
    pub(crate) const CRM: [(&str, &str); 2] = [("database", "crm"), ("extra-user-roles", "createdb, admin")];

    #[test]
    fn a_client_whose_password_cannot_be_read_is_left_out_and_told_of() {
        let readable = |id| Client { password: Some(Secret::new("p")), ..answered_client(id, &REQUEST) };
        let hidden = answered_client(7, &REQUEST);
        let (found, is_one_hidden) = answered(vec![readable(6), hidden, readable(8), client(9, &REQUEST)]);
        let found: Vec<_> = found.iter().map(|answered| answered.client.relation.0).collect();
        assert_eq!((found, is_one_hidden), (vec![6, 8], true));
        assert!(!answered(vec![readable(6), client(9, &REQUEST)]).1);
    }

    #[test]
    fn a_relation_that_began_plain_stays_plain() {
        let mut began_plain = client(6, &REQUEST);
        assert_eq!(began_plain.secrets(true).len(), 4);
        began_plain.app = texts(&[("username", "relation_id_6"), ("password", "p")]);
        assert_eq!(began_plain.secrets(true), Vec::<String>::new());
    }

    #[test]
    fn a_password_given_in_a_secret_never_moves_into_the_bag() {
        let mut answered =
            client(6, &[("database", "shop"), ("requested-secrets", r#"["username","password"]"#)]);
        answered.app = texts(&[("secret-user", "secret:abc"), ("tls", "False"), ("uris", "postgresql://…")]);
        assert_eq!(answered.secrets(true), ["username", "password"]);
    }

    #[test]
    fn an_app_bag_with_part_of_the_credentials_is_no_answer() {
        assert!(is_answered(&texts(&[("secret-user", "secret:abc")])));
        assert!(is_answered(&texts(&[("username", "u"), ("password", "p")])));
        assert!(!is_answered(&texts(&[("data", "{}"), ("username", "u")])));
    }
}

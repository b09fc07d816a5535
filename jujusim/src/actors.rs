//! Charms written in Rust that live in the simulator: the neighbours of the charm under test.
//!
//! They speak the interface `postgresql_client` through the same hook tools, permissions and commits as any charm.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::charm::{Charm, ConfigOption, Endpoint, Role};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::hook::Port;
use crate::model::{Bag, Kind, Model};
use crate::server::{PORT, Server};

type Done<T = ()> = std::result::Result<T, String>;

/// A charm without a process.
pub(crate) trait Actor: Send + Sync {
    /// One event. An error fails the hook.
    fn handle(&self, port: &mut Port<'_>) -> Done;

    /// The PostgreSQL server it operates.
    fn server(&self) -> Option<MutexGuard<'_, Server>> {
        None
    }
}

/// The actor of this kind, with its metadata.
pub(crate) fn make(kind: &str, model: &mut Model) -> Result<Kind> {
    let endpoint = |role| Endpoint { role, interface: "postgresql_client".to_owned(), limit: None };
    let option = || ConfigOption { kind: "string".to_owned(), default: None, description: String::new() };
    match kind {
        "postgresql" => {
            let address = model.network.take()?;
            let dir = model.dir.join(format!("postgresql-{}", address.octets()[3]));
            let server = Server::create(&dir, address)?;
            let charm = Charm {
                name: "postgresql-k8s".to_owned(),
                endpoints: BTreeMap::from([("database".to_owned(), endpoint(Role::Provider))]),
                ..Charm::default()
            };
            Ok(Kind::Actor(Arc::new(Postgresql(Mutex::new(server))), charm))
        }
        "client" => {
            let options = ["database", "extra-user-roles", "requested-secrets"];
            let charm = Charm {
                name: "client".to_owned(),
                endpoints: BTreeMap::from([("database".to_owned(), endpoint(Role::Requirer))]),
                options: options.into_iter().map(|name| (name.to_owned(), option())).collect(),
                ..Charm::default()
            };
            Ok(Kind::Actor(Arc::new(Client), charm))
        }
        other => Err(Error::refused(format!("unknown actor {other:?}: postgresql and client are there"))),
    }
}

/// What `postgresql-k8s` does for its clients: a role and a database for each, and the answer in secrets or plainly.
struct Postgresql(Mutex<Server>);

impl Actor for Postgresql {
    fn handle(&self, port: &mut Port<'_>) -> Done {
        match port.event().clone() {
            Event::Start => {
                let version = self.version()?;
                port.tool("application-version-set", &[&version], None)?;
                port.tool("status-set", &["active"], None)?;
            }
            Event::Changed { relation, .. } if leads(port)? => self.answer(port, relation)?,
            Event::Broken { relation } if leads(port)? => self.drop_role(&user_of(relation))?,
            _ => {}
        }
        Ok(())
    }

    fn server(&self) -> Option<MutexGuard<'_, Server>> {
        Some(self.lock())
    }
}

impl Postgresql {
    fn lock(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sql(&self, database: &str, statement: &str) -> Done<Vec<postgres::SimpleQueryMessage>> {
        let mut client =
            self.lock().superuser(database).map_err(|error| format!("cannot reach PostgreSQL: {error}"))?;
        client.simple_query(statement).map_err(|error| format!("PostgreSQL refused: {error}"))
    }

    fn version(&self) -> Done<String> {
        let rows = self.sql("postgres", "SHOW server_version")?;
        let text = rows.iter().find_map(|row| match row {
            postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(text.unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned())
    }

    fn answer(&self, port: &mut Port<'_>, relation: u32) -> Done {
        let id = relation.to_string();
        let (asked, mut own) = (remote_bag(port, relation)?, own_bag(port, relation)?);
        let Some(database) = asked.get("database") else { return Ok(()) };
        let before = own.clone();
        own.insert(
            "data".to_owned(),
            json!(asked.iter().filter(|(key, _)| *key != "data").collect::<BTreeMap<_, _>>()).to_string(),
        );
        if !own.contains_key("secret-user") && !own.contains_key("username") {
            let (user, password) = (user_of(relation), password());
            let roles = asked.get("extra-user-roles").map(String::as_str).unwrap_or_default();
            self.create(&user, &password, roles, database)?;
            let endpoint = format!("{}:{PORT}", self.lock().address);
            let uri = format!("postgresql://{user}:{password}@{endpoint}/{database}");
            let fields = [
                ("user", "username", user.clone()),
                ("user", "password", password.clone()),
                ("user", "uris", uri.clone()),
                ("user", "read-only-uris", uri),
                ("tls", "tls", "False".to_owned()),
            ];
            let requested = asked
                .get("requested-secrets")
                .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
            let requested = requested.filter(|_| port.has_secrets()).unwrap_or_default();
            let mut groups: BTreeMap<&str, Bag> = BTreeMap::new();
            for (group, field, value) in fields {
                if requested.iter().any(|name| name == field) {
                    groups.entry(group).or_default().insert(field.to_owned(), value);
                } else if field != "read-only-uris" {
                    own.insert(field.to_owned(), value);
                }
            }
            for (group, content) in groups {
                let uri = share(port, &id, group, &content)?;
                own.insert(format!("secret-{group}"), uri);
            }
            own.insert("endpoints".to_owned(), endpoint.clone());
            own.insert("read-only-endpoints".to_owned(), endpoint);
            own.insert("version".to_owned(), self.version()?);
            own.insert("database".to_owned(), database.clone());
        }
        if own != before {
            port.tool("relation-set", &["--app", "-r", &id, "--file", "-"], Some(json!(own).to_string()))?;
        }
        Ok(())
    }

    /// Safe to repeat: a hook that failed later comes again, with another password.
    fn create(&self, user: &str, password: &str, roles: &str, database: &str) -> Done {
        let superuser = roles.split(',').any(|role| role.eq_ignore_ascii_case("superuser"));
        let kind = if superuser { "SUPERUSER" } else { "NOSUPERUSER" };
        let exists =
            self.sql("postgres", &format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(user)))?;
        let known = exists.iter().any(|row| matches!(row, postgres::SimpleQueryMessage::Row(_)));
        let verb = if known { "ALTER" } else { "CREATE" };
        self.sql(
            "postgres",
            &format!("{verb} ROLE {} LOGIN {kind} PASSWORD {}", name(user), literal(password)),
        )?;
        let exists = self
            .sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(database)))?;
        if !exists.iter().any(|row| matches!(row, postgres::SimpleQueryMessage::Row(_))) {
            self.sql("postgres", &format!("CREATE DATABASE {}", name(database)))?;
        }
        self.sql("postgres", &format!("GRANT ALL ON DATABASE {} TO {}", name(database), name(user)))?;
        Ok(())
    }

    /// What the role owns goes to the superuser, its rights end, in every database.
    fn drop_role(&self, user: &str) -> Done {
        let exists =
            self.sql("postgres", &format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(user)))?;
        if !exists.iter().any(|row| matches!(row, postgres::SimpleQueryMessage::Row(_))) {
            return Ok(());
        }
        for row in
            self.sql("postgres", "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate")?
        {
            if let postgres::SimpleQueryMessage::Row(row) = row {
                let role = name(user);
                let statement = format!("REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}");
                self.sql(row.get(0).unwrap_or("postgres"), &statement)?;
            }
        }
        self.sql("postgres", &format!("DROP ROLE {}", name(user)))?;
        Ok(())
    }
}

/// A client that asks for a database and reads what it gets.
struct Client;

const REQUESTED: &str = r#"["username", "password", "tls", "tls-ca", "uris", "read-only-uris"]"#;

impl Actor for Client {
    fn handle(&self, port: &mut Port<'_>) -> Done {
        match port.event().clone() {
            Event::Start => {
                port.tool("status-set", &["waiting", "no database yet"], None)?;
            }
            Event::Created { relation } if leads(port)? => {
                let config = port.json("config-get", &[])?;
                let option = |name: &str| config[name].as_str().map(str::to_owned);
                let mut wanted = BTreeMap::new();
                wanted.insert("database", option("database").unwrap_or_else(|| "client".to_owned()));
                wanted.insert(
                    "requested-secrets",
                    option("requested-secrets").unwrap_or_else(|| REQUESTED.to_owned()),
                );
                if let Some(roles) = option("extra-user-roles") {
                    wanted.insert("extra-user-roles", roles);
                }
                let id = relation.to_string();
                port.tool(
                    "relation-set",
                    &["--app", "-r", &id, "--file", "-"],
                    Some(json!(wanted).to_string()),
                )?;
            }
            Event::Changed { relation, .. } => {
                let answer = remote_bag(port, relation)?;
                for group in ["user", "tls"] {
                    if let Some(uri) = answer.get(&format!("secret-{group}")) {
                        let label = format!("database.{relation}.{group}.secret");
                        port.tool("secret-get", &[uri, "--label", &label, "--refresh"], None)?;
                    }
                }
                if answer.contains_key("endpoints") {
                    port.tool("status-set", &["active", "has a database"], None)?;
                }
            }
            Event::SecretChanged { id } => {
                port.tool("secret-get", &[&id, "--refresh"], None)?;
            }
            Event::Broken { .. } => {
                port.tool("status-set", &["waiting", "no database any more"], None)?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn leads(port: &mut Port<'_>) -> Done<bool> {
    Ok(port.json("is-leader", &[])? == Value::Bool(true))
}

fn remote_bag(port: &mut Port<'_>, relation: u32) -> Done<Bag> {
    let app = port.json("relation-list", &["--app", "-r", &relation.to_string()])?;
    port.bag(relation, app.as_str().unwrap_or_default())
}

fn own_bag(port: &mut Port<'_>, relation: u32) -> Done<Bag> {
    let app = port.app();
    port.bag(relation, &app)
}

/// A secret for one group of fields, granted to the relation; an older one of that label gets the new content.
fn share(port: &mut Port<'_>, relation: &str, group: &str, content: &Bag) -> Done<String> {
    let label = format!("database.{relation}.{group}.secret");
    let file = port.scratch();
    fs::write(&file, json!(content).to_string()).map_err(|error| error.to_string())?;
    let path = file.display().to_string();
    let known = port.json("secret-info-get", &["--label", &label]).ok();
    let known = known.and_then(|info| Some(info.as_object()?.keys().next()?.clone()));
    let uri = match known {
        Some(id) => {
            port.tool("secret-set", &[&id, "--file", &path], None)?;
            format!("secret:{id}")
        }
        None => port.tool("secret-add", &["--label", &label, "--file", &path], None)?.trim().to_owned(),
    };
    fs::remove_file(&file).map_err(|error| error.to_string())?;
    port.tool("secret-grant", &[&uri, "-r", relation], None)?;
    Ok(uri)
}

fn user_of(relation: u32) -> String {
    format!("relation_id_{relation}")
}

fn password() -> String {
    use rand::RngExt as _;
    let mut random = rand::rng();
    (0..24).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect()
}

fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

//! What `postgresql-k8s` does for its clients: a role and a database for each, and the answer in secrets or plainly.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::charmed::{Login, Refusal, Track};
use super::{Actor, Done, leads, own_bag, remote_bag};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::hook::Port;
use crate::model::{Bag, Model};
use crate::server::{PORT, Release, Server, identifier, literal};

pub(super) struct Postgresql {
    server: Mutex<Server>,
    /// Without one there is one rule for everybody, and no roles but those of the clients.
    track: Option<Track>,
}

impl Postgresql {
    pub(super) fn deploy(model: &mut Model, track: Option<Track>) -> Result<Postgresql> {
        let release = track.map_or_else(Release::newest, |track| Release::find(track.major()))?;
        let address = model.network.take()?;
        let dir = model.dir.join(format!("postgresql-{}", address.octets()[3]));
        let server = Server::create(&dir, address, &release, track.map(Track::method))?;
        if let Some(track) = track {
            track.set_up(&server).map_err(Error::Refused)?;
        }
        Ok(Postgresql { server: Mutex::new(server), track })
    }
}

impl Actor for Postgresql {
    fn handle(&self, port: &mut Port<'_>) -> Done {
        match port.event().clone() {
            Event::Start => {
                let version = self.version()?;
                port.tool("application-version-set", &[&version], None)?;
                port.tool("status-set", &["active"], None)?;
            }
            Event::ConfigChanged => self.configure(port),
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
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self) -> Done<String> {
        let rows = self.lock().sql("postgres", "SHOW server_version")?;
        let text = rows.concat().concat();
        Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// What the new role asks is logged. The charm waits until it gets in, though not for long.
    fn heed(&self, user: &str) -> Done {
        let server = self.lock();
        server.sql("postgres", &format!("ALTER ROLE {} SET log_statement = 'all'", identifier(user)))?;
        if let Some(observer) = server.observer() {
            observer.wait(Duration::from_secs(3));
        }
        Ok(())
    }

    fn configure(&self, port: &Port<'_>) {
        let delay =
            port.option("hba-delay").and_then(|value| Duration::try_from_secs_f64(value.as_f64()?).ok());
        if let (Some(observer), Some(delay)) = (self.lock().observer(), delay) {
            observer.set_delay(delay);
        }
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
            let alone = port.askers("database", database) == 1;
            let login = Login { user: &user, password: &password, database, roles, alone };
            match self.create(&login) {
                Ok(()) => self.heed(&user)?,
                Err(Refusal::Blocked(why)) => {
                    port.tool("status-set", &["blocked", why], None)?;
                    return Ok(());
                }
                Err(Refusal::Failed(why)) => return Err(why),
            }
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
    fn create(&self, login: &Login<'_>) -> std::result::Result<(), Refusal> {
        let server = self.lock();
        if let Some(track) = self.track {
            return track.create(&server, login);
        }
        let superuser = login.roles.split(',').any(|role| role.eq_ignore_ascii_case("superuser"));
        let kind = if superuser { "SUPERUSER" } else { "NOSUPERUSER" };
        let verb = if server.has_role(login.user)? { "ALTER" } else { "CREATE" };
        let (user, database) = (identifier(login.user), identifier(login.database));
        server.sql(
            "postgres",
            &format!("{verb} ROLE {user} LOGIN {kind} PASSWORD {}", literal(login.password)),
        )?;
        let found = format!("SELECT FROM pg_database WHERE datname = {}", literal(login.database));
        if server.sql("postgres", &found)?.is_empty() {
            server.sql("postgres", &format!("CREATE DATABASE {database}"))?;
        }
        server.sql("postgres", &format!("GRANT ALL ON DATABASE {database} TO {user}"))?;
        Ok(())
    }

    /// What the role owns goes to the superuser, its rights end, in every database.
    fn drop_role(&self, user: &str) -> Done {
        let server = self.lock();
        if !server.has_role(user)? {
            return Ok(());
        }
        let (role, heir) = (identifier(user), if self.track.is_some() { "operator" } else { "postgres" });
        let databases = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate";
        for database in server.sql("postgres", databases)? {
            server.sql(
                &database.concat(),
                &format!("REASSIGN OWNED BY {role} TO {heir}; DROP OWNED BY {role}"),
            )?;
        }
        server.sql("postgres", &format!("DROP ROLE {role}"))?;
        Ok(())
    }
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

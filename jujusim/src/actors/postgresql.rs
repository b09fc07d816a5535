//! What `postgresql-k8s` does for its clients: a role and a database for each, and the answer in
//! secrets or plain.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::charmed::{Login, Refusal, Track};
use super::{Actor, Done, leads, own_bag, remote_bag};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::hook::Port;
use crate::model::{Bag, Model};
use crate::server::{Cluster, PORT, Release, identifier, literal};

pub(super) struct Postgresql {
    cluster: Mutex<Cluster>,
    /// The track of the charm. Without a track `pg_hba.conf` has one rule for all roles, and only
    /// the clients have roles.
    track: Option<Track>,
    version: String,
    /// The databag content that is the same for all clients.
    published: Mutex<Bag>,
    /// The CA that all clients have; `None` without TLS.
    published_ca: Mutex<Option<String>>,
    /// Whether the clients' passwords should change in the leader's next hook.
    rotation: AtomicBool,
}

impl Postgresql {
    pub(super) fn deploy(model: &mut Model, track: Option<Track>) -> Result<Postgresql> {
        let release = track.map_or_else(Release::newest, |track| Release::find(track.major()))?;
        let address = model.network.take()?;
        let cluster = Cluster::create(&model.dir, address, release, track.map(Track::method))?;
        if let Some(track) = track {
            track.set_up(cluster.primary()).map_err(Error::Refused)?;
        }
        let version =
            cluster.primary().sql("postgres", "SHOW server_version").map_err(Error::Refused)?;
        let version =
            version.concat().concat().split_whitespace().next().unwrap_or_default().to_owned();
        let published = server_fields(&cluster, &version);
        Ok(Postgresql {
            cluster: Mutex::new(cluster),
            track,
            version,
            published: Mutex::new(published),
            published_ca: Mutex::new(None),
            rotation: AtomicBool::new(false),
        })
    }
}

impl Actor for Postgresql {
    fn handle(&self, port: &mut Port<'_>) -> Done {
        match port.event().clone() {
            Event::Start => {
                port.tool("application-version-set", &[&self.version], None)?;
                port.tool("status-set", &["active"], None)?;
            }
            Event::ConfigChanged => self.configure(port),
            Event::Changed { relation, .. } if leads(port)? => self.answer(port, relation)?,
            Event::Broken { relation } if leads(port)? => self.drop_role(&user_of(relation))?,
            _ => {}
        }
        self.publish_changes(port)
    }

    fn cluster(&self) -> Option<MutexGuard<'_, Cluster>> {
        Some(lock(&self.cluster))
    }

    fn rotate(&self) {
        self.rotation.store(true, Ordering::Relaxed);
    }
}

impl Postgresql {
    fn configure(&self, port: &Port<'_>) {
        let delay = port
            .option("hba-delay")
            .and_then(|value| Duration::try_from_secs_f64(value.as_f64()?).ok());
        if let Some(delay) = delay {
            lock(&self.cluster).set_delay(delay);
        }
    }

    fn answer(&self, port: &mut Port<'_>, relation: u32) -> Done {
        let (asked, mut own) = (remote_bag(port, relation)?, own_bag(port, relation)?);
        let Some(database) = asked.get("database") else { return Ok(()) };
        let before = own.clone();
        own.insert(
            "data".to_owned(),
            json!(asked.iter().filter(|(key, _)| *key != "data").collect::<BTreeMap<_, _>>())
                .to_string(),
        );
        if !is_answered(&own) {
            let (user, password) = (user_of(relation), password());
            let roles = asked.get("extra-user-roles").map(String::as_str).unwrap_or_default();
            let alone = port.count_requests("database", database) == 1;
            match self.create(&Login { user: &user, password: &password, database, roles, alone }) {
                Ok(()) => self.wait_until_admitted(&user)?,
                Err(Refusal::Blocked(why)) => {
                    port.tool("status-set", &["blocked", why], None)?;
                    return Ok(());
                }
                Err(Refusal::Failed(why)) => return Err(why),
            }
            own.extend(self.credentials(port, relation, &asked, &password)?);
            own.insert("database".to_owned(), database.clone());
            own.extend(self.server_answer(port));
        }
        publish(port, relation, &before, own)
    }

    /// Updates the clients' databags after a change of the servers or of an option, or when
    /// passwords are due to rotate.
    fn publish_changes(&self, port: &mut Port<'_>) -> Done {
        let answer = self.server_answer(port);
        let rotates = self.rotation.load(Ordering::Relaxed);
        let ca = self.ca();
        let certifies = ca != *lock(&self.published_ca);
        if answer == *lock(&self.published) && !rotates && !certifies || !leads(port)? {
            return Ok(());
        }
        for id in strings(&port.json("relation-ids", &["database"])?) {
            let Some(relation) = id.rsplit(':').next().and_then(|number| number.parse().ok())
            else {
                continue;
            };
            let before = own_bag(port, relation)?;
            if !is_answered(&before) {
                continue;
            }
            let mut own = before.clone();
            own.extend(answer.clone());
            if rotates {
                let (asked, password) = (remote_bag(port, relation)?, password());
                let role = identifier(&user_of(relation));
                let sql = format!("ALTER ROLE {role} PASSWORD {}", literal(&password));
                lock(&self.cluster).primary().sql("postgres", &sql)?;
                let new = self.credentials(port, relation, &asked, &password)?;
                // A new revision of a secret keeps the secret's URI.
                own.extend(new.into_iter().filter(|(key, _)| !key.starts_with("secret-")));
            } else if certifies {
                let asked = remote_bag(port, relation)?;
                let new = hand_out(port, relation, &asked, tls_fields(ca.as_deref()))?;
                own.extend(new.into_iter().filter(|(key, _)| !key.starts_with("secret-")));
            }
            publish(port, relation, &before, own)?;
        }
        *lock(&self.published) = answer;
        *lock(&self.published_ca) = ca;
        self.rotation.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// The CA of the servers' certificates.
    fn ca(&self) -> Option<String> {
        lock(&self.cluster).tls().map(|tls| tls.published.clone())
    }

    /// The answer's fields about the servers. Fields named by the option `withhold` are empty.
    fn server_answer(&self, port: &Port<'_>) -> Bag {
        let mut answer = server_fields(&lock(&self.cluster), &self.version);
        let withheld = port.option("withhold");
        for key in withheld.iter().filter_map(|keys| keys.as_str()).flat_map(|keys| keys.split(','))
        {
            if let Some(value) = answer.get_mut(key.trim()) {
                value.clear();
            }
        }
        answer
    }

    /// The fields of the user, in secrets if the client requested secrets.
    fn credentials(
        &self,
        port: &mut Port<'_>,
        relation: u32,
        asked: &Bag,
        password: &str,
    ) -> Done<Bag> {
        let user = user_of(relation);
        let database = asked.get("database").map(String::as_str).unwrap_or_default();
        let endpoint = endpoint_of(lock(&self.cluster).primary().address);
        let uri = format!("postgresql://{user}:{password}@{endpoint}/{database}");
        let mut fields = vec![
            ("user", "username", user),
            ("user", "password", password.to_owned()),
            ("user", "uris", uri.clone()),
            ("user", "read-only-uris", uri),
        ];
        fields.extend(tls_fields(self.ca().as_deref()));
        hand_out(port, relation, asked, fields)
    }

    /// Makes the server log each message of the new role, and waits for a short time until the role
    /// is admitted.
    fn wait_until_admitted(&self, user: &str) -> Done {
        let cluster = lock(&self.cluster);
        let sql = format!("ALTER ROLE {} SET log_duration = on", identifier(user));
        cluster.primary().sql("postgres", &sql)?;
        if let Some(observer) = cluster.observer() {
            observer.wait(Duration::from_secs(3));
        }
        Ok(())
    }

    /// Creates a client's role and database. Safe to repeat: a hook that failed later runs again,
    /// with another password.
    fn create(&self, login: &Login<'_>) -> std::result::Result<(), Refusal> {
        let cluster = lock(&self.cluster);
        let server = cluster.primary();
        if let Some(track) = self.track {
            return track.create(server, login);
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

    /// Drops a role: in every database its objects go to the superuser and its privileges are
    /// revoked.
    fn drop_role(&self, user: &str) -> Done {
        let cluster = lock(&self.cluster);
        let server = cluster.primary();
        if !server.has_role(user)? {
            return Ok(());
        }
        let (role, heir) =
            (identifier(user), if self.track.is_some() { "operator" } else { "postgres" });
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

/// Groups, names and values of the fields about TLS. Without TLS the CA is empty.
fn tls_fields(ca: Option<&str>) -> Vec<(&'static str, &'static str, String)> {
    let tls = if ca.is_some() { "True" } else { "False" };
    vec![("tls", "tls", tls.to_owned()), ("tls", "tls-ca", ca.unwrap_or_default().to_owned())]
}

/// Puts fields into secrets as far as the client requested them there; returns the databag's
/// fields.
fn hand_out(
    port: &mut Port<'_>,
    relation: u32,
    asked: &Bag,
    fields: Vec<(&'static str, &'static str, String)>,
) -> Done<Bag> {
    let requested = asked
        .get("requested-secrets")
        .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    let requested = requested.filter(|_| port.has_secrets()).unwrap_or_default();
    let (mut plain, mut groups) = (Bag::new(), BTreeMap::<&str, Bag>::new());
    for (group, field, value) in fields {
        if !requested.iter().any(|name| name == field) {
            if field != "read-only-uris" {
                plain.insert(field.to_owned(), value);
            }
        } else if !value.is_empty() {
            groups.entry(group).or_default().insert(field.to_owned(), value);
        }
    }
    for (group, content) in groups {
        let uri = share(port, &relation.to_string(), group, &content)?;
        plain.insert(format!("secret-{group}"), uri);
    }
    Ok(plain)
}

/// The fields about the servers, the same for every client.
fn server_fields(cluster: &Cluster, version: &str) -> Bag {
    let primary = endpoint_of(cluster.primary().address);
    let standbys: Vec<String> = cluster.standbys().map(endpoint_of).collect();
    let readers = if standbys.is_empty() { primary.clone() } else { standbys.join(",") };
    [("endpoints", primary), ("read-only-endpoints", readers), ("version", version.to_owned())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn endpoint_of(address: Ipv4Addr) -> String {
    format!("{address}:{PORT}")
}

fn is_answered(own: &Bag) -> bool {
    own.contains_key("secret-user") || own.contains_key("username")
}

/// Writes the fields that differ; an empty value removes a field.
fn publish(port: &mut Port<'_>, relation: u32, before: &Bag, mut own: Bag) -> Done {
    own.retain(|key, value| before.get(key).map_or("", String::as_str) != value);
    if !own.is_empty() {
        let id = relation.to_string();
        port.tool(
            "relation-set",
            &["--app", "-r", &id, "--file", "-"],
            Some(json!(own).to_string()),
        )?;
    }
    Ok(())
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts one group of fields into a secret and grants the secret to the relation. An existing secret
/// of that label gets a new revision.
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
        None => {
            port.tool("secret-add", &["--label", &label, "--file", &path], None)?.trim().to_owned()
        }
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

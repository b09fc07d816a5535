//! The peer relation `pgb-peers`: the leader publishes, followers copy.
//!
//! The handlers follow the two flowcharts of the relation's specification box by box; where a line
//! is not in them, it says why it is here.

use std::collections::BTreeMap;

use crate::handlers::{Seat, database};
use crate::options::Options;
use crate::pgbouncer::{
    Auth, AuthType, DATABASE_NAME_LIMIT, Database, InstanceConfig, PgbDbs, SharedConfig, Unit, UserList,
};
use crate::plan::{Bag, Effect, Load, Plan, Value, Wait};
use crate::secret::Secret;

/// Unit bag: this unit's name in DNS.
pub const HOSTNAME: &str = "hostname";
/// App bag: the leader's [`HOSTNAME`].
pub const LEADER_HOSTNAME: &str = "leader_hostname";
/// App bag: the configuration, a whole `pgbouncer.ini` but for what belongs to one unit.
pub const CONFIG: &str = "cfg_file";
/// App bag, models without secrets: the user list.
pub const AUTH: &str = "auth_file";
/// App bag: the revision of the secret that holds the user list, so that followers hear of a new
/// one; a `secret-changed` can get lost while an agent is down.
pub const AUTH_REVISION: &str = "auth_file_revision";
/// App bag: the databases by relation, see [`PgbDbs`].
pub const DATABASES: &str = "pgb_dbs_config";
/// Unit bag: the hash of the [`DATABASES`] whose configuration this unit has loaded.
pub const DATABASES_LOADED: &str = "pgb_dbs";
/// App bag, models without secrets: the password of the statistics user.
pub const MONITORING_PASSWORD: &str = "monitoring_password";
/// What stands in a field that was deleted, by the custom of the Python charm.
pub const DELETED: &str = "None";
/// App bag, models without secrets: the password of the administrator.
pub const ADMIN_PASSWORD: &str = "admin_password";

/// What `created` looks at.
pub struct Created {
    /// This unit's name in DNS.
    pub hostname: String,
    /// The leader's own facts; a follower needs none here.
    pub seat: Seat<Own, ()>,
}

/// What `changed` looks at.
pub struct Changed {
    /// This unit's name in DNS.
    pub hostname: String,
    /// Whose flow to follow.
    pub seat: Seat<Own, Followed>,
    /// This unit's processes.
    pub here: Here,
}

/// What the leader knows by itself.
pub struct Own {
    /// The configuration it renders from the options, the databases and the backend; an error where
    /// an option cannot be used.
    pub config: Result<Config, Wait>,
    /// The users, once the backend made them possible.
    pub users: Option<Users>,
    /// Where the users are kept today.
    pub store: Store,
    /// Clients that were told other addresses than those of today.
    pub clients: Vec<database::Answer>,
    /// Where clients reach the units, if that is known.
    pub endpoints: Option<String>,
}

/// What a follower finds.
pub struct Followed {
    /// The configuration in the app bag, if it is valid; while the leader publishes none, the one
    /// this unit renders by the leader's own code.
    pub config: Option<Config>,
    /// The user list of the app secret or bag, if it is valid.
    pub users: Option<Users>,
    /// What this unit goes on with where one of the two is missing.
    pub kept: Kept,
    /// What was published and cannot be used.
    pub broken: Vec<Wait>,
}

/// What lies on this unit from an earlier day.
#[derive(Default)]
pub struct Kept {
    /// The last configuration this unit took over.
    pub config: Option<Config>,
    /// The last user list.
    pub users: Option<UserList>,
}

/// A configuration and the very text it was published as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it says.
    pub shared: SharedConfig,
    /// How it says it.
    pub text: String,
}

/// The user list with the passwords behind its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// The lines.
    pub list: UserList,
    /// The statistics user's password.
    pub monitoring: Option<Secret>,
    /// The administrator's password.
    pub admin: Option<Secret>,
}

impl Users {
    /// No users at all, as an owner says it, not as something unknown.
    pub fn nobody() -> Self {
        Self { list: UserList::default(), monitoring: None, admin: None }
    }
}

/// Where the leader finds the users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A model without secrets: the app bag.
    Bag,
    /// A model with secrets.
    Secret {
        /// All that secrets of this and older layouts hold.
        content: BTreeMap<String, Secret>,
        /// The secret that carries an older layout's label, or none at all, if that is where
        /// `content` is from.
        adopt: Option<String>,
        /// The newest revision of the secret under today's label, if there is one.
        revision: Option<u64>,
        /// The keys of an older layout or Juju that still lie plain in the app bag.
        plain: Vec<String>,
    },
}

/// This unit's processes, as they are.
pub struct Here {
    /// What the files of one unit depend on.
    pub unit: Unit,
    /// What each process says it runs: its digest, or nothing where a reload is owed.
    pub loaded: Vec<Option<String>>,
    /// The name of the statistics user, who shows that the user list was read.
    pub stats_user: String,
}

/// Handles `pgb-peers-relation-created`.
pub fn created(seen: &Created) -> Plan {
    let mut plan = Plan::default();
    plan.set(Bag::PeerUnit, HOSTNAME, seen.hostname.as_str());
    let Seat::Leader(own) = &seen.seat else { return plan };

    let config = match &own.config {
        Ok(config) => config,
        Err(wait) => return plan.wait(wait.clone()),
    };
    plan.set(Bag::PeerApp, CONFIG, config.text.as_str());

    let Some(users) = &own.users else { return plan.wait(Wait::Backend) };
    plan.append(publish_users(users, &own.store));
    plan
}

/// Handles `pgb-peers-relation-changed`, `-joined` and `-departed`, and ends every dispatch.
pub fn changed(seen: &Changed) -> Plan {
    let mut plan = Plan::default();
    plan.set(Bag::PeerUnit, HOSTNAME, seen.hostname.as_str());

    match &seen.seat {
        Seat::Leader(own) => {
            plan.append(database::update_peer_data(&own.clients, own.endpoints.as_deref()));
            let config = match &own.config {
                Ok(config) => config,
                Err(wait) => return plan.wait(wait.clone()),
            };
            plan.set(Bag::PeerApp, CONFIG, config.text.as_str());
            plan.set(Bag::PeerApp, LEADER_HOSTNAME, seen.hostname.as_str());

            // "Created" never comes again: after a refresh or a change of leader the users are put
            // where today's layout has them here.
            if let Some(users) = &own.users {
                plan.append(publish_users(users, &own.store));
            }
            // The flowchart takes the leader's local files for granted; they are made here.
            let list = own.users.as_ref().map(|users| &users.list);
            plan.append(serve(config, list, own.users.as_ref(), &seen.here));
        }
        Seat::Follower(followed) => {
            plan.append(database::update_peer_data(&[], None));
            plan.waits.clone_from(&followed.broken);
            let config = match &followed.config {
                Some(published) => Some(published),
                None => followed.kept.config.as_ref(),
            };
            let users = match &followed.users {
                Some(published) => Some(&published.list),
                None => followed.kept.users.as_ref(),
            };
            let Some(config) = config else { return plan.wait(Wait::Leader) };
            plan.append(serve(config, users, followed.users.as_ref(), &seen.here));
        }
    }
    plan
}

/// Lets the processes run `config` and `list`, if they do not already: the flowchart's last box.
fn serve(config: &Config, list: Option<&UserList>, users: Option<&Users>, here: &Here) -> Plan {
    let mut plan = Plan::default();
    let nobody = UserList::default();
    // A configuration without an auth role is one without a backend: nobody can log in.
    let list = list.filter(|_| config.shared.auth.is_some()).unwrap_or(&nobody);
    let instances: Result<Vec<_>, _> = (0..here.unit.processes)
        .map(|instance| InstanceConfig::derive(&config.shared, list, &here.unit, instance))
        .collect();
    let instances = match instances {
        Ok(instances) => instances,
        Err(error) => return plan.wait(Wait::NotLoaded(format!("cannot write pgbouncer.ini: {error}"))),
    };
    let loaded = here.loaded.iter().map(Option::as_deref);
    if !instances.iter().map(|instance| Some(instance.digest.as_str())).eq(loaded) {
        // A user list without the statistics user cannot be shown to be read by a login of his.
        let proof = users
            .and_then(|users| users.monitoring.clone())
            .filter(|_| list.0.iter().any(|user| user.name == here.stats_user))
            .map(|password| (here.stats_user.clone(), password));
        plan.push(Effect::Load(Load {
            shared: config.text.clone(),
            users: list.clone(),
            proof,
            version: here.unit.version,
            instances,
        }));
    }
    // After the load, for it vouches for it: the leader hands out credentials once all units did.
    plan.set(Bag::PeerUnit, DATABASES_LOADED, config.shared.databases_hash.as_str());
    plan
}

/// The flowchart's "Add auth file to secret store": puts the users where this model keeps them, and
/// takes over what older layouts left elsewhere.
pub fn publish_users(users: &Users, store: &Store) -> Plan {
    let mut plan = Plan::default();
    let passwords = [(MONITORING_PASSWORD, &users.monitoring), (ADMIN_PASSWORD, &users.admin)];
    let Ok(list) = users.list.render() else { return plan };
    match store {
        Store::Bag => {
            plan.set(Bag::PeerApp, AUTH, Secret::new(list));
            for (key, password) in passwords {
                if let Some(password) = password {
                    plan.set(Bag::PeerApp, key, password.clone());
                }
            }
        }
        Store::Secret { content, adopt, revision, plain } => {
            let mut wanted = content.clone();
            wanted.insert(field(AUTH), Secret::new(list));
            for (key, password) in passwords {
                if let Some(password) = password {
                    wanted.insert(field(key), password.clone());
                }
            }
            match revision {
                Some(revision) if wanted == *content && adopt.is_none() => {
                    plan.set(Bag::PeerApp, AUTH_REVISION, revision.to_string());
                }
                _ => plan.push(Effect::SetPeerSecret { content: wanted, adopt: adopt.clone() }),
            }
            for key in plain {
                plan.set(Bag::PeerApp, key.as_str(), Value::Absent);
            }
        }
    }
    plan
}

/// The name of a databag key as a field of a secret, where Juju wants hyphens.
pub fn field(key: &str) -> String {
    key.replace('_', "-")
}

/// What the backend says of itself in `backend-database`, as far as a configuration needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Where writes go.
    pub primary: Servers,
    /// Where reads may go.
    pub replicas: Servers,
}

/// Servers that listen on the same port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Names or addresses.
    pub hosts: Vec<String>,
    /// The port.
    pub port: u16,
}

impl Servers {
    /// Reads `host:port`, `[address]:port` or several with commas between; the first port counts.
    pub fn parse(text: &str) -> Option<Self> {
        let mut hosts = Vec::new();
        let mut first = None;
        for endpoint in text.split(',').map(str::trim).filter(|endpoint| !endpoint.is_empty()) {
            let (host, port) = endpoint.rsplit_once(':')?;
            let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
            if host.is_empty() || !host.chars().all(plain) {
                return None;
            }
            hosts.push(host.to_owned());
            first.get_or_insert(port);
        }
        hosts.sort();
        Some(Self { hosts, port: first? })
    }
}

/// The configuration all units share, from what the leader knows. `databases` is the text of
/// [`DATABASES`] as it stands in the bag. Followers use it while no leader publishes one.
pub fn configuration(
    app: &str,
    options: &Options,
    databases: (&str, &PgbDbs),
    endpoints: Option<&Endpoints>,
    users: Option<&UserList>,
) -> SharedConfig {
    let auth = users.and_then(|users| {
        let stats_user = stats_user(app);
        let is_md5 = |user: &str| {
            users.0.iter().any(|line| line.name == user && line.secret.reveal().starts_with("md5"))
        };
        Some(Auth {
            auth_user: users.auth_user()?.to_owned(),
            admin_user: admin_user(app),
            auth_type: if is_md5(&stats_user) { AuthType::Md5 } else { AuthType::ScramSha256 },
            stats_user,
        })
    });
    let mut entries = BTreeMap::new();
    let mut aliases = BTreeMap::new();
    if let (Some(endpoints), Some(_)) = (endpoints, &auth) {
        let to = |servers: &Servers, dbname: Option<&str>, auth_dbname: Option<&str>| Database {
            hosts: servers.hosts.clone(),
            port: servers.port,
            dbname: dbname.map(str::to_owned),
            auth_dbname: auth_dbname.map(str::to_owned),
        };
        for entry in databases.1.0.values() {
            let name = entry.name.as_str();
            if name == "*" {
                entries.insert(name.to_owned(), to(&endpoints.primary, None, entry.auth_dbname.as_deref()));
                continue;
            }
            entries.insert(name.to_owned(), to(&endpoints.primary, Some(name), None));
            let suffixes: &[&str] = if entry.legacy { &["_readonly", "_standby"] } else { &["_readonly"] };
            for suffix in suffixes {
                let alias = format!("{name}{suffix}");
                if alias.len() <= DATABASE_NAME_LIMIT {
                    aliases.insert(alias, to(&endpoints.replicas, Some(name), None));
                }
            }
        }
    }
    // A database that really has such a name comes before an alias of another one.
    for (alias, database) in aliases {
        entries.entry(alias).or_insert(database);
    }
    SharedConfig {
        databases_hash: crate::pgbouncer::hash(databases.0),
        databases: entries,
        auth,
        listen_port: options.listen_port,
        pool_mode: options.pool_mode,
        max_db_connections: options.max_db_connections,
        max_prepared_statements: options.max_prepared_statements,
    }
}

/// The user who may read statistics.
pub fn stats_user(app: &str) -> String {
    format!("pgbouncer_stats_{}", app.replace('-', "_"))
}

/// The user who may do everything on the console.
pub fn admin_user(app: &str) -> String {
    format!("pgbouncer_admin_{}", app.replace('-', "_"))
}

//! The peer relation `pgb-peers`: the leader publishes, followers copy.
//!
//! The handlers follow the two flowcharts of the relation's specification box by box; where a line
//! is not in them, it says why it is here.

use std::collections::BTreeMap;

use crate::handlers::{Seat, database};
use crate::options::Options;
use crate::pgbouncer::{
    AUTH_DATABASE, AUTH_DATABASE_READONLY, Auth, AuthType, DATABASE_NAME_LIMIT, Database, DatabaseName,
    InstanceConfig, PgbDbs, SharedConfig, Unit, UserList,
};
use crate::plan::{Bag, Effect, Plan, Value, Wait};
use crate::secret::Secret;
use crate::workload::Files;

/// Unit bag: where the unit is reached, as Juju itself writes it.
pub const ADDRESS: &str = "ingress-address";
/// Unit bag: this unit's name in DNS.
pub const HOSTNAME: &str = "hostname";
/// Unit bag: the version of this unit's PgBouncer. The leader prepares PostgreSQL for the oldest.
pub const PGBOUNCER_VERSION: &str = "pgbouncer_version";
/// Unit bag: how many processes of this unit share the port.
pub const PROCESSES: &str = "processes";
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
/// State: the port that this unit has opened.
pub const PORT: &str = "port";
/// State: the port that PgBouncer could not have here.
pub const REFUSED_PORT: &str = "refused-port";
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
    /// This unit's processes, or why nothing is known of them.
    pub here: Result<Here, Wait>,
    /// What [`PGBOUNCER_VERSION`] says.
    pub noted_version: Option<String>,
    /// Where Juju keeps the door that clients come in by.
    pub door: Option<Door>,
    /// Whether PostgreSQL is related, as far as there is a configuration that lacks it.
    pub has_backend: bool,
}

/// What Juju has opened for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// The port, if any.
    pub open: Option<u16>,
}

/// What the leader knows by itself.
pub struct Own {
    /// The configuration it renders from the options, the databases and the backend; while an option cannot be used,
    /// from the last options that could be.
    pub config: Option<Config>,
    /// Why it is none, or not as the options have it.
    pub unmet: Option<Wait>,
    /// The one that is published has another port.
    pub moves: bool,
    /// The users, once the backend made them possible.
    pub users: Option<Users>,
    /// Where the users are kept today.
    pub store: Store,
    /// Clients that were told something else than what is so today.
    pub clients: Vec<database::Answer>,
    /// What all clients are told, if there is anybody to tell and it is known.
    pub told: Option<String>,
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

impl Seat<Own, Followed> {
    /// The configuration that this unit is to run: while none can be had, the last one that could be.
    pub fn in_force(&self) -> Option<&Config> {
        match self {
            Self::Leader(own) => own.config.as_ref(),
            Self::Follower(followed) => followed.config.as_ref().or(followed.kept.config.as_ref()),
        }
    }
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

    plan.waits.extend(own.unmet.clone());
    let Some(config) = &own.config else { return plan };
    plan.set(Bag::PeerApp, CONFIG, config.text.as_str());

    let Some(users) = &own.users else { return plan.wait(Wait::NoBackend) };
    plan.append(publish_users(users, &own.store));
    plan
}

/// Handles `pgb-peers-relation-changed`, `-joined` and `-departed`, and ends every dispatch.
pub fn changed(seen: &Changed) -> Plan {
    let mut plan = Plan::default();
    plan.set(Bag::PeerUnit, HOSTNAME, seen.hostname.as_str());
    if let Ok(Here { unit, .. }) = &seen.here {
        let version = unit.version.to_string();
        if seen.noted_version.as_ref() != Some(&version) {
            plan.push(Effect::SetVersion(version.clone()));
        }
        plan.set(Bag::PeerUnit, PGBOUNCER_VERSION, version);
        plan.set(Bag::PeerUnit, PROCESSES, unit.processes().to_string());
    }

    match &seen.seat {
        Seat::Leader(own) => {
            let list = own.users.as_ref().map(|users| &users.list);
            plan.waits.extend(own.unmet.clone());
            let mut published = database::update_peer_data(&own.clients, own.told.as_deref());
            let Some(config) = &own.config else { return plan };
            published.set(Bag::PeerApp, CONFIG, config.text.as_str());
            // Whether another port can be had its own processes show first; until then the old one serves everywhere.
            let (at_once, at_last) =
                if own.moves { (Plan::default(), published) } else { (published, Plan::default()) };
            plan.append(at_once);
            plan.set(Bag::PeerApp, LEADER_HOSTNAME, seen.hostname.as_str());

            // "Created" never comes again: after a refresh or a change of leader the users are put
            // where today's layout has them here.
            if let Some(users) = &own.users {
                plan.append(publish_users(users, &own.store));
            }
            // The flowchart takes the leader's local files for granted; they are made here.
            plan.append(serve(config, list, own.users.as_ref(), seen, at_last));
        }
        Seat::Follower(followed) => {
            // What it counted, missed and noted as leader is of that day.
            for key in [database::PATIENCE, database::MISSING, database::WAITING] {
                plan.push(Effect::Remember(key, String::new()));
            }
            plan.waits.clone_from(&followed.broken);
            let users = match &followed.users {
                Some(published) => Some(&published.list),
                None => followed.kept.users.as_ref(),
            };
            let Some(config) = seen.seat.in_force() else { return plan.wait(Wait::Leader) };
            plan.append(serve(config, users, followed.users.as_ref(), seen, Plan::default()));
        }
    }
    plan
}

/// Opens the port that clients come in by. Each unit does it: what one has opened goes with it.
fn open_port(door: Option<&Door>, port: u16) -> Plan {
    let mut plan = Plan::default();
    if let Some(Door { open }) = door
        && *open != Some(port)
    {
        plan.push(Effect::OpenPort { port, close: *open });
        plan.push(Effect::Remember(PORT, port.to_string()));
    }
    plan
}

/// Lets the processes run `config` and `list`, if they do not already: the flowchart's last box. `then` is what others
/// hear once they do.
fn serve(
    config: &Config,
    list: Option<&UserList>,
    users: Option<&Users>,
    seen: &Changed,
    then: Plan,
) -> Plan {
    let mut plan = Plan::default();
    let port = config.shared.listen_port;
    let here = match &seen.here {
        Ok(here) => here,
        Err(wait) => {
            // Whatever is open may be served still.
            plan.append(open_port(seen.door.as_ref().filter(|door| door.open.is_none()), port));
            return plan.wait(wait.clone());
        }
    };
    let nobody = UserList::default();
    // A configuration without an auth role is one without a backend: nobody can log in.
    let list = list.filter(|_| config.shared.auth.is_some()).unwrap_or(&nobody);
    let instances: Result<Vec<_>, _> = (0..here.unit.processes())
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
        plan.push(Effect::Load(Files {
            shared: config.text.clone(),
            users: list.clone(),
            proof,
            version: here.unit.version,
            port,
            instances,
        }));
    }
    // After the load, which may fail: then the old port is what still serves.
    plan.append(open_port(seen.door.as_ref(), port));
    plan.append(then);
    // After the load, for it vouches for it: the leader hands out credentials once all units did.
    // Without users nobody can be let in, so there is nothing to vouch for.
    if config.shared.auth.is_none() || list.0.is_empty() {
        plan.set(Bag::PeerUnit, DATABASES_LOADED, Value::Absent);
        return plan.wait(match (&config.shared.auth, seen.has_backend, &seen.seat) {
            (None, false, _) => Wait::NoBackend,
            (None, true, Seat::Leader(_)) => Wait::Backend,
            // PostgreSQL may be ready, and the leader not.
            _ => Wait::Leader,
        });
    }
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
    /// Our own database there, which has the function that looks up passwords.
    pub database: String,
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
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
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
/// [`DATABASES`] as it stands in the bag, `others` are databases that nobody asked for by name. Followers use it
/// while no leader publishes one.
pub fn configuration(
    app: &str,
    options: &Options,
    databases: (&str, &PgbDbs),
    others: &[String],
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
            pool_size: None,
        };
        for entry in databases.1.0.values() {
            let name = entry.name.as_str();
            if name == "*" {
                entries.insert(name.to_owned(), to(&endpoints.primary, None, None));
                continue;
            }
            // The Python charm checked no name; one that cannot be written would break every other.
            if DatabaseName::parse(name).is_err() {
                continue;
            }
            entries.insert(name.to_owned(), to(&endpoints.primary, Some(name), None));
            for alias in entry.aliases() {
                aliases.insert(alias, to(&endpoints.replicas, Some(name), Some(AUTH_DATABASE_READONLY)));
            }
        }
        for other in databases.1.wildcard().into_iter().flat_map(|_| others) {
            let alias = format!("{other}_readonly");
            if alias.len() <= DATABASE_NAME_LIMIT && DatabaseName::parse(other).is_ok() {
                let database = to(&endpoints.replicas, Some(other), Some(AUTH_DATABASE_READONLY));
                aliases.entry(alias).or_insert(database);
            }
        }
        let main = Some(endpoints.database.as_str());
        for (name, servers) in
            [(AUTH_DATABASE, &endpoints.primary), (AUTH_DATABASE_READONLY, &endpoints.replicas)]
        {
            // A lookup takes a millisecond; a crowd that logs in is not to take all of PostgreSQL's connections.
            entries.insert(name.to_owned(), Database { pool_size: Some(2), ..to(servers, main, None) });
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
        parameters: options.parameters.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::InvalidOption;
    use crate::pgbouncer::Place;
    use crate::pgbouncer::{Entry, Origin, Parameters, PoolMode, User, Version};

    #[track_caller]
    fn check(plan: &Plan, expected: &str) {
        assert_eq!(plan.to_string().trim(), expected.trim());
    }

    fn users() -> Users {
        let line = |name: &str, secret: &str| User { name: name.to_owned(), secret: Secret::new(secret) };
        Users {
            list: UserList(vec![
                line("pgbouncer_auth_relation_id_4", "md5e21e02687122653119af0b4eabb4dc0e"),
                line("pgbouncer_stats_pgbouncer_k8s", "a stats verifier"),
                line("pgbouncer_admin_pgbouncer_k8s", "an admin verifier"),
            ]),
            monitoring: Some(Secret::new("monitoring password")),
            admin: Some(Secret::new("admin password")),
        }
    }

    fn options() -> Options {
        Options {
            listen_port: 6432,
            pool_mode: PoolMode::Session,
            max_db_connections: 100,
            max_prepared_statements: 100,
            parameters: Parameters::default(),
        }
    }

    fn config_of(options: &Options, users: Option<&UserList>) -> Config {
        let mut databases = PgbDbs::default();
        databases
            .0
            .insert(Origin::Relation(6), Entry { name: "shop".into(), legacy: false, auth_dbname: None });
        let text = databases.render();
        let primary = Servers { hosts: vec!["10.0.0.1".into()], port: 5432 };
        let endpoints = Endpoints { replicas: primary.clone(), primary, database: "pgbouncer".into() };
        let shared =
            configuration("pgbouncer-k8s", options, (&text, &databases), &[], Some(&endpoints), users);
        Config { text: shared.render().expect("a valid configuration"), shared }
    }

    fn config() -> Config {
        config_of(&options(), Some(&users().list))
    }

    fn no_secret_yet() -> Store {
        Store::Secret { content: BTreeMap::new(), adopt: None, revision: None, plain: Vec::new() }
    }

    /// The store of users that are published already.
    fn published() -> Store {
        let Store::Secret { mut content, .. } = no_secret_yet() else { unreachable!("it is one") };
        content.insert("auth-file".into(), Secret::new(users().list.render().expect("a list")));
        content.insert("monitoring-password".into(), Secret::new("monitoring password"));
        content.insert("admin-password".into(), Secret::new("admin password"));
        Store::Secret { content, adopt: None, revision: Some(1), plain: Vec::new() }
    }

    fn own() -> Own {
        Own {
            config: Some(config()),
            unmet: None,
            moves: false,
            users: Some(users()),
            store: published(),
            clients: Vec::new(),
            told: None,
        }
    }

    fn followed() -> Followed {
        Followed { config: Some(config()), users: Some(users()), kept: Kept::default(), broken: Vec::new() }
    }

    fn invalid_option() -> Wait {
        Wait::Options(InvalidOption::Value { option: "listen_port", value: "0".into(), remedy: "a port" })
    }

    fn unit() -> Unit {
        Unit {
            listen_addr: "10.1.0.7".into(),
            auth_file: "/dev/shm/pgbouncer-k8s-1/userlist.txt".into(),
            places: [0, 1].map(|n| Place::at(&format!("/var/lib/pgbouncer/instance_{n}"))).to_vec(),
            version: Version::new(1, 24),
        }
    }

    fn nothing_loaded() -> Here {
        Here { unit: unit(), loaded: vec![None, None], stats_user: "pgbouncer_stats_pgbouncer_k8s".into() }
    }

    fn loaded(config: &Config, list: &UserList) -> Here {
        let digest =
            |n| Some(InstanceConfig::derive(&config.shared, list, &unit(), n).expect("valid").digest);
        Here { loaded: (0..2).map(digest).collect(), ..nothing_loaded() }
    }

    fn create(seat: Seat<Own, ()>) -> Plan {
        created(&Created { hostname: "pgb-1".into(), seat })
    }

    fn change(seat: Seat<Own, Followed>, here: Here) -> Plan {
        changed(&Changed {
            hostname: "pgb-1".into(),
            seat,
            here: Ok(here),
            noted_version: Some("1.24.0".into()),
            door: None,
            has_backend: false,
        })
    }

    fn config_length() -> usize {
        config().text.len()
    }

    #[test]
    fn created_on_a_follower_saves_its_hostname_and_nothing_else() {
        check(&create(Seat::Follower(())), "set peer unit hostname = pgb-1");
    }

    #[test]
    fn created_on_a_leader_without_a_usable_configuration_defers() {
        check(
            &create(Seat::Leader(Own { config: None, unmet: Some(invalid_option()), ..own() })),
            "
set peer unit hostname = pgb-1
wait: option listen_port is 0: set it to a port",
        );
    }

    #[test]
    fn created_on_a_leader_without_a_backend_publishes_the_configuration_and_defers() {
        check(
            &create(Seat::Leader(Own { users: None, ..own() })),
            &format!(
                "
set peer unit hostname = pgb-1
set peer app cfg_file = ‹{} bytes›
wait: waiting for backend database relation to initialise",
                config_length()
            ),
        );
    }

    #[test]
    fn created_on_a_leader_with_a_backend_publishes_configuration_and_users() {
        check(
            &create(Seat::Leader(Own { store: no_secret_yet(), ..own() })),
            &format!(
                "
set peer unit hostname = pgb-1
set peer app cfg_file = ‹{} bytes›
set the peer secret: admin-password, auth-file, monitoring-password",
                config_length()
            ),
        );
    }

    #[test]
    fn created_without_secrets_puts_the_users_into_the_bag() {
        let plan = create(Seat::Leader(Own { store: Store::Bag, ..own() }));
        let text = plan.to_string();
        assert!(text.contains("set peer app auth_file = ‹"), "{text}");
        assert!(text.contains("set peer app monitoring_password = ‹19 characters›"), "{text}");
        assert!(!text.contains("pgbouncer_auth") && !text.contains("monitoring password"), "{text}");
    }

    #[test]
    fn changed_on_a_leader_without_a_usable_configuration_defers_and_lets_run_what_runs() {
        check(
            &change(
                Seat::Leader(Own { config: None, unmet: Some(invalid_option()), ..own() }),
                nothing_loaded(),
            ),
            "
set peer unit hostname = pgb-1
set peer unit pgbouncer_version = 1.24.0
set peer unit processes = 2
wait: option listen_port is 0: set it to a port",
        );
    }

    #[test]
    fn changed_on_a_leader_publishes_and_runs_the_same() {
        check(
            &change(Seat::Leader(own()), nothing_loaded()),
            &format!(
                "
set peer unit hostname = pgb-1
set peer unit pgbouncer_version = 1.24.0
set peer unit processes = 2
set peer app cfg_file = ‹{} bytes›
set peer app leader_hostname = pgb-1
set peer app auth_file_revision = 1
load 3 users into 2 processes
set peer unit pgb_dbs = {}",
                config_length(),
                config().shared.databases_hash
            ),
        );
    }

    #[test]
    fn changed_on_a_leader_that_runs_it_already_loads_nothing() {
        let plan = change(Seat::Leader(own()), loaded(&config(), &users().list));
        assert!(!plan.effects.iter().any(|effect| matches!(effect, Effect::Load(_))), "{plan}");
        assert!(!plan.effects.iter().any(|effect| matches!(effect, Effect::SetPeerSecret { .. })), "{plan}");
    }

    #[test]
    fn changed_on_a_leader_with_an_unusable_option_publishes_and_serves_what_can_be_had() {
        let plan = change(Seat::Leader(Own { unmet: Some(invalid_option()), ..own() }), nothing_loaded());
        assert_eq!(load(&plan).shared, config().text);
        assert!(plan.to_string().contains("set peer app cfg_file"), "{plan}");
        assert_eq!(plan.waits, [invalid_option()]);
    }

    #[test]
    fn another_port_is_published_by_who_serves_it() {
        let plan = change(Seat::Leader(Own { moves: true, ..own() }), nothing_loaded()).to_string();
        let (load, published) = (plan.find("load 3 users"), plan.find("set peer app cfg_file"));
        assert!(load.is_some() && load < published, "{plan}");
        let staying = change(Seat::Leader(own()), nothing_loaded()).to_string();
        assert!(staying.find("set peer app cfg_file") < staying.find("load 3 users"), "{staying}");
    }

    /// The load in a plan, by the first process's text.
    #[track_caller]
    fn load(plan: &Plan) -> &Files {
        let load = plan.effects.iter().find_map(|effect| match effect {
            Effect::Load(load) => Some(load),
            _ => None,
        });
        load.unwrap_or_else(|| panic!("no load in {plan}"))
    }

    #[test]
    fn changed_on_a_follower_saves_configuration_and_users_and_reloads() {
        let plan = change(Seat::Follower(followed()), nothing_loaded());
        check(
            &plan,
            &format!(
                "
set peer unit hostname = pgb-1
set peer unit pgbouncer_version = 1.24.0
set peer unit processes = 2
remember update-statuses = 
remember missing-clients = 
remember waiting-clients = 
load 3 users into 2 processes
set peer unit pgb_dbs = {}",
                config().shared.databases_hash
            ),
        );
        assert_eq!(load(&plan).shared, config().text);
        assert_eq!(
            load(&plan).proof.as_ref().map(|(user, _)| user.as_str()),
            Some("pgbouncer_stats_pgbouncer_k8s")
        );
    }

    #[test]
    fn changed_on_a_follower_that_runs_it_already_reloads_nothing() {
        let plan = change(Seat::Follower(followed()), loaded(&config(), &users().list));
        assert!(!plan.to_string().contains("load"), "{plan}");
    }

    #[test]
    fn changed_on_a_follower_reloads_when_one_process_of_two_is_behind() {
        let mut here = loaded(&config(), &users().list);
        here.loaded[1] = None;
        assert_eq!(load(&change(Seat::Follower(followed()), here)).instances.len(), 2);
    }

    #[test]
    fn changed_on_a_follower_with_a_valid_configuration_and_no_users_keeps_the_users_it_has() {
        let kept = Kept { config: None, users: Some(users().list) };
        let plan = change(Seat::Follower(Followed { users: None, kept, ..followed() }), nothing_loaded());
        assert_eq!(load(&plan).users, users().list);
        assert_eq!(load(&plan).proof, None);
    }

    #[test]
    fn changed_on_a_follower_with_valid_users_and_no_configuration_keeps_the_configuration_it_has() {
        let old = config_of(&Options { pool_mode: PoolMode::Transaction, ..options() }, Some(&users().list));
        let kept = Kept { config: Some(old.clone()), users: None };
        let plan = change(Seat::Follower(Followed { config: None, kept, ..followed() }), nothing_loaded());
        assert_eq!(load(&plan).shared, old.text);
        assert_eq!(load(&plan).users, users().list);
    }

    #[test]
    fn changed_on_a_follower_with_neither_serves_on_with_what_it_had() {
        let kept = Kept { config: Some(config()), users: Some(users().list) };
        let broken = vec![Wait::Published(CONFIG, "line 3".into())];
        let here = loaded(&config(), &users().list);
        let plan = change(Seat::Follower(Followed { config: None, users: None, kept, broken }), here);
        assert!(!plan.to_string().contains("load 3"), "{plan}");
        assert_eq!(plan.waits, [Wait::Published(CONFIG, "line 3".into())]);
    }

    #[test]
    fn changed_on_a_follower_that_never_had_anything_waits_for_the_leader() {
        let seen = Followed { config: None, users: None, kept: Kept::default(), broken: Vec::new() };
        check(
            &change(Seat::Follower(seen), nothing_loaded()),
            "
set peer unit hostname = pgb-1
set peer unit pgbouncer_version = 1.24.0
set peer unit processes = 2
remember update-statuses = 
remember missing-clients = 
remember waiting-clients = 
wait: waiting for the leader to publish its configuration",
        );
    }

    #[test]
    fn a_configuration_without_a_backend_is_run_without_users() {
        let before = config_of(&options(), None);
        let followed = Followed { config: Some(before), ..followed() };
        let plan = change(Seat::Follower(followed), nothing_loaded());
        assert_eq!(load(&plan).users, UserList::default());
        assert_eq!(load(&plan).proof, None);
    }

    #[test]
    fn a_unit_that_can_let_nobody_in_vouches_for_no_database() {
        let no_backend = Followed { config: Some(config_of(&options(), None)), ..followed() };
        let no_users = Followed { users: None, ..followed() };
        for (followed, wait) in [(no_backend, Wait::NoBackend), (no_users, Wait::Leader)] {
            let plan = change(Seat::Follower(followed), nothing_loaded());
            assert!(plan.to_string().contains("remove peer unit pgb_dbs\n"), "{plan}");
            assert_eq!(plan.waits, [wait]);
        }
    }

    #[test]
    fn what_an_older_layout_left_plain_moves_into_the_secret_and_leaves_the_bag() {
        let store = Store::Secret {
            content: BTreeMap::from([("cfg-file".into(), Secret::new("old"))]),
            adopt: Some("abc".into()),
            revision: None,
            plain: vec!["auth_file".into(), "monitoring-password".into()],
        };
        check(
            &publish_users(&users(), &store),
            "
set the peer secret: admin-password, auth-file, cfg-file, monitoring-password, taking over the old one
remove peer app auth_file
remove peer app monitoring-password",
        );
    }

    #[test]
    fn a_stats_line_of_md5_keeps_the_processes_on_md5() {
        let mut list = users().list;
        list.0[1].secret = Secret::new("md5e21e02687122653119af0b4eabb4dc0e");
        let auth_type = |list| config_of(&options(), Some(list)).shared.auth.map(|auth| auth.auth_type);
        assert_eq!(auth_type(&list), Some(AuthType::Md5));
        assert_eq!(auth_type(&users().list), Some(AuthType::ScramSha256));
    }

    #[test]
    fn a_database_named_like_an_alias_of_another_stays_itself() {
        let mut databases = PgbDbs::default();
        for (id, name) in [(6, "shop"), (7, "shop_readonly")] {
            databases
                .0
                .insert(Origin::Relation(id), Entry { name: name.into(), legacy: false, auth_dbname: None });
        }
        let primary = Servers { hosts: vec!["rw".into()], port: 5432 };
        let replicas = Servers { hosts: vec!["ro".into()], port: 5432 };
        let endpoints = Endpoints { primary, replicas, database: "pgbouncer".into() };
        let shared =
            configuration("a", &options(), ("", &databases), &[], Some(&endpoints), Some(&users().list));
        assert_eq!(shared.databases["shop_readonly"].dbname.as_deref(), Some("shop_readonly"));
        assert_eq!(shared.databases["shop_readonly_readonly"].hosts, ["ro"]);
    }

    #[test]
    fn an_endpoint_is_read_with_its_port_and_an_address_of_six_groups_too() {
        let servers = |text| Servers::parse(text).map(|servers| (servers.hosts.join(" "), servers.port));
        assert_eq!(servers("pg-primary.prod.svc:5432"), Some(("pg-primary.prod.svc".into(), 5432)));
        assert_eq!(servers("[fd00::1]:5433"), Some(("fd00::1".into(), 5433)));
        assert_eq!(servers("b:5432, a:5432"), Some(("a b".into(), 5432)));
        for text in ["", "pg", "pg:0", "pg:x", "pg:70000", "p'g:5432", "p g:5432", ":5432"] {
            assert_eq!(servers(text), None, "{text}");
        }
    }
}

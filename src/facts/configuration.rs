//! The configuration that the leader publishes: parsed from the app bag, or built from the facts.

use std::collections::BTreeMap;

use crate::event::RelationId;
use crate::facts::backend::{Endpoints, Servers};
use crate::facts::bounded;
use crate::facts::options::Options;
use crate::facts::users::{admin_user, stats_user};
use crate::peer_bag::{AppBag, CONFIG, DATABASES};
use crate::pgbouncer::{
    AUTH_DATABASE, AUTH_DATABASE_READONLY, Auth, AuthType, DATABASE_NAME_LIMIT, Database,
    DatabaseName, Invalid, PgbDbs, SharedConfig, UserList, hash,
};

/// A configuration with its exact text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The parsed configuration.
    pub shared: SharedConfig,
    /// The text of the configuration. Units compare it, so equal content keeps equal bytes.
    pub text: String,
}

/// The databases by relation, with their text in the app bag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Databases {
    /// The text of `pgb_dbs_config`, if it is valid.
    pub text: Option<String>,
    /// The parsed entries; empty if the text is missing or invalid.
    pub entries: PgbDbs,
    /// Why the text in the bag is invalid.
    pub broken: Option<String>,
}

impl Databases {
    /// Parses `pgb_dbs_config`.
    pub fn read(app: AppBag<'_>) -> Self {
        let Some(text) = app.text(DATABASES) else { return Self::default() };
        let parsed =
            bounded(text).and_then(|text| PgbDbs::parse(text).map_err(|error| error.to_string()));
        match parsed {
            Ok(entries) => Self { text: Some(text.to_owned()), entries, broken: None },
            Err(reason) => Self { broken: Some(reason), ..Self::default() },
        }
    }

    /// The hash that a unit publishes after it has loaded these databases.
    pub fn hash(&self) -> String {
        hash(self.text.as_deref().unwrap_or("{}"))
    }
}

/// The configuration in the app bag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedConfig {
    /// The parsed text; `None` if the bag has no configuration.
    config: Option<Result<Config, Invalid>>,
    /// The configuration was built from the databases in the same bag. Otherwise a leader that runs
    /// the Python charm has changed the databases since.
    is_current: bool,
}

impl PublishedConfig {
    /// Parses the app bag.
    pub fn read(app: AppBag<'_>) -> Self {
        let databases_hash = hash(app.text(DATABASES).unwrap_or("{}"));
        let config = app.text(CONFIG).map(|text| {
            SharedConfig::parse(text).map(|shared| Config { shared, text: text.to_owned() })
        });
        let is_of = |config: &Config| config.shared.databases_hash == databases_hash;
        let is_current = config.as_ref().is_some_and(|config| config.as_ref().is_ok_and(is_of));
        Self { config, is_current }
    }

    /// The configuration in force: `None` if there is none or it is stale, an error if its text is
    /// invalid.
    pub fn current(&self) -> Result<Option<&Config>, String> {
        match &self.config {
            Some(Ok(config)) => Ok(Some(config).filter(|_| self.is_current)),
            None | Some(Err(Invalid::Foreign)) => Ok(None),
            Some(Err(invalid)) => Err(invalid.to_string()),
        }
    }

    /// Whether a leader that ran this charm was the last to write the bag.
    pub fn is_ours(&self) -> bool {
        self.is_current
    }

    /// The servers of the configuration, even if the configuration is stale.
    pub fn endpoints(&self) -> Option<Endpoints> {
        let databases = &self.config.as_ref()?.as_ref().ok()?.shared.databases;
        let servers = |name: &str| {
            let database = databases.get(name)?;
            Some(Servers { hosts: database.hosts.clone(), port: database.port })
        };
        Some(Endpoints {
            primary: servers(AUTH_DATABASE)?,
            replicas: servers(AUTH_DATABASE_READONLY)?,
            database: databases.get(AUTH_DATABASE)?.dbname.clone()?,
        })
    }

    /// The options of the configuration, even if the configuration is stale.
    pub fn options(&self) -> Option<Options> {
        let config = self.config.as_ref()?.as_ref().ok()?;
        Some(Options::of(config.shared.clone()))
    }
}

/// The relations that have an entry in `databases` but are not in `relations`.
pub fn missing(relations: &[RelationId], databases: &PgbDbs) -> Vec<RelationId> {
    let entries = databases.0.iter().filter(|(_, entry)| !entry.legacy);
    let entered = entries.filter_map(|(origin, _)| origin.relation()).map(RelationId);
    entered.filter(|relation| !relations.contains(relation)).collect()
}

/// Builds the configuration that all units share. `others` are databases that no client requested
/// by name. A follower builds the same configuration while the leader publishes none.
pub fn configuration(
    app: &str,
    options: &Options,
    databases: &Databases,
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
        for entry in databases.entries.0.values() {
            let name = entry.name.as_str();
            if name == "*" {
                entries.insert(name.to_owned(), to(&endpoints.primary, None, None));
                continue;
            }
            // The Python charm validated no name; an invalid name would break the whole file.
            if DatabaseName::parse(name).is_err() {
                continue;
            }
            entries.insert(name.to_owned(), to(&endpoints.primary, Some(name), None));
            for alias in entry.aliases() {
                aliases.insert(
                    alias,
                    to(&endpoints.replicas, Some(name), Some(AUTH_DATABASE_READONLY)),
                );
            }
        }
        for other in databases.entries.wildcard().into_iter().flat_map(|_| others) {
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
            // A lookup takes a millisecond; without a limit, many simultaneous logins would use all
            // of PostgreSQL's connections.
            entries.insert(
                name.to_owned(),
                Database { pool_size: Some(2), ..to(servers, main, None) },
            );
        }
    }
    // A database with the same name as an alias takes precedence over the alias.
    for (alias, database) in aliases {
        entries.entry(alias).or_insert(database);
    }
    SharedConfig {
        databases_hash: databases.hash(),
        databases: entries,
        auth,
        listen_port: options.listen_port,
        pool_mode: options.pool_mode,
        max_db_connections: options.max_db_connections,
        max_prepared_statements: options.max_prepared_statements,
        client_tls_sslmode: options.client_tls_sslmode,
        server_tls_sslmode: options.server_tls_sslmode,
        parameters: options.parameters.clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::facts::Texts;
    use crate::pgbouncer::{Entry, Origin, Parameters, PoolMode, SslMode, User};
    use crate::secret::Secret;

    /// The defaults of `config.yaml`.
    pub(crate) fn options() -> Options {
        Options {
            listen_port: 6432,
            pool_mode: PoolMode::Session,
            max_db_connections: 100,
            max_prepared_statements: 100,
            client_tls_sslmode: SslMode::Prefer,
            server_tls_sslmode: SslMode::Prefer,
            parameters: Parameters::default(),
        }
    }

    /// A user list with an md5 line for the auth role.
    pub(crate) fn user_list() -> UserList {
        let line =
            |name: &str, secret: &str| User { name: name.to_owned(), secret: Secret::new(secret) };
        UserList(vec![
            line("pgbouncer_auth_relation_id_4", "md5e21e02687122653119af0b4eabb4dc0e"),
            line("pgbouncer_stats_pgbouncer_k8s", "a stats verifier"),
            line("pgbouncer_admin_pgbouncer_k8s", "an admin verifier"),
        ])
    }

    /// These databases by relation.
    pub(crate) fn databases(names: &[(u32, &str)]) -> Databases {
        let mut entries = PgbDbs::default();
        for (id, name) in names {
            let entry = Entry { name: (*name).into(), legacy: false, auth_dbname: None };
            entries.0.insert(Origin::Relation(*id), entry);
        }
        Databases { text: Some(entries.render()), entries, broken: None }
    }

    /// The published configuration with these options, for a database `shop`.
    pub(crate) fn config_of(options: &Options, users: Option<&UserList>) -> Config {
        let primary = Servers { hosts: vec!["10.0.0.1".into()], port: 5432 };
        let endpoints =
            Endpoints { replicas: primary.clone(), primary, database: "pgbouncer".into() };
        let databases = databases(&[(6, "shop")]);
        let shared =
            configuration("pgbouncer-k8s", options, &databases, &[], Some(&endpoints), users);
        Config { text: shared.render().expect("a valid configuration"), shared }
    }

    #[test]
    fn a_published_configuration_counts_only_beside_its_own_databases() {
        let config = config_of(&options(), Some(&user_list()));
        let bag = |databases: &str, text: &str| {
            Texts::from([(DATABASES.into(), databases.into()), (CONFIG.into(), text.into())])
        };
        let shop = databases(&[(6, "shop")]).text.expect("a text");
        let read =
            |databases: &str, text: &str| PublishedConfig::read(AppBag(&bag(databases, text)));
        assert_eq!(read(&shop, &config.text).current(), Ok(Some(&config)));
        let stale = read("{}", &config.text);
        assert_eq!((stale.current(), stale.options()), (Ok(None), Some(options())));
        let foreign = read(&shop, "[databases]\n");
        assert_eq!((foreign.current(), foreign.options()), (Ok(None), None));
        let broken = read(&shop, &format!("{}nonsense\n", config.text));
        assert!(broken.current().is_err() && !broken.is_ours());
        assert_eq!(PublishedConfig::read(AppBag(&Texts::new())).current(), Ok(None));
    }

    #[test]
    fn invalid_databases_are_reported_as_broken_and_have_no_entries() {
        let read =
            |text: &str| Databases::read(AppBag(&Texts::from([(DATABASES.into(), text.into())])));
        assert_eq!(read(r#"{"6": {"name": "shop", "legacy": false}}"#), databases(&[(6, "shop")]));
        let broken = read("nonsense");
        assert_eq!((&broken.text, broken.entries.0.len()), (&None, 0));
        assert!(broken.broken.expect("a reason").contains("not a JSON object"));
        assert_eq!(Databases::read(AppBag(&Texts::new())), Databases::default());
    }

    #[test]
    fn an_md5_line_of_the_stats_user_keeps_auth_type_md5() {
        let mut list = user_list();
        list.0[1].secret = Secret::new("md5e21e02687122653119af0b4eabb4dc0e");
        let auth_type =
            |list| config_of(&options(), Some(list)).shared.auth.map(|auth| auth.auth_type);
        assert_eq!(auth_type(&list), Some(AuthType::Md5));
        assert_eq!(auth_type(&user_list()), Some(AuthType::ScramSha256));
    }

    #[test]
    fn a_database_takes_precedence_over_an_alias_of_the_same_name() {
        let databases = databases(&[(6, "shop"), (7, "shop_readonly")]);
        let primary = Servers { hosts: vec!["rw".into()], port: 5432 };
        let replicas = Servers { hosts: vec!["ro".into()], port: 5432 };
        let endpoints = Endpoints { primary, replicas, database: "pgbouncer".into() };
        let shared =
            configuration("a", &options(), &databases, &[], Some(&endpoints), Some(&user_list()));
        assert_eq!(shared.databases["shop_readonly"].dbname.as_deref(), Some("shop_readonly"));
        assert_eq!(shared.databases["shop_readonly_readonly"].hosts, ["ro"]);
    }
}

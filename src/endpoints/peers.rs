//! The peer relation `pgb-peers`: the leader publishes the configuration, and followers copy it.
//!
//! [`decide_created`] and [`decide`] follow the two flowcharts of the relation's specification box
//! by box. A comment gives the reason for each step that is not in the flowcharts.

pub mod users;

use anyhow::Result;

use self::users::publish_users;
use crate::endpoints::database::answer;
use crate::facts::configuration::{Config, configuration};
use crate::facts::local::{Kept, LocalPgbouncer};
use crate::facts::options::{InvalidOption, Options};
use crate::facts::tls::Material;
use crate::facts::users::{Store, Users, stats_user};
use crate::look::Look;
use crate::notes::ClientNotes;
use crate::peer_bag::{
    AUTH, CLIENT_CA, CONFIG, DATABASES_LOADED, HOSTNAME, LEADER_HOSTNAME, PGBOUNCER_VERSION,
    PROCESSES, SERVER_CA,
};
use crate::pgbouncer::{InstanceConfig, Unit, UserList};
use crate::plan::{Bag, Effect, Note, Plan, Step, Value};
use crate::status::Wait;
use crate::workload::Files;

/// The facts of the leader, which decides for the application, or of a follower, which copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership<L, F> {
    /// This unit holds leadership.
    Leader(L),
    /// Another unit holds it.
    Follower(F),
}

/// The input of [`decide_created`].
pub struct Created {
    /// This unit's DNS name.
    pub hostname: String,
    /// The leader's own facts; a follower needs none here.
    pub leadership: Leadership<LeaderView, ()>,
}

/// The input of [`decide`].
pub struct Changed {
    /// This unit's DNS name.
    pub hostname: String,
    /// The facts of the leader or of a follower.
    pub leadership: Leadership<LeaderView, FollowerView>,
    /// This unit's processes, or why they cannot be probed.
    pub local: Result<LocalPgbouncer, Wait>,
    /// The statistics user. A login of this user proves that a process has read the user list.
    pub stats_user: String,
    /// The version in this unit's bag.
    pub noted_version: Option<String>,
    /// The port that Juju has opened; `None` where Juju does not open ports.
    pub opened_port: Option<OpenedPort>,
    /// The keys and certificates to use.
    pub material: Material,
    /// Whether PostgreSQL is related; determined only for a configuration without PostgreSQL.
    pub has_backend: bool,
}

/// The port that Juju has opened for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedPort {
    /// The open port; `None` if Juju has not opened one yet.
    pub open: Option<u16>,
}

/// The facts that only the leader gathers.
pub struct LeaderView {
    /// The configuration from the options, the databases and PostgreSQL. While an option is
    /// invalid, it is built from the last valid options.
    pub config: Option<Config>,
    /// Why there is no configuration, or why it does not match the options.
    pub invalid: Vec<Wait>,
    /// The configuration with the published port, if the options have another port.
    pub at_old_port: Option<Config>,
    /// The users; `None` until PostgreSQL is related.
    pub users: Option<Users>,
    /// The place where the users are stored.
    pub store: Store,
    /// The changed values for clients that have credentials.
    pub updates: answer::Updates,
    /// The CAs to publish to the other units, by key.
    pub cas: Vec<(&'static str, Value)>,
}

/// The facts that a follower gathers.
pub struct FollowerView {
    /// The configuration in the app bag, or why it is invalid.
    pub published: Result<Option<Config>, String>,
    /// The configuration that this unit builds while the leader publishes none, as the Python charm
    /// does not.
    pub rendered: Option<Config>,
    /// The users in the peer secret or the app bag.
    pub users: Option<Users>,
    /// Why the user list there is unusable.
    pub broken_users: Option<String>,
    /// The previous leader removed the lookup from PostgreSQL.
    pub is_lookup_removed: bool,
    /// The configuration and users in this unit's files, for use if the published ones are missing.
    pub kept: Kept,
}

impl FollowerView {
    /// The configuration that is published, else the one that this unit builds.
    fn config(&self) -> Option<&Config> {
        self.published.as_ref().ok().and_then(Option::as_ref).or(self.rendered.as_ref())
    }

    /// The waits for values that the leader has to publish again.
    fn waits(&self) -> Vec<Wait> {
        let users = self.broken_users.clone().map(|reason| Wait::Published(AUTH, reason));
        let config =
            self.published.as_ref().err().map(|reason| Wait::Published(CONFIG, reason.clone()));
        // Without the lookup no client can log in, and only a leader installs it.
        let lookup = self.is_lookup_removed.then_some(Wait::Leader);
        users.into_iter().chain(config).chain(lookup).collect()
    }
}

impl Leadership<LeaderView, FollowerView> {
    /// The configuration that this unit should run; without a current one, the last one it loaded.
    fn in_force(&self) -> Option<&Config> {
        match self {
            Self::Leader(view) => view.config.as_ref(),
            Self::Follower(view) => view.config().or(view.kept.config.as_ref()),
        }
    }
}

/// Handles `pgb-peers-relation-created`.
pub fn created(look: &mut Look<'_>) -> Result<Plan> {
    let hostname = look.hostname();
    let leadership = if look.leads()? {
        Leadership::Leader(leader_view(look)?)
    } else {
        Leadership::Follower(())
    };
    Ok(decide_created(&Created { hostname, leadership }))
}

/// Handles `pgb-peers-relation-changed`, `-joined` and `-departed`, and runs in every dispatch.
pub fn changed(look: &mut Look<'_>) -> Result<Plan> {
    let plan = decide_changed(look)?;
    // The login that proves a load needs a password.
    let found = look.users()?;
    if plan.loads() && found.is_known && found.users.is_some() {
        look.users_with_passwords()?;
        return decide_changed(look);
    }
    Ok(plan)
}

/// Gathers the facts and decides.
fn decide_changed(look: &mut Look<'_>) -> Result<Plan> {
    let local = look.local()?;
    let leadership = if look.leads()? {
        Leadership::Leader(leader_view(look)?)
    } else {
        Leadership::Follower(follower_view(look)?)
    };
    let lacks_backend = leadership.in_force().is_some_and(|config| config.shared.auth.is_none());
    let seen = Changed {
        has_backend: lacks_backend && look.backend()?.is_some(),
        local,
        material: look.material()?,
        hostname: look.hostname(),
        leadership,
        stats_user: stats_user(&look.unit().app),
        noted_version: look.bag(Bag::PeerUnit)?.get(PGBOUNCER_VERSION).cloned(),
        // On Kubernetes, Juju opens ports in the same versions in which it has secrets.
        opened_port: (look.is_sidecar() && look.has_secrets())
            .then(|| OpenedPort { open: look.notes().open_port }),
    };
    Ok(decide(&seen))
}

fn leader_view(look: &mut Look<'_>) -> Result<LeaderView> {
    let chosen = look.options()?;
    let mut invalid: Vec<_> = chosen.invalid.into_iter().map(Wait::Option).collect();
    let mut config = None;
    let mut at_old_port = None;
    if let Some(options) = &chosen.options {
        match rendered(look, options, None)? {
            Ok(rendered) => config = Some(rendered),
            Err(wait) => invalid = vec![wait],
        }
        let last =
            look.published()?.options().filter(|last| last.listen_port != options.listen_port);
        if let Some(last) = last {
            at_old_port = rendered(look, &last, None)?.ok();
        }
    }
    Ok(LeaderView {
        invalid,
        at_old_port,
        users: look.users()?.users.clone(),
        store: look.store()?,
        updates: answer::updates(look)?,
        cas: cas(look, config.as_ref())?,
        config,
    })
}

/// The CAs that the configuration needs, and the removal of others.
fn cas(look: &mut Look<'_>, config: Option<&Config>) -> Result<Vec<(&'static str, Value)>> {
    let Some(Config { shared, .. }) = config else { return Ok(Vec::new()) };
    let material = look.material()?;
    let mut cas = Vec::new();
    for (key, mode, text) in [
        (CLIENT_CA, shared.client_tls_sslmode, material.client_ca),
        (SERVER_CA, shared.server_tls_sslmode, material.server_ca),
    ] {
        let is_published = look.app_bag()?.text(key).is_some();
        match text.filter(|_| mode.verifies()) {
            Some(text) => cas.push((key, Value::Text(text))),
            None if is_published => cas.push((key, Value::Absent)),
            None => {}
        }
    }
    Ok(cas)
}

fn follower_view(look: &mut Look<'_>) -> Result<FollowerView> {
    let found = look.users()?;
    let published = look.published()?.current().map(Option::<&Config>::cloned);
    if let Err(reason) = &published {
        tracing::warn!(
            "pgb-peers: ignored {CONFIG}: {reason}; the leader publishes it again, no action is needed"
        );
    }
    let is_published = matches!(published, Ok(Some(_)));
    let users = found.users.clone().or_else(|| found.is_deleted.then(Users::nobody));
    let kept = if is_published && users.is_some() {
        Kept::default()
    } else {
        look.kept().as_ref().clone()
    };
    let mut own = None;
    // A leader that runs the Python charm publishes only the databases in the bag.
    if !is_published && look.databases()?.text.is_some() {
        let list = users.as_ref().map(|users| &users.list).or(kept.users.as_ref());
        if let Some(options) = look.options()?.options {
            own = rendered(look, &options, list)?.ok();
        }
    }
    Ok(FollowerView {
        published,
        rendered: own,
        users,
        broken_users: found.broken.clone(),
        is_lookup_removed: look.app_bag()?.get_auth().is_some_and(|note| note.is_removed()),
        kept,
    })
}

/// Builds the configuration from this unit's own facts, with `users` or else the published users.
fn rendered(
    look: &mut Look<'_>,
    options: &Options,
    users: Option<&UserList>,
) -> Result<Result<Config, Wait>> {
    let databases = look.databases()?;
    let others = look.app_bag()?.other_databases();
    let backend = look.backend()?;
    // While the relation lives, PostgreSQL's charm may take its endpoints away for a moment. The
    // clients keep their servers.
    let endpoints = match backend {
        Some(backend) => backend.endpoints.clone().or(look.published()?.endpoints()),
        None => None,
    };
    let found = look.users()?;
    let users = users.or(found.users.as_ref().map(|users| &users.list));
    let shared =
        configuration(&look.unit().app, options, &databases, &others, endpoints.as_ref(), users);
    Ok(match shared.render() {
        Ok(text) => Ok(Config { shared, text }),
        Err(error) => Err(Wait::NotLoaded(format!("cannot render the configuration: {error}"))),
    })
}

/// The flowchart of `pgb-peers-relation-created`.
pub fn decide_created(seen: &Created) -> Plan {
    let mut plan = Plan::default();
    plan.set(Bag::PeerUnit, HOSTNAME, seen.hostname.as_str());
    let Leadership::Leader(view) = &seen.leadership else { return plan };

    plan.waits.extend(view.invalid.clone());
    let Some(config) = &view.config else { return plan };
    plan.set(Bag::PeerApp, CONFIG, config.text.as_str());

    let Some(users) = &view.users else { return plan.wait(Wait::NoBackend) };
    plan.append(publish_users(users, &view.store));
    plan
}

/// The flowchart of `pgb-peers-relation-changed`.
pub fn decide(seen: &Changed) -> Plan {
    let mut plan = Plan::default();
    plan.set(Bag::PeerUnit, HOSTNAME, seen.hostname.as_str());
    if let Ok(LocalPgbouncer { unit, .. }) = &seen.local {
        let version = unit.version.to_string();
        if seen.noted_version.as_ref() != Some(&version) {
            plan.push(Effect::SetVersion(version.clone()));
        }
        plan.set(Bag::PeerUnit, PGBOUNCER_VERSION, version);
        plan.set(Bag::PeerUnit, PROCESSES, unit.processes().to_string());
    }

    match &seen.leadership {
        Leadership::Leader(view) => {
            plan.waits.extend(view.invalid.clone());
            let mut published = answer::publish(&view.updates);
            let Some(config) = &view.config else { return plan };
            published.set(Bag::PeerApp, CONFIG, config.text.as_str());
            for (key, value) in &view.cas {
                published.set(Bag::PeerApp, *key, value.clone());
            }
            // A new port is published after the leader's own processes listen on it. Otherwise a
            // port that no process can use would stop all units.
            let (at_once, after_load) = if view.at_old_port.is_some() {
                (Plan::default(), published)
            } else {
                (published, Plan::default())
            };
            plan.append(at_once);
            plan.set(Bag::PeerApp, LEADER_HOSTNAME, seen.hostname.as_str());

            // -created runs only once. After a refresh or a change of leader, this step moves the
            // users into the current layout.
            if let Some(users) = &view.users {
                plan.append(publish_users(users, &view.store));
            }
            // The flowchart presumes the leader's local files; they are written here.
            let list = view.users.as_ref().map(|users| &users.list);
            let serving = Serving { seen, list, users: view.users.as_ref() };
            let without_port = serving.at_old_port(config, view.at_old_port.as_ref());
            plan.append(serving.serve(config, after_load, Some(without_port)));
        }
        Leadership::Follower(view) => {
            // Notes about clients from an earlier leadership are outdated.
            plan.note(Note::Clients(ClientNotes::default()));
            plan.waits.extend(view.waits());
            let list = match &view.users {
                Some(published) => Some(&published.list),
                None => view.kept.users.as_ref(),
            };
            let Some(config) = seen.leadership.in_force() else { return plan.wait(Wait::Leader) };
            let serving = Serving { seen, list, users: view.users.as_ref() };
            plan.append(serving.serve(config, Plan::default(), None));
        }
    }
    plan
}

/// Opens the port for clients. Every unit opens it, because Juju closes a unit's ports when the
/// unit is removed.
fn open_port(opened: Option<OpenedPort>, port: u16) -> Plan {
    let mut plan = Plan::default();
    if let Some(OpenedPort { open }) = opened
        && open != Some(port)
    {
        plan.push(Effect::OpenPort { port, close: open });
        plan.note(Note::OpenPort(port));
    }
    plan
}

/// A unit's facts and the users with which it serves a configuration.
struct Serving<'a> {
    seen: &'a Changed,
    list: Option<&'a UserList>,
    users: Option<&'a Users>,
}

impl Serving<'_> {
    /// The flowchart's last box: loads `config` into the processes that do not run it yet. `then`
    /// has the values to publish after the load.
    fn serve(&self, config: &Config, then: Plan, without_port: Option<Plan>) -> Plan {
        let mut plan = Plan::default();
        let (seen, port) = (self.seen, config.shared.listen_port);
        let local = match &seen.local {
            Ok(local) => local,
            Err(wait) => {
                // A port that is already open stays: the processes may still listen on it.
                plan.append(open_port(
                    seen.opened_port.filter(|opened| opened.open.is_none()),
                    port,
                ));
                return plan.wait(wait.clone());
            }
        };
        match self.files(config, local) {
            Ok(files) => {
                let wanted = files.instances.iter().map(|file| Some(file.digest.as_str()));
                if !wanted.eq(local.loaded.iter().map(Option::as_deref)) {
                    plan.steps.push(Step::Load {
                        files: Box::new(files),
                        without_port: without_port.map(Box::new),
                    });
                }
            }
            Err(wait) => return plan.wait(wait),
        }
        // After the load: if it fails, the processes still listen on the old port.
        plan.append(open_port(seen.opened_port, port));
        plan.append(then);
        plan.append(self.report_loaded(config));
        plan
    }

    /// The plan for a port on which a process cannot listen: serves the old port again, which the
    /// other units still use.
    fn at_old_port(&self, config: &Config, old: Option<&Config>) -> Plan {
        let mut plan =
            Plan::waiting(Wait::Option(InvalidOption::refused_port(config.shared.listen_port)));
        if let (Some(old), Ok(local)) = (old, &self.seen.local) {
            plan.set(Bag::PeerApp, CONFIG, old.text.as_str());
            match self.files(old, local) {
                Ok(files) => {
                    plan.steps.push(Step::Load { files: Box::new(files), without_port: None });
                    plan.append(self.report_loaded(old));
                }
                Err(wait) => plan.waits.push(wait),
            }
        }
        plan
    }

    /// The files for the processes.
    fn files(&self, config: &Config, local: &LocalPgbouncer) -> Result<Files, Wait> {
        let nobody = UserList::default();
        let list = self.list(config).unwrap_or(&nobody);
        let tls = self.seen.material.files(&config.shared, &local.unit.auth_file)?;
        let unit = Unit { tls, ..local.unit.clone() };
        let instances: Result<Vec<_>, _> = (0..unit.processes())
            .map(|instance| InstanceConfig::derive(&config.shared, list, &unit, instance))
            .collect();
        // Without the statistics user in the list, no login can prove that the list was read.
        let stats_user = &self.seen.stats_user;
        let proof = self
            .users
            .and_then(|users| users.monitoring.clone())
            .filter(|_| list.0.iter().any(|user| user.name == *stats_user))
            .map(|password| (stats_user.clone(), password));
        Ok(Files {
            shared: config.text.clone(),
            users: list.clone(),
            proof,
            version: unit.version,
            tls: unit.tls,
            port: config.shared.listen_port,
            instances: instances.map_err(|error| {
                Wait::NotLoaded(format!("cannot render pgbouncer.ini: {error}"))
            })?,
        })
    }

    /// The users that can log in; none if the configuration has no auth role, and so no PostgreSQL.
    fn list(&self, config: &Config) -> Option<&UserList> {
        self.list.filter(|_| config.shared.auth.is_some())
    }

    /// Publishes the hash of the databases that this unit has loaded; the leader gives clients
    /// their credentials after all units have. A unit without users publishes no hash, because no
    /// client can log in there.
    fn report_loaded(&self, config: &Config) -> Plan {
        let mut plan = Plan::default();
        if self.list(config).is_none_or(|list| list.0.is_empty()) {
            plan.set(Bag::PeerUnit, DATABASES_LOADED, Value::Absent);
            return plan.wait(
                match (&config.shared.auth, self.seen.has_backend, &self.seen.leadership) {
                    (None, false, _) => Wait::NoBackend,
                    (None, true, Leadership::Leader(_)) => Wait::Backend,
                    // A follower cannot see whether PostgreSQL or the leader is behind.
                    _ => Wait::Leader,
                },
            );
        }
        plan.set(Bag::PeerUnit, DATABASES_LOADED, config.shared.databases_hash.as_str());
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::facts::configuration::tests::{config_of, options, user_list};
    use crate::pgbouncer::{Place, PoolMode, TlsFiles, Version};
    use crate::secret::Secret;

    #[track_caller]
    fn check(plan: &Plan, expected: &str) {
        assert_eq!(plan.to_string().trim(), expected.trim());
    }

    fn users() -> Users {
        Users {
            list: user_list(),
            monitoring: Some(Secret::new("monitoring password")),
            admin: Some(Secret::new("admin password")),
        }
    }

    fn config() -> Config {
        config_of(&options(), Some(&users().list))
    }

    fn no_secret_yet() -> Store {
        Store::Secret { content: BTreeMap::new(), adopt: None, revision: None, plain: Vec::new() }
    }

    /// The store of users that are published already.
    fn published() -> Store {
        let Store::Secret { mut content, .. } = no_secret_yet() else {
            unreachable!("not a secret")
        };
        content.insert("auth-file".into(), Secret::new(users().list.render().expect("a list")));
        content.insert("monitoring-password".into(), Secret::new("monitoring password"));
        content.insert("admin-password".into(), Secret::new("admin password"));
        Store::Secret { content, adopt: None, revision: Some(1), plain: Vec::new() }
    }

    fn leader() -> LeaderView {
        LeaderView {
            config: Some(config()),
            invalid: Vec::new(),
            at_old_port: None,
            users: Some(users()),
            store: published(),
            updates: answer::Updates::default(),
            cas: Vec::new(),
        }
    }

    fn follower() -> FollowerView {
        FollowerView {
            published: Ok(Some(config())),
            rendered: None,
            users: Some(users()),
            broken_users: None,
            is_lookup_removed: false,
            kept: Kept::default(),
        }
    }

    fn invalid_option() -> Wait {
        Wait::Option(InvalidOption::Value {
            option: "listen_port",
            value: "0".into(),
            remedy: "a port",
        })
    }

    fn unit() -> Unit {
        Unit {
            listen_addr: "10.1.0.7".into(),
            auth_file: "/dev/shm/pgbouncer-k8s-1/userlist.txt".into(),
            places: [0, 1].map(|n| Place::at(&format!("/var/lib/pgbouncer/instance_{n}"))).to_vec(),
            version: Version::new(1, 24),
            tls: TlsFiles::default(),
        }
    }

    fn nothing_loaded() -> LocalPgbouncer {
        LocalPgbouncer { unit: unit(), loaded: vec![None, None] }
    }

    fn loaded(config: &Config, list: &UserList) -> LocalPgbouncer {
        let digest = |n| {
            Some(InstanceConfig::derive(&config.shared, list, &unit(), n).expect("valid").digest)
        };
        LocalPgbouncer { loaded: (0..2).map(digest).collect(), ..nothing_loaded() }
    }

    fn create(leadership: Leadership<LeaderView, ()>) -> Plan {
        decide_created(&Created { hostname: "pgb-1".into(), leadership })
    }

    fn seen(leadership: Leadership<LeaderView, FollowerView>, local: LocalPgbouncer) -> Changed {
        Changed {
            hostname: "pgb-1".into(),
            leadership,
            local: Ok(local),
            stats_user: "pgbouncer_stats_pgbouncer_k8s".into(),
            noted_version: Some("1.24.0".into()),
            opened_port: None,
            material: Material::default(),
            has_backend: false,
        }
    }

    fn change(leadership: Leadership<LeaderView, FollowerView>, local: LocalPgbouncer) -> Plan {
        decide(&seen(leadership, local))
    }

    fn config_length() -> usize {
        config().text.len()
    }

    #[test]
    fn created_on_a_follower_publishes_only_its_hostname() {
        check(&create(Leadership::Follower(())), "set peer unit hostname = pgb-1");
    }

    #[test]
    fn created_on_a_leader_without_a_valid_configuration_defers() {
        check(
            &create(Leadership::Leader(LeaderView {
                config: None,
                invalid: vec![invalid_option()],
                ..leader()
            })),
            "
set peer unit hostname = pgb-1
wait: option listen_port is 0: set it to a port",
        );
    }

    #[test]
    fn created_on_a_leader_without_a_backend_publishes_the_configuration_and_defers() {
        check(
            &create(Leadership::Leader(LeaderView { users: None, ..leader() })),
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
            &create(Leadership::Leader(LeaderView { store: no_secret_yet(), ..leader() })),
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
        let plan = create(Leadership::Leader(LeaderView { store: Store::Bag, ..leader() }));
        let text = plan.to_string();
        assert!(text.contains("set peer app auth_file = ‹"), "{text}");
        assert!(text.contains("set peer app monitoring_password = ‹19 characters›"), "{text}");
        assert!(
            !text.contains("pgbouncer_auth") && !text.contains("monitoring password"),
            "{text}"
        );
    }

    #[test]
    fn changed_on_a_leader_without_a_valid_configuration_defers_and_loads_nothing() {
        check(
            &change(
                Leadership::Leader(LeaderView {
                    config: None,
                    invalid: vec![invalid_option()],
                    ..leader()
                }),
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
    fn changed_on_a_leader_publishes_and_loads_the_configuration() {
        check(
            &change(Leadership::Leader(leader()), nothing_loaded()),
            &format!(
                "
set peer unit hostname = pgb-1
set peer unit pgbouncer_version = 1.24.0
set peer unit processes = 2
set peer app cfg_file = ‹{} bytes›
set peer app leader_hostname = pgb-1
set peer app auth_file_revision = 1
load 3 users into 2 processes
without port 6432: wait: {}
set peer unit pgb_dbs = {}",
                config_length(),
                Wait::Option(InvalidOption::refused_port(6432)),
                config().shared.databases_hash
            ),
        );
    }

    #[test]
    fn changed_on_a_leader_that_already_runs_the_configuration_loads_nothing() {
        let plan = change(Leadership::Leader(leader()), loaded(&config(), &users().list));
        assert!(plan.to_string().contains("set peer unit pgb_dbs"), "{plan}");
        assert!(!plan.steps.iter().any(|step| matches!(step, Step::Load { .. })), "{plan}");
        assert!(
            !plan.effects().any(|effect| matches!(effect, Effect::SetPeerSecret { .. })),
            "{plan}"
        );
    }

    #[test]
    fn changed_on_a_leader_with_an_invalid_option_publishes_and_loads_the_last_valid_options() {
        let plan = change(
            Leadership::Leader(LeaderView { invalid: vec![invalid_option()], ..leader() }),
            nothing_loaded(),
        );
        assert_eq!(load(&plan).shared, config().text);
        assert!(plan.to_string().contains("set peer app cfg_file"), "{plan}");
        assert_eq!(plan.waits, [invalid_option()]);
    }

    #[test]
    fn a_new_port_is_published_after_the_load_and_the_old_port_restored_if_it_is_refused() {
        let old = config_of(&Options { listen_port: 6000, ..options() }, Some(&users().list));
        let view = LeaderView { at_old_port: Some(old.clone()), ..leader() };
        let plan = change(Leadership::Leader(view), nothing_loaded());
        let text = plan.to_string();
        let (load_at, set_at) = (text.find("load 3 users"), text.find("set peer app cfg_file"));
        assert!(load_at.is_some() && load_at < set_at, "{plan}");
        let Some(Step::Load { without_port: Some(otherwise), .. }) =
            plan.steps.iter().find(|step| matches!(step, Step::Load { .. }))
        else {
            panic!("no load in {plan}")
        };
        assert_eq!(otherwise.waits, [Wait::Option(InvalidOption::refused_port(6432))]);
        assert_eq!(load(otherwise).port, 6000);
        let published = Effect::Set(Bag::PeerApp, CONFIG.into(), old.text.as_str().into());
        assert!(otherwise.effects().any(|effect| *effect == published), "{otherwise}");

        let staying = change(Leadership::Leader(leader()), nothing_loaded()).to_string();
        assert!(staying.find("set peer app cfg_file") < staying.find("load 3 users"), "{staying}");
    }

    #[test]
    fn a_refused_first_port_is_reported_and_has_no_fallback() {
        let plan = change(Leadership::Leader(leader()), nothing_loaded()).to_string();
        let otherwise = "without port 6432: wait: option listen_port is 6432: set it to a port on";
        assert!(plan.contains(otherwise), "{plan}");
        assert_eq!(plan.matches("without port").count(), 1, "{plan}");
    }

    #[test]
    fn a_port_is_opened_after_the_load_or_without_a_container_only_if_none_is_open() {
        let opens = |open, local: Result<LocalPgbouncer, Wait>| {
            let opened_port = Some(OpenedPort { open });
            let text = decide(&Changed {
                local,
                opened_port,
                ..seen(Leadership::Leader(leader()), nothing_loaded())
            });
            text.to_string()
        };
        let moved = opens(Some(6000), Ok(nothing_loaded()));
        assert!(
            moved.find("load 3 users") < moved.find("open port 6432 and close 6000"),
            "{moved}"
        );
        let stays = opens(Some(6432), Ok(nothing_loaded()));
        assert!(stays.contains("load 3 users") && !stays.contains("open port"), "{stays}");
        assert!(opens(None, Err(Wait::Away)).contains("open port 6432"));
        let away = opens(Some(6000), Err(Wait::Away));
        assert!(away.contains("set peer app cfg_file") && !away.contains("open port"), "{away}");
    }

    #[test]
    fn a_leader_publishes_while_its_own_container_is_unavailable() {
        let away = Changed {
            local: Err(Wait::Away),
            ..seen(Leadership::Leader(leader()), nothing_loaded())
        };
        let plan = decide(&away);
        assert!(plan.to_string().contains("set peer app cfg_file"), "{plan}");
        assert_eq!(plan.waits, [Wait::Away]);
    }

    /// The files of the load in a plan.
    #[track_caller]
    fn load(plan: &Plan) -> &Files {
        let load = plan.steps.iter().find_map(|step| match step {
            Step::Load { files, .. } => Some(files),
            _ => None,
        });
        load.unwrap_or_else(|| panic!("no load in {plan}"))
    }

    #[test]
    fn changed_on_a_follower_loads_configuration_and_users() {
        let plan = change(Leadership::Follower(follower()), nothing_loaded());
        check(
            &plan,
            &format!(
                "
set peer unit hostname = pgb-1
set peer unit pgbouncer_version = 1.24.0
set peer unit processes = 2
note no clients
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
    fn changed_on_a_follower_that_already_runs_the_configuration_loads_nothing() {
        let plan = change(Leadership::Follower(follower()), loaded(&config(), &users().list));
        assert!(!plan.to_string().contains("load"), "{plan}");
    }

    #[test]
    fn changed_on_a_follower_loads_if_one_of_two_processes_is_behind() {
        let mut here = loaded(&config(), &users().list);
        here.loaded[1] = None;
        assert_eq!(load(&change(Leadership::Follower(follower()), here)).instances.len(), 2);
    }

    #[test]
    fn changed_on_a_follower_with_a_valid_configuration_and_no_users_keeps_the_users_it_has() {
        let kept = Kept { users: Some(users().list), ..Kept::default() };
        let plan = change(
            Leadership::Follower(FollowerView { users: None, kept, ..follower() }),
            nothing_loaded(),
        );
        assert_eq!(load(&plan).users, users().list);
        assert_eq!(load(&plan).proof, None);
    }

    #[test]
    fn changed_on_a_follower_with_valid_users_and_no_configuration_keeps_the_configuration_it_has()
    {
        let old = config_of(
            &Options { pool_mode: PoolMode::Transaction, ..options() },
            Some(&users().list),
        );
        let kept = Kept { config: Some(old.clone()), ..Kept::default() };
        let plan = change(
            Leadership::Follower(FollowerView { published: Ok(None), kept, ..follower() }),
            nothing_loaded(),
        );
        assert_eq!(load(&plan).shared, old.text);
        assert_eq!(load(&plan).users, users().list);
    }

    #[test]
    fn changed_on_a_follower_without_valid_configuration_and_users_keeps_both() {
        let kept = Kept { config: Some(config()), users: Some(users().list), ..Kept::default() };
        let published = Err("line 3".into());
        let here = loaded(&config(), &users().list);
        let plan = change(
            Leadership::Follower(FollowerView { published, users: None, kept, ..follower() }),
            here,
        );
        assert!(!plan.to_string().contains("load 3"), "{plan}");
        assert_eq!(plan.waits, [Wait::Published(CONFIG, "line 3".into())]);
    }

    #[test]
    fn changed_on_a_follower_that_never_had_anything_waits_for_the_leader() {
        let seen = FollowerView { published: Ok(None), users: None, ..follower() };
        check(
            &change(Leadership::Follower(seen), nothing_loaded()),
            "
set peer unit hostname = pgb-1
set peer unit pgbouncer_version = 1.24.0
set peer unit processes = 2
note no clients
wait: waiting for the leader to publish its configuration",
        );
    }

    #[test]
    fn a_configuration_without_a_backend_is_loaded_without_users() {
        let before = config_of(&options(), None);
        let followed = FollowerView { published: Ok(Some(before)), ..follower() };
        let plan = change(Leadership::Follower(followed), nothing_loaded());
        assert_eq!(load(&plan).users, UserList::default());
        assert_eq!(load(&plan).proof, None);
    }

    #[test]
    fn a_unit_without_users_publishes_no_hash() {
        let no_backend =
            FollowerView { published: Ok(Some(config_of(&options(), None))), ..follower() };
        let no_users = FollowerView { users: None, ..follower() };
        for (followed, wait) in [(no_backend, Wait::NoBackend), (no_users, Wait::Leader)] {
            let plan = change(Leadership::Follower(followed), nothing_loaded());
            assert!(plan.to_string().contains("remove peer unit pgb_dbs\n"), "{plan}");
            assert_eq!(plan.waits, [wait]);
        }
    }

    #[test]
    fn plain_users_of_an_older_layout_move_from_the_bag_into_the_secret() {
        let store = Store::Secret {
            content: BTreeMap::from([("cfg-file".into(), Secret::new("old"))]),
            adopt: Some("abc".into()),
            revision: None,
            plain: vec!["auth_file".into(), "monitoring-password".into()],
        };
        check(
            &publish_users(&users(), &store),
            "
set the peer secret: admin-password, auth-file, cfg-file, monitoring-password, adopting the old one
remove peer app auth_file
remove peer app monitoring-password",
        );
    }

    #[test]
    fn a_follower_builds_the_configuration_while_the_leader_runs_the_python_charm() {
        let own = config_of(
            &Options { pool_mode: PoolMode::Transaction, ..options() },
            Some(&users().list),
        );
        let view = FollowerView { published: Ok(None), rendered: Some(own.clone()), ..follower() };
        assert_eq!(load(&change(Leadership::Follower(view), nothing_loaded())).shared, own.text);
    }

    #[test]
    fn unusable_published_values_are_waits() {
        let view = FollowerView { broken_users: Some("no line".into()), users: None, ..follower() };
        let plan = change(Leadership::Follower(view), nothing_loaded());
        assert!(plan.waits.contains(&Wait::Published(AUTH, "no line".into())), "{plan}");
        let view = FollowerView { is_lookup_removed: true, ..follower() };
        let plan = change(Leadership::Follower(view), loaded(&config(), &users().list));
        assert_eq!(plan.waits, [Wait::Leader]);
    }

    #[test]
    fn without_an_auth_role_the_wait_names_postgresql_or_the_leader() {
        let bare = || config_of(&options(), None);
        let leader =
            || Leadership::Leader(LeaderView { config: Some(bare()), users: None, ..leader() });
        let follower =
            || Leadership::Follower(FollowerView { published: Ok(Some(bare())), ..follower() });
        for (leadership, has_backend, wait) in [
            (leader(), false, Wait::NoBackend),
            (follower(), false, Wait::NoBackend),
            (leader(), true, Wait::Backend),
            (follower(), true, Wait::Leader),
        ] {
            let plan = decide(&Changed { has_backend, ..seen(leadership, nothing_loaded()) });
            assert_eq!(plan.waits, [wait]);
        }
    }
}

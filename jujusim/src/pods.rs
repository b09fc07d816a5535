//! Creates and replaces pods: the files, address and agent of a unit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;

use jiff::Timestamp;

use crate::Options;
use crate::agent::Agent;
use crate::charm::Charm;
use crate::container::Runtime;
use crate::error::{Doing as _, Error, Result};
use crate::events::Event;
use crate::hook::{agent_dir, charm_dir, socket};
use crate::model::{
    End, Held, Kind, Model, PermanentFaults, Relation, Settings, Stage, Status, Unit, UnitName,
};
use crate::network::Network;
use crate::pooler::Supervisor;
use crate::tools;
use crate::wire;

/// The host's own number in a model's network.
const GATEWAY: u8 = 254;

/// The start of a model's clock, 2026-01-01T00:00:00Z: fixed, so that transcripts do not depend on
/// the date. The command `clock` moves it to the real date.
const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// A random UUID of version 4 (RFC 9562), as Juju's models have: libraries check it.
fn uuid() -> String {
    let random: u128 = rand::random();
    let fixed = random & !(0xf << 76 | 0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let hex = format!("{fixed:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

impl Model {
    pub(crate) fn new(options: &Options, dir: PathBuf) -> Result<Model> {
        open_to_all(&dir)?;
        let network = Network::claim()?;
        let runtime = options.containers.as_ref().map(|pebble| {
            Runtime::new(pebble, options.pgbouncer.as_deref(), network.address(GATEWAY), &dir)
        });
        Ok(Model {
            name: options.model.clone(),
            uuid: uuid(),
            version: options.juju.parse()?,
            now: EPOCH,
            ahead: None,
            loses_expiry: false,
            dir,
            network,
            launcher: options.launcher.clone(),
            measures: options.measures,
            path: options.pgbouncer.clone(),
            postgresql: options.postgresql.clone(),
            apps: BTreeMap::new(),
            units: BTreeMap::new(),
            relations: BTreeMap::new(),
            secrets: BTreeMap::new(),
            runs: Vec::new(),
            next_relation: 0,
            next_action: 0,
            supervisor: Supervisor::start(options.pgbouncer.clone()),
            runtime: runtime.transpose()?,
            seed: options.seed,
            interrupts: Arc::default(),
            first: None,
            permanent_faults: PermanentFaults::default(),
            retries: true,
            next_run: 0,
            past_passwords: BTreeSet::new(),
        })
    }

    /// Refuses a name that makes the path of a unit's socket too long for the system.
    pub(crate) fn fits(&self, app: &str, units: usize) -> Result<()> {
        const LONGEST: usize = 107;
        let number = u32::try_from(units.saturating_sub(1)).unwrap_or(u32::MAX);
        let unit = UnitName { app: app.to_owned(), number };
        let path = socket(&self.dir.join(unit.dashed()), &unit);
        let surplus = path.as_os_str().len().saturating_sub(LONGEST).div_ceil(2);
        if surplus == 0 {
            return Ok(());
        }
        Err(Error::refused(format!(
            "jujusim has no room for the name {app:?}: use one of at most {} characters",
            app.len().saturating_sub(surplus)
        )))
    }

    /// Adds units; if the application never had a leader, one unit gets the lease at once.
    pub(crate) fn add_units(&mut self, app: &str, count: usize) -> Result<()> {
        for _ in 0..count {
            self.add_unit(app)?;
        }
        let application = self.app(app)?;
        if application.leader.is_none() && application.vacant_until.is_none() {
            self.elect(app);
        }
        self.grow_cluster(app)
    }

    /// Adds a server for every unit of an actor that operates PostgreSQL.
    fn grow_cluster(&mut self, app: &str) -> Result<()> {
        for unit in self.units_of(app) {
            if self
                .app(app)?
                .kind
                .cluster()
                .is_none_or(|cluster| cluster.member(unit.number).is_some())
            {
                continue;
            }
            let address = self.network.take()?;
            if let Some(mut cluster) = self.app(app)?.kind.cluster() {
                cluster.add(unit.number, address)?;
            }
            self.wake_leader(app);
        }
        Ok(())
    }

    /// Schedules an `update-status` of the leader for now.
    pub(crate) fn wake_leader(&mut self, app: &str) {
        let (leader, now) = (self.leader(app).cloned(), self.now);
        if let Some(unit) = leader.and_then(|leader| self.units.get_mut(&leader)) {
            unit.update_status_due = Some(now);
        }
    }

    fn add_unit(&mut self, app: &str) -> Result<()> {
        // Kubernetes reuses ordinals.
        let known = self.units_of(app);
        let number = (0..=u32::MAX)
            .find(|number| !known.iter().any(|unit| unit.number == *number))
            .unwrap_or_default();
        let name = UnitName { app: app.to_owned(), number };
        let (sender, receiver) = channel();
        let unit = Unit {
            root: self.dir.join(name.dashed()),
            address: self.network.take()?,
            dying: false,
            stage: Stage::Fresh,
            status: Status::new("waiting", "installing agent"),
            status_set: false,
            state: BTreeMap::new(),
            ports: BTreeSet::new(),
            queue: VecDeque::new(),
            workload: VecDeque::new(),
            containers: BTreeSet::new(),
            update_status_due: None,
            pending: None,
            committing_until: None,
            views: BTreeMap::new(),
            cache: BTreeMap::new(),
            leadership: None,
            config_seen: None,
            config_runs: 0,
            secrets_seen: BTreeMap::new(),
            restarted: false,
            faults: Vec::new(),
            held: Held::Relations(BTreeSet::new()),
            sender,
            receiver: Some(receiver),
            agent: None,
            pod: None,
        };
        self.units.insert(name.clone(), unit);
        self.make_pod(&name)
    }

    /// Creates the directories, charm, tools and socket of a new pod.
    fn make_pod(&mut self, name: &UnitName) -> Result<()> {
        let unit = self.unit(name)?;
        let root = unit.root.clone();
        let charm = charm_dir(&root, name);
        for dir in
            [agent_dir(&root, name), root.join("dev/shm"), root.join("etc"), root.join("var/log")]
        {
            fs::create_dir_all(&dir).doing(|| format!("create {}", dir.display()))?;
        }
        if let Kind::Charm(Charm { dir, .. }) = &self.app(&name.app)?.kind {
            // Copy in another process: a file that this process holds open for writing could not be
            // run. `-H` follows a link in the argument.
            let status = Command::new("cp")
                .arg("-aH")
                .arg(dir)
                .arg(&charm)
                .status()
                .doing(|| "run cp".to_owned())?;
            if !status.success() {
                return Err(Error::refused(format!(
                    "cannot copy {} to {}",
                    dir.display(),
                    charm.display()
                )));
            }
            self.link_tools(name)?;
        }
        let unit = self.unit(name)?;
        let containers = &self.app(&name.app)?.charm().containers;
        let pod = match &self.runtime {
            Some(runtime) if !containers.is_empty() => {
                Some(runtime.pod(&root, unit.address, containers.iter())?)
            }
            _ => None,
        };
        if pod.is_none() {
            self.supervisor.add(&root);
        }
        let unit = self.unit_mut(name)?;
        unit.pod = pod;
        unit.agent = Some(Agent::listen(&socket(&root, name), unit.sender.clone())?);
        Ok(())
    }

    fn link_tools(&self, name: &UnitName) -> Result<()> {
        let dir = self.dir.join("tools").join(name.dashed());
        fs::create_dir_all(&dir).doing(|| format!("create {}", dir.display()))?;
        for tool in tools::names(self.version) {
            let link = dir.join(tool);
            if !link.exists() {
                symlink(wire::HOOK_TOOL, &link).doing(|| format!("create {}", link.display()))?;
            }
        }
        Ok(())
    }

    /// Replaces a unit's pod: ends its processes, removes its files, and starts a new agent.
    /// Returns a line for each container that had to be killed.
    ///
    /// `clean` says that no hook was interrupted, except possibly before its success was recorded.
    /// Otherwise the agent does not run `upgrade-charm`. A pending hook runs first.
    pub(crate) fn new_pod(&mut self, name: &UnitName, clean: bool) -> Result<String> {
        let unit = self.idle(name)?;
        let root = unit.root.clone();
        unit.agent = None;
        let killed = unit.pod.take().map(|mut pod| pod.end()).unwrap_or_default();
        self.supervisor.remove(&root);
        fs::remove_dir_all(&root).doing(|| format!("remove {}", root.display()))?;
        let address = self.network.take()?;
        let unit = self.unit_mut(name)?;
        let old = std::mem::replace(&mut unit.address, address);
        // `config-changed` runs again, also because of the new address.
        unit.config_seen = None;
        self.network.release(old);
        self.make_pod(name)?;
        let upgrade = clean && self.unit(name)?.pending.is_none();
        self.agent_starts(name, upgrade)?;
        let words =
            killed.iter().map(|container| format!("{container} of {name} did not end: killed\n"));
        Ok(words.collect())
    }

    /// Restarts the charm container alone: the agent starts again, all files are kept.
    pub(crate) fn restart_agent(&mut self, name: &UnitName) -> Result<()> {
        self.idle(name)?;
        self.agent_starts(name, false)
    }

    /// The unit; fails if one of its hooks is running.
    pub(crate) fn idle(&mut self, name: &UnitName) -> Result<&mut Unit> {
        let unit = self.unit_mut(name)?;
        if unit.is_busy() {
            return Err(Error::refused(format!("a hook of {name} is running")));
        }
        Ok(unit)
    }

    /// Resets what a starting agent does not know: which relations are peer relations, and which
    /// secret changes were not announced. Every workload container becomes ready again.
    fn agent_starts(&mut self, name: &UnitName, upgrade: bool) -> Result<()> {
        let latest: BTreeMap<String, u32> =
            self.secrets.iter().map(|(id, secret)| (id.clone(), secret.latest)).collect();
        let repeats = self.version.repeats_check_events();
        let unit = self.unit_mut(name)?;
        unit.cache.clear();
        unit.restarted = true;
        unit.committing_until = None;
        unit.faults.clear();
        for (id, told) in &mut unit.secrets_seen {
            *told = latest.get(id).copied().unwrap_or(*told);
        }
        if unit.stage >= Stage::Installed {
            unit.queue.clear();
            if upgrade {
                unit.queue.extend([Event::UpgradeCharm, Event::ConfigChanged]);
            }
            unit.queue.push_back(Event::Start);
            let ready =
                unit.containers.iter().map(|name| Event::Workload(format!("{name}-pebble-ready")));
            unit.workload = ready.collect();
            for container in unit.pod.iter_mut().flat_map(|pod| &mut pod.containers) {
                container.boot = None;
                if repeats {
                    container.noticed = None;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn relate(&mut self, ends: Vec<End>) -> u32 {
        let id = self.next_relation;
        self.next_relation += 1;
        let apps = ends.iter().map(|end| (end.app.clone(), Settings::default())).collect();
        let relation = Relation {
            ends,
            dying: false,
            suspended: false,
            forgotten: false,
            apps,
            units: BTreeMap::new(),
            scope: BTreeSet::new(),
        };
        self.relations.insert(id, relation);
        id
    }

    /// Marks a relation as dying. Removes it if it has no units.
    pub(crate) fn break_relation(&mut self, id: u32) {
        if let Some(relation) = self.relations.get_mut(&id) {
            relation.dying = true;
        }
        self.leave_uncreated(id);
        self.reap_relation(id);
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // Actors and agents first: they have processes and files in the directory.
        self.units.clear();
        self.apps.clear();
    }
}

/// Makes a directory accessible to the user that PgBouncer and PostgreSQL run as.
fn open_to_all(dir: &std::path::Path) -> Result<()> {
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir, mode).doing(|| format!("change the mode of {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_of_version_4() {
        for _ in 0..20 {
            let uuid = uuid();
            let parts: Vec<&str> = uuid.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(parts[2].starts_with('4'), "{uuid}");
            assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
        }
    }
}

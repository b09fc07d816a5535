//! Every absolute path of a unit, from one value, so that a whole unit can live under a temporary root.

use std::path::{Path, PathBuf};

/// Where Juju keeps the agents of a machine, below its root.
const AGENTS: &str = "var/lib/juju/agents";

/// The paths of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    unit: String,
}

impl Paths {
    /// Below this root, of the unit of this name, `<app>/<n>`.
    pub fn new(root: PathBuf, unit: &str) -> Self {
        Self { root, unit: unit.replace('/', "-") }
    }

    /// From the charm directory, `<root>/var/lib/juju/agents/unit-<app>-<n>/charm`, and the unit's name,
    /// `<app>/<n>`. On a real unit the root is `/`; so it is for a directory that is not laid out like that.
    pub fn from_charm_dir(charm_dir: &Path, unit: &str) -> Self {
        let root = charm_dir
            .ancestors()
            .find(|directory| directory.ends_with(AGENTS))
            .and_then(|agents| agents.ancestors().nth(Path::new(AGENTS).components().count()))
            .unwrap_or(Path::new("/"));
        Self::new(root.to_path_buf(), unit)
    }

    /// The directory of all instances and of what they share.
    pub fn instances_dir(&self) -> PathBuf {
        self.root.join("var/lib/pgbouncer")
    }

    /// The directory of one process: its configuration, pid file, marker and console socket.
    pub fn instance_dir(&self, instance: u16) -> PathBuf {
        self.instances_dir().join(format!("instance_{instance}"))
    }

    /// The configuration one process reads.
    pub fn ini(&self, instance: u16) -> PathBuf {
        self.instance_dir(instance).join("pgbouncer.ini")
    }

    /// Where one process writes its process id.
    pub fn pid_file(&self, instance: u16) -> PathBuf {
        self.instance_dir(instance).join("pgbouncer.pid")
    }

    /// What one process was seen to have loaded.
    pub fn marker(&self, instance: u16) -> PathBuf {
        self.instance_dir(instance).join("loaded")
    }

    /// What one process needs beyond a reload, from before it was given the file that needs it.
    pub fn pending_restart(&self, instance: u16) -> PathBuf {
        self.instance_dir(instance).join("pending-restart")
    }

    /// The configuration all units share, as it was last loaded here.
    pub fn shared(&self) -> PathBuf {
        self.instances_dir().join("shared.ini")
    }

    /// The user list: in memory where there is a file system for that, else beside the instances.
    pub fn user_list(&self) -> PathBuf {
        let is_there = self.root.join("dev/shm").is_dir();
        if is_there { self.user_list_in_memory() } else { self.instances_dir().join("userlist.txt") }
    }

    /// The user list in a file system that is memory: every pod has it.
    pub fn user_list_in_memory(&self) -> PathBuf {
        self.root.join("dev/shm").join(&self.unit).join("userlist.txt")
    }

    /// There in a sidecar charm only: one directory for each workload container.
    pub fn containers(&self) -> PathBuf {
        self.root.join("charm/containers")
    }

    /// What the charm's container and the workload's both see; there it is `/charm/container`.
    pub fn container(&self) -> PathBuf {
        self.containers().join("pgbouncer")
    }

    /// The resolver's configuration, which names the cluster's domain.
    pub fn resolv_conf(&self) -> PathBuf {
        self.root.join("etc/resolv.conf")
    }

    /// The domain of the cluster a pod of `model` runs in, by the search list the kubelet wrote;
    /// `cluster.local` where there is none.
    #[expect(clippy::disallowed_methods, reason = "a file of the unit, by its path")]
    pub fn cluster_domain(&self, model: &str) -> String {
        let text = std::fs::read_to_string(self.resolv_conf()).unwrap_or_default();
        let prefix = format!("{model}.svc.");
        text.lines()
            .filter_map(|line| line.strip_prefix("search "))
            .flat_map(str::split_whitespace)
            .find_map(|domain| domain.strip_prefix(prefix.as_str()))
            .unwrap_or("cluster.local")
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_unit_lives_at_the_root() {
        let paths = Paths::from_charm_dir(Path::new("/var/lib/juju/agents/unit-pgb-0/charm"), "pgb/0");
        assert_eq!(paths.root, Path::new("/"));
        assert_eq!(paths.ini(1), Path::new("/var/lib/pgbouncer/instance_1/pgbouncer.ini"));
    }

    #[test]
    fn a_simulated_unit_lives_below_its_own_root() {
        let paths = Paths::from_charm_dir(Path::new("/tmp/x/var/lib/juju/agents/unit-pgb-0/charm"), "pgb/0");
        assert_eq!(paths.root, Path::new("/tmp/x"));
        assert_eq!(paths.user_list(), Path::new("/tmp/x/var/lib/pgbouncer/userlist.txt"));
        assert_eq!(paths.resolv_conf(), Path::new("/tmp/x/etc/resolv.conf"));
    }

    #[test]
    fn any_other_charm_directory_means_the_root() {
        for directory in ["/srv/charm", "charm", ""] {
            assert_eq!(Paths::from_charm_dir(Path::new(directory), "pgb/0").root, Path::new("/"));
        }
    }
}

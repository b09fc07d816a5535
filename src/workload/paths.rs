//! Every absolute path of a unit, from one value: a whole unit can live under a temporary root.

use std::path::{Path, PathBuf};

/// The directory in which Juju keeps the agents of a machine, below the root.
const AGENTS: &str = "var/lib/juju/agents";

/// The paths of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    unit: String,
}

impl Paths {
    /// The paths below this root of the unit `<app>/<n>`.
    pub fn new(root: PathBuf, unit: &str) -> Self {
        Self { root, unit: unit.replace('/', "-") }
    }

    /// The paths of the unit `<app>/<n>` from its charm directory,
    /// `<root>/var/lib/juju/agents/unit-<app>-<n>/charm`. The root is `/` on a real unit, and for
    /// any other layout.
    pub fn from_charm_dir(charm_dir: &Path, unit: &str) -> Self {
        let root = charm_dir
            .ancestors()
            .find(|directory| directory.ends_with(AGENTS))
            .and_then(|agents| agents.ancestors().nth(Path::new(AGENTS).components().count()))
            .unwrap_or(Path::new("/"));
        Self::new(root.to_path_buf(), unit)
    }

    /// The directory of all instances and of the files they share.
    pub fn instances_dir(&self) -> PathBuf {
        self.root.join("var/lib/pgbouncer")
    }

    /// The directory of one process, for its configuration, pid file, marker and console socket.
    pub fn instance_dir(&self, instance: u16) -> PathBuf {
        self.instances_dir().join(format!("instance_{instance}"))
    }

    /// The configuration that one process reads.
    pub fn ini(&self, instance: u16) -> PathBuf {
        self.instance_dir(instance).join("pgbouncer.ini")
    }

    /// The file in which one process writes its id.
    pub fn pid_file(&self, instance: u16) -> PathBuf {
        self.instance_dir(instance).join("pgbouncer.pid")
    }

    /// The marker: what one process was confirmed to have loaded.
    pub fn marker(&self, instance: u16) -> PathBuf {
        self.instance_dir(instance).join("loaded")
    }

    /// The record of what one process needs beyond a reload, written before the file that needs it.
    pub fn pending_restart(&self, instance: u16) -> PathBuf {
        self.instance_dir(instance).join("pending-restart")
    }

    /// The configuration that all units share, as this unit last loaded it.
    pub fn shared(&self) -> PathBuf {
        self.instances_dir().join("shared.ini")
    }

    /// The user list: in memory where a file system for that exists, otherwise beside the
    /// instances.
    pub fn user_list(&self) -> PathBuf {
        let is_there = self.root.join("dev/shm").is_dir();
        if is_there {
            self.user_list_in_memory()
        } else {
            self.instances_dir().join("userlist.txt")
        }
    }

    /// The user list in a file system in memory, which every pod has.
    pub fn user_list_in_memory(&self) -> PathBuf {
        self.root.join("dev/shm").join(&self.unit).join("userlist.txt")
    }

    /// The directory of workload containers. Only a sidecar charm has it.
    pub fn containers(&self) -> PathBuf {
        self.root.join("charm/containers")
    }

    /// The directory that the charm's container shares with the workload's, where it is
    /// `/charm/container`.
    pub fn container(&self) -> PathBuf {
        self.containers().join("pgbouncer")
    }

    /// The configuration of the resolver, which names the cluster's domain.
    pub fn resolv_conf(&self) -> PathBuf {
        self.root.join("etc/resolv.conf")
    }

    /// The domain of the cluster in which a pod of `model` runs: from the search list that the
    /// kubelet writes, otherwise `cluster.local`.
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
    fn a_real_unit_has_its_files_below_the_root() {
        let paths =
            Paths::from_charm_dir(Path::new("/var/lib/juju/agents/unit-pgb-0/charm"), "pgb/0");
        assert_eq!(paths.root, Path::new("/"));
        assert_eq!(paths.ini(1), Path::new("/var/lib/pgbouncer/instance_1/pgbouncer.ini"));
    }

    #[test]
    fn a_simulated_unit_has_its_files_below_its_own_root() {
        let paths = Paths::from_charm_dir(
            Path::new("/tmp/x/var/lib/juju/agents/unit-pgb-0/charm"),
            "pgb/0",
        );
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

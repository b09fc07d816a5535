//! Which versions of PostgreSQL are installed, and where.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// An installed major version.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) major: u32,
    /// The directory of its programs.
    pub(crate) programs: PathBuf,
}

impl Release {
    /// The newest version installed on the machine.
    pub(crate) fn newest() -> Result<Release> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let majors = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let newest =
            majors.filter_map(|major| Release::at(major, &system(major))).max_by_key(|r| r.major);
        newest.ok_or_else(|| Error::refused("PostgreSQL is not installed in /usr/lib/postgresql"))
    }

    /// This major version, from `scripts/postgresql` or installed on the machine.
    pub(crate) fn find(major: u32) -> Result<Release> {
        let fetched = cache().join(format!("postgresql-{major}"));
        let found = [fetched, system(major)].iter().find_map(|home| Release::at(major, home));
        found.ok_or_else(|| {
            Error::refused(match major {
                14 | 16 => format!("PostgreSQL {major} is not installed: run scripts/postgresql"),
                _ => format!("PostgreSQL {major} is not installed in /usr/lib/postgresql"),
            })
        })
    }

    fn at(major: u32, home: &Path) -> Option<Release> {
        let programs = home.join("bin");
        programs.join("initdb").exists().then_some(Release { major, programs })
    }
}

fn system(major: u32) -> PathBuf {
    Path::new("/usr/lib/postgresql").join(major.to_string())
}

/// The cache directory of the project's scripts.
pub(crate) fn cache() -> PathBuf {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("PGBOUNCER_K8S_CACHE").unwrap_or_else(|| {
        if nix::unistd::geteuid().is_root() {
            return "/var/cache/pgbouncer-k8s".into();
        }
        let home = || variable("HOME").unwrap_or_default().join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("pgbouncer-k8s")
    })
}

//! The versions of PgBouncer that are here to be tested on: the installed one, and what
//! scripts/pgbouncer-1.24 built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::unistd::geteuid;
use pgbouncer_k8s::pgbouncer::Version;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Where it is, for a `PATH`.
    pub(crate) directory: PathBuf,
    pub(crate) version: Version,
}

/// All of them, the oldest first. Under `CI=true` there are two or more.
pub(crate) fn installed() -> Vec<Program> {
    static FOUND: OnceLock<Vec<Program>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Vec<Program> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin".into(), "/sbin".into()]);
    let installed = directories.iter().find_map(|directory| program(directory));
    let built = program(&cache().join("pgbouncer-1.24/bin"));
    let mut found: Vec<_> = installed.into_iter().chain(built).collect();
    found.sort_by_key(|program| program.version);
    found.dedup_by_key(|program| program.version);
    assert!(!found.is_empty(), "these tests need PgBouncer: run scripts/parts");
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        assert!(found.len() > 1, "one version only, {found:?}: run scripts/pgbouncer-1.24");
    }
    found
}

fn program(directory: &Path) -> Option<Program> {
    let output = Command::new(directory.join("pgbouncer")).arg("--version").output().ok()?;
    let version = Version::parse(&String::from_utf8(output.stdout).ok()?)?;
    Some(Program { directory: directory.to_path_buf(), version })
}

/// Where scripts/pgbouncer-1.24, scripts/postgresql and scripts/psycopg keep what they made for
/// whoever the process was at first.
pub(crate) fn cache() -> PathBuf {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(find_cache).clone()
}

fn find_cache() -> PathBuf {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("PGBOUNCER_K8S_CACHE").unwrap_or_else(|| {
        if geteuid().is_root() {
            return "/var/cache/pgbouncer-k8s".into();
        }
        let home = || variable("HOME").unwrap_or_default().join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("pgbouncer-k8s")
    })
}

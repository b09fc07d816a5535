//! The charm as it is deployed in tests.

#![expect(clippy::disallowed_methods, reason = "tests lay out the charm on disk")]

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

/// Lays out the charm with the binary under test and makes its parent the current directory, so
/// that scripts say `deploy ./pgbouncer-k8s`. With `PGBOUNCER_K8S_CHARM` it is the unpacked charm
/// in that directory.
pub(crate) fn stage() {
    static STAGED: OnceLock<()> = OnceLock::new();
    STAGED.get_or_init(|| lay_out().expect("the charm can be laid out"));
}

/// Lays out the authority of tests/charms beside the charm, so that scripts say `deploy
/// ./tls-provider`. Fails if Canonical's library is not installed.
#[allow(dead_code, reason = "few tests need certificates")]
pub(crate) fn stage_tls_provider() -> jujusim::Result<()> {
    static STAGED: OnceLock<()> = OnceLock::new();
    let venv = jujusim::python_of("charmlibs")?;
    STAGED.get_or_init(|| {
        let charm = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/charms/tls-provider");
        let files = ["metadata.yaml", "config.yaml", "actions.yaml", "dispatch", "src"];
        let links = files.map(|file| (charm.join(file), file)).into_iter().chain([(venv, "venv")]);
        fs::create_dir_all("tls-provider").expect("a directory");
        for (from, name) in links {
            // Another test may be deploying the charm.
            let to = Path::new("tls-provider").join(name);
            let new = to.with_extension(format!("new-{}", std::process::id()));
            std::os::unix::fs::symlink(from, &new).expect("a new link");
            fs::rename(new, to).expect("the directory is ours");
        }
    });
    Ok(())
}

fn lay_out() -> io::Result<()> {
    // Benchmarks and tests may run at the same time.
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stage").join(profile);
    let charm = parent.join("pgbouncer-k8s");
    let bin = charm.join("bin");
    fs::create_dir_all(&bin)?;
    let packed = std::env::var_os("PGBOUNCER_K8S_CHARM").map(PathBuf::from);
    let root = packed.as_deref().unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")));
    for file in ["dispatch", "metadata.yaml", "config.yaml", "actions.yaml", "LICENSE"] {
        link(&root.join(file), &charm.join(file))?;
    }
    let packed = packed.map(|packed| packed.join("bin/pgbouncer-k8s"));
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_pgbouncer-k8s"));
    link(&packed.unwrap_or_else(built), &bin.join("pgbouncer-k8s"))?;
    std::env::set_current_dir(parent)
}

/// Another test may be reading the old file. A link costs nothing, and every test makes it.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    let file = |path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    if file(to).is_ok_and(|there| file(from).is_ok_and(|wanted| there == wanted)) {
        return Ok(());
    }
    let new = to.with_extension(format!("new-{}", std::process::id()));
    fs::hard_link(from, &new).or_else(|_| fs::copy(from, &new).map(drop))?;
    fs::rename(new, to)
}

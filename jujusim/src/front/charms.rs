//! Where a deployed charm comes from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::Call;
use crate::error::{Doing as _, Error, Result};
use crate::model::Model;

/// The source of a charm, from the argument of `juju deploy`.
pub(super) enum Source {
    /// A charm's directory.
    Local(PathBuf),
    /// A Charmhub charm that an actor stands for.
    Charmhub { actor: &'static str },
}

/// Charmhub charms, and the actors that stand for them.
const CHARMHUB: [(&str, &str); 2] =
    [("postgresql-k8s", "actor:postgresql"), ("data-integrator", "actor:client")];

/// Finds a charm by its path, unpacked if needed, or by its name on Charmhub.
pub(super) fn find(charm: &str, call: &Call, model: &Model) -> Result<Source> {
    let path = Path::new(charm);
    if is_packed(path) || charm.starts_with(['.', '/']) {
        return local(path, call, model).map(Source::Local);
    }
    let name = charm.strip_prefix("ch:").unwrap_or(charm);
    match CHARMHUB.iter().find(|(known, _)| *known == name) {
        Some((_, actor)) => Ok(Source::Charmhub { actor }),
        None => Err(Error::NotModelled(format!(
            "the Charmhub charm {name:?}: use {}, or deploy a charm by path: ./{name}",
            CHARMHUB.map(|(known, _)| known).join(" or ")
        ))),
    }
}

fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "charm")
}

/// The charm's directory: the given directory, or the unpacked content of the given file.
pub(super) fn local(path: &Path, call: &Call, model: &Model) -> Result<PathBuf> {
    let path = call.dir.join(path);
    if !is_packed(&path) {
        return Ok(path);
    }
    let charms = model.dir.join("charms");
    fs::create_dir_all(&charms).doing(|| format!("make {}", charms.display()))?;
    let dir = tempfile::Builder::new()
        .tempdir_in(&charms)
        .doing(|| format!("write in {}", charms.display()))?;
    let file = File::open(&path).doing(|| format!("open {}", path.display()))?;
    let unpacked = zip::ZipArchive::new(file).and_then(|mut archive| archive.extract(dir.path()));
    unpacked
        .map_err(|error| Error::refused(format!("cannot unpack {}: {error}", path.display())))?;
    Ok(dir.keep())
}

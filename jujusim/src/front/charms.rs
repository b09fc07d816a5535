//! Where a deployed charm comes from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::Call;
use crate::error::{Doing as _, Error, Result};
use crate::model::Model;

/// What `juju deploy` was given.
pub(super) enum Source {
    /// A charm's directory.
    Local(PathBuf),
    /// One of Charmhub that an actor stands for.
    Charmhub { actor: &'static str },
}

/// Charms of Charmhub, and the actors that stand for them.
const CHARMHUB: [(&str, &str); 2] =
    [("postgresql-k8s", "actor:postgresql"), ("data-integrator", "actor:client")];

/// A charm by path, unpacked if it has to be, or by its name on Charmhub.
pub(super) fn find(charm: &str, call: &Call, model: &Model) -> Result<Source> {
    let path = Path::new(charm);
    if is_packed(path) || charm.starts_with(['.', '/']) {
        return local(path, call, model).map(Source::Local);
    }
    let name = charm.strip_prefix("ch:").unwrap_or(charm);
    match CHARMHUB.iter().find(|(known, _)| *known == name) {
        Some((_, actor)) => Ok(Source::Charmhub { actor }),
        None => Err(Error::NotModelled(format!(
            "Charmhub's {name:?}; {} stand for charms there, others are deployed by path: ./{name}",
            CHARMHUB.map(|(known, _)| known).join(" and ")
        ))),
    }
}

fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "charm")
}

/// A charm's directory: the given one, or what was packed in the given file.
pub(super) fn local(path: &Path, call: &Call, model: &Model) -> Result<PathBuf> {
    let path = call.dir.join(path);
    if !is_packed(&path) {
        return Ok(path);
    }
    let charms = model.dir.join("charms");
    fs::create_dir_all(&charms).doing(|| format!("make {}", charms.display()))?;
    let dir =
        tempfile::Builder::new().tempdir_in(&charms).doing(|| format!("write in {}", charms.display()))?;
    let file = File::open(&path).doing(|| format!("open {}", path.display()))?;
    let unpacked = zip::ZipArchive::new(file).and_then(|mut archive| archive.extract(dir.path()));
    unpacked.map_err(|error| Error::refused(format!("cannot unpack {}: {error}", path.display())))?;
    Ok(dir.keep())
}

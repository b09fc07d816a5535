//! A charm's metadata: `charmcraft.yaml`, or `metadata.yaml` with `config.yaml` and `actions.yaml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// A charm, as its metadata describes it.
#[derive(Clone, Default)]
pub(crate) struct Charm {
    /// The directory with the charm's files; empty for an actor.
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
    pub(crate) options: BTreeMap<String, ConfigOption>,
    pub(crate) actions: BTreeMap<String, Value>,
    /// Names of the workload containers.
    pub(crate) containers: BTreeSet<String>,
}

#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) role: Role,
    pub(crate) interface: String,
    pub(crate) limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Provider,
    Requirer,
    Peer,
}

#[derive(Clone, Deserialize)]
pub(crate) struct ConfigOption {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) default: Option<Value>,
    #[serde(default)]
    pub(crate) description: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Metadata {
    name: String,
    provides: BTreeMap<String, RawEndpoint>,
    requires: BTreeMap<String, RawEndpoint>,
    peers: BTreeMap<String, RawEndpoint>,
    config: Config,
    actions: BTreeMap<String, Value>,
    containers: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct RawEndpoint {
    interface: String,
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    options: BTreeMap<String, ConfigOption>,
}

impl Charm {
    pub(crate) fn read(dir: &Path) -> Result<Charm> {
        let file = ["metadata.yaml", "charmcraft.yaml"]
            .iter()
            .map(|name| dir.join(name))
            .find(|path| path.exists());
        let file = file.ok_or_else(|| {
            Error::refused(format!(
                "cannot deploy {}: it has neither metadata.yaml nor charmcraft.yaml",
                dir.display()
            ))
        })?;
        let mut metadata: Metadata = parse(&file)?;
        if dir.join("config.yaml").exists() {
            metadata.config = parse(&dir.join("config.yaml"))?;
        }
        if dir.join("actions.yaml").exists() {
            metadata.actions = parse(&dir.join("actions.yaml"))?;
        }
        let mut endpoints = BTreeMap::new();
        for (role, declared) in [
            (Role::Provider, metadata.provides),
            (Role::Requirer, metadata.requires),
            (Role::Peer, metadata.peers),
        ] {
            for (name, raw) in declared {
                endpoints
                    .insert(name, Endpoint { role, interface: raw.interface, limit: raw.limit });
            }
        }
        Ok(Charm {
            dir: dir.to_owned(),
            name: metadata.name,
            endpoints,
            options: metadata.config.options,
            actions: metadata.actions,
            containers: metadata.containers.into_keys().collect(),
        })
    }

    /// Parses `text` as a value of the option's type.
    pub(crate) fn option_value(&self, name: &str, text: &str) -> Result<Value> {
        let option = self
            .options
            .get(name)
            .ok_or_else(|| Error::refused(format!("unknown option {name:?}")))?;
        let wrong =
            || Error::refused(format!("option {name:?} expected {}, got {text:?}", option.kind));
        Ok(match option.kind.as_str() {
            "int" => Value::from(text.parse::<i64>().map_err(|_| wrong())?),
            "float" => Value::from(text.parse::<f64>().map_err(|_| wrong())?),
            "boolean" => match text.to_lowercase().as_str() {
                "true" => Value::from(true),
                "false" => Value::from(false),
                _ => return Err(wrong()),
            },
            _ => Value::from(text),
        })
    }
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path)
        .map_err(|source| Error::Io { doing: format!("read {}", path.display()), source })?;
    serde_yaml::from_str(&text)
        .map_err(|error| Error::refused(format!("cannot parse {}: {error}", path.display())))
}

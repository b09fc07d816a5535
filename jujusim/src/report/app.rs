//! `juju show-application`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{charm_url, life};
use crate::error::Result;
use crate::model::Model;

/// The space of a model that has no other.
const SPACE: &str = "alpha";

/// An application, as `juju show-application` prints it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ApplicationInfo {
    charm: String,
    principal: bool,
    exposed: bool,
    remote: bool,
    life: &'static str,
    /// The space of each endpoint; of all others under the empty name.
    endpoint_bindings: BTreeMap<String, &'static str>,
}

impl ApplicationInfo {
    pub(crate) fn of(model: &Model, name: &str) -> Result<ApplicationInfo> {
        let app = model.app(name)?;
        let endpoints = app.charm().endpoints.keys().cloned().chain([String::new()]);
        Ok(ApplicationInfo {
            charm: charm_url(app),
            principal: true,
            exposed: false,
            remote: false,
            life: life(app.dying),
            endpoint_bindings: endpoints.map(|endpoint| (endpoint, SPACE)).collect(),
        })
    }
}

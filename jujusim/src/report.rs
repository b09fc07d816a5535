//! The output of `juju status`, `juju show-application` and `juju show-unit`, with Juju's own keys
//! (juju's cmd/juju/status/formatted.go, cmd/juju/application/show.go and showunit.go).

mod app;
mod status;
mod unit;

use serde::ser::{Serialize, Serializer};

use crate::charm::Charm;
use crate::error::{Error, Result};
use crate::model::{App, Kind, Model};

pub(crate) use app::ApplicationInfo;
pub(crate) use status::Status;
pub(crate) use unit::{Hidden, UnitInfo};

/// The format of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables, or plain text lines.
    #[default]
    Tabular,
    Yaml,
    Json,
}

impl Format {
    pub(crate) fn parse(text: &str) -> Result<Format> {
        clap::ValueEnum::from_str(text, false).map_err(|_| {
            Error::refused(format!("unknown format {text:?}: use tabular, yaml or json"))
        })
    }
}

/// A map that keeps its insertion order: Juju sorts `app/10` after `app/9`.
pub(crate) struct Ordered<T>(pub(crate) Vec<(String, T)>);

impl<T> Ordered<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// JSON on one line, as Juju writes it.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

pub(crate) fn yaml(value: &impl Serialize) -> String {
    serde_yaml::to_string(value).unwrap_or_default()
}

/// The controller's time of day.
pub(crate) fn time(model: &Model) -> String {
    model.now.strftime("%H:%M:%SZ").to_string()
}

/// A charm's URL: an actor stands for a Charmhub charm.
fn charm_url(app: &App) -> String {
    let Charm { name, .. } = app.charm();
    match app.kind {
        Kind::Charm(_) => format!("local:{name}-{}", app.revision),
        Kind::Actor(..) => format!("ch:amd64/{name}-0"),
    }
}

fn life(dying: bool) -> &'static str {
    if dying { "dying" } else { "alive" }
}

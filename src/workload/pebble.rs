//! Pebble, which keeps the processes of the workload container: its HTTP API on a Unix socket, as far as the
//! charm needs it.

mod checks;
mod envelope;
mod error;
mod exec;
mod files;
mod http;
mod multipart;
mod services;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub use self::{
    checks::{Check, CheckStatus},
    error::{PathError, PathErrorKind, PebbleError},
    exec::Output,
    files::{Directory, File, FileInfo, FileKind},
    services::{Current, Service, Startup},
};
use self::{
    envelope::Envelope,
    http::{Answer, Ask},
};

/// How long Pebble may take to answer what needs no waiting; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pebble of one container.
#[derive(Clone, Debug)]
pub struct Pebble {
    socket: PathBuf,
}

/// Which daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SystemInfo {
    /// Another one after each start of the container.
    pub boot_id: String,
    /// Such as `v1.26.0`.
    pub version: String,
}

impl Pebble {
    /// The one that listens on this socket, or will.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Which daemon answers. Whether one does, most cheaply.
    pub fn system_info(&self) -> Result<SystemInfo, PebbleError> {
        self.get("/v1/system-info")
    }

    /// All layers combined, in YAML; `{}` after a start of the container.
    pub fn plan(&self) -> Result<String, PebbleError> {
        self.get("/v1/plan?format=yaml")
    }

    /// Adds a layer, or combines it with the one of this label. Starts and stops no service, but checks.
    pub fn add_layer(&self, label: &str, layer: &Value) -> Result<(), PebbleError> {
        // JSON is YAML.
        let layer = layer.to_string();
        let request =
            json!({"action": "add", "combine": true, "label": label, "format": "yaml", "layer": layer});
        self.post("/v1/layers", &request).map(drop)
    }

    fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, PebbleError> {
        Envelope::of(&self.call(Ask::get(target, "application/json"))?)?.result()
    }

    fn post(&self, target: &str, request: &Value) -> Result<Envelope, PebbleError> {
        let body = request.to_string().into_bytes();
        Envelope::of(&self.call(Ask::post(target, "application/json".into(), body))?)
    }

    fn call(&self, ask: Ask) -> Result<Answer, PebbleError> {
        http::call(&self.socket, ask, PATIENCE)
    }
}

/// As Go writes durations; none at all would be for ever.
fn duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis().max(1))
}

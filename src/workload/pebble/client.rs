//! Requests to one Pebble.

use std::{path::PathBuf, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    envelope::Envelope,
    error::PebbleError,
    http::{self, Answer, Ask},
};

/// How long Pebble may take to answer what needs no waiting; it takes milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Pebble of one container.
#[derive(Clone, Debug)]
pub struct Pebble {
    pub(super) socket: PathBuf,
}

impl Pebble {
    /// The one that listens on this socket, or will.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Adds a layer, or combines it with the one of this label. Starts and stops no service, but checks.
    pub fn add_layer(&self, label: &str, layer: &Value) -> Result<(), PebbleError> {
        // JSON is YAML.
        let layer = layer.to_string();
        let request =
            json!({"action": "add", "combine": true, "label": label, "format": "yaml", "layer": layer});
        self.post("/v1/layers", &request).map(drop)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, PebbleError> {
        Envelope::of(&self.call(Ask::get(target, "application/json"))?)?.result()
    }

    pub(super) fn post(&self, target: &str, request: &Value) -> Result<Envelope, PebbleError> {
        let body = request.to_string().into_bytes();
        Envelope::of(&self.call(Ask::post(target, "application/json".into(), body))?)
    }

    pub(super) fn call(&self, ask: Ask) -> Result<Answer, PebbleError> {
        http::call(&self.socket, ask, PATIENCE)
    }
}

/// As Go writes durations; none at all would be for ever.
pub(super) fn duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis().max(1))
}

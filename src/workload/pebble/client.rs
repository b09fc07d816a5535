//! The client of one Pebble daemon.

use std::{path::PathBuf, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    envelope::Envelope,
    error::PebbleError,
    http::{self, ApiRequest, Response},
};

/// How long Pebble may take to answer a request that waits for nothing. It takes milliseconds.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The client of the Pebble daemon in one container.
#[derive(Clone, Debug)]
pub struct Pebble {
    pub(super) socket: PathBuf,
}

impl Pebble {
    /// A client of the daemon that listens on this socket, now or later.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Adds a layer, or combines it with the layer of this label. Starts and stops checks, but no
    /// services.
    pub fn add_layer(&self, label: &str, layer: &Value) -> Result<(), PebbleError> {
        // Pebble wants YAML, and JSON is YAML.
        let layer = layer.to_string();
        let request = json!({
            "action": "add", "combine": true, "label": label, "format": "yaml", "layer": layer
        });
        self.post("/v1/layers", &request).map(drop)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, PebbleError> {
        Envelope::of(&self.call(ApiRequest::get(target, "application/json"))?)?.result()
    }

    pub(super) fn post(&self, target: &str, request: &Value) -> Result<Envelope, PebbleError> {
        let body = request.to_string().into_bytes();
        Envelope::of(&self.call(ApiRequest::post(target, "application/json".into(), body))?)
    }

    pub(super) fn call(&self, request: ApiRequest) -> Result<Response, PebbleError> {
        http::call(&self.socket, request, ANSWER_LIMIT)
    }
}

/// A duration as Go writes it, at least 1 ms: Pebble takes 0 for no limit.
pub(super) fn duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis().max(1))
}

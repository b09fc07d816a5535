//! What every JSON answer of Pebble is wrapped in.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{error::PebbleError, http::Answer};

/// An answer that is not a refusal.
pub(super) struct Envelope {
    result: Value,
    change: Option<String>,
}

/// As it is sent. The kind of an answer is its type, not the status of HTTP: 502 may be a plain "no".
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Wire {
    Sync {
        #[serde(default)]
        result: Value,
    },
    Async {
        change: String,
        #[serde(default)]
        result: Value,
    },
    Error {
        result: Refusal,
    },
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
    kind: Option<String>,
}

impl Envelope {
    pub(super) fn of(answer: &Answer) -> Result<Self, PebbleError> {
        Self::parse(answer.status, &answer.body)
    }

    /// The one inside a multipart answer has the status of the whole.
    pub(super) fn parse(status: u16, text: &[u8]) -> Result<Self, PebbleError> {
        let unknown = |error| PebbleError::Protocol(format!("an answer with status {status}: {error}"));
        match serde_json::from_slice(text).map_err(unknown)? {
            Wire::Sync { result } => Ok(Self { result, change: None }),
            Wire::Async { change, result } => Ok(Self { result, change: Some(change) }),
            Wire::Error { result: Refusal { message, kind } } => {
                Err(PebbleError::Api { status, kind, message })
            }
        }
    }

    pub(super) fn result<T: DeserializeOwned>(self) -> Result<T, PebbleError> {
        serde_json::from_value(self.result)
            .map_err(|error| PebbleError::Protocol(format!("the result of an answer: {error}")))
    }

    /// The id of the change that was begun.
    pub(super) fn change(&self) -> Result<String, PebbleError> {
        self.change.clone().ok_or_else(|| PebbleError::Protocol("an answer names no change".into()))
    }
}

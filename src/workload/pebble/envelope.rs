//! The JSON envelope of every response of Pebble.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{error::PebbleError, http::Response};

/// The longest JSON of a response, in bytes. Parsed, it needs up to 16 times as much memory.
const JSON_SIZE_MAX: usize = 1 << 20;

/// A response that is not an error.
pub(super) struct Envelope {
    result: Value,
    change: Option<String>,
}

/// A response as it is sent. Its kind is the field `type`, not the HTTP status: 502 may come with a
/// regular result.
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
}

impl Envelope {
    pub(super) fn of(answer: &Response) -> Result<Self, PebbleError> {
        Self::parse(answer.status, &answer.body)
    }

    /// An envelope inside a multipart response has the status of the whole response.
    pub(super) fn parse(status: u16, text: &[u8]) -> Result<Self, PebbleError> {
        if text.len() > JSON_SIZE_MAX {
            return Err(PebbleError::Protocol(format!("JSON of more than {JSON_SIZE_MAX} bytes")));
        }
        let unknown =
            |error| PebbleError::Protocol(format!("an answer with status {status}: {error}"));
        match serde_json::from_slice(text).map_err(unknown)? {
            Wire::Sync { result } => Ok(Self { result, change: None }),
            Wire::Async { change, result } => Ok(Self { result, change: Some(change) }),
            Wire::Error { result: Refusal { message } } => {
                Err(PebbleError::Api { status, message })
            }
        }
    }

    pub(super) fn result<T: DeserializeOwned>(self) -> Result<T, PebbleError> {
        serde_json::from_value(self.result)
            .map_err(|error| PebbleError::Protocol(format!("the result of an answer: {error}")))
    }

    /// The id of the change that the request started.
    pub(super) fn change(&self) -> Result<String, PebbleError> {
        self.change.clone().ok_or_else(|| PebbleError::Protocol("an answer names no change".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(status: u16, text: &str) -> Result<Envelope, PebbleError> {
        Envelope::parse(status, text.as_bytes())
    }

    #[test]
    fn a_sync_answer_has_a_result() {
        let answer = r#"{"type":"sync","status-code":200,"status":"OK","result":["a"]}"#;
        let envelope = parse(200, answer).expect("it is an answer");
        assert!(matches!(envelope.change(), Err(PebbleError::Protocol(_))));
        assert_eq!(envelope.result::<Vec<String>>().expect("names"), ["a"]);
        let wrong = parse(200, answer).expect("it is an answer").result::<u32>();
        assert!(matches!(wrong, Err(PebbleError::Protocol(_))));
    }

    #[test]
    fn an_unhealthy_answer_is_not_an_error() {
        let unhealthy = r#"{"type":"sync","status-code":502,"status":"Bad Gateway","result":{"healthy":false}}"#;
        let health: Value =
            parse(502, unhealthy).and_then(Envelope::result).expect("it is an answer");
        assert_eq!(health["healthy"], false);
    }

    #[test]
    fn an_async_answer_has_a_change() {
        let answer =
            r#"{"type":"async","status-code":202,"status":"Accepted","change":"12","result":null}"#;
        assert_eq!(
            parse(202, answer).and_then(|answer| answer.change()).expect("it has one"),
            "12"
        );
    }

    #[test]
    fn an_error_answer_has_a_message() {
        let bare = r#"{"type":"error","status-code":400,"status":"Bad Request","result":{"message":"no"}}"#;
        let kind = r#"{"type":"error","status-code":401,"status":"Unauthorized",
            "result":{"message":"access denied","kind":"login-required","value":{}},"maintenance":{}}"#;
        for (status, text, expected) in [(400, bare, "no"), (401, kind, "access denied")] {
            let Err(PebbleError::Api { status: found, message }) = parse(status, text) else {
                panic!("{text}")
            };
            assert_eq!((found, message.as_str()), (status, expected));
        }
    }

    #[test]
    fn an_answer_is_not_parsed_beyond_a_limit() {
        let numbers = |count| format!(r#"{{"type":"sync","result":[{}0]}}"#, "0,".repeat(count));
        assert!(parse(200, &numbers(JSON_SIZE_MAX / 2 - 20)).is_ok());
        for text in [numbers(JSON_SIZE_MAX / 2), format!("{}1", "[".repeat(1000))] {
            assert!(matches!(parse(200, &text), Err(PebbleError::Protocol(_))), "{text:.99}");
        }
    }

    #[test]
    fn an_invalid_envelope_is_a_protocol_error() {
        for text in
            ["", "400 Bad Request: missing required Host header", "{}", r#"{"type":"other"}"#]
        {
            assert!(matches!(parse(400, text), Err(PebbleError::Protocol(_))), "{text}");
        }
    }
}

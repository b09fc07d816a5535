//! The client of one Pebble daemon.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    envelope::Envelope,
    error::PebbleError,
    http::{self, ApiRequest, Response},
};

/// How long Pebble may take to answer a request that waits for nothing. It takes milliseconds.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long all requests to one daemon may take together, but for the wait until a process has
/// ended, which has a limit of its own. A dispatch makes up to a hundred requests, so their own
/// limits would let a slow daemon hold it up for minutes.
const BUDGET: Duration = Duration::from_secs(30);

/// The client of the Pebble daemon in one container, for one dispatch.
#[derive(Clone, Debug)]
pub struct Pebble {
    pub(super) socket: PathBuf,
    budget: Duration,
    /// The milliseconds of the budget that are spent.
    spent: Arc<AtomicU64>,
}

impl Pebble {
    /// A client of the daemon that listens on this socket, now or later.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, budget: BUDGET, spent: Arc::default() }
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
        self.within(ANSWER_LIMIT, |limit| http::call(&self.socket, request, limit))
    }

    /// Does a part of the work with this limit, or with what is left of the budget.
    pub(super) fn within<T>(
        &self,
        limit: Duration,
        work: impl FnOnce(Duration) -> Result<T, PebbleError>,
    ) -> Result<T, PebbleError> {
        let slow = || PebbleError::Slow { budget: self.budget };
        let spent = Duration::from_millis(self.spent.load(Ordering::Relaxed));
        let left = self.budget.saturating_sub(spent);
        if left.is_zero() {
            return Err(slow());
        }
        let start = Instant::now();
        let done = work(limit.min(left));
        let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.spent.fetch_add(took, Ordering::Relaxed);
        match done {
            Err(PebbleError::TimedOut { .. }) if left <= limit => Err(slow()),
            done => done,
        }
    }
}

/// A duration as Go writes it, at least 1 ms: Pebble takes 0 for no limit.
pub(super) fn duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis().max(1))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;

    #[test]
    fn all_requests_together_have_one_limit() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("pebble.socket");
        let listener = UnixListener::bind(&socket).expect("the path is new");
        // Each answer comes within the limit of its own request.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let _ = stream.read(&mut [0; 4096]);
                thread::sleep(Duration::from_millis(60));
                let body = r#"{"type":"sync","status-code":200,"result":[]}"#;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            }
        });
        let pebble = Pebble { budget: Duration::from_millis(200), ..Pebble::new(socket) };
        let start = Instant::now();
        let answers: Vec<_> = (0..10).map(|_| pebble.services().err()).collect();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(answers[0].is_none(), "{answers:?}");
        let last = answers[9].as_ref().expect("the budget is spent").to_string();
        assert!(
            last.starts_with("cannot use Pebble: its answers took 200ms in this hook"),
            "{last}"
        );
        // A client with a new budget, as in the next hook.
        assert!(Pebble::new(pebble.socket).services().is_ok());
    }
}

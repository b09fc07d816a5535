//! Services, and the changes by which Pebble starts and stops them.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::{
    client::{ANSWER_LIMIT, Pebble, duration},
    envelope::Envelope,
    error::PebbleError,
    http::{self, ApiRequest},
};

/// How long one request may wait for a change. A daemon that stops answering is noticed within it.
const WAIT_SLICE: Duration = Duration::from_secs(4);

/// The number of lines of a failed change's log in its error.
const LAST_LINES: usize = 10;

/// One service of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Service {
    /// Its name in the plan.
    pub name: String,
    /// Its state.
    pub current: Current,
    /// The time of the last change of state, in RFC 3339. `None` before its first start.
    #[serde(rename = "current-since")]
    pub since: Option<String>,
}

/// The state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Current {
    /// It runs, or is in its first second.
    Active,
    /// It was not started, or it was stopped. Its process may not have ended yet.
    Inactive,
    /// It ended by itself, and Pebble will start it again.
    Backoff,
    /// It ended, and Pebble will not start it again.
    Error,
}

/// An operation that Pebble carries out in the background.
#[derive(Deserialize)]
pub(super) struct Change {
    id: String,
    summary: String,
    status: String,
    ready: bool,
    err: Option<String>,
    #[serde(default)]
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    #[serde(default)]
    log: Vec<String>,
    #[serde(default)]
    data: TaskData,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct TaskData {
    exit_code: Option<i32>,
}

impl Pebble {
    /// All services of the plan, by name.
    pub fn services(&self) -> Result<Vec<Service>, PebbleError> {
        self.get("/v1/services")
    }

    /// Starts these services, and does not wait: the charm sees sooner that PgBouncer answers.
    pub fn begin_to_start(&self, services: &[&str]) -> Result<(), PebbleError> {
        self.post("/v1/services", &json!({"action": "start", "services": services})).map(drop)
    }

    /// Stops these services, and waits until their processes are gone.
    pub fn stop(&self, services: &[&str], limit: Duration) -> Result<(), PebbleError> {
        self.order("stop", services, limit)
    }

    /// Stops all of these services, then starts all of them: no rolling restart.
    pub fn restart(&self, services: &[&str], limit: Duration) -> Result<(), PebbleError> {
        self.order("restart", services, limit)
    }

    /// Signals the main process of each of these services. For a service that does not run the
    /// error is [`PebbleError::Api`] with status 500, as for other reasons; [`Pebble::services`]
    /// tells them apart.
    pub fn signal(&self, signal: &str, services: &[&str]) -> Result<(), PebbleError> {
        self.post("/v1/signals", &json!({"signal": signal, "services": services})).map(drop)
    }

    fn order(&self, action: &str, services: &[&str], limit: Duration) -> Result<(), PebbleError> {
        let begun = self.post("/v1/services", &json!({"action": action, "services": services}))?;
        self.wait(&begun.change()?, limit)?.done().map(drop)
    }

    /// Waits until a change is ready.
    pub(super) fn wait(&self, id: &str, limit: Duration) -> Result<Change, PebbleError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = left.min(WAIT_SLICE);
            let target = format!("/v1/changes/{id}/wait?timeout={}", duration(slice));
            let answer = http::call(
                &self.socket,
                ApiRequest::get(&target, "application/json"),
                slice + ANSWER_LIMIT,
            )?;
            match Envelope::of(&answer).and_then(Envelope::result) {
                Err(PebbleError::Api { status: 504, .. }) if left > slice => {}
                Err(PebbleError::Api { status: 504, .. }) => {
                    return Err(PebbleError::TimedOut { what: format!("change {id}"), limit });
                }
                ready => return ready,
            }
        }
    }
}

impl Change {
    fn done(self) -> Result<Self, PebbleError> {
        if self.ready && self.status == "Done" {
            return Ok(self);
        }
        let lines = self.tasks.iter().flat_map(|task| &task.log).flat_map(|entry| entry.lines());
        let lines: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
        let log = lines[lines.len().saturating_sub(LAST_LINES)..].to_vec();
        let reason = self.err.unwrap_or(self.status).lines().collect::<Vec<_>>().join(" ");
        Err(PebbleError::Change { id: self.id, summary: self.summary, reason, log })
    }

    /// The exit code of the one command that the change ran.
    pub(super) fn exit_code(self) -> Result<i32, PebbleError> {
        let code = self.done()?.tasks.first().and_then(|task| task.data.exit_code);
        code.ok_or_else(|| PebbleError::Protocol("a command that ended has no exit code".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_change_has_its_error_and_ends_with_its_log() {
        let change: Change = serde_json::from_str(
            r#"{"id":"8","kind":"start","summary":"Start service \"q\"","status":"Error","ready":true,
                "err":"cannot perform the following tasks:\n- Start service \"q\" (exited quickly)",
                "tasks":[{"id":"9","log":["T INFO Most recent service output:\n    oh\n    no","T ERROR exited"]}]}"#,
        )
        .expect("it is a change");
        let error = change.done().err().expect("it failed").to_string();
        let expected = "cannot carry out change 8 of Pebble (Start service \"q\"): cannot perform the \
                        following tasks: - Start service \"q\" (exited quickly); its log ends with: \
                        T INFO Most recent service output: | oh | no | T ERROR exited; \
                        see `pebble tasks 8` in the workload container";
        assert_eq!(error, expected);
    }

    #[test]
    fn only_a_ready_change_with_status_done_succeeds() {
        for (status, ready, done) in [
            ("Done", true, true),
            ("Doing", false, false),
            ("Hold", true, false),
            ("Undone", true, false),
        ] {
            let change = Change {
                id: "1".to_owned(),
                summary: String::new(),
                status: status.to_owned(),
                ready,
                err: None,
                tasks: Vec::new(),
            };
            assert_eq!(change.done().is_ok(), done, "{status}");
        }
    }
}

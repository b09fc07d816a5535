//! Services, and the changes that orders about them become.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::{
    client::{PATIENCE, Pebble, duration},
    envelope::Envelope,
    error::PebbleError,
    http::{self, Ask},
};

/// How long one question for the end of a change may take, so that a daemon that stopped answering is noticed.
const SLICE: Duration = Duration::from_secs(4);

/// How many lines of a failed change's log are worth showing.
const LAST_LINES: usize = 10;

/// One service of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Service {
    /// As the plan names it.
    pub name: String,
    /// What it does now.
    pub current: Current,
    /// Since when, in RFC 3339; `None` before its first start.
    #[serde(rename = "current-since")]
    pub since: Option<String>,
}

/// What a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Current {
    /// It runs, or is in its first second.
    Active,
    /// It was not started, or was stopped; its process may still be about to end.
    Inactive,
    /// It ended by itself, and waits to be started again.
    Backoff,
    /// It ended, and will not be started again.
    Error,
}

/// An order that Pebble carries out by and by.
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

    /// Has these services started, and does not wait for it: who can ask the service itself knows sooner.
    pub fn begin_to_start(&self, services: &[&str]) -> Result<(), PebbleError> {
        self.post("/v1/services", &json!({"action": "start", "services": services})).map(drop)
    }

    /// Stops these services, and waits until their processes are gone.
    pub fn stop(&self, services: &[&str], limit: Duration) -> Result<(), PebbleError> {
        self.act("stop", services, limit)
    }

    /// Stops all of these services, then starts all of them: no rolling restart.
    pub fn restart(&self, services: &[&str], limit: Duration) -> Result<(), PebbleError> {
        self.act("restart", services, limit)
    }

    /// Signals the main process of each of these services. That one does not run is [`PebbleError::Api`] with
    /// status 500, and so is much else: [`Pebble::services`] tells.
    pub fn signal(&self, signal: &str, services: &[&str]) -> Result<(), PebbleError> {
        self.post("/v1/signals", &json!({"signal": signal, "services": services})).map(drop)
    }

    fn act(&self, action: &str, services: &[&str], limit: Duration) -> Result<(), PebbleError> {
        let begun = self.post("/v1/services", &json!({"action": action, "services": services}))?;
        self.wait(&begun.change()?, limit)?.done().map(drop)
    }

    /// Waits until a change is ready.
    pub(super) fn wait(&self, id: &str, limit: Duration) -> Result<Change, PebbleError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = left.min(SLICE);
            let target = format!("/v1/changes/{id}/wait?timeout={}", duration(slice));
            let answer = http::call(&self.socket, Ask::get(&target, "application/json"), slice + PATIENCE)?;
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

    /// Of the one command it ran.
    pub(super) fn exit_code(self) -> Result<i32, PebbleError> {
        let code = self.done()?.tasks.first().and_then(|task| task.data.exit_code);
        code.ok_or_else(|| PebbleError::Protocol("a command that ended has no exit code".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_change_says_why_and_ends_with_its_log() {
        let change: Change = serde_json::from_str(
            r#"{"id":"8","kind":"start","summary":"Start service \"q\"","status":"Error","ready":true,
                "err":"cannot perform the following tasks:\n- Start service \"q\" (exited quickly)",
                "tasks":[{"id":"9","log":["T INFO Most recent service output:\n    oh\n    no","T ERROR exited"]}]}"#,
        )
        .expect("it is a change");
        let error = change.done().err().expect("it failed").to_string();
        let expected = "Pebble failed to carry out its change 8 (Start service \"q\"): cannot perform the \
                        following tasks: - Start service \"q\" (exited quickly); its log ends with: \
                        T INFO Most recent service output: | oh | no | T ERROR exited";
        assert_eq!(error, expected);
    }

    #[test]
    fn only_a_change_that_is_ready_and_done_is_done() {
        for (status, ready, done) in
            [("Done", true, true), ("Doing", false, false), ("Hold", true, false), ("Undone", true, false)]
        {
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

//! Words about the PostgreSQL servers that actors operate.

use std::sync::MutexGuard;
use std::time::Duration;

use super::Words;
use crate::Sim;
use crate::error::{Error, Result};
use crate::model::{Kind, Model};
use crate::server::Server;

/// How long an observer may take beyond its delay.
const PATIENCE: Duration = Duration::from_secs(60);

impl Sim {
    /// `postgresql stop|start|noticed [APP]`
    pub(crate) fn postgresql(&mut self, mut words: Words) -> Result<String> {
        let what = words.next("stop, start or noticed")?;
        let app = words.maybe().unwrap_or_else(|| "postgresql-k8s".to_owned());
        words.end()?;
        let server = self.model.server(&app)?;
        let mut server = server.ok_or_else(|| Error::refused(format!("{app} has no server")))?;
        match what.as_str() {
            "stop" => server.stop(),
            "start" => server.start()?,
            "noticed" => {
                if server.observer().is_some_and(|observer| !observer.wait(PATIENCE)) {
                    return Err(Error::refused("the observer has not noticed all roles"));
                }
            }
            other => return Err(Error::refused(format!("stop, start or noticed expected, got {other:?}"))),
        }
        Ok(String::new())
    }
}

impl Model {
    /// Waits, as those do who are about to log in, until observers have noticed in a moment what they notice.
    pub(super) fn await_observers(&self) {
        for app in self.apps.values() {
            if let Kind::Actor(actor, _) = &app.kind
                && let Some(server) = actor.server()
                && let Some(observer) = server.observer()
            {
                observer.wait_a_moment();
            }
        }
    }

    /// The server that an application operates.
    pub(super) fn server(&self, app: &str) -> Result<Option<MutexGuard<'_, Server>>> {
        Ok(match &self.app(app)?.kind {
            Kind::Actor(actor, _) => actor.server(),
            Kind::Charm(_) => None,
        })
    }
}

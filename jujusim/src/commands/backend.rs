//! Commands about the PostgreSQL servers that actors operate.

use std::sync::MutexGuard;
use std::time::Duration;

use super::Arguments;
use crate::Sim;
use crate::error::{Error, Result};
use crate::model::{Kind, Model, UnitName};
use crate::server::{Cluster, Tls};

/// How long to wait for an observer.
const OBSERVER_TIMEOUT: Duration = Duration::from_secs(60);

impl Sim {
    /// `postgresql stop|start|freeze|thaw|failover|rotate|noticed|tls KIND [APP]`
    pub(crate) fn postgresql(&mut self, mut args: Arguments) -> Result<String> {
        let what = args.next("an operation")?;
        let tls = if what == "tls" { Some(args.next("what certificates")?) } else { None };
        let app = args.maybe().unwrap_or_else(|| "postgresql-k8s".to_owned());
        args.end()?;
        match what.as_str() {
            "tls" => {
                let kind = tls.filter(|kind| kind != "off");
                let tls =
                    kind.map(|kind| Tls::make(&kind, &self.model.dir, &app, &self.model.name));
                let tls = tls.transpose()?;
                self.model.cluster(&app)?.set_tls(tls)?;
                self.model.wake_leader(&app);
            }
            "stop" => self.model.cluster(&app)?.stop(),
            "start" => {
                self.model.cluster(&app)?.start()?;
                // A single server has the same address as before.
                if self.model.cluster(&app)?.members().count() > 1 {
                    self.model.wake_leader(&app);
                }
            }
            "freeze" => self.model.cluster(&app)?.freeze(true),
            "thaw" => self.model.cluster(&app)?.freeze(false),
            "failover" => {
                self.model.cluster(&app)?.failover()?;
                self.model.wake_leader(&app);
            }
            "rotate" => {
                match &self.model.app(&app)?.kind {
                    Kind::Actor(actor, _) if actor.cluster().is_some() => actor.rotate(),
                    _ => return Err(Error::refused(format!("{app} has no server"))),
                }
                self.model.wake_leader(&app);
            }
            "noticed" => {
                if self
                    .model
                    .cluster(&app)?
                    .observer()
                    .is_some_and(|observer| !observer.wait(OBSERVER_TIMEOUT))
                {
                    return Err(Error::refused(
                        "the observer did not admit all roles within 60 s: lower hba-delay",
                    ));
                }
            }
            other => {
                return Err(Error::refused(format!(
                    "unknown operation {other:?}: see help postgresql"
                )));
            }
        }
        Ok(String::new())
    }
}

impl Model {
    /// The servers that an application operates.
    fn cluster(&self, app: &str) -> Result<MutexGuard<'_, Cluster>> {
        self.app(app)?.kind.cluster().ok_or_else(|| Error::refused(format!("{app} has no server")))
    }

    /// Runs a statement as the superuser, on an application's primary or on a unit's own server;
    /// `None` if there is no server.
    pub(super) fn ask_server(
        &self,
        name: &str,
        database: Option<&str>,
        statement: &str,
    ) -> Result<Option<Vec<Vec<String>>>> {
        let unit = name.parse::<UnitName>().ok();
        let app = unit.as_ref().map_or(name, |unit| &unit.app);
        let Some(cluster) = self.app(app)?.kind.cluster() else { return Ok(None) };
        let server = match unit {
            Some(unit) => cluster.member(unit.number),
            None => Some(cluster.primary()),
        };
        let server = server.ok_or_else(|| Error::refused(format!("{name} has no server")))?;
        server.sql(database.unwrap_or("postgres"), statement).map(Some).map_err(Error::Refused)
    }

    /// Waits, before a login, until observers with a short delay have admitted new roles.
    pub(super) fn await_observers(&self) {
        for cluster in self.apps.values().filter_map(|app| app.kind.cluster()) {
            if let Some(observer) = cluster.observer() {
                observer.wait_if_short();
            }
        }
    }

    /// Waits, before a query that may go to a standby, until the standbys have what the primary
    /// has.
    pub(super) fn await_standbys(&self) -> Result<()> {
        self.apps
            .values()
            .filter_map(|app| app.kind.cluster())
            .try_for_each(|cluster| cluster.catch_up_all())
    }
}

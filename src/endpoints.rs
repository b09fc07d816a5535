//! The table of endpoints: the rows that a dispatch runs, in this order.
//!
//! A row gathers its input from a [`Look`], which only reads, and decides in a pure function that
//! returns a [`Plan`]. To add an endpoint, add its file and its row.

pub mod backend_database;
pub mod certificates;
pub mod database;
pub mod exposure;
pub mod grafana_dashboard;
pub mod logging;
pub mod metrics_endpoint;
pub mod not_built;
pub mod peers;
pub mod receive_ca_cert;
pub mod secrets;
pub mod tracing;

use anyhow::Result;

use crate::event::{Endpoint, Event, RelationHook};
use crate::look::Look;
use crate::plan::Plan;

/// One row of the table.
pub struct Row {
    /// The name under which the notes remember the row while it has work left. Rows with the same
    /// name are due together.
    pub name: &'static str,
    /// The condition under which the row is due without a hook of its own and without work left;
    /// `None` for a row that is due in every dispatch.
    due: Option<Condition>,
    work: Work,
}

/// Decides whether a row is due without a hook of its own.
type Condition = fn(&mut Look<'_>) -> Result<bool>;
/// Gathers the input of a row and decides.
type Planner = fn(&mut Look<'_>) -> Result<Plan>;

/// The work of a row that is due.
enum Work {
    /// Gathers the input and decides.
    Plan(Planner),
    /// Reports a relation that is not supported yet.
    NotBuilt(Endpoint),
}

/// The rows. `database` has two: `admit` enters databases, the row `pgb-peers` loads them, and
/// `answer` then gives clients their credentials.
pub const TABLE: [Row; 15] = [
    Row::of(Endpoint::BackendDatabase, backend_database::is_due, backend_database::plan),
    Row::of(Endpoint::Database, database::is_due, database::admit),
    Row::new("pgb-peers-created", is_peers_created, peers::created),
    Row::not_built(Endpoint::Db),
    Row::not_built(Endpoint::DbAdmin),
    Row::of(Endpoint::ReceiveCaCert, receive_ca_cert::is_due, receive_ca_cert::plan),
    Row::of(Endpoint::Certificates, certificates::is_due, certificates::plan),
    Row::of(Endpoint::Tracing, tracing::is_due, tracing::plan),
    Row::always(Endpoint::Peers.name(), peers::changed),
    Row::of(Endpoint::Database, database::is_due, database::answer),
    Row::of(Endpoint::MetricsEndpoint, metrics_endpoint::is_due, metrics_endpoint::plan),
    Row::of(Endpoint::GrafanaDashboard, grafana_dashboard::is_due, grafana_dashboard::plan),
    Row::of(Endpoint::Logging, logging::is_due, logging::plan),
    Row::always("exposure", exposure::plan),
    Row::new("secret-remove", secrets::is_due, secrets::plan),
];

impl Row {
    const fn new(name: &'static str, due: Condition, plan: Planner) -> Self {
        Self { name, due: Some(due), work: Work::Plan(plan) }
    }

    const fn of(endpoint: Endpoint, due: Condition, plan: Planner) -> Self {
        Self::new(endpoint.name(), due, plan)
    }

    const fn always(name: &'static str, plan: Planner) -> Self {
        Self { name, due: None, work: Work::Plan(plan) }
    }

    const fn not_built(endpoint: Endpoint) -> Self {
        Self { name: endpoint.name(), due: Some(is_first), work: Work::NotBuilt(endpoint) }
    }

    /// Whether the row is due in this dispatch: in hooks of its own relations, while an earlier
    /// hook left it work, or by its own condition, after the rows before it.
    pub fn is_due(&self, look: &mut Look<'_>) -> Result<bool> {
        let own =
            Endpoint::named(self.name).is_some_and(|endpoint| look.event_of(endpoint).is_some());
        let is_left = look.notes().deferred.iter().any(|name| name == self.name);
        Ok(match self.due {
            Some(condition) => own || is_left || condition(look)?,
            None => true,
        })
    }

    /// Gathers the input of the row and decides.
    pub fn plan(&self, look: &mut Look<'_>) -> Result<Plan> {
        match self.work {
            Work::Plan(plan) => plan(look),
            Work::NotBuilt(endpoint) => not_built::plan(look, endpoint),
        }
    }
}

/// How the charm handles an endpoint, for `docs/relations.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The charm implements the interface.
    Served,
    /// The charm does not implement the interface yet; the status reports its relations.
    NotBuilt,
    /// The charm keeps the data of the Python charm unchanged.
    Kept,
}

/// Looks up how the charm handles an endpoint.
pub fn service(endpoint: Endpoint) -> Service {
    match TABLE.iter().find(|row| row.name == endpoint.name()).map(|row| &row.work) {
        Some(Work::Plan(_)) => Service::Served,
        Some(Work::NotBuilt(_)) => Service::NotBuilt,
        None => Service::Kept,
    }
}

/// Whether the hook may be the first of this charm: the Python charm may have left relations.
#[expect(clippy::unnecessary_wraps, reason = "a condition of the table may read and fail")]
fn is_first(look: &mut Look<'_>) -> Result<bool> {
    Ok(*look.event() == Event::UpgradeCharm)
}

#[expect(clippy::unnecessary_wraps, reason = "a condition of the table may read and fail")]
fn is_peers_created(look: &mut Look<'_>) -> Result<bool> {
    Ok(look.event().hook_of(Endpoint::Peers, RelationHook::Created).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_admitted_before_the_load_and_answered_after_it() {
        let names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        let places =
            |name| names.iter().enumerate().filter(move |(_, n)| **n == name).map(|(i, _)| i);
        let (databases, load): (Vec<_>, Vec<_>) =
            (places("database").collect(), places("pgb-peers").collect());
        let (&[admit, answer], &[load]) = (&databases[..], &load[..]) else {
            panic!("{databases:?} {load:?}")
        };
        assert!(admit < load && load < answer);
    }

    #[test]
    fn every_endpoint_but_upgrade_has_a_row() {
        for endpoint in Endpoint::ALL {
            let is_kept = service(*endpoint) == Service::Kept;
            assert_eq!(is_kept, *endpoint == Endpoint::Upgrade, "{endpoint}");
        }
    }

    #[test]
    fn pgb_peers_created_runs_between_backend_database_and_pgb_peers() {
        let place = |name| TABLE.iter().position(|row| row.name == name);
        assert!(place("backend-database") < place("pgb-peers-created"));
        assert!(place("pgb-peers-created") < place("pgb-peers"));
    }
}

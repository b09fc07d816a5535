//! The table of endpoints: what a dispatch does, row by row, in this order.
//!
//! A row gathers its input from a [`Look`], which only reads, and decides in a pure function. What
//! it returns is a [`Plan`]. To add an endpoint, add its file and its row.

pub mod backend_database;
pub mod database;
pub mod exposure;
pub mod not_built;
pub mod peers;
pub mod secrets;

use anyhow::Result;

use crate::event::{Endpoint, RelationHook};
use crate::look::Look;
use crate::plan::Plan;

/// One row.
pub struct Row {
    /// The name by which the row is remembered while it has work left. Rows of one name are due
    /// together.
    pub name: &'static str,
    /// Beside its own hooks and work that is left; nothing where the row is due in every dispatch.
    due: Option<Condition>,
    work: Work,
}

/// Whether a row is due although no hook of its own came.
type Condition = fn(&mut Look<'_>) -> Result<bool>;
/// Gathers and decides.
type Planner = fn(&mut Look<'_>) -> Result<Plan>;

/// What a row does when it is due.
enum Work {
    /// Gathers and decides.
    Plan(Planner),
    /// Says that a relation is not supported.
    NotBuilt(Endpoint),
}

/// The rows. Between `database`'s two the processes load what the first one entered.
pub const TABLE: [Row; 14] = [
    Row::of(Endpoint::BackendDatabase, backend_database::is_due, backend_database::plan),
    Row::of(Endpoint::Database, database::is_due, database::admit),
    Row::new("pgb-peers-created", is_peers_created, peers::created),
    Row::not_built(Endpoint::Db),
    Row::not_built(Endpoint::DbAdmin),
    Row::not_built(Endpoint::Certificates),
    Row::not_built(Endpoint::MetricsEndpoint),
    Row::not_built(Endpoint::GrafanaDashboard),
    Row::not_built(Endpoint::Logging),
    Row::not_built(Endpoint::Tracing),
    Row::always(Endpoint::Peers.name(), peers::changed),
    Row::of(Endpoint::Database, database::is_due, database::answer),
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
        Self { name: endpoint.name(), due: Some(never), work: Work::NotBuilt(endpoint) }
    }

    /// Gathers and decides.
    pub fn plan(&self, look: &mut Look<'_>) -> Result<Plan> {
        match self.work {
            Work::Plan(plan) => plan(look),
            Work::NotBuilt(endpoint) => not_built::plan(look, endpoint),
        }
    }
}

/// The rows that are due in this dispatch. A row is due in the hooks of its own relations, while an
/// earlier hook left it work, and where its own condition says so.
pub fn due(look: &mut Look<'_>) -> Result<Vec<&'static Row>> {
    let mut due = Vec::new();
    for row in &TABLE {
        let own = Endpoint::named(row.name).is_some_and(|endpoint| look.event_of(endpoint).is_some());
        let is_left = look.notes().deferred.iter().any(|name| name == row.name);
        let is_due = match row.due {
            Some(condition) => own || is_left || condition(look)?,
            None => true,
        };
        due.extend(is_due.then_some(row));
    }
    Ok(due)
}

/// How an endpoint is served, for the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// As its interface asks.
    Served,
    /// Not yet; the status says so.
    NotBuilt,
    /// What the Python charm left there stays as it is.
    Kept,
}

/// How an endpoint is served.
pub fn service(endpoint: Endpoint) -> Service {
    match TABLE.iter().find(|row| row.name == endpoint.name()).map(|row| &row.work) {
        Some(Work::Plan(_)) => Service::Served,
        Some(Work::NotBuilt(_)) => Service::NotBuilt,
        None => Service::Kept,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a condition of the table may read and fail")]
fn never(_: &mut Look<'_>) -> Result<bool> {
    Ok(false)
}

#[expect(clippy::unnecessary_wraps, reason = "a condition of the table may read and fail")]
fn is_peers_created(look: &mut Look<'_>) -> Result<bool> {
    Ok(look.event().hook_of(Endpoint::Peers, RelationHook::Created).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_entered_before_the_load_and_answered_after_it() {
        let names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        let places = |name| names.iter().enumerate().filter(move |(_, n)| **n == name).map(|(i, _)| i);
        let (databases, load): (Vec<_>, Vec<_>) =
            (places("database").collect(), places("pgb-peers").collect());
        assert!(
            matches!((&databases[..], &load[..]), ([enter, answer], [load]) if enter < load && load < answer)
        );
    }

    #[test]
    fn every_endpoint_but_upgrade_has_a_row() {
        for endpoint in Endpoint::ALL {
            let is_kept = service(*endpoint) == Service::Kept;
            assert_eq!(is_kept, *endpoint == Endpoint::Upgrade, "{endpoint}");
        }
    }
}

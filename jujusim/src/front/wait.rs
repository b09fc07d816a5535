//! `juju wait-for`.

use serde_json::{Map, Value, json};

use super::cli::{WaitFor, Wanted};
use super::query::Query;
use super::{Answer, Outcome};
use crate::error::Result;
use crate::model::Model;
use crate::report::Status;

/// Done when the query is true. Waits until then, also while the entity does not exist.
pub(super) fn wait_for(model: &Model, what: &WaitFor) -> Result<Outcome> {
    let (kind, wanted, default) = match what {
        WaitFor::Application(wanted) => {
            ("application", wanted, r#"life=="alive" && status=="active""#)
        }
        WaitFor::Unit(wanted) => ("unit", wanted, r#"life=="alive" && workload-status=="active""#),
        WaitFor::Model(wanted) => ("model", wanted, r#"life=="alive" && status=="available""#),
    };
    let Wanted { name, query, timeout } = wanted;
    let query = Query::parse(query.as_deref().unwrap_or(default))?;
    let everything = names(model);
    let found = match what {
        WaitFor::Application(_) => everything["applications"].get(name),
        WaitFor::Unit(_) => everything["units"].get(name),
        WaitFor::Model(_) => (*name == model.name).then_some(&everything),
    };
    let holds = match found {
        Some(names) => query.holds(names)?,
        None => false,
    };
    if holds {
        return Ok(Answer::message(format!("{kind} {name:?} found")).into());
    }
    let overdue = format!("timed out waiting for {name:?} to reach goal state");
    Ok(Outcome::Wait { limit: *timeout, overdue })
}

/// The values that a query can name: of the model, and below it of each application and unit.
fn names(model: &Model) -> Value {
    let (mut applications, mut units) = (Map::new(), Map::new());
    for (name, app) in &Status::of(model).applications.0 {
        let mut own = Map::new();
        for (unit, state) in &app.units.0 {
            let values = json!({
                "name": unit,
                "application": name,
                "life": state.life,
                "workload-status": state.workload_status.current,
                "workload-message": state.workload_status.message,
                "agent-status": state.juju_status.current,
            });
            own.insert(unit.clone(), values.clone());
            units.insert(unit.clone(), values);
        }
        let values = json!({
            "name": name,
            "life": app.life,
            "exposed": false,
            "status": app.status.current,
            "units": own,
        });
        applications.insert(name.clone(), values);
    }
    json!({
        "name": model.name,
        "life": "alive",
        "status": "available",
        "applications": applications,
        "units": units,
    })
}

//! The relation `grafana-dashboard` (interface `grafana_dashboard`): the dashboard for the metrics
//! of `metrics-endpoint`.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::event::{Endpoint, RelationId};
use crate::facts::topology::Topology;
use crate::look::Look;
use crate::notes::EndpointNote;
use crate::plan::{Bag, Note, Plan};

/// The dashboard, compressed as the interface demands. `UPDATE_DOCS=1 cargo test --test documents`
/// makes the file of `dashboard.json`, so that the charm needs no compressor.
pub const PACKED: &[u8] = include_bytes!("grafana_dashboard/dashboard.json.xz");

/// The key of the app bag.
const DASHBOARDS: &str = "dashboards";

/// The identity of the dashboard, as with the Python charm: another one would be a second
/// dashboard.
const TEMPLATE: &str = "file:pgbouncer-metrics";
/// The first 8 bytes of SHAKE256 of `pgbouncer-k8s-file:pgbouncer-metrics` (`cosl`).
const ALTERNATIVE_UID: &str = "c1939a670b4fbf51";

/// The input of [`decide`].
struct Seen {
    relations: Vec<RelationId>,
    topology: Topology,
    leads: bool,
}

/// Whether the row is due without a hook of the relation.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    Ok(look.is_first_for(Endpoint::GrafanaDashboard))
}

/// Gathers the facts and decides.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    Ok(decide(&Seen {
        relations: look.relations(Endpoint::GrafanaDashboard)?,
        topology: Topology::of(look.unit()),
        leads: look.leads()?,
    }))
}

fn decide(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    if seen.leads {
        for relation in &seen.relations {
            plan.set(Bag::App(*relation), DASHBOARDS, dashboards(&seen.topology).to_string());
        }
    }
    let note = EndpointNote { relations: seen.relations.clone(), ..EndpointNote::default() };
    plan.note(Note::Endpoint(Endpoint::GrafanaDashboard, note));
    plan
}

/// The value that Grafana's charm reads. It adds menus for model, application and unit, and limits
/// each expression to what is chosen there. The Python charm also writes a random `uuid`, which
/// only wakes Grafana.
fn dashboards(topology: &Topology) -> Json {
    let Topology { model, model_uuid, application, unit, charm_name } = topology;
    json!({"templates": {TEMPLATE: {
        "charm": charm_name,
        "content": STANDARD.encode(PACKED),
        "juju_topology": {
            "model": model,
            "model_uuid": model_uuid,
            "application": application,
            "unit": unit,
        },
        "inject_dropdowns": true,
        "dashboard_alt_uid": ALTERNATIVE_UID,
    }}})
}

#[cfg(test)]
mod tests {
    use sha3::Shake256;
    use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};

    use super::*;
    use crate::facts::topology::tests::topology;
    use crate::pgbouncer::hex;

    #[test]
    fn only_the_leader_publishes_the_dashboard() {
        let shown = |leads| {
            let seen = Seen { relations: vec![RelationId(8)], topology: topology(), leads };
            decide(&seen).to_string()
        };
        assert!(shown(true).contains("set app 8 dashboards = "), "{}", shown(true));
        assert_eq!(shown(false), "note grafana-dashboard: relations [RelationId(8)]\n");
    }

    #[test]
    fn the_dashboard_has_the_identity_of_the_python_charms() {
        let mut uid = [0; 8];
        let mut hash = Shake256::default();
        hash.update(format!("{}-{TEMPLATE}", topology().charm_name).as_bytes());
        hash.finalize_xof().read(&mut uid);
        assert_eq!(hex(&uid), ALTERNATIVE_UID);
    }
}

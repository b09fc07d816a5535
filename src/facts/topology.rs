//! The place of a unit in Juju, as monitoring applications label what comes from it.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::event::Unit;

/// The name of the charm in `metadata.yaml`.
const CHARM: &str = "pgbouncer-k8s";

/// The Juju topology of a unit, in the form in which Canonical's libraries put it into databags
/// (`cosl.JujuTopology`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// The name of the model.
    pub model: String,
    /// The model's UUID.
    pub model_uuid: String,
    /// The name of the application.
    pub application: String,
    /// The name of the unit.
    pub unit: String,
    /// The name of the charm.
    pub charm_name: &'static str,
}

impl Topology {
    /// The topology of this unit.
    pub fn of(unit: &Unit) -> Self {
        Self {
            model: unit.model.clone(),
            model_uuid: unit.model_uuid.clone(),
            application: unit.app.clone(),
            unit: unit.name.clone(),
            charm_name: CHARM,
        }
    }

    /// The name of the application among those of all models: `<model>_<first 8 of uuid>_<app>`.
    pub fn identifier(&self) -> String {
        let short: String = self.model_uuid.chars().take(8).collect();
        format!("{}_{short}_{}", self.model, self.application)
    }

    /// The labels of an alert of this application. An alert of one unit has the unit's label from
    /// its expression.
    fn labels(&self) -> [(String, Value); 4] {
        [
            ("juju_model", self.model.as_str()),
            ("juju_model_uuid", &self.model_uuid),
            ("juju_application", &self.application),
            ("juju_charm", self.charm_name),
        ]
        .map(|(label, value)| (label.to_owned(), value.into()))
    }
}

/// Rules in the format of Prometheus, which Loki shares, with the labels of this application.
/// `source` is the text of a file of rules. Expressions stay as they are: the application that
/// reads them limits them to this application.
pub fn rules_of(source: &str, topology: &Topology) -> Result<Value, serde_yaml::Error> {
    let mut rules: Value = serde_yaml::from_str(source)?;
    for group in rules["groups"].as_array_mut().into_iter().flatten() {
        let name = group["name"].as_str().unwrap_or_default();
        let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let name = format!("{}_{name}_rules", topology.identifier());
        group["name"] = name.replace(|c| !is_valid(c), "_").into();
        for rule in group["rules"].as_array_mut().into_iter().flatten() {
            let labels = rule["labels"].as_object().cloned().unwrap_or_default();
            rule["labels"] =
                labels.into_iter().chain(topology.labels()).collect::<Map<_, _>>().into();
        }
    }
    Ok(rules)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// The topology of a unit.
    pub(crate) fn topology() -> Topology {
        Topology {
            model: "shop".into(),
            model_uuid: "20ce8299-3634-4bef-8bd8-5ace6c8816b4".into(),
            application: "pgb".into(),
            unit: "pgb/0".into(),
            charm_name: "pgbouncer-k8s",
        }
    }

    #[test]
    fn keys_have_the_order_of_the_libraries() {
        let expected = r#"{"model":"shop","model_uuid":"20ce8299-3634-4bef-8bd8-5ace6c8816b4","application":"pgb","unit":"pgb/0","charm_name":"pgbouncer-k8s"}"#;
        assert_eq!(serde_json::to_string(&topology()).expect("it is JSON"), expected);
    }

    #[test]
    fn rules_get_the_labels_of_the_application_and_a_name_of_their_own() {
        let source = "groups:\n- name: Pools\n  rules:\n  - alert: Full\n    expr: up < 1\n    \
                      for: 5m\n    labels: {severity: critical}\n";
        let rules = rules_of(source, &topology()).expect("it is YAML");
        let expected = json!({"groups": [{
            "name": "shop_20ce8299_pgb_Pools_rules",
            "rules": [{"alert": "Full", "expr": "up < 1", "for": "5m", "labels": {
                "severity": "critical",
                "juju_model": "shop",
                "juju_model_uuid": "20ce8299-3634-4bef-8bd8-5ace6c8816b4",
                "juju_application": "pgb",
                "juju_charm": "pgbouncer-k8s",
            }}],
        }]});
        assert_eq!(rules, expected);
        assert!(rules_of("[", &topology()).is_err());
    }
}

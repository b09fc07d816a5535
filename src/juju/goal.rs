//! The units that the model plans, from `goal-state`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The planned units of one application, by name. Removed units are not listed.
#[derive(Clone, Debug)]
pub struct Goal(BTreeMap<String, Planned>);

/// The status of a unit or relation in `goal-state`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Planned {
    status: String,
}

/// The output of `goal-state`.
#[derive(Deserialize)]
pub(super) struct Answer {
    units: BTreeMap<String, Planned>,
    #[serde(default)]
    relations: BTreeMap<String, BTreeMap<String, Planned>>,
}

impl Answer {
    /// The units of one application, chosen by the application's name. Juju mixes up endpoints that
    /// have the same name on both sides of a relation (`goalStateRelations` in juju/juju's uniter
    /// facade).
    pub(super) fn of(self, app: &str) -> Goal {
        let all = self.relations.into_values().flatten().chain(self.units);
        let theirs = |name: &str| name.strip_prefix(app).is_some_and(|rest| rest.starts_with('/'));
        Goal(all.filter(|(name, _)| theirs(name)).collect())
    }
}

impl Goal {
    /// The units that are not being removed.
    pub fn staying(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(_, planned)| planned.status != "dying")
            .map(|(unit, _)| unit.as_str())
    }

    /// Whether a unit is active and not being removed.
    pub fn is_active(&self, unit: &str) -> bool {
        self.0.get(unit).is_some_and(|planned| planned.status == "active")
    }

    /// Whether no unit is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found_by_application_name_in_units_and_relations() {
        let answer: Answer = serde_json::from_str(
            r#"{"units": {"p/0": {"status": "active"}, "p/1": {"status": "dying"}},
                "relations": {"db": {"pg": {"status": "joined"}, "pg/0": {"status": "waiting"}},
                              "x": {"p/2": {"status": "active"}}}}"#,
        )
        .expect("an answer");
        let goal = answer.of("p");
        assert_eq!(goal.staying().collect::<Vec<_>>(), ["p/0", "p/2"]);
        assert!(goal.is_active("p/0") && !goal.is_active("p/1") && !goal.is_active("pg/0"));
    }
}

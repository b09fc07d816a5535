//! The facts about the units of the application: what they have loaded, and which of them leave.

use crate::event::{RelationEvent, RelationHook};
use crate::facts::Texts;
use crate::peer_bag::{HOSTNAME, PGBOUNCER_VERSION};
use crate::pgbouncer::Version;

/// A unit with the databases that it has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedUnit {
    /// The name of the unit.
    pub unit: String,
    /// The hash of the databases that the unit has loaded.
    pub loaded: Option<String>,
    /// Clients wait for this unit. They do not wait for a unit that leaves or is not active.
    pub counts: bool,
}

/// The units that have not loaded the databases with this hash and for which a client waits. With
/// `waits_on` false the client has waited long enough: it waits only while no unit at all has
/// loaded the databases.
pub fn behind(units: &[LoadedUnit], wanted: &str, waits_on: bool) -> Vec<String> {
    let is_in_step = |unit: &&LoadedUnit| unit.loaded.as_deref() == Some(wanted);
    let (in_step, behind): (Vec<_>, Vec<_>) = units.iter().partition(is_in_step);
    // If no unit has loaded the database, no unit can serve the client.
    if !waits_on && !in_step.is_empty() {
        return Vec::new();
    }
    behind.into_iter().filter(|unit| unit.counts).map(|unit| unit.unit.clone()).collect()
}

/// Whether a `-departed` hook names this unit as the departing unit.
pub fn is_named_departing(event: &RelationEvent, unit: &str) -> bool {
    event.hook == RelationHook::Departed && event.departing_unit.as_deref() == Some(unit)
}

/// Whether the model plans to remove this unit. `staying` are the units that are not being removed;
/// `None` if Juju lists no unit of the application, as after a forced removal.
pub fn is_left_out(unit: &str, staying: Option<&[&str]>) -> bool {
    staying.is_some_and(|staying| !staying.contains(&unit))
}

/// Whether this version of PgBouncer looks up passwords in the database that its client wants, so
/// that every database needs the function.
pub fn looks_everywhere(version: Version) -> bool {
    version < Version::PEERS
}

/// Like [`looks_everywhere`], for another unit by its bag. A unit of the Python charm publishes no
/// version, and counts as old. A unit of this charm without a version serves no client yet.
pub fn sibling_looks_everywhere(bag: &Texts) -> bool {
    let version = bag.get(PGBOUNCER_VERSION).and_then(|text| Version::parse(text));
    version.map_or(!bag.contains_key(HOSTNAME), looks_everywhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Endpoint, RelationId};

    fn unit(name: &str, loaded: Option<&str>, counts: bool) -> LoadedUnit {
        LoadedUnit { unit: name.into(), loaded: loaded.map(str::to_owned), counts }
    }

    #[test]
    fn a_client_waits_for_active_units_and_later_for_none_if_one_has_loaded() {
        let units = [
            unit("p/0", Some("new"), true),
            unit("p/1", Some("old"), true),
            unit("p/2", None, false),
        ];
        assert_eq!(behind(&units, "new", true), ["p/1"]);
        assert_eq!(behind(&units, "new", false), [""; 0]);
        assert_eq!(behind(&units, "newer", false), ["p/0", "p/1"]);
    }

    #[test]
    fn a_unit_leaves_if_a_hook_names_it_or_the_model_removes_it() {
        let event = |hook, departing: Option<&str>| RelationEvent {
            endpoint: Endpoint::Peers,
            hook,
            relation: RelationId(1),
            remote_app: None,
            remote_unit: Some("p/2".into()),
            departing_unit: departing.map(str::to_owned),
        };
        assert!(is_named_departing(&event(RelationHook::Departed, Some("p/0")), "p/0"));
        assert!(!is_named_departing(&event(RelationHook::Departed, Some("p/2")), "p/0"));
        assert!(!is_named_departing(&event(RelationHook::Changed, Some("p/0")), "p/0"));
        assert!(is_left_out("p/0", Some(&["p/1"])) && is_left_out("p/0", Some(&[])));
        assert!(!is_left_out("p/0", Some(&["p/0", "p/1"])) && !is_left_out("p/0", None));
    }

    #[test]
    fn a_unit_of_the_python_charm_looks_in_every_database() {
        let bag = |texts: &[(&str, &str)]| {
            texts
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<Texts>()
        };
        assert!(sibling_looks_everywhere(&bag(&[])));
        assert!(!sibling_looks_everywhere(&bag(&[(HOSTNAME, "p-1")])));
        assert!(sibling_looks_everywhere(&bag(&[
            (HOSTNAME, "p-1"),
            (PGBOUNCER_VERSION, "1.18.0")
        ])));
        assert!(!sibling_looks_everywhere(&bag(&[
            (HOSTNAME, "p-1"),
            (PGBOUNCER_VERSION, "1.24.0")
        ])));
    }
}

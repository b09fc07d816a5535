//! The relation `metrics-endpoint` (interface `prometheus_scrape`): where Prometheus finds the
//! exporter of each process, and the alert rules.
//!
//! A target is a unit's DNS name, which stays when a pod is replaced, and the port of an exporter.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::event::{Endpoint, RelationId};
use crate::facts::Texts;
use crate::facts::topology::{Topology, rules_of};
use crate::look::Look;
use crate::notes::EndpointNote;
use crate::peer_bag::{HOSTNAME, PROCESSES, PYTHON_RUNS};
use crate::plan::{Bag, Effect, Note, Plan, Value};
use crate::workload::EXPORTER_PORT;
use crate::x509::certificate::digest;

/// The alert rules, in the format of Prometheus.
pub const RULES: &str = include_str!("metrics_endpoint/rules.yaml");

/// The keys of the app bag.
const METADATA: &str = "scrape_metadata";
const JOBS: &str = "scrape_jobs";
const ALERTS: &str = "alert_rules";

/// The keys of the unit bag. Prometheus skips a unit without a name and an address.
const NAME: &str = "prometheus_scrape_unit_name";
const ADDRESS: &str = "prometheus_scrape_unit_address";
const FQDN: &str = "prometheus_scrape_unit_fqdn";

/// The most exporters of a unit: the charm keeps this many ports free.
const EXPORTERS_MAX: u16 = 4;

/// The input of [`decide`].
struct Seen {
    relations: Vec<RelationId>,
    facts: Facts,
}

/// The facts that are published.
#[derive(Clone, Debug)]
struct Facts {
    topology: Topology,
    /// This unit's DNS name.
    host: String,
    /// The image of this unit's workload has the exporter; `None` while the container is away.
    has_exporter: Option<bool>,
    /// All units that have reported; `None` on a follower.
    units: Option<Vec<Exporters>>,
}

/// The exporters of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exporters {
    unit: String,
    /// The unit's DNS name.
    host: String,
    /// The number of exporters, one for each process.
    count: u16,
}

/// Whether something that this unit publishes has changed: the number of processes of a unit, or
/// the units. A new leader publishes in any case: the digest is its own, and another leader may
/// have published since.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    if look.is_first_for(Endpoint::MetricsEndpoint) {
        return Ok(true);
    }
    let note = look.notes().of(Endpoint::MetricsEndpoint);
    if note.relations.is_empty() {
        return Ok(false);
    }
    Ok(facts(look)?.digest() != note.published)
}

/// Gathers the facts and decides.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    let relations = look.relations(Endpoint::MetricsEndpoint)?;
    decide(&Seen { relations, facts: facts(look)? })
}

fn facts(look: &mut Look<'_>) -> Result<Facts> {
    let has_exporter = look.probe().ok().map(|probe| probe.has_exporter);
    let (host, topology) = (look.hostname(), Topology::of(look.unit()));
    let mut units = None;
    if look.leads()? {
        let bag = look.bag(Bag::PeerUnit)?;
        let own = Exporters { unit: topology.unit.clone(), host: host.clone(), count: count(bag) };
        let mut all = vec![own];
        for unit in look.siblings()? {
            let count = count(&look.sibling(&unit)?);
            all.push(Exporters { host: host_of(&host, &topology, &unit), unit, count });
        }
        all.retain(|unit| unit.count > 0);
        all.sort_by(|one, other| one.unit.cmp(&other.unit));
        units = Some(all);
    }
    Ok(Facts { topology, host, has_exporter, units })
}

/// The number of exporters of a unit, by its bag. A unit of the Python charm has one; a unit of
/// this charm that has not reported, or has just joined, has none yet.
fn count(bag: &Texts) -> u16 {
    match bag.get(PROCESSES) {
        Some(text) => text.parse().unwrap_or(0).min(EXPORTERS_MAX),
        None => u16::from(bag.contains_key(PYTHON_RUNS) && !bag.contains_key(HOSTNAME)),
    }
}

/// The DNS name of another unit of this application: as ours, with another number.
fn host_of(own: &str, topology: &Topology, unit: &str) -> String {
    let first = |unit: &str| unit.replace('/', "-");
    let rest = own.strip_prefix(&first(&topology.unit)).unwrap_or_default();
    first(unit) + rest
}

/// Publishes the keys in the bags of every relation.
fn decide(seen: &Seen) -> Result<Plan> {
    let (mut plan, facts) = (Plan::default(), &seen.facts);
    for relation in &seen.relations {
        // A unit whose container is away keeps what it said: the container comes back.
        for (key, text) in
            [(NAME, &facts.topology.unit), (ADDRESS, &facts.host), (FQDN, &facts.host)]
        {
            match facts.has_exporter {
                Some(true) => plan.set(Bag::Unit(*relation), key, text.as_str()),
                Some(false) => plan.set(Bag::Unit(*relation), key, Value::Absent),
                None => {}
            }
        }
        if let Some(units) = &facts.units {
            let app = Bag::App(*relation);
            plan.set(app, METADATA, serde_json::to_string(&facts.topology)?);
            plan.set(app, JOBS, jobs(units, facts.has_exporter != Some(false)).to_string());
            plan.set(app, ALERTS, rules_of(RULES, &facts.topology)?.to_string());
        }
    }
    if !seen.relations.is_empty() && facts.has_exporter == Some(false) {
        let text = "metrics-endpoint: the workload image has no pgbouncer_exporter, so Prometheus \
                    gets no metrics of this unit; attach an image that has it (juju \
                    attach-resource)";
        plan.push(Effect::Warn(text.to_owned()));
    }
    let note = EndpointNote { relations: seen.relations.clone(), published: facts.digest() };
    plan.note(Note::Endpoint(Endpoint::MetricsEndpoint, note));
    Ok(plan)
}

impl Facts {
    /// A digest of everything that is published.
    fn digest(&self) -> String {
        digest(&format!("{self:?}"))
    }
}

/// One job for each process. If all units have as many processes, Prometheus' charm puts the
/// address of each unit in the place of `*`. Otherwise the targets are listed, so that none is
/// missing and none is down by mistake.
///
/// An image without the exporter is the image of every unit. No unit names itself then, so `*`
/// stands for none, where a list would name targets that do not exist.
fn jobs(units: &[Exporters], has_exporter: bool) -> Json {
    let counts: BTreeSet<u16> = units.iter().map(|unit| unit.count).collect();
    let most = counts.last().copied().unwrap_or_default();
    let is_uniform = counts.len() == 1 || !has_exporter;
    let jobs = (0..most).map(|process| {
        let port = EXPORTER_PORT + process;
        let target = |host: &str| format!("{host}:{port}");
        let configs: Vec<Json> = if is_uniform {
            vec![json!({
                "targets": [target("*")],
                "labels": {"pgbouncer_process": process.to_string()},
            })]
        } else {
            let having = units.iter().filter(|unit| unit.count > process);
            having
                .map(|unit| {
                    json!({
                        "targets": [target(&unit.host)],
                        "labels": {
                            "juju_unit": unit.unit,
                            "pgbouncer_process": process.to_string(),
                        },
                    })
                })
                .collect()
        };
        json!({
            "job_name": format!("process_{process}"),
            "metrics_path": "/metrics",
            "static_configs": configs,
        })
    });
    jobs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::topology::tests::topology;

    fn exporters(number: u32, count: u16) -> Exporters {
        let host = format!("pgb-{number}.pgb-endpoints.shop.svc.cluster.local");
        Exporters { unit: format!("pgb/{number}"), host, count }
    }

    fn facts(units: Option<&[u16]>) -> Facts {
        let numbered = |units: &[u16]| {
            (0..).zip(units).map(|(number, count)| exporters(number, *count)).collect()
        };
        Facts {
            topology: topology(),
            host: exporters(0, 0).host,
            has_exporter: Some(true),
            units: units.map(numbered),
        }
    }

    fn shown(facts: Facts) -> String {
        let seen = Seen { relations: vec![RelationId(7)], facts };
        decide(&seen).expect("the rules are YAML").to_string()
    }

    /// Targets and labels of each job.
    fn targets(units: &[u16], has_exporter: bool) -> Vec<String> {
        let units = facts(Some(units)).units.expect("they are given");
        let jobs = jobs(&units, has_exporter);
        let configs = jobs
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|job| job["static_configs"].as_array().cloned().unwrap_or_default());
        configs
            .map(|config| format!("{} {}", config["targets"][0], config["labels"]))
            .map(|text| text.replace('"', "").replace(".pgb-endpoints.shop.svc.cluster.local", ""))
            .collect()
    }

    #[test]
    fn units_with_as_many_processes_share_a_target_for_each_process() {
        assert_eq!(
            targets(&[2, 2, 2], true),
            ["*:9127 {pgbouncer_process:0}", "*:9128 {pgbouncer_process:1}"]
        );
        assert_eq!(targets(&[], true), [""; 0]);
    }

    #[test]
    fn units_with_different_numbers_of_processes_have_targets_of_their_own() {
        assert_eq!(
            targets(&[1, 2], true),
            [
                "pgb-0:9127 {juju_unit:pgb/0,pgbouncer_process:0}",
                "pgb-1:9127 {juju_unit:pgb/1,pgbouncer_process:0}",
                "pgb-1:9128 {juju_unit:pgb/1,pgbouncer_process:1}",
            ]
        );
    }

    #[test]
    fn no_target_is_listed_for_an_image_without_exporter() {
        let shared = targets(&[1, 2], false);
        assert!(shared.iter().all(|target| target.starts_with("*:")), "{shared:?}");
    }

    #[test]
    fn only_the_leader_writes_the_app_bag_and_only_a_unit_with_an_exporter_names_itself() {
        let follower = shown(facts(None));
        assert!(follower.contains("set unit 7 prometheus_scrape_unit_name = pgb/0"), "{follower}");
        assert!(!follower.contains("set app"), "{follower}");
        let leader = shown(facts(Some(&[2])));
        for key in [METADATA, JOBS, ALERTS] {
            assert!(leader.contains(&format!("set app 7 {key} = ")), "{leader}");
        }
        let bare = shown(Facts { has_exporter: Some(false), ..facts(None) });
        assert!(bare.contains("remove unit 7 prometheus_scrape_unit_name"), "{bare}");
        assert!(bare.contains("has no pgbouncer_exporter"), "{bare}");
        let away = shown(Facts { has_exporter: None, ..facts(Some(&[2])) });
        assert!(away.contains("set app 7") && !away.contains("unit 7"), "{away}");
    }

    #[test]
    fn a_change_of_any_unit_changes_the_digest() {
        let digests: BTreeSet<_> = [
            facts(None),
            facts(Some(&[2, 2])),
            facts(Some(&[2, 3])),
            facts(Some(&[2, 2, 2])),
            Facts { has_exporter: Some(false), ..facts(None) },
            Facts { has_exporter: None, ..facts(None) },
        ]
        .iter()
        .map(Facts::digest)
        .collect();
        assert_eq!(digests.len(), 6);
    }

    #[test]
    fn another_unit_has_the_same_name_with_another_number() {
        let own = exporters(0, 0).host;
        assert_eq!(host_of(&own, &topology(), "pgb/12"), exporters(12, 0).host);
    }

    #[test]
    fn a_unit_of_the_python_charm_has_one_exporter() {
        let bag = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Texts>()
        };
        assert_eq!(count(&bag(&[(PYTHON_RUNS, "True")])), 1);
        assert_eq!(count(&bag(&[(PYTHON_RUNS, "True"), (HOSTNAME, "pgb-1")])), 0);
        assert_eq!(count(&bag(&[])), 0, "it has just joined");
        assert_eq!(count(&bag(&[(HOSTNAME, "pgb-1"), (PROCESSES, "65535")])), EXPORTERS_MAX);
        assert_eq!(count(&bag(&[(HOSTNAME, "pgb-1"), (PROCESSES, "4")])), 4);
    }
}

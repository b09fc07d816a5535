//! The relation `logging` (interface `loki_push_api`): Pebble forwards the output of every process
//! to Loki.
//!
//! Each unit reads the URLs of the remote units in hooks of the relation, and notes them. In other
//! hooks it compares the note with the targets of its container.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Deserialize;

use crate::event::{Endpoint, Event, RelationId};
use crate::facts::topology::{Topology, rules_of};
use crate::look::Look;
use crate::plan::{Bag, Effect, Note, Plan};
use crate::status::Wait;
use crate::workload::{Forwarding, LOG_URLS_MAX, LogTargets, is_log_url};

/// The key in the bag of a remote unit with the URL, as JSON.
const ENDPOINT: &str = "endpoint";
/// The key in our app bag with the topology of the leader.
const METADATA: &str = "metadata";
/// The key in our app bag with the rules for Loki.
const ALERT_RULES: &str = "alert_rules";

/// The longest value of [`ENDPOINT`] that is parsed, in bytes.
const ENDPOINT_LENGTH_MAX: usize = 1000;

/// The rules for Loki.
const RULES: &str = include_str!("logging/rules.yaml");

/// The URLs of each relation.
type Urls = BTreeMap<RelationId, BTreeSet<String>>;

/// The input of [`decide`].
struct Seen {
    /// The relations with the endpoints of their remote units, or the noted URLs in a hook that
    /// reads no databag.
    relations: Relations,
    /// What the leader publishes; `None` on a follower, and in a hook that reads no databag.
    published: Option<Published>,
    topology: Topology,
    forwarding: Forwarding,
    /// Pebble of this Juju forwards logs.
    is_new_enough: bool,
}

/// The relations, from one of two sources.
enum Relations {
    /// The texts of [`ENDPOINT`] by relation and remote unit.
    Read(BTreeMap<RelationId, BTreeMap<String, Option<String>>>),
    /// What an earlier hook noted.
    Noted(Urls),
}

/// The values in our app bag.
struct Published {
    metadata: String,
    rules: String,
}

/// The value of [`ENDPOINT`], of which other keys are ignored.
#[derive(Deserialize)]
struct Url {
    url: String,
}

/// Whether the hook may have missed relations, may be the first of a new leader, or finds other
/// targets in the container than are noted.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    let is_related = !look.notes().log_urls.is_empty();
    Ok(match look.event() {
        Event::UpgradeCharm => true,
        Event::LeaderElected if is_related => true,
        _ => {
            let noted = urls_of(&look.notes().log_urls);
            let wanted = targets(noted, &Topology::of(look.unit()));
            look.unit().juju.forwards_logs() && !look.forwarding().is(&wanted)
        }
    })
}

/// Gathers the facts and decides.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    Ok(decide(&gather(look)?))
}

fn gather(look: &mut Look<'_>) -> Result<Seen> {
    let topology = Topology::of(look.unit());
    let reads = look.event_of(Endpoint::Logging).is_some()
        || matches!(look.event(), Event::UpgradeCharm | Event::LeaderElected);
    let mut published = None;
    let relations = if reads {
        let departing = look.departing_from(Endpoint::Logging);
        let mut relations = BTreeMap::new();
        for relation in look.relations(Endpoint::Logging)? {
            let mut endpoints = BTreeMap::new();
            for unit in look.members(relation)? {
                if Some(&unit) != departing.as_ref() {
                    let endpoint = look.remote_unit_bag(relation, &unit)?.get(ENDPOINT).cloned();
                    endpoints.insert(unit, endpoint);
                }
            }
            relations.insert(relation, endpoints);
        }
        if !relations.is_empty() && look.leads()? {
            published = Some(Published {
                metadata: serde_json::to_string(&topology)?,
                rules: serde_json::to_string(&rules_of(&rules(&topology), &topology)?)?,
            });
        }
        Relations::Read(relations)
    } else {
        Relations::Noted(look.notes().log_urls.clone())
    };
    let is_new_enough = look.unit().juju.forwards_logs();
    Ok(Seen { relations, published, topology, forwarding: look.forwarding(), is_new_enough })
}

fn decide(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    let noted = match &seen.relations {
        Relations::Noted(noted) => noted.clone(),
        Relations::Read(relations) => {
            let mut noted = Urls::new();
            for (relation, endpoints) in relations {
                let (urls, warnings) = read(*relation, endpoints);
                noted.insert(*relation, urls);
                for warning in warnings {
                    plan.push(Effect::Warn(warning));
                }
            }
            plan.note(Note::LogUrls(noted.clone()));
            noted
        }
    };
    if let Some(Published { metadata, rules }) = &seen.published {
        for relation in noted.keys() {
            plan.set(Bag::App(*relation), METADATA, metadata.as_str());
            plan.set(Bag::App(*relation), ALERT_RULES, rules.as_str());
        }
    }
    if !seen.is_new_enough {
        return if noted.is_empty() { plan } else { plan.wait(Wait::OldPebble) };
    }
    let wanted = targets(urls_of(&noted), &seen.topology);
    if matches!(seen.forwarding, Forwarding::WithoutPebble) && !wanted.urls.is_empty() {
        plan.push(Effect::Warn(
            "logging: PgBouncer runs on this machine without Pebble, so no log is forwarded; read \
             the log of its service"
                .to_owned(),
        ));
    }
    if !seen.forwarding.is(&wanted) {
        let earlier = seen.forwarding.urls();
        for url in wanted.urls.difference(&earlier).filter(|url| url.starts_with("https:")) {
            plan.push(Effect::Warn(format!(
                "logging: {url} needs its CA among the certificates of the workload image, because \
                 Pebble trusts no other; attach an image with the CA, unless it has it"
            )));
        }
        plan.push(Effect::ForwardLogs(wanted));
    }
    plan
}

/// The URLs that remote units publish, and a warning for each value that is not usable. A unit
/// that has published nothing yet sends another hook when it has.
fn read(
    relation: RelationId,
    endpoints: &BTreeMap<String, Option<String>>,
) -> (BTreeSet<String>, Vec<String>) {
    let (mut urls, mut warnings) = (BTreeSet::new(), Vec::new());
    for (unit, endpoint) in endpoints {
        let Some(text) = endpoint else { continue };
        let text = Some(text).filter(|text| text.len() <= ENDPOINT_LENGTH_MAX);
        match text.and_then(|text| serde_json::from_str::<Url>(text).ok()) {
            Some(Url { url }) if is_log_url(&url) => {
                urls.insert(url);
            }
            _ => warnings.push(format!(
                "logging:{relation}: ignored {ENDPOINT} of {unit}: it has no URL with http or \
                 https, a host, no password and at most 255 characters; repair that application"
            )),
        }
    }
    if urls.len() > LOG_URLS_MAX {
        warnings.push(format!(
            "logging:{relation}: ignored all but {LOG_URLS_MAX} of {} URLs under {ENDPOINT}; let \
             its units publish fewer",
            urls.len()
        ));
    }
    (urls.into_iter().take(LOG_URLS_MAX).collect(), warnings)
}

/// The distinct URLs of all relations.
fn urls_of(relations: &Urls) -> BTreeSet<String> {
    let urls: BTreeSet<_> = relations.values().flatten().collect();
    urls.into_iter().take(LOG_URLS_MAX).cloned().collect()
}

/// The targets for these URLs, with the labels of Canonical's library, and `juju_charm`, which
/// Promtail of the Python charm sent.
fn targets(urls: BTreeSet<String>, topology: &Topology) -> LogTargets {
    if urls.is_empty() {
        return LogTargets::default();
    }
    let job = format!("juju_{}", topology.identifier());
    let labels = [
        ("product", "Juju"),
        ("charm", topology.charm_name),
        ("juju_charm", topology.charm_name),
        ("juju_model", &topology.model),
        ("juju_model_uuid", &topology.model_uuid),
        ("juju_application", &topology.application),
        ("juju_unit", &topology.unit),
        ("job", &job),
    ];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    LogTargets { urls, labels: labels.into() }
}

/// The rules, limited to this application. Loki's charm would remove `%%juju_topology%%`, and Loki
/// refuses the empty selector that is left.
fn rules(topology: &Topology) -> String {
    let Topology { model, model_uuid, application, .. } = topology;
    let matchers = format!(
        r#"juju_model="{model}", juju_model_uuid="{model_uuid}", juju_application="{application}""#
    );
    RULES.replace("%%juju_topology%%", &matchers)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const ONE: &str = "http://10.1.0.7:3100/loki/api/v1/push";
    const OTHER: &str = "https://loki.example/loki/api/v1/push";

    fn topology() -> Topology {
        Topology {
            model: "prod".to_owned(),
            model_uuid: "20ce8299-3634-4bef-8bd8-5ace6c8816b4".to_owned(),
            application: "pgb".to_owned(),
            unit: "pgb/1".to_owned(),
            charm_name: "pgbouncer-k8s",
        }
    }

    fn endpoint(url: &str) -> String {
        format!(r#"{{"url": "{url}"}}"#)
    }

    /// A follower on a new Juju that reads these endpoints of relation 9; an empty one is absent.
    fn seen(endpoints: &[String]) -> Seen {
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let unit = |(n, endpoint)| (format!("loki/{n}"), text(endpoint));
        let endpoints = endpoints.iter().enumerate().map(unit).collect();
        Seen {
            relations: Relations::Read(BTreeMap::from([(RelationId(9), endpoints)])),
            published: None,
            topology: topology(),
            forwarding: Forwarding::Set(LogTargets::default()),
            is_new_enough: true,
        }
    }

    fn set(urls: &[&str]) -> LogTargets {
        targets(urls.iter().map(|url| (*url).to_owned()).collect(), &topology())
    }

    #[test]
    fn each_distinct_url_is_one_target() {
        let plan = decide(&seen(&[endpoint(ONE), endpoint(ONE), String::new()]));
        let expected = format!(
            "note relations of logging {{RelationId(9): {{{ONE:?}}}}}\nforward logs to {ONE}\n"
        );
        assert_eq!(plan.to_string(), expected);
    }

    #[test]
    fn targets_that_are_set_are_not_set_again() {
        let plan = |forwarding| decide(&Seen { forwarding, ..seen(&[endpoint(ONE)]) });
        assert!(!plan(Forwarding::Set(set(&[ONE]))).to_string().contains("forward"));
        for forwarding in [
            Forwarding::Changing(set(&[ONE]).urls),
            Forwarding::Set(set(&[])),
            Forwarding::Set(set(&[ONE, OTHER])),
        ] {
            let plan = plan(forwarding);
            let wanted = Effect::ForwardLogs(set(&[ONE]));
            assert!(plan.effects().any(|effect| *effect == wanted), "{plan}");
        }
    }

    #[test]
    fn a_new_container_gets_the_noted_targets() {
        let noted = Urls::from([(RelationId(9), set(&[ONE]).urls)]);
        let plan = decide(&Seen { relations: Relations::Noted(noted), ..seen(&[]) });
        assert_eq!(plan.to_string(), format!("forward logs to {ONE}\n"));
    }

    #[test]
    fn the_end_of_the_last_relation_stops_the_forwarding() {
        let mut seen = seen(&[]);
        seen.relations = Relations::Read(BTreeMap::new());
        seen.forwarding = Forwarding::Set(set(&[ONE]));
        let expected = "note relations of logging {}\nstop forwarding logs\n";
        assert_eq!(decide(&seen).to_string(), expected);
    }

    #[test]
    fn a_value_that_is_not_usable_is_a_warning_and_stops_no_other() {
        let bad = ["{", "{}", r#"{"url": 1}"#, r#"{"url": "file:///etc"}"#, &" ".repeat(1001)];
        for text in bad {
            let plan = decide(&seen(&[text.to_owned(), endpoint(ONE)])).to_string();
            assert!(plan.contains("warn: logging:9: ignored endpoint of loki/0: "), "{plan}");
            assert!(plan.ends_with(&format!("forward logs to {ONE}\n")), "{plan}");
        }
    }

    #[test]
    fn no_more_urls_than_the_limit_get_the_logs() {
        let many: Vec<_> =
            (0..=LOG_URLS_MAX).map(|n| endpoint(&format!("http://{n:02}/"))).collect();
        let plan = decide(&seen(&many));
        let count = plan.effects().find_map(|effect| match effect {
            Effect::ForwardLogs(targets) => Some(targets.urls.len()),
            _ => None,
        });
        assert_eq!(count, Some(LOG_URLS_MAX));
        assert!(plan.to_string().contains("ignored all but 16 of 17 URLs"), "{plan}");
    }

    #[test]
    fn https_is_a_warning_when_the_target_is_new() {
        let mut seen = seen(&[endpoint(OTHER)]);
        assert!(decide(&seen).to_string().contains("needs its CA"));
        seen.forwarding = Forwarding::Changing(set(&[OTHER]).urls);
        assert!(!decide(&seen).to_string().contains("needs its CA"));
    }

    #[test]
    fn an_old_juju_is_a_wait_while_a_relation_exists() {
        let mut seen = seen(&[endpoint(ONE)]);
        seen.is_new_enough = false;
        let plan = decide(&seen);
        assert_eq!(plan.waits, [Wait::OldPebble]);
        assert!(!plan.to_string().contains("forward logs to"));
        seen.relations = Relations::Read(BTreeMap::new());
        assert_eq!(decide(&seen).waits, []);
    }

    #[test]
    fn a_container_that_is_away_gets_its_targets_later() {
        let plan = decide(&Seen { forwarding: Forwarding::Away, ..seen(&[endpoint(ONE)]) });
        assert!(!plan.to_string().contains("forward") && plan.waits.is_empty(), "{plan}");
    }

    #[test]
    fn the_leader_publishes_its_topology_and_the_rules() {
        let published = || Some(Published { metadata: "{}".to_owned(), rules: "[]".to_owned() });
        let plan = decide(&Seen { published: published(), ..seen(&[]) }).to_string();
        assert!(plan.contains("set app 9 metadata = {}\nset app 9 alert_rules = []\n"), "{plan}");
    }

    #[test]
    fn each_rule_selects_this_application_and_says_what_to_do() {
        let topology = topology();
        let rules = rules_of(&rules(&topology), &topology).expect("it is YAML");
        let all = rules["groups"][0]["rules"].as_array().expect("rules");
        assert_eq!(all.len(), 3);
        for rule in all {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let selector = r#"{juju_model="prod", juju_model_uuid="20ce8299-3634-4bef-8bd8-5ace6c8816b4", juju_application="pgb"}"#;
            assert!(text(&rule["expr"]).contains(selector), "{rule}");
            assert!(!text(&rule["labels"]["severity"]).is_empty(), "{rule}");
            assert!(!text(&rule["annotations"]["summary"]).is_empty(), "{rule}");
            assert!(!text(&rule["annotations"]["description"]).is_empty(), "{rule}");
        }
    }
}

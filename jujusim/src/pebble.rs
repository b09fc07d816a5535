//! What Juju's agent observes of workload containers: readiness and health checks.

use std::path::PathBuf;

use serde_json::Value;

use crate::container::Pod;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::model::{Model, Stage, UnitName};

impl Model {
    /// Queues the hooks of containers that started since the last observation, and of checks that
    /// crossed their threshold.
    pub(crate) fn observe_pods(&mut self) {
        let tells_checks = self.version.at_least(3, 6, 0);
        for unit in self.units.values_mut().filter(|unit| unit.stage >= Stage::Installed) {
            let Some(pod) = &mut unit.pod else { continue };
            let mut news = Vec::new();
            for index in 0..pod.containers.len() {
                news.extend(ready(pod, index));
                if tells_checks {
                    news.extend(checks(pod, index));
                }
            }
            unit.workload.extend(news);
        }
    }

    /// The root of a unit's workload files: in the workload container, or in the unit's own root.
    pub(crate) fn workload(&self, name: &UnitName) -> Result<PathBuf> {
        let unit = self.unit(name)?;
        match &unit.pod {
            Some(pod) => pod
                .files()
                .ok_or_else(|| Error::refused(format!("the container of {name} does not run"))),
            None => Ok(unit.root.clone()),
        }
    }
}

/// `pebble-ready`, if the container or the agent restarted since the last observation.
fn ready(pod: &mut Pod, index: usize) -> Option<Event> {
    let name = pod.containers[index].name.clone();
    let boot = pod.ask(&name, "/v1/system-info").ok()?["boot-id"].as_str()?.to_owned();
    let known = pod.containers[index].boot.replace(boot.clone());
    (known.as_ref() != Some(&boot)).then(|| Event::Workload(format!("{name}-pebble-ready")))
}

/// Hooks of checks whose change ended since the last observation: a `perform-check` change that
/// ended means failed, a `recover-check` change means recovered.
fn checks(pod: &mut Pod, index: usize) -> Vec<Event> {
    let container = &pod.containers[index];
    let name = container.name.clone();
    let after = container.noticed.as_ref().map(|time| format!("&after={time}")).unwrap_or_default();
    let Ok(notices) = pod.ask(&name, &format!("/v1/notices?types=change-update{after}")) else {
        return Vec::new();
    };
    let mut events = Vec::new();
    for notice in notices.as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (change, data) = (text(&notice["key"]), &notice["last-data"]);
        // A Pebble that does not answer now is asked again at the next observation.
        let Ok(found) = pod.ask(&name, &format!("/v1/changes/{change}")) else { break };
        pod.containers[index].noticed = Some(text(&notice["last-repeated"]));
        let crossed = match (data["kind"].as_str(), found["status"].as_str()) {
            (Some("perform-check"), Some("Error")) => "failed",
            (Some("recover-check"), Some("Done")) => "recovered",
            _ => continue,
        };
        events.push(Event::Check {
            hook: format!("{name}-pebble-check-{crossed}"),
            check: text(&data["check-name"]),
            notice: text(&notice["id"]),
            change,
        });
    }
    events
}

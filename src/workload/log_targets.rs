//! The log targets of Pebble, which forwards the output of its services to Loki. Data only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::pgbouncer::hex;

/// The largest number of URLs that get the logs, so that no relation can fill the plan of Pebble.
pub const LOG_URLS_MAX: usize = 16;

/// The longest URL that gets the logs, in bytes.
const URL_LENGTH_MAX: usize = 255;

/// The longest file with the targets of a container, in bytes.
const FILE_LENGTH_MAX: usize = 64 << 10;

/// Where Pebble sends each line that a service prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTargets {
    /// The push URLs of Loki. Each gets every line once.
    pub urls: BTreeSet<String>,
    /// The labels of each line; empty without a URL.
    pub labels: BTreeMap<String, String>,
}

/// The log targets of this unit's Pebble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// PgBouncer runs without Pebble, so nothing is forwarded.
    WithoutPebble,
    /// The workload container cannot be read now.
    Away,
    /// An earlier hook set these targets in this container.
    Set(LogTargets),
    /// An earlier hook did not finish a change. Lines may go to these URLs.
    Changing(BTreeSet<String>),
}

/// The file in the container that says which targets are set. It goes with the container, as the
/// plan of Pebble does.
#[derive(Serialize, Deserialize)]
struct Saved {
    urls: BTreeSet<String>,
    /// `None` while a change is not finished.
    labels: Option<BTreeMap<String, String>>,
}

impl Forwarding {
    /// Parses the file. Every process of the container may have written it.
    pub(super) fn parse(text: Option<&str>) -> Self {
        let Some(text) = text else { return Self::Set(LogTargets::default()) };
        let saved = Some(text).filter(|text| text.len() <= FILE_LENGTH_MAX);
        let is_valid = |saved: &Saved| saved.urls.iter().all(|url| is_log_url(url));
        match saved.and_then(|text| serde_json::from_str(text).ok()).filter(is_valid) {
            Some(Saved { urls, labels: Some(labels) }) => Self::Set(LogTargets { urls, labels }),
            Some(Saved { urls, labels: None }) => Self::Changing(urls),
            None => Self::Changing(BTreeSet::new()),
        }
    }

    /// Whether Pebble is known to have exactly these targets, or none can be set.
    pub fn is(&self, wanted: &LogTargets) -> bool {
        match self {
            Self::WithoutPebble | Self::Away => true,
            Self::Set(targets) => targets == wanted,
            Self::Changing(_) => false,
        }
    }

    /// The URLs to which Pebble may send lines.
    pub fn urls(&self) -> BTreeSet<String> {
        match self {
            Self::WithoutPebble | Self::Away => BTreeSet::new(),
            Self::Set(LogTargets { urls, .. }) | Self::Changing(urls) => urls.clone(),
        }
    }

    /// The file that [`Self::parse`] reads.
    pub(super) fn render(&self) -> String {
        let labels = match self {
            Self::Set(targets) => Some(targets.labels.clone()),
            _ => None,
        };
        serde_json::to_string(&Saved { urls: self.urls(), labels }).unwrap_or_default()
    }
}

impl LogTargets {
    /// The layer with a target for each URL, and without output for `earlier` URLs that are no
    /// longer wanted: Pebble cannot remove a target.
    ///
    /// Each URL has a target of its own name, because Pebble ignores another location in a target
    /// that exists.
    pub(super) fn layer(&self, earlier: &BTreeSet<String>) -> Value {
        let target = |url: &String| {
            let is_wanted = self.urls.contains(url);
            // In a label, Pebble replaces `$NAME` by the environment of the service.
            let labels: BTreeMap<_, _> =
                self.labels.iter().map(|(name, value)| (name, value.replace('$', "$$"))).collect();
            let target = json!({
                "override": "replace",
                "type": "loki",
                "location": url,
                "services": [if is_wanted { "all" } else { "-all" }],
                "labels": labels,
            });
            (name(url), target)
        };
        json!({ "log-targets": self.urls.union(earlier).map(target).collect::<Map<_, _>>() })
    }
}

/// Whether Pebble can send lines to this URL: HTTP or HTTPS, with a host and without a password,
/// because everybody may read a plan.
pub fn is_log_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    url.len() <= URL_LENGTH_MAX
        && url.chars().all(|c| c.is_ascii_graphic())
        && host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
}

/// The name of the target for a URL.
fn name(url: &str) -> String {
    format!("loki-{}", &hex(&Sha256::digest(url))[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(urls: &[&str]) -> LogTargets {
        LogTargets {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            labels: BTreeMap::from([("job".to_owned(), "a$b".to_owned())]),
        }
    }

    #[test]
    fn the_file_survives_a_round_trip_and_others_count_as_an_unfinished_change() {
        let one = targets(&["http://a/"]);
        for state in [Forwarding::Set(one.clone()), Forwarding::Changing(one.urls)] {
            assert_eq!(Forwarding::parse(Some(&state.render())), state);
        }
        assert_eq!(Forwarding::parse(None), Forwarding::Set(LogTargets::default()));
        let long = Forwarding::Set(LogTargets::default()).render() + &" ".repeat(FILE_LENGTH_MAX);
        for text in ["", "{}", "null", "[[", &long] {
            assert_eq!(Forwarding::parse(Some(text)), Forwarding::Changing(BTreeSet::new()));
        }
    }

    #[test]
    fn a_url_is_http_and_has_a_host_and_no_password() {
        let long = |length: usize| format!("http://a/{}", "x".repeat(length - 9));
        for url in ["http://a", "https://10.1.0.2:3100/loki/api/v1/push", &long(255)] {
            assert!(is_log_url(url), "{url}");
        }
        for url in [
            "",
            "a",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://u:p@a/",
            "http://a/ b",
            &long(256),
        ] {
            assert!(!is_log_url(url), "{url}");
        }
    }

    #[test]
    fn an_unfinished_change_is_never_the_wanted_state() {
        let wanted = targets(&["http://a/"]);
        assert!(Forwarding::Set(wanted.clone()).is(&wanted));
        assert!(!Forwarding::Set(targets(&[])).is(&wanted));
        assert!(!Forwarding::Changing(wanted.urls.clone()).is(&wanted));
        assert!(Forwarding::WithoutPebble.is(&wanted) && Forwarding::Away.is(&wanted));
    }

    #[test]
    fn the_layer_has_a_target_for_each_url_and_disables_those_that_are_gone() {
        let layer = targets(&["http://a/"]).layer(&targets(&["http://a/", "http://b/"]).urls);
        let targets = layer["log-targets"].as_object().expect("targets");
        assert_eq!(targets.len(), 2);
        let (kept, gone) = (&targets[&name("http://a/")], &targets[&name("http://b/")]);
        assert_eq!(kept["services"], json!(["all"]));
        assert_eq!(kept["labels"], json!({"job": "a$$b"}));
        assert_eq!((&gone["services"], &gone["location"]), (&json!(["-all"]), &json!("http://b/")));
    }
}

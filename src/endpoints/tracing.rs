//! The relation `tracing` (interface `tracing`, version 2): where hooks send their traces.
//!
//! The row notes the URL. At its end each hook sends its trace there ([`otlp`](crate::otlp)).

use anyhow::Result;
use hyper::Uri;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::event::{Endpoint, Event, RelationId};
use crate::facts::Texts;
use crate::look::Look;
use crate::notes::TracingNote;
use crate::plan::{Bag, Effect, Note, Plan};

/// The key in both app bags: the protocols that we request, and those that the provider has.
const RECEIVERS: &str = "receivers";

/// The one protocol that the charm speaks, and the request for it.
const PROTOCOL: &str = "otlp_http";
const REQUEST: &str = r#"["otlp_http"]"#;

/// The longest URL, in bytes.
const LONGEST: usize = 255;

/// The longest text of CAs, in bytes: the unit's state keeps no longer note.
const CAS_LENGTH_MAX: usize = 50_000;

/// The input of [`decide`].
struct Seen {
    relation: Option<RelationId>,
    leads: bool,
    /// The URL of the provider; `None` before it has one, an error if it is malformed.
    url: Result<Option<String>, String>,
    /// The CAs from `receive-ca-cert`, in PEM.
    cas: String,
}

#[derive(Deserialize)]
struct Receiver {
    protocol: Protocol,
    url: String,
}

#[derive(Deserialize)]
struct Protocol {
    name: String,
}

/// Whether the hook may have missed the relation, may be the first of a new leader, or may bring
/// another CA.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    let is_related = look.notes().tracing.is_some();
    Ok(match look.event() {
        Event::UpgradeCharm => true,
        Event::LeaderElected => is_related,
        _ => is_related && look.event_of(Endpoint::ReceiveCaCert).is_some(),
    })
}

/// Gathers the facts and decides.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    let relation = look.relations(Endpoint::Tracing)?.first().copied();
    let url = match relation {
        Some(relation) => url(&look.remote_bag(relation)?),
        None => Ok(None),
    };
    let is_tls = matches!(&url, Ok(Some(url)) if url.starts_with("https"));
    let cas = if is_tls { look.received_cas()?.to_pem() } else { String::new() };
    Ok(decide(&Seen { relation, leads: look.leads()?, url, cas }))
}

/// The URL for [`PROTOCOL`] in the provider's app bag.
fn url(bag: &Texts) -> Result<Option<String>, String> {
    let Some(text) = bag.get(RECEIVERS) else { return Ok(None) };
    let parsed = crate::facts::bounded(text)?;
    let all: Vec<Json> =
        serde_json::from_str(parsed).map_err(|_| "it is not a JSON list".to_owned())?;
    let receivers = all.into_iter().filter_map(|one| Receiver::deserialize(one).ok());
    let Some(found) = receivers.into_iter().find(|one| one.protocol.name == PROTOCOL) else {
        return Ok(None);
    };
    let is_usable = |url: &Uri| {
        let authority = url.authority().map(hyper::http::uri::Authority::as_str);
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(|host| !host.is_empty())
            && authority.is_some_and(|text| !text.contains('@'))
            && url.query().is_none()
    };
    match found.url.parse::<Uri>() {
        Ok(url) if found.url.len() <= LONGEST && is_usable(&url) => Ok(Some(found.url)),
        _ => Err(format!("the URL of {PROTOCOL} is no http or https URL within {LONGEST} bytes")),
    }
}

fn decide(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    let Some(relation) = seen.relation else {
        plan.note(Note::Tracing(None));
        return plan;
    };
    if seen.leads {
        plan.set(Bag::App(relation), RECEIVERS, REQUEST);
    }
    let url = match &seen.url {
        Ok(url) => url.clone().unwrap_or_default(),
        Err(reason) => {
            plan.push(Effect::Warn(format!(
                "tracing:{relation}: ignored {RECEIVERS}: {reason}; check the provider's charm"
            )));
            String::new()
        }
    };
    if url.starts_with("https") && seen.cas.is_empty() {
        plan.push(Effect::Warn(
            "tracing: no traces are sent: the provider uses https, and no CA is known to verify \
             it; integrate receive-ca-cert with the provider of that CA"
                .to_owned(),
        ));
    }
    let is_too_long = seen.cas.len() > CAS_LENGTH_MAX;
    if is_too_long {
        plan.push(Effect::Warn(format!(
            "tracing: no traces are sent: the CAs from receive-ca-cert have more than \
             {CAS_LENGTH_MAX} bytes; let its provider send fewer"
        )));
    }
    let ca = if is_too_long { String::new() } else { seen.cas.clone() };
    plan.note(Note::Tracing(Some(TracingNote { relation, url, ca })));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag(receivers: &str) -> Texts {
        Texts::from([(RECEIVERS.to_owned(), receivers.to_owned())])
    }

    fn with_url(url: &str) -> Texts {
        let json = serde_json::json!([
            {"protocol": {"name": "zipkin", "type": "http"}, "url": "http://tempo:9411"},
            {"protocol": {"name": "otlp_http", "type": "http"}, "url": url},
        ]);
        bag(&json.to_string())
    }

    #[test]
    fn the_url_of_the_one_protocol_is_taken_if_it_is_usable() {
        for good in [
            "http://tempo.obs.svc.cluster.local:4318",
            "https://tempo:4318/",
            "http://[fd00::7]:4318",
            "http://10.1.2.3",
        ] {
            assert_eq!(url(&with_url(good)), Ok(Some(good.to_owned())), "{good}");
        }
        let long = format!("http://{}", "h".repeat(LONGEST));
        for bad in ["", "tempo:4318", "ftp://tempo", "http://u:p@tempo", "http://t?x=1", &long] {
            assert!(url(&with_url(bad)).is_err(), "{bad}");
        }
        assert_eq!(url(&Texts::new()), Ok(None));
        assert_eq!(url(&bag("[]")), Ok(None));
        assert_eq!(url(&bag("[3, {}]")), Ok(None));
        assert!(url(&bag("{")).is_err());
    }

    fn seen(leads: bool, url: &str, cas: &str) -> Seen {
        Seen {
            relation: Some(RelationId(9)),
            leads,
            url: Ok(Some(url.to_owned())),
            cas: cas.to_owned(),
        }
    }

    #[test]
    fn only_the_leader_requests_and_every_unit_notes_the_url() {
        let follower = decide(&seen(false, "http://tempo:4318", "")).to_string();
        assert_eq!(follower, "note tracing:9 at http://tempo:4318\n");
        let leader = decide(&seen(true, "http://tempo:4318", "")).to_string();
        assert_eq!(leader, format!("set app 9 receivers = {REQUEST}\n{follower}"));
        let ended = decide(&Seen { relation: None, ..seen(true, "http://tempo:4318", "") });
        assert_eq!(ended.to_string(), "note no tracing\n");
    }

    #[test]
    fn https_without_a_ca_is_said() {
        let told = decide(&seen(false, "https://tempo:4318", "")).to_string();
        assert!(told.contains("no traces are sent"), "{told}");
        let trusted = decide(&seen(false, "https://tempo:4318", "PEM")).to_string();
        assert!(!trusted.contains("warn"), "{trusted}");
        let long = decide(&seen(false, "https://tempo:4318", &"x".repeat(CAS_LENGTH_MAX + 1)));
        assert!(long.to_string().contains("let its provider send fewer"), "{long}");
        let note = TracingNote {
            relation: RelationId(9),
            url: "https://tempo:4318".to_owned(),
            ca: String::new(),
        };
        let noted = Effect::Note(Note::Tracing(Some(note)));
        assert!(long.effects().any(|effect| *effect == noted), "{long}");
        let malformed = Seen { url: Err("it is odd".into()), ..seen(false, "", "") };
        assert!(decide(&malformed).to_string().contains("tracing:9: ignored receivers: it is odd"));
    }
}

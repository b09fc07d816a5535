//! The relation `certificates` (interface `tls-certificates`): each unit requests a certificate of
//! its own, serves it, and requests a new one before it ends.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::event::{Endpoint, Event, RelationHook, RelationId};
use crate::facts::certificates::{Answer, Issued, Provider, Stored, UnitStore, render_requests};
use crate::look::Look;
use crate::notes::CertificateNote;
use crate::peer_bag::TLS_CA;
use crate::pgbouncer::hex;
use crate::plan::{Bag, Effect, Note, Plan, Value};
use crate::secret::Secret;
use crate::status::Wait;
use crate::x509::certificate::digest;
use crate::x509::{Bundle, Names, PrivateKey, Request};

/// The key in our unit bag with the requests, a JSON list.
const REQUESTS: &str = "certificate_signing_requests";

/// How long before its end a certificate is replaced even if clients do not know the new CA yet, in
/// seconds.
const HURRY: u64 = 3600;

/// The least time between a certificate and the request for the next one, in seconds. A provider
/// whose certificates end at once must not keep both sides in hooks.
const RENEWAL_MIN: u64 = 300;

/// How much the clocks of units, provider and clients may differ, in seconds.
const SKEW: u64 = 300;

/// The input of [`decide`].
pub struct Seen {
    /// The provider; `None` without a relation.
    pub provider: Option<Related>,
    /// What this unit stores, with the key that an operator brings.
    pub stored: Stored,
    /// What this unit stores.
    pub before: Stored,
    /// The unit bag is one of the Python charm.
    pub is_of_python_charm: bool,
    /// Where this unit stores it.
    pub store: UnitStore,
    /// The names that a certificate of this unit should have.
    pub names: Names,
    /// Seconds since 1970.
    pub now: u64,
    /// Clients may connect only with TLS, so that a certificate stays without its provider.
    pub demands_tls: bool,
    /// The note of an earlier hook.
    pub note: CertificateNote,
    /// The CAs that clients know; `None` if no client waits for a CA.
    pub known_cas: Option<Bundle>,
    /// A new key, if this unit has none and needs one.
    pub fresh_key: Option<PrivateKey>,
    /// A random text that makes a request different from earlier ones.
    pub unique_id: String,
}

/// The provider of certificates, and what this unit has requested.
pub struct Related {
    /// The number of the relation.
    pub relation: RelationId,
    /// The name of the provider's application.
    pub app: String,
    /// The provider's app bag.
    pub answers: Provider,
}

/// Whether the row is due without a hook of its own: what an earlier charm stored has not been read
/// yet, the certificate has to be renewed, or its names have changed.
pub fn is_due(look: &mut Look<'_>) -> Result<bool> {
    if *look.event() == Event::UpgradeCharm || look.new_key().is_some() {
        return Ok(true);
    }
    let Some(note) = look.notes().certificate.clone() else {
        return Ok(Stored::may_be_in(look.bag(Bag::PeerUnit)?));
    };
    if note.renew_at.is_some_and(|at| look.now() >= at) {
        return Ok(true);
    }
    if note.relation.is_none() {
        return Ok(!note.digest.is_empty() && !look.demands_tls()?);
    }
    Ok(note.names != names_digest(&look.names(None)))
}

/// Gathers the facts and decides.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    Ok(decide(&gather(look)?))
}

fn gather(look: &mut Look<'_>) -> Result<Seen> {
    let note = look.notes().certificate.clone();
    let relation = match look.event_of(Endpoint::Certificates) {
        Some(event) if event.hook != RelationHook::Broken => Some(event.relation),
        // Not the note: an operator may have skipped the hook that ends the relation.
        _ => look.relations(Endpoint::Certificates)?.first().copied(),
    };
    let provider = match relation {
        Some(relation) => {
            let app = look.remote_app(relation)?.unwrap_or_default();
            let answers = Provider::read(&look.remote_bag(relation)?);
            for key in &answers.malformed {
                tracing::warn!(
                    "{app} (certificates:{relation}): ignored a part of {key}: it is malformed; \
                     check the charm of {app}"
                );
            }
            Some(Related { relation, app, answers })
        }
        None => None,
    };
    let (mut stored, store) = look.stored_certificate()?;
    let before = stored.clone();
    if let Some(key) = look.new_key().filter(|key| stored.request_key() != Some(*key)) {
        stored.next_key = Some(key.clone());
    }
    let is_keyless = provider.is_some() && stored.request_key().is_none();
    let ip = match &provider {
        Some(_) => look.bind_address()?.and_then(|address| address.parse().ok()),
        None => None,
    };
    Ok(Seen {
        names: look.names(ip),
        now: look.now(),
        demands_tls: look.demands_tls()?,
        known_cas: look.known_cas()?,
        is_of_python_charm: Stored::may_be_in(look.bag(Bag::PeerUnit)?),
        fresh_key: if is_keyless { Some(Look::fresh_key()?) } else { None },
        unique_id: hex(&look.fresh_salt()),
        note: note.unwrap_or_default(),
        provider,
        stored,
        before,
        store,
    })
}

/// Keeps one request in the unit bag, and serves the certificate that answers it.
pub fn decide(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    let mut stored = seen.stored.clone();
    let mut note = CertificateNote { names: names_digest(&seen.names), ..seen.note.clone() };
    let mut cas = Bundle::default();
    if let Some(provider) = &seen.provider {
        note.relation = Some(provider.relation);
        let Some(key) = stored.request_key().or(seen.fresh_key.as_ref()).cloned() else {
            return plan;
        };
        let request = match seen.request(provider, &key) {
            Ok(request) => request,
            Err(reason) => return plan.wait(reason),
        };
        if stored.request.as_ref() != Some(&request) {
            note.renew_at = None;
        }
        if stored.key.is_none() {
            stored.key = Some(key.clone());
        }
        let answer = provider.answers.answer(&request);
        stored.request = Some(request);
        match seen.take(&answer, &key) {
            Taken::Now(issued) => {
                let rest = issued.certificate.not_after.saturating_sub(seen.now);
                let is_new = stored.issued.as_ref() != Some(&issued);
                if is_new || note.renew_at.is_none() {
                    note.renew_at = Some(seen.now + (rest / 10 * 9).max(RENEWAL_MIN));
                }
                (stored.key, stored.next_key) = (Some(key), None);
                stored.issued = Some(issued);
            }
            Taken::Later(issued, reason) => {
                cas.extend(issued.cas().0);
                plan.waits.push(Wait::Certificate(reason.into()));
            }
            Taken::No => {
                // The provider may have lost the request: the unit repeats it once.
                let late = stored.issued.as_ref().map(|issued| issued.certificate.late());
                // The certificate may have ended while nobody renewed it.
                let has_ended = answer.issued.as_ref().is_some_and(|issued| {
                    !answer.is_revoked && issued.certificate.not_after <= seen.now
                });
                let soon = has_ended.then_some(seen.now + RENEWAL_MIN);
                let next = late.filter(|late| *late > seen.now).or(soon);
                note.renew_at = note.renew_at.or(next);
            }
        }
        plan.waits.extend(seen.lacks(provider, &answer, &stored));
    } else {
        note.relation = None;
        note.renew_at = None;
        stored.request = None;
        if !seen.demands_tls {
            stored.issued = None;
            stored.key = stored.next_key.take().or(stored.key);
        } else if let Some(issued) = &stored.issued {
            note.renew_at = Some(issued.certificate.not_after);
            if issued.certificate.not_after <= seen.now {
                plan.waits.push(Wait::Certificate(
                    "the certificate has expired; integrate certificates with a provider".into(),
                ));
            }
        }
    }
    let mut served = stored.issued.as_ref().map(Issued::cas).unwrap_or_default();
    served.extend(cas.0);
    note.digest = stored.identity().map(|text| digest(text.reveal())).unwrap_or_default();
    // The key is stored before the request with it is published.
    plan.append(seen.store.store(&seen.before, &stored));
    if let Some(provider) = &seen.provider {
        let requests = render_requests(stored.request.as_ref()).map_or(Value::Absent, Value::Text);
        plan.set(Bag::Unit(provider.relation), REQUESTS, requests);
    }
    let cas = Some(served.to_pem()).filter(|pem| !pem.is_empty());
    plan.set(Bag::PeerUnit, TLS_CA, cas.map_or(Value::Absent, Value::Text));
    // Without a note, each hook looks whether an earlier charm left something.
    if seen.is_of_python_charm || note.relation.is_some() || stored != Stored::default() {
        plan.note(Note::Certificate(note));
    }
    plan
}

/// The use of the provider's answer.
enum Taken {
    /// The certificate serves from now on.
    Now(Issued),
    /// The certificate does not serve yet, for this reason.
    Later(Issued, &'static str),
    /// There is no certificate to serve.
    No,
}

impl Seen {
    /// The request to keep in the unit bag: the last one, unless it has other names or another key,
    /// its certificate has to be renewed, or the provider refuses its addresses.
    fn request(&self, provider: &Related, key: &PrivateKey) -> Result<Request, Wait> {
        let last = self.stored.request.as_ref();
        let refuses_ips = |request: &Request| {
            let refusal = provider.answers.answer(request).refusal;
            refusal.is_some_and(|refusal| refusal.is_about_ips) && !request.names.ips.is_empty()
        };
        let is_renamed =
            !self.note.names.is_empty() && self.note.names != names_digest(&self.names);
        let is_over = is_renamed || self.note.renew_at.is_some_and(|at| self.now >= at);
        if let Some(last) = last
            && last.public_key == key.public_key()
            && !is_over
            && !refuses_ips(last)
        {
            return Ok(last.clone());
        }
        // A provider that has refused addresses refuses them again.
        let has_ips = !provider.answers.refuses_ips
            && last.is_none_or(|last| !last.names.ips.is_empty() && !refuses_ips(last));
        let names = if has_ips { self.names.clone() } else { self.names.clone().without_ips() };
        Request::build(key, &names, &self.unique_id)
            .map_err(|error| Wait::Certificate(error.to_string()))
    }

    /// Whether and when the answered certificate serves.
    fn take(&self, answer: &Answer, key: &PrivateKey) -> Taken {
        let Some(issued) = &answer.issued else { return Taken::No };
        if answer.is_revoked || issued.certificate.not_after <= self.now {
            return Taken::No;
        }
        let served = self.stored.issued.as_ref().filter(|served| {
            self.stored.key.is_some() && served.certificate.not_after > self.now + HURRY
        });
        let is_same = served == Some(issued) && self.stored.key.as_ref() == Some(key);
        let is_known = || {
            let known = self.known_cas.as_ref();
            known.is_none_or(|known| anchors(issued).all(|ca| known.0.contains(ca)))
        };
        if served.is_none() || is_same {
            Taken::Now(issued.clone())
        } else if issued.certificate.not_before > self.now + SKEW {
            Taken::Later(issued.clone(), "waiting until the new certificate becomes valid")
        } else if is_known() {
            Taken::Now(issued.clone())
        } else {
            let reason = "waiting until clients know the CA of the new certificate";
            Taken::Later(issued.clone(), reason)
        }
    }

    /// What this unit waits for.
    fn lacks(&self, provider: &Related, answer: &Answer, stored: &Stored) -> Option<Wait> {
        let app = &provider.app;
        if let Some(refusal) = &answer.refusal {
            return Some(Wait::CertificateRefused(app.clone(), refusal.message.clone()));
        }
        if answer.is_weak {
            return Some(Wait::Certificate(format!(
                "{app} signs with SHA-1 or a short key, which OpenSSL refuses; change its options"
            )));
        }
        if answer.is_revoked {
            let reason = format!("{app} has revoked the certificate; waiting for a new one");
            return Some(Wait::Certificate(reason));
        }
        match stored.issued.as_ref().or(answer.issued.as_ref()) {
            Some(issued) if issued.certificate.not_after <= self.now => Some(Wait::Certificate(
                format!("the certificate has expired; waiting for a new one from {app}"),
            )),
            Some(issued) if answer.issued.is_none() && self.now >= issued.certificate.late() => {
                Some(Wait::Certificate(format!(
                    "the certificate ends soon; waiting for a new one from {app}"
                )))
            }
            Some(_) => None,
            None => Some(Wait::Certificate(format!("waiting for a certificate from {app}"))),
        }
    }
}

/// The CAs that a client needs to verify a certificate: its roots, or all CAs if there is no root.
fn anchors(issued: &Issued) -> impl Iterator<Item = &crate::x509::Certificate> {
    let above = || issued.chain.0.iter().chain(&issued.ca.0);
    let has_root = above().any(|ca| ca.is_self_signed);
    above().filter(move |ca| ca.is_ca && (ca.is_self_signed || !has_root))
}

/// The digest of the DNS names. The address of a pod changes with every pod, and needs no new
/// certificate.
fn names_digest(names: &Names) -> String {
    digest(&names.dns.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
}

impl UnitStore {
    /// The plan that stores `new` in place of `old`.
    fn store(&self, old: &Stored, new: &Stored) -> Plan {
        let mut plan = Plan::default();
        match self {
            // The Python charm's texts differ in their last line break.
            Self::Bag | Self::Secret { adopt: None, .. } if old == new => {}
            Self::Bag => {
                for (key, value) in new.render_bag() {
                    plan.set(Bag::PeerUnit, key, value.map_or(Value::Absent, Value::Secret));
                }
            }
            Self::Secret { content, adopt } => {
                let ours = [old.render(), new.render()];
                let is_ours = |name: &String| ours.iter().any(|fields| fields.contains_key(name));
                let others = content.iter().filter(|(name, _)| !is_ours(name));
                let mut fields: BTreeMap<String, Secret> =
                    others.map(|(name, value)| (name.clone(), value.clone())).collect();
                fields.extend(new.render());
                plan.push(Effect::SetUnitSecret { content: fields, adopt: adopt.clone() });
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::certificates::tests::{
        INTERMEDIATE, LEAF, OTHER_LEAF, OTHER_ROOT, P256, P256_LEAF, RENEWED, ROOT, RSA, entry,
        issued, key, provider, request,
    };

    const NOW: u64 = 1_800_000_000;

    fn names() -> Names {
        Names::of_unit("pgb", 0, "shop", "cluster.local", Some([10, 1, 0, 7].into()))
    }

    fn no_secret() -> UnitStore {
        UnitStore::Secret { content: BTreeMap::new(), adopt: None }
    }

    /// The unit stores what it has seen.
    fn settled(seen: Seen) -> Seen {
        Seen { before: seen.stored.clone(), ..seen }
    }

    fn related(answers: Provider) -> Related {
        Related { relation: RelationId(5), app: "ca".into(), answers }
    }

    /// A unit that has requested a certificate, and what the provider answered.
    fn seen(answers: Provider) -> Seen {
        Seen {
            provider: Some(related(answers)),
            stored: Stored {
                key: Some(key(RSA)),
                request: Some(request(RSA, "an id")),
                ..Stored::default()
            },
            before: Stored::default(),
            is_of_python_charm: false,
            store: no_secret(),
            names: names(),
            now: NOW,
            demands_tls: false,
            note: CertificateNote { names: names_digest(&names()), ..CertificateNote::default() },
            known_cas: None,
            fresh_key: None,
            unique_id: "another id".into(),
        }
    }

    fn good() -> Issued {
        issued(LEAF, INTERMEDIATE, ROOT)
    }

    fn answers(issued: &Issued) -> Provider {
        provider(&[entry(&request(RSA, "an id"), issued, false)])
    }

    /// A unit that serves its certificate.
    fn serving() -> Seen {
        let mut seen = seen(answers(&good()));
        seen.stored.issued = Some(good());
        seen.note.renew_at = Some(NOW + 100);
        seen.known_cas = Some(good().cas());
        seen
    }

    /// What is stored after a plan, and the note.
    fn outcome(seen: &Seen) -> (Stored, CertificateNote, Vec<Wait>) {
        let plan = decide(seen);
        let stored = plan.effects().find_map(|effect| match effect {
            Effect::SetUnitSecret { content, .. } => Some(Stored::read(content)),
            _ => None,
        });
        let note = plan.effects().find_map(|effect| match effect {
            Effect::Note(Note::Certificate(note)) => Some(note.clone()),
            _ => None,
        });
        (stored.unwrap_or(seen.stored.clone()), note.expect("a note"), plan.waits)
    }

    #[test]
    fn a_new_unit_stores_its_key_before_it_publishes_the_request() {
        let new = Seen {
            stored: Stored::default(),
            note: CertificateNote::default(),
            fresh_key: Some(key(RSA)),
            ..seen(Provider::default())
        };
        let text = decide(&new).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "set the unit's secret: csr, key");
        assert!(lines[1].starts_with("set unit 5 certificate_signing_requests = "), "{text}");
        let (stored, note, waits) = outcome(&new);
        assert_eq!(stored.key, Some(key(RSA)));
        assert_eq!(stored.request.expect("a request").names, names());
        assert_eq!((note.relation, note.digest.as_str()), (Some(RelationId(5)), ""));
        assert_eq!(waits, [Wait::Certificate("waiting for a certificate from ca".into())]);
    }

    #[test]
    fn a_request_without_an_answer_stays_the_same() {
        let plan = decide(&settled(seen(Provider::default())));
        assert!(!plan.to_string().contains("secret"), "{plan}");
        assert_eq!(plan.to_string().matches("remove").count(), 1, "{plan}");
    }

    #[test]
    fn an_answer_serves_and_is_renewed_at_nine_tenths_of_the_rest() {
        let (stored, note, waits) = outcome(&seen(answers(&good())));
        assert_eq!(stored.issued, Some(good()));
        let rest = good().certificate.not_after - NOW;
        assert_eq!(note.renew_at, Some(NOW + rest / 10 * 9));
        assert_eq!(note.digest, digest(stored.identity().expect("it serves").reveal()));
        assert_eq!(waits, []);
        // Later hooks change nothing.
        let (stored, note, _) = outcome(&serving());
        assert_eq!((stored, note.renew_at), (serving().stored, Some(NOW + 100)));
        assert!(!decide(&settled(serving())).to_string().contains("secret"));
    }

    #[test]
    fn a_provider_whose_certificates_end_at_once_is_asked_again_only_after_a_while() {
        for (rest, next) in [(1, RENEWAL_MIN), (300, RENEWAL_MIN), (1000, 900)] {
            let now = good().certificate.not_after - rest;
            let (stored, note, _) = outcome(&Seen { now, ..seen(answers(&good())) });
            assert_eq!((stored.issued, note.renew_at), (Some(good()), Some(now + next)), "{rest}");
        }
    }

    #[test]
    fn at_the_time_of_renewal_a_new_request_replaces_the_old_one_and_the_certificate_serves_on() {
        let (stored, note, waits) = outcome(&Seen { now: NOW + 100, ..serving() });
        let request = stored.request.clone().expect("a request");
        assert_ne!(request, serving().stored.request.expect("a request"));
        assert_eq!(request.public_key, key(RSA).public_key());
        let late = good().certificate.late();
        assert_eq!(
            (stored.issued.clone(), note.renew_at, waits),
            (Some(good()), Some(late), vec![])
        );
        // The new certificate, of the same CA, serves at once.
        let renewed = issued(RENEWED, INTERMEDIATE, ROOT);
        let answers = provider(&[entry(&request, &renewed, false)]);
        let next = Seen { provider: Some(related(answers)), stored, note, ..serving() };
        let (stored, note, _) = outcome(&next);
        assert_eq!(stored.issued, Some(renewed));
        assert!(note.renew_at.is_some_and(|at| at > NOW));
    }

    #[test]
    fn a_renewal_without_an_answer_is_requested_once_more_and_then_shown() {
        let (stored, note, _) = outcome(&Seen { now: NOW + 100, ..serving() });
        let at = |now, stored: &Stored, note: &CertificateNote| {
            outcome(&Seen { now, stored: stored.clone(), note: note.clone(), ..serving() })
        };
        let late = good().certificate.late();
        let (same, same_note, waits) = at(late - 1, &stored, &note);
        assert_eq!((same.request, &same_note, waits), (stored.request.clone(), &note, vec![]));
        let repeats = Seen { unique_id: "a third id".into(), ..serving() };
        let repeats = Seen { now: late, stored: stored.clone(), note, ..repeats };
        let (repeated, note, waits) = outcome(&repeats);
        assert_ne!(repeated.request, stored.request);
        assert_eq!((repeated.issued.clone(), note.renew_at, waits.len()), (Some(good()), None, 1));
        let (end, _, waits) = at(good().certificate.not_after, &repeated, &note);
        assert_eq!(end.request, repeated.request);
        let shown = waits.iter().map(ToString::to_string).collect::<String>();
        assert_eq!(shown, "the certificate has expired; waiting for a new one from ca");
    }

    #[test]
    fn a_certificate_that_ended_before_the_first_hook_is_requested_anew() {
        let end = good().certificate.not_after;
        let mut late = Seen { now: end + 1, note: CertificateNote::default(), ..serving() };
        let (stored, note, waits) = outcome(&late);
        assert_eq!((stored.request, waits.len()), (serving().stored.request, 1));
        assert_eq!(note.renew_at, Some(end + 1 + RENEWAL_MIN));
        late = Seen { now: end + 1 + RENEWAL_MIN, note, ..late };
        let (stored, note, waits) = outcome(&late);
        assert_ne!(stored.request, serving().stored.request);
        assert_eq!((note.renew_at, waits.len()), (None, 1));
    }

    #[test]
    fn the_certificate_of_another_ca_serves_once_clients_know_the_ca() {
        let other = issued(OTHER_LEAF, "", OTHER_ROOT);
        let changed = Seen { provider: Some(related(answers(&other))), ..serving() };
        let (stored, _, waits) = outcome(&changed);
        assert_eq!(stored.issued, Some(good()));
        assert_eq!(waits.len(), 1, "{waits:?}");
        let bag = |seen: &Seen| {
            decide(seen).effects().find_map(|effect| match effect {
                Effect::Set(Bag::PeerUnit, key, Value::Text(text)) if key == TLS_CA => {
                    Some(text.clone())
                }
                _ => None,
            })
        };
        let both = format!("{INTERMEDIATE}{ROOT}{OTHER_ROOT}");
        assert_eq!(bag(&changed), Some(both.clone()));
        let known = Seen { known_cas: Bundle::parse(&both), ..changed };
        assert_eq!(outcome(&known).0.issued, Some(other.clone()));
        assert_eq!(bag(&known).as_deref(), Some(OTHER_ROOT));
        // Nobody waits for a CA, or the old certificate is about to end.
        for hurry in [
            Seen { known_cas: None, ..known },
            Seen {
                now: good().certificate.not_after - HURRY,
                provider: Some(related(answers(&other))),
                ..serving()
            },
        ] {
            let hurry = Seen { note: CertificateNote { renew_at: None, ..hurry.note }, ..hurry };
            assert_eq!(outcome(&hurry).0.issued, Some(other.clone()));
        }
    }

    #[test]
    fn an_expired_or_revoked_answer_does_not_serve_and_is_named() {
        let expired = Seen { now: good().certificate.not_after, ..seen(answers(&good())) };
        let (stored, _, waits) = outcome(&expired);
        assert_eq!(stored.issued, None);
        assert!(waits[0].to_string().contains("the certificate has expired"), "{waits:?}");
        let revoked = provider(&[entry(&request(RSA, "an id"), &good(), true)]);
        let (stored, _, waits) = outcome(&Seen { provider: Some(related(revoked)), ..serving() });
        assert_eq!(stored.issued, Some(good()));
        assert!(waits[0].to_string().contains("ca has revoked the certificate"), "{waits:?}");
        let late = Seen { now: good().certificate.not_after, ..serving() };
        let waits = outcome(&late).2;
        assert!(waits[0].to_string().contains("the certificate has expired"), "{waits:?}");
    }

    #[test]
    fn a_certificate_that_is_not_valid_yet_does_not_replace_a_valid_one() {
        let renewed = issued(RENEWED, INTERMEDIATE, ROOT);
        let begins = renewed.certificate.not_before;
        let at = |now| {
            let note = CertificateNote { renew_at: None, ..serving().note };
            outcome(&Seen { now, note, provider: Some(related(answers(&renewed))), ..serving() })
        };
        let (stored, _, waits) = at(begins - SKEW - 1);
        assert_eq!(stored.issued, Some(good()));
        assert!(waits[0].to_string().contains("becomes valid"), "{waits:?}");
        assert_eq!(at(begins - SKEW).0.issued, Some(renewed));
    }

    #[test]
    fn a_refusal_of_addresses_is_answered_by_a_request_without_them() {
        let refuse = |request: &Request, code: i64| {
            let errors = serde_json::json!([
                {"csr": request.pem, "error": {"code": code, "message": "no"}}
            ]);
            Provider::read(&[("request_errors".to_owned(), errors.to_string())].into())
        };
        let (stored, _, _) = outcome(&seen(refuse(&request(RSA, "an id"), 101)));
        let without = stored.request.clone().expect("a request");
        assert_eq!(without.names, names().without_ips());
        // A second refusal, and any other one, is an operator's matter.
        let seen_again = Seen { stored, ..seen(refuse(&without, 101)) };
        assert_eq!(outcome(&seen_again).2, [Wait::CertificateRefused("ca".into(), "no".into())]);
        let other = outcome(&seen(refuse(&request(RSA, "an id"), 102)));
        assert_eq!(other.2, [Wait::CertificateRefused("ca".into(), "no".into())]);
        assert_eq!(other.0.request, Some(request(RSA, "an id")));
    }

    #[test]
    fn other_names_need_another_request_and_another_address_does_not() {
        let mut renamed = serving();
        renamed.names.dns.insert("pgb.example.com".into());
        let request_of = |seen: &Seen| outcome(seen).0.request.expect("a request");
        assert!(request_of(&renamed).names.dns.contains("pgb.example.com"));
        let mut moved = serving();
        moved.names.ips = [[10, 1, 0, 8].into()].into();
        assert_eq!(request_of(&moved), request(RSA, "an id"));
        // What an earlier charm requested stays until its renewal, whatever its names are.
        let mut taken_over = renamed;
        taken_over.note = CertificateNote::default();
        assert_eq!(request_of(&taken_over), request(RSA, "an id"));
        assert!(outcome(&taken_over).1.renew_at.is_some());
    }

    #[test]
    fn a_new_key_serves_only_with_its_own_certificate() {
        let mut replaced = serving();
        replaced.stored.next_key = Some(key(P256));
        let (stored, note, _) = outcome(&replaced);
        assert_eq!((stored.key.clone(), stored.issued.clone()), (Some(key(RSA)), Some(good())));
        let request = stored.request.clone().expect("a request");
        assert_eq!(request.public_key, key(P256).public_key());
        let answers = provider(&[entry(&request, &issued(P256_LEAF, INTERMEDIATE, ROOT), false)]);
        let next = Seen { provider: Some(related(answers)), stored, note, ..replaced };
        let (stored, _, _) = outcome(&next);
        assert_eq!((stored.key, stored.next_key), (Some(key(P256)), None));
        assert_eq!(stored.issued, Some(issued(P256_LEAF, INTERMEDIATE, ROOT)));
    }

    #[test]
    fn a_unit_without_a_certificate_notes_only_that_an_earlier_charm_left_none() {
        for is_of_python_charm in [false, true] {
            let bare = Seen {
                provider: None,
                stored: Stored::default(),
                is_of_python_charm,
                ..seen(Provider::default())
            };
            assert_eq!(decide(&bare).to_string().contains("note"), is_of_python_charm);
        }
    }

    #[test]
    fn without_a_provider_the_key_stays_and_the_certificate_only_where_tls_is_demanded() {
        for (demands_tls, left) in [(false, None), (true, Some(good()))] {
            let alone = Seen { provider: None, demands_tls, ..serving() };
            let (stored, note, waits) = outcome(&alone);
            assert_eq!((stored.issued, stored.request), (left.clone(), None));
            assert_eq!(stored.key, Some(key(RSA)));
            assert_eq!((note.relation, note.digest.is_empty()), (None, left.is_none()));
            assert_eq!(waits, []);
        }
    }

    #[test]
    fn a_certificate_without_a_provider_is_named_once_it_has_expired() {
        let end = good().certificate.not_after;
        let at = |now| outcome(&Seen { provider: None, demands_tls: true, now, ..serving() });
        let (before, note, waits) = at(end - 1);
        assert_eq!((before.issued, note.renew_at, waits), (Some(good()), Some(end), vec![]));
        let (after, _, waits) = at(end);
        assert_eq!(after.issued, Some(good()));
        assert!(waits[0].to_string().ends_with("integrate certificates with a provider"));
    }

    #[test]
    fn other_fields_of_the_secret_and_an_older_secret_are_kept() {
        let content = BTreeMap::from([
            ("other".to_owned(), Secret::new("x")),
            ("cert".to_owned(), Secret::new("None")),
        ]);
        let adopt = Some("secret:old".to_owned());
        let old = Seen { store: UnitStore::Secret { content, adopt }, ..seen(answers(&good())) };
        assert_eq!(
            decide(&old).to_string().lines().next(),
            Some(
                "set the unit's secret: cauth, cert, chain, csr, key, other, adopting the old one"
            )
        );
        let bag = Seen { store: UnitStore::Bag, ..seen(answers(&good())) };
        let text = decide(&bag).to_string();
        assert!(!text.contains("secret") && text.contains("set peer unit cert = ‹"), "{text}");
    }
}

//! The facts about TLS certificates: what this unit stores, and what the provider answered.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::facts::{Texts, bounded};
use crate::peer_bag::DELETED;
use crate::secret::Secret;
use crate::x509::{Bundle, Certificate, PrivateKey, Request};

/// The fields of the peer unit secret, named as in the Python charm.
const KEY: &str = "key";
const REQUEST: &str = "csr";
const CERTIFICATE: &str = "cert";
const CHAIN: &str = "chain";
const CA: &str = "cauth";
/// Ours: the key of a request without an answer, while `key` still serves.
const NEXT_KEY: &str = "next-key";

/// The name of [`CA`] in the unit bag of a model without secrets.
const CA_IN_BAG: &str = "ca";

/// What this unit stores about its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The private key that serves, or that will serve.
    pub key: Option<PrivateKey>,
    /// The key of [`Self::request`], if another key still serves.
    pub next_key: Option<PrivateKey>,
    /// The last request.
    pub request: Option<Request>,
    /// The certificate of [`Self::key`], with its CAs.
    pub issued: Option<Issued>,
}

/// A certificate with the certificates above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// The chain, as the provider gave it.
    pub chain: Bundle,
    /// The CA, as the provider gave it.
    pub ca: Bundle,
}

/// Where this unit stores its key and certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitStore {
    /// A model without secrets: the unit's bag of the peer relation.
    Bag,
    /// A secret that this unit owns.
    Secret {
        /// All fields of the secret.
        content: BTreeMap<String, Secret>,
        /// The secret to relabel, if `content` comes from a secret without the current label.
        adopt: Option<String>,
    },
}

impl Stored {
    /// Parses the fields of the secret, or the keys of the unit bag. A malformed field counts as
    /// missing, and so does a certificate of another key.
    pub fn read(fields: &BTreeMap<String, Secret>) -> Self {
        let text = |name: &str| {
            let value = fields.get(name).map(Secret::reveal);
            value.filter(|value| *value != DELETED && bounded(value).is_ok())
        };
        let key = |name| text(name).and_then(|text| PrivateKey::parse(text).ok());
        let bundle = |name| text(name).and_then(Bundle::parse).unwrap_or_default();
        let serving = key(KEY);
        let public_key = serving.as_ref().map(PrivateKey::public_key);
        let certificate = text(CERTIFICATE).and_then(Certificate::parse);
        let issued = certificate
            .filter(|certificate| Some(&certificate.public_key) == public_key.as_ref())
            .map(|certificate| Issued { certificate, chain: bundle(CHAIN), ca: bundle(CA) });
        Self {
            key: serving,
            next_key: key(NEXT_KEY),
            request: text(REQUEST).and_then(Request::parse),
            issued,
        }
    }

    /// Parses the unit bag of a model without secrets.
    pub fn read_bag(bag: &Texts) -> Self {
        let names = [KEY, REQUEST, CERTIFICATE, CHAIN, CA_IN_BAG, NEXT_KEY];
        let fields = names.into_iter().filter_map(|name| {
            let field = if name == CA_IN_BAG { CA } else { name };
            Some((field.to_owned(), Secret::new(bag.get(name)?)))
        });
        Self::read(&fields.collect())
    }

    /// Whether a unit bag is of the Python charm, which may have left a certificate.
    pub fn may_be_in(bag: &Texts) -> bool {
        ["container_initialised", "internal-secret", KEY, REQUEST]
            .iter()
            .any(|key| bag.contains_key(*key))
    }

    /// The fields of the secret.
    pub fn render(&self) -> BTreeMap<String, Secret> {
        let mut fields = BTreeMap::new();
        let mut set = |name: &str, value: Option<Secret>| {
            fields.extend(
                value
                    .filter(|value| !value.reveal().is_empty())
                    .map(|value| (name.to_owned(), value)),
            );
        };
        let issued = self.issued.as_ref();
        let pem = |bundle: &Bundle| Secret::new(bundle.to_pem().trim_end());
        set(KEY, self.key.as_ref().map(PrivateKey::to_pem));
        set(NEXT_KEY, self.next_key.as_ref().map(PrivateKey::to_pem));
        set(REQUEST, self.request.as_ref().map(|request| Secret::new(&request.pem)));
        set(CERTIFICATE, issued.map(|issued| Secret::new(&issued.certificate.pem)));
        set(CHAIN, issued.map(|issued| pem(&issued.chain)));
        set(CA, issued.map(|issued| pem(&issued.ca)));
        fields
    }

    /// The keys of the unit bag in a model without secrets; `None` for a key to remove.
    pub fn render_bag(&self) -> Vec<(&'static str, Option<Secret>)> {
        let mut fields = self.render();
        [KEY, REQUEST, CERTIFICATE, CHAIN, NEXT_KEY]
            .into_iter()
            .map(|name| (name, name))
            .chain([(CA_IN_BAG, CA)])
            .map(|(key, field)| (key, fields.remove(field)))
            .collect()
    }

    /// The text of the file that serves clients: the key, the certificate and the intermediate
    /// certificates above it. `None` without a certificate.
    pub fn identity(&self) -> Option<Secret> {
        let (key, issued) = (self.key.as_ref()?.to_pem(), self.issued.as_ref()?);
        let mut served = Bundle(vec![issued.certificate.clone()]);
        let above = issued.chain.0.iter().chain(&issued.ca.0);
        served.extend(above.filter(|above| !above.is_self_signed).cloned());
        Some(Secret::new(format!("{}\n{}", key.reveal(), served.to_pem())))
    }

    /// The key with which a request is made.
    pub fn request_key(&self) -> Option<&PrivateKey> {
        self.next_key.as_ref().or(self.key.as_ref())
    }
}

impl Issued {
    /// Whether OpenSSL refuses a certificate of those that are served.
    fn is_weak(&self) -> bool {
        let mut above = self.chain.0.iter().chain(&self.ca.0).filter(|above| !above.is_self_signed);
        self.certificate.is_weak || above.any(|above| above.is_weak)
    }

    /// The CAs by which clients verify the certificate.
    pub fn cas(&self) -> Bundle {
        let mut cas = Bundle::default();
        let above = self.chain.0.iter().chain(&self.ca.0);
        cas.extend(above.filter(|above| **above != self.certificate).cloned());
        cas
    }
}

/// The answer of the provider to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The certificate; `None` if there is none that fits the request's key.
    pub issued: Option<Issued>,
    /// The provider has revoked the certificate.
    pub is_revoked: bool,
    /// There is a certificate with a signature or a key that OpenSSL refuses.
    pub is_weak: bool,
    /// Why the provider refuses the request.
    pub refusal: Option<Refusal>,
}

/// Why a provider refuses a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The provider refuses addresses in certificates.
    pub is_about_ips: bool,
    /// The provider's words.
    pub message: String,
}

/// The code of the error that a provider reports if it refuses addresses in certificates.
const IP_NOT_ALLOWED: i64 = 101;

#[derive(Deserialize)]
struct Entry {
    certificate_signing_request: String,
    certificate: String,
    ca: String,
    #[serde(default)]
    chain: Option<Vec<String>>,
    #[serde(default)]
    revoked: Option<bool>,
}

/// An error, with the request under the key that the library writes or the one that its
/// documentation names.
#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(alias = "certificate_signing_request")]
    csr: String,
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Capabilities {
    #[serde(default)]
    supports_ip_sans: Option<bool>,
}

/// The provider's app bag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provider {
    certificates: Vec<Wire>,
    refusals: Vec<(String, Refusal)>,
    /// The provider says that it signs no requests with addresses.
    pub refuses_ips: bool,
    /// The keys with malformed values.
    pub malformed: Vec<&'static str>,
}

/// A certificate as it is in the bag. It is parsed only if it is for us.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wire {
    request: String,
    certificate: String,
    ca: String,
    chain: Vec<String>,
    is_revoked: bool,
}

impl Provider {
    /// Parses the bag. A malformed value counts as missing.
    pub fn read(bag: &Texts) -> Self {
        let mut malformed = Vec::new();
        let entries: Vec<Entry> = list(bag, "certificates", &mut malformed);
        let errors: Vec<ErrorEntry> = list(bag, "request_errors", &mut malformed);
        let capabilities = bag.get("capabilities").map(|text| {
            let parsed = bounded(text).ok().and_then(|text| serde_json::from_str(text).ok());
            parsed.unwrap_or_else(|| {
                malformed.push("capabilities");
                Capabilities::default()
            })
        });
        let wire = |entry: Entry| Wire {
            request: entry.certificate_signing_request,
            certificate: entry.certificate,
            ca: entry.ca,
            chain: entry.chain.unwrap_or_default(),
            is_revoked: entry.revoked == Some(true),
        };
        let refusal = |entry: ErrorEntry| {
            let ErrorBody { code, message, reason } = entry.error;
            let message = match reason {
                Some(reason) if !reason.is_empty() && reason != message => {
                    format!("{message}: {reason}")
                }
                _ => message,
            };
            (entry.csr, Refusal { is_about_ips: code == IP_NOT_ALLOWED, message })
        };
        Self {
            certificates: entries.into_iter().map(wire).collect(),
            refusals: errors.into_iter().map(refusal).collect(),
            refuses_ips: capabilities.and_then(|found| found.supports_ip_sans) == Some(false),
            malformed,
        }
    }

    /// The answer to this request. Certificates of other keys do not count.
    pub fn answer(&self, request: &Request) -> Answer {
        let is_ours = |pem: &str| Request::parse(pem).is_some_and(|found| found.pem == request.pem);
        // A revoked certificate may be listed beside its successor.
        let ours = self.certificates.iter().filter(|wire| is_ours(&wire.request));
        let wire = ours.max_by_key(|wire| !wire.is_revoked);
        let issued = wire.and_then(|wire| {
            let certificate = Certificate::parse(&wire.certificate)?;
            // Old providers marked each certificate as one of a CA: only the key tells.
            let is_for_us = certificate.public_key == request.public_key;
            is_for_us.then(|| Issued {
                certificate,
                chain: Bundle::parse(&wire.chain.join("\n")).unwrap_or_default(),
                ca: Bundle::parse(&wire.ca).unwrap_or_default(),
            })
        });
        let refusal = self.refusals.iter().find(|(pem, _)| is_ours(pem));
        let is_weak = issued.as_ref().is_some_and(Issued::is_weak);
        Answer {
            issued: issued.filter(|_| !is_weak),
            is_weak,
            is_revoked: wire.is_some_and(|wire| wire.is_revoked),
            refusal: refusal.map(|(_, refusal)| refusal.clone()),
        }
    }
}

/// The entries of a JSON list. A malformed entry is left out, and the key is noted.
fn list<T: for<'a> Deserialize<'a>>(
    bag: &Texts,
    key: &'static str,
    malformed: &mut Vec<&'static str>,
) -> Vec<T> {
    let Some(text) = bag.get(key) else { return Vec::new() };
    let values: Option<Vec<serde_json::Value>> =
        bounded(text).ok().and_then(|text| serde_json::from_str(text).ok());
    let entries = values.as_ref().map(|values| {
        values.iter().filter_map(|value| T::deserialize(value).ok()).collect::<Vec<_>>()
    });
    if entries.as_ref().map(Vec::len) != values.as_ref().map(Vec::len) || values.is_none() {
        malformed.push(key);
    }
    entries.unwrap_or_default()
}

/// The CAs that a provider of `certificate_transfer` publishes: in its app bag (version 1), or in
/// the bag of one of its units (version 0). `None` if there are none or a value is malformed.
pub fn transferred(app: &Texts, units: &[&Texts]) -> Option<Bundle> {
    let list = |bag: &Texts, key: &str| -> Option<Vec<String>> {
        bag.get(key).and_then(|text| serde_json::from_str(bounded(text).ok()?).ok())
    };
    let one = |bag: &Texts| -> Option<Vec<String>> {
        let text = bag.get("ca")?;
        Some(vec![serde_json::from_str(text).unwrap_or_else(|_| text.clone())])
    };
    let of_unit = |bag: &&Texts| list(bag, "chain").or_else(|| one(bag));
    let texts = list(app, "certificates").or_else(|| units.iter().find_map(of_unit))?;
    let mut cas = Bundle::default();
    for text in texts {
        // One malformed certificate does not take the others along.
        cas.extend(Bundle::parse(&text).unwrap_or_default().0);
    }
    cas.0.retain(|certificate| certificate.is_ca || certificate.is_self_signed);
    cas.0.sort();
    Some(cas).filter(|cas| !cas.0.is_empty())
}

/// The requests in our unit bag of the relation, in the bytes that Canonical's library writes.
pub fn render_requests(request: Option<&Request>) -> Option<String> {
    let request = request?;
    let pem = serde_json::Value::from(request.pem.as_str());
    Some(format!(r#"[{{"certificate_signing_request": {pem}, "ca": false}}]"#))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::x509::Names;

    macro_rules! pem {
        ($name:literal) => {
            include_str!(concat!("../../tests/certificates/", $name))
        };
    }

    pub(crate) const RSA: &str = pem!("rsa.key");
    pub(crate) const P256: &str = pem!("p256.key");
    pub(crate) const ROOT: &str = pem!("root.pem");
    pub(crate) const INTERMEDIATE: &str = pem!("intermediate.pem");
    pub(crate) const LEAF: &str = pem!("leaf.pem");
    pub(crate) const RENEWED: &str = pem!("renewed.pem");
    pub(crate) const P256_LEAF: &str = pem!("p256-leaf.pem");
    pub(crate) const OTHER_ROOT: &str = pem!("other-root.pem");
    pub(crate) const OTHER_LEAF: &str = pem!("other-leaf.pem");

    pub(crate) fn key(pem: &str) -> PrivateKey {
        PrivateKey::parse(pem).expect("a key")
    }

    pub(crate) fn request(pem: &str, unique_id: &str) -> Request {
        let ip = Some([10, 1, 0, 7].into());
        let names = Names::of_unit("pgb", 0, "shop", "cluster.local", ip);
        Request::build(&key(pem), &names, unique_id).expect("a request")
    }

    pub(crate) fn issued(leaf: &str, intermediate: &str, root: &str) -> Issued {
        let bundle = |text: &str| Bundle::parse(text).expect("certificates");
        Issued {
            certificate: Certificate::parse(leaf).expect("a certificate"),
            chain: bundle(&format!("{leaf}{intermediate}{root}")),
            ca: bundle(root),
        }
    }

    /// The entry of a provider's bag.
    pub(crate) fn entry(request: &Request, issued: &Issued, revoked: bool) -> serde_json::Value {
        let chain: Vec<_> = issued.chain.0.iter().map(|found| found.pem.clone()).collect();
        serde_json::json!({
            "certificate_signing_request": request.pem.replace('\n', "\r\n"),
            "certificate": issued.certificate.pem,
            "ca": issued.ca.to_pem(),
            "chain": chain,
            "revoked": revoked,
        })
    }

    pub(crate) fn provider(entries: &[serde_json::Value]) -> Provider {
        let text = serde_json::Value::from(entries).to_string();
        Provider::read(&Texts::from([("certificates".into(), text)]))
    }

    fn stored() -> Stored {
        Stored {
            key: Some(key(RSA)),
            next_key: Some(key(P256)),
            request: Some(request(P256, "an id")),
            issued: Some(issued(LEAF, INTERMEDIATE, ROOT)),
        }
    }

    #[test]
    fn what_is_stored_survives_a_round_trip_through_secret_and_bag() {
        assert_eq!(Stored::read(&stored().render()), stored());
        let bag = stored().render_bag();
        assert!(bag.iter().all(|(_, value)| value.is_some()), "{bag:?}");
        let texts = bag
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.reveal().to_owned())));
        assert_eq!(Stored::read_bag(&texts.collect()), stored());
        assert_eq!(Stored::read(&BTreeMap::new()), Stored::default());
        assert!(Stored::default().render_bag().iter().all(|(_, value)| value.is_none()));
    }

    /// What a revision of the Python charm stored for a unit, in a secret or in its bag, with its
    /// requests and the provider's answer.
    #[derive(Deserialize)]
    struct Recording {
        layout: String,
        #[serde(default)]
        secret: BTreeMap<String, Secret>,
        #[serde(default)]
        bag: Texts,
        certificates: String,
        requests: String,
    }

    #[test]
    fn what_the_python_charm_stored_is_read_whole() {
        let trimmed = |(key, value): (&String, &str)| (key.clone(), value.trim_end().to_owned());
        let recordings: Vec<Recording> =
            serde_json::from_str(pem!("python-charm.json")).expect("recordings");
        assert_eq!(recordings.len(), 4);
        for Recording { layout, secret, bag, certificates, requests } in recordings {
            let (stored, written): (Stored, Texts) = if secret.is_empty() {
                let stored = Stored::read_bag(&bag);
                let fields = stored.render_bag().into_iter();
                let fields = fields.filter_map(|(key, value)| Some((key.to_owned(), value?)));
                let texts = fields.map(|(key, value)| trimmed((&key, value.reveal()))).collect();
                (stored, texts)
            } else {
                let stored = Stored::read(&secret);
                let fields = stored.render();
                (stored, fields.iter().map(|(key, value)| trimmed((key, value.reveal()))).collect())
            };
            let left = secret.iter().map(|(key, value)| trimmed((key, value.reveal())));
            let left = left.chain(bag.iter().map(|(key, value)| trimmed((key, value))));
            assert_eq!(written, left.collect::<Texts>(), "{layout}");
            // Its request, as the provider and the unit have it, is the one that is answered.
            let request = stored.request.clone().expect("a request");
            let rendered = render_requests(Some(&request)).expect("a request");
            // Old revisions leave out what today's providers need.
            let today = requests.replace(r#""}]"#, r#"", "ca": false}]"#);
            assert_eq!(rendered, today, "{layout}");
            let bag = Texts::from([("certificates".to_owned(), certificates)]);
            assert_eq!(Provider::read(&bag).answer(&request).issued, stored.issued, "{layout}");
            assert!(stored.issued.is_some(), "{layout}");
        }
    }

    #[test]
    fn a_certificate_of_another_key_and_deleted_fields_do_not_count() {
        let mut fields = stored().render();
        fields.insert("cert".into(), Secret::new(P256_LEAF));
        assert_eq!(Stored::read(&fields).issued, None);
        for name in ["key", "cert", "csr", "chain"] {
            fields.insert(name.into(), Secret::new("None"));
        }
        let left = Stored::read(&fields);
        assert_eq!((left.key, left.request, left.issued), (None, None, None));
    }

    #[test]
    fn the_served_file_has_the_key_the_certificate_and_the_intermediates_but_no_root() {
        let text = stored().identity().expect("an identity");
        assert_eq!(text.reveal(), format!("{RSA}{LEAF}{INTERMEDIATE}"));
        let cas = stored().issued.expect("a certificate").cas();
        assert_eq!(cas.to_pem(), format!("{INTERMEDIATE}{ROOT}"));
    }

    #[test]
    fn an_answer_is_found_by_request_and_key() {
        let ours = request(RSA, "an id");
        let good = issued(LEAF, INTERMEDIATE, ROOT);
        let answer = |entries: &[serde_json::Value]| provider(entries).answer(&ours).issued;
        assert_eq!(answer(&[entry(&ours, &good, false)]), Some(good.clone()));
        let bare: serde_json::Value = serde_json::json!({
            "certificate_signing_request": ours.pem, "certificate": LEAF, "ca": ROOT,
        });
        assert_eq!(answer(&[bare]).expect("it is there").certificate, good.certificate);
        // The request of another, a certificate of another key, a CA.
        assert_eq!(answer(&[entry(&request(RSA, "other"), &good, false)]), None);
        assert_eq!(answer(&[entry(&ours, &issued(P256_LEAF, INTERMEDIATE, ROOT), false)]), None);
        assert_eq!(answer(&[entry(&ours, &issued(ROOT, INTERMEDIATE, ROOT), false)]), None);
        assert!(provider(&[entry(&ours, &good, true)]).answer(&ours).is_revoked);
        // With a weak certificate PgBouncer would not start.
        for weak in [
            issued(pem!("sha1-leaf.pem"), INTERMEDIATE, ROOT),
            issued(LEAF, pem!("short-intermediate.pem"), ROOT),
        ] {
            let answer = provider(&[entry(&ours, &weak, false)]).answer(&ours);
            assert!(answer.is_weak && answer.issued.is_none());
        }
        // The successor of a revoked certificate counts, in whatever order they are listed.
        let (old, new) = (entry(&ours, &good, true), entry(&ours, &good, false));
        for both in [[old.clone(), new.clone()], [new, old]] {
            assert!(!provider(&both).answer(&ours).is_revoked);
        }
    }

    #[test]
    fn refusals_are_read_under_both_names_of_the_request() {
        let ours = request(RSA, "an id");
        for key in ["csr", "certificate_signing_request"] {
            let text = serde_json::json!([{key: ours.pem, "error": {
                "code": 101, "name": "ip_not_allowed", "message": "no IPs", "reason": "policy",
            }}]);
            let bag = Texts::from([
                ("request_errors".into(), text.to_string()),
                ("capabilities".into(), r#"{"supports_ip_sans": false}"#.into()),
            ]);
            let provider = Provider::read(&bag);
            assert!(provider.refuses_ips && provider.malformed.is_empty());
            let refusal = Refusal { is_about_ips: true, message: "no IPs: policy".into() };
            assert_eq!(provider.answer(&ours).refusal, Some(refusal));
        }
    }

    #[test]
    fn malformed_values_are_named_and_spare_the_others() {
        let ours = request(RSA, "an id");
        let good = entry(&ours, &issued(LEAF, INTERMEDIATE, ROOT), false);
        for text in ["", "nonsense", "{}", "[1]", r#"[{"ca": 1}]"#] {
            let provider = Provider::read(&Texts::from([
                ("certificates".into(), text.into()),
                ("capabilities".into(), text.into()),
            ]));
            let is_object = text == "{}";
            assert_eq!(provider.malformed.contains(&"capabilities"), !is_object, "{text}");
            assert!(provider.malformed.contains(&"certificates"), "{text}");
        }
        let mixed = provider(&[serde_json::json!({"ca": 1}), good]);
        assert!(mixed.answer(&ours).issued.is_some());
        assert_eq!(mixed.malformed, ["certificates"]);
    }

    #[test]
    fn transferred_cas_are_read_in_both_versions() {
        let bag = |key: &str, text: String| Texts::from([(key.to_owned(), text)]);
        let list = serde_json::json!([ROOT, INTERMEDIATE, LEAF]).to_string();
        let both = Bundle::parse(&format!("{INTERMEDIATE}{ROOT}")).expect("certificates");
        let sorted = |mut bundle: Bundle| {
            bundle.0.sort();
            Some(bundle)
        };
        assert_eq!(transferred(&bag("certificates", list.clone()), &[]), sorted(both.clone()));
        assert_eq!(transferred(&Texts::new(), &[&bag("chain", list)]), sorted(both));
        let quoted = serde_json::Value::from(ROOT).to_string();
        for text in [quoted, ROOT.to_owned()] {
            let found = transferred(&Texts::new(), &[&bag("ca", text)]).expect("a CA");
            assert!(found.has_root());
        }
        for text in ["", "{}", r#"["x"]"#, "[1]"] {
            let found = transferred(&bag("certificates", text.into()), &[]);
            assert!(found.is_none(), "{text}");
        }
    }
}

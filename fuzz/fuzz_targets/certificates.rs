//! Any bag of a provider of certificates can be read, and has an answer to any request. An answered
//! certificate has the key of its request. What a unit stores of it is read back.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pgbouncer_k8s::facts::certificates::{Issued, Provider, Stored, transferred};
use pgbouncer_k8s::x509::{Names, PrivateKey, Request};

const KEY: &str = include_str!("../../tests/certificates/p256.key");
const LEAF: &str = include_str!("../../tests/certificates/p256-leaf.pem");
const ROOT: &str = include_str!("../../tests/certificates/root.pem");

static OURS: LazyLock<Request> = LazyLock::new(|| {
    let key = PrivateKey::parse(KEY).expect("a key");
    let names = Names::of_unit("pgb", 0, "shop", "cluster.local", None);
    Request::build(&key, &names, "an id").expect("a request")
});

/// Short words for what no fuzzer finds by chance.
fn with_pem(text: &str) -> String {
    let pem = |pem: &str| pem.trim().replace('\n', "\\n");
    text.replace("%r", &pem(&OURS.pem)).replace("%l", &pem(LEAF)).replace("%c", &pem(ROOT))
}

fuzz_target!(|texts: (&str, &str, &str)| {
    let (certificates, errors, capabilities) = texts;
    let bag = BTreeMap::from([
        ("certificates".to_owned(), with_pem(certificates)),
        ("request_errors".to_owned(), with_pem(errors)),
        ("capabilities".to_owned(), with_pem(capabilities)),
    ]);
    let _ = transferred(&bag, &[&bag]);
    if let Some(issued) = Provider::read(&bag).answer(&OURS).issued {
        assert_eq!(issued.certificate.public_key, OURS.public_key);
        let Issued { certificate, .. } = &issued;
        assert!(certificate.pem.starts_with("-----BEGIN CERTIFICATE-----\n"));
        let key = PrivateKey::parse(KEY).ok();
        let request = Some(OURS.clone());
        let stored = Stored { key, request, issued: Some(issued), next_key: None };
        assert_eq!(Stored::read(&stored.render()), stored);
    }
});

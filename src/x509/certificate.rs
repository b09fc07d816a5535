//! Certificates (RFC 5280).

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{Decode as _, Encode as _, oid::ObjectIdentifier};
use x509_cert::ext::pkix::BasicConstraints;

use super::pem::to_pem;

/// The longest text of a list of certificates, in bytes.
const LONGEST: usize = 65_536;

/// The most certificates in a list.
const MOST: usize = 32;

/// A certificate. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Certificate {
    /// The certificate as PEM, without a line break at its end.
    pub pem: String,
    /// The bits of the public key.
    pub public_key: Vec<u8>,
    /// The first second of its validity.
    pub not_before: u64,
    /// The last second of its validity.
    pub not_after: u64,
    /// It may sign other certificates.
    pub is_ca: bool,
    /// Its issuer is its subject, as in a root.
    pub is_self_signed: bool,
    /// OpenSSL refuses it as a part of a chain: it is signed with SHA-1 or MD5, or its RSA key has
    /// less than 2048 bits (openssl, `SSL_CTX_set_security_level`, level 2 of Debian and Ubuntu).
    pub is_weak: bool,
}

/// The algorithms of signatures that OpenSSL refuses: RSA with MD5 or SHA-1, ECDSA with SHA-1.
const WEAK_SIGNATURES: [ObjectIdentifier; 3] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),
];

/// The algorithm of RSA keys (RFC 3279).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// The length of the modulus of an RSA key with 2048 bits, in bytes.
const MODULUS_MIN: usize = 256;

/// Certificates in the order of their list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle(pub Vec<Certificate>);

impl Certificate {
    /// Parses the first certificate of a text.
    pub fn parse(pem: &str) -> Option<Self> {
        Bundle::parse(pem)?.0.into_iter().next()
    }

    /// The beginning of the last twentieth of its validity, by when a new certificate should serve.
    pub fn late(&self) -> u64 {
        self.not_after - self.not_after.saturating_sub(self.not_before) / 20
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        // Providers issue serial numbers that RFC 5280 does not permit.
        let certificate = CertificateInner::<Raw>::from_der(der).ok()?;
        let tbs = certificate.tbs_certificate();
        let constraints = tbs.get_extension::<BasicConstraints>().ok()?;
        let key = tbs.subject_public_key_info();
        let is_short =
            key.algorithm.oid == RSA && key.subject_public_key.raw_bytes().len() < MODULUS_MIN;
        let is_self_signed = tbs.issuer() == tbs.subject();
        let has_weak_signature = WEAK_SIGNATURES.contains(&certificate.signature_algorithm().oid);
        Some(Self {
            pem: to_pem("CERTIFICATE", der),
            public_key: key.subject_public_key.to_der().ok()?,
            not_before: tbs.validity().not_before.to_unix_duration().as_secs(),
            not_after: tbs.validity().not_after.to_unix_duration().as_secs(),
            is_ca: constraints.is_some_and(|(_, constraints)| constraints.ca),
            is_self_signed,
            is_weak: is_short || has_weak_signature && !is_self_signed,
        })
    }
}

impl Bundle {
    /// Parses all certificates of a text; `None` if the text is too long or a certificate is
    /// malformed. Other text, also a private key, is skipped.
    pub fn parse(pem: &str) -> Option<Self> {
        if pem.len() > LONGEST {
            return None;
        }
        let found: Option<Vec<_>> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .take(MOST + 1)
            .map(|der| Certificate::from_der(&der.ok()?))
            .collect();
        found.filter(|found| found.len() <= MOST).map(Self)
    }

    /// The certificates as PEM, one after another, with a line break at the end.
    pub fn to_pem(&self) -> String {
        self.0.iter().flat_map(|certificate| [certificate.pem.as_str(), "\n"]).collect()
    }

    /// Adds certificates that are not in the list yet.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Certificate>) {
        for certificate in others {
            if !self.0.contains(&certificate) {
                self.0.push(certificate);
            }
        }
    }

    /// Whether the list has a root. OpenSSL, and so PgBouncer, trusts no other certificate.
    pub fn has_root(&self) -> bool {
        self.0.iter().any(|certificate| certificate.is_self_signed)
    }
}

/// The first 16 hexadecimal digits of the SHA-256 digest of a text.
pub fn digest(text: &str) -> String {
    crate::pgbouncer::hex(&Sha256::digest(text))[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::key::PrivateKey;
    use super::super::key::tests::{P256, RSA};
    use super::*;

    macro_rules! certificate {
        ($name:literal) => {
            include_str!(concat!("../../tests/certificates/", $name, ".pem"))
        };
    }

    const ROOT: &str = certificate!("root");
    const INTERMEDIATE: &str = certificate!("intermediate");
    const LEAF: &str = certificate!("leaf");

    #[test]
    fn a_certificate_tells_its_key_its_validity_and_its_place_in_the_chain() {
        let parse = |text| Certificate::parse(text).expect("a certificate");
        let leaf = parse(LEAF);
        assert_eq!(leaf.pem, LEAF.trim());
        assert_eq!(leaf.public_key, PrivateKey::parse(RSA).expect("a key").public_key());
        assert_ne!(leaf.public_key, PrivateKey::parse(P256).expect("a key").public_key());
        assert_eq!((leaf.not_before, leaf.not_after), (1_796_072_805, 4_949_672_805));
        let place = |text| (parse(text).is_ca, parse(text).is_self_signed);
        assert_eq!(place(LEAF), (false, false));
        assert_eq!(place(INTERMEDIATE), (true, false));
        assert_eq!(place(ROOT), (true, true));
        let is_weak = |text| parse(text).is_weak;
        assert!(![LEAF, INTERMEDIATE, ROOT].into_iter().any(is_weak));
        let weak = [certificate!("sha1-leaf"), certificate!("short-intermediate")];
        assert!(weak.into_iter().all(is_weak));
    }

    #[test]
    fn a_bundle_keeps_its_order_and_skips_other_text() {
        let text = format!("a comment\n{RSA}{LEAF}\n{INTERMEDIATE}{ROOT}");
        let bundle = Bundle::parse(&text).expect("certificates");
        assert_eq!(bundle.to_pem(), format!("{LEAF}{INTERMEDIATE}{ROOT}"));
        assert!(bundle.has_root());
        let mut twice = bundle.clone();
        twice.extend(bundle.0.clone());
        assert_eq!(twice, bundle);
        assert!(!Bundle::parse(INTERMEDIATE).expect("certificates").has_root());
        assert_eq!(Bundle::parse(""), Some(Bundle::default()));
    }

    #[test]
    fn a_malformed_or_too_long_bundle_is_none() {
        let broken = LEAF.replacen("MII", "MIJ", 1);
        assert_eq!(Bundle::parse(&format!("{ROOT}{broken}")), None);
        assert_eq!(Bundle::parse(&ROOT.repeat(MOST + 1)), None);
        assert_eq!(Bundle::parse(&" ".repeat(LONGEST + 1)), None);
        assert_eq!(Certificate::parse("no certificate"), None);
    }
}

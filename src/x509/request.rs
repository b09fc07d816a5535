//! Certificate signing requests (RFC 2986).

use std::net::IpAddr;
use std::str::FromStr as _;

use p256::ecdsa::DerSignature;
use rsa::pkcs1v15;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::Sha256;
use thiserror::Error;
use x509_cert::builder::{Builder as _, RequestBuilder};
use x509_cert::der::{Decode as _, Encode as _, asn1::Ia5String, oid::AssociatedOid as _};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, ExtensionReq};

use super::key::PrivateKey;
use super::names::Names;
use super::pem::to_pem;

/// The longest text of a request, in bytes.
const LONGEST: usize = 32_768;

/// A certificate signing request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The request as PEM in the form in which providers compare requests.
    pub pem: String,
    /// The names in the request.
    pub names: Names,
    /// The bits of the public key.
    pub public_key: Vec<u8>,
}

/// The names cannot be written into a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the names of this unit cannot be written into a certificate signing request")]
pub struct Unwritable;

impl Request {
    /// Builds and signs a request. With an equal `unique_id`, an RSA key gives equal bytes: without
    /// a fresh one, a provider would take the request for one that it has answered already.
    pub fn build(key: &PrivateKey, names: &Names, unique_id: &str) -> Result<Self, Unwritable> {
        let der = encode(key, names, unique_id).ok_or(Unwritable)?;
        Self::from_der(&der).ok_or(Unwritable)
    }

    /// Parses a request in PEM; `None` for a malformed one.
    pub fn parse(pem: &str) -> Option<Self> {
        if pem.len() > LONGEST {
            return None;
        }
        Self::from_der(&CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).ok()?)
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let request = CertReq::from_der(der).ok()?;
        let mut names = Names {
            common_name: request
                .info
                .subject
                .common_name()
                .ok()
                .flatten()
                .map(|n| n.value().into()),
            ..Names::default()
        };
        let attributes = request.info.attributes.iter();
        let requested = attributes.filter(|attribute| attribute.oid == ExtensionReq::OID);
        let extensions = requested
            .flat_map(|attribute| attribute.values.iter())
            .filter_map(|value| value.decode_as::<Vec<Extension>>().ok())
            .flatten();
        for extension in extensions.filter(|extension| extension.extn_id == SubjectAltName::OID) {
            let Ok(SubjectAltName(general)) =
                SubjectAltName::from_der(extension.extn_value.as_bytes())
            else {
                continue;
            };
            for name in general {
                match name {
                    GeneralName::DnsName(name) => {
                        names.dns.insert(name.to_string());
                    }
                    GeneralName::IpAddress(bytes) => names.ips.extend(address(bytes.as_bytes())),
                    _ => {}
                }
            }
        }
        let key = &request.info.public_key.subject_public_key;
        Some(Self {
            pem: to_pem("CERTIFICATE REQUEST", der),
            names,
            public_key: key.to_der().ok()?,
        })
    }
}

fn encode(key: &PrivateKey, names: &Names, unique_id: &str) -> Option<Vec<u8>> {
    // RFC 4514 lists the attributes from the last one to the first.
    let subject = match &names.common_name {
        Some(name) => format!("2.5.4.45={unique_id},CN={name}"),
        None => format!("2.5.4.45={unique_id}"),
    };
    let mut builder = RequestBuilder::new(Name::from_str(&subject).ok()?).ok()?;
    let dns = names.dns.iter().map(|name| Ia5String::new(name).map(GeneralName::DnsName));
    let mut general: Vec<_> = dns.collect::<Result<_, _>>().ok()?;
    general.extend(names.ips.iter().map(|ip| GeneralName::from(*ip)));
    builder.add_extension(&SubjectAltName(general)).ok()?;
    let request = match key {
        PrivateKey::Rsa(key) => {
            let signer = pkcs1v15::SigningKey::<Sha256>::new((**key).clone());
            builder.build::<_, pkcs1v15::Signature>(&signer)
        }
        PrivateKey::P256(key) => {
            builder.build::<_, DerSignature>(&p256::ecdsa::SigningKey::from(key))
        }
    };
    request.ok()?.to_der().ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::{P256, RSA};
    use super::*;

    fn names() -> Names {
        Names::of_unit("pgb", 0, "shop", "cluster.local", Some(IpAddr::from([10, 1, 0, 7])))
    }

    fn key(pem: &str) -> PrivateKey {
        PrivateKey::parse(pem).expect("a key")
    }

    #[test]
    fn a_request_has_its_names_and_key_and_survives_a_round_trip() {
        for pem in [RSA, P256] {
            let key = key(pem);
            let request = Request::build(&key, &names(), "an id").expect("a request");
            assert_eq!((&request.names, &request.public_key), (&names(), &key.public_key()));
            assert_eq!(Request::parse(&request.pem), Some(request.clone()));
            let spaced = format!("\r\n{}\r\n\r\n", request.pem.replace('\n', "\r\n"));
            assert_eq!(Request::parse(&spaced), Some(request));
        }
    }

    #[test]
    fn only_another_id_gives_another_request_for_the_same_names() {
        let build = |id| Request::build(&key(RSA), &names(), id).expect("a request").pem;
        assert_eq!(build("one"), build("one"));
        assert_ne!(build("one"), build("two"));
    }

    #[test]
    fn a_malformed_request_is_none() {
        let pem = Request::build(&key(P256), &names(), "an id").expect("a request").pem;
        let cut = pem.replacen("MII", "MIJ", 1);
        for text in ["", "x", P256, cut.as_str(), "-----BEGIN CERTIFICATE REQUEST-----"] {
            assert_eq!(Request::parse(text), None, "{text}");
        }
        assert_eq!(Request::parse(&format!("{pem}{}", " ".repeat(LONGEST))), None);
    }
}

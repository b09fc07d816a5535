//! Private keys: RSA, and ECDSA on P-256.

use base64::Engine as _;
use p256::pkcs8::DecodePrivateKey as _;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _};
use rsa::traits::PublicKeyParts as _;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use thiserror::Error;
use x509_cert::der::Encode as _;
use x509_cert::spki::{EncodePublicKey as _, SubjectPublicKeyInfoRef};

use super::pem::to_pem;
use crate::secret::Secret;

/// The longest text of a key, in bytes. An RSA key of 4096 bits takes 3.3 kB.
const LONGEST: usize = 16_384;

/// The bits of a key that the charm generates. Vault's default role signs only RSA.
const BITS: usize = 2048;

/// The most bits of an RSA key. Providers accept no more.
const BITS_MAX: usize = 4096;

/// A private key. `Debug` shows only its kind.
#[derive(Clone, PartialEq, Eq)]
pub enum PrivateKey {
    /// RSA with 2048 to 4096 bits.
    Rsa(Box<rsa::PrivateKey>),
    /// ECDSA on the curve P-256.
    P256(p256::SecretKey),
}

/// Why a text is not a private key. Never holds a part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The text has no PEM, also not in base64.
    #[error("it is neither a private key in PEM nor base64 of one")]
    NotPem,
    /// The key is encrypted.
    #[error("it is encrypted; decrypt it first, for example with openssl pkey")]
    Encrypted,
    /// The kind of key is not supported.
    #[error("it is of another kind; use RSA with 2048 to 4096 bits, or ECDSA on P-256")]
    Kind,
    /// The numbers of the key do not fit each other.
    #[error("its numbers are inconsistent")]
    Broken,
}

impl PrivateKey {
    /// Generates an RSA key. It takes a few tenths of a second.
    pub fn generate(rng: &mut impl rsa::rand_core::CryptoRng) -> Result<Self, KeyError> {
        let key = rsa::PrivateKey::new(rng, BITS).map_err(|_| KeyError::Broken)?;
        Ok(Self::Rsa(Box::new(key)))
    }

    /// Parses PEM (PKCS #1, PKCS #8 or SEC 1), or base64 of it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(KeyError::NotPem);
        }
        if text.contains("-----BEGIN") {
            return Self::from_pem(text);
        }
        let compact: String = text.split_whitespace().collect();
        let decoded = base64::engine::general_purpose::STANDARD.decode(compact);
        let pem = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Self::from_pem(pem.ok_or(KeyError::NotPem)?.trim())
    }

    fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.contains("ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
            Ok(key) => key,
            Err(PemError::NoItemsFound) if pem.contains("-----BEGIN") => {
                return Err(KeyError::Kind);
            }
            Err(_) => return Err(KeyError::NotPem),
        };
        let (rsa, p256) = match &key {
            PrivateKeyDer::Pkcs1(der) => {
                (rsa::PrivateKey::from_pkcs1_der(der.secret_pkcs1_der()).ok(), None)
            }
            PrivateKeyDer::Sec1(der) => {
                (None, p256::SecretKey::from_sec1_der(der.secret_sec1_der()).ok())
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let rsa = rsa::PrivateKey::from_pkcs8_der(der).ok();
                (rsa, p256::SecretKey::from_pkcs8_der(der).ok())
            }
            _ => (None, None),
        };
        match (rsa, p256) {
            (Some(key), _) if (BITS..=BITS_MAX).contains(&bits(&key)) => {
                key.validate().map_err(|_| KeyError::Broken)?;
                Ok(Self::Rsa(Box::new(key)))
            }
            (None, Some(key)) => Ok(Self::P256(key)),
            _ => Err(KeyError::Kind),
        }
    }

    /// The key as PEM in the traditional form (PKCS #1 or SEC 1), as the Python charm stores it.
    pub fn to_pem(&self) -> Secret {
        let (label, der) = match self {
            Self::Rsa(key) => {
                ("RSA PRIVATE KEY", key.to_pkcs1_der().map(|der| der.as_bytes().to_vec()).ok())
            }
            Self::P256(key) => ("EC PRIVATE KEY", key.to_sec1_der().map(|der| der.to_vec()).ok()),
        };
        Secret::new(to_pem(label, &der.unwrap_or_default()))
    }

    /// The public key, as certificates contain it: the bits of its `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> Vec<u8> {
        let document = match self {
            Self::Rsa(key) => key.to_public_key().to_public_key_der(),
            Self::P256(key) => key.public_key().to_public_key_der(),
        };
        let info = document.ok().and_then(|der| {
            Some(
                SubjectPublicKeyInfoRef::try_from(der.as_bytes()).ok()?.subject_public_key.to_der(),
            )
        });
        info.and_then(Result::ok).unwrap_or_default()
    }
}

fn bits(key: &rsa::PrivateKey) -> usize {
    key.n_bytes().len() * 8
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa(_) => "an RSA key",
            Self::P256(_) => "a P-256 key",
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    macro_rules! key {
        ($name:literal) => {
            include_str!(concat!("../../tests/certificates/", $name, ".key"))
        };
    }

    pub(in super::super) const RSA: &str = key!("rsa");
    pub(in super::super) const P256: &str = key!("p256");

    fn base64(text: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(text)
    }

    #[test]
    fn a_key_is_read_in_every_form_and_stored_in_the_traditional_one() {
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----";
        for (text, stored) in [
            (RSA, RSA),
            (key!("rsa-pkcs8"), RSA),
            (P256, P256),
            (key!("p256-pkcs8"), P256),
            (base64(RSA).as_str(), RSA),
            (format!("\n{}\n", base64(P256)).as_str(), P256),
            (format!("{parameters}\n{P256}").as_str(), P256),
        ] {
            let key = PrivateKey::parse(text).expect("a key");
            assert_eq!(key.to_pem().reveal(), stored.trim());
            assert!(key.public_key().len() > 60);
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_is_refused_with_the_reason() {
        for (text, error) in [
            ("", KeyError::NotPem),
            ("nonsense", KeyError::NotPem),
            (base64("nonsense").as_str(), KeyError::NotPem),
            (&RSA[..400], KeyError::NotPem),
            (key!("encrypted"), KeyError::Encrypted),
            (key!("short"), KeyError::Kind),
            (key!("p384"), KeyError::Kind),
            (key!("ed25519"), KeyError::Kind),
            (include_str!("../../tests/certificates/leaf.pem"), KeyError::Kind),
            (format!("{RSA}{}", " x".repeat(LONGEST)).as_str(), KeyError::NotPem),
        ] {
            assert_eq!(PrivateKey::parse(text), Err(error), "{}", &text[..text.len().min(40)]);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a private key is made of random numbers")]
    fn a_generated_key_can_be_stored_and_is_shown_without_its_numbers() {
        let key = PrivateKey::generate(&mut rand::rng()).expect("a key");
        assert_eq!(PrivateKey::parse(key.to_pem().reveal()), Ok(key.clone()));
        assert_eq!(format!("{key:?}"), "an RSA key");
    }
}

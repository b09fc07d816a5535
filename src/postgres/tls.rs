//! TLS to a server, as in libpq's `sslmode`.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::ConnectionError;
use crate::pgbouncer::SslMode;

/// How much TLS the charm demands of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsDemand {
    /// The mode. `allow` is the same as `prefer` here.
    pub mode: SslMode,
    /// The CAs in PEM by which a mode that verifies checks the server.
    pub ca: String,
}

impl Default for TlsDemand {
    /// TLS if the server has it. It protects against eavesdropping and nothing more: an attacker
    /// who can answer in place of the server can also answer that there is no TLS.
    fn default() -> Self {
        Self { mode: SslMode::Prefer, ca: String::new() }
    }
}

/// Makes connections with TLS that meet the demand.
pub(super) fn connector(demand: &TlsDemand) -> Result<MakeRustlsConnect, ConnectionError> {
    if !demand.mode.verifies() {
        return Ok(MakeRustlsConnect::new(unverified(true)));
    }
    let provider = Arc::new(ring::default_provider());
    let chain = chain_verifier(&demand.ca, &provider)?;
    let verifier: Arc<dyn ServerCertVerifier> =
        if demand.mode == SslMode::VerifyFull { chain } else { Arc::new(AnyName(chain)) };
    Ok(MakeRustlsConnect::new(config(provider, verifier)))
}

/// TLS with any certificate; without `proves_key` also with one that only OpenSSL can use, such as
/// one of X.509 version 1.
pub fn unverified(proves_key: bool) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    config(provider, Arc::new(Unchecked { algorithms, proves_key }))
}

fn config(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for every version of TLS")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

fn chain_verifier(
    ca: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, ConnectionError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(
        CertificateDer::pem_slice_iter(ca.as_bytes()).filter_map(Result::ok),
    );
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|_| ConnectionError::Certificate("no CA is known by which to check it"))
}

/// What is wrong with a certificate, in words.
pub(super) fn reason(error: &rustls::Error) -> Option<&'static str> {
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet"
        }
        CertificateError::UnknownIssuer => "it is not of the known CA",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for other names"
        }
        CertificateError::Revoked => "it is revoked",
        _ => "it is malformed or not for a server",
    })
}

/// Accepts any certificate. With `proves_key`, checks that the server has its key: the proof of the
/// password includes the certificate (channel binding of SCRAM), which proves nothing if another
/// server can present it.
#[derive(Debug)]
struct Unchecked {
    algorithms: WebPkiSupportedAlgorithms,
    proves_key: bool,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.proves_key {
            return Ok(HandshakeSignatureValid::assertion());
        }
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.proves_key {
            return Ok(HandshakeSignatureValid::assertion());
        }
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts a certificate of a known CA for any name (`verify-ca`). The name is checked last, so a
/// certificate with another name has passed all other checks.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

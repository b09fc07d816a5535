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
    let provider = Arc::new(ring::default_provider());
    let checks = if demand.mode.verifies() {
        let verifier = chain_verifier(&demand.ca, &provider)?;
        Checks::Chain { verifier, name: demand.mode == SslMode::VerifyFull }
    } else {
        Checks::Key
    };
    Ok(MakeRustlsConnect::new(config(provider, checks)))
}

/// TLS with any certificate, also with one that only OpenSSL can use, such as one of X.509 version
/// 1, and without a proof of its key.
pub fn unverified() -> ClientConfig {
    config(Arc::new(ring::default_provider()), Checks::Nothing)
}

/// TLS with a server whose certificate is for its name and of one of these CAs, in PEM.
pub fn verified(ca: &str) -> Result<ClientConfig, ConnectionError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = chain_verifier(ca, &provider)?;
    Ok(config(provider, Checks::Chain { verifier, name: true }))
}

fn config(provider: Arc<CryptoProvider>, checks: Checks) -> ClientConfig {
    let algorithms = provider.signature_verification_algorithms;
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for every version of TLS")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { algorithms, checks }))
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

/// What a server's certificate must show.
#[derive(Debug)]
enum Checks {
    /// Nothing.
    Nothing,
    /// That the server has its key: the proof of the password includes the certificate (channel
    /// binding of SCRAM), which proves nothing if another server can present it.
    Key,
    /// Also that a known CA has signed it, for the name of the host (`verify-full`) or, without
    /// `name`, for any (`verify-ca`).
    Chain { verifier: Arc<WebPkiServerVerifier>, name: bool },
}

/// Checks a server's certificate.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    checks: Checks,
}

impl Verifier {
    fn signature(
        &self,
        check: impl FnOnce(&WebPkiSupportedAlgorithms) -> Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.checks {
            Checks::Nothing => Ok(HandshakeSignatureValid::assertion()),
            Checks::Key | Checks::Chain { .. } => check(&self.algorithms),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Checks::Chain { verifier, name } = &self.checks else {
            return Ok(ServerCertVerified::assertion());
        };
        match verifier.verify_server_cert(certificate, intermediates, host, ocsp, now) {
            // The name is checked last, so this certificate has passed all other checks.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !name => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(|all| crypto::verify_tls12_signature(message, certificate, signed, all))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(|all| crypto::verify_tls13_signature(message, certificate, signed, all))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

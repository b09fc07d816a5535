//! TLS of the simulator's own clients, as `sslmode=prefer` of libpq: encrypted where the server
//! offers it, and nothing is verified.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// For `postgres::Config::connect`.
pub(crate) fn prefer() -> MakeRustlsConnect {
    let provider = Arc::new(ring::default_provider());
    let unchecked = Unchecked(provider.signature_verification_algorithms);
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    #[expect(clippy::expect_used, reason = "ring has ciphers for both versions")]
    let builder = builder.expect("ciphers");
    let verifier = Arc::new(unchecked);
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    MakeRustlsConnect::new(builder.with_no_client_auth())
}

/// Accepts any certificate, and any proof of its key.
#[derive(Debug)]
struct Unchecked(WebPkiSupportedAlgorithms);

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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

//! A connection that speaks PostgreSQL's protocol and answers in bounded time.

#![expect(clippy::disallowed_methods, reason = "the one place that speaks PostgreSQL's protocol")]

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{runtime::Runtime, time::timeout};
use tokio_postgres::{Client, Config, Row, SimpleQueryMessage, SimpleQueryRow, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::ConnectionError;

/// One open connection, with the small runtime that drives it.
pub(crate) struct Connection {
    client: Client,
    runtime: Runtime,
}

impl Connection {
    /// Connects and logs in. Unless the configuration says otherwise, over TLS where the server offers it.
    pub(crate) fn open(config: &Config, limit: Duration) -> Result<Self, ConnectionError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connecting = async { timeout(limit, config.connect(tls())).await };
        let (client, connection) =
            runtime.block_on(connecting).map_err(|_| ConnectionError::Silent(limit))??;
        runtime.spawn(connection);
        Ok(Self { client, runtime })
    }

    /// Sends statements by the simple query protocol, several as one transaction; gives the rows of all.
    pub(crate) fn simple(
        &mut self,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<SimpleQueryRow>, ConnectionError> {
        let answering = async { timeout(limit, self.client.simple_query(sql)).await };
        let messages = self.runtime.block_on(answering).map_err(|_| ConnectionError::Silent(limit))??;
        let row = |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Runs one statement with its values bound.
    pub(crate) fn query(
        &mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
        limit: Duration,
    ) -> Result<Vec<Row>, ConnectionError> {
        let answering = async { timeout(limit, self.client.query(sql, values)).await };
        Ok(self.runtime.block_on(answering).map_err(|_| ConnectionError::Silent(limit))??)
    }
}

/// TLS as libpq's `sslmode=prefer` has it: it hides what is said from who listens, and nothing more. Whoever
/// can answer in the server's place can as well answer that there is no TLS.
fn tls() -> MakeRustlsConnect {
    let provider = Arc::new(ring::default_provider());
    let unchecked = Unchecked(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for every version of TLS")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(unchecked))
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}

/// Takes any certificate, whose key the server must have: the password's proof includes the certificate
/// (SCRAM's channel binding), which says something only if nobody else can show it.
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

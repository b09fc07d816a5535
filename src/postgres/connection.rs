//! A connection in PostgreSQL's protocol, on which no call lasts longer than its limit.

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

/// One open connection, and the runtime that drives it.
pub(crate) struct Connection {
    client: Client,
    runtime: Runtime,
}

impl Connection {
    /// Connects and logs in. Uses TLS where the server offers it, unless the configuration forbids
    /// TLS.
    pub(crate) fn open(config: &Config, limit: Duration) -> Result<Self, ConnectionError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connecting = async { timeout(limit, config.connect(tls())).await };
        let opened = runtime.block_on(connecting).map_err(|_| ConnectionError::Silent(limit));
        match opened.and_then(|opened| Ok(opened?)) {
            Ok((client, connection)) => {
                runtime.spawn(connection);
                Ok(Self { client, runtime })
            }
            Err(error) => {
                // Dropping the runtime would wait until the lookup of a name ends, for 40 seconds
                // if no DNS server answers.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Runs statements by the simple query protocol, in one transaction; returns the rows of all.
    pub(crate) fn simple(
        &mut self,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<SimpleQueryRow>, ConnectionError> {
        let answering = async { timeout(limit, self.client.simple_query(sql)).await };
        let messages =
            self.runtime.block_on(answering).map_err(|_| ConnectionError::Silent(limit))??;
        let row =
            |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Runs one statement with bound values.
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

/// TLS as in libpq's `sslmode=prefer`: it protects against eavesdropping and nothing more. An
/// attacker who can answer in place of the server can also answer that there is no TLS.
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

/// Accepts any certificate, but checks that the server has its key: the proof of the password
/// includes the certificate (channel binding of SCRAM), which proves nothing if another server can
/// present it.
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

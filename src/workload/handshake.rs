//! The handshake by which a client would begin TLS with PgBouncer.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    AlertDescription, ClientConnection,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::bounded::Bounded;
use crate::postgres::unverified;

/// How long one handshake may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The message that asks a server for TLS (`SSLRequest` in PostgreSQL's documentation).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Why PgBouncer does not serve a certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// It cannot be reached, or the handshake fails.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It and the charm have no version of TLS, cipher or curve in common.
    #[error("{0}")]
    Incompatible(rustls::Error),
    /// It refuses TLS.
    #[error("it offers no TLS")]
    NoTls,
    /// It shows another certificate.
    #[error("it shows another certificate")]
    Another,
}

/// Checks that the process that takes a connection shows the first certificate of a text.
pub(super) fn check(
    address: SocketAddr,
    identity: &str,
    deadline: Instant,
) -> Result<(), HandshakeError> {
    let wanted = CertificateDer::pem_slice_iter(identity.as_bytes()).next().and_then(Result::ok);
    let deadline = deadline.min(Instant::now() + LIMIT);
    let mut stream = Bounded { stream: TcpStream::connect_timeout(&address, LIMIT)?, deadline };
    stream.write_all(&SSL_REQUEST)?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer != *b"S" {
        return Err(HandshakeError::NoTls);
    }
    let name = ServerName::IpAddress(address.ip().into());
    let mut connection =
        ClientConnection::new(Arc::new(unverified()), name).map_err(io::Error::other)?;
    let mut ended = Ok((0, 0));
    while ended.is_ok() && connection.is_handshaking() {
        ended = connection.complete_io(&mut stream);
    }
    // PgBouncer may end the handshake because the charm shows no certificate. In it, the charm has
    // seen PgBouncer's.
    match (connection.peer_certificates().and_then(<[_]>::first), ended) {
        (Some(shown), _) if Some(shown) == wanted.as_ref() => Ok(()),
        (None, Err(error)) => {
            Err(incompatible(&error)
                .map_or(HandshakeError::Io(error), HandshakeError::Incompatible))
        }
        _ => Err(HandshakeError::Another),
    }
}

/// The reason, if both sides have nothing in common.
fn incompatible(error: &io::Error) -> Option<rustls::Error> {
    use AlertDescription::{HandshakeFailure, InsufficientSecurity, ProtocolVersion};
    let error: &rustls::Error = error.get_ref()?.downcast_ref()?;
    matches!(
        error,
        rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                HandshakeFailure | InsufficientSecurity | ProtocolVersion
            )
    )
    .then(|| error.clone())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use rustls::{
        RootCertStore, ServerConfig, ServerConnection,
        crypto::ring,
        pki_types::PrivateKeyDer,
        server::WebPkiClientVerifier,
        sign::{CertifiedKey, SingleCertAndKey},
        version::TLS12,
    };

    use super::*;

    macro_rules! pem {
        ($name:literal) => {
            include_str!(concat!("../../tests/certificates/", $name))
        };
    }

    /// What a server does after it has been asked for TLS, and what the charm then says.
    #[track_caller]
    fn against(server: impl FnOnce(TcpStream) + Send + 'static) -> Result<(), HandshakeError> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_exact(&mut [0; 8]).expect("an SSLRequest");
            server(stream);
        });
        check(address, pem!("leaf.pem"), Instant::now() + Duration::from_millis(500))
    }

    /// A server that speaks only TLS 1.2 and demands a certificate of its client, as
    /// `client_tls_sslmode=verify-ca` does.
    fn demanding(certificate: &'static str, key: &'static str) -> impl FnOnce(TcpStream) + Send {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let provider = Arc::new(ring::default_provider());
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let key = provider.key_provider.load_private_key(key).expect("a key");
        let served = CertifiedKey::new(vec![der(certificate)], key);
        let mut roots = RootCertStore::empty();
        roots.add(der(pem!("root.pem"))).expect("a CA");
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS12])
            .expect("a version")
            .with_client_cert_verifier(clients.build().expect("a CA is enough"))
            // Like OpenSSL, the resolver takes a certificate of X.509 version 1.
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(served)));
        move |mut stream| {
            stream.write_all(b"S").expect("the client waits");
            let mut connection = ServerConnection::new(config.into()).expect("a server");
            let _ = connection.complete_io(&mut stream);
        }
    }

    #[test]
    fn the_certificate_counts_though_the_server_demands_one_of_the_charm() {
        assert!(against(demanding(pem!("leaf.pem"), pem!("rsa.key"))).is_ok());
        let other = against(demanding(pem!("p256-leaf.pem"), pem!("p256.key")));
        assert!(matches!(other, Err(HandshakeError::Another)), "{other:?}");
    }

    #[test]
    fn a_server_with_other_versions_of_tls_is_distinguished_from_one_without_tls() {
        let answers = |bytes: &'static [u8]| {
            against(move |mut stream| stream.write_all(bytes).expect("the client waits"))
        };
        for (alert, is_incompatible) in [(40, true), (70, true), (71, true), (80, false)] {
            let text: &'static [u8] = Box::leak(Box::new([b'S', 21, 3, 3, 0, 2, 2, alert]));
            let answer = answers(text);
            let found = matches!(answer, Err(HandshakeError::Incompatible(_)));
            assert_eq!(found, is_incompatible, "{alert}: {answer:?}");
        }
        assert!(matches!(answers(b"N"), Err(HandshakeError::NoTls)));
    }

    #[test]
    fn a_server_that_sends_byte_after_byte_is_given_up() {
        let begin = Instant::now();
        let given_up = against(|mut stream| {
            stream.write_all(&[b'S', 22, 3, 3, 64, 0]).expect("the client waits");
            while stream.write_all(&[0]).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert!(matches!(given_up, Err(HandshakeError::Io(_))), "{given_up:?}");
        assert!(begin.elapsed() < Duration::from_secs(3));
    }
}

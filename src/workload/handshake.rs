//! The handshake by which a client would begin TLS with PgBouncer.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConnection,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::postgres::unverified;

/// How long PgBouncer may take for one message.
const LIMIT: Duration = Duration::from_secs(2);

/// The message that asks a server for TLS (`SSLRequest` in PostgreSQL's documentation).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Why PgBouncer does not serve a certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// It cannot be reached, or the handshake fails.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It refuses TLS.
    #[error("it offers no TLS")]
    NoTls,
    /// It shows another certificate.
    #[error("it shows another certificate")]
    Another,
}

/// Checks that the process that takes a connection shows the first certificate of a text.
pub(super) fn check(address: SocketAddr, identity: &str) -> Result<(), HandshakeError> {
    let wanted = CertificateDer::pem_slice_iter(identity.as_bytes()).next().and_then(Result::ok);
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&SSL_REQUEST)?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer != *b"S" {
        return Err(HandshakeError::NoTls);
    }
    let name = ServerName::IpAddress(address.ip().into());
    let mut connection =
        ClientConnection::new(Arc::new(unverified()), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let shown = connection.peer_certificates().and_then(<[_]>::first);
    if shown.is_some() && shown == wanted.as_ref() { Ok(()) } else { Err(HandshakeError::Another) }
}

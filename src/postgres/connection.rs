//! A connection in PostgreSQL's protocol, on which no call lasts longer than its limit.

#![expect(clippy::disallowed_methods, reason = "the one place that speaks PostgreSQL's protocol")]

use std::{convert::Infallible, io, path::Path, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
    runtime::Runtime,
    time::timeout,
};
use tokio_postgres::{
    Client, Config, Row, SimpleQueryMessage, SimpleQueryRow,
    config::{Host, SslMode, SslNegotiation},
    tls::{MakeTlsConnect, TlsConnect},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    error::ConnectionError,
    guard::{Guard, Inspection, Transport},
    method::{AllowedMethods, Method},
    tls::{self, TlsDemand},
};
use crate::pgbouncer::SslMode as TlsMode;
use crate::spans;

/// The message that asks a server for TLS (`SSLRequest` in PostgreSQL's documentation).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The port of PostgreSQL if the configuration names none.
const DEFAULT_PORT: u16 = 5432;

/// One open connection, and the runtime that drives it.
pub(crate) struct Connection {
    client: Client,
    runtime: Runtime,
    inspection: Inspection,
}

impl Connection {
    /// Connects and logs in by an allowed method. Uses TLS where the server offers it, unless the
    /// configuration forbids TLS. The host is one name, address, or directory of a Unix socket,
    /// which never has TLS, and on which `target_session_attrs` has no effect.
    pub(crate) fn open(
        config: &Config,
        allowed: AllowedMethods,
        limit: Duration,
    ) -> Result<Self, ConnectionError> {
        Self::open_inspected(config, &TlsDemand::default(), &Inspection::new(allowed), limit)
    }

    /// As [`Self::open`], with TLS as demanded. An inspection that earlier hosts had allows nothing
    /// weaker than they did.
    pub(super) fn open_inspected(
        config: &Config,
        demand: &TlsDemand,
        inspection: &Inspection,
        limit: Duration,
    ) -> Result<Self, ConnectionError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ConnectionError::Runtime)?;
        let connecting = async { timeout(limit, connect(config, demand, inspection)).await };
        let opened = spans::within("SQL connect", || {
            runtime.block_on(connecting).unwrap_or(Err(ConnectionError::Silent(limit)))
        });
        match opened {
            Ok(client) => Ok(Self { client, runtime, inspection: inspection.clone() }),
            Err(error) => {
                // Dropping the runtime would wait until the lookup of a name ends, for 40 seconds
                // if no DNS server answers.
                runtime.shutdown_background();
                Err(inspection.take_failure().unwrap_or(error))
            }
        }
    }

    /// The method of the login.
    pub(crate) fn method(&self) -> Option<Method> {
        self.inspection.method()
    }

    /// Runs statements by the simple query protocol, in one transaction; returns the rows of all.
    pub(crate) fn simple(
        &mut self,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<SimpleQueryRow>, ConnectionError> {
        let messages = self.answer(sql, self.client.simple_query(sql), limit)?;
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
        self.answer(sql, self.client.query(sql, values), limit)
    }

    /// Waits for the answer to one request with this statement.
    fn answer<T>(
        &self,
        sql: &str,
        request: impl Future<Output = Result<T, tokio_postgres::Error>>,
        limit: Duration,
    ) -> Result<T, ConnectionError> {
        spans::within(format!("SQL {}", spans::statement(sql)), || {
            self.inspection.begin_answer();
            let answering = async { timeout(limit, request).await };
            let answer =
                self.runtime.block_on(answering).map_err(|_| ConnectionError::Silent(limit))?;
            // The driver knows only that its connection has ended.
            answer.map_err(|error| self.inspection.take_failure().unwrap_or_else(|| error.into()))
        })
    }
}

/// Connects, logs in, and leaves the connection to the runtime.
async fn connect(
    config: &Config,
    demand: &TlsDemand,
    inspection: &Inspection,
) -> Result<Client, ConnectionError> {
    let has_no_tls = config.get_ssl_mode() == SslMode::Disable;
    let mode = if has_no_tls { TlsMode::Disable } else { demand.mode };
    let tls = tls::connector(demand)?;
    let mut connector = Connector { mode, tls, inspection: inspection.clone() };
    // The driver has no place for a guard above a connection without TLS. So the driver takes every
    // connection for TLS that begins at once, and the connector asks the server for TLS.
    let mut config = config.clone();
    config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    if let [Host::Unix(directory)] = config.get_hosts() {
        connector.mode = TlsMode::Disable;
        let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
        let stream = open_socket(directory, port).await.map_err(ConnectionError::Socket)?;
        let Ok(connecting) = MakeTlsConnect::<UnixStream>::make_tls_connect(&mut connector, "");
        let (client, connection) = config.connect_raw(stream, connecting).await?;
        tokio::spawn(connection);
        Ok(client)
    } else {
        let (client, connection) = config.connect(connector).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Connects to the socket in a directory.
async fn open_socket(directory: &Path, port: u16) -> io::Result<UnixStream> {
    UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await
}

/// Makes guarded connections, with TLS as the mode demands.
struct Connector {
    mode: TlsMode,
    tls: MakeRustlsConnect,
    inspection: Inspection,
}

/// A connection that is being made.
struct Connecting<C> {
    mode: TlsMode,
    tls: C,
    inspection: Inspection,
}

type Rustls<S> = <MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect;
type RustlsStream<S> = <MakeRustlsConnect as MakeTlsConnect<S>>::Stream;

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Rustls<S>: Send,
    <Rustls<S> as TlsConnect<S>>::Future: Send,
{
    type Stream = Guard<S, RustlsStream<S>>;
    type TlsConnect = Connecting<Rustls<S>>;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Infallible> {
        let Ok(tls) = MakeTlsConnect::<S>::make_tls_connect(&mut self.tls, host);
        Ok(Connecting { mode: self.mode, tls, inspection: self.inspection.clone() })
    }
}

impl<S, C> TlsConnect<S> for Connecting<C>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: TlsConnect<S, Future: Send, Error = io::Error> + Send + 'static,
{
    type Stream = Guard<S, C::Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(self, mut stream: S) -> Self::Future {
        let Self { mode, tls, inspection } = self;
        Box::pin(async move {
            inspection.begin();
            let asks = mode != TlsMode::Disable;
            let offered = if asks { offers_tls(&mut stream).await } else { Ok(false) };
            let transport = match offered {
                Ok(true) => match tls.connect(stream).await {
                    Ok(stream) => Transport::Tls(stream),
                    Err(error) => {
                        let refused = error.get_ref().and_then(|error| error.downcast_ref());
                        if let Some(reason) = refused.and_then(tls::reason) {
                            inspection.fail(ConnectionError::Certificate(reason));
                        }
                        return Err(error);
                    }
                },
                Ok(false) if mode.demands_tls() => {
                    inspection.fail(ConnectionError::NoTls);
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Ok(false) => Transport::Plain(stream),
                Err(error) => {
                    // The driver would report a handshake that has not begun.
                    let kind = error.kind();
                    inspection.fail(ConnectionError::Socket(error));
                    return Err(kind.into());
                }
            };
            Ok(Guard::new(transport, inspection))
        })
    }
}

/// Asks the server for TLS, and reads no further than its answer of one byte.
async fn offers_tls(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<bool> {
    stream.write_all(&SSL_REQUEST).await?;
    Ok(stream.read_u8().await? == b'S')
}

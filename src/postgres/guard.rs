//! Checks what a server sends before the driver acts on it. tokio-postgres answers every
//! authentication method, and keeps whatever a server sends.
//!
//! The guard is above TLS: it reads PostgreSQL's messages, each of a type byte and a length of four
//! bytes ("Message Formats" in PostgreSQL's documentation).

use std::{
    io,
    pin::Pin,
    str,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::{
    error::ConnectionError,
    method::{AllowedMethods, Method},
};

/// The length of the longest message, in bytes. The charm asks for names, numbers and verifiers.
pub(super) const MESSAGE_LIMIT: usize = 1 << 20;

/// How much a login or a statement may return, in bytes.
pub(super) const ANSWER_LIMIT: usize = 16 << 20;

/// What each message counts in addition to its length, in bytes: the driver needs about that much
/// memory for a row without columns.
const MESSAGE_COST: usize = 256;

/// The length of the longest authentication message, in bytes. The guard keeps such a message until
/// it is complete.
const AUTHENTICATION_LIMIT: usize = 8 << 10;

/// The most iterations of SCRAM. A login cannot be interrupted while it computes them. PostgreSQL
/// and PgBouncer use 4096; PgBouncer permits no more than this.
pub(super) const ITERATIONS_LIMIT: u32 = 1_000_000;

/// The type of a message about authentication.
const AUTHENTICATION: u8 = b'R';
/// The size of the type and length of a message, in bytes.
const HEADER: usize = 5;
/// The size of the length of a message, which counts itself, in bytes.
const LENGTH: usize = 4;

/// The checks on one connection, shared by the stream and the caller.
#[derive(Clone)]
pub(super) struct Inspection(Arc<Mutex<Inspector>>);

/// The state of the checks: where in which message the stream is.
struct Inspector {
    allowed: AllowedMethods,
    has_tls: bool,
    method: Option<Method>,
    /// The beginning of a message: its header, or all of an authentication message.
    head: Vec<u8>,
    /// How many bytes of the message follow the head.
    rest: usize,
    /// How many bytes may still arrive before the next statement.
    left: usize,
    failure: Option<ConnectionError>,
}

impl Inspection {
    /// Allows these methods. Nothing has arrived yet.
    pub(super) fn new(allowed: AllowedMethods) -> Self {
        Self(Arc::new(Mutex::new(Inspector::new(allowed))))
    }

    /// A new connection: forgets every earlier one, but not that one of them asked for SCRAM. No
    /// other host may then ask for less.
    pub(super) fn begin(&self) {
        let mut inspector = self.lock();
        let allowed = match inspector.method {
            Some(Method::Scram) => AllowedMethods::Scram,
            _ => inspector.allowed,
        };
        *inspector = Inspector::new(allowed);
    }

    /// A new statement, with the full limit for its answer.
    pub(super) fn begin_answer(&self) {
        self.lock().left = ANSWER_LIMIT;
    }

    /// Records why the connection cannot be used.
    pub(super) fn fail(&self, error: ConnectionError) {
        self.lock().failure = Some(error);
    }

    /// Takes the reason why the connection cannot be used, if there is one.
    pub(super) fn take_failure(&self) -> Option<ConnectionError> {
        self.lock().failure.take()
    }

    /// What the server asked for; `None` before it asked.
    pub(super) fn method(&self) -> Option<Method> {
        self.lock().method
    }

    fn lock(&self) -> MutexGuard<'_, Inspector> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inspector {
    fn new(allowed: AllowedMethods) -> Self {
        Self {
            allowed,
            has_tls: false,
            method: None,
            head: Vec::new(),
            rest: 0,
            left: ANSWER_LIMIT,
            failure: None,
        }
    }

    /// Checks the next bytes of the server. After an error nothing may reach the driver.
    fn check(&mut self, mut bytes: &[u8]) -> Result<(), ConnectionError> {
        loop {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            let Some((next, others)) = bytes[skipped..].split_first() else { return Ok(()) };
            bytes = others;
            self.head.push(*next);
            let Some((header, body)) = self.head.split_first_chunk::<HEADER>() else { continue };
            let [kind, length @ ..] = *header;
            let length = u32::from_be_bytes(length) as usize;
            if body.is_empty() {
                self.left = admitted(kind, length, self.left)?;
            }
            // A length below its own size is an error of the driver.
            let expected = length.saturating_sub(LENGTH);
            if kind != AUTHENTICATION {
                self.rest = expected;
                self.head.clear();
            } else if body.len() == expected {
                self.authentication()?;
                self.head.clear();
            }
        }
    }

    /// Checks a complete authentication message. The driver refuses the methods that are not here.
    fn authentication(&mut self) -> Result<(), ConnectionError> {
        let Some((code, data)) = self.head[HEADER..].split_first_chunk() else { return Ok(()) };
        let method = match u32::from_be_bytes(*code) {
            // AuthenticationOk: the end of a login, or all of it.
            0 => self.method.unwrap_or(Method::Trust),
            3 => Method::Password,
            5 => Method::Md5,
            10 => Method::Scram,
            11 => return check_iterations(data),
            _ => return Ok(()),
        };
        self.method = Some(method);
        match (self.allowed, method) {
            (_, Method::Password) if !self.has_tls => Err(ConnectionError::ClearPassword),
            (AllowedMethods::Any, _) | (_, Method::Scram) => Ok(()),
            (AllowedMethods::Scram, _) => Err(ConnectionError::NotScram(method)),
        }
    }
}

/// How much may still arrive after a message of this length.
fn admitted(kind: u8, length: usize, left: usize) -> Result<usize, ConnectionError> {
    let longest = if kind == AUTHENTICATION { AUTHENTICATION_LIMIT } else { MESSAGE_LIMIT };
    if length > longest {
        return Err(ConnectionError::MessageTooLong { length, longest });
    }
    left.checked_sub(length + MESSAGE_COST).ok_or(ConnectionError::AnswerTooLong)
}

/// Checks the server's first message of SCRAM, such as `r=nonce,s=salt,i=4096` (RFC 5802).
fn check_iterations(message: &[u8]) -> Result<(), ConnectionError> {
    let message = str::from_utf8(message).unwrap_or_default();
    let Some(iterations) = message.split(',').find_map(|part| part.strip_prefix("i=")) else {
        return Ok(());
    };
    if iterations.parse().is_ok_and(|iterations: u32| iterations <= ITERATIONS_LIMIT) {
        return Ok(());
    }
    Err(ConnectionError::TooManyIterations)
}

/// The connection to a server: `S` without TLS, `T` with TLS.
pub(super) enum Transport<S, T> {
    Plain(S),
    Tls(T),
}

/// A connection whose incoming messages are checked.
pub(super) struct Guard<S, T> {
    transport: Transport<S, T>,
    inspection: Inspection,
}

impl<S, T> Guard<S, T> {
    /// Checks all that arrives from now on.
    pub(super) fn new(transport: Transport<S, T>, inspection: Inspection) -> Self {
        inspection.lock().has_tls = matches!(transport, Transport::Tls(_));
        Self { transport, inspection }
    }
}

impl<S: AsyncRead + Unpin, T: AsyncRead + Unpin> AsyncRead for Guard<S, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let known = buffer.filled().len();
        ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        })?;
        let mut inspector = self.inspection.lock();
        if let Err(error) = inspector.check(&buffer.filled()[known..]) {
            inspector.failure = Some(error);
            buffer.set_filled(known);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, T: AsyncWrite + Unpin> AsyncWrite for Guard<S, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, T: TlsStream + Unpin> TlsStream for Guard<S, T> {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.transport {
            Transport::Plain(_) => ChannelBinding::none(),
            Transport::Tls(stream) => stream.channel_binding(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, Empty};

    use super::*;

    const OK: u32 = 0;
    const PASSWORD: u32 = 3;
    const MD5: u32 = 5;
    const SASL: u32 = 10;
    const CONTINUE: u32 = 11;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(LENGTH + body.len()).expect("it is short");
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
        message(AUTHENTICATION, &[&code.to_be_bytes(), data].concat())
    }

    fn inspector(allowed: AllowedMethods, has_tls: bool) -> Inspector {
        Inspector { has_tls, ..Inspector::new(allowed) }
    }

    /// The first error in these messages, however reads split them.
    fn refusal(allowed: AllowedMethods, has_tls: bool, messages: &[Vec<u8>]) -> Option<String> {
        let bytes = messages.concat();
        let by_size = |size| {
            let mut inspector = inspector(allowed, has_tls);
            let checked = bytes.chunks(size).try_for_each(|part| inspector.check(part));
            checked.err().map(|error| error.to_string())
        };
        let whole = by_size(bytes.len());
        for size in 1..bytes.len() {
            assert_eq!(by_size(size), whole, "in reads of {size} bytes: {messages:?}");
        }
        whole
    }

    #[test]
    fn a_password_is_never_sent_in_clear_and_nothing_weaker_than_scram_follows_scram() {
        use AllowedMethods::{Any, Scram};
        let (clear, weaker) = ("in clear without TLS", "and used SCRAM before");
        for (code, without_tls, with_tls, after_scram) in [
            (OK, None, None, Some(weaker)),
            (PASSWORD, Some(clear), None, Some(weaker)),
            (MD5, None, None, Some(weaker)),
            (SASL, None, None, None),
        ] {
            let asked = [authentication(code, b"data")];
            for (allowed, has_tls, expected) in
                [(Any, false, without_tls), (Any, true, with_tls), (Scram, true, after_scram)]
            {
                let refused = refusal(allowed, has_tls, &asked);
                let place = format!("{code} {allowed:?} {has_tls}: {refused:?}");
                assert_eq!(refused.is_some(), expected.is_some(), "{place}");
                let text = refused.unwrap_or_default();
                assert!(expected.is_none_or(|expected| text.contains(expected)), "{place}");
            }
            assert_eq!(refusal(Scram, false, &asked).is_some(), code != SASL, "{code}");
            // On another host, after one that asked for SCRAM.
            let inspection = Inspection::new(Any);
            inspection.lock().check(&authentication(SASL, b"data")).expect("SCRAM is allowed");
            inspection.begin();
            let checked = inspection.lock().check(&asked[0]);
            assert_eq!(checked.is_err(), code != SASL, "{code} on another host");
        }
    }

    #[test]
    fn the_method_is_the_one_that_the_server_asked_for_last() {
        let mut inspector = inspector(AllowedMethods::Any, false);
        assert_eq!(inspector.method, None);
        for (code, method) in
            [(OK, Method::Trust), (MD5, Method::Md5), (SASL, Method::Scram), (OK, Method::Scram)]
        {
            inspector.check(&authentication(code, b"")).expect("it is allowed");
            assert_eq!(inspector.method, Some(method), "{code}");
        }
    }

    #[test]
    fn a_message_is_refused_by_the_length_in_its_header() {
        let limit = |longest: usize| u32::try_from(longest).expect("it is short");
        for (kind, length, is_refused) in [
            (b'D', limit(MESSAGE_LIMIT), false),
            (b'D', limit(MESSAGE_LIMIT) + 1, true),
            (b'D', u32::MAX, true),
            (AUTHENTICATION, limit(AUTHENTICATION_LIMIT), false),
            (AUTHENTICATION, limit(AUTHENTICATION_LIMIT) + 1, true),
        ] {
            let header = [&[kind], &length.to_be_bytes()[..]].concat();
            let mut inspector = inspector(AllowedMethods::Any, false);
            inspector.check(&message(b'S', b"earlier")).expect("it is short");
            inspector.check(&header[..3]).expect("the length is not known yet");
            let checked = inspector.check(&header[3..]).map_err(|error| error.to_string());
            assert_eq!(checked.is_err(), is_refused, "{kind} {length}: {checked:?}");
            let text = checked.err().unwrap_or_else(|| format!("of {length} bytes"));
            assert!(text.contains(&format!("of {length} bytes")), "{text}");
            assert!(inspector.head.capacity() < 64, "{}", inspector.head.capacity());
        }
    }

    #[test]
    fn an_answer_is_limited_by_the_memory_that_the_driver_needs_for_it() {
        for body in [0, 2, 100_000] {
            let row = message(b'D', &vec![0; body]);
            let inspection = Inspection::new(AllowedMethods::Any);
            let is_admitted = |_: &usize| inspection.lock().check(&row).is_ok();
            let rows = || (0..ANSWER_LIMIT).take_while(is_admitted).count();
            let first = rows();
            let cost = row.len() - 1 + MESSAGE_COST;
            assert_eq!(first, ANSWER_LIMIT / cost, "{body}");
            inspection.begin();
            assert_eq!(rows(), first, "{body}: a new connection");
        }
        let mut inspector = inspector(AllowedMethods::Any, false);
        inspector.left = 0;
        let error = inspector.check(&message(b'Z', b"I")).expect_err("nothing is left");
        assert!(error.to_string().contains("longer than the charm reads"), "{error}");
    }

    #[test]
    fn each_statement_has_the_whole_limit() {
        let inspection = Inspection::new(AllowedMethods::Any);
        let row = message(b'D', &vec![0; MESSAGE_LIMIT - LENGTH]);
        for _ in 0..2 * ANSWER_LIMIT / MESSAGE_LIMIT {
            inspection.begin_answer();
            inspection.lock().check(&row).expect("one row is short enough");
        }
        let mut rows = (0..=ANSWER_LIMIT / MESSAGE_LIMIT).map(|_| inspection.lock().check(&row));
        assert!(rows.any(|checked| checked.is_err()), "they are one statement's");
    }

    #[test]
    fn iterations_of_scram_are_limited() {
        let too_many = (ITERATIONS_LIMIT + 1).to_string();
        for (iterations, is_refused) in [
            ("4096", false),
            ("1000000", false),
            (too_many.as_str(), true),
            ("4294967295", true),
            ("99999999999", true),
        ] {
            let first = format!("r=nonce,s=c2FsdA==,i={iterations}");
            let messages = [authentication(SASL, b""), authentication(CONTINUE, first.as_bytes())];
            let refused = refusal(AllowedMethods::Scram, false, &messages);
            assert_eq!(refused.is_some(), is_refused, "{iterations}: {refused:?}");
        }
    }

    #[test]
    fn the_driver_gets_nothing_of_a_read_that_is_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let asked = [authentication(SASL, b"").as_slice(), &authentication(PASSWORD, b"")].concat();
        for (has_tls, expected) in [(false, None), (true, Some(asked.len()))] {
            let inspection = Inspection::new(AllowedMethods::Any);
            let transport: Transport<&[u8], Empty> = Transport::Plain(&asked);
            let mut guard = Guard::new(transport, inspection.clone());
            inspection.lock().has_tls = has_tls;
            let mut read = Vec::new();
            let outcome = runtime.block_on(guard.read_to_end(&mut read));
            assert_eq!(outcome.ok(), expected, "{has_tls}");
            assert_eq!(read.len(), expected.unwrap_or_default(), "{has_tls}");
            let failure = inspection.take_failure();
            assert_eq!(failure.is_some(), expected.is_none(), "{failure:?}");
        }
    }
}

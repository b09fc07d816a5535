//! One HTTP request and its response over a Unix socket, within a time limit.

use std::{error::Error, fs, io, os::unix::fs::FileTypeExt as _, path::Path, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use super::error::PebbleError;
use crate::spans;

/// The largest body of a response, in bytes.
pub(super) const ANSWER_SIZE_MAX: usize = 16 << 20;

/// A request to Pebble.
pub(super) struct ApiRequest<'a> {
    /// The path and its query.
    target: &'a str,
    accept: &'static str,
    post: Option<Post>,
}

/// The content of a POST request.
struct Post {
    content_type: String,
    body: Vec<u8>,
}

/// A response of Pebble.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

impl<'a> ApiRequest<'a> {
    pub(super) fn get(target: &'a str, accept: &'static str) -> Self {
        Self { target, accept, post: None }
    }

    pub(super) fn post(target: &'a str, content_type: String, body: Vec<u8>) -> Self {
        Self { target, accept: "application/json", post: Some(Post { content_type, body }) }
    }

    fn into_http(self) -> Result<Request<Full<Bytes>>, PebbleError> {
        let common = Request::builder()
            .method(self.method())
            .uri(self.target)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, self.accept);
        let request = match self.post {
            None => common.body(Full::default()),
            Some(Post { content_type, body }) => {
                common.header(header::CONTENT_TYPE, content_type).body(body.into())
            }
        };
        request.map_err(|error| PebbleError::Protocol(error.to_string()))
    }

    fn method(&self) -> Method {
        if self.post.is_some() { Method::POST } else { Method::GET }
    }

    /// The name of the request in errors, without the query, which may be long.
    fn name(&self) -> String {
        let path = self.target.split_once('?').map_or(self.target, |(path, _)| path);
        format!("{} {path}", self.method())
    }
}

/// Sends a request once, on a connection of its own. A connection that is kept may turn out to be
/// closed because the daemon was replaced, and then it is unknown whether a retry is safe.
pub(super) fn call(
    socket: &Path,
    request: ApiRequest,
    limit: Duration,
) -> Result<Response, PebbleError> {
    let name = format!("Pebble {}", request.name());
    spans::within(name, || call_once(socket, request, limit))
}

fn call_once(socket: &Path, request: ApiRequest, limit: Duration) -> Result<Response, PebbleError> {
    let what = request.name();
    let responding = async { timeout(limit, exchange(socket, request)).await };
    runtime(socket)?.block_on(responding).map_err(|_| PebbleError::TimedOut { what, limit })?
}

/// Connects without sending a request, for a protocol other than plain HTTP.
pub(super) fn connect(socket: &Path) -> Result<std::os::unix::net::UnixStream, PebbleError> {
    let absent = |reason| absent(socket, reason);
    runtime(socket)?.block_on(async {
        let stream = open(socket).await.and_then(UnixStream::into_std).map_err(absent)?;
        stream.set_nonblocking(false).map_err(absent)?;
        Ok(stream)
    })
}

fn runtime(socket: &Path) -> Result<Runtime, PebbleError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|reason| absent(socket, reason))
}

/// Connects to a socket. Follows no link: the workload container also writes to the volume, and a
/// link there could lead to a socket of the charm's container.
async fn open(socket: &Path) -> io::Result<UnixStream> {
    if !fs::symlink_metadata(socket)?.file_type().is_socket() {
        return Err(io::Error::other("it is not a socket"));
    }
    UnixStream::connect(socket).await
}

async fn exchange(socket: &Path, request: ApiRequest<'_>) -> Result<Response, PebbleError> {
    let request = request.into_http()?;
    let failed = |error| failed(socket, error);
    let stream = open(socket).await.map_err(|reason| absent(socket, reason))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(failed)?;
    let status = answer.status().as_u16();
    let content_type =
        answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
    let body = body.map_err(|error| broken_off(socket, error))?.to_bytes();
    Ok(Response { status, content_type, body })
}

pub(super) fn absent(socket: &Path, reason: io::Error) -> PebbleError {
    PebbleError::Absent { socket: socket.to_owned(), reason }
}

fn failed(socket: &Path, error: hyper::Error) -> PebbleError {
    if error.is_parse() || error.is_user() {
        PebbleError::Protocol(error.to_string())
    } else {
        absent(socket, io::Error::other(error))
    }
}

fn broken_off(socket: &Path, error: Box<dyn Error + Send + Sync>) -> PebbleError {
    if error.is::<LengthLimitError>() {
        return PebbleError::Protocol(format!("its answer is longer than {ANSWER_SIZE_MAX} bytes"));
    }
    match error.downcast::<hyper::Error>() {
        Ok(error) => failed(socket, *error),
        Err(error) => PebbleError::Protocol(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::{fs::symlink, net::UnixListener},
        path::PathBuf,
        sync::atomic::{AtomicU16, Ordering},
        thread,
    };

    use super::*;

    /// A socket that is gone with it.
    struct Socket(PathBuf);

    impl Socket {
        fn new() -> Self {
            static SOCKETS: AtomicU16 = AtomicU16::new(0);
            let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
            Self(std::env::temp_dir().join(format!("pebble-http-{}-{number}", std::process::id())))
        }
    }

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// What becomes of this answer, after which the connection is closed.
    fn answered(answer: &'static [u8]) -> Result<Response, PebbleError> {
        let socket = Socket::new();
        let listener = UnixListener::bind(&socket.0).expect("the path is new");
        let daemon = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody comes");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                request.extend(byte);
            }
            stream.write_all(answer).expect("somebody reads");
        });
        let answer =
            call(&socket.0, ApiRequest::get("/", "application/json"), Duration::from_secs(20));
        daemon.join().expect("no panic");
        answer
    }

    #[test]
    fn an_answer_may_come_whole_or_in_chunks() {
        for (answer, status, body) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab\r\ncdefg"[..], 200, &b"ab\r\nc"[..]),
            (b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n", 504, b""),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                200,
                b"abc",
            ),
        ] {
            let answer = answered(answer).expect("it is whole");
            assert_eq!((answer.status, &answer.body[..]), (status, body));
        }
    }

    #[test]
    fn an_incomplete_answer_means_an_absent_daemon() {
        for answer in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            let error = answered(answer).err();
            assert!(matches!(error, Some(PebbleError::Absent { .. })), "{answer:?}: {error:?}");
        }
    }

    #[test]
    fn an_answer_that_is_not_http_is_a_protocol_error() {
        let error = answered(b"220 mail.example ESMTP\r\n\r\n").err();
        assert!(matches!(error, Some(PebbleError::Protocol(_))), "{error:?}");
    }

    #[test]
    fn a_link_to_a_socket_is_not_followed() {
        let (socket, link) = (Socket::new(), Socket::new());
        let listener = UnixListener::bind(&socket.0).expect("the path is new");
        listener.set_nonblocking(true).expect("it is ours");
        symlink(&socket.0, &link.0).expect("the path is new");
        let request = ApiRequest::get("/", "application/json");
        let called = call(&link.0, request, Duration::from_secs(20)).map(drop);
        for refused in [called, connect(&link.0).map(drop)] {
            let error = refused.expect_err("it is a link").to_string();
            assert!(error.contains("it is not a socket"), "{error}");
        }
        assert!(listener.accept().is_err(), "somebody came");
    }

    #[test]
    fn an_answer_without_end_is_bounded_in_size_and_time() {
        let many = vec![b'x'; 1 << 16];
        let (chunk, line) = ([b"10000\r\n", &many[..], b"\r\n"].concat(), b"X-More: x\r\n");
        for (head, again, expected) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], &many[..], "longer than 16777216 bytes"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n",
                &many,
                "longer than 16777216 bytes",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                &chunk,
                "longer than 16777216 bytes",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                &many,
                "cannot understand Pebble",
            ),
            (b"HTTP/1.1 200 OK\r\n", line, "cannot understand Pebble"),
            (b"HTTP/1.1 200 OK\r\nX: ", &many, "cannot understand Pebble"),
            (b"HTTP/1.1 99999 OK\r\n", &many, "cannot understand Pebble"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "cannot wait for Pebble longer than 500ms"),
        ] {
            let socket = Socket::new();
            let listener = UnixListener::bind(&socket.0).expect("the path is new");
            let (head, again) = (head.to_vec(), again.repeat(1 + (1 << 16) / again.len()));
            let daemon = thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("somebody comes");
                // An answer before the request would be no answer.
                let _ = stream.read(&mut [0; 4096]);
                let mut sent = head.len();
                let _ = stream.write_all(&head);
                while stream.write_all(&again).is_ok() {
                    sent += again.len();
                }
                sent
            });
            let limit = if expected.contains("500ms") { 500 } else { 20_000 };
            let request = ApiRequest::get("/", "application/json");
            let error = call(&socket.0, request, Duration::from_millis(limit)).err();
            let error = error.expect("no answer ends").to_string();
            assert!(error.contains(expected), "{error}");
            let sent = daemon.join().expect("no panic");
            assert!(limit == 500 || sent < 2 * ANSWER_SIZE_MAX, "{error}: {sent} bytes");
        }
    }

    #[test]
    fn a_request_to_a_silent_daemon_times_out() {
        let socket = Socket::new();
        let _listener = UnixListener::bind(&socket.0).expect("the path is new");
        let request = ApiRequest::get("/v1/services?names=a", "application/json");
        let error = call(&socket.0, request, Duration::from_millis(50)).err();
        let Some(PebbleError::TimedOut { what, .. }) = error else { panic!("{error:?}") };
        assert_eq!(what, "GET /v1/services");
    }
}

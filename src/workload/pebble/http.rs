//! One request and its answer over a Unix socket, within a time limit.

use std::{error::Error, io, path::Path, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use super::error::PebbleError;

/// The longest answer, in bytes.
pub(super) const LONGEST: usize = 16 << 20;

/// What is asked.
pub(super) struct Ask<'a> {
    method: Method,
    /// The path and its query.
    target: &'a str,
    accept: &'static str,
    content_type: String,
    body: Vec<u8>,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

impl<'a> Ask<'a> {
    pub(super) fn get(target: &'a str, accept: &'static str) -> Self {
        Self { method: Method::GET, target, accept, content_type: String::new(), body: Vec::new() }
    }

    pub(super) fn post(target: &'a str, content_type: String, body: Vec<u8>) -> Self {
        Self { method: Method::POST, target, accept: "application/json", content_type, body }
    }

    fn request(self) -> Result<Request<Full<Bytes>>, PebbleError> {
        let request = Request::builder()
            .method(self.method)
            .uri(self.target)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, self.accept)
            .header(header::CONTENT_TYPE, self.content_type);
        request.body(self.body.into()).map_err(|error| PebbleError::Protocol(error.to_string()))
    }

    /// How errors name it: without the query, which may be long.
    fn name(&self) -> String {
        let path = self.target.split_once('?').map_or(self.target, |(path, _)| path);
        format!("{} {path}", self.method)
    }
}

/// Asks once. Each request has a connection of its own: a kept one may turn out closed by a daemon that has
/// been replaced, and then nobody knows whether it is safe to ask again.
pub(super) fn call(socket: &Path, ask: Ask, limit: Duration) -> Result<Answer, PebbleError> {
    let what = ask.name();
    let answering = async { timeout(limit, exchange(socket, ask)).await };
    runtime(socket)?.block_on(answering).map_err(|_| PebbleError::TimedOut { what, limit })?
}

/// Connects without a wait for an answer, for what is not plain HTTP.
pub(super) fn connect(socket: &Path) -> Result<std::os::unix::net::UnixStream, PebbleError> {
    let absent = |reason| absent(socket, reason);
    runtime(socket)?.block_on(async {
        let stream = UnixStream::connect(socket).await.and_then(UnixStream::into_std).map_err(absent)?;
        stream.set_nonblocking(false).map_err(absent)?;
        Ok(stream)
    })
}

fn runtime(socket: &Path) -> Result<Runtime, PebbleError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|reason| absent(socket, reason))
}

async fn exchange(socket: &Path, ask: Ask<'_>) -> Result<Answer, PebbleError> {
    let request = ask.request()?;
    let failed = |error| failed(socket, error);
    let stream = UnixStream::connect(socket).await.map_err(|reason| absent(socket, reason))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(failed)?;
    let status = answer.status().as_u16();
    let content_type = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| broken_off(socket, error))?.to_bytes();
    Ok(Answer { status, content_type, body })
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
        return PebbleError::Protocol(format!("its answer is longer than {LONGEST} bytes"));
    }
    match error.downcast::<hyper::Error>() {
        Ok(error) => failed(socket, *error),
        Err(error) => PebbleError::Protocol(error.to_string()),
    }
}

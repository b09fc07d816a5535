//! Sends the trace of a hook to the provider of `tracing`: OTLP over HTTP as JSON.
//!
//! A trace is sent once, within a second, and kept nowhere: a provider that is away costs a hook no
//! more than that. The shape is that of `ops.tracing`, Canonical's library.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::event::Unit;
use crate::facts::topology::Topology;
use crate::notes::TracingNote;
use crate::pgbouncer::hex;
use crate::postgres::verified;
use crate::spans::Span;

/// How long sending may take, with the lookup of the name.
const LIMIT: Duration = Duration::from_secs(1);

/// The identity of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// A new trace.
    #[expect(clippy::disallowed_methods, reason = "the identity of a trace is random")]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The 32 hexadecimal digits by which a trace is found.
    pub fn text(&self) -> String {
        hex(&self.0)
    }

    /// The id of a span, unique in the trace.
    fn span(&self, index: usize) -> String {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[..8]);
        let id = u64::from_be_bytes(id).wrapping_add(index as u64);
        // An id of zeros is invalid.
        format!("{:016x}", id.max(1))
    }
}

/// Sends the spans. The error says why the provider did not take them.
pub fn send(
    note: &TracingNote,
    unit: &Unit,
    trace: &TraceId,
    spans: &[Span],
) -> Result<(), String> {
    let body = render(unit, trace, spans).to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let sending = async { timeout(LIMIT, post(note, body)).await };
    let sent = runtime.block_on(sending).unwrap_or_else(|_| Err("it takes too long".to_owned()));
    // Dropping the runtime would wait until the lookup of a name ends.
    runtime.shutdown_background();
    sent
}

async fn post(note: &TracingNote, body: String) -> Result<(), String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let url: Uri = note.url.parse().map_err(|_| "its URL is malformed".to_owned())?;
    let host = url.host().unwrap_or_default();
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_tls = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((name.as_str(), port)).await.map_err(|e| words(&e))?;
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    let request = Request::post(path)
        .header(header::HOST, format!("{host}:{port}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::from(body))
        .map_err(|error| words(&error))?;
    if !is_tls {
        return exchange(stream, request).await;
    }
    let config = verified(&note.ca).map_err(|error| words(&error))?;
    let server = ServerName::try_from(name).map_err(|error| words(&error))?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(server, stream).await.map_err(|error| words(&error))?;
    exchange(stream, request).await
}

/// Sends the request and reads the status. The body of the answer does not matter.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(), String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    let status = sender.send_request(request).await.map_err(failed)?.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answers {status}")) }
}

/// The request as JSON (`ExportTraceServiceRequest` of opentelemetry-proto, whose JSON has ids in
/// hexadecimal digits and 64-bit numbers as strings).
fn render(unit: &Unit, trace: &TraceId, spans: &[Span]) -> Value {
    let Topology { model, model_uuid, application, unit: name, charm_name } = Topology::of(unit);
    let attributes: Vec<Value> = [
        ("service.namespace", model_uuid.as_str()),
        ("service.namespace.name", &model),
        ("service.name", &application),
        ("service.instance.id", &unit.number.to_string()),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("charm", charm_name),
        ("juju_model", &model),
        ("juju_model_uuid", &model_uuid),
        ("juju_application", &application),
        ("juju_unit", &name),
    ]
    .iter()
    .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
    .collect();
    let last = spans.iter().filter_map(|span| span.end).max();
    let spans: Vec<Value> = spans
        .iter()
        .enumerate()
        .map(|(index, span)| {
            let end = span.end.or(last).unwrap_or(span.start);
            let mut shown = json!({
                "traceId": trace.text(),
                "spanId": trace.span(index),
                "name": span.name,
                "kind": 1,
                "flags": 256,
                "startTimeUnixNano": nanoseconds(span.start),
                "endTimeUnixNano": nanoseconds(end),
                "status": {"code": if span.is_failed { 2 } else { 1 }},
            });
            if let Some(parent) = span.parent {
                shown["parentSpanId"] = trace.span(parent).into();
            }
            shown
        })
        .collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes},
        "scopeSpans": [{"scope": {"name": charm_name}, "spans": spans}],
    }]})
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

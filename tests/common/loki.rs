//! A sink for the lines that Pebble forwards. It stands for Loki, which evaluates nothing here.
//!
//! Pebble sends JSON, not the compressed protobuf of other senders. After each change of its plan,
//! Pebble sends all lines of its buffers again, with their times (canonical/pebble#995). The sink
//! keeps a line once for equal time, labels and text, as Loki does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// One forwarded line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    /// Nanoseconds since 1970.
    pub(crate) time: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) text: String,
}

/// A server that accepts every push. It ends with the test program.
pub(crate) struct Sink {
    address: SocketAddr,
    lines: Arc<Mutex<BTreeSet<Line>>>,
}

#[derive(Deserialize)]
struct Push {
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    stream: BTreeMap<String, String>,
    values: Vec<(String, String)>,
}

impl Sink {
    pub(crate) fn start(address: Ipv4Addr) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let sink = Self { address: listener.local_addr()?, lines: Arc::default() };
        let lines = sink.lines.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let lines = lines.clone();
                thread::spawn(move || receive(&stream, &lines));
            }
        });
        Ok(sink)
    }

    /// The value of `endpoint` in the databag of a unit of Loki.
    pub(crate) fn endpoint(&self) -> String {
        format!(r#"{{"url": "http://{}/loki/api/v1/push"}}"#, self.address)
    }

    pub(crate) fn lines(&self) -> BTreeSet<Line> {
        self.lines.lock().expect("no thread panics with it").clone()
    }

    /// The sorted units and services whose lines have this text, each as often as the line came.
    pub(crate) fn senders(&self, text: &str) -> Vec<String> {
        let of = |line: &Line| {
            let label = |name| line.labels.get(name).map_or("", String::as_str);
            format!("{} {}", label("juju_unit"), label("pebble_service"))
        };
        let lines = self.lines();
        let mut found: Vec<_> =
            lines.iter().filter(|line| line.text.contains(text)).map(of).collect();
        found.sort();
        found
    }

    /// Waits until `count` lines with this text are here, and then for further ones.
    pub(crate) fn wait_for(&self, text: &str, count: usize) -> Vec<String> {
        let start = Instant::now();
        while self.senders(text).len() < count && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(SETTLED);
        self.senders(text)
    }
}

/// Pebble sends what it has every second.
pub(crate) const SETTLED: Duration = Duration::from_millis(1500);

/// Takes the pushes of one connection, until the client or the format ends it.
fn receive(stream: &TcpStream, lines: &Mutex<BTreeSet<Line>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        assert!(head.starts_with("POST /loki/api/v1/push "), "{head}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let push: Push = serde_json::from_slice(&body).expect("Pebble sends JSON");
        for Stream { stream: labels, values } in push.streams {
            let line = |(time, text)| Line { time, labels: labels.clone(), text };
            lines.lock().ok()?.extend(values.into_iter().map(line));
        }
        let mut answer = stream;
        answer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
    }
}

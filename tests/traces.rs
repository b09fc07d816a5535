//! The relation `tracing`: each hook sends a trace that the published schema decodes, and a
//! provider in trouble costs a hook next to nothing.

#![expect(clippy::disallowed_methods, reason = "a test stands for the provider")]

mod common;

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use jujusim::{Exit, Options, Sim, python_of};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

type Outcome = Result<(), Box<dyn Error>>;

/// How a provider answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Takes,
    Refuses,
    /// Accepts the connection and says nothing.
    Silent,
    /// Sends bytes of an answer without end.
    Endless,
}

/// A provider of `otlp_http` on this machine.
struct Provider {
    port: u16,
    manner: Arc<Mutex<Manner>>,
    /// The bodies of the requests, and how many connections there were.
    seen: Arc<Mutex<(Vec<String>, usize)>>,
}

impl Provider {
    fn start(tls: Option<ServerConfig>) -> Result<Self, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let manner = Arc::new(Mutex::new(Manner::Takes));
        let seen = Arc::new(Mutex::new((Vec::new(), 0)));
        let provider = Self { port, manner: Arc::clone(&manner), seen: Arc::clone(&seen) };
        let tls = tls.map(Arc::new);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let manner = *manner.lock().expect("no panic");
                seen.lock().expect("no panic").1 += 1;
                let (seen, tls) = (Arc::clone(&seen), tls.clone());
                thread::spawn(move || {
                    // Recorded before the answer: the hook may end before this thread goes on.
                    let record = |body| seen.lock().expect("no panic").0.push(body);
                    let _ = match tls {
                        None => answer(stream, manner, record),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).expect("a connection");
                            answer(StreamOwned::new(connection, stream), manner, record)
                        }
                    };
                });
            }
        });
        Ok(provider)
    }

    fn behaves(&self, manner: Manner) {
        *self.manner.lock().expect("no panic") = manner;
    }

    /// What came since the last call: the bodies, and the number of connections.
    fn taken(&self) -> (Vec<String>, usize) {
        std::mem::take(&mut *self.seen.lock().expect("no panic"))
    }
}

fn answer(
    mut stream: impl Read + Write,
    manner: Manner,
    record: impl FnOnce(String),
) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(std::io::Error::other)?.to_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    record(String::from_utf8(body).map_err(std::io::Error::other)?);
    match manner {
        Manner::Takes => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")?,
        Manner::Refuses => {
            stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")?;
        }
        // Both end when the charm closes the connection.
        Manner::Silent => {
            let _ = stream.read(&mut [0]);
        }
        Manner::Endless => while stream.write_all(b"HTTP/1.1 2").is_ok() {},
    }
    stream.flush()
}

fn model() -> Result<Sim, Box<dyn Error>> {
    common::stage();
    let mut sim = Sim::new(&Options::default())?;
    let neighbour = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/neighbour");
    for word in [
        "deploy ./pgbouncer-k8s -n 2",
        "deploy actor:postgresql postgresql-k8s",
        "deploy actor:client shop --config database=shop",
        &format!("deploy {} tempo", neighbour.display()),
        "settle",
    ] {
        sim.run(word)?;
    }
    Ok(sim)
}

/// Relates the provider, which says where it is.
fn relate(sim: &mut Sim, url: &str) -> Outcome {
    sim.run("integrate pgbouncer-k8s:tracing tempo")?;
    sim.run("settle")?;
    let receivers =
        format!(r#"[{{"protocol":{{"name":"otlp_http","type":"http"}},"url":"{url}"}}]"#);
    sim.run(&format!("databag pgbouncer-k8s:tracing tempo 'receivers={receivers}'"))?;
    sim.run("settle")?;
    Ok(())
}

/// What decode.py prints; `None`, which is said, without the schema.
fn decoded(bodies: &[String]) -> Result<Option<String>, Box<dyn Error>> {
    let python = match python_of("opentelemetry") {
        Ok(venv) => venv.join("bin/python"),
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => return Err(why.into()),
        Err(why) => {
            writeln!(std::io::stderr(), "NOT DECODED, see scripts/otlp: {why}")?;
            return Ok(None);
        }
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/decode.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // A decoder that fails closes the pipe; its own error is shown.
    let _ = child.stdin.take().ok_or("no stdin")?.write_all(bodies.join("\n").as_bytes());
    let output = child.wait_with_output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(Some(String::from_utf8(output.stdout)?))
}

#[test]
fn the_trace_of_every_hook_decodes_nests_and_tells_no_secret() -> Outcome {
    let provider = Provider::start(None)?;
    let mut sim = model()?;
    assert_eq!(provider.taken().1, 0);
    relate(&mut sim, &format!("http://127.0.0.1:{}", provider.port))?;
    provider.taken();
    let mark = sim.model().hook_runs().len();
    for word in [
        "integrate pgbouncer-k8s:backend-database postgresql-k8s",
        "integrate pgbouncer-k8s:database shop",
        "settle",
        "config pgbouncer-k8s max_db_connections=50",
        "add-unit pgbouncer-k8s",
        "settle",
        "replace-pod pgbouncer-k8s/1",
        "trigger pgbouncer-k8s/0 update-status",
        "leader pgbouncer-k8s/1",
        "settle",
        "remove-relation pgbouncer-k8s:database shop",
        "remove-relation pgbouncer-k8s:backend-database postgresql-k8s",
        "settle",
    ] {
        sim.run(word)?;
    }
    let ours = |run: &&jujusim::HookRun| run.unit.starts_with("pgbouncer-k8s/");
    let hooks = sim.model().hook_runs()[mark..].iter().filter(ours);
    // `install` knows no relation yet; each of the others sends one trace. The debug log names it.
    let hooks: Vec<_> = hooks.filter(|run| run.log.iter().any(|l| l.contains("trace "))).collect();
    let (bodies, connections) = provider.taken();
    assert_eq!((bodies.len(), connections), (hooks.len(), hooks.len()));
    assert!(bodies.len() > 40, "{}", bodies.len());
    for body in &bodies {
        let id = body.split("\"traceId\":\"").nth(1).and_then(|rest| rest.get(..32));
        let id = id.ok_or("no trace id")?;
        assert!(hooks.iter().any(|run| run.log.iter().any(|line| line.contains(id))), "{id}");
    }
    let secrets = sim.model().passwords();
    assert!(!secrets.is_empty());
    let told = secrets.iter().find(|secret| bodies.iter().any(|body| body.contains(*secret)));
    assert_eq!(told, None);
    assert!(!bodies.iter().any(|body| body.contains("SCRAM-SHA-256")));
    if let Some(printed) = decoded(&bodies)? {
        assert_eq!(printed.lines().count(), bodies.len());
        for part in
            ["config-changed | ", "| pgb-peers", "| relation-set", "| SQL CREATE", "| SQL connect"]
        {
            assert!(printed.contains(part), "{part}: {printed}");
        }
    }

    // After the relation no byte is sent.
    sim.run("remove-relation pgbouncer-k8s:tracing tempo")?;
    sim.run("settle")?;
    provider.taken();
    sim.run("config pgbouncer-k8s max_db_connections=60")?;
    sim.run("settle")?;
    assert_eq!(provider.taken().1, 0);
    Ok(())
}

#[test]
fn a_provider_in_trouble_fails_no_hook_and_changes_no_status() -> Outcome {
    let provider = Provider::start(None)?;
    let mut sim = model()?;
    relate(&mut sim, &format!("http://127.0.0.1:{}/", provider.port))?;
    let calls = |sim: &Sim| {
        sim.model().hook_runs().last().map(|run| run.calls.len()).expect("a hook has run")
    };
    sim.run("trigger pgbouncer-k8s/1 config-changed")?;
    sim.run("settle")?;
    let usual = calls(&sim);
    for manner in [Manner::Refuses, Manner::Silent, Manner::Endless] {
        provider.behaves(manner);
        provider.taken();
        sim.run("trigger pgbouncer-k8s/1 config-changed")?;
        sim.run("settle")?;
        let run = sim.model().hook_runs().last().ok_or("a hook has run")?;
        assert_eq!(run.exit, Exit::Success, "{manner:?}");
        // Two lines more, the id and the reason, are no calls.
        assert_eq!(run.calls.len(), usual, "{manner:?}");
        let log = run.log.join("\n");
        assert!(log.contains("cannot send the trace"), "{manner:?}: {log}");
        assert_eq!(provider.taken().1, 1, "{manner:?}: one try");
    }
    // Nothing listens there, and no such name exists.
    for url in ["http://127.0.0.1:1", "http://no.such.name.invalid:4318"] {
        let receivers =
            format!(r#"[{{"protocol":{{"name":"otlp_http","type":"http"}},"url":"{url}"}}]"#);
        sim.run(&format!("databag pgbouncer-k8s:tracing tempo 'receivers={receivers}'"))?;
        sim.run("settle")?;
        sim.run("trigger pgbouncer-k8s/1 config-changed")?;
        sim.run("settle")?;
        let run = sim.model().hook_runs().last().ok_or("a hook has run")?;
        assert_eq!(run.exit, Exit::Success, "{url}");
        let log = run.log.join("\n");
        assert!(log.contains("cannot send the trace"), "{url}: {log}");
    }
    Ok(())
}

#[test]
fn a_trace_goes_over_https_only_to_a_provider_of_a_received_ca() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (key, cert) = (directory.path().join("key.pem"), directory.path().join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tempo"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status()?;
    assert!(made.success());
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&cert)?],
            PrivateKeyDer::from_pem_file(&key)?,
        )?;
    let provider = Provider::start(Some(tls))?;
    let mut sim = model()?;
    relate(&mut sim, &format!("https://127.0.0.1:{}", provider.port))?;
    let hook = |sim: &mut Sim| -> Outcome {
        sim.run("trigger pgbouncer-k8s/0 config-changed")?;
        sim.run("settle")?;
        Ok(())
    };
    hook(&mut sim)?;
    // The charm does not even connect: it knows no CA.
    assert_eq!(provider.taken().1, 0);
    let warns =
        |run: &jujusim::HookRun| run.log.iter().any(|line| line.contains("no traces are sent"));
    let told = sim.model().hook_runs().iter().filter(|run| warns(run)).count();
    assert_eq!(told, 2, "once on each unit");

    sim.run("integrate pgbouncer-k8s:receive-ca-cert tempo")?;
    sim.run("settle")?;
    let list = serde_json::to_string(&[fs::read_to_string(&cert)?])?;
    sim.run(&format!("databag pgbouncer-k8s:receive-ca-cert tempo 'certificates={list}'"))?;
    sim.run("settle")?;
    provider.taken();
    hook(&mut sim)?;
    let log = sim.model().hook_runs().last().ok_or("a hook has run")?.log.join("\n");
    assert!(!log.contains("cannot send the trace"), "{log}");
    let (bodies, _) = provider.taken();
    assert_eq!(bodies.len(), 1);
    assert!(bodies[0].contains("config-changed"));
    Ok(())
}

//! A proxy to PostgreSQL that cuts all its connections before a chosen statement. To PostgreSQL a
//! killed client is the same: a connection that ends.

use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The code of the message that asks for TLS. The startup packet follows it.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// A proxy on a port of 127.0.0.1. Stops when dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    traffic: Arc<Mutex<Traffic>>,
    accepting: Option<JoinHandle<()>>,
}

/// What all connections have in common.
#[derive(Default)]
struct Traffic {
    /// The connections that were opened and the statements that were sent.
    steps: usize,
    /// The step that is not forwarded.
    cut: Option<usize>,
    /// The last step: `connect`, or the text of the statement.
    last: String,
    is_cut: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    /// Forwards to a port of 127.0.0.1. Cuts all connections instead of forwarding step `cut`,
    /// which is 1 for the first connection, and accepts no other connection after that.
    pub(crate) fn start(server: u16, cut: Option<usize>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let traffic = Arc::new(Mutex::new(Traffic { cut, ..Traffic::default() }));
        let shared = Arc::clone(&traffic);
        let accepting = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if lock(&shared).is_cut {
                    break;
                }
                // A client sees a failure here as a closed connection.
                let _ = join(client, server, &shared);
            }
        });
        Ok(Self { port, traffic, accepting: Some(accepting) })
    }

    /// The number of connections and statements.
    pub(crate) fn steps(&self) -> usize {
        lock(&self.traffic).steps
    }

    /// Whether a step was not forwarded.
    pub(crate) fn has_cut(&self) -> bool {
        lock(&self.traffic).is_cut
    }

    /// `connect`, or the text of the last statement.
    pub(crate) fn last(&self) -> String {
        lock(&self.traffic).last.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        lock(&self.traffic).end();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Traffic {
    /// Whether the next step may be forwarded.
    fn admits(&mut self, step: &str) -> bool {
        if !self.is_cut {
            self.steps += 1;
            step.clone_into(&mut self.last);
            if self.cut == Some(self.steps) {
                self.end();
            }
        }
        !self.is_cut
    }

    fn end(&mut self) {
        self.is_cut = true;
        for stream in self.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock(traffic: &Mutex<Traffic>) -> MutexGuard<'_, Traffic> {
    traffic.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects a client with the server.
fn join(client: TcpStream, server: u16, traffic: &Arc<Mutex<Traffic>>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        lock(traffic).streams.push(stream.try_clone()?);
    }
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let traffic = Arc::clone(traffic);
    thread::spawn(move || {
        let _ = forward(&client, &server, &traffic);
        let _ = server.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Forwards the client's messages until the client closes the connection or a step is cut.
fn forward(client: &TcpStream, server: &TcpStream, traffic: &Mutex<Traffic>) -> io::Result<()> {
    let mut from = BufReader::new(client);
    let mut to = BufWriter::new(server);
    let mut is_started = false;
    let mut sql = String::new();
    loop {
        if from.buffer().is_empty() {
            to.flush()?;
        }
        if from.fill_buf()?.is_empty() {
            return Ok(());
        }
        let mut kind = [0; 1];
        if is_started {
            from.read_exact(&mut kind)?;
        }
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let body = usize::try_from(u32::from_be_bytes(length)).expect("it is short") - length.len();
        let mut body = vec![0; body];
        from.read_exact(&mut body)?;
        let step = match kind {
            [0] if body == SSL_REQUEST => None,
            [0] => {
                is_started = true;
                Some("connect")
            }
            // The name of the prepared statement precedes its text.
            [b'P'] => {
                sql = text(&body, 1);
                None
            }
            [b'Q'] => {
                sql = text(&body, 0);
                Some(sql.as_str())
            }
            [b'E'] => Some(sql.as_str()),
            _ => None,
        };
        if step.is_some_and(|step| !lock(traffic).admits(step)) {
            return Ok(());
        }
        if kind != [0] {
            to.write_all(&kind)?;
        }
        to.write_all(&length)?;
        to.write_all(&body)?;
    }
}

/// One of the texts in a message, each of which ends with a zero.
fn text(body: &[u8], number: usize) -> String {
    let text = body.split(|byte| *byte == 0).nth(number).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

//! The socket of a unit's agent, and the messages to a running hook.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic};
use std::thread;

use crate::error::{Doing as _, Result};
use crate::tools::{Answer, Request};
use crate::wire;

/// A message to a unit while one of its hooks runs.
pub(crate) enum Message {
    /// A tool was called; `late` when its answer was delayed until now.
    Tool {
        request: Request,
        stream: UnixStream,
        late: bool,
    },
    Line {
        run: usize,
        error: bool,
        text: String,
    },
    Closed {
        run: usize,
    },
    /// The process was stopped after its system call.
    Stopped {
        run: usize,
    },
    Exited {
        run: usize,
        status: io::Result<ExitStatus>,
    },
}

/// The socket of a unit's agent, open while the unit's pod lives.
pub(crate) struct Agent {
    path: PathBuf,
    over: Arc<atomic::AtomicBool>,
    /// The context id of the running hook.
    serving: Arc<Mutex<Option<String>>>,
}

impl Agent {
    pub(crate) fn listen(path: &Path, sender: Sender<Message>) -> Result<Agent> {
        let listener =
            UnixListener::bind(path).doing(|| format!("listen at {}", path.display()))?;
        let agent = Agent { path: path.to_owned(), over: Arc::default(), serving: Arc::default() };
        let (over, serving) = (Arc::clone(&agent.over), Arc::clone(&agent.serving));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(atomic::Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                // Ignore a tool that was killed before it sent its request.
                let Ok(request) = wire::receive(&stream) else { continue };
                // Between hooks close the connection without an answer.
                if locked(&serving).is_none() {
                    continue;
                }
                let request = match request {
                    Ok(request) => request,
                    Err(text) => {
                        let stderr = format!("ERROR {text}\n");
                        let refusal = Answer { code: 1, stderr, ..Answer::default() };
                        let _ = wire::answer(&stream, &refusal);
                        continue;
                    }
                };
                if sender.send(Message::Tool { request, stream, late: false }).is_err() {
                    return;
                }
            }
        });
        Ok(agent)
    }

    pub(crate) fn serve(&self, context: Option<String>) {
        *locked(&self.serving) = context;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.over.store(true, atomic::Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

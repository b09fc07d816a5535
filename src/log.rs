//! Routes log lines by level. In a hook, Juju logs stdout as DEBUG and stderr as WARNING without a
//! tool call. INFO and ERROR lines are collected and cost one `juju-log` call each. In an action
//! stdout is the result, so DEBUG lines are dropped.

use std::io::{self, Write};
use std::sync::Mutex;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::event::Event;
use crate::juju::Juju;
use crate::printable;

static INFO: Mutex<String> = Mutex::new(String::new());
static ERROR: Mutex<String> = Mutex::new(String::new());

/// Starts logging for a dispatch by Juju. An action that changes nothing logs nothing but the error
/// that ends it: what it finds is in its results, and hooks log the rest.
pub fn start(event: &Event) {
    let level = match event {
        Event::Action(action) if action == "show-config" => Level::ERROR,
        Event::Action(_) => Level::INFO,
        _ => Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_writer(Routes)
        .with_max_level(level)
        .with_target(false)
        .with_level(false)
        .with_ansi(false)
        .without_time()
        .init();
}

/// Starts logging for a command: warnings and errors go to stderr, because stdout is the output.
pub fn to_stderr() {
    let logs = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(Level::WARN);
    logs.with_target(false).with_ansi(false).without_time().init();
}

/// Passes the collected lines to `juju-log`. If that fails the lines go to stderr; a lost log line
/// must not fail the hook.
pub fn flush() {
    for (level, lines) in [("INFO", &INFO), ("ERROR", &ERROR)] {
        let Ok(mut lines) = lines.lock() else { continue };
        let text = std::mem::take(&mut *lines);
        if !text.is_empty() && Juju::log(level, text.trim_end()).is_err() {
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

struct Routes;

enum Route {
    Debug(io::Stdout),
    Warning(io::Stderr),
    Collected(&'static Mutex<String>),
}

impl<'a> MakeWriter<'a> for Routes {
    type Writer = Route;

    fn make_writer(&'a self) -> Route {
        Route::Debug(io::stdout())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Route {
        match *metadata.level() {
            Level::ERROR => Route::Collected(&ERROR),
            Level::WARN => Route::Warning(io::stderr()),
            Level::INFO => Route::Collected(&INFO),
            _ => Route::Debug(io::stdout()),
        }
    }
}

/// The longest line of a log, in characters.
const LONGEST: usize = 10_000;

impl Write for Route {
    /// Writes one event: its text ends with a line break and has no other one.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = printable::line(text.trim_end_matches('\n'), LONGEST) + "\n";
        match self {
            Self::Debug(stdout) => stdout.write_all(line.as_bytes())?,
            Self::Warning(stderr) => stderr.write_all(line.as_bytes())?,
            Self::Collected(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    lines.push_str(&line);
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The process of the `juju` command: sends the command to the model's process and prints the
//! answer.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::{Call, Reply, SOCKET};

/// The name under which the simulator's binary acts as `juju`.
pub const NAME: &str = "juju";
/// The name under which the simulator's binary acts as `kubectl`. For the model's process that is a
/// command of `juju`.
pub const KUBECTL: &str = "kubectl";

/// Runs one command of the program with this name; returns its exit code.
pub fn run(name: &str, args: impl Iterator<Item = OsString>) -> u8 {
    let kubectl = (name == KUBECTL).then(|| KUBECTL.into());
    ask(kubectl.into_iter().chain(args)).unwrap_or_else(|text| {
        let _ = writeln!(io::stderr(), "ERROR {text}");
        1
    })
}

fn ask(args: impl Iterator<Item = OsString>) -> Result<u8, String> {
    let socket = std::env::var_os(SOCKET)
        .ok_or(format!("{SOCKET} is not set: `jujusim serve` prints how to set it"))?;
    let args: Result<Vec<String>, OsString> = args.map(OsString::into_string).collect();
    let args = args.map_err(|arg| {
        format!("jujusim does not model the argument {}: not UTF-8", arg.display())
    })?;
    let dir = std::env::current_dir().map_err(|error| error.to_string())?;
    let no_model = |error: io::Error| format!("no model answers at {}: {error}", socket.display());
    let mut stream = UnixStream::connect(&socket).map_err(no_model)?;
    let call = serde_json::to_string(&Call { dir, args }).map_err(|error| error.to_string())?;
    stream.write_all(format!("{call}\n").as_bytes()).map_err(no_model)?;
    for line in BufReader::new(stream).lines() {
        let reply =
            serde_json::from_str(&line.map_err(no_model)?).map_err(|error| error.to_string())?;
        let done = match reply {
            Reply::Out(text) => {
                io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush())
            }
            Reply::Err(text) => io::stderr().write_all(text.as_bytes()),
            Reply::Become { line, dir } => {
                Err(Command::new("sh").args(["-c", &line]).current_dir(dir).exec())
            }
            Reply::Exit(code) => return Ok(code),
        };
        done.map_err(|error| error.to_string())?;
    }
    Err("the model's process ended before it answered: start it again with `jujusim serve`"
        .to_owned())
}

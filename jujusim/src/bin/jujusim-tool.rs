//! The binary behind every hook tool, by the name of its link, and behind the launcher of hooks.
//! Small, because a hook starts it many times.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use jujusim::{client, launch};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(OsStr::to_str).unwrap_or_default();
    ExitCode::from(match name {
        launch::NAME => launch::run(args),
        tool => client::run(tool, args),
    })
}

//! The launcher of hooks. Small, because a hook's peak memory is never less than its launcher's.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(jujusim::launch::run(std::env::args_os().skip(1)))
}

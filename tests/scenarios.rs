//! The real binary in a simulated Juju: every script in `tests/scenarios` is a test, its transcript
//! stands beside it. `UPDATE_TRANSCRIPTS=1` rewrites the transcripts; review them as a diff.

mod common;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use jujusim::{Options, check_script};
use libtest_mimic::{Arguments, Failed, Trial};

#[expect(clippy::disallowed_methods, reason = "the tests are files")]
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    common::stage();
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    // Scripts deploy it as `./neighbour`, from where the charm under test lies.
    let _ = std::os::unix::fs::symlink(scenarios.join("neighbour"), "neighbour");
    let scripts = std::fs::read_dir(&scenarios)
        .expect("there are scenarios")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension() == Some(OsStr::new("txt")));
    let mut trials: Vec<Trial> = scripts.map(trial).collect();
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    assert!(!trials.is_empty(), "there are no scenarios");
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(script: std::path::PathBuf) -> Trial {
    let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Trial::test(name, move || {
        // A script whose name ends so runs on a Juju without secrets.
        let is_old =
            script.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("-without-secrets"));
        let juju = if is_old { "2.9.52" } else { "3.6.14" };
        let options = Options { juju: juju.to_owned(), ..Options::default() };
        check_script(&script, &options).map_err(|error| Failed::from(error.to_string()))
    })
}

//! The real binary in a simulated Juju: every script in `tests/scenarios` is a test, its transcript
//! stands beside it. `UPDATE_TRANSCRIPTS=1` rewrites the transcripts; review them as a diff.

#![expect(clippy::disallowed_methods, reason = "the tests are files")]

mod common;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jujusim::{Options, check_script, run_script};
use libtest_mimic::{Arguments, Failed, Trial};

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
    let mut trials: Vec<Trial> =
        scripts.flat_map(|script| elsewhere(&script).chain([trial(script)])).collect();
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    assert!(!trials.is_empty(), "there are no scenarios");
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// `# Also on Juju 2.9.52 and 4.0.15.` in a script: its expectations hold there, too.
fn elsewhere(script: &Path) -> impl Iterator<Item = Trial> + use<> {
    let name = name(script);
    let text = std::fs::read_to_string(script).expect("a script");
    let line = text.lines().find_map(|line| line.strip_prefix("# Also on Juju ")?.strip_suffix('.'));
    let others: Vec<String> =
        line.into_iter().flat_map(|line| line.split(" and ")).map(str::to_owned).collect();
    others.into_iter().map(move |juju| {
        let script = text.clone();
        Trial::test(format!("{name}-on-{juju}"), move || {
            let options = Options { juju, stable: true, ..Options::default() };
            let found = run_script(&script, &options).map_err(|error| Failed::from(error.to_string()))?;
            found.failure.map_or(Ok(()), |failure| Err(format!("{failure}\n{}", found.text).into()))
        })
    })
}

fn name(script: &Path) -> String {
    script.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn trial(script: PathBuf) -> Trial {
    let name = name(&script);
    // A script whose name ends so runs on a Juju without secrets.
    let is_old = name.ends_with("-without-secrets");
    Trial::test(name, move || {
        let juju = if is_old { "2.9.52" } else { "3.6.14" };
        let options = Options { juju: juju.to_owned(), ..Options::default() };
        check_script(&script, &options).map_err(|error| Failed::from(error.to_string()))
    })
}

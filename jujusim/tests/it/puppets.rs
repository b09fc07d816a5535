//! Models with puppets: charms whose hooks run shell lines that a test writes.

use std::path::{Path, PathBuf};

use jujusim::{Exit, HookRun, Options, Sim};

pub(crate) fn options() -> Options {
    Options { launcher: PathBuf::from(env!("CARGO_BIN_EXE_jujusim-launch")), ..Options::default() }
}

pub(crate) fn puppet() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/charms/puppet").display().to_string()
}

/// A model after these commands; `PUPPET` is the puppet's directory.
pub(crate) fn model(commands: &[&str]) -> Sim {
    model_of(commands, &options())
}

pub(crate) fn model_of(commands: &[&str], options: &Options) -> Sim {
    let mut sim = Sim::new(options).expect("a new model");
    for command in commands {
        run(&mut sim, command);
    }
    sim
}

pub(crate) fn run(sim: &mut Sim, command: &str) -> String {
    sim.run(&command.replace("PUPPET", &puppet()))
        .unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// Sets the shell lines that the unit runs in this hook.
pub(crate) fn script(sim: &Sim, unit: &str, hook: &str, lines: &str) {
    let path = sim.model().unit_root(unit).expect("a unit").join("etc").join(hook);
    std::fs::write(path, lines).expect("a file under the unit's root");
}

/// Runs one tool in the unit's context: exit code, standard output, standard error.
pub(crate) fn tool(sim: &mut Sim, unit: &str, line: &str) -> (i32, String, String) {
    // The command fails when the tool fails; the output is in the record of the run.
    let _ = sim.run(&format!("exec {unit} -- {line}"));
    let run = sim.model().hook_runs().last().expect("a run");
    let code = match &run.exit {
        Exit::Success => 0,
        Exit::Code(code) => *code,
        other => panic!("{line}: {other}"),
    };
    (code, run.stdout.clone(), run.stderr.clone())
}

/// The hooks that ran after the given number of runs, as `unit hook`.
pub(crate) fn since(sim: &Sim, start: usize) -> Vec<String> {
    sim.model().hook_runs().iter().skip(start).map(named).collect()
}

fn named(run: &HookRun) -> String {
    let failed = if run.exit == Exit::Success { String::new() } else { format!(" ({})", run.exit) };
    format!("{} {}{failed}", run.unit, run.hook)
}

//! Measures the simulator: hook-tool calls, and hooks.
//!
//! The benchmark is its own charm: Juju's environment tells the program that it runs as one.

#![expect(clippy::print_stdout, reason = "prints its report")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jujusim::{Options, Sim};

const CALLS: u32 = 2000;
const HOOKS: u32 = 200;

fn main() {
    match std::env::var("JUJU_DISPATCH_PATH").as_deref() {
        Ok("hooks/update-status") => call_tools(),
        Ok(_) => {}
        Err(_) => measure(),
    }
}

fn measure() {
    let charm = tempfile::tempdir().expect("a directory");
    std::fs::write(
        charm.path().join("metadata.yaml"),
        "name: quick\npeers:\n  peers: {interface: quick}\n",
    )
    .expect("metadata");
    let exe = std::env::current_exe().expect("a path");
    std::fs::copy(exe, charm.path().join("dispatch")).expect("a charm");
    let launcher = Path::new(env!("CARGO_BIN_EXE_jujusim-launch")).to_owned();
    let mut sim = Sim::new(&Options { launcher, ..Options::default() }).expect("a model");
    let mut run = |command: &str| sim.run(command).expect("the command succeeds");
    run(&format!("deploy {}", charm.path().display()));
    run("settle");
    let started = Instant::now();
    for _ in 0..HOOKS {
        run("trigger quick/0 config-changed");
        run("settle");
    }
    report("hooks of a charm that does nothing", HOOKS, started.elapsed());
    run("trigger quick/0 update-status");
    run("settle");
    for line in run("log quick/0").lines().skip(1) {
        println!("{}", line.trim_start_matches("  DEBUG "));
    }
}

fn call_tools() {
    let started = Instant::now();
    for _ in 0..CALLS {
        let status = Command::new("is-leader").stdout(Stdio::null()).status().expect("a tool");
        assert!(status.success());
    }
    report("calls of a hook tool", CALLS, started.elapsed());
    let started = Instant::now();
    for _ in 0..CALLS {
        let status = Command::new("/bin/true").status().expect("a program");
        assert!(status.success());
    }
    report("for comparison, processes of /bin/true", CALLS, started.elapsed());
}

fn report(what: &str, count: u32, took: Duration) {
    let seconds = took.as_secs_f64() / f64::from(count);
    println!("{what}: {:.0} a second, {:.2} ms each", seconds.recip(), seconds * 1e3);
}

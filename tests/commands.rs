//! What the command prints for people and for programs, beside `tests/scenarios/commands.txt`.

#![expect(clippy::disallowed_methods, reason = "the tests run the command")]

mod common;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use jujusim::{Options, Sim};
use pgbouncer_k8s::pgbouncer::Version;
use serde_json::{Value, json};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgbouncer-k8s"));
    command.args(args);
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().expect("the command runs")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A unit of the charm that every machine can be.
fn unit() -> Sim {
    common::stage();
    let mut sim = Sim::new(&Options::default()).expect("a model");
    sim.run("deploy ./pgbouncer-k8s").expect("the charm is staged");
    sim.run("settle").expect("its hooks run");
    sim
}

/// What a shell prints on that unit.
fn on(sim: &mut Sim, command: &str) -> String {
    sim.run(&format!("exec pgbouncer-k8s/0 -- sh -c \"{command}\"")).expect("the command runs")
}

#[test]
fn version_prints_the_version_of_the_package() {
    let output = run(&["--version"]);
    let expected = format!("pgbouncer-k8s {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stdout)),
        (Some(0), expected.into())
    );
}

#[test]
fn help_uses_the_width_of_the_terminal() {
    let widest = |columns: &str| {
        let output = command(&["check", "--help"]).env("COLUMNS", columns).output();
        let help = output.expect("the command runs").stdout;
        String::from_utf8_lossy(&help).lines().map(|line| line.chars().count()).max()
    };
    let (narrow, wide) = (widest("60"), widest("90"));
    assert!(narrow <= Some(60) && narrow < wide && wide <= Some(90), "{narrow:?} {wide:?}");
}

#[test]
fn check_reports_the_same_in_json_as_in_text() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("to-check.ini");
    let name = file.display().to_string();
    for (text, code, fit) in [
        ("[pgbouncer]\nmax_prepared_statements = 1\n", 1, false),
        ("[pgbouncer]\npool_mode = session\n", 0, true),
    ] {
        fs::write(&file, text).expect("a file");
        let told = run(&["check", &name, "--for", "1.18"]);
        let output = run(&["check", &name, "--for", "1.18", "--format", "json"]);
        assert_eq!((told.status.code(), output.status.code()), (Some(code), Some(code)));
        let findings: Vec<Value> = String::from_utf8_lossy(&told.stdout)
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{name}:"))?.split_once(": "))
            .filter_map(|(line, reason)| {
                Some(json!({"line": line.parse::<usize>().ok()?, "reason": reason}))
            })
            .collect();
        assert_eq!(findings.is_empty(), fit, "{told:?}");
        let expected = json!({"file": name, "version": "1.18", "fit": fit, "findings": findings});
        assert_eq!(json(&String::from_utf8_lossy(&output.stdout)), expected);
    }
}

#[test]
fn check_reads_standard_input_and_several_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let (good, bad) = (file("good.ini", "[pgbouncer]\n"), file("bad.ini", "nonsense\n"));
    let missing = directory.path().join("missing.ini").display().to_string();
    for (files, stdin, code, stdout, stderr) in [
        (&["-"][..], "[pgbouncer]\n", 0, &["-: fit"][..], ""),
        (&["-"], "nonsense\n", 1, &["-:1: ", "-: not fit"], ""),
        (&[good.as_str(), bad.as_str()], "", 1, &["good.ini: fit", "bad.ini: not fit"], ""),
        (
            &[missing.as_str(), good.as_str()],
            "",
            1,
            &["good.ini: fit"],
            "missing.ini: No such file",
        ),
    ] {
        let mut child = command(&[&["check"], files].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(stdin.as_bytes()).expect("it reads");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{files:?}: {output:?}");
        let (found, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(stdout.iter().all(|words| found.contains(words)), "{files:?}: {found}");
        assert!(errors.contains(stderr) && errors.is_empty() == stderr.is_empty(), "{errors}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "nonsense\n".repeat(10_000)).expect("a file");
    let name = file.path().display().to_string();
    for args in [&["check", &name][..], &["check", &name, "--format", "json"]] {
        let mut child = command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn render_lists_the_configuration_of_each_process_in_json() {
    let mut sim = unit();
    let told = json(&on(&mut sim, "./bin/pgbouncer-k8s render --format json 2>/dev/null"));
    let instances = told["instances"].as_array().expect("a list");
    assert_eq!(instances.len(), 2);
    for (instance, told) in instances.iter().enumerate() {
        let text =
            on(&mut sim, &format!("./bin/pgbouncer-k8s render --instance {instance} 2>/dev/null"));
        assert_eq!(told["instance"], instance);
        assert_eq!(told["pgbouncer-ini"], text);
        let digest = told["digest"].as_str().expect("a text");
        assert!(text.ends_with(&format!("\nsyslog_ident = {digest}\n")), "{text}");
        assert!(text.contains("\nlisten_port = "), "a setting has this form: {text}");
        for left_out in told["left-out"].as_array().expect("a list") {
            let name = left_out.as_str().expect("a text");
            assert!(!text.contains(&format!("\n{name} = ")), "{text}");
        }
    }
    assert_eq!(told["users"], json!([]));
    assert_eq!(told["waits"], json!(["waiting for backend database relation to initialise"]));
    assert!(told["pgbouncer-version"].as_str().and_then(Version::parse).is_some(), "{told}");
}

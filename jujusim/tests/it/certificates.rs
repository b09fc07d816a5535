//! Certificates between two charms on Canonical's own library: the authority of the scenarios,
//! tests/charms/tls-provider, serves the library's requirer, and the simulator has what both call.

use std::path::Path;
use std::process::Command;

use jujusim::{Exit, Sim};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::puppets::{model, run, since};
use crate::witness::python;

/// A model with both charms, related at both endpoints; `None` if the library is not installed.
fn stage() -> Option<(Sim, TempDir)> {
    let venv = python("charmlibs")?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/charms");
    for charm in [tests.join("../../../tests/charms/tls-provider"), tests.join("tls-requirer")] {
        let copy = dir.path().join(charm.file_name().expect("a name"));
        let copied = Command::new("cp").arg("-a").args([&charm, &copy]).status().expect("cp");
        assert!(copied.success());
        std::os::unix::fs::symlink(&venv, copy.join("venv")).expect("a link");
    }
    let mut sim = model(&["clock +0s"]);
    let options = "--config validity=60m --config refuse-ips=true";
    for (charm, options) in [("tls-provider", options), ("tls-requirer", "")] {
        run(&mut sim, &format!("deploy {} {options}", dir.path().join(charm).display()));
    }
    run(&mut sim, "integrate tls-requirer:certificates tls-provider");
    run(&mut sim, "integrate tls-requirer tls-provider:send-ca-cert");
    Some((sim, dir))
}

/// What the requirer has after these commands.
fn report(sim: &mut Sim, commands: &[&str]) -> Value {
    for command in commands {
        run(sim, command);
    }
    run(sim, "settle");
    run(sim, "run tls-requirer/0 report");
    let report = &sim.model().hook_runs().last().expect("a run").results["report"];
    serde_json::from_str(report).expect("JSON")
}

#[test]
fn a_certificate_is_issued_refused_rotated_revoked_and_renewed() {
    let Some((mut sim, _dir)) = stage() else { return };
    let refused = report(&mut sim, &[]);
    let why = json!([101, "ip_not_allowed", "addresses are not allowed by policy"]);
    assert_eq!((&refused["denied"], &refused["certificate"]), (&why, &Value::Null), "{refused}");

    let issued = report(&mut sim, &["config tls-requirer addresses=false"]);
    assert_eq!((&issued["addresses"], &issued["requests"]), (&json!([]), &json!(1)), "{issued}");
    assert_eq!(issued["chain"], json!([issued["certificate"], issued["ca"]]));
    assert_eq!(issued["transferred"], json!([issued["ca"]]));

    let below = report(
        &mut sim,
        &["config tls-provider ca=intermediate", "run tls-provider/0 rotate-ca keep-old=true"],
    );
    assert_ne!(below["certificate"], issued["certificate"]);
    let roots = below["transferred"].as_array().expect("roots");
    let chain = below["chain"].as_array().expect("a chain");
    assert_eq!((roots.len(), chain.len()), (2, 3), "{below}");
    assert_eq!(json!([chain[0], chain[1]]), json!([below["certificate"], below["ca"]]));
    assert!(roots.contains(&issued["ca"]) && roots.contains(&chain[2]), "{below}");

    let revoked = report(&mut sim, &["run tls-provider/0 revoke"]);
    assert_eq!(revoked["available"], below["available"], "{revoked}");
    let again = report(&mut sim, &["run tls-provider/0 reissue"]);
    assert_ne!(again["certificate"], below["certificate"]);
    assert_eq!(again["ca"], below["ca"]);

    let start = sim.model().hook_runs().len();
    let renewed = report(&mut sim, &["clock +55m"]);
    assert_ne!(renewed["certificate"], again["certificate"]);
    assert!(since(&sim, start).contains(&"tls-requirer/0 secret-expired".to_owned()));
    // The library's safety net, when Juju loses the event.
    let late = report(&mut sim, &["lose secret-expired", "clock +58m"]);
    assert_ne!(late["certificate"], renewed["certificate"]);
    assert!(sim.model().hook_runs().iter().all(|run| run.exit == Exit::Success));
}

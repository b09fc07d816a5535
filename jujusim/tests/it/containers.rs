//! Workload containers: real Pebble in namespaces of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use jujusim::{Options, Sim, pebble_of};

use crate::puppets::{model_of, options, run, since};

/// Both versions that `scripts/pebble` builds.
const VERSIONS: [&str; 2] = ["1.26.0", "1.32.1"];

/// One model for each Pebble, with two units of a charm that has the container `work`. Prints a
/// message instead if containers cannot run here; with `CI=true` they must.
fn models() -> impl Iterator<Item = Sim> {
    models_of(["3.6.14"; 2])
}

fn models_of(jujus: [&str; 2]) -> impl Iterator<Item = Sim> {
    VERSIONS.into_iter().zip(jujus).filter_map(|(version, juju)| {
        if let Err(error) = pebble_of(version) {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{error}");
            // Not `eprintln!`: its output is hidden when a test passes.
            let _ = writeln!(
                std::io::stderr(),
                "NOT RUN: a test of containers with Pebble {version}: {error}"
            );
            return None;
        }
        let (containers, juju) = (Some(version.to_owned()), juju.to_owned());
        let options = Options { containers, juju, ..options() };
        Some(model_of(&["deploy PUPPET -n 2", "settle"], &options))
    })
}

fn ssh(sim: &mut Sim, unit: &str, command: &str) -> String {
    run(sim, &format!("ssh {unit} -- {command}")).trim().to_owned()
}

fn pebble_ready(sim: &Sim, start: usize) -> Vec<String> {
    since(sim, start).into_iter().filter(|hook| hook.ends_with("work-pebble-ready")).collect()
}

#[test]
fn missing_rights_for_namespaces_are_reported() {
    if let Err(error) = pebble_of(VERSIONS[0]) {
        let said = error.to_string();
        assert!(
            said.contains("containers need namespaces") || said.contains("cannot find Pebble"),
            "{said}"
        );
        return;
    }
    for capability in ["sys_admin", "net_admin"] {
        let mut without = Command::new("setpriv");
        without.arg(format!("--bounding-set=-{capability}")).arg(env!("CARGO_BIN_EXE_jujusim"));
        let output = without.args(["--containers", "-c", "status"]).output().expect("setpriv");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(
            said.contains("containers need namespaces, which cannot be created here: "),
            "{said}"
        );
        assert!(said.contains("not permitted") || said.contains("denied"), "{said}");
    }
}

#[test]
fn a_container_has_its_own_namespaces_and_shares_volumes_with_the_charm() {
    for mut sim in models() {
        assert!(
            ssh(&mut sim, "puppet/0", "cat /proc/1/cmdline").starts_with("/charm/bin/pebble\0run")
        );
        for namespace in ["pid", "mnt", "net"] {
            let mut link =
                |unit: &str| ssh(&mut sim, unit, &format!("readlink /proc/self/ns/{namespace}"));
            let (one, other) = (link("puppet/0"), link("puppet/1"));
            let own =
                std::fs::read_link(format!("/proc/self/ns/{namespace}")).expect("a namespace");
            assert_ne!(one, other);
            assert_ne!(Path::new(&one), own);
        }
        assert_eq!(ssh(&mut sim, "puppet/0", "id -u postgres"), "584788");
        assert!(
            sim.run("ssh puppet/0 -- touch /usr/x").is_err(),
            "the machine's own files are not to be changed"
        );

        ssh(
            &mut sim,
            "puppet/0",
            "sh -c 'echo seen >/charm/container/a; echo seen >/dev/shm/b; echo lost >/c'",
        );
        let root = sim.model().unit_root("puppet/0").expect("a unit").to_owned();
        let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        assert_eq!(read("charm/containers/work/a").as_deref(), Some("seen\n"));
        assert_eq!(read("dev/shm/b").as_deref(), Some("seen\n"));
        assert!(!Path::new("/c").exists());

        run(&mut sim, "restart-container puppet/0");
        assert_eq!(ssh(&mut sim, "puppet/0", "cat /charm/container/a /dev/shm/b"), "seen\nseen");
        assert!(sim.run("ssh puppet/0 -- cat /c").is_err(), "its own files are new");
        run(&mut sim, "replace-pod puppet/0");
        assert!(
            sim.run("ssh puppet/0 -- ls /charm/container/a /dev/shm/b").is_err(),
            "another pod"
        );
    }
}

#[test]
fn each_pod_has_one_address_of_its_own() {
    for mut sim in models() {
        let config = "[databases]\n[pgbouncer]\nlisten_addr = *\nlisten_port = 7777\nauth_type = any\n\
                      stats_users = who\nlogfile = /tmp/log\npidfile = /tmp/pid\nunix_socket_dir = /tmp\n\
                      server_round_robin = ";
        for (unit, mark) in [("puppet/0", "0"), ("puppet/1", "1")] {
            let root = sim.model().unit_root(unit).expect("a unit").to_owned();
            std::fs::write(root.join("charm/containers/work/p.ini"), format!("{config}{mark}\n"))
                .expect("a file");
            ssh(&mut sim, unit, "pgbouncer -d -u postgres /charm/container/p.ini");
        }
        for (unit, mark) in [("puppet/0", "0"), ("puppet/1", "1")] {
            let address = sim.model().unit_address(unit).expect("a unit");
            let login =
                format!("host={address} port=7777 user=who dbname=pgbouncer connect_timeout=5");
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            // A daemon has its port only after the command has ended.
            let mut client = loop {
                match postgres::Client::connect(&login, postgres::NoTls) {
                    Ok(client) => break client,
                    Err(error) => assert!(std::time::Instant::now() < deadline, "{unit}: {error}"),
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            };
            let rows = client.simple_query("SHOW CONFIG").expect("an answer");
            let value = rows.iter().find_map(|message| match message {
                postgres::SimpleQueryMessage::Row(row)
                    if row.get(0) == Some("server_round_robin") =>
                {
                    row.get(1).map(str::to_owned)
                }
                _ => None,
            });
            assert_eq!(value.as_deref(), Some(mark), "{unit}");
            // Each pod reaches itself and the other pod.
            for from in ["puppet/0", "puppet/1"] {
                let connect = format!("bash -c 'exec 3<>/dev/tcp/{address}/7777 && echo open'");
                assert_eq!(ssh(&mut sim, from, &connect), "open", "{from} to {unit}");
            }
        }
    }
}

#[test]
fn pebble_ready_runs_after_each_start_of_container_or_agent() {
    for mut sim in models() {
        assert_eq!(pebble_ready(&sim, 0).len(), 2, "once for each unit");
        for command in
            ["restart-container puppet/0", "restart-agent puppet/0", "replace-pod puppet/0"]
        {
            let start = sim.model().hook_runs().len();
            run(&mut sim, command);
            run(&mut sim, "settle");
            assert_eq!(pebble_ready(&sim, start), ["puppet/0 work-pebble-ready"], "{command}");
            let start = sim.model().hook_runs().len();
            run(&mut sim, "settle");
            assert_eq!(pebble_ready(&sim, start), Vec::<String>::new(), "{command}: only once");
        }
        let start = sim.model().hook_runs().len();
        run(&mut sim, "stop-container puppet/0");
        run(&mut sim, "settle");
        assert!(sim.run("ssh puppet/0 -- true").is_err(), "it does not run");
        run(&mut sim, "start-container puppet/0");
        run(&mut sim, "settle");
        assert_eq!(pebble_ready(&sim, start), ["puppet/0 work-pebble-ready"]);
    }
}

#[test]
fn a_replaced_pod_may_end_slowly() {
    const SERVICE: &str = "trap 'sleep 1; exit' TERM; touch /ready; sleep 1000 & wait";
    const LAYER: &str = "services: {s: {override: replace, startup: enabled, kill-delay: 10s, \
                         command: bash /charm/container/service}}";
    for mut sim in models() {
        let volume =
            sim.model().unit_root("puppet/0").expect("a unit").join("charm/containers/work");
        std::fs::write(volume.join("service"), SERVICE).expect("a file");
        std::fs::write(volume.join("layer"), LAYER).expect("a file");
        ssh(&mut sim, "puppet/0", "/charm/bin/pebble add l /charm/container/layer");
        ssh(&mut sim, "puppet/0", "/charm/bin/pebble replan");
        ssh(&mut sim, "puppet/0", "sh -c 'until test -e /ready; do sleep 0.1; done'");
        let start = std::time::Instant::now();
        assert_eq!(run(&mut sim, "replace-pod puppet/0"), "", "nothing had to be killed");
        assert!(start.elapsed() >= std::time::Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[test]
fn a_check_that_crosses_its_threshold_runs_its_hooks_and_keeps_clients_away() {
    const LAYER: &str = "checks: {c: {override: replace, level: ready, period: 100ms, threshold: 2, \
                         exec: {command: test -e /ok}}}";
    for mut sim in models_of(["4.0.15", "3.6.14"]) {
        ssh(&mut sim, "puppet/0", "touch /ok");
        ssh(
            &mut sim,
            "puppet/0",
            &format!("sh -c \"echo '{LAYER}' >/l; /charm/bin/pebble add l /l\""),
        );
        for (command, hook) in [("rm /ok", "failed"), ("touch /ok", "recovered")] {
            let start = sim.model().hook_runs().len();
            ssh(&mut sim, "puppet/0", command);
            let hook = format!("puppet/0 work-pebble-check-{hook}");
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while !since(&sim, start).contains(&hook) {
                assert!(
                    std::time::Instant::now() < deadline,
                    "no {hook}: {:?}",
                    since(&sim, start)
                );
                std::thread::sleep(std::time::Duration::from_millis(50));
                run(&mut sim, "settle");
            }
        }
        // Juju 4.0 announces both again after a restart of the agent.
        let start = sim.model().hook_runs().len();
        run(&mut sim, "restart-agent puppet/0");
        run(&mut sim, "settle");
        let hooks = since(&sim, start);
        let again = hooks.iter().filter(|hook| hook.contains("-pebble-check-")).count();
        let is_juju_4 = sim.model().version.to_string().starts_with("4.");
        assert_eq!(again, if is_juju_4 { 2 } else { 0 }, "{hooks:?}");
    }
}

#[test]
fn a_removed_model_leaves_nothing_behind() {
    for mut sim in models() {
        let address = sim.model().unit_address("puppet/0").expect("a unit").to_string();
        let routes = || {
            let output = Command::new("ip").args(["route", "show", "table", "local"]).output();
            String::from_utf8_lossy(&output.expect("ip").stdout).into_owned()
        };
        assert!(routes().contains(&format!("{address} ")), "its network is there");
        let root = sim.model().unit_root("puppet/0").expect("a unit").to_owned();
        let pid = ssh(
            &mut sim,
            "puppet/0",
            "sh -c 'cat /proc/sys/kernel/random/uuid >/dev/shm/x; echo $PPID'",
        );
        assert!(!pid.is_empty() && root.join("dev/shm/x").exists());
        drop(sim);
        assert!(!root.exists());
        // The kernel removes namespaces asynchronously.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while routes().contains(&format!("{address} ")) {
            assert!(std::time::Instant::now() < deadline, "its network is still there");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

//! PgBouncer in containers, where a script's transcript would not do: under load, and searched for
//! secrets.

#![expect(clippy::disallowed_methods, reason = "tests look at processes and files")]

mod common;
#[path = "common/loki.rs"]
mod loki;
mod pgbouncer;
#[path = "servers/session.rs"]
#[expect(dead_code, reason = "more is needed where a client is the subject")]
mod session;

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use jujusim::{Entity, Exit, HookRun, Options, PEBBLE, Sim, pebble_of};
use pgbouncer_k8s::pgbouncer::Version;

use loki::{SETTLED, Sink};
use pgbouncer::Program;
use session::Session;

type Outcome = Result<(), Box<dyn Error>>;

/// Since then SIGTERM lets the clients that are there finish (PgBouncer's change log, 1.23.0).
const DRAINS: Version = Version::new(1, 23);

/// Where containers run: the versions of PgBouncer that are installed; nowhere, which is said, and
/// a failure under `CI=true`.
fn places() -> Result<Vec<(Program, Options)>, Box<dyn Error>> {
    if let Err(why) = pebble_of(PEBBLE) {
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err(why.into());
        }
        writeln!(std::io::stderr(), "NOT RUN in containers: {why}")?;
        return Ok(Vec::new());
    }
    let options = |program: &Program| Options {
        containers: Some(PEBBLE.to_owned()),
        pgbouncer: Some(program.directory.clone()),
        ..Options::default()
    };
    Ok(pgbouncer::installed()
        .into_iter()
        .map(|program| (program.clone(), options(&program)))
        .collect())
}

/// Two units that serve a client.
fn model(options: &Options) -> Result<Sim, Box<dyn Error>> {
    common::stage();
    let mut sim = Sim::new(options)?;
    for word in [
        "deploy ./pgbouncer-k8s -n 2",
        "deploy actor:postgresql postgresql-k8s",
        "deploy actor:client shop --config database=shop",
        "settle",
        "integrate pgbouncer-k8s:backend-database postgresql-k8s",
        "settle",
        "integrate pgbouncer-k8s:database shop",
        "settle",
    ] {
        sim.run(word)?;
    }
    Ok(sim)
}

/// The client's login, at a unit of its own choice.
fn session(sim: &Sim, unit: &str) -> Result<Session, Box<dyn Error>> {
    let model = sim.model();
    let relation = *model.relations_at("shop:database").first().ok_or("no relation")?;
    let answer = model.bag(relation, "pgbouncer-k8s");
    let uri = answer.get("secret-user").ok_or("no answer")?;
    let login = model.secret(uri).ok_or("no login")?.content();
    let mut config = tokio_postgres::Config::new();
    config.host(model.unit_address(unit)?.to_string()).port(6432).dbname("shop");
    Ok(Session::connect(config.user(&login["username"]).password(&login["password"]))?)
}

/// `load stop`: the number of errors, and what the last of them were.
fn errors(report: &str) -> Result<usize, Box<dyn Error>> {
    assert!(report.contains("transactions > 0: yes"), "{report}");
    let count = report.lines().find_map(|line| line.strip_prefix("errors: "));
    Ok(count.ok_or("no number of errors")?.parse()?)
}

#[test]
fn a_port_changes_under_load_one_process_at_a_time() -> Outcome {
    for (program, options) in places()? {
        let mut sim = model(&options)?;
        sim.run("load start shop -c 4 --reconnect --or-port 7000")?;
        sim.run("config pgbouncer-k8s listen_port=7000")?;
        sim.run("settle")?;
        for unit in ["pgbouncer-k8s/0", "pgbouncer-k8s/1"] {
            let shown = sim.run(&format!("show-config {unit} listen_port"))?;
            assert_eq!(
                shown, "instance_0: 7000\ninstance_1: 7000\n",
                "{unit} on {}",
                program.version
            );
        }
        let report = sim.run("load stop")?;
        let errors = errors(&report)?;
        writeln!(
            std::io::stderr(),
            "PgBouncer {}: {errors} errors while the port moved",
            program.version
        )?;
        if program.version >= DRAINS {
            assert_eq!(errors, 0, "{report}");
        }
    }
    Ok(())
}

/// The hook that brings a unit another configuration dies between any two requests, to Pebble or to
/// a console: each has a connection of its own. What its processes run at first and what they are
/// to run `change` makes of what the leader publishes.
///
/// It dies at one request of `stride`, with each PgBouncer at others; with `EVERY_REQUEST` set at
/// all, which takes minutes.
fn killed_between_two_requests(
    stride: usize,
    restarts: bool,
    change: fn(&str) -> [String; 2],
) -> Outcome {
    let stride = if std::env::var_os("EVERY_REQUEST").is_some() { 1 } else { stride };
    let lines = |of: &str, not_of: &str| -> Vec<String> {
        let lines = of.lines().filter(|line| !not_of.lines().any(|other| other == *line));
        lines.map(str::to_owned).collect()
    };
    for (index, (program, options)) in places()?.into_iter().enumerate() {
        let mut sim = model(&options)?;
        let relation =
            *sim.model().relations_at("pgbouncer-k8s:pgb-peers").first().ok_or("no peers")?;
        let bag = sim.model().bag(relation, "pgbouncer-k8s");
        let [old, new] = change(bag.get("cfg_file").ok_or("nothing is published")?);
        let (gained, lost) = (lines(&new, &old), lines(&old, &new));
        assert!(gained.len() + lost.len() > 0);
        let file = tempfile::NamedTempFile::new()?;
        let publish = |sim: &mut Sim, text: &str| -> Outcome {
            fs::write(file.path(), text)?;
            let path = file.path().display();
            sim.run(&format!("databag pgbouncer-k8s:pgb-peers pgbouncer-k8s cfg_file=@{path}"))?;
            Ok(())
        };
        // It would publish its own again.
        sim.run("lose-agent pgbouncer-k8s/0")?;
        // No other unit leads and publishes its own meanwhile.
        sim.run("leader pgbouncer-k8s/0")?;
        for nth in (1 + index * stride / 2..).step_by(stride) {
            let place = format!("on {}, killed at request {nth}", program.version);
            // Before Pebble restarts a process again it waits, each time longer, unless it was told
            // to start it.
            sim.run("ssh pgbouncer-k8s/1 -- /charm/bin/pebble stop pgbouncer_0 pgbouncer_1")?;
            publish(&mut sim, &old)?;
            sim.run("trigger pgbouncer-k8s/1 update-status")?;
            sim.run("settle")?;
            let before = sim.model().instances("pgbouncer-k8s/1")?;
            for instance in &before {
                let ini = fs::read_to_string(&instance.ini)?;
                assert!(lost.iter().all(|line| ini.contains(line)), "{place}, before: {ini}");
            }
            let count = sim.model().hook_runs().len();

            publish(&mut sim, &new)?;
            sim.run(&format!("kill pgbouncer-k8s/1 at syscall connect {nth} --no-follow"))?;
            sim.run("settle")?;
            for (before, after) in before.iter().zip(sim.model().instances("pgbouncer-k8s/1")?) {
                let ini = fs::read_to_string(&after.ini)?;
                assert!(gained.iter().all(|line| ini.contains(line)), "{place}: {ini}");
                assert!(!lost.iter().any(|line| ini.contains(line)), "{place}: {ini}");
                assert_eq!(before.pid != after.pid, restarts, "{place}: {before:?}, {after:?}");
            }
            let pooler = sim.run("pooler pgbouncer-k8s")?;
            assert_eq!(pooler.matches("2/2").count(), 2, "{place}: {pooler}");
            // All is known to be loaded, and nothing left to be done.
            let files = sim.run("files pgbouncer-k8s/1")?;
            assert_eq!(files.matches("/loaded").count(), 2, "{place}: {files}");
            assert!(!files.contains("/pending-restart"), "{place}: {files}");
            let runs = &sim.model().hook_runs()[count..];
            if !runs.iter().any(|run| matches!(run.exit, Exit::Killed(_))) {
                assert!(nth > 30, "{place}: it lived");
                break;
            }
        }
    }
    Ok(())
}

#[test]
fn the_next_hook_repeats_a_reload_killed_between_two_requests() -> Outcome {
    killed_between_two_requests(6, false, |published| {
        let other = published.replace("max_db_connections = 100", "max_db_connections = 99");
        [published.to_owned(), other]
    })
}

#[test]
fn the_next_hook_repeats_a_port_change_killed_between_two_requests() -> Outcome {
    killed_between_two_requests(24, true, |published| {
        [published.to_owned(), published.replace("listen_port = 6432", "listen_port = 7000")]
    })
}

/// PgBouncer tells nobody that it keeps a database for all names, which only a restart takes from
/// it.
#[test]
fn a_restart_that_only_a_record_shows_is_not_lost() -> Outcome {
    killed_between_two_requests(12, true, |published| {
        let auth = published.lines().find_map(|line| line.strip_prefix("pgbouncer_auth = "));
        let all = format!("[databases]\n* = {}\n", auth.unwrap_or_default());
        [published.replace("[databases]\n", &all), published.to_owned()]
    })
}

/// Also while its files are half written, before a request or with one on its way.
#[test]
fn a_container_that_restarts_between_two_requests_of_a_load_serves_again() -> Outcome {
    for (index, (program, options)) in places()?.into_iter().enumerate() {
        let syscall = if index == 0 { "socket" } else { "connect" };
        let mut sim = model(&options)?;
        let mut value = 100;
        // The load finds a container that serves, or one that is new.
        for is_new in [false, true] {
            for nth in (2 + 6 * index..).step_by(12) {
                let place = format!("at {syscall} {nth} on {}, new: {is_new}", program.version);
                let count = sim.model().hook_runs().len();
                if is_new {
                    sim.run("restart-container pgbouncer-k8s/0")?;
                } else {
                    value += 1;
                    sim.run(&format!("config pgbouncer-k8s max_db_connections={value}"))?;
                }
                let restart = "restart-container pgbouncer-k8s/0";
                sim.run(&format!(
                    "at pgbouncer-k8s/0 syscall {syscall} {nth} --no-follow do {restart}"
                ))?;
                sim.run("settle")?;
                let shown = sim.run("show-config pgbouncer-k8s/0 max_db_connections")?;
                assert_eq!(shown, format!("instance_0: {value}\ninstance_1: {value}\n"), "{place}");
                let served = sim.run("sql shop \"SELECT 'served'\" --through pgbouncer-k8s/0")?;
                assert_eq!(served, "served\n", "{place}");
                assert_eq!(sim.model().unit_status("pgbouncer-k8s/0")?.word, "active", "{place}");
                let is_struck = |run: &HookRun| run.log.iter().any(|line| line.ends_with(restart));
                if !sim.model().hook_runs()[count..].iter().any(is_struck) {
                    assert!(nth > 30, "{place}: it was over");
                    break;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn failures_of_a_unit_do_not_affect_the_clients_of_another() -> Outcome {
    for (program, options) in places()? {
        let mut sim = model(&options)?;
        for befalls in [
            &["restart-container pgbouncer-k8s/0"][..],
            &["kill-process pgbouncer-k8s/0"],
            &["stop-container pgbouncer-k8s/0", "wait 1m", "start-container pgbouncer-k8s/0"],
            &["replace-pod pgbouncer-k8s/0"],
        ] {
            sim.run("load start shop -c 4 --through pgbouncer-k8s/1")?;
            for word in befalls {
                sim.run(word)?;
            }
            sim.run("settle")?;
            let report = sim.run("load stop")?;
            assert_eq!(errors(&report)?, 0, "{befalls:?} on {}: {report}", program.version);
            let served = sim.run("sql shop \"SELECT 'served'\" --through pgbouncer-k8s/0")?;
            assert_eq!(served, "served\n", "{befalls:?} on {}", program.version);
        }
    }
    Ok(())
}

#[test]
fn an_ending_pod_waits_for_its_clients_up_to_a_limit() -> Outcome {
    for (program, options) in places()?.into_iter().filter(|(program, _)| program.version >= DRAINS)
    {
        let mut sim = model(&options)?;
        let (works, stays) = (session(&sim, "pgbouncer-k8s/0")?, session(&sim, "pgbouncer-k8s/0")?);
        let work = thread::spawn(move || works.ask("SELECT 'done' FROM pg_sleep(3)"));
        let start = Instant::now();
        // Pebble is to end by itself, and within Kubernetes' time.
        assert_eq!(sim.run("replace-pod pgbouncer-k8s/0")?, "", "on {}", program.version);
        assert!(
            start.elapsed() > Duration::from_secs(20),
            "the one that stays had {:?}",
            start.elapsed()
        );
        assert_eq!(
            work.join().map_err(|_| "a panic")?,
            Ok("done".to_owned()),
            "on {}",
            program.version
        );
        assert!(stays.ask("SELECT 1").is_err());
        sim.run("settle")?;
        assert_eq!(sim.run("sql shop \"SELECT 'served'\" --through pgbouncer-k8s/0")?, "served\n");
    }
    Ok(())
}

#[test]
fn no_secret_is_readable_by_others() -> Outcome {
    for (program, options) in places()? {
        let mut sim = model(&options)?;
        sim.run("config pgbouncer-k8s listen_port=7000")?;
        let has_keys = match common::stage_tls_provider() {
            Ok(()) => true,
            Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => return Err(why.into()),
            Err(why) => {
                writeln!(std::io::stderr(), "NOT RUN with private keys: {why}")?;
                false
            }
        };
        if has_keys {
            sim.run("deploy ./tls-provider")?;
            sim.run("integrate pgbouncer-k8s:certificates tls-provider")?;
        }
        sim.run("restart-container pgbouncer-k8s/0")?;
        sim.run("settle")?;
        // The administrator's, the monitor's, the clients', and the lines of the user list.
        let mut secrets = sim.model().passwords();
        assert!(secrets.len() >= 6, "{}", secrets.len());

        let mut texts = Vec::new();
        for number in 0..2 {
            let unit = format!("pgbouncer-k8s/{number}");
            if has_keys {
                secrets.insert(private_key(&mut sim, &unit)?);
            }
            texts.push((format!("the log of {unit}"), sim.run(&format!("log {unit}"))?));
            for endpoint in ["pgb-peers", "certificates"] {
                let ids = sim.model().relations_at(&format!("pgbouncer-k8s:{endpoint}"));
                for id in ids {
                    let bag = format!("{:?}", sim.model().bag(id, &unit));
                    texts.push((format!("the bag of {unit} in {endpoint}"), bag));
                }
            }
            for (command, shows) in [
                ("/charm/bin/pebble plan", "/var/lib/pgbouncer/instance_1/pgbouncer.ini"),
                ("/charm/bin/pebble logs -n all", "listening on"),
                ("/charm/bin/pebble changes", "Done"),
                ("cat /charm/container/pebble/.pebble.state", "pgbouncer_1"),
                (
                    "sh -c \"cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '\"",
                    "pgbouncer.ini",
                ),
            ] {
                let text = sim.run(&format!("ssh {unit} -- {command}"))?;
                assert!(text.contains(shows), "{command}: {text}");
                texts.push((format!("{unit} {command}"), text));
            }
            let log = sim.model().unit_root(&unit)?.join("var/log/pebble-pgbouncer.log");
            texts.push((log.display().to_string(), fs::read_to_string(log)?));
        }
        for (place, text) in &texts {
            for secret in &secrets {
                assert!(!text.contains(secret), "{place} on {} tells a secret", program.version);
            }
        }
    }
    Ok(())
}

/// Stands for the exporter of the image: it tells what the console answers that it is pointed to,
/// and stays there.
const EXPORTER: &str = r#"#!/bin/bash
for argument in "$@"; do
    case $argument in
        --version) exit ;;
        --web.listen-address=*) echo "listens on ${argument#*=}" ;;
    esac
done
while PSQL -XAtw "$PGBOUNCER_EXPORTER_CONNECTION_STRING" < <(echo 'SHOW VERSION;' && exec sleep infinity) || sleep 0.1; do :; done
"#;

/// The first line of a unit's private key, which only PgBouncer may read.
fn private_key(sim: &mut Sim, unit: &str) -> Result<String, Box<dyn Error>> {
    let file = format!("/dev/shm/{}/tls.pem", unit.replace('/', "-"));
    let mode = sim.run(&format!("ssh {unit} -- stat -c %a/%U/%G {file}"))?;
    assert_eq!(mode.trim(), "400/postgres/postgres", "{unit}");
    let owner = Entity::Unit(unit.parse()?);
    let secret = sim.model().secrets_of(&owner).next().ok_or("no secret")?;
    Ok(secret.content()["key"].lines().nth(1).ok_or("no key")?.to_owned())
}

#[test]
fn the_exporter_needs_no_password_and_does_not_delay_a_drain() -> Outcome {
    for (program, options) in places()? {
        let psql = fs::read_dir("/usr/lib/postgresql")?
            .flatten()
            .map(|entry| entry.path().join("bin/psql"));
        let psql = psql.filter(|psql| psql.exists()).max().ok_or("no psql")?;
        // The user of the image goes through there.
        let image = tempfile::tempdir_in("/tmp")?;
        fs::set_permissions(image.path(), fs::Permissions::from_mode(0o755))?;
        fs::copy(program.directory.join("pgbouncer"), image.path().join("pgbouncer"))?;
        let exporter = image.path().join("pgbouncer_exporter");
        fs::write(&exporter, EXPORTER.replace("PSQL", &psql.display().to_string()))?;
        fs::set_permissions(&exporter, fs::Permissions::from_mode(0o755))?;
        let mut sim = model(&Options { pgbouncer: Some(image.path().to_owned()), ..options })?;
        for port in [6432, 7000] {
            sim.run(&format!("config pgbouncer-k8s listen_port={port}"))?;
            sim.run("settle")?;
            for (service, listens) in [("metrics_server", ":9127"), ("metrics_server_1", ":9128")] {
                let mut said = String::new();
                let deadline = Instant::now() + Duration::from_secs(20);
                let expected = format!("PgBouncer {}", program.version);
                let count = if port == 6432 { 1 } else { 2 };
                while said.matches(&expected).count() < count {
                    assert!(
                        Instant::now() < deadline,
                        "{service} at {port} on {}: {said}",
                        program.version
                    );
                    said = sim.run(&format!(
                        "ssh pgbouncer-k8s/0 -- /charm/bin/pebble logs -n all {service}"
                    ))?;
                }
                assert!(said.contains(&format!("listens on {listens}\n")), "{said}");
            }
        }
        let log = sim
            .run("ssh pgbouncer-k8s/0 -- /charm/bin/pebble logs -n all pgbouncer_0 pgbouncer_1")?;
        assert_eq!(log.matches("got SIGTERM").count(), 2, "on {}: {log}", program.version);
    }
    Ok(())
}

/// The logs of two units at two sinks, one of which two units of Loki publish.
#[test]
fn each_line_of_each_process_arrives_once_at_each_loki_while_it_is_related() -> Outcome {
    // Pebble forwards, whatever the version of PgBouncer.
    let Some((_, options)) = places()?.pop() else { return Ok(()) };
    common::stage();
    let neighbour = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/neighbour");
    let mut sim = Sim::new(&options)?;
    for word in [
        "deploy ./pgbouncer-k8s -n 2",
        "deploy actor:postgresql postgresql-k8s",
        &format!("deploy {} -n 3", neighbour.display()),
        "integrate pgbouncer-k8s:backend-database postgresql-k8s",
        "settle",
    ] {
        sim.run(word)?;
    }
    let units = ["pgbouncer-k8s/0", "pgbouncer-k8s/1"];
    // The calls and requests of a hook in which nothing is new.
    let quiet = |sim: &mut Sim| -> Result<Vec<(usize, usize)>, Box<dyn Error>> {
        for unit in units {
            sim.run(&format!("trigger {unit} config-changed"))?;
        }
        sim.run("settle")?;
        let runs = sim.model().hook_runs();
        Ok(runs[runs.len() - 2..].iter().map(|run| (run.calls.len(), run.pebble)).collect())
    };
    let before = quiet(&mut sim)?;

    let [a, b, c, _] = sim.model().unit_address(units[0])?.octets();
    let (one, two) =
        (Sink::start(Ipv4Addr::new(a, b, c, 252))?, Sink::start(Ipv4Addr::new(a, b, c, 253))?);
    sim.run("integrate pgbouncer-k8s:logging neighbour")?;
    sim.run("settle")?;
    for (unit, sink) in [(0, &one), (1, &one), (2, &two)] {
        let endpoint = sink.endpoint();
        sim.run(&format!("databag neighbour:logging neighbour/{unit} 'endpoint={endpoint}'"))?;
    }
    sim.run("settle")?;
    let all: Vec<_> =
        units.iter().flat_map(|unit| [0, 1].map(|n| format!("{unit} pgbouncer_{n}"))).collect();
    assert_eq!(one.wait_for("process up: PgBouncer", 4), all);
    assert_eq!(two.wait_for("process up: PgBouncer", 4), all);
    let line = one.lines().into_iter().next().ok_or("no line")?;
    let unit_label = line.labels.get("juju_unit").ok_or("no unit")?;
    assert!(units.contains(&unit_label.as_str()), "{line:?}");
    for (name, value) in [
        ("juju_application", "pgbouncer-k8s"),
        ("juju_charm", "pgbouncer-k8s"),
        ("juju_model", "dev"),
        ("product", "Juju"),
    ] {
        assert_eq!(line.labels.get(name).map(String::as_str), Some(value), "{line:?}");
    }

    // A hook in which nothing is new costs what it did, and changes neither bag nor plan.
    let relation = *sim.model().relations_at("pgbouncer-k8s:logging").first().ok_or("none")?;
    let bag = sim.model().bag(relation, "pgbouncer-k8s");
    let plan = sim.run("ssh pgbouncer-k8s/0 -- /charm/bin/pebble plan")?;
    assert_eq!(quiet(&mut sim)?, before);
    assert_eq!(sim.model().bag(relation, "pgbouncer-k8s"), bag);
    assert_eq!(sim.run("ssh pgbouncer-k8s/0 -- /charm/bin/pebble plan")?, plan);

    // PgBouncer ends by a fatal error.
    let break_file = "echo no line of a file >>/var/lib/pgbouncer/instance_0/pgbouncer.ini; \
                      /charm/bin/pebble restart pgbouncer_0 || true";
    sim.run(&format!("ssh pgbouncer-k8s/1 -- sh -c '{break_file}'"))?;
    for sink in [&one, &two] {
        let fatal = sink.wait_for("FATAL cannot load config file", 1);
        assert!(!fatal.is_empty() && fatal.iter().all(|from| *from == all[2]), "{fatal:?}");
    }
    sim.run("trigger pgbouncer-k8s/1 update-status")?;
    sim.run("settle")?;
    assert_eq!(sim.model().unit_status(units[1])?.word, "active");

    // The unit with the second URL leaves. A marked login shows who still gets lines.
    sim.run("remove-unit neighbour")?;
    sim.run("settle")?;
    log_in_as(&sim, units[0], "first_stranger")?;
    assert_eq!(one.wait_for("no such user: first_stranger", 1).len(), 1);
    assert_eq!(two.senders("first_stranger"), [""; 0]);

    // A new pod has an empty plan.
    let ups = one.senders("process up: PgBouncer").len();
    sim.run("replace-pod pgbouncer-k8s/0")?;
    sim.run("settle")?;
    assert_eq!(one.wait_for("process up: PgBouncer", ups + 2).len(), ups + 2);

    // Forwarding stops within the hook of the unit that ends the relation there.
    sim.run("remove-relation pgbouncer-k8s:logging neighbour")?;
    while !ended(&sim, units[0]) {
        sim.run("step --unit pgbouncer-k8s/0 1")?;
    }
    log_in_as(&sim, units[0], "second_stranger")?;
    thread::sleep(SETTLED);
    assert_eq!(one.senders("second_stranger"), [""; 0]);
    sim.run("settle")?;
    assert_eq!(quiet(&mut sim)?, before);
    Ok(())
}

/// Lines never go on to a Loki that is gone, whenever a hook dies.
#[test]
fn a_change_of_log_targets_killed_between_two_requests_is_repeated() -> Outcome {
    let Some((_, options)) = places()?.pop() else { return Ok(()) };
    common::stage();
    let neighbour = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/neighbour");
    let mut sim = Sim::new(&options)?;
    sim.run("deploy ./pgbouncer-k8s")?;
    sim.run(&format!("deploy {}", neighbour.display()))?;
    sim.run("settle")?;
    sim.run("integrate pgbouncer-k8s:logging neighbour")?;
    sim.run("settle")?;
    for nth in 1.. {
        let url = format!("http://127.0.0.1:1/loki/api/v1/push?{nth}");
        let endpoint = format!(r#"{{"url": "{url}"}}"#);
        sim.run(&format!("databag neighbour:logging neighbour/0 'endpoint={endpoint}'"))?;
        let count = sim.model().hook_runs().len();
        sim.run(&format!("kill pgbouncer-k8s/0 at syscall connect {nth} --no-follow"))?;
        // Before the hook is retried, Loki has another URL.
        let other = endpoint.replace('?', "?again");
        sim.run("step 1")?;
        sim.run(&format!("databag neighbour:logging neighbour/0 'endpoint={other}'"))?;
        sim.run("settle")?;
        let plan = sim.run("ssh pgbouncer-k8s/0 -- /charm/bin/pebble plan")?;
        let targets: Vec<_> = plan.split("type: loki").skip(1).collect();
        let enabled: Vec<_> = targets.iter().filter(|target| target.contains("- all\n")).collect();
        assert_eq!(enabled.len(), 1, "killed at request {nth}: {plan}");
        assert!(enabled[0].contains(&url.replace('?', "?again")), "{nth}: {plan}");
        let runs = &sim.model().hook_runs()[count..];
        if !runs.iter().any(|run| matches!(run.exit, Exit::Killed(_))) {
            assert!(nth > 6, "killed at request {nth}: it lived");
            break;
        }
    }
    Ok(())
}

/// Whether the last hook of this unit ended its relation `logging`.
fn ended(sim: &Sim, unit: &str) -> bool {
    let run = sim.model().hook_runs().iter().rev().find(|run| run.unit == unit);
    run.is_some_and(|run| run.hook == "logging-relation-broken")
}

/// A login at this unit that PgBouncer rejects and logs.
fn log_in_as(sim: &Sim, unit: &str, user: &str) -> Outcome {
    let mut config = tokio_postgres::Config::new();
    config.host(sim.model().unit_address(unit)?.to_string()).port(6432).dbname("shop");
    assert!(Session::connect(config.user(user).password("wrong")).is_err());
    Ok(())
}

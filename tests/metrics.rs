//! The relation `metrics-endpoint`: a real Prometheus scrapes the real exporters of a model by what
//! is in the databags, and the alert rules fire for the right reason.

#![expect(clippy::disallowed_methods, reason = "a test starts Prometheus and asks it")]

mod common;
mod pgbouncer;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use jujusim::{Bag, Options, PEBBLE, Sim, pebble_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgbouncer_k8s::endpoints::metrics_endpoint::RULES;
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn Error>>;

/// How long Prometheus may take to see a change. It scrapes twice a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that some tests need, or nothing, which is said, and a failure under `CI=true`.
fn needs(path: &Path, script: &str) -> Result<bool, Box<dyn Error>> {
    if path.exists() {
        return Ok(true);
    }
    let missing = format!("{} is missing: run {script}", path.display());
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err(missing.into());
    }
    writeln!(std::io::stderr(), "NOT RUN: {missing}")?;
    Ok(false)
}

#[test]
fn each_alert_fires_in_its_situation_and_in_no_other() -> Outcome {
    let promtool = Path::new("/usr/bin/promtool");
    if !needs(promtool, "scripts/parts prometheus")? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("rules.yaml"), RULES)?;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics/alerts.yaml");
    let text = fs::read_to_string(&tests)?;
    fs::write(directory.path().join("alerts.yaml"), &text)?;
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]] {
        let output =
            Command::new(promtool).args(arguments).current_dir(directory.path()).output()?;
        let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{arguments:?}: {shown}");
    }
    // Every alert has a test in which it fires.
    let rules: Value = serde_yaml::from_str(RULES)?;
    for rule in rules["groups"][0]["rules"].as_array().ok_or("no rules")? {
        let name = rule["alert"].as_str().ok_or("no name")?;
        let fires = format!("alertname: {name}\n    exp_alerts:");
        assert!(text.contains(&fires), "{name} has no test in which it fires");
    }
    Ok(())
}

/// A Prometheus that scrapes a model.
struct Prometheus {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
}

impl Prometheus {
    fn start() -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        // The port is free again when Prometheus binds it.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = directory.path().join("prometheus.yml");
        fs::write(&config, "{}")?;
        let log = fs::File::create(directory.path().join("log"))?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // The series of a job that is removed would count for five more minutes.
            .arg("--query.lookback-delta=3s")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self { child, directory, port })
    }

    /// Follows the databags, as Prometheus' charm does in its hooks.
    fn follow(&self, sim: &Sim) -> Outcome {
        // An alert that lasts is one of the shortened rules: `for` is a second.
        let is_for = |line: &str| line.trim_start().starts_with("for: ");
        let rules = RULES.lines().map(|line| if is_for(line) { "    for: 1s" } else { line });
        fs::write(self.directory.path().join("rules.yaml"), rules.collect::<Vec<_>>().join("\n"))?;
        let config = json!({
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": scrape_configs(sim)?,
        });
        fs::write(self.directory.path().join("prometheus.yml"), config.to_string())?;
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGHUP)?;
        Ok(())
    }

    /// The answer to a query: the value of each series, by its labels.
    fn query(&self, expression: &str) -> Result<Vec<(Value, String)>, Box<dyn Error>> {
        let server = format!("http://127.0.0.1:{}", self.port);
        let output = Command::new("promtool")
            .args(["query", "instant", "--format=json", &server, expression])
            .output()?;
        let answer: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let series = answer.iter().map(|series| {
            let value = series["value"][1].as_str().unwrap_or_default();
            (series["metric"].clone(), value.to_owned())
        });
        Ok(series.collect())
    }

    /// Waits until a query has an answer that is right.
    #[track_caller]
    fn wait_for(&self, expression: &str, is_right: impl Fn(&[(Value, String)]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = Vec::new();
        while Instant::now() < deadline {
            last = self.query(expression).expect("promtool runs");
            if is_right(&last) {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        panic!("{expression}: {last:?}\n{log}");
    }

    /// Waits until these targets, as `unit process`, are up, and no others are known.
    #[track_caller]
    fn sees(&self, targets: &[&str]) {
        self.wait_for("up", |series| {
            let mut found: Vec<String> = series
                .iter()
                .map(|(labels, value)| {
                    let text = |label: &str| labels[label].as_str().unwrap_or("-").to_owned();
                    format!("{} {} {value}", text("juju_unit"), text("pgbouncer_process"))
                })
                .collect();
            found.sort();
            let wanted: Vec<String> =
                targets.iter().map(|target| format!("pgbouncer-k8s/{target} 1")).collect();
            found == wanted
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The jobs that Prometheus' charm makes of the databags, written after its library
/// (`prometheus_scrape` v0, LIBPATCH 61): a wildcard is replaced by the address of each unit that
/// has a name and an address; a target of a unit's address or name belongs to that unit; ours win
/// over the labels of the topology. Names are resolved here, as the cluster's DNS would.
fn scrape_configs(sim: &Sim) -> Result<Value, Box<dyn Error>> {
    let model = sim.model();
    let Some(&relation) = model.relations_at("pgbouncer-k8s:metrics-endpoint").first() else {
        return Ok(json!([]));
    };
    let app = model.bag(relation, "pgbouncer-k8s");
    let key = |key: &str| app.get(key).cloned().ok_or(format!("the app bag has no {key}"));
    let metadata: BTreeMap<String, String> = serde_json::from_str(&key("scrape_metadata")?)?;
    let jobs: Vec<Value> = serde_json::from_str(&key("scrape_jobs")?)?;
    let named = |bag: &Bag| {
        let text = |part: &str| bag.get(&format!("prometheus_scrape_unit_{part}")).cloned();
        Some((text("name")?, text("address")?))
    };
    let numbers = 0..9;
    let units: Vec<(String, String)> = numbers
        .filter_map(|number| named(&model.bag(relation, &format!("pgbouncer-k8s/{number}"))))
        .filter(|(unit, _)| model.unit_address(unit).is_ok())
        .collect();
    let mut configs = Vec::new();
    for job in &jobs {
        for config in job["static_configs"].as_array().ok_or("no static_configs")? {
            let target = config["targets"][0].as_str().ok_or("no target")?;
            let (host, port) = target.rsplit_once(':').ok_or("no port")?;
            for (unit, address) in units.iter().filter(|(_, at)| host == "*" || host == at) {
                let mut labels = serde_json::Map::from_iter([
                    ("juju_model".to_owned(), metadata["model"].clone().into()),
                    ("juju_model_uuid".to_owned(), metadata["model_uuid"].clone().into()),
                    ("juju_application".to_owned(), metadata["application"].clone().into()),
                    ("juju_unit".to_owned(), unit.clone().into()),
                ]);
                labels.extend(config["labels"].as_object().cloned().unwrap_or_default());
                let number = unit.rsplit('/').next().unwrap_or_default();
                let mut name = String::new();
                write!(name, "{}-{number}", job["job_name"].as_str().ok_or("no job_name")?)?;
                assert!(address.starts_with(&unit.replace('/', "-")), "{address}");
                configs.push(json!({
                    "job_name": name,
                    "metrics_path": job["metrics_path"],
                    "static_configs": [{
                        "targets": [format!("{}:{port}", model.unit_address(unit)?)],
                        "labels": labels,
                    }],
                    "relabel_configs": [{
                        "source_labels": ["juju_model", "juju_unit"],
                        "separator": "_",
                        "target_label": "instance",
                    }],
                }));
            }
        }
    }
    Ok(configs.into())
}

/// An image with PgBouncer and the exporter.
fn image(
    program: &pgbouncer::Program,
    exporter: &Path,
) -> Result<tempfile::TempDir, Box<dyn Error>> {
    // The user of the image goes through there.
    let image = tempfile::tempdir_in("/tmp")?;
    fs::set_permissions(image.path(), fs::Permissions::from_mode(0o755))?;
    fs::copy(program.directory.join("pgbouncer"), image.path().join("pgbouncer"))?;
    fs::copy(exporter, image.path().join("pgbouncer_exporter"))?;
    Ok(image)
}

fn exporter() -> PathBuf {
    pgbouncer::cache().join("pgbouncer_exporter-0.12.1/bin/pgbouncer_exporter")
}

#[test]
fn prometheus_sees_every_process_of_every_unit_whatever_happens() -> Outcome {
    let is_here = needs(&exporter(), "scripts/exporter")?
        && needs(Path::new("/usr/bin/prometheus"), "scripts/parts prometheus")?;
    if let (true, Err(why)) = (is_here, pebble_of(PEBBLE)) {
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err(why.into());
        }
        writeln!(std::io::stderr(), "NOT RUN in containers: {why}")?;
        return Ok(());
    }
    if !is_here {
        return Ok(());
    }
    common::stage();
    let program = pgbouncer::installed().pop().ok_or("no PgBouncer")?;
    let image = image(&program, &exporter())?;
    let mut sim = Sim::new(&Options {
        containers: Some(PEBBLE.to_owned()),
        pgbouncer: Some(image.path().to_owned()),
        ..Options::default()
    })?;
    let neighbour = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/neighbour");
    let prometheus = Prometheus::start()?;
    let mut go = |words: &[&str]| -> Outcome {
        for word in words {
            sim.run(word)?;
        }
        sim.run("settle")?;
        prometheus.follow(&sim)
    };
    go(&[
        "deploy ./pgbouncer-k8s -n 3",
        "deploy actor:postgresql postgresql-k8s",
        "deploy actor:client shop --config database=shop",
        &format!("deploy {} prometheus", neighbour.display()),
        "settle",
        "integrate pgbouncer-k8s:backend-database postgresql-k8s",
        "integrate pgbouncer-k8s:metrics-endpoint prometheus",
        "settle",
        "integrate pgbouncer-k8s:database shop",
    ])?;
    prometheus.sees(&["0 0", "0 1", "1 0", "1 1", "2 0", "2 1"]);
    // Each exporter logs in to its own process.
    prometheus.wait_for("count(pgbouncer_up == 1)", |found| found.iter().any(|(_, n)| n == "6"));

    // Each panel of the dashboard shows something once a client has come.
    for unit in 0..3 {
        go(&[&format!("sql shop \"SELECT 1\" --through pgbouncer-k8s/{unit}")])?;
    }
    let dashboard: Value =
        serde_json::from_str(include_str!("../src/endpoints/grafana_dashboard/dashboard.json"))?;
    for panel in dashboard["panels"].as_array().ok_or("no panels")? {
        for target in panel["targets"].as_array().ok_or("no targets")? {
            let expression = target["expr"].as_str().ok_or("no expression")?;
            let every = expression.replace("$pgbouncer_process", ".*");
            prometheus.wait_for(&every, |series| !series.is_empty());
        }
    }

    // Another number of processes: a new container has another limit.
    go(&["limit pgbouncer-k8s/2 4", "restart-container pgbouncer-k8s/2"])?;
    let eight = ["0 0", "0 1", "1 0", "1 1", "2 0", "2 1", "2 2", "2 3"];
    prometheus.sees(&eight);
    go(&["replace-pod pgbouncer-k8s/1"])?;
    prometheus.sees(&eight);
    // With `for: 1s` a restart may alert for a moment; no alert remains.
    prometheus.wait_for("ALERTS", <[_]>::is_empty);
    go(&["leader pgbouncer-k8s/1"])?;
    prometheus.sees(&eight);
    go(&["remove-unit pgbouncer-k8s"])?;
    prometheus.sees(&["0 0", "0 1", "1 0", "1 1"]);
    prometheus.wait_for("ALERTS", <[_]>::is_empty);

    // A process that is stopped does not answer its exporter.
    sim.run("ssh pgbouncer-k8s/0 -- /charm/bin/pebble stop pgbouncer_1")?;
    prometheus.wait_for("ALERTS{alertstate=\"firing\"}", |series| {
        series.iter().any(|(labels, _)| {
            labels["alertname"] == "PgBouncerProcessDown"
                && labels["juju_unit"] == "pgbouncer-k8s/0"
                && labels["pgbouncer_process"] == "1"
        })
    });
    Ok(())
}

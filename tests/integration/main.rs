//! The charm's life as its operator sees it: each step is a `juju` command, each answer is what
//! `juju` prints or what a client gets through PgBouncer. `make integration` says which `juju` runs
//! and which charms are PostgreSQL and the client. On a slow cloud a step takes longer: each waits
//! for the state that it needs.
//!
//! scripts/integration sets the environment variables. The model must have no applications with
//! these names, and has none afterwards.

#![expect(clippy::disallowed_methods, reason = "runs juju, kubectl and psql")]
#![expect(clippy::print_stderr, reason = "shows the progress")]

use std::env::var;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

const APP: &str = "pgbouncer-k8s";
const POSTGRESQL: &str = "postgresql";
const CLIENT: &str = "client";

/// How long one state may take, with pulling images and scheduling pods.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

#[test]
fn a_life_from_deployment_to_removal() {
    let charm = given("PGBOUNCER_K8S_CHARM");
    let image = given("PGBOUNCER_IMAGE");

    step("deploy");
    juju(&["deploy", &charm, APP, "--resource", &format!("pgbouncer-image={image}")]);
    until("the status names what is missing", |status| {
        status.message(APP) == "waiting for backend database relation to initialise"
            && status.word(APP) == "blocked"
    });

    step("integrate with PostgreSQL and a client");
    let charms = Charms::deploy();
    juju(&["integrate", &format!("{APP}:backend-database"), POSTGRESQL]);
    juju(&["integrate", &format!("{APP}:database"), CLIENT]);
    until("the database is served", |status| {
        status.message(APP).starts_with("1 database, session pooling, port 6432,")
            && charms.sql(&status.addresses(APP), "SELECT 1") == Ok(vec!["1".to_owned()])
    });
    for statement in ["CREATE TABLE sale (item text)", "INSERT INTO sale VALUES ('cup')"] {
        charms.sql(&status().addresses(APP), statement).expect(statement);
    }
    charms.until_served_by(1);
    let user = charms.sql(&status().addresses(APP), "SELECT session_user");

    step("scale up");
    juju(&["scale-application", APP, "3"]);
    charms.until_served_by(3);

    step("configure");
    juju(&["config", APP, "pool_mode=transaction", "max_db_connections=60"]);
    until("the new options are in force", |status| {
        status.all_say(APP, "1 database, transaction pooling, port 6432,")
    });
    charms.until_served_by(3);
    juju(&["config", APP, "pool_mode=swimming"]);
    until("the status names the invalid option", |status| {
        status.word(APP) == "blocked"
            && status.message(APP).starts_with("option pool_mode is \"swimming\": ")
    });
    let cups = charms.sql(&status().addresses(APP), "SELECT item FROM sale");
    assert_eq!(cups.expect("all units serve"), ["cup"; 3]);
    juju(&["config", APP, "--reset", "pool_mode,max_db_connections"]);
    until("the defaults are in force", |status| {
        status.all_say(APP, "1 database, session pooling, port 6432,")
    });

    step("ask a unit");
    let config = action(&format!("{APP}/leader"), &["show-config"]).expect("show-config");
    assert!(
        config["pgbouncer-ini"].as_str().is_some_and(|text| text.contains("\nshop = host=")),
        "{config}"
    );
    let leader = status().leader(APP).expect("a leader");
    let explained = exec(&leader, &["./bin/pgbouncer-k8s", "explain", "config-changed"]);
    let explained = explained.expect("explain");
    assert!(!explained.contains("pgbouncer "), "nothing would be loaded: {explained}");
    let done = action(&leader, &["reconcile"]).expect("reconcile");
    assert!(
        done["status"].as_str().is_some_and(|text| text.starts_with("active: 1 database")),
        "{done}"
    );

    step("move leadership: delete the leader's pod");
    let pods = Pods::mark(vec![leader.clone()]);
    // A pod that comes back within a minute keeps the lease.
    until("another unit leads", |status| {
        let moved = status.leader(APP).is_some_and(|now| now != leader);
        if !moved {
            delete_pod(&leader);
        }
        moved
    });
    pods.until_replaced();
    charms.until_served_by(3);

    step("scale down");
    juju(&["scale-application", APP, "2"]);
    charms.until_served_by(2);

    step("refresh to itself");
    let (before, pods) = (status().revision(APP), Pods::mark(status().names(APP)));
    juju(&["refresh", APP, "--path", &charm]);
    until("the application has a new revision", |status| status.revision(APP) != before);
    pods.until_replaced();
    charms.until_served_by(2);
    let now = charms.sql(&status().addresses(APP)[..1], "SELECT session_user");
    assert_eq!(now, user, "the client keeps its role");

    step("remove the client's relation");
    let login = charms.login();
    juju(&["remove-relation", &format!("{APP}:database"), CLIENT]);
    until("no database is served", |status| status.all_say(APP, "0 databases, "));
    charms.until_the_client_is_gone(&login);

    step("remove everything");
    remove(&[APP]);
    charms.check_that_nothing_is_left();
    remove(&[CLIENT, POSTGRESQL]);
}

fn given(name: &str) -> String {
    var(name).unwrap_or_else(|_| panic!("{name} is not set: run make integration"))
}

fn step(name: &str) {
    eprintln!("== {name}");
}

/// What `juju` printed; it must succeed.
fn juju(args: &[&str]) -> String {
    let output = output_of("juju", args);
    assert!(output.status.success(), "juju {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn output_of(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    output.unwrap_or_else(|error| panic!("cannot run {program}: {error}; run make integration"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// The results of an action, given as its name and parameters, or why the action failed.
fn action(unit: &str, call: &[&str]) -> Result<Value, String> {
    let output = output_of("juju", &[&["run", unit], call, &["--format", "json"]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let task = answer.as_object().and_then(|tasks| tasks.values().next());
    match task {
        Some(task) if task["status"] == "completed" => Ok(task["results"].clone()),
        _ => Err(format!("{call:?}: {} {}", text(&output.stdout), text(&output.stderr))),
    }
}

/// What a command on a unit printed, if it succeeded.
fn exec(unit: &str, command: &[&str]) -> Option<String> {
    let output = output_of("juju", &[&["exec", "--unit", unit, "--"], command].concat());
    output.status.success().then(|| text(&output.stdout))
}

/// Deletes the pod of a unit, and waits until it is gone. On Kubernetes another pod follows.
fn delete_pod(unit: &str) {
    let model = juju(&["switch"]);
    let namespace = model.rsplit('/').next().expect("a name");
    let pod = unit.replace('/', "-");
    // Such as `microk8s kubectl`.
    let kubectl = given("KUBECTL");
    let mut words: Vec<&str> = kubectl.split_whitespace().collect();
    words.extend(["delete", "pod", &pod, "--namespace", namespace, "--ignore-not-found"]);
    let output = output_of(words[0], &words[1..]);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
}

/// Removes applications, and waits until they are gone.
fn remove(apps: &[&str]) {
    for app in apps {
        juju(&["remove-application", app, "--no-prompt"]);
    }
    until(&format!("{} gone", apps.join(" and ")), |status| {
        apps.iter().all(|app| status.0["applications"].get(app).is_none())
    });
}

/// The pods of some units, with a file in the charm's directory, which a new pod does not have.
struct Pods(Vec<String>);

impl Pods {
    const MARK: &str = "old-pod";

    fn mark(units: Vec<String>) -> Self {
        for unit in &units {
            exec(unit, &["touch", Self::MARK]).expect("touch");
        }
        Self(units)
    }

    /// Waits until each unit has a new pod, in which the charm runs. What `juju status` shows of
    /// the units and their revisions is for a while true of the old pods.
    fn until_replaced(mut self) {
        until("the pods are replaced", |_| {
            self.0.retain(|unit| exec(unit, &["test", "!", "-e", Self::MARK]).is_none());
            self.0.is_empty()
        });
    }
}

/// Waits for something that `juju status` shows.
fn until(what: &str, mut is_so: impl FnMut(&Status) -> bool) {
    let start = Instant::now();
    loop {
        let status = status();
        if is_so(&status) {
            eprintln!("   {what}: after {} s", start.elapsed().as_secs());
            return;
        }
        assert!(start.elapsed() < TIMEOUT, "not so after {TIMEOUT:?}: {what}\n{:#}", status.0);
        sleep(Duration::from_millis(500));
    }
}

/// What `juju status` tells.
struct Status(Value);

fn status() -> Status {
    Status(serde_json::from_str(&juju(&["status", "--format", "json"])).expect("JSON"))
}

impl Status {
    fn revision(&self, app: &str) -> Value {
        self.0["applications"][app]["charm-rev"].clone()
    }

    fn application(&self, app: &str, key: &str) -> &str {
        self.0["applications"][app]["application-status"][key].as_str().unwrap_or_default()
    }

    fn word(&self, app: &str) -> &str {
        self.application(app, "current")
    }

    fn message(&self, app: &str) -> &str {
        self.application(app, "message")
    }

    /// The units by name.
    fn units(&self, app: &str) -> Vec<(&String, &Value)> {
        self.0["applications"][app]["units"].as_object().into_iter().flatten().collect()
    }

    /// Whether every unit is active, idle, and says something that begins so.
    fn all_say(&self, app: &str, begin: &str) -> bool {
        self.units(app).iter().all(|(_, unit)| {
            let status = &unit["workload-status"];
            status["current"] == "active"
                && unit["juju-status"]["current"] == "idle"
                && status["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(begin) && !text.contains("behind"))
        })
    }

    fn names(&self, app: &str) -> Vec<String> {
        self.units(app).into_iter().map(|(name, _)| name.clone()).collect()
    }

    fn leader(&self, app: &str) -> Option<String> {
        let units = self.units(app);
        let leader = units.iter().find(|(_, unit)| unit["leader"] == true);
        leader.map(|(name, _)| (*name).clone())
    }

    /// The addresses of the units that have one.
    fn addresses(&self, app: &str) -> Vec<String> {
        let units = self.units(app);
        units.iter().filter_map(|(_, unit)| Some(unit["address"].as_str()?.to_owned())).collect()
    }
}

/// The charms of PostgreSQL and the client.
enum Charms {
    /// Charmhub's `postgresql-k8s` and `data-integrator`: psql runs on this machine.
    Charmhub,
    /// Those of this directory: the client runs psql in its container.
    Own,
}

impl Charms {
    fn deploy() -> Self {
        if given("CHARMS") == "charmhub" {
            juju(&["deploy", "postgresql-k8s", POSTGRESQL, "--channel", "14/stable", "--trust"]);
            juju(&["deploy", "data-integrator", CLIENT, "--config", "database-name=shop"]);
            return Self::Charmhub;
        }
        let image = format!("postgresql-image={}", given("POSTGRESQL_IMAGE"));
        for app in [POSTGRESQL, CLIENT] {
            let charm = format!("{}/target/integration/{app}.charm", env!("CARGO_MANIFEST_DIR"));
            juju(&["deploy", &charm, app, "--resource", &image]);
        }
        Self::Own
    }

    /// What a statement of the client gives through each of these units.
    fn sql(&self, addresses: &[String], statement: &str) -> Result<Vec<String>, String> {
        let client = format!("{CLIENT}/leader");
        match self {
            Self::Charmhub => {
                let login = self.login();
                addresses.iter().map(|host| psql(&login, host, statement)).collect()
            }
            Self::Own => {
                let addresses = format!("addresses={}", addresses.join(","));
                let results =
                    action(&client, &["sql", &format!("statement={statement}"), &addresses])?;
                let answers = results["answers"].as_str().unwrap_or_default();
                serde_json::from_str(answers).map_err(|error| format!("{results}: {error}"))
            }
        }
    }

    /// Waits until so many units say that they serve the database, and do.
    fn until_served_by(&self, units: usize) {
        until(&format!("{units} units serve the database"), |status| {
            let addresses = status.addresses(APP);
            status.units(APP).len() == units
                && addresses.len() == units
                && status.all_say(APP, "1 database, ")
                && self.sql(&addresses, "SELECT item FROM sale")
                    == Ok(vec!["cup".to_owned(); units])
        });
    }

    /// The client's credentials, if psql on this machine needs them.
    fn login(&self) -> Value {
        match self {
            Self::Charmhub => action(&format!("{CLIENT}/leader"), &["get-credentials"])
                .map(|results| results["postgresql"].clone())
                .unwrap_or_default(),
            Self::Own => Value::Null,
        }
    }

    fn until_the_client_is_gone(&self, login: &Value) {
        until("the client's role is gone", |status| match self {
            Self::Charmhub => psql(login, &status.addresses(APP)[0], "SELECT 1").is_err(),
            Self::Own => {
                let left = leftovers();
                assert!(left.contains("role pgbouncer_auth_"), "PgBouncer still logs in: {left}");
                !left.contains("role relation_id_")
            }
        });
    }

    fn check_that_nothing_is_left(&self) {
        match self {
            Self::Charmhub => {
                eprintln!("   not checked: what is left in PostgreSQL; CHARMS=own checks it");
            }
            Self::Own => assert_eq!(leftovers(), "", "nothing of the charm is left in PostgreSQL"),
        }
    }
}

/// What a statement gives through one unit.
fn psql(login: &Value, host: &str, statement: &str) -> Result<String, String> {
    let [user, password, database] =
        ["username", "password", "database"].map(|key| login[key].as_str().unwrap_or_default());
    let address = format!("host={host} port=6432 user={user} dbname={database} connect_timeout=10");
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", statement, &address]);
    let output = psql.env("PGPASSWORD", password).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run psql: {error}"));
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The logins and schemas that others than PostgreSQL's charm made in PostgreSQL.
fn leftovers() -> String {
    let results = action(&format!("{POSTGRESQL}/leader"), &["leftovers"]).expect("leftovers");
    results["leftovers"].as_str().expect("a list").to_owned()
}

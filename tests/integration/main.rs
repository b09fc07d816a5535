//! The charm's life as its operator sees it: every step is a `juju` command, every answer what
//! `juju` prints or what a client gets through PgBouncer. `make integration` says which `juju` it
//! is; nothing here depends on that.
//!
//! `PGBOUNCER_K8S_CHARM` is the packed charm or its directory, `PGBOUNCER_IMAGE` the image of its
//! workload. The model is expected to have nothing of these names in it, and has nothing of them
//! left afterwards.

#![expect(clippy::disallowed_methods, reason = "runs juju and psql")]
#![expect(clippy::print_stderr, reason = "who waits sees how far it is")]

use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

const APP: &str = "pgbouncer-k8s";
const POSTGRESQL: &str = "postgresql-k8s";
const CLIENT: &str = "data-integrator";

/// Images are pulled and pods scheduled in it.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[test]
fn a_life_from_deployment_to_removal() {
    let given = |name| {
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: make integration"))
    };
    let (charm, image) = (given("PGBOUNCER_K8S_CHARM"), given("PGBOUNCER_IMAGE"));

    step("deploy");
    juju(&["deploy", &charm, APP, "--resource", &format!("pgbouncer-image={image}")]);
    until("it says what it lacks", |status| {
        status.message(APP) == "waiting for backend database relation to initialise"
            && status.word(APP) == "blocked"
    });

    step("integrate with PostgreSQL and a client");
    juju(&["deploy", POSTGRESQL, "--channel", "14/stable", "--trust"]);
    juju(&["deploy", CLIENT, "--config", "database-name=shop"]);
    juju(&["integrate", &format!("{APP}:backend-database"), POSTGRESQL]);
    juju(&["integrate", &format!("{APP}:database"), CLIENT]);
    until("the database is served", |status| {
        status.message(APP).starts_with("1 database, session pooling, port 6432,")
    });
    let client = Credentials::get();
    client.sql("CREATE TABLE sale (item text)");
    client.sql("INSERT INTO sale VALUES ('cup')");
    assert_eq!(client.everywhere("SELECT item FROM sale"), ["cup"]);

    step("scale to three");
    juju(&["scale-application", APP, "3"]);
    until("three units serve it", |status| status.units(APP).len() == 3 && status.all_serve(APP));
    assert_eq!(client.everywhere("SELECT item FROM sale"), ["cup", "cup", "cup"]);
    let told = Credentials::get();
    assert_eq!(
        (&told.user, &told.password),
        (&client.user, &client.password),
        "its credentials stay"
    );

    step("configure");
    juju(&["config", APP, "pool_mode=transaction", "max_db_connections=60"]);
    until("it serves by the new options", |status| {
        status.all_say(APP, "1 database, transaction pooling, port 6432,")
    });
    assert_eq!(client.everywhere("SELECT item FROM sale"), ["cup", "cup", "cup"]);
    juju(&["config", APP, "pool_mode=swimming"]);
    until("it says what is wrong with an option", |status| {
        status.word(APP) == "blocked"
            && status.message(APP).starts_with("option pool_mode is \"swimming\": ")
    });
    assert_eq!(client.everywhere("SELECT item FROM sale"), ["cup", "cup", "cup"]);
    juju(&["config", APP, "--reset", "pool_mode,max_db_connections"]);
    until("it is as it was", |status| {
        status.all_say(APP, "1 database, session pooling, port 6432,")
    });

    step("ask a unit");
    let config = action(&format!("{APP}/leader"), "show-config");
    assert!(
        config["pgbouncer-ini"].as_str().is_some_and(|text| text.contains("\nshop = host=")),
        "{config}"
    );
    let leader = status().leader(APP);
    let explained = juju(&[
        "exec",
        "--unit",
        &leader,
        "--",
        "./bin/pgbouncer-k8s",
        "explain",
        "config-changed",
    ]);
    assert!(!explained.contains("pgbouncer "), "nothing would be loaded: {explained}");
    let done = action(&leader, "reconcile");
    assert!(
        done["status"].as_str().is_some_and(|text| text.starts_with("active: 1 database")),
        "{done}"
    );

    // The one way by which a `juju` command has another unit lead: in a model of Kubernetes a unit
    // that is to go cannot be named, and the highest numbers go first, while the first unit mostly
    // leads.
    step("remove the leader with all others, and come back");
    juju(&["scale-application", APP, "0"]);
    until("nobody is left", |status| status.units(APP).is_empty());
    juju(&["scale-application", APP, "2"]);
    until("two new units serve it", |status| status.units(APP).len() == 2 && status.all_serve(APP));
    assert_eq!(client.everywhere("SELECT item FROM sale"), ["cup", "cup"]);

    step("refresh to itself");
    // A model counts on where an application of that name was removed.
    let before = status().revision(APP);
    juju(&["refresh", APP, "--path", &charm]);
    until("it has a new revision", |status| status.revision(APP) != before);
    until("two units serve it", |status| status.units(APP).len() == 2 && status.all_serve(APP));
    assert_eq!(client.everywhere("SELECT item FROM sale"), ["cup", "cup"]);

    step("remove the client, and everything");
    juju(&["remove-relation", &format!("{APP}:database"), CLIENT]);
    until("no database is served", |status| status.all_say(APP, "0 databases, "));
    let refused = client.psql(&status().addresses(APP)[0], "SELECT 1");
    assert!(!refused.status.success(), "the client's role is gone");
    for app in [APP, CLIENT, POSTGRESQL] {
        juju(&["remove-application", app, "--no-prompt"]);
    }
    until("nothing is left", |status| {
        status.0["applications"]
            .as_object()
            .is_none_or(|apps| ![APP, CLIENT, POSTGRESQL].iter().any(|app| apps.contains_key(*app)))
    });
}

fn step(name: &str) {
    eprintln!("== {name}");
}

/// What `juju` printed; it must succeed.
fn juju(args: &[&str]) -> String {
    let output = Command::new("juju").args(args).output().expect("juju is there: make integration");
    assert!(output.status.success(), "juju {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The results of an action.
fn action(unit: &str, name: &str) -> Value {
    let text = juju(&["run", unit, name, "--format", "json"]);
    let results: Value = serde_json::from_str(&text).expect("JSON");
    let task = results.as_object().and_then(|tasks| tasks.values().next()).expect("a task");
    assert_eq!(task["status"], "completed", "{text}");
    task["results"].clone()
}

/// Waits for something that `juju status` shows.
fn until(what: &str, is_so: impl Fn(&Status) -> bool) {
    let start = Instant::now();
    loop {
        let status = status();
        if is_so(&status) {
            eprintln!("   {what}: after {} s", start.elapsed().as_secs());
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}\n{:#}", status.0);
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

    fn all_serve(&self, app: &str) -> bool {
        self.all_say(app, "1 database, ")
    }

    fn leader(&self, app: &str) -> String {
        let units = self.units(app);
        let leader = units.iter().find(|(_, unit)| unit["leader"] == true);
        leader.map(|(name, _)| (*name).clone()).expect("a leader")
    }

    fn addresses(&self, app: &str) -> Vec<String> {
        let address = |(_, unit): &(&String, &Value)| {
            unit["address"].as_str().expect("an address").to_owned()
        };
        self.units(app).iter().map(address).collect()
    }
}

/// What the client was given.
struct Credentials {
    user: String,
    password: String,
    database: String,
}

impl Credentials {
    fn get() -> Self {
        let results = action(&format!("{CLIENT}/leader"), "get-credentials");
        let given =
            |key: &str| results["postgresql"][key].as_str().expect("it was given").to_owned();
        Self { user: given("username"), password: given("password"), database: given("database") }
    }

    fn psql(&self, host: &str, sql: &str) -> Output {
        let Self { user, database, password } = self;
        let address =
            format!("host={host} port=6432 user={user} dbname={database} connect_timeout=10");
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", sql, &address]);
        psql.env("PGPASSWORD", password).output().expect("psql is there")
    }

    /// What a statement gives through one unit.
    fn through(&self, host: &str, sql: &str) -> String {
        let output = self.psql(host, sql);
        assert!(
            output.status.success(),
            "{host}: {sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Through the first unit.
    fn sql(&self, sql: &str) -> String {
        self.through(&status().addresses(APP)[0], sql)
    }

    /// Through each unit.
    fn everywhere(&self, sql: &str) -> Vec<String> {
        status().addresses(APP).iter().map(|host| self.through(host, sql)).collect()
    }
}

//! Real processes: PgBouncer for each unit, with PostgreSQL and clients.

use std::path::Path;
use std::time::{Duration, Instant};

use jujusim::{Options, check_script};

use crate::puppets::{model, model_of, options, run};

#[test]
fn a_client_s_query_goes_through_the_pooler_to_the_server() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/pooler.script");
    check_script(&script, &options()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_dead_process_is_restarted() {
    let mut sim = pooler();
    let pid = |sim: &jujusim::Sim| sim.model().instances("pooler/0").expect("a unit")[0].pid;
    let first = pid(&sim);
    assert!(first.is_some());
    run(&mut sim, "kill-process pooler/0");
    let deadline = Instant::now() + Duration::from_secs(30);
    while pid(&sim).is_none() || pid(&sim) == first {
        assert!(Instant::now() < deadline, "not started again");
    }
    assert_eq!(sim.model().instances("pooler/0").expect("a unit")[0].restarts, 1);
}

#[test]
fn processes_end_with_their_pod() {
    let mut sim = pooler();
    let pid = sim.model().instances("pooler/0").expect("a unit")[0].pid.expect("a process");
    let process = format!("/proc/{pid}");
    assert!(Path::new(&process).exists());
    run(&mut sim, "replace-pod pooler/0");
    assert!(!Path::new(&process).exists());
    assert_eq!(sim.model().instances("pooler/0").expect("a unit"), []);
}

#[test]
fn known_passwords_are_never_printed() {
    let mut sim = pooler();
    let passwords = sim.model().passwords();
    assert!(!passwords.is_empty());
    for command in ["show-unit shop/0", "cat pooler/0 /var/lib/pgbouncer/instance_0/userlist.txt"] {
        let printed = run(&mut sim, command);
        assert!(printed.contains("‹24 characters›"), "{printed}");
        assert!(!passwords.iter().any(|password| printed.contains(password)), "{command}");
    }
}

#[test]
fn the_client_s_secret_is_read_as_a_consumer_reads_it() {
    let mut sim = model(&[
        "deploy actor:postgresql",
        "deploy actor:client shop --config database=shop",
        "integrate shop postgresql-k8s",
        "settle",
    ]);
    assert_eq!(run(&mut sim, "sql shop 'SELECT current_database()'"), "shop\n");
    let secret = sim.model().secret("database.0.user.secret").expect("the user's secret");
    let fields: Vec<&str> = secret.content().keys().map(String::as_str).collect();
    assert_eq!(fields, ["password", "read-only-uris", "uris", "username"]);
    assert!(secret.grants.contains_key("shop"));
    run(&mut sim, "postgresql stop");
    assert!(sim.run("sql shop 'SELECT 1'").is_err());
    run(&mut sim, "postgresql start");
    assert_eq!(run(&mut sim, "sql shop 'SELECT 1'"), "1\n");
    run(&mut sim, "remove-relation shop postgresql-k8s");
    run(&mut sim, "settle");
    assert!(sim.run("sql shop 'SELECT 1'").is_err());
}

#[test]
fn without_secrets_the_answer_is_plain() {
    let commands = [
        "deploy actor:postgresql",
        "deploy actor:client shop --config database=shop",
        "integrate shop postgresql-k8s",
        "settle",
    ];
    let mut sim = model_of(&commands, &Options { juju: "2.9.52".to_owned(), ..options() });
    let answer = sim.model().bag(0, "postgresql-k8s");
    assert!(answer.contains_key("password") && !answer.contains_key("secret-user"));
    assert_eq!(run(&mut sim, "sql shop 'SELECT current_user'"), "relation_id_0\n");
}

fn pooler() -> jujusim::Sim {
    model(&[
        "deploy actor:postgresql",
        "deploy tests/charms/pooler",
        "deploy actor:client shop --config database=shop",
        "integrate shop pooler",
        "integrate pooler postgresql-k8s:database",
        "settle",
    ])
}

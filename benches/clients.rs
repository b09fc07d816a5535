//! What hooks cost with 1, 10, 100 and 500 clients: calls of hook tools, SQL statements, time, memory.
//! `cargo bench --bench clients -- 1 10` measures other numbers of them.

#![expect(clippy::print_stdout, reason = "its report")]
#![expect(clippy::disallowed_methods, reason = "a benchmark looks for what is on the machine")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/pgbouncer/mod.rs"]
mod pgbouncer;

use jujusim::{HookRun, Options, Sim};

const CLIENTS: [usize; 4] = [1, 10, 100, 500];

fn main() {
    common::stage();
    let named: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    println!(
        "{:>7}  {:34} {:>9} {:>5} {:>8} {:>8} {:>8}",
        "clients", "hook", "tools", "SQL", "wall ms", "CPU ms", "MiB"
    );
    for clients in if named.is_empty() { CLIENTS.to_vec() } else { named } {
        measure(clients);
    }
}

/// Has so many clients served, one of them last and alone, and then what happens to an application.
fn measure(clients: usize) {
    let newest = pgbouncer::installed().pop().map(|program| program.directory);
    let mut sim = Sim::new(&Options { pgbouncer: newest, ..Options::default() }).expect("a model");
    let mut words = vec![
        "deploy ./pgbouncer-k8s -n 3".to_owned(),
        "deploy actor:postgresql postgresql-k8s".to_owned(),
        "settle".to_owned(),
        "integrate pgbouncer-k8s:backend-database postgresql-k8s".to_owned(),
        "settle".to_owned(),
    ];
    for number in 1..=clients {
        words.push(format!("deploy actor:client c{number} --config database=db{number}"));
    }
    words.push("settle".to_owned());
    for number in 1..clients {
        words.push(format!("integrate pgbouncer-k8s:database c{number}"));
        words.push("settle".to_owned());
    }
    words.push("wait 6m".to_owned());
    for word in &words {
        sim.run(word).unwrap_or_else(|error| panic!("{word}: {error}"));
    }
    let last = format!("pgbouncer-k8s:database c{clients}");
    for (what, words) in [
        ("a client comes", vec![format!("integrate {last}")]),
        (
            "nothing new",
            vec![
                "trigger pgbouncer-k8s/0 update-status".into(),
                "trigger pgbouncer-k8s/1 update-status".into(),
            ],
        ),
        ("a client goes", vec![format!("remove-relation {last}")]),
        ("another leader", vec!["leader pgbouncer-k8s/1".into()]),
        ("another port", vec!["config pgbouncer-k8s listen_port=7000".into()]),
    ] {
        let before = sim.model().hook_runs().len();
        for word in words.iter().map(String::as_str).chain(["settle"]) {
            sim.run(word).unwrap_or_else(|error| panic!("{word}: {error}"));
        }
        println!("{clients:>7}  {what}");
        let ours = |run: &&HookRun| run.unit.starts_with("pgbouncer-k8s/");
        for run in sim.model().hook_runs()[before..].iter().filter(ours) {
            report(run);
        }
    }
}

fn report(run: &HookRun) {
    let unit = run.unit.trim_start_matches("pgbouncer-k8s");
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    #[expect(clippy::cast_precision_loss, reason = "a few MiB")]
    let memory = run.max_rss as f64 / f64::from(1 << 20);
    println!(
        "{:>7}  {:34} {:>9} {:>5} {:>8.0} {:>8.0} {:>8.1}",
        "",
        format!("{unit} {}", run.hook),
        run.calls.len(),
        run.sql.statements,
        milliseconds(run.wall),
        milliseconds(run.cpu),
        memory
    );
}

//! Measures hooks: hook-tool calls, what these take on a real Juju, requests to Pebble, SQL
//! statements, time and memory, with 1, 3 and 30 units and 0, 1, 50 and 500 clients. Prints the
//! table of `docs/performance.md`. `cargo bench --bench clients -- 3x50 1x1` measures only the
//! models named.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "prints its report")]
#![expect(clippy::disallowed_methods, reason = "looks for programs on the machine")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/pgbouncer/mod.rs"]
mod pgbouncer;

use jujusim::{Error, HookRun, Options, PEBBLE, Sim, pebble_of};

/// Units and clients. 30 × 500 is missing: it runs 100 000 hooks before anything is measured.
const MODELS: [(usize, usize); 11] = [
    (1, 0),
    (1, 1),
    (1, 50),
    (1, 500),
    (3, 0),
    (3, 1),
    (3, 50),
    (3, 500),
    (30, 0),
    (30, 1),
    (30, 50),
];

fn main() {
    common::stage();
    let model = |argument: String| {
        let (units, clients) = argument.split_once('x')?;
        Some((units.parse().ok()?, clients.parse().ok()?))
    };
    let named: Vec<(usize, usize)> = std::env::args().filter_map(model).collect();
    let pebble = pebble_of(PEBBLE).map(|_| PEBBLE.to_owned());
    match &pebble {
        Ok(version) => println!("PgBouncer in containers, under Pebble {version}."),
        Err(error) => println!("PgBouncer directly on the units, without Pebble: {error}."),
    }
    println!(
        "\n| units × clients | event | unit | hooks | tool calls | in all | on a real Juju | Pebble | SQL | wall ms | CPU ms | MiB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (units, clients) in if named.is_empty() { MODELS.to_vec() } else { named } {
        measure(units, clients, pebble.as_ref().ok());
    }
}

/// Measures one model: adds the clients, the last one separately, then runs the other events.
/// Reports each event after its hooks have run.
fn measure(units: usize, clients: usize, pebble: Option<&String>) {
    let newest = pgbouncer::installed().pop().map(|program| program.directory);
    let options = Options {
        pgbouncer: newest,
        containers: pebble.cloned(),
        measures: true,
        ..Options::default()
    };
    let mut sim = Sim::new(&options).expect("a model");
    let start = std::time::Instant::now();
    let mut run = |word: &str| {
        // Repeat: some models need more hooks than the limit of `settle`, which guards against
        // endless loops.
        let unsettled =
            |result: &jujusim::Result<String>| matches!(result, Err(Error::Unsettled(_)));
        let result = (0..100).map(|_| sim.run(word)).find(|result| !unsettled(result));
        result.expect("the model settles").unwrap_or_else(|error| panic!("{word}: {error}"));
        sim.model().hook_runs().len()
    };
    run(&format!("deploy ./pgbouncer-k8s -n {units}"));
    let deployed = run("settle");
    run("deploy actor:postgresql postgresql-k8s");
    let before = run("settle");
    run("integrate pgbouncer-k8s:backend-database postgresql-k8s");
    let mut measured = vec![
        ("deployment".to_owned(), 0, deployed),
        ("PostgreSQL is related".to_owned(), before, run("settle")),
    ];
    for number in 1..=clients {
        run(&format!("deploy actor:client c{number} --config database=db{number}"));
    }
    run("settle");
    let set_up = run("settle");
    let other = units.saturating_sub(1).min(1);
    let on_each = |hook: &str| {
        vec![
            format!("trigger pgbouncer-k8s/{other} {hook}"),
            format!("trigger pgbouncer-k8s/0 {hook}"),
        ]
    };
    let integrate = |number: usize| format!("integrate pgbouncer-k8s:database c{number}");
    let mut events = Vec::new();
    let at_once = clients.saturating_sub(1);
    if at_once > 0 {
        events.push((format!("{at_once} clients at once"), (1..clients).map(integrate).collect()));
    }
    // Not measured: the peer hooks that are still queued.
    events.push((String::new(), vec!["wait 6m".to_owned()]));
    if clients > 0 {
        events.push(("a client is added".to_owned(), vec![integrate(clients)]));
    }
    events.extend([
        ("nothing new".to_owned(), on_each("config-changed")),
        ("`update-status`".to_owned(), on_each("update-status")),
        ("an option".to_owned(), vec!["config pgbouncer-k8s max_db_connections=60".to_owned()]),
        ("another port".to_owned(), vec!["config pgbouncer-k8s listen_port=7000".to_owned()]),
    ]);
    if clients > 0 {
        let last = format!("remove-relation pgbouncer-k8s:database c{clients}");
        events.push(("a client is removed".to_owned(), vec![last]));
    }
    if units > 1 {
        events.push(("another leader".to_owned(), vec!["leader pgbouncer-k8s/1".to_owned()]));
        events.push(("a unit is removed".to_owned(), vec!["remove-unit pgbouncer-k8s".to_owned()]));
    }
    for (event, words) in events {
        let before = run("settle");
        for word in &words {
            run(word);
        }
        measured.push((event, before, run("settle")));
    }
    eprintln!(
        "{units} × {clients}: {:.0} s, {set_up} hooks before the first event and {} after",
        start.elapsed().as_secs_f64(),
        run("settle") - set_up
    );
    for (event, before, after) in measured.iter().filter(|(event, ..)| !event.is_empty()) {
        let is_moved = ["another leader", "a unit is removed"].contains(&event.as_str());
        let leader = if is_moved { "pgbouncer-k8s/1" } else { "pgbouncer-k8s/0" };
        // `remove-unit` removes the newest unit.
        let removed = format!("pgbouncer-k8s/{}", units - 1);
        let leaves = |run: &&HookRun| event == "a unit is removed" && run.unit == removed;
        let runs = || {
            sim.model().hook_runs()[*before..*after]
                .iter()
                .filter(|run| run.unit.starts_with("pgbouncer-k8s/"))
        };
        let leads = |run: &&HookRun| run.unit == leader;
        report((units, clients), event, "leaving", runs().filter(leaves));
        let stays = |run: &&HookRun| !leaves(run);
        report((units, clients), event, "leader", runs().filter(stays).filter(leads));
        report((units, clients), event, "others", runs().filter(stays).filter(|run| !leads(run)));
    }
}

/// Prints one line: the maximum over all hooks; the number of calls of all hooks together, and the
/// time that these take on a real Juju.
fn report<'a>(
    (units, clients): (usize, usize),
    event: &str,
    who: &str,
    runs: impl Iterator<Item = &'a HookRun>,
) {
    let runs: Vec<&HookRun> = runs.collect();
    if runs.is_empty() {
        return;
    }
    let most =
        |what: &dyn Fn(&HookRun) -> f64| runs.iter().map(|run| what(run)).fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let [calls, pebble, sql, memory] = [
        most(&|run| run.calls.len() as f64),
        most(&|run| run.pebble as f64),
        most(&|run| run.sql.statements as f64),
        most(&|run| run.max_rss as f64 / f64::from(1 << 20)),
    ];
    let all: usize = runs.iter().map(|run| run.calls.len()).sum();
    let juju: f64 = runs.iter().map(|run| run.juju_time().as_secs_f64()).sum();
    let [wall, cpu] =
        [most(&|run| run.wall.as_secs_f64() * 1e3), most(&|run| run.cpu.as_secs_f64() * 1e3)];
    println!(
        "| {units} × {clients} | {event} | {who} | {} | {calls} | {all} | {juju:.1} s | {pebble} | {sql} | {wall:.0} | {cpu:.0} | {memory:.1} |",
        runs.len()
    );
}

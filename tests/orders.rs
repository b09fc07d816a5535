//! One story in every order that Juju may choose, with hooks delivered twice and commits torn: the
//! end is always the same.
//!
//! A test is a Juju with four seeds, one for each habit; outside a soak, with one. `SOAK=true
//! SEEDS=200` runs so many seeds. `-- round-1` repeats the seeds 12 to 23.

mod common;
mod soak;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::OnceLock;

use jujusim::{Exit, Options, Sim};
use libtest_mimic::{Arguments, Failed, Trial};
use regex::Regex;
use soak::cases;

/// As many as give every Juju every habit once.
const SEEDS: u64 = 12;

/// The Jujus whose ends are compared, each with itself: 2.9 has no secrets, 4.0 no
/// `leader-settings-changed`.
const JUJUS: [&str; 3] = ["3.6.14", "2.9.52", "4.0.15"];

/// What befalls every hook; the first comes outside a soak, too.
const HABITS: [&[&str]; 4] = [&["twice", "torn"], &[], &["twice"], &["torn"]];

#[expect(clippy::disallowed_methods, reason = "the number of seeds is the caller's choice")]
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    common::stage();
    let seeds =
        std::env::var("SEEDS").map_or(SEEDS, |text| text.parse().expect("SEEDS is a number"));
    let rounds = (0..seeds.div_ceil(SEEDS))
        .flat_map(|round| (0..JUJUS.len()).map(move |juju| (round, juju)));
    let trials = rounds.map(|(round, juju)| {
        let name = format!("round-{round}-juju-{}", JUJUS[juju]);
        Trial::test(name, move || compare(round * SEEDS, juju))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Lives the story once in order, and with each habit in the order of a seed from `first` on.
fn compare(first: u64, juju: usize) -> Result<(), Failed> {
    static EXPECTED: [OnceLock<Result<String, String>>; 3] = [const { OnceLock::new() }; 3];
    let expected = EXPECTED[juju].get_or_init(|| live(JUJUS[juju], None, &[])).clone()?;
    let seeds = (first + juju as u64..).step_by(JUJUS.len());
    let mut differing = Vec::new();
    for (seed, habits) in seeds.zip(cases(1, HABITS)) {
        match live(JUJUS[juju], Some(seed), habits) {
            Ok(found) if found == expected => {}
            Ok(found) => differing.push(format!("seed {seed}: {}", difference(&expected, &found))),
            Err(error) => differing.push(format!("seed {seed}: {error}")),
        }
    }
    if differing.is_empty() { Ok(()) } else { Err(differing.join("\n\n").into()) }
}

/// The surroundings of the first line that differs.
fn difference(expected: &str, found: &str) -> String {
    let differing = expected.lines().zip(found.lines()).position(|(one, other)| one != other);
    let common = expected.lines().count().min(found.lines().count());
    let at = differing.unwrap_or(common).saturating_sub(6);
    let around = |text: &str| text.lines().skip(at).take(16).collect::<Vec<_>>().join("\n");
    format!("expected:\n{}\n\nfound:\n{}", around(expected), around(found))
}

/// The story: what an operator does without waiting for anything, in the end waited for.
fn live(juju: &str, seed: Option<u64>, habits: &[&str]) -> Result<String, String> {
    let mut sim = Sim::new(&Options { juju: juju.to_owned(), seed, ..Options::default() })
        .map_err(|error| error.to_string())?;
    // How far the model gets before the next word.
    let mut distance = seed.unwrap_or(5);
    let mut steps = || {
        distance = distance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        format!("step {}", distance >> 59)
    };
    let mut words: Vec<String> = habits.iter().map(|habit| format!("every-hook {habit}")).collect();
    for line in STORY.lines().map(str::trim).filter(|line| !line.is_empty()) {
        words.push(line.to_owned());
        words.push(steps());
    }
    // The same unit leads in the end, and for long enough that it has heard of everything.
    words.extend(
        ["settle", "leader pgbouncer-k8s/0", "settle", "wait 6m", "settle"].map(str::to_owned),
    );
    for word in &words {
        sim.run(word).map_err(|error| format!("{word}: {error}\n{}", hooks(&mut sim)))?;
    }
    let torn = habits.contains(&"torn");
    for run in sim.model().hook_runs() {
        let refused =
            matches!(&run.exit, Exit::Refused(why) if torn && why.contains("refused by a fault"));
        if run.exit != Exit::Success && !refused {
            return Err(format!("{} {}: {}\n{}", run.unit, run.hook, run.exit, run.log.join("\n")));
        }
    }
    end(&mut sim)
}

const STORY: &str = "
    deploy ./pgbouncer-k8s -n 3
    deploy actor:postgresql postgresql-k8s
    deploy actor:client shop --config database=shop
    integrate pgbouncer-k8s:backend-database postgresql-k8s
    integrate pgbouncer-k8s:database shop
    config pgbouncer-k8s max_db_connections=50
    leader pgbouncer-k8s/1
    add-unit pgbouncer-k8s
    deploy actor:client crm --config database=crm
    integrate pgbouncer-k8s:database crm
    replace-pod pgbouncer-k8s/2
    config pgbouncer-k8s max_db_connections=60
    remove-unit pgbouncer-k8s
    restart-agent pgbouncer-k8s/1
    config pgbouncer-k8s --reset max_db_connections
    leader pgbouncer-k8s/2
";

/// What is published, kept, served and shown; and both clients log in through every unit.
fn end(sim: &mut Sim) -> Result<String, String> {
    let mut words: Vec<String> =
        ["status", "show-unit shop/0", "show-unit crm/0", "pooler pgbouncer-k8s"]
            .map(str::to_owned)
            .to_vec();
    for number in 0..3 {
        let unit = format!("pgbouncer-k8s/{number}");
        words.push(format!("show-unit {unit}"));
        words.push(format!("files {unit}"));
        words.push(format!("cat {unit} /dev/shm/pgbouncer-k8s-{number}/userlist.txt"));
        for file in ["shared.ini", "instance_0/pgbouncer.ini", "instance_1/pgbouncer.ini"] {
            words.push(format!("cat {unit} /var/lib/pgbouncer/{file}"));
        }
        for client in ["shop", "crm"] {
            let statement = "SELECT session_user, current_database()";
            words.push(format!("sql {client} '{statement}' --through {unit}"));
        }
    }
    let (mut text, mut known) = (String::new(), 0);
    for word in &words {
        let printed = sim.run(word).map_err(|error| format!("{word}: {error}"))?;
        known += remembered(sim, word, &printed)?;
        let _ = writeln!(text, "> {word}\n{printed}");
    }
    if known < 2 {
        return Err("the leader remembers nothing of the others".to_owned());
    }
    Ok(normalized(&text))
}

/// What a unit remembers of others is what they say; of how many.
fn remembered(sim: &Sim, word: &str, shown: &str) -> Result<usize, String> {
    let shown: serde_yaml::Value = serde_yaml::from_str(shown).unwrap_or_default();
    let Some(siblings) =
        shown["simulator"]["state"]["siblings"].as_str().filter(|text| !text.is_empty())
    else {
        return Ok(0);
    };
    let siblings: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(siblings).map_err(|error| error.to_string())?;
    let peers = sim.model().relations_at("pgbouncer-k8s:pgb-peers")[0];
    for (unit, kept) in &siblings {
        let bag = sim.model().bag(peers, unit);
        let differing = kept.iter().find(|(key, value)| bag.get(*key) != Some(*value));
        if let Some((key, value)) = differing {
            return Err(format!(
                "{word}: {unit} is remembered with {key} {value:?}, and says {:?}",
                bag.get(key)
            ));
        }
    }
    Ok(siblings.len())
}

/// Without what is random or counts how often something changed.
fn normalized(text: &str) -> String {
    static PATTERNS: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        [
            (r"secret:(//[0-9a-f-]{36}/)?[0-9a-v]{20}", "‹secret›"),
            (r#"SCRAM-SHA-256\$[0-9]+:[^\s"]+"#, "‹verifier›"),
            (r"\bmd5[0-9a-f]{32}\b", "‹verifier›"),
            (r"\bpgb-[0-9a-f]{24}\b", "‹digest›"),
            (r"\b127\.\d+\.\d+\.", "10.1.0."),
            (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "‹uuid›"),
            (r"/[a-z/]+/js-\w+", "‹model›"),
            (r"auth_file_revision: .*", "auth_file_revision: ‹count›"),
            (r"\b\d\d:\d\d:\d\dZ", "‹time›"),
            // Who came last depends on how many came at once.
            (r"(?m)^ +newest_clients: .*\n", ""),
            (r"(?m)^ +clients: .*\n", ""),
            // Kept by the units that had a reason to ask for it.
            (r"(?m)^    (remote-apps|siblings|backends|units|users|scram): .*\n", ""),
            // Juju keeps a removed note as an empty text. A unit that led for no hook never had it.
            (r"(?m)^    [a-z-]+: ''\n", ""),
            // It holds a pid.
            (r"(?m)(/loaded .*) \d+$", "$1 ‹size›"),
            // Bags of units that left: whether they had come this far is chance.
            (r"(?m)^    departed-units:(\n {6}.*)+\n", ""),
            (r"(?m)^  - relation-id: \d+\n", ""),
        ]
        .map(|(pattern, name)| (Regex::new(pattern).expect("a pattern"), name))
        .to_vec()
    });
    patterns.iter().fold(text.to_owned(), |text, (pattern, name)| {
        pattern.replace_all(&text, *name).into_owned()
    })
}

fn hooks(sim: &mut Sim) -> String {
    sim.run("hooks --last 20").unwrap_or_default()
}

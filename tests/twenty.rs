//! Twenty clients come and go in an order that only a seed knows, while leadership moves, hooks
//! die, pods are replaced, units come and go and PostgreSQL is away. In the end everybody who is
//! left is served, and of the others nothing is left.
//!
//! Each seed is a test. `SOAK=true SEEDS=200` runs so many; `-- seed-17` repeats a failure of one.

mod common;
mod soak;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use jujusim::{Entity, Exit, HookRun, Options, PEBBLE, Secret, Sim, pebble_of};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use soak::cases;

/// As many as run each Juju with the workload in containers and on the units. Each takes a minute;
/// outside a soak there is one.
const SEEDS: u64 = 6;

/// 2.9 has no secrets; 4.0 commits them with the rest.
const JUJUS: [&str; 3] = ["3.6.14", "2.9.52", "4.0.15"];

const CLIENTS: u64 = 20;

/// How often something happens.
const TURNS: u64 = 60;

const APP: &str = "pgbouncer-k8s";

#[expect(clippy::disallowed_methods, reason = "the number of seeds is the caller's choice")]
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    common::stage();
    let seeds =
        std::env::var("SEEDS").map_or(SEEDS, |text| text.parse().expect("SEEDS is a number"));
    let places = JUJUS.into_iter().cycle().zip([true, false].into_iter().cycle());
    let trials = cases(1, (0..seeds).zip(places)).map(|(seed, (juju, in_containers))| {
        let containers = if in_containers { "-in-containers" } else { "" };
        let name = format!("seed-{seed}-juju-{juju}{containers}");
        Trial::test(name, move || live(juju, seed, in_containers))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

#[expect(
    clippy::disallowed_methods,
    reason = "what cannot run here may be left out elsewhere than in CI"
)]
fn live(juju: &str, seed: u64, in_containers: bool) -> Result<(), Failed> {
    if let Some(why) = in_containers.then(|| pebble_of(PEBBLE).err()).flatten() {
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err(why.to_string().into());
        }
        let _ = writeln!(std::io::stderr(), "NOT RUN: seed {seed} in containers: {why}");
        return Ok(());
    }
    let mut story = Story::new(juju, seed, in_containers);
    story.live().map_err(|complaints| format!("{complaints}\n\n{}", story.words.join("\n")).into())
}

/// What comes next, by `SplitMix64`.
struct Chance(u64);

impl Chance {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> Option<T> {
        let end = u64::try_from(among.len()).expect("a number");
        (end > 0).then(|| among[usize::try_from(self.below(end)).expect("an index")].clone())
    }
}

/// What one client asks for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Client {
    name: String,
    database: String,
    creates_databases: bool,
    /// The fields it wants in secrets.
    secrets: &'static [&'static str],
}

impl Client {
    fn new(number: u64) -> Client {
        const SECRETS: [&[&str]; 3] =
            [&["password", "tls", "uris", "username"], &[], &["password", "username"]];
        Client {
            name: format!("client{number}"),
            database: format!("db{}", number * 7 % 12),
            creates_databases: number % 5 == 3,
            secrets: SECRETS[usize::try_from(number % 3).expect("a small number")],
        }
    }

    fn endpoint(&self) -> String {
        format!("{}:database", self.name)
    }

    fn deploy(&self) -> String {
        let roles = if self.creates_databases { " --config extra-user-roles=createdb" } else { "" };
        let (Client { name, database, .. }, secrets) = (self, json!(self.secrets));
        format!(
            "deploy actor:client {name} --config database={database} --config 'requested-secrets={secrets}'{roles}"
        )
    }
}

/// A model in which the story is lived, and what was told of it.
struct Story {
    sim: Sim,
    has_secrets: bool,
    in_containers: bool,
    chance: Chance,
    /// Every word so far, and whether it was refused.
    words: Vec<String>,
    /// The units whose next hook may fail, with the number of hooks that had run then.
    excused: Vec<(String, usize)>,
    /// Each client's coming and going (`true`), with the number of hooks that had run then.
    moves: Vec<(usize, String, bool)>,
    related: BTreeSet<Client>,
    unrelated: BTreeSet<Client>,
    /// How many units there are to be.
    units: u64,
    /// PostgreSQL is away.
    is_away: bool,
}

impl Story {
    fn new(juju: &str, seed: u64, in_containers: bool) -> Story {
        let containers = in_containers.then(|| PEBBLE.to_owned());
        let options =
            Options { juju: juju.to_owned(), seed: Some(seed), containers, ..Options::default() };
        Story {
            sim: Sim::new(&options).expect("a model"),
            has_secrets: !juju.starts_with("2."),
            in_containers,
            chance: Chance(seed),
            words: Vec::new(),
            excused: Vec::new(),
            moves: Vec::new(),
            related: BTreeSet::new(),
            unrelated: (0..CLIENTS).map(Client::new).collect(),
            units: 3,
            is_away: false,
        }
    }

    fn live(&mut self) -> Result<(), String> {
        self.say(&format!("deploy ./{APP} -n 3"))?;
        self.say("deploy actor:postgresql postgresql-k8s")?;
        for client in self.unrelated.clone() {
            self.say(&client.deploy())?;
        }
        self.say("settle")?;
        self.say(&format!("integrate {APP}:backend-database postgresql-k8s"))?;
        for _ in 0..TURNS {
            match self.chance.below(20) {
                0..7 => self.client_comes()?,
                7..11 => self.client_goes()?,
                11..13 => self.units_change()?,
                13..15 => self.postgresql_goes_or_returns()?,
                _ => self.mishap(),
            }
            let steps = self.chance.below(24);
            self.say(&format!("step {steps}"))?;
        }
        if self.is_away {
            self.postgresql_goes_or_returns()?;
        }
        // Long enough for all that is made up for at an update-status.
        for word in ["settle", "wait 6m", "wait 6m", "settle"] {
            self.say(word)?;
        }
        let complaints =
            [self.failed(), self.left_over()?, self.configured()?, self.served()].concat();
        if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
    }

    fn client_comes(&mut self) -> Result<(), String> {
        // Who is still leaving cannot come back.
        let is_free =
            |client: &&Client| self.sim.model().relations_at(&client.endpoint()).is_empty();
        let free: Vec<Client> = self.unrelated.iter().filter(is_free).cloned().collect();
        let Some(client) = self.chance.pick(&free) else { return Ok(()) };
        self.say(&format!("integrate {APP}:database {}", client.name))?;
        self.moves.push((self.hooks(), client.name.clone(), false));
        self.unrelated.remove(&client);
        self.related.insert(client);
        Ok(())
    }

    fn client_goes(&mut self) -> Result<(), String> {
        let related: Vec<Client> = self.related.iter().cloned().collect();
        let Some(client) = self.chance.pick(&related) else { return Ok(()) };
        self.related.remove(&client);
        self.moves.push((self.hooks(), client.name.clone(), true));
        if self.chance.below(4) == 0 {
            self.say(&format!("remove-application {}", client.name))?;
        } else {
            self.say(&format!("remove-relation {APP}:database {}", client.name))?;
            self.unrelated.insert(client);
        }
        Ok(())
    }

    fn units_change(&mut self) -> Result<(), String> {
        if self.units == 1 || (self.units < 4 && self.chance.below(2) == 0) {
            self.units += 1;
            self.say(&format!("add-unit {APP}"))?;
        } else {
            self.units -= 1;
            self.say(&format!("remove-unit {APP}"))?;
        }
        Ok(())
    }

    fn postgresql_goes_or_returns(&mut self) -> Result<(), String> {
        self.is_away = !self.is_away;
        self.say(if self.is_away { "postgresql stop" } else { "postgresql start" })?;
        Ok(())
    }

    /// What befalls one unit; where it cannot be befallen, nothing.
    fn mishap(&mut self) {
        const TOOLS: [&str; 9] = [
            "relation-get",
            "relation-set",
            "state-set",
            "status-set",
            "secret-add",
            "secret-get",
            "secret-grant",
            "secret-remove",
            "goal-state",
        ];
        let unit = self.chance.pick(&self.sim.model().units_of(APP)).expect("a unit").to_string();
        let tool = self.chance.pick(&TOOLS).expect("a tool");
        let nth = 1 + self.chance.below(3);
        let (word, may_fail) = match self.chance.below(if self.in_containers { 17 } else { 13 }) {
            13 => (format!("restart-container {unit}"), false),
            14 => (format!("kill-process {unit}"), false),
            15 => (format!("at {unit} {tool} {nth} do restart-container {unit}"), false),
            16 => (format!("at {unit} {tool} {nth} do kill-process {unit}"), false),
            0 | 1 => (format!("leader {unit}"), false),
            2 => (format!("leader --none {APP}"), false),
            3 | 4 => (format!("kill {unit} at {tool} {nth}"), true),
            5 => (format!("fail {unit} {tool} {nth}"), true),
            6 => (format!("fail-commit {unit}"), true),
            7 => (format!("fail-commit {unit} --torn"), true),
            8 => (format!("twice {unit}"), false),
            9 => (format!("replace-pod {unit}"), false),
            10 => (format!("replace-pod {unit} --mid-hook"), true),
            11 => (format!("replace-pod {unit} --after-hook"), true),
            _ => (format!("restart-agent {unit} --killed"), true),
        };
        // Some words run the hook themselves.
        let before = self.hooks();
        match self.say(&word) {
            Ok(_) if may_fail => self.excused.push((unit, before)),
            Ok(_) => {}
            Err(refused) => self.words.push(format!("# {refused}")),
        }
    }

    fn hooks(&self) -> usize {
        self.sim.model().hook_runs().len()
    }

    /// Our hooks that failed without an excuse.
    fn failed(&self) -> Vec<String> {
        let runs = self.sim.model().hook_runs();
        let next = |(unit, since): &(String, usize)| {
            runs.iter()
                .enumerate()
                .skip(*since)
                .find(|(_, run)| run.unit == *unit)
                .map(|(number, _)| number)
        };
        let excused: BTreeSet<usize> = self.excused.iter().filter_map(next).collect();
        let failed = |(number, run): &(usize, &HookRun)| match &run.exit {
            // PostgreSQL's own may fail while it is away.
            _ if !run.unit.starts_with(&format!("{APP}/")) => false,
            Exit::Success => false,
            // Juju's doing: nothing tells a hook that a relation has begun to end.
            Exit::Refused(why) => !self.ending(why, *number) && !excused.contains(number),
            _ => !excused.contains(number),
        };
        let tell = |(number, run): (usize, &HookRun)| {
            format!(
                "hook {number}, {} {}: {}\n{}",
                run.unit,
                run.hook,
                run.exit,
                run.log.join("\n")
            )
        };
        runs.iter().enumerate().filter(failed).map(tell).collect()
    }

    /// Whether a hook was refused a grant for a client whose relation was ending then.
    fn ending(&self, why: &str, number: usize) -> bool {
        let Some((_, scope)) = why.split_once("cannot grant access to secret in scope of \"")
        else {
            return false;
        };
        let Some((client, rest)) = scope.split_once(':') else { return false };
        let last = self.moves.iter().rfind(|(since, name, _)| *since <= number && name == client);
        rest.contains("which is not alive") && last.is_some_and(|(_, _, leaves)| *leaves)
    }

    /// Roles, secrets and entries: those of the clients that are left, and no others.
    fn left_over(&mut self) -> Result<Vec<String>, String> {
        let clients = self.clients();
        let mut complaints = Vec::new();
        let mut compare = |what: &str,
                           found: BTreeMap<String, String>,
                           expected: BTreeMap<String, String>| {
            if found != expected {
                complaints.push(format!("{what}:\n  found    {found:?}\n  expected {expected:?}"));
            }
        };

        let known = self.sim.model().relations_at(&format!("{APP}:database"));
        let known = known.iter().map(|id| (id.to_string(), String::new())).collect();
        compare(
            "relations",
            known,
            clients.keys().map(|id| (id.to_string(), String::new())).collect(),
        );

        let backend = self.sim.model().relations_at(&format!("{APP}:backend-database"))[0];
        let mark = format!("{APP}: model {}, application {APP}, relation", self.sim.model().uuid);
        // By name or by mark: one that lost either is left over, too.
        let roles = self.say(&format!(
            "sql postgresql-k8s \"SELECT rolname, coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles \
             WHERE rolname ~ 'relation_id_' \
             OR shobj_description(oid, 'pg_authid') LIKE '{APP}: model %'\"",
        ))?;
        let roles = roles
            .lines()
            .map(|line| line.split_once(" | ").unwrap_or((line.trim_end_matches(" |"), "")));
        let roles = roles.map(|(role, comment)| (role.to_owned(), owner(comment.trim()))).collect();
        let mut expected: BTreeMap<String, String> = clients
            .keys()
            .map(|id| (format!("relation_id_{id}"), format!("{mark} database:{id}")))
            .collect();
        // PostgreSQL's own charm made this one, and marks none.
        expected.insert(format!("relation_id_{backend}"), String::new());
        expected.insert(
            format!("pgbouncer_auth_relation_id_{backend}"),
            format!("{mark} backend-database:{backend}"),
        );
        compare("roles", roles, expected);

        let owner = Entity::App(APP.to_owned());
        let secrets = self.sim.model().secrets_of(&owner);
        let secrets = secrets.map(|secret| (secret.label.clone(), content(secret))).collect();
        let mut expected = BTreeMap::new();
        if self.has_secrets {
            expected.insert(format!("pgb-peers.{APP}.app"), String::new());
            for (id, client) in &clients {
                let user: Vec<&str> =
                    client.secrets.iter().copied().filter(|field| *field != "tls").collect();
                let granted =
                    |fields: &str| format!("{fields}, granted to {} by {id}", client.name);
                if !user.is_empty() {
                    expected.insert(format!("database.{id}.user.secret"), granted(&user.join(" ")));
                }
                if client.secrets.contains(&"tls") {
                    expected.insert(format!("database.{id}.tls.secret"), granted("tls"));
                }
            }
        }
        compare("secrets", secrets, expected);

        let peers = self.sim.model().relations_at(&format!("{APP}:pgb-peers"))[0];
        let bag = self.sim.model().bag(peers, APP);
        let kept = bag.keys().filter(|key| key.starts_with("relation_id_"));
        let kept = kept.map(|key| (key.clone(), String::new())).collect();
        let plain = clients.keys().filter(|_| !self.has_secrets);
        compare(
            "passwords in the peer bag",
            kept,
            plain.map(|id| (format!("relation_id_{id}"), String::new())).collect(),
        );

        let entries: BTreeMap<String, Value> =
            serde_json::from_str(bag.get("pgb_dbs_config").map_or("{}", String::as_str))
                .map_err(|error| error.to_string())?;
        let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
        let entries = entries.iter().map(|(key, entry)| (key.clone(), name(entry))).collect();
        let mut expected: BTreeMap<String, String> =
            clients.iter().map(|(id, client)| (id.to_string(), client.database.clone())).collect();
        if clients.values().any(|client| client.creates_databases) {
            expected.insert("*".to_owned(), "*".to_owned());
        }
        compare("entries", entries, expected);
        Ok(complaints)
    }

    /// Each process runs what is configured, and it is configured for those databases.
    fn configured(&mut self) -> Result<Vec<String>, String> {
        let clients = self.clients();
        let mut named: BTreeSet<String> =
            clients.values().map(|client| client.database.clone()).collect();
        named.insert("pgbouncer_auth".to_owned());
        let everybody = clients.values().any(|client| client.creates_databases);
        let databases = self
            .say("sql postgresql-k8s \"SELECT datname FROM pg_database WHERE datname ~ '^db'\"")?;
        let others: BTreeSet<String> =
            databases.lines().map(|line| line.trim().to_owned()).collect();
        let mut expected: BTreeSet<String> = named.iter().cloned().collect();
        expected.extend(
            named
                .iter()
                .chain(others.iter().filter(|_| everybody))
                .map(|name| format!("{name}_readonly")),
        );
        if everybody {
            expected.insert("*".to_owned());
        }
        let mut complaints = Vec::new();
        for unit in self.sim.model().units_of(APP) {
            let instances =
                self.sim.model().instances(&unit.to_string()).map_err(|error| error.to_string())?;
            for instance in instances {
                let directory = instance.ini.parent().and_then(Path::file_name).unwrap_or_default();
                for file in [
                    "shared.ini".to_owned(),
                    format!("{}/pgbouncer.ini", directory.to_string_lossy()),
                ] {
                    let text = self.say(&format!("cat {unit} /var/lib/pgbouncer/{file}"))?;
                    let found = section(&text, "[databases]");
                    if found != expected {
                        complaints.push(format!(
                            "{unit} {file}:\n  found    {found:?}\n  expected {expected:?}"
                        ));
                    }
                }
            }
            let status = self
                .sim
                .model()
                .unit_status(&unit.to_string())
                .map_err(|error| error.to_string())?;
            if status.word != "active" {
                complaints.push(format!("{unit} is {}: {}", status.word, status.message));
            }
        }
        let pooler = self.say(&format!("pooler {APP}"))?;
        if !pooler.lines().skip(1).all(|line| line.contains(" 2/2 ")) {
            complaints.push(pooler);
        }
        Ok(complaints)
    }

    /// Who is left logs in through every unit, and knows all of them.
    fn served(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        let units: Vec<String> =
            self.sim.model().units_of(APP).iter().map(ToString::to_string).collect();
        let address = |unit: &String| {
            self.sim.model().unit_address(unit).map(|address| format!("{address}:6432"))
        };
        let addresses: BTreeSet<String> = if self.in_containers && self.has_secrets {
            [format!("{APP}.dev.svc.cluster.local:6432")].into()
        } else {
            units.iter().filter_map(|unit| address(unit).ok()).collect()
        };
        for (id, client) in self.clients() {
            let told = self.sim.model().bag(id, APP);
            let endpoints = told.get("endpoints").map_or("", String::as_str);
            if endpoints.split(',').map(str::to_owned).collect::<BTreeSet<_>>() != addresses {
                complaints.push(format!(
                    "{} is told of {endpoints}, the units are at {addresses:?}",
                    client.name
                ));
            }
            for unit in &units {
                let statement = "SELECT session_user, current_database()";
                let found =
                    self.say(&format!("sql {} '{statement}' --through {unit}", client.name));
                if found != Ok(format!("relation_id_{id} | {}\n", client.database)) {
                    complaints
                        .push(format!("{}, relation {id}, through {unit}: {found:?}", client.name));
                }
            }
        }
        complaints
    }

    /// Those who are left, by relation.
    fn clients(&self) -> BTreeMap<u32, Client> {
        let relation =
            |client: &Client| self.sim.model().relations_at(&client.endpoint()).first().copied();
        let pairs =
            self.related.iter().filter_map(|client| Some((relation(client)?, client.clone())));
        pairs.collect()
    }

    fn say(&mut self, word: &str) -> Result<String, String> {
        self.words.push(word.to_owned());
        self.sim.run(word).map_err(|error| format!("{word}: {error}"))
    }
}

/// The part of a comment that says whose the role is. A record of what the role got follows it.
fn owner(comment: &str) -> String {
    comment.split("; verifier ").next().unwrap_or_default().to_owned()
}

/// The fields of a client's secret, and who may read them; the fields of ours are not compared.
fn content(secret: &Secret) -> String {
    let granted = secret.grants.iter().map(|(to, relation)| {
        format!(
            ", granted to {to} by {}",
            relation.map_or_else(|| "nothing".to_owned(), |id| id.to_string())
        )
    });
    let is_ours = !secret.label.starts_with("database.");
    let fields = if is_ours {
        String::new()
    } else {
        secret.content().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    fields + &granted.collect::<String>()
}

/// The keys of a section of an ini file.
fn section(text: &str, name: &str) -> BTreeSet<String> {
    let lines = text.lines().skip_while(|line| *line != name).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.to_owned()).collect()
}

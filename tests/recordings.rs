//! What the Python charm wrote into relations of `database`, key by key: a client that asks us the
//! same gets the same, and one that the Python charm has answered keeps what it has.
//!
//! `tests/recordings` holds what was recorded. We never store an empty `tls-ca`, which Juju 4.0
//! refuses: a missing field counts as the recorded empty one.

#![expect(clippy::disallowed_methods, reason = "the recordings are files")]

mod common;
mod servers;
mod soak;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jujusim::{Bag, HookRun, Options, Sim};
use serde::Deserialize;
use serde_json::Value;
use servers::tls::{fingerprint, handshake};
use soak::cases;

const OURS: &str = "pgbouncer-k8s";
const LEADER: &str = "pgbouncer-k8s/0";
/// The id of the recorded `backend-database`.
const BACKEND: u32 = 4;
/// The role that looks passwords up.
const AUTH: &str = "pgbouncer_auth_relation_id_4";

/// One file of `tests/recordings`.
#[derive(Deserialize)]
struct Recording {
    /// The Juju that is simulated: the one nearest to what it was recorded on.
    juju: String,
    backend: Backend,
    peers: Peers,
    clients: Vec<Client>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Backend {
    request: Bag,
    auth_verifier: String,
}

#[derive(Deserialize)]
struct Peers {
    bag: Bag,
    secret: Option<Secret>,
}

#[derive(Deserialize)]
struct Client {
    name: String,
    relation: u32,
    request: Bag,
    answer: Bag,
    /// By the key of the answer that names it.
    secrets: BTreeMap<String, Secret>,
    verifier: String,
    /// What its role is beside.
    attributes: String,
}

#[derive(Deserialize)]
struct Secret {
    label: String,
    owner: String,
    grants: Vec<String>,
    content: Bag,
}

impl Recording {
    fn read(name: &str) -> Self {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recordings/{name}.json"));
        serde_json::from_str(&std::fs::read_to_string(file).expect("a recording"))
            .expect("its form")
    }
}

impl Client {
    fn role(&self) -> String {
        format!("relation_id_{}", self.relation)
    }
}

/// A model in which relations have the recorded ids and the other sides have asked as recorded; no
/// hook of ours has run since there is a relation.
struct Bench {
    sim: Sim,
    files: PathBuf,
}

impl Bench {
    fn new(recording: &Recording) -> Self {
        Self::with(recording, &[])
    }

    /// As [`Self::new`], with more words before the recorded relations.
    fn with(recording: &Recording, words: &[&str]) -> Self {
        common::stage();
        let options = Options { juju: recording.juju.clone(), ..Options::default() };
        let sim = Sim::new(&options).expect("a model");
        let files = scratch();
        let mut bench = Self { sim, files };
        bench.go("deploy ./pgbouncer-k8s -n 3");
        bench.go("deploy actor:postgresql postgresql-k8s");
        bench.go("deploy actor:client spare");
        for client in &recording.clients {
            bench.go(&format!("deploy actor:client {}", client.name));
        }
        bench.go("settle");
        for word in words {
            bench.go(word);
        }
        bench.pass_ids_up_to(BACKEND);
        bench.go("integrate pgbouncer-k8s:backend-database postgresql-k8s");
        let mut last = BACKEND;
        for client in &recording.clients {
            if last + 1 < client.relation {
                bench.pass_ids_up_to(client.relation);
            }
            last = client.relation;
            bench.go(&format!("integrate pgbouncer-k8s:database {}", client.name));
            bench.run_all(&format!("{}/0", client.name));
            bench.replace(&format!("{}:database", client.name), &client.name, &client.request);
        }
        bench
    }

    #[track_caller]
    fn go(&mut self, line: &str) -> String {
        match self.sim.run(line) {
            Ok(text) => text,
            Err(error) => {
                panic!(
                    "{line}: {error}\n{}",
                    self.sim.run("log pgbouncer-k8s/0").unwrap_or_default()
                )
            }
        }
    }

    /// Uses up ids of relations until the next one is `id`.
    #[track_caller]
    fn pass_ids_up_to(&mut self, id: u32) {
        loop {
            self.go("integrate postgresql-k8s:database spare");
            let [used] = self.sim.model().relations_at("spare:database")[..] else {
                panic!("one relation")
            };
            assert!(used < id, "id {id} is in use");
            self.go("remove-relation postgresql-k8s:database spare");
            self.run_all("spare/0");
            self.run_all("postgresql-k8s/0");
            if used + 1 == id {
                return;
            }
        }
    }

    /// Runs what one unit has to do.
    fn run_all(&mut self, unit: &str) {
        while !self.go(&format!("step --unit {unit}")).contains("nothing to do") {}
    }

    /// Makes a bag what is said.
    fn replace(&mut self, place: &str, entity: &str, bag: &Bag) {
        let id = match place.split(':').nth(2) {
            Some(id) => id.parse().expect("an id"),
            None => self.sim.model().relations_at(place)[0],
        };
        let old = self.sim.model().bag(id, entity);
        let gone: String = old
            .keys()
            .filter(|key| !bag.contains_key(*key))
            .flat_map(|key| [" ", key, "="])
            .collect();
        let set = self.pairs(bag, "=@");
        self.go(&format!("databag {place} {entity}{gone}{set}"));
    }

    /// Each key with a file that holds its value: values have quotes and newlines.
    fn pairs(&self, bag: &Bag, mark: &str) -> String {
        let pair = |(key, value): (&String, &String)| {
            let file = self.files.join(key);
            std::fs::write(&file, value).expect("a file");
            format!(" {key}{mark}{}", file.display())
        };
        bag.iter().map(pair).collect()
    }

    /// Puts what the Python charm left into Juju and PostgreSQL.
    fn leave(&mut self, recording: &Recording) {
        self.replace("pgbouncer-k8s:backend-database", OURS, &recording.backend.request);
        self.run_all("postgresql-k8s/0");
        self.replace("pgbouncer-k8s:pgb-peers", OURS, &recording.peers.bag);
        if let Some(secret) = &recording.peers.secret {
            self.add_secret(secret);
        }
        self.sql(&format!(
            "CREATE ROLE {AUTH} LOGIN SUPERUSER PASSWORD '{}'",
            recording.backend.auth_verifier
        ));
        for client in &recording.clients {
            let (role, database) = (client.role(), &client.request["database"]);
            self.sql(&format!(
                "CREATE ROLE {role} LOGIN {} PASSWORD '{}'",
                client.attributes, client.verifier
            ));
            self.sql(&format!("CREATE DATABASE {database} OWNER relation_id_{BACKEND}"));
            self.sql(&format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
            self.sql(&format!("GRANT ALL ON DATABASE {database} TO {role}"));
            let mut answer = client.answer.clone();
            for (key, secret) in &client.secrets {
                let uri = self.add_secret(secret);
                self.go(&format!("exec {LEADER} -- secret-grant {uri} -r {}", client.relation));
                answer.insert(key.clone(), uri);
            }
            self.replace(&format!("pgbouncer-k8s:database:{}", client.relation), OURS, &answer);
        }
    }

    /// A secret of our application under its label; its URI.
    fn add_secret(&mut self, secret: &Secret) -> String {
        let content = self.pairs(&secret.content, "#file=");
        let uri =
            self.go(&format!("exec {LEADER} -- secret-add --label {}{content}", secret.label));
        uri.trim().to_owned()
    }

    /// What PostgreSQL answers to its superuser.
    fn sql(&mut self, statement: &str) -> String {
        self.go(&format!("sql postgresql-k8s \"{statement}\"")).trim().to_owned()
    }

    /// The client, former clients, and an application that is related to PostgreSQL directly have
    /// worked in the client's database. Returns the client's rights there.
    fn work(&mut self, client: &Client) -> BTreeSet<String> {
        let (role, database) = (client.role(), &client.request["database"]);
        let superuser = format!("relation_id_{BACKEND}");
        let direct = format!("direct_{database}");
        self.sql(&format!("CREATE ROLE {direct}"));
        for (schema, owner) in [("mine", &role), ("former", &superuser), ("direct", &direct)] {
            let mut sql =
                vec![format!("CREATE SCHEMA {schema} AUTHORIZATION {owner}; SET ROLE {owner}")];
            sql.extend(OBJECTS.map(|object| object.replace('‹', schema)));
            if schema != "mine" {
                let all = ["TABLES", "SEQUENCES", "FUNCTIONS"];
                sql.extend(
                    all.map(|kind| format!("GRANT ALL ON ALL {kind} IN SCHEMA {schema} TO {role}")),
                );
                sql.push(format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"));
            }
            self.sql_in(database, &sql.join("; "));
        }
        // The Python charm makes the first client the owner of every schema.
        let more = format!(
            "ALTER SCHEMA public OWNER TO {role}; SET ROLE {role}; \
             CREATE TABLE public.t (n serial)"
        );
        self.sql_in(database, &more);
        self.rights(client)
    }

    /// What a session of the client may do with each object of its database. A session may work as
    /// another role than the client's.
    fn rights(&mut self, client: &Client) -> BTreeSet<String> {
        let rights = RIGHTS.replace("‹role›", &client.role());
        self.sql_in(&client.request["database"], &rights).lines().map(str::to_owned).collect()
    }

    /// What PostgreSQL answers to its superuser in a database.
    fn sql_in(&mut self, database: &str, statement: &str) -> String {
        self.go(&format!("sql postgresql-k8s \"{statement}\" --database {database}"))
    }

    fn role(&mut self, client: &Client) -> (String, String) {
        let role = client.role();
        let verifier = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'");
        let comment = format!(
            "SELECT shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = '{role}'"
        );
        (self.sql(&verifier), self.sql(&comment))
    }

    fn bag(&self, client: &Client) -> Bag {
        self.sim.model().bag(client.relation, OURS)
    }

    /// The client's SQL is answered by every unit.
    #[track_caller]
    fn assert_served(&mut self, client: &Client) {
        for unit in self.sim.model().units_of(OURS) {
            let rows = self
                .go(&format!("sql {} \"SELECT current_database()\" --through {unit}", client.name));
            assert_eq!(rows.trim(), client.request["database"], "{unit}");
        }
    }

    /// The secret an answer names is as it was recorded, but for what revisions after it write.
    #[track_caller]
    fn assert_secret(&self, uri: &str, recorded: &Secret, since: &[&str]) {
        let secret = self.sim.model().secret(uri).expect("a secret");
        assert_eq!(secret.label, recorded.label);
        assert_eq!(format!("app:{}", secret.owner), recorded.owner);
        let grants: Vec<String> =
            secret.grants.values().flatten().map(|id| format!("database:{id}")).collect();
        assert_eq!(grants, recorded.grants);
        let mut wanted = shapes(&recorded.content);
        wanted.retain(|_, value| *value != "");
        let mut found = shapes(secret.content());
        // One that the Python charm left empty stays so.
        found.retain(|_, value| *value != "");
        found.retain(|key, _| wanted.contains_key(key) || !since.contains(&key.as_str()));
        assert_eq!(found, wanted);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.files);
    }
}

fn scratch() -> PathBuf {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("recording-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// Objects of every kind that the charm hands over, in the schema `‹`.
const OBJECTS: [&str; 9] = [
    "CREATE TABLE ‹.t (n serial)",
    "CREATE TABLE ‹.p (n int) PARTITION BY RANGE (n)",
    "CREATE SEQUENCE ‹.s",
    "CREATE VIEW ‹.v AS SELECT 1 AS n",
    "CREATE MATERIALIZED VIEW ‹.m AS SELECT 1 AS n",
    "CREATE FUNCTION ‹.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
     REVOKE EXECUTE ON FUNCTION ‹.f() FROM PUBLIC",
    "CREATE PROCEDURE ‹.run() LANGUAGE sql AS 'SELECT 1'",
    "CREATE TYPE ‹.mood AS ENUM ('glad')",
    "CREATE DOMAIN ‹.age AS int",
];

/// One line for each right of the role as which a session of `‹role›` works: the privileges on
/// objects, and the objects that the role may alter and drop.
const RIGHTS: &str = "
    WITH me AS (
             SELECT coalesce((SELECT substr(c, 6) FROM pg_db_role_setting, unnest(setconfig) c
                              WHERE setrole = '‹role›'::regrole AND c LIKE 'role=%'
                                AND setdatabase IN (0, (SELECT oid FROM pg_database
                                                        WHERE datname = current_database()))
                              ORDER BY setdatabase DESC LIMIT 1), '‹role›')::name AS role),
         schemas AS (SELECT * FROM pg_namespace WHERE nspname <> 'information_schema'
                     AND nspname !~ '^(pg_|pgbouncer_auth_)'),
         relations AS (SELECT c.oid, relowner, relkind = 'S' AS is_sequence
                       FROM pg_class c JOIN schemas s ON s.oid = relnamespace
                       WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
         owners AS (
             SELECT concat(CASE WHEN is_sequence THEN 'sequence ' ELSE 'table ' END, oid::regclass)
                    AS object, relowner AS owner FROM relations
             UNION ALL SELECT concat('schema ', nspname), nspowner FROM schemas
             UNION ALL SELECT concat('function ', p.oid::regprocedure), proowner
             FROM pg_proc p JOIN schemas s ON s.oid = pronamespace
             UNION ALL SELECT concat('type ', t.oid::regtype), typowner
             FROM pg_type t JOIN schemas s ON s.oid = typnamespace)
    SELECT concat('owner of ', object) FROM owners, me WHERE pg_has_role(role, owner, 'USAGE')
    UNION ALL SELECT concat(p, ' on table ', oid::regclass) FROM me, relations,
        unnest(string_to_array('SELECT INSERT UPDATE DELETE TRUNCATE REFERENCES TRIGGER', ' ')) p
    WHERE NOT is_sequence AND has_table_privilege(role, oid, p)
    UNION ALL SELECT concat(p, ' on sequence ', oid::regclass)
    FROM me, relations, unnest(string_to_array('USAGE SELECT UPDATE', ' ')) p
    WHERE is_sequence AND has_sequence_privilege(role, oid, p)
    UNION ALL SELECT concat(p, ' on schema ', nspname)
    FROM me, schemas, unnest(string_to_array('USAGE CREATE', ' ')) p
    WHERE has_schema_privilege(role, oid, p)
    UNION ALL SELECT concat('EXECUTE on function ', p.oid::regprocedure)
    FROM me, pg_proc p JOIN schemas s ON s.oid = pronamespace
    WHERE has_function_privilege(role, p.oid, 'EXECUTE')
    UNION ALL SELECT concat('USAGE on type ', t.oid::regtype)
    FROM me, pg_type t JOIN schemas s ON s.oid = typnamespace
    WHERE has_type_privilege(role, t.oid, 'USAGE')
    UNION ALL SELECT concat(p, ' on the database')
    FROM me, unnest(string_to_array('CREATE CONNECT TEMPORARY', ' ')) p
    -- Only the role that logs in needs CONNECT.
    WHERE has_database_privilege(CASE p WHEN 'CONNECT' THEN '‹role›' ELSE role END,
                                 current_database(), p)";

/// A bag or secret without what is another's everywhere: passwords, URIs of secrets, hosts,
/// PostgreSQL's version.
fn shapes(bag: &Bag) -> BTreeMap<String, Value> {
    let password = bag.get("password").map_or("", String::as_str);
    bag.iter().map(|(key, value)| (key.clone(), shape(key, value, password))).collect()
}

fn shape(key: &str, value: &str, password: &str) -> Value {
    match key {
        "data" => serde_json::from_str(value).expect("JSON"),
        "password" => {
            let is_password =
                value.len() == 24 && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
            Value::from(if is_password { "‹password›" } else { value })
        }
        "secret-user" | "secret-tls" if value.starts_with("secret:") => Value::from("‹secret›"),
        "endpoints" | "read-only-endpoints" => Value::from(ports(value)),
        "uris" | "read-only-uris" => {
            let (user, rest) = value.rsplit_once('@').expect("a URI with a user");
            let (hosts, database) = rest.split_once('/').expect("a URI with a database");
            let user = user.strip_suffix(&format!(":{password}")).expect("the password");
            Value::from(format!("{user}:‹password›@{}/{database}", ports(hosts)))
        }
        "version" => Value::from("‹version›"),
        _ => Value::from(value),
    }
}

/// `host:port` with commas between, without the hosts.
fn ports(endpoints: &str) -> String {
    let ports: BTreeSet<&str> = endpoints
        .split(',')
        .map(|endpoint| endpoint.rsplit_once(':').expect("host:port").1)
        .collect();
    ports.into_iter().map(|port| format!("‹host›:{port}")).collect::<Vec<_>>().join(",")
}

/// Clients are told what the recording says, but for keys of `since`, which later revisions write
/// too.
#[track_caller]
fn check_fresh(name: &str, since: &[&str]) {
    let recording = Recording::read(name);
    let mut bench = Bench::new(&recording);
    bench.go("settle");
    let backend = bench.sim.model().bag(BACKEND, "postgresql-k8s");
    for client in &recording.clients {
        let bag = bench.bag(client);
        let mut found = shapes(&bag);
        found.retain(|key, _| client.answer.contains_key(key) || !since.contains(&key.as_str()));
        assert_eq!(found, shapes(&client.answer), "{}", client.name);
        assert_eq!(bag["version"], backend["version"]);
        for (key, secret) in &client.secrets {
            bench.assert_secret(&bag[key], secret, since);
        }
        bench.assert_served(client);
    }
}

#[test]
fn our_answers_match_the_newest_with_secrets() {
    check_fresh("newest-on-juju-3.6", &[]);
}

#[test]
fn our_answers_match_the_newest_without_secrets() {
    check_fresh("newest-on-juju-2.9", &[]);
}

/// It knew neither URIs nor TLS.
#[test]
fn our_answers_match_revision_103() {
    check_fresh("revision-103-on-juju-3.1", &["uris", "secret-tls"]);
}

/// It knew neither URIs nor TLS.
#[test]
fn our_answers_match_revision_67() {
    check_fresh("revision-67-on-juju-2.9", &["uris", "tls"]);
}

/// Who was answered by the Python charm keeps user, password and secrets. Only where the units are
/// reached is told anew, and what revisions after the recorded one write, `since`.
#[track_caller]
fn check_taken_over(name: &str, since: &[&str]) {
    let recording = Recording::read(name);
    let mut bench = Bench::new(&recording);
    bench.leave(&recording);
    // The client works before the refresh, and keeps every right.
    let rights: Vec<_> = recording.clients.iter().map(|client| bench.work(client)).collect();
    let before: Vec<Bag> = recording.clients.iter().map(|client| bench.bag(client)).collect();
    bench.go("refresh pgbouncer-k8s");
    bench.go("settle");
    for (client, before) in recording.clients.iter().zip(&rights) {
        let after = bench.rights(client);
        let lost: Vec<_> = before.difference(&after).collect();
        assert!(lost.is_empty(), "{} lost {lost:#?}", client.name);
        // What former clients left is more than what the Python charm let this client use.
        for right in ["owner of table former.t", "owner of type former.mood"] {
            assert!(after.contains(right) && !before.contains(right), "{}: {right}", client.name);
        }
    }
    for (client, before) in recording.clients.iter().zip(&before) {
        let after = bench.bag(client);
        assert_eq!(kept(&after, since), kept(before, since), "{}", client.name);
        let mut found = shapes(&after);
        found.retain(|key, _| client.answer.contains_key(key) || !since.contains(&key.as_str()));
        assert_eq!(found, shapes(&client.answer), "{}", client.name);
        for (key, secret) in &client.secrets {
            bench.assert_secret(&after[key], secret, since);
            let label =
                bench.sim.model().secret(&secret.label).expect("it is there").content().clone();
            assert_eq!(kept(&label, since), kept(&secret.content, since), "{}", client.name);
        }
        bench.assert_served(client);
        let (verifier, comment) = bench.role(client);
        assert_eq!(verifier, client.verifier, "{}", client.name);
        assert!(
            comment.contains(&format!("database:{}", client.relation)),
            "{}: {comment:?}",
            client.name
        );
    }
    let mark = bench.sim.model().hook_runs().len();
    for unit in bench.sim.model().units_of(OURS) {
        bench.go(&format!("trigger {unit} config-changed"));
        bench.go(&format!("trigger {unit} update-status"));
    }
    for client in &recording.clients {
        bench.go(&format!("databag {0}:database {0}/0 noise=1", client.name));
    }
    bench.go("settle");
    let runs = &bench.sim.model().hook_runs()[mark..];
    assert!(runs.iter().any(|run| run.hook == "database-relation-changed" && run.unit == LEADER));
    assert_eq!(writes(runs), Vec::<String>::new());
}

/// The certificate of unit 0 in a recording of `certificates/python-charm.json`.
#[derive(Deserialize)]
struct Certified {
    layout: String,
    /// What the unit requested.
    requests: String,
    /// What the provider answered.
    certificates: String,
    /// Key, request and certificate, in a secret of the unit or in its bag.
    #[serde(default)]
    secret: Bag,
    #[serde(default)]
    bag: Bag,
}

impl Bench {
    /// Puts the recorded request, answer and key in the place of ours.
    fn certify(&mut self, recorded: &Certified, label: &str) {
        let place = "pgbouncer-k8s:certificates";
        let answer = Bag::from([("certificates".to_owned(), recorded.certificates.clone())]);
        self.replace(place, "ca", &answer);
        let requests = Bag::from([(REQUESTS.to_owned(), recorded.requests.clone())]);
        let requests = self.pairs(&requests, "=@");
        self.go(&format!("databag {place} {LEADER}{requests}"));
        self.go(&format!("exec {LEADER} -- state-delete certificate"));
        let mut peers = recorded.bag.clone();
        peers.insert("container_initialised".to_owned(), "True".to_owned());
        let peers = self.pairs(&peers, "=@");
        self.go(&format!("databag pgbouncer-k8s:pgb-peers {LEADER}{peers}"));
        if !recorded.secret.is_empty() {
            let content = self.pairs(&recorded.secret, "#file=");
            let found = self.go(&format!("exec {LEADER} -- secret-info-get --label {UNIT_LABEL}"));
            let uri = found.split(':').next().expect("an id").trim();
            self.go(&format!("exec {LEADER} -- secret-set {uri} --label {label}{content}"));
        }
    }

    /// Key, request and certificate of unit 0, where they are now.
    fn certified(&self) -> Bag {
        let owner = jujusim::Entity::Unit(LEADER.parse().expect("a unit"));
        let model = self.sim.model();
        let secret = model.secrets_of(&owner).next().map(|secret| secret.content().clone());
        let peers = model.relations_at("pgbouncer-k8s:pgb-peers")[0];
        let mut all = secret.unwrap_or_else(|| model.bag(peers, LEADER));
        all.retain(|key, _| ["key", "csr", "cert", "chain", "ca", "cauth"].contains(&key.as_str()));
        all
    }
}

/// The label of a unit's secret, in ours as in the newest recording.
const UNIT_LABEL: &str = "pgb-peers.pgbouncer-k8s.unit";

/// The key with a unit's requests.
const REQUESTS: &str = "certificate_signing_requests";

#[test]
fn a_recorded_certificate_serves_on_after_the_refresh() {
    let text = include_str!("certificates/python-charm.json");
    let certified: Vec<Certified> = serde_json::from_str(text).expect("recordings");
    let names = [
        ("newest-on-juju-3.6", "L3-HEAD-juju36", UNIT_LABEL),
        ("revision-67-on-juju-2.9", "L0-rev67-juju29", ""),
        ("revision-103-on-juju-3.1", "L2-rev103-juju3", "pgbouncer-k8s.unit"),
        ("newest-on-juju-2.9", "L0-HEAD-juju29", ""),
    ];
    assert_eq!(certified.len(), names.len());
    for (name, layout, label) in cases(2, names) {
        let recording = Recording::read(name);
        let tls = certified.iter().find(|one| one.layout == layout).expect(layout);
        let neighbour = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/neighbour");
        let deploy = format!("deploy {} ca", neighbour.display());
        let integrate = "integrate pgbouncer-k8s:certificates ca";
        let mut bench = Bench::with(&recording, &[&deploy, "settle", integrate, "settle"]);
        bench.leave(&recording);
        bench.certify(tls, label);
        let before = bench.certified();
        bench.go("refresh pgbouncer-k8s");
        bench.go("settle");
        bench.go("wait 6m");
        let after = bench.certified();
        for (key, value) in &before {
            // Some revisions ended a text with a line break, and some did not.
            assert_eq!(after[key].trim_end(), value.trim_end(), "{name}: {key}");
        }
        assert_eq!(after.len(), before.len(), "{name}");
        let relation = bench.sim.model().relations_at("pgbouncer-k8s:certificates")[0];
        let bag = bench.sim.model().bag(relation, LEADER);
        // Revision 67 did not say that the certificate is no CA's; providers now want to know.
        let request = |text: &str| {
            let list: Vec<Value> = serde_json::from_str(text).expect("a list");
            let pem = list[0]["certificate_signing_request"].as_str().expect("a request");
            (list.len(), pem.trim().to_owned())
        };
        assert_eq!(request(&bag[REQUESTS]), request(&tls.requests), "{name}");
        let address = bench.sim.model().unit_address(LEADER).expect("a unit");
        let shown = handshake((address, 6432).into()).expect("TLS");
        assert_eq!(shown.fingerprint, fingerprint(&before["cert"]), "{name}");
        for client in &recording.clients {
            bench.assert_served(client);
        }
    }
}

/// What must stay as it is, byte by byte.
fn kept(bag: &Bag, since: &[&str]) -> Bag {
    let told_anew = ["endpoints", "read-only-endpoints", "uris", "read-only-uris", "version"];
    let mut kept = bag.clone();
    kept.retain(|key, value| {
        !told_anew.contains(&key.as_str()) && !since.contains(&key.as_str()) && !value.is_empty()
    });
    kept
}

fn writes(runs: &[HookRun]) -> Vec<String> {
    let calls = runs.iter().flat_map(|run| run.calls.iter().map(move |call| (run, call)));
    calls
        .filter(|(run, _)| run.unit.starts_with("pgbouncer-k8s/"))
        .filter(|(_, call)| {
            let name = call.name.as_str();
            ["relation-set", "state-set"].contains(&name)
                || (name.starts_with("secret-")
                    && !["secret-get", "secret-info-get", "secret-ids"].contains(&name))
        })
        .map(|(run, call)| {
            format!("{} {}: {} {}", run.unit, run.hook, call.name, call.args.join(" "))
        })
        .collect()
}

#[test]
fn the_newest_with_secrets_is_taken_over() {
    check_taken_over("newest-on-juju-3.6", &[]);
}

#[test]
fn the_newest_without_secrets_is_taken_over() {
    check_taken_over("newest-on-juju-2.9", &[]);
}

#[test]
fn revision_103_is_taken_over() {
    check_taken_over("revision-103-on-juju-3.1", &["uris", "secret-tls"]);
}

#[test]
fn revision_67_is_taken_over() {
    check_taken_over("revision-67-on-juju-2.9", &["uris", "tls"]);
}

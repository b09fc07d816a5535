//! Hooks that are killed between two statements, on PostgreSQL 14, 15 and 16 as their charms set
//! them up: the next hook ends as if no hook had been killed, and the client of an ended relation
//! never logs in again.
//!
//! A run of an operation goes through a proxy that ends all its connections before one of the
//! statements. Then the operation runs again, as in the next hook.

#![expect(clippy::disallowed_methods, reason = "a test sets up the machine it needs")]

mod servers;
mod soak;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::LazyLock;
use std::thread;

use pgbouncer_k8s::pgbouncer::verifier::{ITERATIONS, scram_sha_256};
use pgbouncer_k8s::postgres::{
    AllowedMethods, Client, Credentials, Place, Roles, Server, TlsDemand,
};
use pgbouncer_k8s::secret::Secret;
use servers::cluster::{Cluster, Release, releases};
use servers::proxy::Proxy;
use servers::session::Session;
use soak::cases;
use tokio_postgres::Config;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The charm's user and its database.
const OURS: &str = "relation_id_4";
const MAIN: &str = "pgbouncer";
const AUTH: &str = "pgbouncer_auth_relation_id_4";
/// The client that arrives or leaves, and another client of the same database.
const CLIENT: &str = "relation_id_7";
const NEIGHBOUR: &str = "relation_id_8";
const DATABASE: &str = "shop";
/// A database that the leaving client owns.
const OWN: &str = "own";
const PREFIX: &str = "pgbouncer-k8s: model m, application p";
const PASSWORD: &str = "first";

/// An operation of a hook.
struct Row {
    name: &'static str,
    /// The `extra-user-roles` of the client.
    roles: &'static str,
    /// Makes what [`reset`](Self::reset) starts from.
    prepare: fn(&mut Bench) -> Outcome,
    /// Makes what the operation starts from, also after any run of the operation.
    reset: fn(&mut Bench) -> Outcome,
    run: fn(&mut Server, &Client) -> Outcome,
    /// Whether the auth role and its function are there after the operation.
    has_auth: bool,
    /// The client that is served after the operation.
    served: &'static str,
}

impl Row {
    /// Whether the client's relation has ended.
    fn leaves(&self) -> bool {
        self.served != CLIENT
    }
}

const ROWS: [Row; 6] = [
    Row {
        name: "a client arrives",
        roles: "",
        prepare: Bench::clear,
        reset: Bench::clear,
        run: arrive,
        has_auth: true,
        served: CLIENT,
    },
    Row {
        name: "the database was dropped and made anew",
        roles: "",
        prepare: Bench::serve,
        reset: Bench::renew_database,
        run: heal,
        has_auth: true,
        served: CLIENT,
    },
    Row {
        name: "the role was dropped",
        roles: "createdb",
        prepare: Bench::serve,
        reset: Bench::drop_role,
        run: heal,
        has_auth: true,
        served: CLIENT,
    },
    Row {
        name: "the password was changed and CONNECT revoked",
        roles: "",
        prepare: Bench::serve,
        reset: Bench::lock_out,
        run: heal,
        has_auth: true,
        served: CLIENT,
    },
    Row {
        name: "a client leaves",
        roles: "createdb",
        prepare: Bench::serve_two,
        reset: Bench::fill,
        run: |server, client| Ok(server.drop_client(&client.role, &client.comment)?),
        has_auth: true,
        served: NEIGHBOUR,
    },
    Row {
        name: "the lookup is removed",
        roles: "",
        prepare: Bench::serve,
        reset: Bench::install,
        run: |server, _| Ok(server.remove_auth(AUTH, &auth_comment())?),
        has_auth: false,
        served: CLIENT,
    },
];

#[test]
fn the_hook_after_a_killed_one_ends_as_if_nothing_had_happened() {
    thread::scope(|scope| {
        for release in cases(1, releases()) {
            scope.spawn(move || {
                let mut bench = Bench::new(&release).expect("a server");
                for row in &ROWS {
                    if let Err(error) = bench.sweep(row) {
                        panic!("PostgreSQL {}: {}: {error}", release.major, row.name);
                    }
                }
            });
        }
    });
}

fn arrive(server: &mut Server, client: &Client) -> Outcome {
    server.ensure_auth_role(AUTH, &AUTH_VERIFIER, &auth_comment(), &is_auth)?;
    server.install_get_auth(MAIN, AUTH)?;
    server.ensure_client(client, false, &is_clients)?;
    Ok(server.install_get_auth(DATABASE, AUTH)?)
}

fn heal(server: &mut Server, client: &Client) -> Outcome {
    let client = Client { is_answered: true, ..client.clone() };
    server.ensure_client(&client, false, &is_clients)?;
    Ok(server.install_get_auth(DATABASE, AUTH)?)
}

fn client(role: &str, roles: &str) -> Client {
    Client {
        role: role.to_owned(),
        database: DATABASE.to_owned(),
        verifier: VERIFIER.clone(),
        comment: comment(role),
        roles: Roles::parse(roles),
        is_answered: false,
    }
}

/// The verifiers of the client and of the auth role.
static VERIFIER: LazyLock<Secret> = LazyLock::new(|| verifier(PASSWORD));
static AUTH_VERIFIER: LazyLock<Secret> = LazyLock::new(|| verifier("auth"));

fn verifier(password: &str) -> Secret {
    scram_sha_256(&Secret::new(password), b"salt of a test", ITERATIONS)
}

fn is_clients(stored: &str) -> bool {
    stored == VERIFIER.reveal()
}

fn is_auth(stored: &str) -> bool {
    stored == AUTH_VERIFIER.reveal()
}

fn comment(role: &str) -> String {
    format!("{PREFIX}, relation database:{}", role.trim_start_matches("relation_id_"))
}

fn auth_comment() -> String {
    format!("{PREFIX}, relation backend-database:4")
}

/// A server of one major version, and the row that runs on it.
struct Bench {
    cluster: Cluster,
    major: u32,
    /// Sessions of the superuser of PostgreSQL's charm, by database.
    sessions: BTreeMap<&'static str, Session>,
    roles: &'static str,
}

impl Bench {
    fn new(release: &Release) -> Outcome<Self> {
        let cluster = Cluster::of(release, &format!("host all {OURS} 127.0.0.1/32 trust"))?;
        for (database, sql) in jujusim::set_up_of(&release.major.to_string())? {
            // initdb made the superuser.
            let sql = sql.replace("CREATE ROLE operator LOGIN SUPERUSER;", "");
            cluster.psql("operator", database, &sql)?;
        }
        let from_16 = release.major >= 16;
        let owner = if from_16 { "charmed_databases_owner" } else { "operator" };
        let role = format!("CREATE ROLE {OURS} LOGIN SUPERUSER IN ROLE relation_access");
        cluster.psql("operator", "postgres", &role)?;
        cluster.psql("operator", "postgres", &format!("CREATE DATABASE {MAIN} OWNER {owner}"))?;
        let revoke = format!("REVOKE ALL ON DATABASE {MAIN} FROM PUBLIC");
        cluster.psql("operator", "postgres", &revoke)?;
        if from_16 {
            let set_up =
                "SET ROLE charmed_databases_owner; SELECT set_up_predefined_catalog_roles()";
            cluster.psql("operator", MAIN, set_up)?;
        }
        Ok(Self { cluster, major: release.major, sessions: BTreeMap::new(), roles: "" })
    }

    /// Cuts a row's operation before each of its connections and statements, and runs it again.
    fn sweep(&mut self, row: &Row) -> Outcome {
        let name = format!("PostgreSQL {}: {}", self.major, row.name);
        self.roles = row.roles;
        (row.prepare)(self)?;
        (row.reset)(self)?;
        let start = self.state()?;
        let found = complaints(&mut Self::connect(self.cluster.port)?, row)?;
        assert_ne!(found, "", "{name}: there is nothing to do");
        let whole = Proxy::start(self.cluster.port, None)?;
        let mut server = self.run(row, whole.port)?;
        let steps = whole.steps();
        let end = self.state()?;
        assert_ne!(start, end, "{name}: it changes nothing");
        assert_eq!(complaints(&mut server, row)?, "", "{name}");
        drop((server, whole));
        // Most statements only read. The next hook after two cuts that left the same is the same,
        // and what it does at the start is what the whole run did.
        let mut checked = (start.clone(), true);
        let mut session: Option<Session> = None;
        let mut is_at_start = false;
        let (mut was_refused, mut reruns) = (false, 0);
        for step in 1..=steps {
            if !is_at_start {
                // The session has locks.
                drop(session.take());
                (row.reset)(self)?;
                assert_same(&start, &self.state()?, &format!("{name}: before step {step}"));
                session = if row.leaves() { Some(self.open_session()?) } else { None };
            }
            let proxy = Proxy::start(self.cluster.port, Some(step))?;
            let cut = self.run(row, proxy.port).map(drop);
            let place = format!("{name}: cut before step {step}, {}", proxy.last());
            assert!(proxy.has_cut(), "{place}: not cut: {cut:?}");
            assert!(cut.is_err(), "{place}: it reports no error");
            let goes_on = || session.as_ref().is_none_or(|session| session.ask("SELECT 1").is_ok());
            let left = (self.state()?, goes_on());
            if row.leaves() {
                let logs_in = self.logs_in();
                assert!(!(logs_in && was_refused), "{place}: the client logs in again");
                assert!(!logs_in || left.0 == start, "{place}: the login stayed after a change");
                was_refused |= !logs_in;
            }
            is_at_start = left == (start.clone(), true);
            if left == checked {
                continue;
            }
            let mut server = match self.run(row, self.cluster.port) {
                Ok(server) => server,
                Err(error) => panic!("{place}: the next hook fails: {error}"),
            };
            assert_same(&end, &self.state()?, &place);
            assert_eq!(complaints(&mut server, row)?, "", "{place}");
            if row.leaves() {
                assert!(!self.logs_in(), "{place}: the client logs in after it left");
                assert!(!goes_on(), "{place}: its session goes on");
            }
            (checked, reruns) = (left, reruns + 1);
        }
        assert!(reruns > 0, "{name}: no cut of {steps} left anything half done");
        assert_eq!(was_refused, row.leaves(), "{name}");
        Ok(())
    }

    /// Runs the operation as a hook does, with connections of its own.
    fn run(&self, row: &Row, port: u16) -> Outcome<Server> {
        let mut server = Self::connect(port)?;
        (row.run)(&mut server, &client(CLIENT, self.roles))?;
        Ok(server)
    }

    fn connect(port: u16) -> Outcome<Server> {
        let credentials = Credentials {
            hosts: vec![("127.0.0.1".to_owned(), port)],
            user: OURS.to_owned(),
            password: Secret::new("x"),
            database: MAIN.to_owned(),
            methods: AllowedMethods::Any,
            tls: TlsDemand::default(),
        };
        Ok(Server::connect(&credentials)?)
    }

    fn logs_in(&self) -> bool {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.cluster.port).dbname(DATABASE);
        Session::connect(config.user(CLIENT).password(PASSWORD)).is_ok()
    }

    /// A session of the client that has a table open in a transaction.
    fn open_session(&self) -> Outcome<Session> {
        let session = self.session(CLIENT, DATABASE)?;
        session.ask("SET ROLE NONE; BEGIN; SELECT count(*) FROM mine.t")?;
        Ok(session)
    }

    fn session(&self, user: &str, database: &str) -> Outcome<Session> {
        Ok(Session::open(&self.cluster.directory, self.cluster.port, user, database)?)
    }

    /// The superuser's session in a database.
    fn operator(&mut self, database: &'static str) -> Outcome<&Session> {
        if !self.sessions.contains_key(database) {
            self.sessions.insert(database, self.session("operator", database)?);
        }
        Ok(&self.sessions[database])
    }

    fn drop_database(&mut self, database: &str) -> Outcome {
        self.sessions.remove(database);
        let sql = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        self.operator(MAIN)?.ask(&sql).map(drop).map_err(Into::into)
    }

    /// Roles, memberships, settings, comments, databases and, in each database, owners, privileges
    /// and functions.
    fn state(&mut self) -> Outcome<BTreeSet<String>> {
        let mut state = self.operator(MAIN)?.column(SHARED, "line")?;
        let databases =
            self.operator(MAIN)?.column("SELECT datname FROM pg_database", "datname")?;
        for database in [MAIN, DATABASE, OWN] {
            if databases.iter().any(|name| name == database) {
                let lines = self.operator(database)?.column(CONTENT, "line")?;
                state.extend(lines.iter().map(|line| format!("{database}: {line}")));
            }
        }
        Ok(state.into_iter().collect())
    }
}

/// What rows start from.
impl Bench {
    /// No client has ever been there.
    fn clear(&mut self) -> Outcome {
        for database in [DATABASE, OWN] {
            self.drop_database(database)?;
        }
        let drop_schema = format!("DROP SCHEMA IF EXISTS {AUTH} CASCADE");
        self.operator(MAIN)?.ask(&drop_schema)?;
        self.operator(MAIN)?.ask(
            "DO $$
             DECLARE role text;
             BEGIN
                 FOR role IN SELECT rolname FROM pg_roles
                             WHERE rolname ~ '^(relation_id_[78]$|pgbouncer_|charmed_shop_)' LOOP
                     EXECUTE format('DROP OWNED BY %I', role);
                     EXECUTE format('DROP ROLE %I', role);
                 END LOOP;
             END $$",
        )?;
        Ok(())
    }

    /// The client has its database.
    fn serve(&mut self) -> Outcome {
        self.clear()?;
        arrive(&mut Self::connect(self.cluster.port)?, &client(CLIENT, self.roles))
    }

    fn serve_two(&mut self) -> Outcome {
        self.serve()?;
        let mut server = Self::connect(self.cluster.port)?;
        server.ensure_client(&client(NEIGHBOUR, ""), false, &is_clients)?;
        self.operator(MAIN)?.ask(&format!("CREATE DATABASE {OWN}"))?;
        self.operator(OWN)?.ask("CREATE TABLE t (n int)")?;
        Ok(())
    }

    /// The operator drops the database and makes it again.
    fn renew_database(&mut self) -> Outcome {
        let owner = if self.major >= 16 { "charmed_databases_owner" } else { OURS };
        self.drop_database(DATABASE)?;
        self.operator(MAIN)?.ask(&format!("CREATE DATABASE {DATABASE} OWNER {owner}"))?;
        Ok(())
    }

    fn drop_role(&mut self) -> Outcome {
        let sql = format!("DROP OWNED BY {CLIENT}; DROP ROLE {CLIENT}");
        self.operator(DATABASE)?.ask(&sql)?;
        Ok(())
    }

    fn lock_out(&mut self) -> Outcome {
        self.operator(MAIN)?.ask(&format!(
            "ALTER ROLE {CLIENT} PASSWORD '{}'; SET ROLE {OURS};
             REVOKE CONNECT ON DATABASE {DATABASE} FROM {CLIENT}; RESET ROLE",
            AUTH_VERIFIER.reveal()
        ))?;
        Ok(())
    }

    fn install(&mut self) -> Outcome {
        let mut server = Self::connect(self.cluster.port)?;
        server.ensure_auth_role(AUTH, &AUTH_VERIFIER, &auth_comment(), &is_auth)?;
        server.install_get_auth(MAIN, AUTH)?;
        Ok(server.install_get_auth(DATABASE, AUTH)?)
    }

    /// The client owns objects of many kinds and a database, and others have rights on them.
    fn fill(&mut self) -> Outcome {
        let mut server = Self::connect(self.cluster.port)?;
        // A client that has left half comes back with other attributes than a new one.
        server.drop_client(CLIENT, &comment(CLIENT))?;
        self.operator(OWN)?.ask(&format!(
            "ALTER DATABASE {OWN} OWNER TO operator; ALTER TABLE t OWNER TO operator;
             DROP ROLE IF EXISTS pgbouncer_estate"
        ))?;
        self.operator(DATABASE)?
            .ask("DROP EVENT TRIGGER IF EXISTS audit; DROP SCHEMA IF EXISTS mine CASCADE")?;
        server.ensure_client(&client(CLIENT, self.roles), false, &is_clients)?;
        self.operator(DATABASE)?.ask(&format!(
            "CREATE SCHEMA mine AUTHORIZATION {CLIENT}; SET ROLE {CLIENT};
             CREATE TABLE mine.t (n serial); CREATE TABLE mine.u AS SELECT 1 AS a;
             CREATE VIEW mine.v AS SELECT n FROM mine.t; CREATE TYPE mine.mood AS ENUM ('glad');
             CREATE FUNCTION mine.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
             CREATE FUNCTION mine.audit() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
             GRANT USAGE ON SCHEMA mine TO {NEIGHBOUR}; GRANT SELECT ON mine.t TO {NEIGHBOUR};
             ALTER DEFAULT PRIVILEGES IN SCHEMA mine GRANT SELECT ON TABLES TO {NEIGHBOUR};
             RESET ROLE; ALTER ROLE {CLIENT} SUPERUSER;
             CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION mine.audit();
             ALTER EVENT TRIGGER audit OWNER TO {CLIENT}; ALTER ROLE {CLIENT} NOSUPERUSER;
             GRANT {CLIENT} TO {NEIGHBOUR}; ALTER DATABASE {OWN} OWNER TO {CLIENT}"
        ))?;
        self.operator(OWN)?.ask(&format!("ALTER TABLE t OWNER TO {CLIENT}"))?;
        Ok(())
    }
}

/// What the charm finds to do after the row's operation, one line each.
fn complaints(server: &mut Server, row: &Row) -> Outcome<String> {
    let auth = row.has_auth.then_some(AUTH);
    let places = [Place {
        role: row.served.to_owned(),
        database: DATABASE.to_owned(),
        comment: comment(row.served),
    }];
    let mut lacks = server.lacks(&places, auth)?;
    server.add_lacks_of_content(&places, &mut lacks)?;
    let mut found: Vec<String> = lacks.iter().flatten().map(ToString::to_string).collect();
    let keep = [row.served.to_owned()];
    let seen = server.inspect(AUTH, &auth_comment(), &is_auth, PREFIX, &keep)?;
    for (name, is_wrong) in [
        ("the auth role", seen.has_auth_role != row.has_auth),
        ("get_auth", seen.has_get_auth != row.has_auth),
        ("a role of a removed client", seen.has_strays),
        ("an earlier auth role", !seen.former_auth_roles.is_empty()),
    ] {
        found.extend(is_wrong.then(|| name.to_owned()));
    }
    if row.has_auth {
        found.extend(server.lack_get_auth(vec![DATABASE.to_owned()], AUTH)?);
    }
    Ok(found.join("\n"))
}

#[track_caller]
fn assert_same(wanted: &BTreeSet<String>, found: &BTreeSet<String>, place: &str) {
    let lacking: Vec<_> = wanted.difference(found).collect();
    let more: Vec<_> = found.difference(wanted).collect();
    assert!(wanted == found, "{place}\nlacking: {lacking:#?}\nmore: {more:#?}");
}

/// What databases share. In a comment the name of a database stands for its OID.
const SHARED: &str = "
    SELECT concat('role ', rolname, ' ', to_jsonb(a) - '{oid,rolname}'::text[]) AS line
    FROM pg_authid a WHERE rolname !~ '^pg_'
    UNION ALL
    SELECT concat('member ', member::regrole, ' of ', roleid::regrole, ' by ', grantor::regrole,
                  ' ', to_jsonb(m) - '{oid,member,roleid,grantor}'::text[])
    FROM pg_auth_members m
    UNION ALL
    SELECT concat('setting of ', setrole::regrole, ' in ', datname, ' ', setconfig)
    FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase
    UNION ALL
    SELECT concat('comment on ', rolname, ' ', regexp_replace(c, '; database [0-9]+', concat(
        '; database ', (SELECT datname FROM pg_database
                        WHERE oid::text = substring(c, '; database ([0-9]+)')))))
    FROM pg_roles r CROSS JOIN shobj_description(r.oid, 'pg_authid') c WHERE rolname !~ '^pg_'
    UNION ALL
    SELECT concat('database ', datname, ' of ', datdba::regrole, ' ',
                  to_jsonb(d) -> 'datallowconn', ' ', datconnlimit, ' ',
                  (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a))
    FROM pg_database d";

/// What is in a database.
const CONTENT: &str = "
    WITH schemas AS (SELECT oid, nspname FROM pg_namespace
                     WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'),
         acls AS (
             SELECT nspname AS name, nspacl AS acl FROM pg_namespace JOIN schemas USING (oid, nspname)
             UNION ALL
             SELECT c.oid::regclass::text, relacl FROM pg_class c JOIN schemas s
                 ON s.oid = relnamespace
             UNION ALL
             SELECT p.oid::regprocedure::text, proacl FROM pg_proc p JOIN schemas s
                 ON s.oid = pronamespace
             UNION ALL
             SELECT concat('default ', defaclrole::regrole, ' ', defaclnamespace::regnamespace, ' ',
                           defaclobjtype), defaclacl FROM pg_default_acl)
    SELECT concat(deptype, ' ', refobjid::regrole, ' ', type, ' ', identity) AS line
    FROM pg_shdepend s CROSS JOIN pg_identify_object(classid, objid, objsubid)
    WHERE refclassid = 'pg_authid'::regclass
      AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL
    SELECT concat('acl ', name, ' ', (SELECT string_agg(a::text, ' ' ORDER BY a::text)
                                      FROM unnest(acl) a)) FROM acls
    UNION ALL
    SELECT concat('event trigger ', evtname, ' ', evtenabled) FROM pg_event_trigger
    UNION ALL
    SELECT concat('function ', p.oid::regprocedure, ' ', prosrc, proconfig, prosecdef)
    FROM pg_proc p JOIN schemas s ON s.oid = pronamespace";

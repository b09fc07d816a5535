//! Tenants with each role that may be asked for, alone and two on a database, through PgBouncer:
//! what they can do before and after their relation ends is exactly the table in
//! docs/postgresql.md.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::net::TcpListener;

use pgbouncer_k8s::pgbouncer::{
    AUTH_DATABASE, Auth, AuthType, Database, InstanceConfig, Parameters, Place, PoolMode,
    SharedConfig, SslMode, TlsFiles, Unit, User, UserList,
};
use pgbouncer_k8s::postgres::{Roles, ServerVersion};
use pgbouncer_k8s::secret::Secret;
use tokio_postgres::Config;

use super::attempts::{
    AFTER, ATTEMPTS, Attempt, CLEAN_UP, ENTER, EXCEPTIONS, Exception, FROM_16, FROM_16_ATTEMPTS,
    FROM_16_CLEAN_UP, IN_VICTIM, KEEP, LOG_IN, OPERATORS, PREPARATIONS, TO_15,
};
use super::servers::bench::Bench as Process;
use super::servers::cluster::{Cluster, Release, releases};
use super::servers::pgbouncer::installed;
use super::servers::session::Session;
use super::soak::cases;
use super::{Bench, COMMENT, Outcome};

const AUTH: &str = "pgbouncer_auth_relation_id_4";

/// The database of the tenants.
const DATABASE: &str = "shop";

const DATABASES_OWNER: &str = "charmed_databases_owner";

/// The password that the charm sets in this test.
const FIRST: &str = "first";

/// The password that a tenant sets.
const MINE: &str = "mine";

/// How PostgreSQL refuses. Any other error is a mistake in the attempt.
const REFUSALS: [&str; 6] = [
    "permission denied",
    "must be ",
    "must have ",
    "does not exist",
    "only superuser",
    "not permitted",
];

/// What the server says of an attempt that succeeded: its own error undoes it.
const SUCCESS: &str = "the attempt succeeded";

/// The roles that a session can take, except those that PostgreSQL gives its members anyway.
const TAKES: &str = "
    SELECT rolname FROM pg_roles
    WHERE pg_has_role(session_user, oid, 'MEMBER') AND NOT rolsuper AND rolname !~ '^pg_'";

/// Which attempts succeeded, by name.
type Outcomes = BTreeMap<&'static str, bool>;

/// A PostgreSQL as its charm sets it up, with the charm's role, a PgBouncer in front, and a client
/// of another database, `victim`.
struct Stage {
    bench: Bench,
    _pooler: Process,
    port: u16,
    major: u32,
    heir: String,
    prepared: BTreeSet<&'static str>,
}

impl Stage {
    fn on(release: &Release) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::of(release, "")?;
        for (database, sql) in jujusim::set_up_of(&release.major.to_string())? {
            // initdb made the superuser.
            let sql = sql.replace("CREATE ROLE operator LOGIN SUPERUSER;", "");
            cluster.psql("operator", database, &sql)?;
        }
        let sql = "CREATE ROLE relation_id_4 LOGIN SUPERUSER PASSWORD 'x'; CREATE ROLE accounting";
        cluster.psql("operator", "postgres", sql)?;
        let owner = if release.major >= 16 { " OWNER charmed_databases_owner" } else { "" };
        cluster.psql("operator", "postgres", &format!("CREATE DATABASE pgbouncer{owner}"))?;
        cluster.psql("operator", "postgres", "REVOKE ALL ON DATABASE pgbouncer FROM PUBLIC")?;
        let (pooler, port) = pooler(&cluster)?;
        let mut bench = Bench::of(cluster)?;
        let secret = Secret::new(FIRST);
        bench.server.ensure_auth_role(AUTH, &secret, COMMENT, &|_| false)?;
        bench.server.install_get_auth("pgbouncer", AUTH)?;
        bench.add("relation_id_6", "victim", "")?;
        bench.server.install_get_auth("victim", AUTH)?;
        let theirs = "CREATE TABLE secrets AS SELECT 'x' AS s;
             CREATE FUNCTION theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'";
        bench.cluster.psql("relation_id_6", "victim", theirs)?;
        let heir = bench.see(
            "postgres",
            "SELECT rolname FROM pg_roles
             WHERE pg_has_role('relation_id_6', oid, 'MEMBER')
               AND (rolname LIKE 'pgbouncer_heir_%' OR rolname = 'charmed_victim_owner')",
        )?;
        let (major, prepared) = (release.major, BTreeSet::new());
        Ok(Self { bench, _pooler: pooler, port, major, heir, prepared })
    }

    /// A session through PgBouncer.
    fn log_in(&self, user: &str, password: &str, database: &str) -> Result<Session, String> {
        log_in(self.port, user, password, database)
    }

    /// A session with PostgreSQL itself, with a password.
    fn reach(&self, user: &str, password: &str, database: &str) -> Result<Session, String> {
        log_in(self.bench.cluster.port, user, password, database)
    }

    fn as_operator(&self, database: &str) -> Result<Session, String> {
        let Cluster { directory, port, .. } = &self.bench.cluster;
        Session::open(directory, *port, "operator", database)
    }

    fn attempts(&self) -> Vec<Attempt> {
        let more: &[_] = if self.major >= 16 { &FROM_16_ATTEMPTS } else { &[] };
        [&ATTEMPTS, more].concat()
    }

    fn fill(&self, sql: &str, me: &str, pair: &Pair) -> String {
        [
            ("‹me›", me),
            ("‹tenant›", &pair.tenant),
            ("‹other›", &pair.other),
            ("‹database›", DATABASE),
            ("‹mine›", super::verifier(MINE).reveal()),
            ("‹heir›", &self.heir),
            ("‹auth›", AUTH),
        ]
        .iter()
        .fold(sql.to_owned(), |sql, (name, value)| sql.replace(name, value))
    }

    /// Tries everything in a role, in one statement that leaves nothing behind.
    fn try_all(
        &self,
        session: &Session,
        role: &str,
        (me, pair): (&str, &Pair),
        attempts: &[Attempt],
    ) -> Result<Outcomes, Box<dyn Error>> {
        let each = attempts
            .iter()
            .map(|(name, sql)| format!("[$q${name}$q$, $q${}$q$]", self.fill(sql, me, pair)));
        let sql = format!(
            "SET ROLE {role}; DO $matrix$
             DECLARE attempt text[]; answers text[] := '{{}}';
             BEGIN
                 FOREACH attempt SLICE 1 IN ARRAY ARRAY[{}] LOOP
                     BEGIN
                         EXECUTE attempt[2];
                         RAISE EXCEPTION '{SUCCESS}';
                     EXCEPTION WHEN OTHERS THEN
                         answers := answers || sqlerrm;
                     END;
                 END LOOP;
                 PERFORM set_config('our.answers', to_jsonb(answers)::text, false);
             END $matrix$; RESET ROLE; SELECT current_setting('our.answers')",
            each.collect::<Vec<_>>().join(", ")
        );
        let answers: Vec<String> = serde_json::from_str(&session.ask(&sql)?)?;
        assert_eq!(answers.len(), attempts.len());
        let mut outcomes = Outcomes::new();
        for ((name, _), answer) in attempts.iter().zip(answers) {
            let succeeded = answer == SUCCESS;
            let refused = REFUSALS.iter().any(|refusal| answer.contains(refusal));
            assert!(succeeded || refused, "{}: {name} as {role}: {answer}", self.major);
            outcomes.insert(name, succeeded);
        }
        Ok(outcomes)
    }

    /// The same in each role that the session can take.
    fn try_in_each_role(
        &self,
        session: &Session,
        of: (&str, &Pair),
        attempts: &[Attempt],
    ) -> Result<Outcomes, Box<dyn Error>> {
        let mut outcomes = Outcomes::new();
        for role in session.column(TAKES, "rolname")? {
            for (name, succeeded) in self.try_all(session, &role, of, attempts)? {
                *outcomes.entry(name).or_default() |= succeeded;
            }
        }
        assert!(!outcomes.is_empty(), "{} can take no role, not even its own", of.0);
        Ok(outcomes)
    }

    fn prepare(&mut self, session: &Session, pair: &Pair) -> Outcome {
        for (name, _, sql) in PREPARATIONS {
            let sql = format!("RESET ROLE; {}", self.fill(sql, &pair.tenant, pair));
            match session.ask(&sql) {
                Ok(_) => drop(self.prepared.insert(name)),
                Err(error) => assert!(
                    REFUSALS.iter().any(|refusal| error.contains(refusal)),
                    "{}: {name}: {error}",
                    self.major
                ),
            }
        }
        session.ask("RESET ROLE").map(drop).map_err(Into::into)
    }

    /// A tenant from its first login to the time after it: what it could do before, and what it or
    /// the other client could do after.
    fn live(&mut self, asked: &str, pair: &Pair) -> Result<[Outcomes; 2], Box<dyn Error>> {
        let Pair { tenant, other, shared } = pair;
        self.bench.add(tenant, DATABASE, asked)?;
        if *shared {
            self.bench.add(other, DATABASE, "")?;
        }
        let pooled = self.log_in(tenant, FIRST, DATABASE)?;
        let mut before = self.try_in_each_role(&pooled, (tenant, pair), &self.attempts())?;
        before.extend(self.enter(pair)?);

        self.prepare(&pooled, pair)?;
        let direct = self.reach(tenant, MINE, DATABASE)?;
        direct.ask("BEGIN; SELECT 1")?;
        let owner = self.reach(DATABASES_OWNER, MINE, "victim").ok();
        // The verifier that PgBouncer looks up is the new one.
        self.log_in(tenant, MINE, DATABASE)?;
        self.bench.server.drop_client(tenant, COMMENT)?;

        if !*shared {
            self.bench.add(other, DATABASE, "")?;
        }
        let mut after = Outcomes::new();
        for (name, session) in KEEP.into_iter().zip([Some(pooled), Some(direct), owner]) {
            after.insert(name, session.is_some_and(|session| session.ask("SELECT 1").is_ok()));
        }
        for (name, user, database) in LOG_IN {
            let user = self.fill(user, tenant, pair);
            let ways = [Self::log_in, Self::reach];
            let sessions = ways.map(|way| way(self, &user, MINE, database));
            let mut answers = sessions.into_iter().map(|session| session?.ask("SELECT 1"));
            after.insert(name, answers.any(|answer| answer.is_ok()));
        }
        let session = self.log_in(other, FIRST, DATABASE)?;
        after.extend(self.try_in_each_role(&session, (other, pair), &self.attempts())?);
        after.extend(self.try_in_each_role(&session, (other, pair), &AFTER)?);
        drop(session);
        self.bench.server.drop_client(other, COMMENT)?;
        self.clean_up(pair)?;
        Ok([before, after])
    }

    /// What a tenant can do in the database of another client.
    fn enter(&self, pair: &Pair) -> Result<Outcomes, Box<dyn Error>> {
        // PgBouncer logs a client in once PostgreSQL does.
        let session = self.log_in(&pair.tenant, FIRST, "victim");
        let mut outcomes = Outcomes::from([(ENTER, session.is_ok())]);
        match session {
            Ok(session) => {
                let tried = self.try_in_each_role(&session, (&pair.tenant, pair), &IN_VICTIM)?;
                outcomes.extend(tried);
            }
            Err(error) => {
                assert!(error.contains("permission denied for database"), "{error}");
                outcomes.extend(IN_VICTIM.map(|(name, _)| (name, false)));
            }
        }
        Ok(outcomes)
    }

    fn clean_up(&self, pair: &Pair) -> Outcome {
        let more = if self.major >= 16 { FROM_16_CLEAN_UP } else { "" };
        let sql = format!("{}; {more}", self.fill(CLEAN_UP, "", pair));
        self.as_operator(DATABASE)?.ask(&sql).map(drop).map_err(Into::into)
    }

    /// Makes the database, and tries everything as somebody who may do it: each attempt succeeds.
    fn control(&mut self) -> Outcome {
        let pair = Pair::new(0, true);
        let Pair { tenant, other, .. } = &pair;
        // A tenant that does not work as its heir.
        let asked = if self.major >= 16 { "charmed_stats" } else { "accounting" };
        self.bench.add(tenant, DATABASE, asked)?;
        self.bench.server.install_get_auth(DATABASE, AUTH)?;
        self.bench.add(other, DATABASE, "")?;
        let operator = self.as_operator(DATABASE)?;
        operator.ask(OPERATORS)?;
        let mut outcomes =
            self.try_all(&operator, "operator", (tenant, &pair), &self.attempts())?;
        let victim = self.as_operator("victim")?;
        outcomes.extend(self.try_all(&victim, "operator", (tenant, &pair), &IN_VICTIM)?);
        operator.ask(&format!("ALTER ROLE {tenant} SUPERUSER"))?;
        self.prepare(&self.reach(tenant, FIRST, DATABASE)?, &pair)?;
        let session = self.log_in(other, FIRST, DATABASE)?;
        outcomes.extend(self.try_all(&session, "NONE", (other, &pair), &AFTER)?);
        let failed: Vec<_> = outcomes.iter().filter(|(_, succeeded)| !**succeeded).collect();
        assert!(failed.is_empty(), "PostgreSQL {}: not for a superuser: {failed:?}", self.major);
        for (_, user, database) in LOG_IN {
            if self.major >= 16 || user != DATABASES_OWNER {
                self.reach(&self.fill(user, tenant, &pair), MINE, database)?.ask("SELECT 1")?;
            }
        }
        self.prepared.clear();
        self.bench.server.drop_client(tenant, COMMENT)?;
        self.bench.server.drop_client(other, COMMENT)?;
        self.clean_up(&pair)
    }
}

/// A tenant, and the other client of its database: at the same time, or the next one.
struct Pair {
    tenant: String,
    other: String,
    shared: bool,
}

impl Pair {
    fn new(number: usize, shared: bool) -> Self {
        let [tenant, other] = [100, 101].map(|first| format!("relation_id_{}", first + 2 * number));
        Self { tenant, other, shared }
    }
}

fn log_in(port: u16, user: &str, password: &str, database: &str) -> Result<Session, String> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname(database);
    Session::connect(&config)
}

/// A process with the charm's configuration for clients that reach every database: only PostgreSQL
/// decides who may log in, and to which database.
fn pooler(cluster: &Cluster) -> Result<(Process, u16), Box<dyn Error>> {
    let program = installed().pop().ok_or("no PgBouncer")?;
    let mut process = Process::new(&program);
    fs::create_dir(process.path("instance_0"))?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let database = |name: Option<&str>| Database {
        hosts: vec!["127.0.0.1".to_owned()],
        port: cluster.port,
        dbname: name.map(str::to_owned),
        auth_dbname: None,
        pool_size: None,
    };
    let shared = SharedConfig {
        databases_hash: "0".repeat(32),
        databases: BTreeMap::from([
            ("*".to_owned(), database(None)),
            (AUTH_DATABASE.to_owned(), database(Some("pgbouncer"))),
        ]),
        auth: Some(Auth {
            auth_user: AUTH.to_owned(),
            stats_user: "pgbouncer_stats".to_owned(),
            admin_user: "pgbouncer_admin".to_owned(),
            auth_type: AuthType::ScramSha256,
        }),
        listen_port: port,
        pool_mode: PoolMode::Session,
        max_db_connections: 8,
        max_prepared_statements: 100,
        client_tls_sslmode: SslMode::Prefer,
        server_tls_sslmode: SslMode::Prefer,
        parameters: Parameters::default(),
    };
    let plain = |name: &str| User { name: name.to_owned(), secret: Secret::new(FIRST) };
    let users = UserList(vec![plain(AUTH), plain("pgbouncer_admin")]);
    let unit = Unit {
        listen_addr: "127.0.0.1".to_owned(),
        auth_file: process.path("userlist.txt"),
        places: vec![Place::at(&process.path("instance_0"))],
        version: program.version,
        tls: TlsFiles::default(),
    };
    fs::write(process.path("userlist.txt"), users.file_text()?)?;
    process.start(&InstanceConfig::derive(&shared, &users, &unit, 0)?.text)?;
    Ok((process, port))
}

/// Whether an attempt succeeds for a tenant that asked for these roles.
fn is_excepted(asked: &str, major: u32, attempt: &str) -> bool {
    let asked: Vec<&str> = asked.split(',').collect();
    EXCEPTIONS.iter().any(|exception| {
        exception.releases.contains(&major)
            && exception.asked.iter().any(|role| asked.contains(role))
            && exception.attempts.contains(&attempt)
    })
}

/// Every set of roles that a client may ask for on this version.
fn sets(major: u32) -> Vec<String> {
    if major >= 16 {
        return FROM_16.map(str::to_owned).into();
    }
    let pair = |role: &&str| [(*role).to_owned(), format!("{role},createdb")];
    TO_15.iter().flat_map(pair).map(|roles| roles.trim_start_matches(',').to_owned()).collect()
}

impl Stage {
    /// The server and the charm refuse every role that has no row.
    fn refuses_all_others(&mut self) -> Outcome {
        let operator = self.as_operator("postgres")?;
        let mut names = operator.column("SELECT rolname FROM pg_roles", "rolname")?;
        names.extend(["createdb", "createrole", "superuser"].map(str::to_owned));
        let version = ServerVersion { major: self.major, minor: 0 };
        let mut sets: BTreeSet<String> = sets(self.major).into_iter().collect();
        let pairs = names.iter().flat_map(|one| names.iter().map(move |other| (one, other)));
        for (one, other) in pairs {
            let roles = Roles::parse(&format!("{one},{other}"));
            let asked = roles.names().join(",");
            if sets.contains(&asked) || roles.check(Some(version)).is_err() {
                continue;
            }
            // Up to 15 the server decides, role by role.
            if one == other {
                let refused = self.bench.add("relation_id_7", "victim", &asked).expect_err(&asked);
                assert!(refused.to_string().contains("invalid role(s)"), "{asked}: {refused}");
                sets.insert(asked);
            } else {
                assert!(self.major < 16, "{asked} has no row");
            }
        }
        Ok(())
    }
}

/// Every set of roles, alone and with another client, on every version.
pub(super) fn check() -> Outcome {
    let mut wrong = Vec::new();
    for release in cases(2, releases()) {
        let mut stage = Stage::on(&release)?;
        stage.control()?;
        stage.refuses_all_others()?;
        let major = release.major;
        let rows =
            sets(major).into_iter().flat_map(|asked| [(asked.clone(), false), (asked, true)]);
        for (number, (asked, shared)) in (1..).zip(rows) {
            let outcomes = stage.live(&asked, &Pair::new(number, shared))?;
            for (when, outcomes) in ["before", "after"].into_iter().zip(outcomes) {
                for (attempt, succeeded) in outcomes {
                    // The other client asks for nothing.
                    let is_tenants =
                        when == "before" || LOG_IN.iter().any(|(name, ..)| *name == attempt);
                    let asker = if is_tenants { asked.as_str() } else { "" };
                    if succeeded != is_excepted(asker, major, attempt) {
                        let can = if succeeded { "can" } else { "cannot" };
                        let company = if shared { "with another client" } else { "alone" };
                        let tenant = format!("{asked:?}, {company}, {when} its end");
                        wrong.push(format!("PostgreSQL {major}: {tenant}: {can} {attempt}"));
                    }
                }
            }
        }
        for (name, releases, _) in PREPARATIONS {
            assert_eq!(stage.prepared.contains(name), releases.contains(&major), "{major}: {name}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The table in docs/postgresql.md has these exceptions and no other.
pub(super) fn check_document() {
    let document = include_str!("../../docs/postgresql.md");
    let table = document.split_once("| asked for | PostgreSQL |").expect("a table").1;
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    let expected = EXCEPTIONS.map(|Exception { asked, releases, can, .. }| {
        let asked = asked.iter().map(|role| match *role {
            "" => "nothing".to_owned(),
            role => format!("`{role}`"),
        });
        let releases = releases.map(|major| major.to_string());
        let [asked, releases] =
            [asked.collect::<Vec<_>>(), releases.collect()].map(|w| w.join(", "));
        format!("| {asked} | {releases} | {can} |")
    });
    assert_eq!(rows, expected);
}

//! Clients that try to get more than they asked for, on PostgreSQL 14, 15 and 16: while they are
//! related, when they leave, and through what they leave behind.

#![expect(clippy::disallowed_methods, reason = "a test sets up the machine it needs")]

#[path = "tenants/attempts.rs"]
mod attempts;
#[path = "tenants/matrix.rs"]
mod matrix;
mod servers;
mod soak;

use std::error::Error;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use pgbouncer_k8s::pgbouncer::verifier::scram_sha_256;
use pgbouncer_k8s::postgres::{Client, Credentials, Refused, Roles, Server, Unreachable};
use pgbouncer_k8s::secret::Secret;
use servers::cluster::{Cluster, releases};
use soak::cases;

type Outcome = Result<(), Box<dyn Error>>;

const COMMENT: &str = "pgbouncer-k8s: model m, application p, relation database:7";

/// A server with the superuser that PostgreSQL's charm makes for the pooler.
struct Bench {
    cluster: Cluster,
    server: Server,
}

impl Bench {
    fn all() -> Result<Vec<Self>, Box<dyn Error>> {
        cases(2, releases()).map(|release| Self::on(Cluster::of(&release, "")?)).collect()
    }

    fn on(cluster: Cluster) -> Result<Self, Box<dyn Error>> {
        let sql = "CREATE ROLE relation_id_4 LOGIN SUPERUSER PASSWORD 'x';
                   CREATE ROLE admin IN ROLE pg_read_all_data; CREATE ROLE accounting";
        cluster.psql("operator", "postgres", sql)?;
        Self::of(cluster)
    }

    /// On a server that has the superuser.
    fn of(cluster: Cluster) -> Result<Self, Box<dyn Error>> {
        Ok(Self { server: Self::connect(&cluster)?, cluster })
    }

    fn connect(cluster: &Cluster) -> Result<Server, Unreachable> {
        Server::connect(&Credentials {
            user: "relation_id_4".to_owned(),
            password: Secret::new("x"),
            ..cluster.credentials()
        })
    }

    fn add(&mut self, role: &str, database: &str, roles: &str) -> Result<(), Refused> {
        self.server.ensure_client(&client(role, database, roles), false, &|_| false)
    }

    /// What the server's superuser sees in a database.
    fn see(&self, database: &str, sql: &str) -> Result<String, String> {
        self.cluster.psql("operator", database, sql)
    }

    fn has_role(&self, role: &str) -> Result<bool, String> {
        let sql = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'");
        Ok(self.see("postgres", &sql)? == "1")
    }

    /// A session of a role that runs this and then stays open.
    fn session(&self, role: &str, database: &str, sql: &str) -> Result<Session, Box<dyn Error>> {
        let psql = Command::new("psql")
            .args(["-XAtq", "-c", &format!("{sql}; SELECT pg_sleep(100)")])
            .envs([("PGUSER", role), ("PGDATABASE", database)])
            .env("PGHOST", &self.cluster.directory)
            .env("PGPORT", self.cluster.port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let session = Session(psql);
        let sleeps = format!(
            "SELECT count(*) > 0 FROM pg_stat_activity
             WHERE usename = '{role}' AND wait_event = 'PgSleep'"
        );
        self.cluster.wait_for(&sleeps)?;
        Ok(session)
    }
}

fn client(role: &str, database: &str, roles: &str) -> Client {
    Client {
        role: role.to_owned(),
        database: database.to_owned(),
        verifier: verifier("first"),
        comment: COMMENT.to_owned(),
        roles: Roles::parse(roles),
        is_answered: false,
    }
}

/// The verifier of a password. Each login costs as many rounds as it names.
fn verifier(password: &str) -> Secret {
    scram_sha_256(&Secret::new(password), b"salt of a test", 1)
}

/// A psql that is killed with the test.
struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Objects of many kinds in a database, each with a statement that only an owner may run.
const OBJECTS: [(&str, &str); 12] = [
    ("CREATE TABLE t (a int, b int)", "ALTER TABLE t ADD COLUMN c int"),
    ("CREATE SEQUENCE s", "ALTER SEQUENCE s INCREMENT 2"),
    ("CREATE VIEW v AS SELECT 1 AS a", "ALTER VIEW v RENAME TO w"),
    ("CREATE SCHEMA stock", "ALTER SCHEMA stock RENAME TO store"),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ALTER FUNCTION f() STABLE"),
    ("CREATE TYPE mood AS ENUM ('glad')", "ALTER TYPE mood ADD VALUE 'sad'"),
    ("CREATE PUBLICATION p FOR TABLE t", "DROP PUBLICATION p"),
    ("CREATE EXTENSION pg_trgm", "DROP EXTENSION pg_trgm"),
    (
        "CREATE TEXT SEARCH CONFIGURATION tsc (COPY = simple)",
        "ALTER TEXT SEARCH CONFIGURATION tsc DROP MAPPING FOR word",
    ),
    ("CREATE COLLATION co (provider = libc, locale = 'C')", "ALTER COLLATION co RENAME TO co2"),
    ("CREATE STATISTICS st ON a, b FROM t", "ALTER STATISTICS st SET STATISTICS 10"),
    ("SELECT lo_create(4711)", "SELECT lo_unlink(4711)"),
];

#[test]
fn a_client_that_comes_again_may_do_what_an_owner_may() -> Outcome {
    for roles in ["", "createdb", "accounting"] {
        for mut bench in Bench::all()? {
            bench.add("relation_id_7", "shop", roles)?;
            for (create, _) in OBJECTS {
                bench.cluster.psql("relation_id_7", "shop", create)?;
            }
            bench.server.drop_client("relation_id_7", COMMENT)?;
            bench.add("relation_id_9", "shop", roles)?;
            for (_, alter) in OBJECTS {
                bench.cluster.psql("relation_id_9", "shop", alter)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_second_client_may_do_with_a_database_what_the_first_may() -> Outcome {
    for (first, second) in [("", ""), ("createdb", ""), ("", "createdb"), ("createdb", "admin")] {
        for mut bench in Bench::all()? {
            bench.add("relation_id_7", "shop", first)?;
            bench.cluster.psql("relation_id_7", "shop", "CREATE TABLE before (a int)")?;
            bench.add("relation_id_8", "shop", second)?;
            bench.cluster.psql("relation_id_8", "shop", "ALTER TABLE before ADD COLUMN b int")?;
            bench.cluster.psql("relation_id_7", "shop", "CREATE TABLE after (a int)")?;
            bench.cluster.psql("relation_id_8", "shop", "INSERT INTO after VALUES (1)")?;
            bench.cluster.psql("relation_id_7", "shop", "ALTER TABLE before ADD COLUMN c int")?;
        }
    }
    Ok(())
}

#[test]
fn what_belongs_to_others_stays_theirs() -> Outcome {
    const AUTH: &str = "pgbouncer_auth_relation_id_4";
    for mut bench in Bench::all()? {
        bench.add("relation_id_7", "shop", "")?;
        let verifier = client("", "", "").verifier;
        bench.server.ensure_auth_role(AUTH, &verifier, COMMENT, &|_| false)?;
        bench.server.install_get_auth("shop", AUTH)?;
        let theirs = "CREATE ROLE direct LOGIN PASSWORD 'x'; GRANT ALL ON SCHEMA public TO direct;
             SET ROLE direct; CREATE TABLE theirs (n int); RESET ROLE; CREATE EXTENSION pgcrypto;
             CREATE TABLE of_operator (n int); SET ROLE relation_id_4;
             CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
             CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION audit();
             CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER stamp BEFORE INSERT ON theirs FOR EACH ROW EXECUTE FUNCTION stamp();
             CREATE TABLE left_to_us (n int)";
        bench.see("shop", theirs)?;
        bench.add("relation_id_8", "shop", "")?;
        for (what, owner) in [
            ("SELECT relowner::regrole FROM pg_class WHERE relname = 'theirs'", "direct"),
            ("SELECT relowner::regrole FROM pg_class WHERE relname = 'of_operator'", "operator"),
            ("SELECT proowner::regrole FROM pg_proc WHERE proname = 'crypt'", "operator"),
            (
                "SELECT DISTINCT proowner::regrole FROM pg_proc
                 WHERE proname IN ('get_auth', 'audit', 'stamp')",
                "relation_id_4",
            ),
            (
                "SELECT nspowner::regrole FROM pg_namespace WHERE nspname ~ '^pgbouncer_auth_'",
                "relation_id_4",
            ),
        ] {
            assert_eq!(bench.see("shop", what)?, owner, "{what}");
        }
        for table in ["theirs", "of_operator"] {
            let sql = format!("INSERT INTO {table} VALUES (1)");
            bench.cluster.psql("relation_id_8", "shop", &sql)?;
        }
        bench.cluster.psql("relation_id_7", "shop", "ALTER TABLE left_to_us ADD COLUMN b int")?;
    }
    Ok(())
}

/// The owner of a function, and what it may do.
const OWNER: &str = "SELECT r.rolsuper OR r.rolcanlogin OR r.rolcreatedb OR r.rolcreaterole
                     FROM pg_proc p JOIN pg_roles r ON r.oid = proowner WHERE proname = 'run'";

#[test]
fn what_a_leaving_client_owned_gives_nobody_more_rights() -> Outcome {
    for mut bench in Bench::all()? {
        bench.add("relation_id_6", "victim", "")?;
        bench.cluster.psql("relation_id_6", "victim", "CREATE TABLE secrets AS SELECT 'x' AS s")?;
        bench.add("relation_id_7", "evil", "")?;
        bench.add("relation_id_8", "evil", "")?;
        let trap = "SET ROLE NONE; CREATE SCHEMA mine; GRANT USAGE ON SCHEMA mine TO PUBLIC;
             CREATE FUNCTION mine.run(cmd text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
             AS 'BEGIN EXECUTE cmd; END';
             CREATE VIEW mine.verifiers AS SELECT rolname, rolpassword FROM pg_catalog.pg_authid;
             GRANT SELECT ON mine.verifiers TO PUBLIC";
        bench.cluster.psql("relation_id_7", "evil", trap)?;
        bench.see("victim", "GRANT CONNECT, CREATE ON DATABASE victim TO relation_id_7")?;
        bench.cluster.psql("relation_id_7", "victim", trap)?;
        bench.server.drop_client("relation_id_7", COMMENT)?;

        for database in ["evil", "victim"] {
            assert_eq!(bench.see(database, OWNER)?, "f", "{database}");
        }
        let refused = |sql: &str| {
            let answer = bench.cluster.psql("relation_id_8", "evil", sql);
            let error = answer.expect_err(sql);
            assert!(
                error.contains("permission denied") || error.contains("must be superuser"),
                "{error}"
            );
        };
        refused("SELECT * FROM mine.verifiers");
        refused("SELECT mine.run('ALTER ROLE relation_id_8 SUPERUSER')");
        refused("SELECT mine.run('CREATE ROLE pwned SUPERUSER')");
        // In the victim's database the function would act as the victim's heir, also after the
        // next client of that database has come.
        bench.add("relation_id_9", "victim", "")?;
        let theirs = "SELECT mine.run('DROP TABLE public.secrets')";
        bench.see("victim", "GRANT CONNECT ON DATABASE victim TO relation_id_8")?;
        let error = bench.cluster.psql("relation_id_8", "victim", theirs).expect_err("not theirs");
        assert!(error.contains("must be owner") || error.contains("permission denied"), "{error}");
    }
    Ok(())
}

#[test]
fn a_leaving_client_loses_its_login_whatever_it_locks() -> Outcome {
    for mut bench in Bench::all()? {
        bench.add("relation_id_7", "evil", "")?;
        bench.cluster.psql(
            "relation_id_7",
            "evil",
            "CREATE TABLE t (i int); SET ROLE NONE; CREATE TABLE u (i int)",
        )?;
        let _table = bench.session("relation_id_7", "evil", "BEGIN; LOCK TABLE t")?;
        let _row = bench.session(
            "relation_id_7",
            "evil",
            "BEGIN; SET ROLE NONE; ALTER ROLE relation_id_7 PASSWORD 'mine'",
        )?;
        // A dump of an operator, say.
        let dump = bench.session("operator", "evil", "BEGIN; LOCK TABLE u IN ACCESS SHARE MODE")?;
        let waits = bench.server.drop_client("relation_id_7", COMMENT).expect_err("u is locked");
        assert!(waits.to_string().contains("lock timeout"), "{waits}");
        let may = "SELECT count(*) FROM pg_roles WHERE rolname = 'relation_id_7' AND rolcanlogin";
        assert_eq!(bench.see("postgres", may)?, "0");
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'relation_id_7'";
        for _ in 0..100 {
            if bench.see("postgres", sessions)? == "0" {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(bench.see("postgres", sessions)?, "0");
        assert!(bench.cluster.log_in("relation_id_7", "first", "evil").is_err());
        bench.see(
            "postgres",
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE usename = 'operator' AND wait_event = 'PgSleep'",
        )?;
        drop(dump);
        bench.server.drop_client("relation_id_7", COMMENT)?;
        assert!(!bench.has_role("relation_id_7")?);
    }
    Ok(())
}

#[test]
fn databases_of_a_leaving_client_go_to_a_role_without_members() -> Outcome {
    for mut bench in Bench::all()? {
        bench.add("relation_id_7", "shop", "createdb")?;
        bench.cluster.psql("relation_id_7", "shop", "CREATE DATABASE own")?;
        bench.cluster.psql("relation_id_7", "own", "CREATE TABLE t (a int)")?;
        bench.server.drop_client("relation_id_7", COMMENT)?;
        let owner = "SELECT datdba::regrole FROM pg_database WHERE datname = 'own'";
        assert_eq!(bench.see("postgres", owner)?, "pgbouncer_estate");
        // A client that asks for the database would run what is in it.
        let refused = bench.add("relation_id_8", "own", "").expect_err("somebody else made it");
        assert!(refused.to_string().contains("it belongs to pgbouncer_estate"), "{refused}");
        bench.see("own", "ALTER DATABASE own OWNER TO operator; DROP TABLE t")?;
        bench.add("relation_id_8", "own", "")?;
        for lets_in in ["GRANT CONNECT ON DATABASE own TO PUBLIC", "DROP DATABASE own"] {
            assert!(bench.cluster.psql("relation_id_8", "shop", lets_in).is_err(), "{lets_in}");
        }
    }
    Ok(())
}

#[test]
fn what_only_a_superuser_can_own_is_disabled() -> Outcome {
    for mut bench in Bench::all()? {
        bench.add("relation_id_7", "shop", "")?;
        let sql = "ALTER ROLE relation_id_7 SUPERUSER; SET ROLE relation_id_7;
             CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
             CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION audit();
             CREATE FOREIGN DATA WRAPPER w; CREATE PUBLICATION p FOR ALL TABLES;
             CREATE TABLE kept (a int); RESET ROLE; ALTER ROLE relation_id_7 NOSUPERUSER";
        bench.see("shop", sql)?;
        bench.server.drop_client("relation_id_7", COMMENT)?;
        assert!(!bench.has_role("relation_id_7")?);
        assert_eq!(bench.see("shop", "SELECT evtenabled FROM pg_event_trigger")?, "D");
        bench.add("relation_id_8", "shop", "")?;
        bench.cluster.psql("relation_id_8", "shop", "ALTER TABLE kept ADD COLUMN b int")?;
    }
    Ok(())
}

#[test]
fn an_heir_that_others_could_use_is_refused() -> Outcome {
    for mut bench in Bench::all()? {
        bench.add("relation_id_7", "shop", "")?;
        let heir = bench.see(
            "postgres",
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'pgbouncer_heir_%'",
        )?;
        bench.see("postgres", "CREATE ROLE eve LOGIN")?;
        for (spoil, mend) in [
            ("ALTER ROLE ‹› LOGIN", "ALTER ROLE ‹› NOLOGIN"),
            ("ALTER ROLE ‹› SUPERUSER", "ALTER ROLE ‹› NOSUPERUSER"),
            ("ALTER ROLE ‹› CREATEROLE", "ALTER ROLE ‹› NOCREATEROLE"),
            ("GRANT ‹› TO eve", "REVOKE ‹› FROM eve"),
            ("GRANT admin TO ‹›", "REVOKE admin FROM ‹›"),
        ] {
            bench.see("postgres", &spoil.replace("‹›", &heir))?;
            let refused = bench.add("relation_id_8", "shop", "").expect_err(spoil);
            assert!(refused.to_string().contains("cannot own what clients share"), "{refused}");
            bench.see("postgres", &mend.replace("‹›", &heir))?;
        }
        bench.add("relation_id_8", "shop", "")?;
        let asked =
            bench.add("relation_id_9", "evil", &heir).expect_err("it is no group for clients");
        assert!(asked.to_string().contains("invalid role(s)"), "{asked}");
    }
    Ok(())
}

#[test]
fn a_client_does_not_reach_through_what_superusers_made() -> Outcome {
    for mut bench in Bench::all()? {
        bench.see("postgres", "CREATE DATABASE shop")?;
        let sql = "CREATE SCHEMA ops; CREATE TABLE ops.data AS SELECT 1 AS a;
             CREATE VIEW ops.verifiers AS SELECT rolname, rolpassword FROM pg_authid;
             CREATE FUNCTION ops.run(cmd text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
             AS 'BEGIN EXECUTE cmd; END';
             REVOKE EXECUTE ON FUNCTION ops.run(text) FROM PUBLIC; CREATE EXTENSION dblink";
        bench.see("shop", sql)?;
        bench.add("relation_id_7", "shop", "")?;
        bench.cluster.psql("relation_id_7", "shop", "INSERT INTO ops.data VALUES (2)")?;
        for sql in [
            "SELECT * FROM ops.verifiers",
            "SELECT ops.run('ALTER ROLE relation_id_7 SUPERUSER')",
            "SELECT dblink_connect_u('dbname=shop user=operator')",
        ] {
            let error = bench.cluster.psql("relation_id_7", "shop", sql).expect_err(sql);
            assert!(error.contains("permission denied"), "{error}");
        }
    }
    Ok(())
}

/// A `SECURITY DEFINER` function may change the password of its owner.
#[test]
fn a_lock_that_another_client_holds_delays_no_revocation() -> Outcome {
    for mut bench in Bench::all()? {
        bench.add("relation_id_7", "evil", "")?;
        bench.add("relation_id_8", "evil", "")?;
        let hold = "SET ROLE NONE; CREATE SCHEMA m; GRANT USAGE ON SCHEMA m TO PUBLIC;
             CREATE FUNCTION m.hold() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
             AS 'BEGIN ALTER ROLE relation_id_7 PASSWORD ''mine''; END'";
        bench.cluster.psql("relation_id_7", "evil", hold)?;
        let _lock = bench.session("relation_id_8", "evil", "BEGIN; SELECT m.hold()")?;
        bench.server.drop_client("relation_id_7", COMMENT)?;
        assert!(!bench.has_role("relation_id_7")?);
    }
    Ok(())
}

/// Up to 14 a role may make others its members.
#[test]
fn no_client_can_spoil_an_heir_or_a_group() -> Outcome {
    for mut bench in Bench::all()? {
        bench.add("relation_id_7", "shop", "")?;
        bench.add("relation_id_8", "evil", "")?;
        let heir = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'pgbouncer_heir_%'
                    AND pg_has_role('relation_id_7', oid, 'MEMBER')";
        let heir = bench.see("postgres", heir)?;
        let spoil = format!("SET ROLE NONE; GRANT relation_id_8 TO {heir}, relation_id_7");
        let is_spoiled = bench.cluster.psql("relation_id_8", "evil", &spoil).is_ok();
        let may =
            bench.see("postgres", "SELECT current_setting('server_version_num')::int < 150000")?;
        assert_eq!(is_spoiled, may == "t");
        let spoil = "SET ROLE NONE; GRANT relation_id_8 TO accounting, admin";
        assert_eq!(bench.cluster.psql("relation_id_8", "evil", spoil).is_ok(), may == "t");
        bench.add("relation_id_9", "shop", "accounting,admin")?;
        // A login role is no group, and keeps what it is a member of.
        bench.add("relation_id_10", "evil", "relation_id_7").expect_err("a login role");
        let keeps = format!("SELECT pg_has_role('relation_id_7', '{heir}', 'MEMBER')");
        assert_eq!(bench.see("postgres", &keeps)?, "t");
        bench.server.drop_client("relation_id_8", COMMENT)?;
        assert!(!bench.has_role("relation_id_8")?);
    }
    Ok(())
}

/// The name that PostgreSQL gives this aggregate is no valid one in `ALTER ... OWNER TO`.
#[test]
fn an_object_that_cannot_change_its_owner_keeps_nobody_out() -> Outcome {
    for mut bench in Bench::all()? {
        bench.add("relation_id_7", "shop", "")?;
        let odd = "SET ROLE NONE;
             CREATE AGGREGATE public.n(*) (sfunc = int8inc, stype = int8, initcond = '0');
             CREATE TABLE mine (a int)";
        bench.cluster.psql("relation_id_7", "shop", odd)?;
        bench.add("relation_id_8", "shop", "")?;
        bench.cluster.psql("relation_id_8", "shop", "ALTER TABLE mine ADD COLUMN b int")?;
    }
    Ok(())
}

#[test]
fn a_client_runs_no_code_as_a_superuser() -> Outcome {
    for mut bench in Bench::all()? {
        bench.see("postgres", "CREATE DATABASE shop")?;
        let theirs = "CREATE TABLE of_operator (n int);
             CREATE MATERIALIZED VIEW verifiers AS SELECT rolpassword FROM pg_authid";
        bench.see("shop", theirs)?;
        bench.add("relation_id_7", "shop", "")?;
        for sql in [
            "CREATE FUNCTION e() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER e BEFORE INSERT ON of_operator FOR EACH ROW EXECUTE FUNCTION e()",
            "SELECT * FROM verifiers",
        ] {
            let error = bench.cluster.psql("relation_id_7", "shop", sql).expect_err(sql);
            assert!(error.contains("permission denied"), "{error}");
        }
    }
    Ok(())
}

#[test]
fn a_role_of_a_database_with_a_long_name_is_dropped() -> Outcome {
    for mut bench in Bench::all()? {
        let database = "d".repeat(63);
        bench.add("relation_id_7", &database, "")?;
        bench.cluster.psql("relation_id_7", &database, "SET ROLE NONE; CREATE TABLE t (a int)")?;
        bench.server.drop_client("relation_id_7", COMMENT)?;
        assert!(!bench.has_role("relation_id_7")?);
    }
    Ok(())
}

#[test]
fn a_database_in_another_encoding_stops_nothing() -> Outcome {
    for mut bench in Bench::all()? {
        bench.see(
            "postgres",
            "CREATE DATABASE l1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
        )?;
        bench.see("l1", "CREATE DATABASE U&\"caf\\00E9\"")?;
        // In LATIN1 the name has four bytes, which are not UTF-8.
        let bytes = "SELECT octet_length(datname::text) FROM pg_database WHERE datname LIKE 'caf%'";
        assert_eq!(bench.see("l1", bytes)?, "4");
        let names = bench.server.databases("nobody")?;
        assert!(names.contains(&("l1".to_owned(), false)), "{names:?}");
    }
    Ok(())
}

#[test]
fn a_tenant_can_do_what_the_table_says_and_nothing_else() -> Outcome {
    matrix::check()
}

#[test]
fn the_document_has_every_exception() {
    matrix::check_document();
}

#[test]
fn groups_that_read_or_run_everything_are_refused() -> Outcome {
    for mut bench in Bench::all()? {
        let groups = "CREATE ROLE readers IN ROLE pg_read_all_data; CREATE ROLE makers CREATEROLE;
             CREATE ROLE runners IN ROLE pg_execute_server_program";
        bench.see("postgres", groups)?;
        for roles in [
            "pg_read_all_data",
            "pg_execute_server_program",
            "pg_read_server_files",
            "pg_write_server_files",
            "readers",
            "runners",
            "makers",
            "pgbouncer_estate",
        ] {
            let refused = bench.add("relation_id_7", "evil", roles).expect_err(roles);
            assert!(refused.to_string().contains("invalid role(s)"), "{refused}");
        }
    }
    Ok(())
}

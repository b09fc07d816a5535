//! What one client of a pool leaves behind is not seen by the next: the reset query, run by
//! PgBouncer on PostgreSQL, in every version that is here.

#![expect(clippy::disallowed_methods, reason = "a test sets up the servers it asks")]

mod servers;
mod soak;

use std::error::Error;

use pgbouncer_k8s::pgbouncer::reset::{LIMIT, query};
use pgbouncer_k8s::pgbouncer::{PoolMode, Version};
use servers::bench::Bench;
use servers::cluster::{Cluster, Release, releases};
use servers::pgbouncer::{Program, installed};
use servers::session::Session;
use soak::cases;

type Outcome = Result<(), Box<dyn Error>>;

/// The text of the Python charm, of which PostgreSQL refuses the first statement beside a second
/// one.
const REFUSED: &str = "DISCARD ALL; LOAD 'login_hook';";

const MODES: [&str; 2] = ["session", "transaction"];

/// PgBouncer's own default.
const PORT: u16 = 6432;

/// Something that one client leaves behind.
struct Trace {
    leave: &'static str,
    /// True where it is.
    seen: &'static str,
    /// A standby takes it, too.
    reads: bool,
}

const TRACES: [Trace; 13] = [
    Trace {
        leave: "CREATE TEMP TABLE orders (id int)",
        seen: "to_regclass('pg_temp.orders') IS NOT NULL",
        reads: false,
    },
    Trace {
        leave: "SET work_mem = '123kB'",
        seen: "current_setting('work_mem') = '123kB'",
        reads: true,
    },
    Trace {
        leave: "SET shop.tenant = '7'",
        seen: "coalesce(current_setting('shop.tenant', true), '') <> ''",
        reads: true,
    },
    Trace {
        leave: "SET search_path = orders",
        seen: "current_setting('search_path') = 'orders'",
        reads: true,
    },
    Trace {
        leave: "SELECT pg_advisory_lock(7)",
        seen: "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())",
        reads: true,
    },
    Trace {
        leave: "PREPARE \"it's \"\"mine\"\"\" AS SELECT 1",
        seen: "EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql)",
        reads: true,
    },
    Trace { leave: "SET ROLE other", seen: "current_user = 'other'", reads: true },
    Trace { leave: "SET ROLE NONE", seen: "current_user <> 'shop_owner'", reads: true },
    Trace {
        leave: "SET SESSION AUTHORIZATION other",
        seen: "session_user = 'other' OR current_user <> 'shop_owner'",
        reads: true,
    },
    Trace {
        leave: "LISTEN orders",
        seen: "EXISTS (SELECT FROM pg_listening_channels())",
        reads: false,
    },
    Trace {
        leave: "DECLARE orders CURSOR WITH HOLD FOR SELECT 1",
        seen: "EXISTS (SELECT FROM pg_cursors WHERE is_holdable)",
        reads: true,
    },
    Trace { leave: "SELECT nextval('numbers')", seen: "public.has_lastval()", reads: false },
    Trace {
        leave: "SET idle_in_transaction_session_timeout = 77",
        seen: "current_setting('idle_in_transaction_session_timeout') <> '0'",
        reads: true,
    },
];

/// What the charm has PgBouncer run.
fn reset(version: Version) -> String {
    query(version, PoolMode::Transaction, 100)
}

/// The second is for a PgBouncer that does not notice it when statements go that it prepared
/// itself. None of that version is here; the others show what it does in PostgreSQL.
fn resets() -> [String; 2] {
    [reset(Version::NEWEST), reset(Version::PREPARED_STATEMENTS)]
}

const SET_UP: &str = "CREATE ROLE shop_owner; CREATE ROLE other; CREATE ROLE client LOGIN SUPERUSER; \
    ALTER ROLE client IN DATABASE shop SET role = 'shop_owner'";

const SET_UP_SHOP: &str = "CREATE SEQUENCE numbers OWNED BY NONE; GRANT ALL ON SEQUENCE numbers TO shop_owner; \
    CREATE FUNCTION has_lastval() RETURNS bool LANGUAGE plpgsql AS \
    'BEGIN PERFORM lastval(); RETURN true; EXCEPTION WHEN OTHERS THEN RETURN false; END'";

/// A primary with a standby, and the database `shop` in both.
struct Pair {
    release: Release,
    primary: Cluster,
    standby: Cluster,
}

impl Pair {
    fn start(release: Release) -> Result<Self, Box<dyn Error>> {
        let (primary, standby) = Cluster::pair(&release)?;
        primary.psql("operator", "postgres", "CREATE DATABASE shop")?;
        primary.psql("operator", "postgres", SET_UP)?;
        primary.psql("operator", "shop", SET_UP_SHOP)?;
        let pair = Self { release, primary, standby };
        pair.catch_up()?;
        Ok(pair)
    }

    /// Waits until the standby has what the primary has.
    fn catch_up(&self) -> Outcome {
        let position = self.primary.psql("operator", "postgres", "SELECT pg_current_wal_lsn()")?;
        self.standby.wait_for(&format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"))
    }

    /// Every pool has one server connection, and there is one pool for each trace.
    fn file(&self, bench: &Bench, mode: &str, text: &str) -> String {
        let line = |prefix: &str, number: usize, cluster: &Cluster| {
            let Cluster { directory, port, .. } = cluster;
            format!(
                "{prefix}{number} = host={} port={port} dbname=shop user=client\n",
                directory.display()
            )
        };
        let pools = |prefix: &str, cluster| -> String {
            (0..TRACES.len()).map(|number| line(prefix, number, cluster)).collect()
        };
        format!(
            "[databases]\n{}{}[pgbouncer]\nunix_socket_dir = {}\nauth_type = any\npool_mode = {mode}\n\
             default_pool_size = 1\nquery_wait_timeout = 20\nserver_reset_query_always = 1\n\
             server_reset_query = {text}\n{}",
            pools("shop", &self.primary),
            pools("standby", &self.standby),
            bench.directory.display(),
            if tracks(&bench.program) { "max_prepared_statements = 100\n" } else { "" },
        )
    }

    fn pooled(&self, program: &Program, mode: &str, text: &str) -> Result<Bench, String> {
        let mut bench = Bench::new(program);
        bench.start(&self.file(&bench, mode, text))?;
        Ok(bench)
    }
}

/// Whether PgBouncer knows prepared statements in transaction mode.
fn tracks(program: &Program) -> bool {
    program.version >= Version::PREPARED_STATEMENTS
}

fn client(bench: &Bench, database: &str) -> Result<Session, String> {
    Session::open(&bench.directory, PORT, "client", database)
}

/// The next client, after one that is through with its transaction, or with its session.
fn next(
    bench: &Bench,
    mode: &str,
    first: Session,
    database: &str,
) -> Result<(Option<Session>, Session), String> {
    let first = (mode != "session").then_some(first);
    Ok((first, client(bench, database)?))
}

/// Whether the next client on the same server connection sees what one left.
fn sees(bench: &Bench, mode: &str, database: &str, trace: &Trace) -> Result<bool, Box<dyn Error>> {
    let first = client(bench, database)?;
    let backend = first.ask("SELECT pg_backend_pid()")?;
    first.ask(trace.leave)?;
    let (_first, next) = next(bench, mode, first, database)?;
    let answer = next.ask(&format!("SELECT pg_backend_pid() || ' ' || ({})", trace.seen))?;
    match answer.strip_prefix(&format!("{backend} ")) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err(format!("{answer} is not of {backend}").into()),
    }
}

fn combinations() -> impl Iterator<Item = (Program, &'static str)> {
    installed().into_iter().flat_map(|program| MODES.map(|mode| (program.clone(), mode)))
}

/// PgBouncer says nothing when its reset query fails, as the Python charm's always did. That
/// everything is seen then also shows that this test can fail.
#[test]
fn the_next_client_sees_nothing_of_the_previous_one() -> Outcome {
    for release in cases(1, releases()) {
        let pair = Pair::start(release)?;
        for (program, mode) in combinations() {
            let [reset, reset_own] = resets();
            for (text, expected) in [(reset, false), (reset_own, false), (REFUSED.to_owned(), true)]
            {
                let bench = pair.pooled(&program, mode, &text)?;
                for (number, trace) in TRACES.iter().enumerate() {
                    for pool in
                        ["shop", "standby"].iter().filter(|pool| trace.reads || **pool == "shop")
                    {
                        let seen = sees(&bench, mode, &format!("{pool}{number}"), trace).map_err(
                            |error| format!("{} {pool}: {error}\n{}", trace.leave, bench.log()),
                        )?;
                        let place = format!("{pool} {mode} {program:?} {:?}", pair.release);
                        assert_eq!(seen, expected, "{} {place} {text}", trace.leave);
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_prepared_statement_belongs_to_its_client() -> Outcome {
    for release in cases(1, releases()) {
        let pair = Pair::start(release)?;
        for program in installed() {
            for (text, kept) in resets().iter().zip(["0", "1"]) {
                if !tracks(&program) {
                    continue;
                }
                let bench = pair.pooled(&program, "transaction", text)?;
                let (first, second) = (client(&bench, "shop0")?, client(&bench, "shop0")?);
                let (six, seven) = (first.prepare("SELECT 6")?, second.prepare("SELECT 7")?);
                for _ in 0..3 {
                    assert_eq!(
                        (first.execute(&six)?, second.execute(&seven)?),
                        (6, 7),
                        "{}",
                        bench.log()
                    );
                }
                let server =
                    "SELECT least(count(*), 1) FROM pg_prepared_statements WHERE NOT from_sql";
                assert_eq!(first.ask(server)?, kept, "{text}");
            }
            let bench = pair.pooled(&program, "session", &reset(program.version))?;
            let first = client(&bench, "shop0")?;
            let _six = first.prepare("SELECT 6")?;
            assert_eq!(first.ask("SELECT count(*) FROM pg_prepared_statements")?, "1");
            let (_, next) = next(&bench, "session", first, "shop0")?;
            assert_eq!(next.ask("SELECT count(*) FROM pg_prepared_statements")?, "0");
        }
    }
    Ok(())
}

#[test]
fn a_connection_that_cannot_be_reset_is_not_reused() -> Outcome {
    for release in cases(1, releases()) {
        let pair = Pair::start(release)?;
        pair.primary.psql(
            "operator",
            "shop",
            "REVOKE EXECUTE ON FUNCTION pg_advisory_unlock_all() FROM PUBLIC",
        )?;
        for (program, mode) in combinations() {
            for text in resets() {
                let bench = pair.pooled(&program, mode, &text)?;
                let first = client(&bench, "shop0")?;
                let backend = "SELECT pg_backend_pid()";
                let dirty = first.ask(&format!("SET shop.tenant = '7'; {backend}"))?;
                let (_first, next) = next(&bench, mode, first, "shop0")?;
                assert_eq!(
                    next.ask("SELECT current_setting('shop.tenant', true)")?,
                    "",
                    "{mode} {program:?}"
                );
                assert_ne!(next.ask(backend)?, dirty, "{mode} {program:?}");
            }
        }
    }
    Ok(())
}

/// A standby refuses every query in that level, `DISCARD ALL` included.
#[test]
fn a_serializable_client_of_a_standby_does_not_affect_the_next() -> Outcome {
    for release in cases(1, releases()) {
        let pair = Pair::start(release)?;
        for (program, mode) in combinations() {
            let [reset, reset_own] = resets();
            for (text, expected) in
                [(reset, true), (reset_own, true), ("DISCARD ALL".to_owned(), false)]
            {
                let bench = pair.pooled(&program, mode, &text)?;
                let first = client(&bench, "standby0")?;
                first.ask("SET default_transaction_isolation = 'serializable'")?;
                let (_first, next) = next(&bench, mode, first, "standby0")?;
                let answer = next.ask("SELECT 1");
                assert_eq!(answer.is_ok(), expected, "{text} {mode} {program:?}: {answer:?}");
            }
        }
    }
    Ok(())
}

/// Here it is the role's default, which a reset brings back.
#[test]
fn a_serializable_role_on_a_standby_does_not_affect_the_next() -> Outcome {
    const ASK: &str = "SELECT pg_backend_pid() || current_setting('shop.tenant', true)";
    let read_committed = |sql: &str| format!("BEGIN ISOLATION LEVEL READ COMMITTED; {sql}; COMMIT");
    for release in cases(1, releases()) {
        let pair = Pair::start(release)?;
        let sql =
            "ALTER ROLE client IN DATABASE shop SET default_transaction_isolation = 'serializable'";
        pair.primary.psql("operator", "postgres", sql)?;
        pair.catch_up()?;
        for (program, mode) in combinations() {
            for text in resets() {
                let bench = pair.pooled(&program, mode, &text)?;
                let first = client(&bench, "standby0")?;
                let backend = first.ask(&read_committed("SELECT pg_backend_pid()"))?;
                first.ask("SET shop.tenant = '7'")?;
                let (_first, next) = next(&bench, mode, first, "standby0")?;
                assert_eq!(next.ask(&read_committed(ASK))?, backend, "{text} {mode} {program:?}");
            }
        }
    }
    Ok(())
}

/// PgBouncer takes a longer one from its file, and closes every connection that it cannot send it
/// to.
#[test]
fn the_limit_is_the_longest_text_that_pgbouncer_sends() -> Outcome {
    let pair = Pair::start(releases().remove(0))?;
    for (program, mode) in combinations() {
        for length in [LIMIT, LIMIT + 1] {
            let text = format!("{:-<length$}", "DISCARD ALL --");
            let bench = pair.pooled(&program, mode, &text)?;
            let first = client(&bench, "shop0")?;
            let backend = first.ask("SELECT pg_backend_pid()")?;
            let (_first, next) = next(&bench, mode, first, "shop0")?;
            let kept = next.ask("SELECT pg_backend_pid()")? == backend;
            assert_eq!(kept, length == LIMIT, "{length} {mode} {program:?}");
        }
    }
    Ok(())
}

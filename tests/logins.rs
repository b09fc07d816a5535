//! With which line of the user list PgBouncer logs in as the auth role, to look a client's verifier
//! up.

#![expect(clippy::disallowed_methods, reason = "a test sets up the servers it asks")]

mod servers;

use std::error::Error;
use std::thread;

use pgbouncer_k8s::pgbouncer::verifier::{ITERATIONS, md5, scram_sha_256};
use pgbouncer_k8s::pgbouncer::{User, UserList};
use pgbouncer_k8s::secret::Secret;
use servers::bench::Bench;
use servers::cluster::{Cluster, Release, releases};
use servers::pgbouncer::installed;
use servers::session::Session;

type Outcome = Result<(), Box<dyn Error>>;

const PASSWORD: &str = "the auth role's";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Plain,
    Md5,
    Scram,
}

use Form::{Md5, Plain, Scram};

/// What the user list has, what PostgreSQL stores for the role, which method its `pg_hba` names for
/// it; and whether that is a login.
const CELLS: [(Form, Form, Form, bool); 12] = [
    (Plain, Md5, Md5, true),
    (Plain, Md5, Scram, false),
    (Plain, Scram, Md5, true),
    (Plain, Scram, Scram, true),
    (Md5, Md5, Md5, true),
    (Md5, Md5, Scram, false),
    (Md5, Scram, Md5, false),
    (Md5, Scram, Scram, false),
    (Scram, Md5, Md5, false),
    (Scram, Md5, Scram, false),
    (Scram, Scram, Md5, false),
    (Scram, Scram, Scram, false),
];

/// A role for each cell.
fn role(cell: usize) -> String {
    format!("auth{cell}")
}

fn secret(form: Form, role: &str) -> Secret {
    let password = Secret::new(PASSWORD);
    match form {
        Plain => password,
        Md5 => md5(role, &password),
        Scram => scram_sha_256(&password, b"salt of a test", ITERATIONS),
    }
}

fn cluster(release: &Release) -> Result<Cluster, Box<dyn Error>> {
    let method = |form| if form == Md5 { "md5" } else { "scram-sha-256" };
    let hba: Vec<_> = CELLS
        .iter()
        .enumerate()
        .map(|(cell, (.., rule, _))| {
            format!("host all {} 127.0.0.1/32 {}\n", role(cell), method(*rule))
        })
        .collect();
    let cluster = Cluster::of(release, &hba.concat())?;
    let stored = CELLS.iter().enumerate().map(|(cell, (_, stored, ..))| {
        let role = role(cell);
        format!("CREATE ROLE {role} LOGIN PASSWORD '{}';", secret(*stored, &role).reveal())
    });
    let sql = format!(
        "{} SET password_encryption = 'scram-sha-256'; CREATE ROLE client LOGIN PASSWORD 'its own';
         CREATE FUNCTION get_auth(name text) RETURNS TABLE (username text, password text)
         LANGUAGE sql STABLE SECURITY DEFINER AS
         'SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid WHERE rolname = name'",
        stored.collect::<String>()
    );
    cluster.psql("operator", "postgres", &sql)?;
    Ok(cluster)
}

/// One database for each cell.
fn file(bench: &Bench, cluster: &Cluster) -> String {
    let databases: Vec<_> = (0..CELLS.len())
        .map(|cell| {
            let server = format!("host=127.0.0.1 port={} dbname=postgres", cluster.port);
            format!("d{cell} = {server} auth_user={}\n", role(cell))
        })
        .collect();
    format!(
        "[databases]\n{}[pgbouncer]\nunix_socket_dir = {}\nauth_type = scram-sha-256\nauth_file = {}\n\
         auth_query = SELECT username, password FROM get_auth($1)\nquery_wait_timeout = 3\n",
        databases.concat(),
        bench.directory.display(),
        bench.path("userlist.txt"),
    )
}

fn user_list() -> Result<String, Box<dyn Error>> {
    let users = CELLS.iter().enumerate().map(|(cell, (listed, ..))| {
        let name = role(cell);
        User { secret: secret(*listed, &name), name }
    });
    Ok(UserList(users.collect()).file_text()?)
}

#[test]
fn the_auth_role_logs_in_where_documented() -> Outcome {
    let users = user_list()?;
    for release in releases() {
        let cluster = cluster(&release)?;
        for program in installed() {
            let mut bench = Bench::new(&program);
            std::fs::write(bench.path("userlist.txt"), &users)?;
            bench.start(&file(&bench, &cluster))?;
            // Side by side, because PgBouncer 1.18 keeps a client waiting whose auth role cannot
            // log in.
            let answers: Vec<Result<String, String>> = thread::scope(|scope| {
                let log_in = |cell| {
                    let database = format!("d{cell}");
                    Session::log_in(&bench.directory, 6432, "client", "its own", &database)?
                        .ask("SELECT current_user")
                };
                let threads: Vec<_> =
                    (0..CELLS.len()).map(|cell| scope.spawn(move || log_in(cell))).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().expect("it does not panic"))
                    .collect()
            });
            for (cell, answer) in CELLS.iter().zip(answers) {
                let place =
                    format!("{cell:?} {release:?} {program:?}: {answer:?}\n{}", bench.log());
                assert_eq!(answer.is_ok(), cell.3, "{place}");
                assert!(answer.is_err() || answer.as_deref() == Ok("client"), "{place}");
            }
        }
    }
    Ok(())
}

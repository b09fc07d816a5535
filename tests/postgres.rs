//! Roles, databases and `get_auth` in a real PostgreSQL, one private server for each test.

#![expect(clippy::disallowed_methods, reason = "a test sets up the machine it needs")]

mod servers;

use std::{
    error::Error,
    fs,
    io::{self, Read as _, Write as _},
    net::TcpListener,
    thread,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use pgbouncer_k8s::{
    pgbouncer::verifier::{ITERATIONS, matches, md5, scram_sha_256},
    postgres::{AllowedMethods, Client, Credentials, Refused, Roles, Server, TlsDemand},
    secret::Secret,
};
use servers::cluster::Cluster;
use sha2::Digest as _;

type Outcome = Result<(), Box<dyn Error>>;

const AUTH: &str = "pgbouncer_auth_relation_id_4";
const COMMENT: &str = "pgbouncer-k8s: model prod, relation 4";

/// A name that every careless quoting falls for.
const NASTY: &str = "a\"; DROP ROLE operator; --'\\\n$$ b";

fn verifier(password: &str) -> Secret {
    scram_sha_256(&Secret::new(password), b"salt of a test", ITERATIONS)
}

fn client(role: &str, database: &str) -> Client {
    Client {
        role: role.to_owned(),
        database: database.to_owned(),
        verifier: verifier("first"),
        comment: COMMENT.to_owned(),
        roles: Roles::default(),
        is_answered: false,
    }
}

#[test]
fn the_version_is_read_and_a_wrong_password_stays_hidden() -> Outcome {
    let cluster = Cluster::start()?;
    let version = cluster.connect()?.server_version()?;
    assert!(version.starts_with("15.") && !version.contains(' '), "{version}");

    let wrong = Credentials { password: Secret::new("not the password"), ..cluster.credentials() };
    let error = Server::connect(&wrong).err().ok_or("the password is wrong")?;
    assert_eq!(
        error.to_string(),
        format!(
            "cannot connect to database postgres of PostgreSQL at 127.0.0.1:{} as operator: \
             the relation is ending, or this user was changed (then relate anew): password \
             authentication failed for user \"operator\"",
            cluster.port
        )
    );
    let whole = format!("{error:?}");
    assert!(
        whole.contains("password authentication failed") && !whole.contains("not the password")
    );
    Ok(())
}

#[test]
fn the_first_writable_host_is_used() -> Outcome {
    let cluster = Cluster::start()?;
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut credentials = cluster.credentials();
    credentials.hosts.insert(0, ("127.0.0.1".to_owned(), closed));
    Server::connect(&credentials)?.server_version()?;

    credentials.hosts.truncate(1);
    let error = Server::connect(&credentials).err().ok_or("nobody listens there")?;
    assert!(error.to_string().contains(": Connection refused"), "{error}");
    Ok(())
}

#[test]
fn a_silent_host_leaves_time_for_the_next() -> Outcome {
    let cluster = Cluster::start()?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let mut credentials = cluster.credentials();
    credentials.hosts.insert(0, ("127.0.0.1".to_owned(), silent.local_addr()?.port()));
    Server::connect(&credentials)?.server_version()?;
    Ok(())
}

#[test]
fn a_connection_to_a_silent_server_times_out() -> Outcome {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let credentials = Credentials {
        hosts: vec![("127.0.0.1".to_owned(), silent.local_addr()?.port())],
        user: "operator".to_owned(),
        password: Secret::new("x"),
        database: "postgres".to_owned(),
        methods: AllowedMethods::Any,
        tls: TlsDemand::default(),
    };
    let error = Server::connect(&credentials).err().ok_or("nobody answers")?;
    assert!(
        error.to_string().ends_with("no answer within 5s; check that PostgreSQL runs"),
        "{error}"
    );
    Ok(())
}

/// From now on only who speaks TLS gets in, to a server whose certificate nobody vouches for.
fn insist_on_tls(cluster: &Cluster) -> Outcome {
    let rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(cluster.directory.join("data/pg_hba.conf"), rules)?;
    cluster.offer_tls()
}

#[test]
fn tls_is_used_exactly_where_the_server_offers_it() -> Outcome {
    let cluster = Cluster::start()?;
    let ours = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                WHERE application_name = 'pgbouncer-k8s' ORDER BY backend_start DESC LIMIT 1";
    let plain = cluster.connect()?;
    assert_eq!(cluster.psql("operator", "postgres", ours)?, "f");
    drop(plain);

    insist_on_tls(&cluster)?;
    let mut encrypted = cluster.connect()?;
    assert_eq!(cluster.psql("operator", "postgres", ours)?, "t");
    encrypted.server_version()?;
    Ok(())
}

#[test]
fn a_failed_handshake_names_the_remedy() -> Outcome {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let credentials = Credentials {
        hosts: vec![("127.0.0.1".to_owned(), server.local_addr()?.port())],
        user: "operator".to_owned(),
        password: Secret::new("x"),
        database: "postgres".to_owned(),
        methods: AllowedMethods::Any,
        tls: TlsDemand::default(),
    };
    let confused = thread::spawn(move || -> io::Result<()> {
        let (mut connection, _) = server.accept()?;
        connection.read_exact(&mut [0; 8])?;
        connection.write_all(b"SHTTP/1.1 400 Bad Request\r\n\r\n")?;
        io::copy(&mut connection, &mut io::sink()).map(drop)
    });
    let error = Server::connect(&credentials).err().ok_or("there is no server")?.to_string();
    confused.join().expect("it does not panic")?;
    assert!(error.contains("TLS handshake: received corrupt message"), "{error}");
    assert!(error.contains("give PostgreSQL TLS 1.2 or later"), "{error}");
    Ok(())
}

#[test]
fn the_auth_role_logs_in_and_can_do_nothing_else() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    let state = || {
        let sql =
            format!("SELECT xmin, rolsuper, rolcanlogin FROM pg_authid WHERE rolname = '{AUTH}'");
        cluster.psql("operator", "postgres", &sql)
    };
    let secret = verifier("its password");
    server.ensure_auth_role(AUTH, &secret, COMMENT, &|_| false)?;
    assert_eq!(cluster.log_in(AUTH, "its password", "postgres")?, AUTH);
    let made = state()?;
    assert!(made.ends_with("|f|t"), "{made}");
    server
        .ensure_auth_role(AUTH, &verifier("unused"), COMMENT, &|found| found == secret.reveal())?;
    assert_eq!(state()?, made);

    server.ensure_auth_role(AUTH, &verifier("another"), COMMENT, &|_| false)?;
    assert_eq!(cluster.log_in(AUTH, "another", "postgres")?, AUTH);
    assert!(cluster.log_in(AUTH, "its password", "postgres").is_err());

    let refused = server.ensure_auth_role(AUTH, &secret, "model other, relation 4", &|_| false);
    assert!(matches!(refused, Err(Refused::RoleNotOurs { .. })), "{refused:?}");
    Ok(())
}

#[test]
fn the_superuser_that_the_python_charm_made_is_taken_over_and_demoted() -> Outcome {
    let cluster = Cluster::start()?;
    cluster.psql(
        "operator",
        "postgres",
        &format!("CREATE ROLE {AUTH} LOGIN SUPERUSER PASSWORD 'x'"),
    )?;
    cluster.connect()?.ensure_auth_role(AUTH, &verifier("y"), COMMENT, &|_| false)?;
    let sql = format!("SELECT rolsuper FROM pg_roles WHERE rolname = '{AUTH}'");
    assert_eq!(cluster.psql("operator", "postgres", &sql)?, "f");
    assert_eq!(cluster.log_in(AUTH, "y", "postgres")?, AUTH);
    Ok(())
}

#[test]
fn get_auth_returns_only_plain_login_roles() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    server.ensure_auth_role(AUTH, &verifier("x"), COMMENT, &|_| false)?;
    cluster.psql(
        "operator",
        "postgres",
        "CREATE ROLE plain LOGIN PASSWORD 'x'; CREATE ROLE timed LOGIN PASSWORD 'x' VALID UNTIL '2100-01-01';
         CREATE ROLE expired LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'; CREATE ROLE grouped PASSWORD 'x';
         CREATE ROLE replica LOGIN REPLICATION PASSWORD 'x'; CREATE ROLE root LOGIN SUPERUSER PASSWORD 'x'",
    )?;
    server.install_get_auth("postgres", AUTH)?;
    let state = || {
        cluster.psql(
            "operator",
            "postgres",
            "SELECT oid, xmin FROM pg_proc WHERE proname = 'get_auth'",
        )
    };
    let installed = state()?;
    server.install_get_auth("postgres", AUTH)?;
    assert_eq!(state()?, installed);

    let found = |name: &str| {
        let sql = format!(
            "SELECT username FROM {AUTH}.get_auth('{name}') WHERE password LIKE 'SCRAM-SHA-256$%'"
        );
        cluster.psql(AUTH, "postgres", &sql)
    };
    assert_eq!(found("plain")?, "plain");
    assert_eq!(found("timed")?, "timed");
    for hidden in [
        "expired",
        "grouped",
        "replica",
        "root",
        "operator",
        "nobody",
        AUTH,
        "pla%",
        &"p".repeat(80),
    ] {
        assert_eq!(found(hidden)?, "", "{hidden}");
    }
    for privilege in ["USAGE", "CREATE"] {
        let sql = format!("SELECT has_schema_privilege('plain', '{AUTH}', '{privilege}')");
        assert_eq!(cluster.psql("operator", "postgres", &sql)?, "f");
    }
    let sql = format!("SELECT * FROM {AUTH}.get_auth('plain')");
    let refused = cluster.psql("plain", "postgres", &sql).expect_err("only the auth user may");
    assert!(refused.contains("permission denied"), "{refused}");
    Ok(())
}

#[test]
fn get_auth_ignores_objects_that_shadow_pg_authid() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    server.ensure_auth_role(AUTH, &verifier("x"), COMMENT, &|_| false)?;
    server.install_get_auth("postgres", AUTH)?;
    let shadow = "(rolname name, rolpassword text, rolcanlogin bool, rolsuper bool, rolreplication bool, \
                  rolvaliduntil timestamptz)";
    let sql = format!(
        "CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO PUBLIC; CREATE TABLE evil.pg_authid {shadow};
         INSERT INTO evil.pg_authid VALUES ('operator', 'mine', true, false, false, NULL);
         GRANT ALL ON evil.pg_authid TO PUBLIC;
         CREATE FUNCTION evil.eq(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq)"
    );
    cluster.psql("operator", "postgres", &sql)?;
    let sql = format!(
        "CREATE TEMP TABLE pg_authid {shadow};
         INSERT INTO pg_temp.pg_authid SELECT * FROM evil.pg_authid;
         SET search_path = evil, pg_temp, pg_catalog;
         SELECT pg_catalog.count(*) FROM {AUTH}.get_auth('operator')"
    );
    assert_eq!(cluster.psql(AUTH, "postgres", &sql)?, "0");
    Ok(())
}

#[test]
fn a_get_auth_function_changed_by_others_is_installed_again() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    server.ensure_auth_role(AUTH, &verifier("x"), COMMENT, &|_| false)?;
    cluster.psql(
        "operator",
        "postgres",
        "CREATE ROLE eve LOGIN PASSWORD 'x'; CREATE ROLE plain LOGIN PASSWORD 'x'",
    )?;
    for spoil in [
        "SELECT 1".to_owned(),
        format!("ALTER FUNCTION {AUTH}.get_auth(text) OWNER TO eve"),
        format!("ALTER SCHEMA {AUTH} OWNER TO eve"),
        format!("GRANT CREATE ON SCHEMA {AUTH} TO eve"),
        format!("CREATE FUNCTION {AUTH}.get_auth(name) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        format!("GRANT EXECUTE ON FUNCTION {AUTH}.get_auth(text) TO PUBLIC"),
        format!("ALTER FUNCTION {AUTH}.get_auth(text) RESET ALL"),
        format!("REVOKE CONNECT ON DATABASE postgres FROM {AUTH}, PUBLIC"),
        format!("DROP SCHEMA {AUTH} CASCADE"),
    ] {
        server.install_get_auth("postgres", AUTH)?;
        let state =
            "SELECT pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl, n.nspowner::regrole, n.nspacl
                     FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE proname = 'get_auth'";
        let before = cluster.psql("operator", "postgres", state)?;
        cluster.psql("operator", "postgres", &spoil)?;
        server.install_get_auth("postgres", AUTH)?;
        assert_eq!(cluster.psql("operator", "postgres", state)?, before, "{spoil}");
        let sql = format!("SELECT username FROM {AUTH}.get_auth('plain')");
        assert_eq!(cluster.psql(AUTH, "postgres", &sql)?, "plain", "{spoil}");
    }
    Ok(())
}

#[test]
fn our_verifiers_match_those_of_postgresql() -> Outcome {
    let cluster = Cluster::start()?;
    for (name, password) in [
        ("plain", "Z4OtFCe6r5HG6mk1XuR6LkwZ"),
        ("prepared", "p\u{2168}ss w\u{f6}rd"),
        ("odd", "a'b\\c\"d"),
    ] {
        let secret = Secret::new(password);
        for method in ["md5", "scram-sha-256"] {
            let literal = password.replace('\'', "''");
            let sql = format!(
                "SET password_encryption = '{method}'; DROP ROLE IF EXISTS {name}; CREATE ROLE {name} PASSWORD '{literal}'"
            );
            cluster.psql("operator", "postgres", &sql)?;
            let sql = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{name}'");
            let stored = cluster.psql("operator", "postgres", &sql)?;
            let computed = if method == "md5" {
                md5(name, &secret)
            } else {
                let salt = stored.split(['$', ':']).nth(2).ok_or("no salt")?;
                scram_sha_256(&secret, &BASE64_STANDARD.decode(salt)?, ITERATIONS)
            };
            assert_eq!(computed.reveal(), stored, "{name} {method}");
            assert!(
                matches(&stored, name, &secret) && !matches(&stored, name, &Secret::new("other"))
            );
        }
    }
    Ok(())
}

#[test]
fn a_client_has_its_database_to_itself() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    let mut wanted = client("relation_id_7", "shop");
    server.ensure_client(&wanted, false, &|_| panic!("there is nothing to compare yet"))?;
    assert_eq!(cluster.log_in("relation_id_7", "first", "shop")?, "relation_id_7");
    cluster.psql(
        "relation_id_7",
        "shop",
        "CREATE TABLE t (n serial); INSERT INTO t DEFAULT VALUES",
    )?;
    cluster.psql("operator", "postgres", "CREATE ROLE eve LOGIN PASSWORD 'x'")?;
    let refused = cluster.psql("eve", "shop", "SELECT 1").expect_err("the database is not public");
    assert!(refused.contains("permission denied for database"), "{refused}");

    let stored = || {
        let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = 'relation_id_7'";
        cluster.psql("operator", "postgres", sql)
    };
    let kept = stored()?;
    wanted.verifier = verifier("second");
    server.ensure_client(&wanted, false, &|found| found == kept)?;
    assert_eq!(stored()?, kept);
    server.ensure_client(&wanted, false, &|_| false)?;
    assert_eq!(cluster.log_in("relation_id_7", "second", "shop")?, "relation_id_7");
    assert!(cluster.log_in("relation_id_7", "first", "shop").is_err());

    Ok(())
}

#[test]
fn a_client_gets_requested_roles_unless_they_are_logins_or_privileged() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    let groups = "CREATE ROLE admin; CREATE ROLE accounting; CREATE ROLE relation_access;
                  CREATE ROLE eve LOGIN PASSWORD 'x'; CREATE ROLE root SUPERUSER;
                  CREATE ROLE nested; GRANT root TO nested; CREATE ROLE writer; GRANT pg_write_server_files TO writer";
    cluster.psql("operator", "postgres", groups)?;
    let asking =
        |roles: &str| Client { roles: Roles::parse(roles), ..client("relation_id_7", "shop") };
    for roles in [
        "nobody",
        "accounting, eve",
        "root",
        "operator",
        "nested",
        "writer",
        "pg_execute_server_program",
    ] {
        let refused = server.ensure_client(&asking(roles), false, &|_| false).expect_err(roles);
        let said = format!(
            "invalid role(s) for extra user roles: {}",
            roles.rsplit(", ").next().unwrap_or("")
        );
        assert!(refused.to_string().starts_with(&said), "{refused}");
    }
    let none = "SELECT count(*) FROM pg_roles WHERE rolname = 'relation_id_7'";
    assert_eq!(cluster.psql("operator", "postgres", none)?, "0");
    server.ensure_client(&asking("Admin, accounting"), false, &|_| false)?;
    let is = "SELECT rolcreatedb, rolsuper, (SELECT string_agg(roleid::regrole::text, ' ' ORDER BY 1)
              FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = 'relation_id_7'";
    let found = cluster.psql("operator", "postgres", is)?;
    assert!(found.starts_with("t|f|") && found.contains("accounting"), "{found}");
    assert_eq!(found.split(' ').count(), 4, "{found}");
    assert!(found.contains("pgbouncer_heir_"), "{found}");

    // What it was given with its answer it keeps, and no more, whatever it writes later.
    let later = Client { is_answered: true, ..asking("accounting, createrole") };
    server.ensure_client(&later, false, &|_| true)?;
    assert_eq!(cluster.psql("operator", "postgres", is)?, found);
    Ok(())
}

#[test]
fn a_client_is_created_without_a_public_schema() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    let wanted = client("relation_id_7", "shop");
    server.ensure_client(&wanted, false, &|_| true)?;
    cluster.psql("operator", "shop", "DROP SCHEMA public")?;
    server.ensure_client(&wanted, false, &|_| true)?;
    Ok(())
}

#[test]
fn a_foreign_role_is_never_changed() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    cluster.psql("operator", "postgres", "CREATE ROLE relation_id_7 LOGIN PASSWORD 'x'")?;
    let all = "SELECT pg_catalog.array_agg(a.* ORDER BY oid) FROM pg_authid a";
    let before = cluster.psql("operator", "postgres", all)?;
    for role in ["relation_id_7", "operator"] {
        let error = server
            .ensure_client(&client(role, "shop"), false, &|_| false)
            .expect_err("it has no comment");
        assert!(
            matches!(&error, Refused::RoleNotOurs { role: named, .. } if named == role),
            "{error:?}"
        );
        let error = server.drop_client(role, COMMENT).expect_err("it has no comment");
        assert!(matches!(error, Refused::RoleNotOurs { .. }), "{error:?}");
    }
    assert_eq!(cluster.psql("operator", "postgres", all)?, before);
    Ok(())
}

#[test]
fn a_client_that_the_python_charm_answered_keeps_its_password_and_gets_a_comment() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    cluster.psql("operator", "postgres", "CREATE ROLE relation_id_7 LOGIN PASSWORD 'x'")?;
    let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'relation_id_7'";
    let before = cluster.psql("operator", "postgres", verifier)?;
    // The password says whose role it is.
    server.ensure_client(&client("relation_id_7", "shop"), false, &|found| found == before)?;
    assert_eq!(cluster.psql("operator", "postgres", verifier)?, before);
    let marked = comment(&cluster, "relation_id_7")?;
    let digest = sha2::Sha256::digest(before.as_bytes());
    let digest: String =
        digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert!(marked.starts_with(&format!("{COMMENT}; verifier {digest}; database ")), "{marked}");
    // From now on it is ours, and nobody else's.
    let other = Client { comment: "model other".into(), ..client("relation_id_7", "shop") };
    let refused = server.ensure_client(&other, true, &|_| false);
    assert!(matches!(refused, Err(Refused::RoleNotOurs { .. })), "{refused:?}");
    // The remedy spares a role with which the client logs in.
    let refused = server.ensure_client(&other, true, &|_| true).expect_err("another comment");
    assert!(matches!(refused, Refused::CommentNotOurs { .. }), "{refused:?}");
    let shown = refused.to_string();
    let (_, remedy) = shown.split_once("run ").expect("a remedy");
    cluster.psql("operator", "postgres", remedy)?;
    server.ensure_client(&other, true, &|_| true)?;
    Ok(())
}

fn comment(cluster: &Cluster, role: &str) -> Result<String, String> {
    let sql = format!(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{role}'"
    );
    cluster.psql("operator", "postgres", &sql)
}

/// Everything in any database that bears the auth role's name.
fn traces(cluster: &Cluster) -> Result<String, String> {
    let mut found = Vec::new();
    for database in cluster
        .psql("operator", "postgres", "SELECT datname FROM pg_database WHERE datallowconn")?
        .lines()
    {
        let sql = format!(
            "SELECT 'role' FROM pg_roles WHERE rolname = '{AUTH}' \
             UNION SELECT 'schema in ' || current_database() FROM pg_namespace WHERE nspname = '{AUTH}' \
             UNION SELECT 'function in ' || current_database() FROM pg_proc WHERE proname = 'get_auth' ORDER BY 1"
        );
        found.extend(cluster.psql("operator", database, &sql)?.lines().map(str::to_owned));
    }
    found.sort();
    found.dedup();
    Ok(found.join(", "))
}

#[test]
fn the_auth_role_and_its_function_are_removed_from_every_database() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    cluster.psql("operator", "postgres", "CREATE DATABASE shop")?;
    server.ensure_auth_role(AUTH, &verifier("x"), COMMENT, &|_| false)?;
    for database in ["postgres", "shop"] {
        server.install_get_auth(database, AUTH)?;
    }
    let all = "function in postgres, function in shop, role, schema in postgres, schema in shop";
    assert_eq!(traces(&cluster)?, all);
    let refused = server.remove_auth(AUTH, "model other");
    assert!(matches!(refused, Err(Refused::RoleNotOurs { .. })), "{refused:?}");
    assert_eq!(traces(&cluster)?, all);
    server.remove_auth(AUTH, COMMENT)?;
    assert_eq!(traces(&cluster)?, "");
    server.remove_auth(AUTH, COMMENT)?;
    Ok(())
}

#[test]
fn an_owner_whose_name_needs_quotes_is_recognised() -> Outcome {
    let cluster = Cluster::start()?;
    let sql = "CREATE ROLE \"relation-5\" LOGIN SUPERUSER PASSWORD 'x'";
    cluster.psql("operator", "postgres", sql)?;
    let credentials = Credentials {
        user: "relation-5".to_owned(),
        password: Secret::new("x"),
        ..cluster.credentials()
    };
    let mut server = Server::connect(&credentials)?;
    server.ensure_auth_role(AUTH, &verifier("x"), COMMENT, &|_| false)?;
    server.install_get_auth("postgres", AUTH)?;
    let made = || {
        cluster.psql("operator", "postgres", "SELECT oid FROM pg_proc WHERE proname = 'get_auth'")
    };
    let before = made()?;
    server.install_get_auth("postgres", AUTH)?;
    assert_eq!(made()?, before);
    Ok(())
}

#[test]
fn objects_of_the_python_charm_are_removed_too() -> Outcome {
    let cluster = Cluster::start()?;
    let sql = format!(
        "CREATE ROLE {AUTH} LOGIN SUPERUSER PASSWORD 'x'; CREATE SCHEMA {AUTH}; GRANT USAGE ON SCHEMA {AUTH} TO {AUTH}; \
         CREATE FUNCTION {AUTH}.get_auth(username text) RETURNS TABLE(username text, password text) \
         LANGUAGE sql AS 'SELECT 1, 2'; GRANT EXECUTE ON FUNCTION {AUTH}.get_auth(text) TO {AUTH}"
    );
    cluster.psql("operator", "postgres", &sql)?;
    cluster.connect()?.remove_auth(AUTH, COMMENT)?;
    assert_eq!(traces(&cluster)?, "");
    Ok(())
}

#[test]
fn foreign_objects_beside_the_function_are_not_dropped() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    server.ensure_auth_role(AUTH, &verifier("x"), COMMENT, &|_| false)?;
    server.install_get_auth("postgres", AUTH)?;
    cluster.psql("operator", "postgres", &format!("CREATE TABLE {AUTH}.precious (what text)"))?;
    let error = server.remove_auth(AUTH, COMMENT).expect_err("a table is in the way").to_string();
    assert!(error.contains(AUTH) && error.contains("depend on it"), "{error}");
    assert_eq!(
        cluster.psql("operator", "postgres", &format!("SELECT count(*) FROM {AUTH}.precious"))?,
        "0"
    );
    Ok(())
}

#[test]
fn roles_of_ended_relations_are_recognised_by_their_comment() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    let mark = "pgbouncer-k8s: model prod, application pgb, relation database:";
    for (role, comment) in [
        ("relation_id_6", format!("{mark}6")),
        ("relation_id_7", format!("{mark}7")),
        (
            "relation_id_8",
            "pgbouncer-k8s: model prod, application other, relation database:8".to_owned(),
        ),
    ] {
        let wanted = Client { comment, ..client(role, "shop") };
        server.ensure_client(&wanted, false, &|_| false)?;
    }
    cluster.psql("operator", "postgres", "CREATE ROLE relation_id_9 LOGIN")?;
    cluster.psql("relation_id_6", "shop", "CREATE TABLE kept (what text)")?;
    server.drop_strays(mark, &["relation_id_7".to_owned()])?;
    let left = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'relation_id_%' ORDER BY 1";
    assert_eq!(
        cluster.psql("operator", "postgres", left)?,
        "relation_id_7\nrelation_id_8\nrelation_id_9"
    );
    assert_eq!(cluster.psql("operator", "shop", "SELECT count(*) FROM kept")?, "0");
    Ok(())
}

#[test]
fn pg_hba_is_read_for_the_roles_that_it_admits() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    cluster.psql(
        "operator",
        "postgres",
        "CREATE ROLE staff; CREATE ROLE anna LOGIN IN ROLE staff; CREATE ROLE bob LOGIN",
    )?;
    let file = cluster.directory.join("data/pg_hba.conf");
    for (lines, anna, bob) in [
        ("host all all 127.0.0.1/32 md5", true, true),
        ("local all all trust", false, false),
        ("host shop anna 127.0.0.1/32 md5", true, false),
        (
            "host \"shop\",crm \"anna\" 0.0.0.0/0 scram-sha-256\nhost crm bob 0.0.0.0/0 md5",
            true,
            false,
        ),
        ("hostnossl shop +staff ::/0 md5", true, false),
        ("host shop all 127.0.0.1/32 reject", false, false),
        ("host sameuser bob 127.0.0.1/32 md5", false, true),
    ] {
        fs::write(&file, format!("{lines}\n"))?;
        assert_eq!(
            (server.admits("anna", "shop")?, server.admits("bob", "shop")?),
            (anna, bob),
            "{lines}"
        );
    }
    Ok(())
}

#[test]
fn objects_of_a_dropped_client_are_kept_in_every_database() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    server.ensure_client(&client("relation_id_7", "shop"), false, &|_| false)?;
    server.ensure_client(&client("relation_id_8", "store"), false, &|_| false)?;
    cluster.psql(
        "operator",
        "store",
        "GRANT ALL ON SCHEMA public TO relation_id_7; GRANT CONNECT ON DATABASE store TO relation_id_7",
    )?;
    for database in ["shop", "store"] {
        cluster.psql("relation_id_7", database, "CREATE TABLE kept AS SELECT 42 AS n")?;
    }
    cluster.psql("operator", "postgres", "CREATE DATABASE own OWNER relation_id_7")?;

    server.drop_client("relation_id_7", COMMENT)?;
    server.drop_client("relation_id_7", COMMENT)?;
    let roles = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'relation%'";
    assert_eq!(cluster.psql("operator", "postgres", roles)?, "relation_id_8");
    // In its own database it acted as the heir; in the other it was a guest.
    for (database, owner) in [("shop", "42|pgbouncer_heir_"), ("store", "42|pgbouncer_estate")] {
        let sql = "SELECT n, tableowner FROM kept, pg_tables WHERE tablename = 'kept'";
        let found = cluster.psql("operator", database, sql)?;
        assert!(found.starts_with(owner), "{found}");
    }
    Ok(())
}

#[test]
fn names_with_special_characters_are_quoted() -> Outcome {
    let cluster = Cluster::start()?;
    let mut server = cluster.connect()?;
    server.ensure_auth_role(NASTY, &verifier("x"), NASTY, &|_| false)?;
    let role = format!("{NASTY} client");
    let comment = format!("pgbouncer-k8s: {NASTY}");
    let wanted = Client { comment: comment.clone(), ..client(&role, NASTY) };
    server.ensure_client(&wanted, false, &|_| false)?;
    server.ensure_client(&wanted, false, &|_| true)?;
    server.install_get_auth(NASTY, NASTY)?;
    server.install_get_auth(NASTY, NASTY)?;
    assert_eq!(cluster.log_in(&role, "first", NASTY)?, role);
    let quoted = NASTY.replace('"', "\"\"");
    let sql = format!(
        "SELECT count(*) FROM \"{quoted}\".get_auth((SELECT '{}'))",
        role.replace('\'', "''")
    );
    assert_eq!(cluster.psql(NASTY, NASTY, &sql)?, "1");
    server.drop_client(&role, &comment)?;
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname !~ '^(pg_|pgbouncer_)'";
    assert_eq!(cluster.psql("operator", "postgres", roles)?, "2");
    Ok(())
}

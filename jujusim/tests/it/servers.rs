//! PostgreSQL, as the charms of its channels set it up.

use std::io::Write as _;

use jujusim::Sql;

use crate::puppets::{model, run};

/// A model with a server of a channel and a client `shop`. Prints a message instead if that server
/// is not installed; with `CI=true` it must be.
fn server(channel: &str, config: &str, commands: &[&str]) -> Option<jujusim::Sim> {
    let mut sim = model(&[]);
    let deployed = sim.run(&format!("deploy actor:postgresql --channel {channel} {config}"));
    if let Err(error) = deployed {
        let text = error.to_string();
        assert!(text.contains("is not installed"), "{text}");
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{text}");
        // Not `eprintln!`: its output is hidden when a test passes.
        let _ = writeln!(std::io::stderr(), "NOT RUN: a test on channel {channel}: {text}");
        return None;
    }
    for command in commands {
        run(&mut sim, command);
    }
    Some(sim)
}

const SHOP: [&str; 3] =
    ["deploy actor:client shop --config database=shop", "integrate shop postgresql-k8s", "settle"];

#[test]
fn a_channel_chooses_the_major_version() {
    for major in ["14", "15", "16"] {
        let Some(mut sim) = server(&format!("{major}/stable"), "", &SHOP) else { continue };
        let version = sim.model().bag(0, "postgresql-k8s")["version"].clone();
        assert!(version.starts_with(&format!("{major}.")), "{version}");
        let found = run(&mut sim, "sql shop 'SHOW server_version'");
        assert!(found.starts_with(&version), "{found}");
    }
    let error =
        model(&[]).run("deploy actor:postgresql --channel 13/stable").expect_err("no such track");
    assert!(error.to_string().contains("14, 15 and 16"), "{error}");
}

#[test]
fn up_to_15_the_only_client_of_a_database_owns_all_in_it() {
    for channel in ["14", "15"] {
        let lookup = "CREATE SCHEMA pgbouncer_auth_relation_9; \
            CREATE FUNCTION pgbouncer_auth_relation_9.get_auth(text) RETURNS text LANGUAGE sql AS 'SELECT $1'";
        let lookup = format!("sql postgresql-k8s \"{lookup}\" --database shop");
        let first = ["sql postgresql-k8s 'CREATE DATABASE shop'", &lookup];
        let Some(mut sim) = server(channel, "", &[&first[..], &SHOP].concat()) else { continue };
        let of_function = "SELECT proowner::regrole, nspowner::regrole FROM pg_proc \
            JOIN pg_namespace n ON n.oid = pronamespace WHERE proname = 'get_auth'";
        let of_function = run(&mut sim, &format!("sql shop \"{of_function}\""));
        assert_eq!(
            of_function, "relation_id_0 | postgres\n",
            "what is in a schema, not the schema"
        );
        let owner =
            "sql shop \"SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'public'\"";
        assert_eq!(run(&mut sim, owner), "relation_id_0\n");
        assert_eq!(run(&mut sim, "sql shop 'SELECT current_user'"), "relation_id_0\n");
        run(&mut sim, "deploy actor:client crm --config database=shop");
        run(&mut sim, "integrate crm postgresql-k8s");
        run(&mut sim, "settle");
        assert_eq!(run(&mut sim, owner), "relation_id_0\n", "the second client takes nothing");
        run(&mut sim, "sql crm 'CREATE TABLE t ()'");
    }
}

#[test]
fn from_16_a_client_logs_in_as_the_owner_of_its_database() {
    let Some(mut sim) = server("16", "", &SHOP) else { return };
    assert_eq!(
        run(&mut sim, "sql shop 'SELECT current_user, session_user'"),
        "charmed_shop_owner | relation_id_0\n"
    );
    assert_eq!(run(&mut sim, "sql shop 'SET ROLE NONE; SELECT current_user'"), "relation_id_0\n");
    let roles = run(
        &mut sim,
        "sql shop \"SELECT rolname, rolcanlogin, rolinherit FROM pg_roles WHERE rolname LIKE 'charmed_shop%' ORDER BY 1\"",
    );
    assert_eq!(
        roles,
        "charmed_shop_admin | f | f\ncharmed_shop_dml | f | t\ncharmed_shop_owner | f | t\n"
    );
    run(&mut sim, "sql shop 'CREATE TABLE t ()'");
    let error = sim
        .run("sql shop 'SET ROLE NONE; CREATE TABLE u ()'")
        .expect_err("nobody may but the owner");
    assert!(error.to_string().contains("permission denied for schema public"), "{error}");
}

#[test]
fn a_client_that_requests_unsupported_roles_gets_no_answer() {
    for (channel, roles) in [("14", "nonsense"), ("16", "admin"), ("16", "superuser,createdb")] {
        let client = format!("deploy actor:client shop --config extra-user-roles={roles}");
        let commands = [client.as_str(), "integrate shop postgresql-k8s", "settle"];
        let Some(mut sim) = server(channel, "", &commands) else { continue };
        assert!(
            !sim.model().bag(0, "postgresql-k8s").contains_key("endpoints"),
            "{channel} {roles}"
        );
        assert!(run(&mut sim, "status").contains("invalid role(s) for extra user roles"));
    }
}

#[test]
fn a_client_that_requests_superuser_is_one_in_every_database() {
    for channel in ["14", "16"] {
        let client = "deploy actor:client pooler --config database=pooler --config extra-user-roles=SUPERUSER";
        let Some(mut sim) =
            server(channel, "", &[client, "integrate pooler postgresql-k8s", "settle"])
        else {
            continue;
        };
        let found = run(&mut sim, "sql pooler 'SET ROLE NONE; SELECT count(*) > 0 FROM pg_authid'");
        assert_eq!(found, "t\n");
        let members = "sql pooler \"SELECT string_agg(roleid::regrole::text, ',' ORDER BY roleid::regrole::text) \
            FROM pg_auth_members WHERE member = 'relation_id_0'::regrole\"";
        let wanted = match channel {
            "14" => "relation_access\n",
            _ => "charmed_pooler_admin,charmed_pooler_dml,relation_access\n",
        };
        assert_eq!(run(&mut sim, members), wanted);
    }
}

#[test]
fn a_new_role_is_admitted_after_the_delay_of_the_observer() {
    for channel in ["14", "16"] {
        let Some(mut sim) = server(channel, "--config hba-delay=0.2", &SHOP) else { continue };
        run(&mut sim, "config postgresql-k8s hba-delay=3600");
        run(&mut sim, "deploy actor:client crm --config database=crm");
        run(&mut sim, "integrate crm postgresql-k8s");
        run(&mut sim, "settle");
        let error = sim.run("sql crm 'SELECT 1'").expect_err("nobody has noticed it");
        assert!(error.to_string().contains("no pg_hba.conf entry"), "{error}");
        assert_eq!(run(&mut sim, "sql shop 'SELECT 1'"), "1\n");
        run(&mut sim, "config postgresql-k8s hba-delay=0");
        run(&mut sim, "settle");
        run(&mut sim, "postgresql noticed");
        assert_eq!(run(&mut sim, "sql crm 'SELECT 1'"), "1\n");
        run(&mut sim, "remove-relation crm postgresql-k8s");
        run(&mut sim, "settle");
        let rules = run(&mut sim, "sql postgresql-k8s 'SELECT user_name FROM pg_hba_file_rules'");
        assert!(rules.contains("relation_id_0"), "{rules}");
    }
}

#[test]
fn a_role_logs_in_to_its_databases_with_the_method_of_its_track() {
    for (channel, method) in [("14", "md5"), ("15", "md5"), ("16", "scram-sha-256")] {
        let Some(mut sim) = server(channel, "", &SHOP) else { continue };
        run(
            &mut sim,
            "sql postgresql-k8s 'CREATE ROLE pgbouncer_auth_relation_9 LOGIN; \
             GRANT CONNECT ON DATABASE shop TO pgbouncer_auth_relation_9'",
        );
        run(&mut sim, "postgresql noticed");
        let rule = |sim: &mut jujusim::Sim, user: &str| {
            run(
                sim,
                &format!(
                    "sql postgresql-k8s \"SELECT database, auth_method FROM pg_hba_file_rules WHERE '{user}' = ANY (user_name)\""
                ),
            )
        };
        assert_eq!(rule(&mut sim, "relation_id_0"), format!("{{shop}} | {method}\n"));
        assert_eq!(rule(&mut sim, "pgbouncer_auth_relation_9"), "{shop} | md5\n");
        assert_eq!(rule(&mut sim, "operator"), format!("{{all}} | trust\n{{all}} | {method}\n"));
    }
}

#[test]
fn a_hook_s_connections_and_statements_are_counted_by_its_charm_s_name() {
    let mut sim = model(&["deploy actor:postgresql"]);
    for command in SHOP.into_iter().chain(["deploy PUPPET", "settle"]) {
        run(&mut sim, command);
    }
    let secret =
        sim.model().secret("database.0.user.secret").expect("the user's secret").content().clone();
    let asked = |sim: &mut jujusim::Sim, application: &str| {
        let uri = format!("{}?application_name={application}", secret["uris"]);
        run(sim, &format!("exec puppet/0 -- psql {uri} -qc 'SELECT 1; SELECT 2' -c 'SELECT 3'"));
        sim.model().hook_runs().last().expect("a run").sql
    };
    assert_eq!(asked(&mut sim, "puppet"), Sql { connections: 1, statements: 2 });
    assert_eq!(asked(&mut sim, "puppets"), Sql::default());
    run(&mut sim, "sql shop 'SELECT 1'");
    run(&mut sim, "exec puppet/0 -- true");
    assert_eq!(sim.model().hook_runs().last().expect("a run").sql, Sql::default());
    let printed = run(&mut sim, "hooks puppet/0 --sql");
    assert_eq!(printed.matches("1 connection, 2 statements").count(), 1, "{printed}");
}

#[test]
fn a_standby_has_what_the_primary_has_and_takes_its_place() {
    for channel in ["14", "15", "16"] {
        let Some(mut sim) = server(channel, "-n 2", &SHOP) else { continue };
        let places = |sim: &jujusim::Sim| {
            let bag = sim.model().bag(0, "postgresql-k8s");
            (bag["endpoints"].clone(), bag["read-only-endpoints"].clone())
        };
        let (primary, standby) = places(&sim);
        assert_ne!(primary, standby);
        run(&mut sim, "sql shop 'CREATE TABLE orders (n int)'");
        run(&mut sim, "postgresql failover");
        run(&mut sim, "settle");
        assert_eq!(
            places(&sim),
            (standby.clone(), standby.clone()),
            "the standby is the primary, and alone"
        );
        assert_eq!(run(&mut sim, "sql shop 'INSERT INTO orders VALUES (1) RETURNING n'"), "1\n");
        run(&mut sim, "postgresql start");
        assert_eq!(run(&mut sim, "sql postgresql-k8s/0 'SELECT pg_is_in_recovery()'"), "t\n");
        run(&mut sim, "settle");
        assert_eq!(places(&sim), (standby, primary.clone()));
        run(&mut sim, "postgresql failover");
        assert_eq!(
            run(&mut sim, "sql postgresql-k8s/0 'SELECT * FROM orders' --database shop"),
            "1\n"
        );
        run(&mut sim, "settle");
        assert_eq!(places(&sim).0, primary);
    }
}

#[test]
fn a_frozen_primary_does_not_answer_until_it_resumes_or_is_replaced() {
    let Some(mut sim) = server("15", "-n 2", &SHOP) else { return };
    run(&mut sim, "postgresql freeze");
    let error = sim.run("sql shop 'SELECT 1'").expect_err("it is frozen");
    assert!(error.to_string().contains("no answer"), "{error}");
    assert!(sim.run("sql postgresql-k8s 'SELECT 1'").is_err());
    assert_eq!(run(&mut sim, "sql postgresql-k8s/1 'SELECT 1'"), "1\n", "the standby is not");
    run(&mut sim, "postgresql thaw");
    assert_eq!(run(&mut sim, "sql shop 'SELECT 1'"), "1\n");
    run(&mut sim, "postgresql freeze");
    run(&mut sim, "postgresql failover");
    run(&mut sim, "settle");
    assert_eq!(run(&mut sim, "sql shop 'SELECT 1'"), "1\n");
    run(&mut sim, "postgresql freeze");
    drop(sim);
}

#[test]
fn each_unit_has_one_server() {
    let mut sim = model(&["deploy actor:postgresql"]);
    let early = "sql postgresql-k8s 'CREATE TABLE early ()' --database shop";
    for command in SHOP.into_iter().chain([early, "add-unit postgresql-k8s -n 2", "settle"]) {
        run(&mut sim, command);
    }
    let readers =
        |sim: &jujusim::Sim| sim.model().bag(0, "postgresql-k8s")["read-only-endpoints"].clone();
    assert_eq!(readers(&sim).split(',').count(), 2, "{}", readers(&sim));
    run(&mut sim, "postgresql failover");
    assert_eq!(run(&mut sim, "sql postgresql-k8s/1 'SELECT pg_is_in_recovery()'"), "f\n");
    run(&mut sim, "sql postgresql-k8s 'CREATE TABLE later ()' --database shop");
    run(&mut sim, "postgresql failover");
    run(&mut sim, "postgresql start");
    run(&mut sim, "remove-unit postgresql-k8s -n 1");
    run(&mut sim, "settle");
    assert_eq!(readers(&sim).split(',').count(), 1, "{}", readers(&sim));
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename IN ('early', 'later')";
    assert_eq!(run(&mut sim, &format!("sql postgresql-k8s \"{tables}\" --database shop")), "2\n");
    let error = sim.run("sql postgresql-k8s/2 'SELECT 1'").expect_err("its server went with it");
    assert!(error.to_string().contains("has no server"), "{error}");
}

#[test]
fn a_rotated_password_is_a_new_revision_or_a_plain_value() {
    for juju in ["3.6.14", "2.9.52"] {
        let options = jujusim::Options { juju: juju.to_owned(), ..crate::puppets::options() };
        let mut sim = crate::puppets::model_of(&["deploy actor:postgresql"], &options);
        for command in SHOP {
            run(&mut sim, command);
        }
        let before = sim.model().bag(0, "postgresql-k8s");
        run(&mut sim, "postgresql rotate");
        run(&mut sim, "settle");
        let after = sim.model().bag(0, "postgresql-k8s");
        if juju == "2.9.52" {
            assert_ne!(after["password"], before["password"]);
        } else {
            assert_eq!(after, before, "a secret keeps its URI");
            assert_eq!(
                sim.model().secret("database.0.user.secret").expect("the user's secret").latest,
                2
            );
        }
        assert_eq!(run(&mut sim, "sql shop 'SELECT 1'"), "1\n");
    }
}

#[test]
fn withheld_values_are_published_when_released() {
    let Some(mut sim) = server("15", "--config withhold=version,endpoints", &SHOP) else { return };
    let keys = |sim: &jujusim::Sim| {
        let bag = sim.model().bag(0, "postgresql-k8s");
        ["version", "endpoints", "read-only-endpoints"].map(|key| bag.contains_key(key))
    };
    assert_eq!(keys(&sim), [false, false, true]);
    run(&mut sim, "config postgresql-k8s withhold=version");
    run(&mut sim, "settle");
    assert_eq!(keys(&sim), [false, true, true]);
    run(&mut sim, "config postgresql-k8s --reset withhold");
    run(&mut sim, "settle");
    assert_eq!(keys(&sim), [true, true, true]);
}

/// `tls` and `tls-ca` of the client `shop`, which can log in.
fn tls_of(sim: &mut jujusim::Sim, commands: &[&str]) -> (String, Option<String>) {
    for command in commands {
        run(sim, command);
    }
    run(sim, "settle");
    assert_eq!(run(sim, "sql shop 'SELECT 1'"), "1\n");
    let secret = sim.model().secret("database.0.tls.secret").expect("a secret").content();
    (secret["tls"].clone(), secret.get("tls-ca").cloned())
}

#[test]
fn servers_have_certificates_whose_authority_clients_get() {
    for channel in ["14/stable", "16/stable"] {
        let asks = r#"requested-secrets='["username", "password", "tls", "tls-ca"]'"#;
        let client = format!("deploy actor:client shop --config database=shop --config {asks}");
        let commands = [&client, "integrate shop postgresql-k8s"];
        let Some(mut sim) = server(channel, "", &commands) else { continue };
        let off = ("False".to_owned(), None);
        assert_eq!(tls_of(&mut sim, &[]), off);
        let mut cas = Vec::new();
        for (kind, refusal) in [
            ("on", ""),
            ("rotate", ""),
            ("wrong-ca", "certificate verify failed"),
            ("intermediate", "certificate verify failed"),
            ("expired", "certificate verify failed"),
            ("foreign", "does not match host name"),
        ] {
            let (tls, ca) = tls_of(&mut sim, &[&format!("postgresql tls {kind}")]);
            assert_eq!(tls, "True", "{kind}");
            let ca = ca.expect("a CA");
            let error = psql(&sim, "verify-full", &ca);
            let is_wanted = error.contains(refusal) && error.is_empty() == refusal.is_empty();
            assert!(is_wanted, "{channel} {kind}: {error}");
            let plain = psql(&sim, "disable", "");
            assert!(plain.contains("no encryption"), "{channel} {kind}: {plain}");
            assert!(!cas.contains(&ca), "{kind} has its own authority");
            cas.push(ca);
        }
        assert_eq!(tls_of(&mut sim, &["postgresql tls off"]), off);
        assert_eq!(psql(&sim, "disable", ""), "");
    }
}

/// What psql says with this `sslmode` and CA, as the client `shop`; nothing if it logs in.
fn psql(sim: &jujusim::Sim, mode: &str, ca: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ca.crt");
    std::fs::write(&file, ca).expect("a file");
    let bag = sim.model().bag(0, "postgresql-k8s");
    let host = bag["endpoints"].split(':').next().expect("a host");
    let secret = sim.model().secret("database.0.user.secret").expect("a secret").content();
    let (user, root) = (&secret["username"], file.display());
    let login = format!("host={host} user={user} dbname=shop sslmode={mode} sslrootcert={root}");
    let output = std::process::Command::new("psql")
        .args(["-XAtc", "SELECT 1", &login])
        .env("PGPASSWORD", &secret["password"])
        .output()
        .expect("psql");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

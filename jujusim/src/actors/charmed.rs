//! Roles and databases as the PostgreSQL charms create them: one layout for tracks 14 and 15,
//! another from 16 on.

use crate::error::{Error, Result};
use crate::server::{Method, Server, identifier, literal};

/// A track of the charm: the part of a channel before the slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Track(u32);

/// Why a client gets no role or database.
pub(super) enum Refusal {
    /// The request is invalid; the charm shows this text as its status.
    Blocked(&'static str),
    /// The server reported this error.
    Failed(String),
}

impl From<String> for Refusal {
    fn from(error: String) -> Refusal {
        Refusal::Failed(error)
    }
}

/// What a client should get.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    pub(super) database: &'a str,
    /// `extra-user-roles` as the client wrote it.
    pub(super) roles: &'a str,
    /// Whether no other client asked for this database.
    pub(super) alone: bool,
}

/// The parsed `extra-user-roles`.
#[derive(Default)]
struct Extra {
    attributes: Vec<&'static str>,
    roles: Vec<String>,
}

const SYSTEM_USERS: &str = "operator, replication, rewind, monitoring";
const INVALID_ROLES: Refusal = Refusal::Blocked("invalid role(s) for extra user roles");
const INVALID_DATABASE: Refusal = Refusal::Blocked("invalid database name");
/// Instance roles whose members do not get a role of their database.
const INSTANCE_ROLES: [&str; 3] = ["charmed_stats", "charmed_read", "charmed_dml"];

impl Track {
    /// Parses a channel: `14/stable`, `16/edge/branch`, `15`.
    pub(crate) fn of(channel: &str) -> Result<Track> {
        match channel.split('/').next() {
            Some("14") => Ok(Track(14)),
            Some("15") => Ok(Track(15)),
            Some("16") => Ok(Track(16)),
            _ => Err(Error::refused(format!(
                "channel {channel:?} not found: postgresql-k8s has 14, 15 and 16"
            ))),
        }
    }

    /// The major version of PostgreSQL.
    pub(crate) fn major(self) -> u32 {
        self.0
    }

    pub(crate) fn method(self) -> Method {
        if self.has_catalog_roles() { Method::Scram } else { Method::Md5 }
    }

    /// Whether each database has an owner, an admin and a dml role.
    fn has_catalog_roles(self) -> bool {
        self.0 >= 16
    }

    /// Creates the roles and privileges that exist before any client.
    pub(super) fn set_up(self, server: &Server) -> std::result::Result<(), String> {
        self.statements()
            .into_iter()
            .try_for_each(|(database, sql)| server.sql(database, sql).map(drop))
    }

    /// The statements of the set-up, each with its database.
    pub(crate) fn statements(self) -> Vec<(&'static str, &'static str)> {
        if !self.has_catalog_roles() {
            return vec![("postgres", COMMON), ("postgres", ADMIN)];
        }
        let functions = ["template1", "postgres"].map(|database| (database, SET_UP_FUNCTION));
        [("postgres", COMMON), ("postgres", CATALOG_ROLES)].into_iter().chain(functions).collect()
    }

    /// Creates a client's role and database. Safe to repeat: a hook that failed later runs again,
    /// with another password.
    pub(super) fn create(
        self,
        server: &Server,
        login: &Login<'_>,
    ) -> std::result::Result<(), Refusal> {
        if self.has_catalog_roles() {
            create_from_16(server, login)
        } else {
            create_to_15(server, login)
        }
    }
}

fn create_to_15(server: &Server, login: &Login<'_>) -> std::result::Result<(), Refusal> {
    let mut extra = Extra::default();
    for word in words(login.roles) {
        match word.as_str() {
            "superuser" => extra.attributes.push("SUPERUSER"),
            "createrole" => extra.attributes.push("CREATEROLE"),
            "createdb" => extra.attributes.push("CREATEDB"),
            "admin" => {
                extra.attributes.push("CREATEDB");
                extra.roles.push(word);
            }
            _ if server.has_role(&word)? => extra.roles.push(word),
            _ => return Err(INVALID_ROLES),
        }
    }
    create_role(server, login, &extra)?;
    create_database(server, login.database, "postgres")?;
    let (user, database) = (identifier(login.user), identifier(login.database));
    server.sql(
        "postgres",
        &format!("GRANT ALL ON DATABASE {database} TO {user}, admin, {SYSTEM_USERS}"),
    )?;
    let objects = if login.alone { OWN_ALL } else { GRANT_ALL };
    server.sql(login.database, &objects.replace("‹user›", &literal(login.user)))?;
    Ok(())
}

fn create_from_16(server: &Server, login: &Login<'_>) -> std::result::Result<(), Refusal> {
    let Login { user, database, .. } = *login;
    if database.len() > 49
        || ["databases", "postgres", "template0", "template1"].contains(&database)
    {
        return Err(INVALID_DATABASE);
    }
    let mut asked = words(login.roles);
    asked.sort();
    let mut extra = Extra::default();
    for word in &asked {
        match word.as_str() {
            "superuser" => extra.attributes.push("SUPERUSER"),
            "createdb" => extra.roles.push("charmed_databases_owner".to_owned()),
            "charmed_admin" | "charmed_stats" | "charmed_read" | "charmed_dml" => {
                extra.roles.push(word.clone());
            }
            _ => return Err(INVALID_ROLES),
        }
    }
    if asked.len() > 1 && asked != ["charmed_admin", "createdb"] {
        return Err(INVALID_ROLES);
    }
    create_database(server, database, "charmed_databases_owner")?;
    let set_up = "SET ROLE charmed_databases_owner; SELECT set_up_predefined_catalog_roles()";
    server.sql(database, set_up)?;
    let sees_all = !extra.roles.is_empty();
    let is_admin = !extra.roles.iter().any(|role| INSTANCE_ROLES.contains(&role.as_str()));
    if is_admin {
        extra.roles.extend(["admin", "dml"].map(|kind| format!("charmed_{database}_{kind}")));
    }
    create_role(server, login, &extra)?;
    let role = identifier(user);
    if !is_admin {
        server.sql(
            "postgres",
            &format!("GRANT CONNECT ON DATABASE {} TO {role}", identifier(database)),
        )?;
    }
    if sees_all {
        server
            .sql("postgres", &format!("GRANT CONNECT ON DATABASE postgres, template1 TO {role}"))?;
    }
    log_in_as_owner(server, login, &extra)?;
    Ok(())
}

/// Replaces `login_hook`: the role that the library would set at the start of each session is a
/// setting of the login role.
fn log_in_as_owner(
    server: &Server,
    login: &Login<'_>,
    extra: &Extra,
) -> std::result::Result<(), String> {
    let Login { user, database, .. } = *login;
    let role = identifier(user);
    if extra.roles.iter().any(|role| role == "charmed_databases_owner") {
        server
            .sql("postgres", &format!("ALTER ROLE {role} SET role = 'charmed_databases_owner'"))?;
    }
    if extra.roles.iter().any(|role| *role == format!("charmed_{database}_admin")) {
        let (owner, database) =
            (literal(&format!("charmed_{database}_owner")), identifier(database));
        server.sql(
            "postgres",
            &format!("ALTER ROLE {role} IN DATABASE {database} SET role = {owner}"),
        )?;
    }
    Ok(())
}

fn words(roles: &str) -> Vec<String> {
    let words = roles.split(',').map(|word| word.trim().to_lowercase());
    words.filter(|word| !word.is_empty()).collect()
}

fn create_role(
    server: &Server,
    login: &Login<'_>,
    extra: &Extra,
) -> std::result::Result<(), String> {
    let verb = if server.has_role(login.user)? { "ALTER" } else { "CREATE" };
    let (user, password) = (identifier(login.user), literal(login.password));
    let roles: Vec<String> = extra.roles.iter().map(|role| identifier(role)).collect();
    let groups = [roles, vec!["relation_access".to_owned()]].concat().join(", ");
    let attributes = extra.attributes.join(" ");
    let sql = format!(
        "{verb} ROLE {user} LOGIN {attributes} PASSWORD {password}; GRANT {groups} TO {user}"
    );
    server.sql("postgres", &sql).map(drop)
}

fn create_database(server: &Server, name: &str, owner: &str) -> std::result::Result<(), String> {
    let found = server
        .sql("postgres", &format!("SELECT FROM pg_database WHERE datname = {}", literal(name)))?;
    let database = identifier(name);
    if found.is_empty() {
        server.sql("postgres", &format!("CREATE DATABASE {database} OWNER {owner}"))?;
    }
    server.sql("postgres", &format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC")).map(drop)
}

const COMMON: &str = "
    CREATE ROLE operator LOGIN SUPERUSER;
    CREATE ROLE replication LOGIN REPLICATION;
    CREATE ROLE rewind LOGIN;
    CREATE ROLE monitoring LOGIN IN ROLE pg_monitor;
    CREATE ROLE identity_access;
    CREATE ROLE internal_access;
    CREATE ROLE relation_access;
    GRANT internal_access TO operator, replication, rewind, monitoring;
    REVOKE ALL ON DATABASE postgres FROM PUBLIC;
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    GRANT ALL ON DATABASE postgres TO operator, replication, rewind, monitoring";

const ADMIN: &str = "
    CREATE ROLE admin IN ROLE pg_read_all_data, pg_write_all_data;
    GRANT CONNECT ON DATABASE postgres TO admin";

const CATALOG_ROLES: &str = "
    CREATE ROLE charmed_stats IN ROLE pg_monitor;
    CREATE ROLE charmed_read IN ROLE pg_read_all_data, charmed_stats;
    CREATE ROLE charmed_dml IN ROLE pg_write_all_data, charmed_read;
    CREATE ROLE charmed_backup IN ROLE pg_checkpoint, charmed_stats;
    CREATE ROLE charmed_dba CREATEDB IN ROLE charmed_dml;
    CREATE ROLE charmed_admin IN ROLE charmed_dml;
    CREATE ROLE charmed_databases_owner LOGIN CREATEDB IN ROLE charmed_dml";

const SET_UP_FUNCTION: &str = "
    CREATE FUNCTION public.set_up_predefined_catalog_roles() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE
        db text := current_database();
        owner text := 'charmed_' || db || '_owner';
        admin text := 'charmed_' || db || '_admin';
        dml text := 'charmed_' || db || '_dml';
        reader text;
    BEGIN
        IF to_regrole(quote_ident(owner)) IS NULL THEN
            EXECUTE format('CREATE ROLE %I', owner);
            EXECUTE format('CREATE ROLE %I NOINHERIT IN ROLE %I', admin, owner);
            EXECUTE format('CREATE ROLE %I', dml);
            EXECUTE format('GRANT %I TO charmed_admin WITH INHERIT FALSE', owner);
        END IF;
        EXECUTE format('REVOKE CREATE ON DATABASE %I FROM charmed_databases_owner', db);
        EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO %I', db, owner);
        EXECUTE format('ALTER SCHEMA public OWNER TO %I', owner);
        FOREACH reader IN ARRAY ARRAY[
            admin, 'charmed_stats', 'charmed_read', 'charmed_dml', 'charmed_backup', 'charmed_dba',
            'charmed_admin', 'charmed_databases_owner'
        ] LOOP
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', db, reader);
        END LOOP;
        EXECUTE format('GRANT %I TO charmed_admin WITH INHERIT FALSE', admin);
        IF session_user LIKE 'relation-%' OR session_user LIKE 'relation\\_id\\_%' THEN
            EXECUTE format('GRANT %I TO %I WITH INHERIT FALSE', admin, session_user);
            EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE', dml, session_user);
        END IF;
        EXECUTE format(
            'ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT SELECT ON TABLES TO %I', owner, admin);
        EXECUTE format(
            'ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT SELECT ON SEQUENCES TO %I', owner, admin);
        EXECUTE format(
            'ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT EXECUTE ON FUNCTIONS TO %I', owner, admin);
    END $$;
    ALTER FUNCTION public.set_up_predefined_catalog_roles() OWNER TO operator;
    REVOKE ALL ON FUNCTION public.set_up_predefined_catalog_roles() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION public.set_up_predefined_catalog_roles() TO charmed_databases_owner;
    REVOKE CREATE ON DATABASE template1 FROM charmed_databases_owner";

/// Statements for the first client of a database up to 15: it becomes the owner of everything
/// outside the catalogs, including other roles' functions. Excepted are schemas that match that
/// charm's `LIKE`: names that begin with `pg` and anything.
const OWN_ALL: &str = "
    DO $$
    DECLARE
        statement text;
    BEGIN
        FOR statement IN
            WITH schemas AS (SELECT oid, nspname FROM pg_namespace
                             WHERE nspname NOT IN ('pg_catalog', 'information_schema'))
            SELECT format('ALTER TABLE %I.%I OWNER TO %I', nspname, relname, ‹user›)
            FROM pg_class JOIN schemas s ON relnamespace = s.oid WHERE relkind IN ('r', 'p', 'v')
            UNION ALL
            SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, ‹user›)
            FROM pg_proc p JOIN schemas s ON pronamespace = s.oid
            UNION ALL
            SELECT format('ALTER SCHEMA %I OWNER TO %I', nspname, ‹user›)
            FROM schemas WHERE nspname NOT LIKE 'pg_%'
        LOOP
            EXECUTE statement;
        END LOOP;
    END $$";

/// Statements for every further client up to 15.
const GRANT_ALL: &str = "
    DO $$
    DECLARE
        schema text;
    BEGIN
        FOR schema IN SELECT nspname FROM pg_namespace
                      WHERE nspname NOT LIKE 'pg_%' AND nspname <> 'information_schema' LOOP
            EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %I TO %I', schema, ‹user›);
            EXECUTE format('GRANT ALL ON ALL SEQUENCES IN SCHEMA %I TO %I', schema, ‹user›);
            EXECUTE format('GRANT ALL ON ALL FUNCTIONS IN SCHEMA %I TO %I', schema, ‹user›);
            EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', schema, ‹user›);
        END LOOP;
    END $$";

//! Databases and roles of clients, as PostgreSQL's charms make them. Up to 15 the client owns the
//! content of its database. From 16 on the roles of the database own it, and the client is their
//! member.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::{
    client::{ACCESS, ADMIN, Client, DATABASES_OWNER, Groups},
    error::Refused,
    server::{STATEMENT, Server, TRAVEL},
};

/// How long CREATE DATABASE may take: up to PostgreSQL 14 it ends with a checkpoint.
const CREATE_DATABASE: Duration = Duration::from_secs(60);

impl Server {
    /// Makes a client's database, and its role with all rights there, where they are missing.
    ///
    /// A verifier that the role has already stays if it `matches` the password. The charm takes
    /// over a role without a comment, as the Python charm made it, only if the role is `known` to
    /// be this client's.
    pub fn ensure_client(
        &mut self,
        client: &Client,
        known: bool,
        matches: &dyn Fn(&str) -> bool,
    ) -> Result<(), Refused> {
        let old = match self.role(&client.role)? {
            Some(role)
                if role.is_somebody_elses(&client.comment)
                    || (role.comment.is_none() && !known) =>
            {
                return Err(Refused::not_ours(&client.role, &client.comment));
            }
            old => old,
        };
        let role = escape_identifier(&client.role);
        let is_there = old.is_some();
        let mut sql = Vec::new();
        if !old.as_ref().and_then(|old| old.verifier.as_deref()).is_some_and(matches) {
            let command = if is_there { "ALTER" } else { "CREATE" };
            let verifier = escape_literal(client.verifier.reveal());
            sql.push(format!("{command} ROLE {role} LOGIN PASSWORD {verifier}"));
        }
        if old.is_none_or(|old| old.comment.is_none()) {
            sql.push(format!("COMMENT ON ROLE {role} IS {}", escape_literal(&client.comment)));
        }
        let what = format!("make role {}", client.role);
        if is_there && client.is_answered {
            return if sql.is_empty() { Ok(()) } else { self.batch(what, &sql.join("; ")) };
        }

        let groups = self.groups(client)?;
        let shape = client.shape(&groups)?;
        self.ensure_database(
            &client.database,
            groups.has_catalog_roles().then_some(DATABASES_OWNER),
        )?;
        if groups.has_catalog_roles() {
            self.ensure_catalog_roles(client)?;
        }
        if !shape.attributes.is_empty() {
            sql.push(format!("ALTER ROLE {role} {}", shape.attributes.join(" ")));
        }
        if !shape.groups.is_empty() {
            let groups: Vec<String> =
                shape.groups.iter().map(|group| escape_identifier(group)).collect();
            sql.push(format!("GRANT {} TO {role}", groups.join(", ")));
        }
        if groups.has_catalog_roles() {
            sql.extend(rights_from_16(client));
        } else {
            let admin = if groups.has(ADMIN) { ", admin" } else { "" };
            let database = escape_identifier(&client.database);
            sql.push(format!("GRANT ALL ON DATABASE {database} TO {role}{admin}"));
        }
        if !groups.has_catalog_roles() {
            let rights = if client.alone { OWN_ALL } else { MAY_ALL };
            let role = escape_literal(&client.role);
            sql.push(format!("SELECT set_config('our.client', {role}, true); {rights}"));
        }
        // One transaction, in its database: a role that exists has all its rights.
        self.batch_in(&client.database, what, &sql.join("; "))
    }

    /// Drops a client's role. What it owns, in any database, goes to the charm's user. Databases
    /// stay.
    pub fn drop_client(&mut self, name: &str, comment: &str) -> Result<(), Refused> {
        match self.role(name)? {
            None => Ok(()),
            Some(role) if role.comment.as_deref() != Some(comment) => {
                Err(Refused::not_ours(name, comment))
            }
            Some(_) => self.drop_role(name, ""),
        }
    }

    /// Drops the roles whose comment begins with `mark`, except those in `keep`: their relations
    /// ended while PostgreSQL was not there. A role that cannot be dropped does not stop the
    /// others; the error is that of the last one.
    pub fn drop_strays(&mut self, mark: &str, keep: &[String]) -> Result<(), Refused> {
        let what = "look for roles whose relations are gone";
        let mut done = Ok(());
        for row in self.query(what, STRAYS, &[&mark, &keep])? {
            done = self.drop_role(row.get(0), "").and(done);
        }
        done
    }

    /// The names of the databases that accept logins, except templates.
    pub fn databases(&mut self) -> Result<Vec<String>, Refused> {
        let rows = self.query("list the databases", DATABASES, &[])?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    fn groups(&mut self, client: &Client) -> Result<Groups, Refused> {
        let mut names = client.roles.names().to_vec();
        names.extend([ACCESS, ADMIN, DATABASES_OWNER].map(str::to_owned));
        let rows = self.query("look up groups", GROUPS, &[&names, &DATABASES_OWNER])?;
        Ok(Groups { open: rows.iter().map(|row| row.get(0)).collect() })
    }

    fn ensure_database(&mut self, name: &str, owner: Option<&str>) -> Result<(), Refused> {
        let what = format!("create database {name}");
        let found =
            self.query(&what, "SELECT FROM pg_catalog.pg_database WHERE datname = $1", &[&name])?;
        let database = escape_identifier(name);
        if found.is_empty() {
            let owner = owner
                .map(|owner| format!(" OWNER {}", escape_identifier(owner)))
                .unwrap_or_default();
            // CREATE DATABASE cannot run in a transaction, hence one statement at a time.
            let main = self.credentials.database.clone();
            let connection = self.connection(&main)?;
            let (long, usual) = (CREATE_DATABASE.as_millis(), STATEMENT.as_millis());
            connection
                .simple(&format!("SET statement_timeout = {long}"), STATEMENT + TRAVEL)
                .and_then(|_| {
                    connection.simple(
                        &format!("CREATE DATABASE {database}{owner}"),
                        CREATE_DATABASE + TRAVEL,
                    )
                })
                .and_then(|_| {
                    connection
                        .simple(&format!("SET statement_timeout = {usual}"), STATEMENT + TRAVEL)
                })
                .map_err(|source| Refused::Statement { what: what.clone(), source })?;
        }
        self.batch(what, &format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"))
    }

    /// Makes the roles of a database by the function that PostgreSQL's charm puts into every
    /// database.
    ///
    /// Once they exist, clients own `public` and could replace the function. A superuser must not
    /// run what a client wrote, so then the function is not called.
    fn ensure_catalog_roles(&mut self, client: &Client) -> Result<(), Refused> {
        let Client { database, .. } = client;
        let what = format!("make the roles of database {database}");
        let found = "SELECT FROM pg_catalog.pg_roles WHERE rolname = $1";
        if !self.query(&what, found, &[&client.catalog_role("admin")])?.is_empty() {
            return Ok(());
        }
        if self.query_in(database, &what, UNTOUCHED, &[])?.is_empty() {
            return Err(Refused::UntrustedSchema { database: database.clone() });
        }
        // The function calls others in `public`.
        let sql = format!(
            "SET LOCAL search_path = pg_catalog, public; SET LOCAL ROLE {DATABASES_OWNER}; \
             SELECT public.set_up_predefined_catalog_roles()"
        );
        self.batch_in(database, what, &sql)
    }
}

/// The rights of a client from 16 on.
///
/// The `login_hook` of PostgreSQL's charm sets the role of a session to the owner of its database,
/// but PgBouncer resets sessions. `ALTER ROLE ... SET role` makes a session return to the owner
/// instead.
fn rights_from_16(client: &Client) -> Vec<String> {
    let (role, database) = (escape_identifier(&client.role), escape_identifier(&client.database));
    let asks = |name: &str| client.roles.names().iter().any(|role| role == name);
    let mut sql = Vec::new();
    if asks("createdb") {
        sql.push(format!("ALTER ROLE {role} SET role = {}", escape_literal(DATABASES_OWNER)));
    }
    if client.is_of_its_database() {
        let owner = escape_literal(&client.catalog_role("owner"));
        sql.push(format!("ALTER ROLE {role} IN DATABASE {database} SET role = {owner}"));
    } else {
        sql.push(format!("GRANT CONNECT ON DATABASE {database} TO {role}"));
    }
    if !client.roles.names().is_empty() {
        sql.push(format!("GRANT CONNECT ON DATABASE postgres, template1 TO {role}"));
    }
    sql
}

/// The names, of those given, of groups that a client may be a member of. A member of a login role
/// could act as another user. A member of a superuser, or of a role that may run programs or read
/// files on the server, could do anything.
const GROUPS: &str = "
    SELECT g.rolname::text FROM pg_catalog.pg_authid g
    WHERE g.rolname = ANY ($1) AND (NOT g.rolcanlogin OR g.rolname = $2)
      AND (g.rolname !~ '^pg_' OR g.rolname = ANY (ARRAY['pg_monitor', 'pg_read_all_settings',
          'pg_read_all_stats', 'pg_stat_scan_tables']))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_authid p
          WHERE (p.rolsuper OR p.rolreplication OR p.rolbypassrls OR p.rolname = ANY (ARRAY[
                'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files']))
            AND pg_catalog.pg_has_role(g.oid, p.oid, 'MEMBER'))";

/// One row if a superuser owns the function of PostgreSQL's charm, and `public` has no function or
/// operator of another owner that could stand in for one of PostgreSQL's.
const UNTOUCHED: &str = "
    SELECT FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'public'
    JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
    WHERE p.proname = 'set_up_predefined_catalog_roles' AND p.pronargs = 0 AND p.prosecdef
      AND o.rolsuper
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc f
                      JOIN pg_catalog.pg_roles r ON r.oid = f.proowner
                      WHERE f.pronamespace = n.oid AND NOT r.rolsuper)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_operator f
                      JOIN pg_catalog.pg_roles r ON r.oid = f.oprowner
                      WHERE f.oprnamespace = n.oid AND NOT r.rolsuper)";

/// The roles whose comment has this prefix, except those given.
const STRAYS: &str = "
    SELECT rolname FROM pg_catalog.pg_authid
    WHERE pg_catalog.starts_with(pg_catalog.shobj_description(oid, 'pg_authid'), $1)
      AND NOT rolname = ANY ($2)
    ORDER BY 1";

const DATABASES: &str = "
    SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate
    ORDER BY datname::text COLLATE \"C\"";

// Both blocks read the name of the role from a setting: inside the block it could end the quotes.

/// Gives the only client of a database everything there that superusers own: the charm's user owns
/// what earlier clients left. Exceptions:
///
/// - objects of extensions and of the lookup of a pooler;
/// - functions that other users, superusers among them, run as triggers: the owner of such a
///   function could make them run anything.
const OWN_ALL: &str = "
    DO $$
    DECLARE
        statement text;
        client text := current_setting('our.client');
    BEGIN
        FOR statement IN
            WITH schemas AS (SELECT oid, nspname, nspowner FROM pg_namespace
                             WHERE nspname <> 'information_schema'
                               AND nspname !~ '^(pg_|pgbouncer_auth_)'),
                 free AS (SELECT oid FROM pg_roles WHERE rolsuper),
                 others AS (SELECT evtfoid AS oid FROM pg_event_trigger UNION
                            SELECT tgfoid FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
                            WHERE relowner NOT IN
                                (SELECT oid FROM pg_roles WHERE rolsuper OR rolname = client)),
                 bound AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
            SELECT format('ALTER SCHEMA %I OWNER TO %I', nspname, client)
            FROM schemas
            WHERE (nspowner IN (SELECT oid FROM free)
                   OR nspowner::regrole::text = 'pg_database_owner')
                AND ('pg_namespace'::regclass, oid) NOT IN (SELECT classid, objid FROM bound)
            UNION ALL
            SELECT format('ALTER %s %I.%I OWNER TO %I',
                          CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
                                       WHEN 'm' THEN 'MATERIALIZED VIEW'
                                       WHEN 'f' THEN 'FOREIGN TABLE'
                                       ELSE 'TABLE' END,
                          nspname, relname, client)
            FROM pg_class c JOIN schemas s ON s.oid = relnamespace
            WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relowner IN (SELECT oid FROM free)
                AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM bound)
                -- A sequence of a column goes with its table.
                AND NOT (relkind = 'S' AND EXISTS (SELECT FROM pg_depend
                    WHERE classid = 'pg_class'::regclass AND objid = c.oid
                        AND deptype IN ('a', 'i')))
            UNION ALL
            SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, client)
            FROM pg_proc p JOIN schemas s ON s.oid = pronamespace
            WHERE proowner IN (SELECT oid FROM free)
                AND ('pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM bound)
                AND p.oid NOT IN (SELECT oid FROM others)
            UNION ALL
            SELECT format('ALTER TYPE %I.%I OWNER TO %I', nspname, typname, client)
            FROM pg_type t JOIN schemas s ON s.oid = typnamespace
            WHERE typowner IN (SELECT oid FROM free)
                AND ('pg_type'::regclass, t.oid) NOT IN (SELECT classid, objid FROM bound)
                AND (typtype IN ('e', 'd', 'r')
                    OR typtype = 'c' AND EXISTS (SELECT FROM pg_class
                                                 WHERE oid = typrelid AND relkind = 'c'))
            UNION ALL
            SELECT format('ALTER LARGE OBJECT %s OWNER TO %I', oid, client)
            FROM pg_largeobject_metadata WHERE lomowner IN (SELECT oid FROM free)
        LOOP
            EXECUTE statement;
        END LOOP;
    END $$";

/// Lets a client use everything in a database that it shares.
const MAY_ALL: &str = "
    DO $$
    DECLARE
        schema text;
        client text := current_setting('our.client');
    BEGIN
        FOR schema IN SELECT nspname FROM pg_namespace
                      WHERE nspname <> 'information_schema' AND nspname !~ '^(pg_|pgbouncer_auth_)'
        LOOP
            EXECUTE format('GRANT ALL ON SCHEMA %I TO %I', schema, client);
            EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %I TO %I', schema, client);
            EXECUTE format('GRANT ALL ON ALL SEQUENCES IN SCHEMA %I TO %I', schema, client);
            EXECUTE format('GRANT ALL ON ALL ROUTINES IN SCHEMA %I TO %I', schema, client);
        END LOOP;
    END $$";

//! Databases and roles of clients. A group role owns the content of a client's database, and the
//! client is its member: from 16 on a role of PostgreSQL's charm, up to 15 the [heir].

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::{
    client::{ACCESS, ADMIN, Client, DATABASES_OWNER, Groups},
    error::Refused,
    heir,
    lookup::HAS_FUNCTION,
    mark,
    server::{STATEMENT, Server, TRAVEL},
};

/// How long CREATE DATABASE may take: up to PostgreSQL 14 it ends with a checkpoint.
const CREATE_DATABASE: Duration = Duration::from_secs(60);

impl Server {
    /// Creates or repairs a client's database, and its role with all rights there.
    ///
    /// A verifier that the role has already stays if it `matches` the password. The charm takes
    /// over a role without a comment, as the Python charm made it, only if the verifier matches,
    /// the role is `known` to be this client's, or it may act as the heir of the client's database.
    /// A role that exists when the client has its credentials gets the attributes and groups back
    /// that it got with them.
    pub fn ensure_client(
        &mut self,
        client: &Client,
        known: bool,
        matches: &dyn Fn(&str) -> bool,
    ) -> Result<(), Refused> {
        let old = self.role(&client.role)?;
        let keeps_roles = old.is_some() && client.is_answered;
        let comment = old.as_ref().and_then(|old| old.comment.as_deref());
        let recorded = comment.and_then(mark::recorded_roles).filter(|_| keeps_roles);
        let has_record = recorded.is_some();
        let roles = recorded.unwrap_or_else(|| client.roles.clone());
        let client = &Client { roles, ..client.clone() };
        let groups = self.groups(client)?;
        let from_16 = groups.has_catalog_roles();
        let heir = heir::name(&client.database, from_16);
        if let Some(role) = &old {
            // The client logs in with this role, whatever the comment says.
            let is_in_use = role.verifier.as_deref().is_some_and(matches);
            match (role.is_somebody_elses(&client.comment), is_in_use) {
                (true, true) => {
                    return Err(Refused::not_our_comment(&client.role, &client.comment));
                }
                (true, false) => return Err(Refused::not_ours(&client.role, &client.comment)),
                (false, true) => {}
                (false, false) => {
                    if role.comment.is_none() && !known && !self.has_heir(client, &heir)? {
                        return Err(Refused::not_ours(&client.role, &client.comment));
                    }
                }
            }
        }
        let role = escape_identifier(&client.role);
        let is_there = old.is_some();
        let mut sql = Vec::new();
        let logs_in = old.as_ref().filter(|old| old.logs_in);
        if !logs_in.and_then(|old| old.verifier.as_deref()).is_some_and(matches) {
            let command = if is_there { "ALTER" } else { "CREATE" };
            let verifier = escape_literal(client.verifier.reveal());
            sql.push(format!("{command} ROLE {role} LOGIN PASSWORD {verifier}"));
        }
        if is_there && logs_in.is_none() {
            // The lookup returns no verifier of a superuser, a replication role or an expired role.
            sql.push(format!(
                "ALTER ROLE {role} NOSUPERUSER NOREPLICATION CONNECTION LIMIT -1 \
                 VALID UNTIL 'infinity'"
            ));
        }
        let what = format!("make role {}", client.role);
        let shape = match client.shape(&groups) {
            // The charm does not know what it gave: another revision made the role.
            _ if keeps_roles && !has_record => client.least_shape(&groups),
            // A group is gone, or too powerful by the rules of this revision.
            Err(refused) if keeps_roles => {
                tracing::warn!("{} keeps only the roles that it has: {refused}", client.role);
                client.least_shape(&groups)
            }
            shape => shape?,
        };
        self.ensure_database(&client.database, from_16.then_some(DATABASES_OWNER))?;
        if from_16 {
            self.ensure_catalog_roles(client)?;
        } else {
            let comment = format!("owns what clients share in database {}", client.database);
            self.ensure_owner(&heir, &comment, &client.role)?;
        }
        if shape.attributes.contains(&"CREATEROLE") {
            tracing::warn!(
                "{} gets CREATEROLE, which it asked for: up to PostgreSQL 15 such a role can make \
                 itself a superuser",
                client.role
            );
        }
        sql.push(format!("ALTER ROLE {role} INHERIT {}", shape.attributes.join(" ")));
        let database = escape_identifier(&client.database);
        sql.push(format!(
            "ALTER ROLE {role} RESET role; ALTER ROLE {role} IN DATABASE {database} RESET role"
        ));
        if !shape.groups.is_empty() {
            let groups: Vec<String> =
                shape.groups.iter().map(|group| escape_identifier(group)).collect();
            sql.push(format!("GRANT {} TO {role}", groups.join(", ")));
        }
        if from_16 {
            sql.extend(rights_from_16(client));
            sql.extend(heir::adopt(client, &heir));
        } else {
            let admin = if groups.has(ADMIN) { ", admin" } else { "" };
            sql.push(format!("GRANT ALL ON DATABASE {database} TO {role}{admin}"));
            sql.extend(heir::settle(client, &heir));
        }
        sql.extend(mark::record(client));
        // One transaction, in its database: a role that exists has all its rights.
        self.batch_in(&client.database, what, &sql.join("; "))
    }

    /// The databases that accept logins, except templates. Each name comes with whether the auth
    /// role may call a function of ours there, which says nothing if there is no such role.
    pub fn databases(&mut self, auth_user: &str) -> Result<Vec<(String, bool)>, Refused> {
        let sql = format!(
            "SELECT datname::text, {HAS_FUNCTION} FROM pg_catalog.pg_database d
             JOIN pg_catalog.pg_roles me ON me.rolname = current_user
             LEFT JOIN pg_catalog.pg_roles auth ON auth.rolname::text = $1
             WHERE datallowconn AND NOT datistemplate
             ORDER BY datname::text COLLATE \"C\""
        );
        let rows = self.query("list the databases", &sql, &[&auth_user])?;
        // A name may be in another encoding.
        Ok(rows.iter().filter_map(|row| Some((row.try_get(0).ok()?, row.get(1)))).collect())
    }

    fn groups(&mut self, client: &Client) -> Result<Groups, Refused> {
        let groups = self.open_groups(client)?;
        let mut wanted: Vec<&str> = client.roles.names().iter().map(String::as_str).collect();
        wanted.extend([ACCESS, ADMIN]);
        // A group that a client made its member counts as closed: it would be the member of a login
        // role. So a client up to 14 could keep all new clients out.
        let closed: Vec<&str> = wanted.into_iter().filter(|name| !groups.has(name)).collect();
        if groups.has_catalog_roles() || closed.is_empty() {
            return Ok(groups);
        }
        let mut revoked = false;
        for name in closed {
            revoked |= self.revoke_forced(name, &format!("look up group {name}"))?;
        }
        if revoked { self.open_groups(client) } else { Ok(groups) }
    }

    fn open_groups(&mut self, client: &Client) -> Result<Groups, Refused> {
        let mut names = client.roles.names().to_vec();
        names.extend([ACCESS, ADMIN, DATABASES_OWNER].map(str::to_owned));
        let rows = self.query("look up groups", GROUPS, &[&names, &DATABASES_OWNER, &ADMIN])?;
        Ok(Groups { open: rows.iter().map(|row| row.get(0)).collect() })
    }

    fn ensure_database(&mut self, name: &str, owner: Option<&str>) -> Result<(), Refused> {
        let what = format!("create database {name}");
        let found = self.query(&what, OWNER, &[&name])?;
        if let Some(row) = found.first() {
            let (owner, is_trusted, is_open): (String, bool, bool) =
                (row.get(0), row.get(1), row.get(2));
            if !is_trusted {
                return Err(Refused::ForeignDatabase { database: name.to_owned(), owner });
            }
            if !is_open {
                return Err(Refused::ClosedDatabase { database: name.to_owned() });
            }
        }
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
        // Each other grantor revokes its own grants to PUBLIC: a superuser's REVOKE covers only the
        // owner's.
        let mut sql = vec![format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC")];
        for row in self.query(&what, OPENED, &[&name])? {
            let Ok(grantor) = row.try_get(0) else { continue };
            let grantor = escape_identifier(grantor);
            sql.push(format!(
                "SET LOCAL ROLE {grantor}; REVOKE ALL ON DATABASE {database} FROM PUBLIC; \
                 SET LOCAL ROLE NONE"
            ));
        }
        self.batch(what, &sql.join("; "))
    }

    /// Makes the roles of a database by the function that PostgreSQL's charm puts into every
    /// database.
    ///
    /// Once it has run in a database, clients own `public` and could replace the function. A
    /// superuser must not run what a client wrote, so then the function is not called. A database
    /// that somebody dropped and made again needs it once more.
    fn ensure_catalog_roles(&mut self, client: &Client) -> Result<(), Refused> {
        let Client { database, .. } = client;
        let what = format!("make the roles of database {database}");
        let owner = client.catalog_role("owner");
        if !self.query_in(database, &what, SET_UP, &[&owner])?.is_empty() {
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
        sql.push(EXPIRE_OWNER.to_owned());
        sql.push(format!("ALTER ROLE {role} SET role = {}", escape_literal(DATABASES_OWNER)));
    }
    if client.is_of_its_database() {
        let owner = escape_literal(&client.catalog_role("owner"));
        sql.push(format!("ALTER ROLE {role} IN DATABASE {database} SET role = {owner}"));
    }
    sql.push(format!("GRANT CONNECT ON DATABASE {database} TO {role}"));
    if !client.roles.names().is_empty() {
        sql.push(format!("GRANT CONNECT ON DATABASE postgres, template1 TO {role}"));
    }
    sql
}

/// Makes every password of the owner of all databases invalid. This role of PostgreSQL's charm can
/// log in but has no password. A member may set one, as any role may its own, and could still log
/// in after its relation has ended. No member can change this date.
const EXPIRE_OWNER: &str = "
    DO $$
    BEGIN
        IF EXISTS (SELECT FROM pg_authid WHERE rolname = 'charmed_databases_owner'
                   AND rolvaliduntil IS DISTINCT FROM '-infinity') THEN
            ALTER ROLE charmed_databases_owner VALID UNTIL '-infinity';
        END IF;
    END $$";

/// The groups, of these names, that a client may be a member of. A member of a login role
/// could act as another user, and a member of an heir as every client of a database. A member of a
/// superuser, or of a role that may run programs or read files on the server, could do anything. A
/// member of `pg_read_all_data` reads every verifier: up to 15 only `admin` of PostgreSQL's charm
/// may, from 16 on every group that the charm has for clients.
const GROUPS: &str = "
    SELECT g.rolname::text FROM pg_catalog.pg_authid g
    WHERE g.rolname::text = ANY ($1::text[]) AND (NOT g.rolcanlogin OR g.rolname = $2)
      AND g.rolname !~ '^pgbouncer_'
      AND (g.rolname !~ '^pg_' OR g.rolname = ANY (ARRAY['pg_monitor', 'pg_read_all_settings',
          'pg_read_all_stats', 'pg_stat_scan_tables']))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_authid p
          WHERE (p.rolsuper OR p.rolreplication OR p.rolbypassrls OR p.rolname = ANY (ARRAY[
                 'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'])
              OR p.rolcreaterole AND g.rolname <> $3 OR p.rolcanlogin AND p.rolname <> $2
              OR p.rolname = 'pg_read_all_data' AND g.rolname <> $3
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_authid WHERE rolname = $2))
            AND pg_catalog.pg_has_role(g.oid, p.oid, 'MEMBER'))";

/// The roles, other than the owner, that gave everybody a right on a database.
const OPENED: &str = "
    SELECT DISTINCT g.rolname::text
    FROM pg_catalog.pg_database d
    CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) a
    JOIN pg_catalog.pg_roles g ON g.oid = a.grantor
    WHERE d.datname = $1 AND a.grantee = 0 AND a.grantor <> d.datdba";

/// The owner of a database, whether a client may rely on it, and whether the database accepts
/// connections. Any other owner may let users in, and what a former client left there would run
/// with the rights of the next one.
const OWNER: &str = "
    SELECT o.rolname::text, o.rolsuper OR o.rolname = 'charmed_databases_owner',
           d.datallowconn AND d.datconnlimit NOT IN (0, -2)
    FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles o ON o.oid = d.datdba
    WHERE d.datname = $1";

/// One row if the function of PostgreSQL's charm has run in this database.
const SET_UP: &str = "
    SELECT FROM pg_catalog.pg_database d
    CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) a
    JOIN pg_catalog.pg_roles o ON o.oid = a.grantee AND o.rolname = $1
    WHERE d.datname = pg_catalog.current_database() AND a.privilege_type = 'CREATE'";

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

//! The role and the function by which PgBouncer looks up passwords.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use tokio_postgres::types::ToSql;

use super::{
    error::Refused,
    server::{ROLE_COLUMNS, Role, Server},
};
use crate::secret::Secret;

/// What the lookup needs, except in clients' databases, and what serves nobody any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The auth role is as this charm makes it.
    pub has_auth_role: bool,
    /// In our own database the function `get_auth` is as this charm makes it.
    pub has_get_auth: bool,
    /// There are roles of removed clients.
    pub has_strays: bool,
    /// The auth roles of earlier relations, with their comments.
    pub former_auth_roles: Vec<(String, String)>,
}

impl Server {
    /// Makes or repairs the role that looks up passwords. It can log in and has no other attribute.
    ///
    /// The charm takes over a role of that name without a comment, as the Python charm made it, but
    /// not one with another comment. A verifier that the role has already stays if it `matches` the
    /// password.
    pub fn ensure_auth_role(
        &mut self,
        name: &str,
        verifier: &Secret,
        comment: &str,
        matches: &dyn Fn(&str) -> bool,
    ) -> Result<(), Refused> {
        let command = match self.role(name)? {
            Some(role) if role.is_somebody_elses(comment) => {
                return Err(Refused::not_ours(name, comment));
            }
            Some(role) if role.is(matches, comment) => return Ok(()),
            Some(_) => "ALTER",
            None => "CREATE",
        };
        self.batch(
            format!("make role {name}"),
            &format!(
                "{command} ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION \
                 NOBYPASSRLS PASSWORD {verifier}; COMMENT ON ROLE {role} IS {comment}",
                role = escape_identifier(name),
                verifier = escape_literal(verifier.reveal()),
                comment = escape_literal(comment),
            ),
        )
    }

    /// Compares what the lookup needs, except in clients' databases, with the server.
    ///
    /// `prefix` begins the comment on every role of this application, `comment` is that on the auth
    /// role, and `keep` are the roles of clients. A verifier of the auth role `matches` its
    /// password.
    pub fn inspect(
        &mut self,
        auth_user: &str,
        comment: &str,
        matches: &dyn Fn(&str) -> bool,
        prefix: &str,
        keep: &[String],
    ) -> Result<Inspection, Refused> {
        let (clients, backends) = (
            format!("{prefix}, relation database:"),
            format!("{prefix}, relation backend-database:"),
        );
        let mut found = Inspection::default();
        let values: [&(dyn ToSql + Sync); 5] =
            [&auth_user, &body(auth_user, ME), &clients, &backends, &keep];
        for row in self.query("look at the lookup", &inspect(), &values)? {
            let Ok(name) = row.try_get::<_, String>(4) else { continue };
            let role = Role::of(&row);
            if name == auth_user {
                found.has_auth_role = role.is(matches, comment);
                found.has_get_auth = row.get(5);
            } else if let Some(comment) = role.comment.filter(|text| text.starts_with(&backends)) {
                found.former_auth_roles.push((name, comment));
            } else {
                found.has_strays = true;
            }
        }
        Ok(found)
    }

    /// The databases, of these, that lack the function `get_auth` as this charm makes it. One that
    /// does not exist, or accepts no connections, lacks nothing: it gets the function when a client
    /// gets its database.
    pub fn lack_get_auth(
        &mut self,
        databases: Vec<String>,
        auth_user: &str,
    ) -> Result<Vec<String>, Refused> {
        let mut lacking = Vec::new();
        if databases.is_empty() {
            return Ok(lacking);
        }
        let open = self.databases(auth_user)?;
        let is_open = |name: &String| open.iter().any(|(open, _)| open == name);
        for database in databases.into_iter().filter(is_open) {
            if !self.has_get_auth(&database, auth_user)? {
                lacking.push(database);
            }
        }
        Ok(lacking)
    }

    fn has_get_auth(&mut self, database: &str, auth_user: &str) -> Result<bool, Refused> {
        let what = format!("look for get_auth in database {database}");
        let values: [&(dyn ToSql + Sync); 2] = [&auth_user, &body(auth_user, ME)];
        let found = self.query_in(database, &what, INSTALLED, &values)?;
        Ok(!found.is_empty())
    }

    /// Installs `get_auth`, the function of PgBouncer's `auth_query`, in a database, in a schema
    /// named after the auth role.
    ///
    /// The function returns the name and verifier of a role, unless the role is a superuser,
    /// replicates, cannot log in, has expired, or is the auth role itself. It returns nothing once
    /// the charm's user is gone: whoever removes that user may keep the function. The charm
    /// replaces a function that differs in anything: a user who can write into that schema could
    /// answer in its place. A database that does not exist yet gets the function when it is made.
    pub fn install_get_auth(&mut self, database: &str, auth_user: &str) -> Result<(), Refused> {
        let what = format!("install get_auth in database {database}");
        let found = "SELECT FROM pg_catalog.pg_database WHERE datname = $1 AND datallowconn";
        if self.query(&what, found, &[&database])?.is_empty()
            || self.has_get_auth(database, auth_user)?
        {
            return Ok(());
        }
        let me = "SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let me: u32 = self.query(&what, me, &[])?.first().map_or(0, |row| row.get(0));
        let sql = format!(
            "DROP SCHEMA IF EXISTS {user} CASCADE; CREATE SCHEMA {user}; \
             GRANT USAGE ON SCHEMA {user} TO {user}; \
             CREATE FUNCTION {user}.get_auth(text) RETURNS TABLE (username text, password text) \
             LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {body}; \
             REVOKE ALL ON FUNCTION {user}.get_auth(text) FROM PUBLIC; \
             GRANT EXECUTE ON FUNCTION {user}.get_auth(text) TO {user}; \
             GRANT CONNECT ON DATABASE {database} TO {user}",
            user = escape_identifier(auth_user),
            body = escape_literal(&body(auth_user, &me.to_string())),
            database = escape_identifier(database),
        );
        self.batch_in(database, what, &sql)
    }

    /// Removes the auth role, and `get_auth` from every database. A schema with objects of other
    /// users stays, and so does the role; the error says so.
    pub fn remove_auth(&mut self, name: &str, comment: &str) -> Result<(), Refused> {
        match self.role(name)? {
            None => Ok(()),
            Some(role) if role.is_somebody_elses(comment) => Err(Refused::not_ours(name, comment)),
            Some(_) => {
                let what = format!("drop role {name}");
                let (role, heir) =
                    (escape_identifier(name), escape_identifier(&self.credentials.user));
                // First and by itself: whatever stays in a database, the role cannot log in.
                self.batch(what.clone(), &format!("ALTER ROLE {role} NOLOGIN PASSWORD NULL"))?;
                let disown = format!("REASSIGN OWNED BY {role} TO {heir}; DROP OWNED BY {role}");
                let mut done = Ok(());
                for database in self.holdings(name, &what)? {
                    let sql = format!(
                        "DROP FUNCTION IF EXISTS {role}.get_auth(text); \
                         DROP SCHEMA IF EXISTS {role}; {disown}"
                    );
                    // A schema of that name with a client's objects does not stop the others.
                    done = self.batch_in(&database, what.clone(), &sql).and(done);
                }
                done?;
                self.batch(what, &format!("{disown}; DROP ROLE {role}"))
            }
        }
    }
}

/// The text of the function. `me` is the OID of the charm's own user.
fn body(auth_user: &str, me: &str) -> String {
    format!(
        "SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid \
         WHERE rolname = $1::name AND rolname::text = $1 \
         AND rolcanlogin AND NOT rolsuper AND NOT rolreplication AND rolname <> {} \
         AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now()) \
         AND EXISTS (SELECT FROM pg_catalog.pg_authid WHERE oid = {me})",
        escape_literal(auth_user)
    )
}

/// Whether the auth role `auth` may call a function of ours, `me`, in the database `d`. What roles
/// own and may do in other databases is in `pg_shdepend`, except what the first superuser owns,
/// whose OID is 10.
pub(super) const HAS_FUNCTION: &str = "
    EXISTS (SELECT FROM pg_catalog.pg_shdepend u
            LEFT JOIN pg_catalog.pg_shdepend o
                ON o.dbid = u.dbid AND o.classid = u.classid AND o.objid = u.objid
                AND o.refclassid = u.refclassid AND o.deptype = 'o'
            WHERE u.dbid = d.oid AND u.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
              AND u.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
              AND u.refobjid = auth.oid AND u.deptype = 'a' AND coalesce(o.refobjid, 10) = me.oid)";

/// The auth role, with whether `get_auth` is [`INSTALLED`]; and the roles that serve nobody, whose
/// comment has one of two prefixes.
fn inspect() -> String {
    format!(
        "SELECT {ROLE_COLUMNS}, rolname::text, EXISTS ({INSTALLED})
         FROM pg_catalog.pg_authid
         CROSS JOIN LATERAL pg_catalog.shobj_description(oid, 'pg_authid') c
         WHERE rolname::text = $1
            OR pg_catalog.starts_with(c, $3) AND NOT rolname::text = ANY ($5::text[])
            OR pg_catalog.starts_with(c, $4)"
    )
}

/// Stands for the OID of the charm's own user in the text that [`INSTALLED`] compares.
const ME: &str = "{me}";

/// One row if `get_auth` is exactly what it should be, and only the charm's user could have put
/// anything into its schema. Access lists quote names that are not plain (`putid` in PostgreSQL's
/// `acl.c`).
const INSTALLED: &str = r#"
    SELECT FROM pg_catalog.pg_namespace n
    JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid
    JOIN pg_catalog.pg_roles me ON me.rolname = current_user
    JOIN pg_catalog.pg_roles a ON a.rolname = $1
    CROSS JOIN LATERAL (SELECT CASE WHEN me.rolname ~ '^[a-zA-Z0-9_]+$' THEN me.rolname::text
        ELSE '"' || pg_catalog.replace(me.rolname, '"', '""') || '"' END AS acl) m
    CROSS JOIN LATERAL (SELECT CASE WHEN a.rolname ~ '^[a-zA-Z0-9_]+$' THEN a.rolname::text
        ELSE '"' || pg_catalog.replace(a.rolname, '"', '""') || '"' END AS acl) l
    WHERE n.nspname = $1 AND n.nspowner = me.oid AND p.proowner = me.oid
      AND p.proname = 'get_auth' AND p.prosecdef
      AND p.prosrc = pg_catalog.replace($2, '{me}', me.oid::text)
      AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp']
      AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc WHERE pronamespace = n.oid) = 1
      AND n.nspacl::text[] = ARRAY[m.acl || '=UC/' || m.acl, l.acl || '=U/' || m.acl]
      AND p.proacl::text[] = ARRAY[m.acl || '=X/' || m.acl, l.acl || '=X/' || m.acl]
      AND EXISTS (SELECT FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) g
                  WHERE d.datname = pg_catalog.current_database()
                    AND g.grantee = a.oid AND g.privilege_type = 'CONNECT')"#;

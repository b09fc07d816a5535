//! The role and the function by which PgBouncer looks up passwords.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::{error::Refused, server::Server};
use crate::secret::Secret;

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

    /// Installs `get_auth`, the function of PgBouncer's `auth_query`, in a database, in a schema
    /// named after the auth role.
    ///
    /// The function returns the name and verifier of a role, unless the role is a superuser,
    /// replicates, cannot log in, has expired, or is the auth role itself. The charm replaces a
    /// function that differs in anything: a user who can write into that schema could answer in its
    /// place. A database that does not exist yet gets the function when it is made.
    pub fn install_get_auth(&mut self, database: &str, auth_user: &str) -> Result<(), Refused> {
        let what = format!("install get_auth in database {database}");
        let found = "SELECT FROM pg_catalog.pg_database WHERE datname = $1 AND datallowconn";
        if self.query(&what, found, &[&database])?.is_empty() {
            return Ok(());
        }
        let body = format!(
            "SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid \
             WHERE rolname = $1::name AND rolname::text = $1 \
             AND rolcanlogin AND NOT rolsuper AND NOT rolreplication AND rolname <> {} \
             AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())",
            escape_literal(auth_user)
        );
        if !self.query_in(database, &what, INSTALLED, &[&auth_user, &body])?.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "DROP SCHEMA IF EXISTS {user} CASCADE; CREATE SCHEMA {user}; \
             GRANT USAGE ON SCHEMA {user} TO {user}; \
             CREATE FUNCTION {user}.get_auth(text) RETURNS TABLE (username text, password text) \
             LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {body}; \
             REVOKE ALL ON FUNCTION {user}.get_auth(text) FROM PUBLIC; \
             GRANT EXECUTE ON FUNCTION {user}.get_auth(text) TO {user}; \
             GRANT CONNECT ON DATABASE {database} TO {user}",
            user = escape_identifier(auth_user),
            body = escape_literal(&body),
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
      AND p.proname = 'get_auth' AND p.prosrc = $2 AND p.prosecdef
      AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp']
      AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc WHERE pronamespace = n.oid) = 1
      AND n.nspacl::text[] = ARRAY[m.acl || '=UC/' || m.acl, l.acl || '=U/' || m.acl]
      AND p.proacl::text[] = ARRAY[m.acl || '=X/' || m.acl, l.acl || '=X/' || m.acl]
      AND EXISTS (SELECT FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) g
                  WHERE d.datname = pg_catalog.current_database()
                    AND g.grantee = a.oid AND g.privilege_type = 'CONNECT')"#;

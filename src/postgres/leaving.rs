//! The end of a client's role. It loses its login first and by itself, so that neither a lock that
//! somebody holds nor an object that cannot change its owner delays that. Whatever it owns stays,
//! and goes to roles that nobody can climb by.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::{
    error::Refused,
    heir::{self, ESTATE},
    server::Server,
};

/// How often the charm tries to take the login from a role whose sessions hold a lock on it.
const REVOCATIONS: usize = 3;

impl Server {
    /// Drops a client's role. What it owns in a database of which it may act as the heir goes to
    /// that heir. What it owns elsewhere, and databases, go to a role without members. Databases
    /// stay.
    pub fn drop_client(&mut self, name: &str, comment: &str) -> Result<(), Refused> {
        match self.role(name)? {
            None => Ok(()),
            Some(role) if role.comment.as_deref() != Some(comment) => {
                Err(Refused::not_ours(name, comment))
            }
            Some(_) => self.end_client(name),
        }
    }

    /// Drops the roles whose comment begins with `mark`, except those in `keep`: their relations
    /// ended while PostgreSQL was not there. A role that cannot be dropped does not stop the
    /// others; the error is that of the last one.
    pub fn drop_strays(&mut self, mark: &str, keep: &[String]) -> Result<(), Refused> {
        let what = "look for roles whose relations are gone";
        let mut done = Ok(());
        for row in self.query(what, STRAYS, &[&mark, &keep])? {
            done = self.end_client(row.get(0)).and(done);
        }
        done
    }

    fn end_client(&mut self, name: &str) -> Result<(), Refused> {
        self.revoke_login(name)?;
        let what = format!("drop role {name}");
        let role = escape_identifier(name);
        let databases = self.query(&what, OWN_DATABASES, &[&name])?;
        let mut holdings = Vec::new();
        for database in self.holdings(name, &what)? {
            let heir = self.heir_of(&database, name, &what)?;
            holdings.push((database, heir));
        }
        if !databases.is_empty() || holdings.iter().any(|(_, heir)| heir.is_none()) {
            self.ensure_owner(ESTATE, "owns what former clients left outside their databases", "")?;
        }
        let estate = escape_identifier(ESTATE);
        for database in databases.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()) {
            let database = escape_identifier(database);
            self.batch(what.clone(), &format!("ALTER DATABASE {database} OWNER TO {estate}"))?;
        }
        for (database, heir) in holdings {
            let heir = escape_identifier(heir.as_deref().unwrap_or(ESTATE));
            let mut sql = self.disable_special(&database, name, &what)?;
            sql.push(format!("REASSIGN OWNED BY {role} TO {heir}; DROP OWNED BY {role}"));
            self.batch_in(&database, what.clone(), &sql.join("; "))?;
        }
        self.batch(what, &format!("DROP OWNED BY {role}; DROP ROLE {role}"))
    }

    /// Takes login, password, attributes and every CONNECT from a role, then ends its sessions.
    ///
    /// A session of the role can lock the role's own row by changing its password in a transaction
    /// that it leaves open. Then its sessions end first, and the charm tries again at once.
    fn revoke_login(&mut self, name: &str) -> Result<(), Refused> {
        let what = format!("take the login from role {name}");
        let role = escape_identifier(name);
        let end = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
             WHERE usename = {}",
            escape_literal(name)
        );
        let revoke = format!("ALTER ROLE {role} NOLOGIN NOCREATEDB NOCREATEROLE PASSWORD NULL");
        let mut done = self.batch(what.clone(), &revoke);
        for _ in 1..REVOCATIONS {
            if done.is_ok() {
                break;
            }
            self.batch(what.clone(), &end)?;
            done = self.batch(what.clone(), &revoke);
        }
        done?;
        let databases = self.query(&what, CONNECTS, &[&name])?;
        for database in databases.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()) {
            let database = escape_identifier(database);
            // Its owner may hold a lock on a database; the role cannot log in anyway.
            let _ = self
                .batch(what.clone(), &format!("REVOKE CONNECT ON DATABASE {database} FROM {role}"));
        }
        self.batch(what, &end)
    }

    /// The statements that disable what only a superuser can own, and make ours the owner: REASSIGN
    /// OWNED would fail on it.
    fn disable_special(
        &mut self,
        database: &str,
        role: &str,
        what: &str,
    ) -> Result<Vec<String>, Refused> {
        let mut sql = Vec::new();
        for row in self.query_in(database, what, SPECIAL, &[&role])? {
            let (kind, disable, name): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
            tracing::warn!(
                "disabled {kind} {name} of the removed role {role} in database {database}: only a \
                 superuser can own it; drop it if nobody needs it"
            );
            let object = format!("ALTER {kind} {}", escape_identifier(name));
            if !disable.is_empty() {
                sql.push(format!("{object} {disable}"));
            }
            sql.push(format!("{object} OWNER TO CURRENT_USER"));
        }
        Ok(sql)
    }

    /// The heir of a database, if the role may act as it.
    fn heir_of(
        &mut self,
        database: &str,
        role: &str,
        what: &str,
    ) -> Result<Option<String>, Refused> {
        let names = [true, false].map(|from_16| heir::name(database, from_16));
        let rows = self.query(what, HEIRS, &[&names.as_slice(), &role])?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}

/// The roles whose comment has this prefix, except those given.
const STRAYS: &str = "
    SELECT rolname::text FROM pg_catalog.pg_authid
    WHERE pg_catalog.starts_with(pg_catalog.shobj_description(oid, 'pg_authid'), $1)
      AND NOT rolname = ANY ($2)
    ORDER BY 1";

const OWN_DATABASES: &str = "
    SELECT datname::text FROM pg_catalog.pg_database
    WHERE datdba = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)
    ORDER BY 1";

/// The databases to which a role was granted CONNECT.
const CONNECTS: &str = "
    SELECT DISTINCT d.datname::text
    FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
    WHERE a.privilege_type = 'CONNECT'
      AND a.grantee = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)
    ORDER BY 1";

/// The heirs, of these names, as which a role may act. A superuser is nobody's heir.
const HEIRS: &str = "
    SELECT h.rolname::text FROM pg_catalog.pg_roles h, pg_catalog.pg_roles c
    WHERE h.rolname = ANY ($1) AND c.rolname = $2
      AND pg_catalog.pg_has_role(c.oid, h.oid, 'MEMBER')
      AND NOT (h.rolcanlogin OR h.rolsuper OR h.rolcreatedb OR h.rolcreaterole
               OR h.rolreplication OR h.rolbypassrls)";

/// What a role owns in a database and only a superuser can own: its kind, how it is disabled, and
/// its name.
const SPECIAL: &str = "
    WITH leaving AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)
    SELECT 'EVENT TRIGGER', 'DISABLE', evtname::text FROM pg_catalog.pg_event_trigger
    WHERE evtowner IN (SELECT oid FROM leaving)
    UNION ALL
    SELECT 'FOREIGN DATA WRAPPER', 'NO HANDLER', fdwname::text
    FROM pg_catalog.pg_foreign_data_wrapper WHERE fdwowner IN (SELECT oid FROM leaving)
    UNION ALL
    SELECT 'PUBLICATION', '', pubname::text FROM pg_catalog.pg_publication
    WHERE puballtables AND pubowner IN (SELECT oid FROM leaving)
    UNION ALL
    SELECT 'SUBSCRIPTION', 'DISABLE', subname::text FROM pg_catalog.pg_subscription
    WHERE subowner IN (SELECT oid FROM leaving)
      AND subdbid = (SELECT oid FROM pg_catalog.pg_database
                     WHERE datname = pg_catalog.current_database())";

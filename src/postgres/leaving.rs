//! Removal of a client's role. The role loses its login first, in a transaction of its own, so that
//! no object that cannot change its owner delays this. Then its objects go to roles that cannot log
//! in.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::{
    error::Refused,
    heir::{self, ESTATE, HEIR_PREFIX},
    server::Server,
};

/// The number of attempts to revoke a login. Before each retry the charm ends whatever may lock the
/// role.
const REVOCATIONS: usize = 3;

impl Server {
    /// Drops a client's role. Objects in a database whose heir the role is a member of go to that
    /// heir. Other objects, and databases, go to `pgbouncer_estate`. What only a superuser can own
    /// goes to the charm's superuser. No database is dropped.
    pub fn drop_client(&mut self, name: &str, comment: &str) -> Result<(), Refused> {
        match self.role(name)? {
            None => Ok(()),
            Some(role) if role.is_somebody_elses(comment) => Err(Refused::not_ours(name, comment)),
            // Somebody may have removed the comment.
            Some(role) if role.comment.is_none() && !self.is_any_heirs(name)? => {
                Err(Refused::not_ours(name, comment))
            }
            Some(_) => self.end_client(name),
        }
    }

    /// Drops the roles whose comment begins with `mark`, except those in `keep`: their relations
    /// ended while PostgreSQL was not there. A role that cannot be dropped does not stop the
    /// others; the last failure is returned.
    pub fn drop_strays(&mut self, mark: &str, keep: &[String]) -> Result<(), Refused> {
        let what = "look for roles whose relations are gone";
        let mut done = Ok(());
        for row in self.query(what, STRAYS, &[&mark, &keep])? {
            let Ok(name) = row.try_get(0) else { continue };
            done = self.end_client(name).and(done);
        }
        done
    }

    fn is_any_heirs(&mut self, name: &str) -> Result<bool, Refused> {
        let what = format!("look up the groups of role {name}");
        Ok(!self.query(&what, ANY_HEIR, &[&name, &HEIR_PREFIX])?.is_empty())
    }

    fn end_client(&mut self, name: &str) -> Result<(), Refused> {
        let revoked = self.revoke_login(name);
        let what = format!("drop role {name}");
        let role = escape_identifier(name);
        let databases = self.names(&what, OWN_DATABASES, name)?;
        let mut holdings = Vec::new();
        for database in self.holdings(name, &what)? {
            let heir = self.heir_of(&database, name, &what)?;
            holdings.push((database, heir));
        }
        if !databases.is_empty() || holdings.iter().any(|(_, heir)| heir.is_none()) {
            self.ensure_owner(ESTATE, "owns what former clients left outside their databases", "")?;
        }
        let estate = escape_identifier(ESTATE);
        for database in databases {
            let database = escape_identifier(&database);
            self.batch(what.clone(), &format!("ALTER DATABASE {database} OWNER TO {estate}"))?;
        }
        // A database that fails, such as one that the role locked, does not stop the others.
        let mut done = Ok(());
        for (database, heir) in holdings {
            let heir = escape_identifier(heir.as_deref().unwrap_or(ESTATE));
            let disowned = self.disable_special(&database, name, &what).and_then(|mut sql| {
                sql.push(format!("REASSIGN OWNED BY {role} TO {heir}; DROP OWNED BY {role}"));
                self.batch_in(&database, what.clone(), &sql.join("; "))
            });
            done = disowned.and(done);
        }
        revoked.and(done)?;
        self.batch(what, &format!("DROP OWNED BY {role}; DROP ROLE {role}"))
    }

    /// Revokes login, password and attributes, then members and CONNECT as far as locks permit,
    /// then ends the role's sessions.
    ///
    /// A session can lock the role's own row, by changing the password in a transaction that it
    /// leaves open: the role's own session, one that calls a function of the role, or a prepared
    /// transaction. The charm ends these and tries again at once.
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
            self.batch(what.clone(), &format!("{end}; {END_WRITERS}"))?;
            for row in self.query(&what, PREPARED, &[])? {
                let (Ok(id), Ok(database)) = (row.try_get(0), row.try_get::<_, &str>(1)) else {
                    continue;
                };
                let sql = format!("ROLLBACK PREPARED {}", escape_literal(id));
                self.batch_in(database, what.clone(), &sql)?;
            }
            done = self.batch(what.clone(), &revoke);
        }
        let mut rights = Vec::new();
        for member in self.names(&what, MEMBERS, name)? {
            rights.push(format!("REVOKE {role} FROM {} CASCADE", escape_identifier(&member)));
        }
        for database in self.names(&what, CONNECTS, name)? {
            let database = escape_identifier(&database);
            rights.push(format!("REVOKE CONNECT ON DATABASE {database} FROM {role} CASCADE"));
        }
        for right in rights {
            // A lock on a database may delay this; the role cannot log in anyway.
            let _ = self.batch(what.clone(), &right);
        }
        self.batch(what, &end)?;
        done
    }

    /// The names that a query about a role finds, except those that are not UTF-8.
    fn names(&mut self, what: &str, query: &str, role: &str) -> Result<Vec<String>, Refused> {
        let rows = self.query(what, query, &[&role])?;
        Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
    }

    /// The statements that disable what only a superuser can own, except publications, and make the
    /// charm's superuser the owner: REASSIGN OWNED to the heir would fail on these objects.
    fn disable_special(
        &mut self,
        database: &str,
        role: &str,
        what: &str,
    ) -> Result<Vec<String>, Refused> {
        let mut sql = Vec::new();
        for row in self.query_in(database, what, SPECIAL, &[&role])? {
            let (kind, disable): (&str, &str) = (row.get(0), row.get(1));
            let Ok(name) = row.try_get::<_, &str>(2) else { continue };
            tracing::warn!(
                "{kind} {name} of the removed role {role} in database {database} belongs to our \
                 superuser now, and is disabled if it can be: only a superuser can own it; drop it \
                 if nobody needs it"
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
      AND NOT rolname::text = ANY ($2::text[])
    ORDER BY 1";

const OWN_DATABASES: &str = "
    SELECT datname::text FROM pg_catalog.pg_database
    WHERE datdba = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)
    ORDER BY 1";

/// One row if a role is a member of an heir or, from 16 on, of the administrators of a database.
const ANY_HEIR: &str = "
    SELECT FROM pg_catalog.pg_auth_members m
    JOIN pg_catalog.pg_roles c ON c.oid = m.member AND c.rolname = $1
    JOIN pg_catalog.pg_roles h ON h.oid = m.roleid
    WHERE pg_catalog.starts_with(h.rolname::text, $2) OR h.rolname ~ '^charmed_.*_admin$'
    LIMIT 1";

/// Ends the sessions that are changing roles.
const END_WRITERS: &str = "
    SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_locks
    WHERE relation = 'pg_catalog.pg_authid'::pg_catalog.regclass AND granted
      AND mode = 'RowExclusiveLock' AND pid <> pg_catalog.pg_backend_pid()";

/// The prepared transactions that change roles.
const PREPARED: &str = "
    SELECT p.gid, p.database::text FROM pg_catalog.pg_prepared_xacts p
    JOIN pg_catalog.pg_locks l ON l.virtualtransaction = '-1/' || p.transaction::text
    WHERE l.relation = 'pg_catalog.pg_authid'::pg_catalog.regclass
      AND l.mode = 'RowExclusiveLock'";

/// The members of a role: up to 14 a role may make others its members.
const MEMBERS: &str = "
    SELECT r.rolname::text FROM pg_catalog.pg_auth_members m
    JOIN pg_catalog.pg_roles g ON g.oid = m.roleid AND g.rolname = $1
    JOIN pg_catalog.pg_roles r ON r.oid = m.member";

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
    WHERE h.rolname::text = ANY ($1::text[]) AND c.rolname = $2
      AND pg_catalog.pg_has_role(c.oid, h.oid, 'MEMBER')
      AND NOT (h.rolcanlogin OR h.rolsuper OR h.rolcreatedb OR h.rolcreaterole
               OR h.rolreplication OR h.rolbypassrls)";

/// What a role owns in a database and only a superuser can own: its kind, how it is disabled, and
/// its name. A publication is not disabled.
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

//! The PostgreSQL server behind the pooler: roles, databases, and the function PgBouncer looks passwords up with.

mod clients;
pub mod connection;
mod roles;

use std::{collections::BTreeMap, fmt, time::Duration};

use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::{Config, Row, config::TargetSessionAttrs, types::ToSql};

pub use self::clients::Client;
use self::connection::Connection;
pub use self::roles::Roles;
use crate::secret::Secret;

/// How long one address may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// How long one host may take to be reached and logged in to.
const LOG_IN: Duration = Duration::from_secs(5);

/// How long the server may work on a statement before it gives up itself.
const STATEMENT: Duration = Duration::from_secs(10);

/// How long a statement may wait for what somebody else works on, a dump for example.
const LOCK: Duration = Duration::from_secs(2);

/// Between two looks at `pg_hba.conf`.
const LOOK: Duration = Duration::from_millis(200);

/// How much longer than the server we wait, for the answer to travel.
const TRAVEL: Duration = Duration::from_secs(3);

/// Where the server is and as whom to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Host names or addresses with their ports, tried in order until one takes writes. A host that starts
    /// with `/` is the directory of a Unix socket.
    pub hosts: Vec<(String, u16)>,
    /// A superuser.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The database to begin with.
    pub database: String,
}

/// A version of PostgreSQL: `14.20`, `16.10 (Ubuntu 16.10-0)`, `17beta1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// 10 and later; before that also the second number told a major version.
    pub major: u32,
    /// 0 where it is not told, as for a beta.
    pub minor: u32,
}

impl ServerVersion {
    /// The oldest one whose charm is related to.
    pub const OLDEST: Self = Self { major: 14, minor: 0 };

    /// Whether the charm of this version gives each database roles of its own, and has rules of its own for names.
    pub fn has_catalog_roles(self) -> bool {
        self.major >= 16
    }

    /// Reads the numbers at the beginning of a text; without any it is no version.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().splitn(2, '.').map(|part| {
            part.bytes().take_while(u8::is_ascii_digit).map(char::from).collect::<String>().parse().ok()
        });
        Some(Self { major: numbers.next()??, minor: numbers.next().flatten().unwrap_or(0) })
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A server we are logged in to.
pub struct Server {
    credentials: Credentials,
    connections: BTreeMap<String, Connection>,
}

/// The server does not let us in.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to database {database} of PostgreSQL at {hosts} as {user}: {source}")]
pub struct Unreachable {
    /// All hosts that were tried, with ports.
    pub hosts: String,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// Why not.
    pub source: connection::Error,
}

/// The server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It does not let us in.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The role was made by somebody else.
    #[error(
        "drop or rename role {role} in PostgreSQL: it is not ours, or an earlier revision left it; ours carries \
         the comment \"{comment}\""
    )]
    RoleNotOurs {
        /// The role.
        role: String,
        /// The comment it had to carry.
        comment: String,
    },
    /// A client asked for roles that it cannot have.
    #[error("invalid role(s) for extra user roles: {roles}; remove the relation or ask for others")]
    InvalidRoles {
        /// The roles, with commas between.
        roles: String,
    },
    /// A database of somebody else's making holds what could mislead a superuser.
    #[error(
        "cannot use database {database}: in its schema public are functions or operators that no superuser made, or \
         PostgreSQL's own are gone; ask for another database, or have them removed"
    )]
    Touched {
        /// The database.
        database: String,
    },
    /// A statement failed.
    #[error("cannot {what}: {source}")]
    Statement {
        /// What was to be done, without any secret.
        what: String,
        /// What the server answered.
        source: connection::Error,
    },
}

impl Refused {
    /// Whether the connection is of no use any more.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if source.is_lost())
    }
}

/// What `pg_authid` says of a role.
struct Role {
    verifier: Option<String>,
    plain: bool,
    comment: Option<String>,
}

impl Server {
    /// Logs in.
    pub fn connect(credentials: &Credentials) -> Result<Self, Unreachable> {
        let mut server = Self { credentials: credentials.clone(), connections: BTreeMap::new() };
        server.connection(&credentials.database)?;
        Ok(server)
    }

    /// The server's version, such as `15.18`.
    pub fn server_version(&mut self) -> Result<String, Refused> {
        let rows =
            self.query("tell the version", "SELECT pg_catalog.current_setting('server_version')", &[])?;
        let version: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
        Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// Makes sure of the role PgBouncer looks passwords up as: it can log in and nothing else. One of that
    /// name without any comment, as the Python charm made it, is taken over; one with another comment is not.
    /// A verifier the role has already stays if it `matches` the password.
    pub fn ensure_auth_role(
        &mut self,
        name: &str,
        verifier: &Secret,
        comment: &str,
        matches: &dyn Fn(&str) -> bool,
    ) -> Result<(), Refused> {
        let command = match self.role(name)? {
            Some(role) if role.is_somebody_elses(comment) => return Err(not_ours(name, comment)),
            Some(role) if role.is(matches, comment) => return Ok(()),
            Some(_) => "ALTER",
            None => "CREATE",
        };
        self.batch(
            format!("make role {name}"),
            &format!(
                "{command} ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
                 PASSWORD {verifier}; COMMENT ON ROLE {role} IS {comment}",
                role = escape_identifier(name),
                verifier = escape_literal(verifier.reveal()),
                comment = escape_literal(comment),
            ),
        )
    }

    /// Makes sure of `get_auth` in a database, the function PgBouncer's `auth_query` asks, in a schema named
    /// after the auth user. It tells a role's name and verifier, unless that role is a superuser, replicates,
    /// cannot log in, has expired, or is the auth user itself. What is not exactly so is made anew: whoever
    /// could write into that schema could answer in the function's place. A database that is not there yet
    /// gets it when it is made.
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
            "DROP SCHEMA IF EXISTS {user} CASCADE; CREATE SCHEMA {user}; GRANT USAGE ON SCHEMA {user} TO {user};\
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

    /// Removes the auth role and `get_auth` from wherever it was installed. What others have put into that
    /// schema is not ours to drop: then it stays, and with it the role, and the answer says so.
    pub fn remove_auth(&mut self, name: &str, comment: &str) -> Result<(), Refused> {
        match self.role(name)? {
            None => Ok(()),
            Some(role) if role.is_somebody_elses(comment) => Err(not_ours(name, comment)),
            Some(_) => {
                let schema = escape_identifier(name);
                let function = format!("DROP FUNCTION IF EXISTS {schema}.get_auth(text)");
                self.drop_role(name, &format!("{function}; DROP SCHEMA IF EXISTS {schema};"))
            }
        }
    }

    /// Waits until all these roles are let into their databases, as long as there is patience, which it uses
    /// up. Tells the first role that is not.
    #[expect(clippy::disallowed_methods, reason = "a bounded wait for what PostgreSQL announces to nobody")]
    pub fn await_admission(
        &mut self,
        logins: &[(String, String)],
        patience: &mut Duration,
    ) -> Result<Option<String>, Refused> {
        for (role, database) in logins {
            while !self.admits(role, database)? {
                if patience.is_zero() {
                    return Ok(Some(role.clone()));
                }
                let pause = LOOK.min(*patience);
                std::thread::sleep(pause);
                *patience -= pause;
            }
        }
        Ok(None)
    }

    /// Whether `pg_hba.conf` has a line that could let the role into the database over the network. What it
    /// says in ways that only a login can tell counts as a yes.
    pub fn admits(&mut self, role: &str, database: &str) -> Result<bool, Refused> {
        let what = format!("read the lines of pg_hba.conf for role {role}");
        Ok(!self.query(&what, ADMITS, &[&role, &database])?.is_empty())
    }

    /// Drops a role, and `first` what `sql` says, wherever it owns anything or may do anything.
    fn drop_role(&mut self, name: &str, first: &str) -> Result<(), Refused> {
        let what = format!("drop role {name}");
        // The server knows where that is; what databases share counts to any.
        let rows = self.query(&what, HOLDINGS, &[&name])?;
        let (role, heir) = (escape_identifier(name), escape_identifier(&self.credentials.user));
        let disown = format!("REASSIGN OWNED BY {role} TO {heir}; DROP OWNED BY {role}");
        for row in rows {
            self.batch_in(row.get(0), what.clone(), &format!("{first} {disown}"))?;
        }
        self.batch(what, &format!("{disown}; DROP ROLE {role}"))
    }

    fn role(&mut self, name: &str) -> Result<Option<Role>, Refused> {
        let rows = self.query(&format!("look up role {name}"), ROLE, &[&name])?;
        Ok(rows.first().map(|row| Role { verifier: row.get(0), plain: row.get(1), comment: row.get(2) }))
    }

    /// Runs one statement in the database we began with.
    fn query(&mut self, what: &str, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Refused> {
        let main = self.credentials.database.clone();
        self.query_in(&main, what, sql, values)
    }

    fn query_in(
        &mut self,
        database: &str,
        what: &str,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Refused> {
        let rows = self.connection(database)?.query(sql, values, STATEMENT + TRAVEL);
        rows.map_err(|source| Refused::Statement { what: what.to_owned(), source })
    }

    /// Runs statements as one transaction, in the database we began with.
    fn batch(&mut self, what: String, sql: &str) -> Result<(), Refused> {
        let main = self.credentials.database.clone();
        self.batch_in(&main, what, sql)
    }

    fn batch_in(&mut self, database: &str, what: String, sql: &str) -> Result<(), Refused> {
        let done = self.connection(database)?.simple(sql, STATEMENT + TRAVEL);
        done.map(drop).map_err(|source| Refused::Statement { what, source })
    }

    /// The connection to a database, made when it is first needed.
    fn connection(&mut self, database: &str) -> Result<&mut Connection, Unreachable> {
        if !self.connections.contains_key(database) {
            let opened = self.credentials.open(database)?;
            self.connections.insert(database.to_owned(), opened);
        }
        Ok(self.connections.get_mut(database).expect("it was just put there"))
    }
}

impl Credentials {
    fn open(&self, database: &str) -> Result<Connection, Unreachable> {
        let mut config = Config::new();
        config.user(&self.user).password(self.password.reveal()).dbname(database);
        config.application_name("pgbouncer-k8s").connect_timeout(CONNECT);
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        let (statement, lock) = (STATEMENT.as_millis(), LOCK.as_millis());
        config.options(format!("-c statement_timeout={statement} -c lock_timeout={lock}"));
        for (host, port) in &self.hosts {
            config.host(host).port(*port);
        }
        let limit = LOG_IN * u32::try_from(self.hosts.len()).unwrap_or(1).max(1);
        // PostgreSQL 16 of the charms gives every login another role (its `login_hook`); and what a client
        // made in `public` must not stand in for a function or type that we mean.
        // Not RESET ROLE: that would go back to a role set by ALTER ROLE.
        let begin = "SET ROLE NONE; SET search_path = pg_catalog, pg_temp";
        let opened = Connection::open(&config, limit).and_then(|mut connection| {
            connection.simple(begin, STATEMENT + TRAVEL)?;
            Ok(connection)
        });
        opened.map_err(|source| Unreachable {
            hosts: self
                .hosts
                .iter()
                .map(|(host, port)| format!("{host}:{port}"))
                .collect::<Vec<_>>()
                .join(", "),
            database: database.to_owned(),
            user: self.user.clone(),
            source,
        })
    }
}

impl Role {
    /// Whether it is an auth role with a verifier that `matches`, and this comment.
    fn is(&self, matches: &dyn Fn(&str) -> bool, comment: &str) -> bool {
        self.plain
            && self.verifier.as_deref().is_some_and(matches)
            && self.comment.as_deref() == Some(comment)
    }

    /// Whether its comment says that it was made for something else.
    fn is_somebody_elses(&self, comment: &str) -> bool {
        self.comment.as_deref().is_some_and(|found| found != comment)
    }
}

fn not_ours(role: &str, comment: &str) -> Refused {
    Refused::RoleNotOurs { role: role.to_owned(), comment: comment.to_owned() }
}

const ROLE: &str = "
    SELECT rolpassword,
           rolcanlogin AND NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls),
           pg_catalog.shobj_description(oid, 'pg_authid')
    FROM pg_catalog.pg_authid WHERE rolname = $1";

/// One row if `get_auth` is what it should be, and nobody but us could have put it or anything else there. Access
/// lists have names in quotes where they are not plain (`putid` in PostgreSQL's `acl.c`).
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

/// The lines of `pg_hba.conf` by which a role might get into a database. Regular expressions (16), names in
/// other files and `sameuser` and its like are not worked out: they count.
const ADMITS: &str = "
    SELECT FROM pg_catalog.pg_hba_file_rules r
    WHERE r.error IS NULL AND r.type LIKE 'host%' AND r.auth_method <> 'reject'
      AND EXISTS (SELECT FROM pg_catalog.unnest(r.user_name) u
                  WHERE u IN ('all', $1) OR u ~ '^[/@]'
                     OR EXISTS (SELECT FROM pg_catalog.pg_roles g
                                WHERE u = '+' || g.rolname AND pg_catalog.pg_has_role($1::name, g.oid, 'MEMBER')))
      AND EXISTS (SELECT FROM pg_catalog.unnest(r.database) d
                  WHERE d IN ('all', 'sameuser', 'samerole', 'samegroup', $2) OR d ~ '^[/@]')
    LIMIT 1";

/// The databases in which a role owns anything or has been granted anything.
const HOLDINGS: &str = "
    SELECT DISTINCT d.datname FROM pg_catalog.pg_shdepend s
    JOIN pg_catalog.pg_database d ON d.oid = s.dbid
    JOIN pg_catalog.pg_authid a ON a.oid = s.refobjid
    WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND a.rolname = $1 AND d.datallowconn
    ORDER BY 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers_not_as_text() {
        let version = |text| ServerVersion::parse(text).expect(text);
        assert!(version("14.9") < version("14.16") && version("9.6") < ServerVersion::OLDEST);
        assert!(version("16.10 (Ubuntu 16.10-0ubuntu0.24.04.1)") == ServerVersion { major: 16, minor: 10 });
        assert!(version("17beta1") > version("16.10"));
        for text in ["", "unknown", ".5"] {
            assert_eq!(ServerVersion::parse(text), None, "{text}");
        }
    }
}

//! A server that the charm is logged in to: connections, statements and roles.

use std::{collections::BTreeMap, time::Duration};

use tokio_postgres::{Config, Row, types::ToSql};

use super::{
    connection::Connection,
    credentials::Credentials,
    error::{ConnectionError, Refused, Unreachable},
    guard::Inspection,
    mark,
    method::{AllowedMethods, Method},
};

/// How long one address may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long connecting and logging in to one host may take, with the lookup of its name.
const LOG_IN_LIMIT: Duration = Duration::from_secs(5);

/// The number of hosts that may let this time pass before the charm gives up.
const SILENT_HOSTS: usize = 3;

/// How long a statement may take before the server cancels it.
pub(super) const STATEMENT: Duration = Duration::from_secs(10);

/// How long a statement may wait for a lock of another session, such as a dump.
const LOCK: Duration = Duration::from_secs(2);

/// How much longer than [`STATEMENT`] the charm waits, for the answer to arrive.
pub(super) const TRAVEL: Duration = Duration::from_secs(3);

/// A server that the charm is logged in to.
pub struct Server {
    pub(super) credentials: Credentials,
    connections: BTreeMap<String, Connection>,
}

/// The entry of a role in `pg_authid`.
pub(super) struct Role {
    pub(super) verifier: Option<String>,
    /// The role can log in through PgBouncer.
    pub(super) logs_in: bool,
    plain: bool,
    pub(super) comment: Option<String>,
}

impl Role {
    /// Reads [`ROLE_COLUMNS`], the first columns of a row.
    pub(super) fn of(row: &Row) -> Self {
        Self { verifier: row.get(0), logs_in: row.get(1), plain: row.get(2), comment: row.get(3) }
    }

    /// Whether the role is an auth role with a verifier that `matches` and with this comment.
    pub(super) fn is(&self, matches: &dyn Fn(&str) -> bool, comment: &str) -> bool {
        self.plain
            && self.verifier.as_deref().is_some_and(matches)
            && self.comment.as_deref() == Some(comment)
    }

    /// Whether the role's comment says that it is somebody else's.
    pub(super) fn is_somebody_elses(&self, comment: &str) -> bool {
        self.comment.as_deref().is_some_and(|found| !mark::is_of(found, comment))
    }
}

impl Server {
    /// Logs in.
    pub fn connect(credentials: &Credentials) -> Result<Self, Unreachable> {
        let mut server = Self { credentials: credentials.clone(), connections: BTreeMap::new() };
        server.connection(&credentials.database)?;
        Ok(server)
    }

    /// Whether the charm has logged in by SCRAM, now or before. It then uses nothing weaker.
    pub fn has_used_scram(&self) -> bool {
        self.credentials.methods == AllowedMethods::Scram
    }

    /// The server's version, such as `15.18`.
    pub fn server_version(&mut self) -> Result<String, Refused> {
        let rows = self.query(
            "read the version",
            "SELECT pg_catalog.current_setting('server_version')",
            &[],
        )?;
        let version: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
        Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// The databases in which a role owns or may do anything.
    pub(super) fn holdings(&mut self, role: &str, what: &str) -> Result<Vec<String>, Refused> {
        // Objects that databases share count for any of them.
        let rows = self.query(what, HOLDINGS, &[&role])?;
        Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
    }

    pub(super) fn role(&mut self, name: &str) -> Result<Option<Role>, Refused> {
        let sql = format!("SELECT {ROLE_COLUMNS} FROM pg_catalog.pg_authid WHERE rolname = $1");
        Ok(self.query(&format!("look up role {name}"), &sql, &[&name])?.first().map(Role::of))
    }

    /// Runs one statement in the first database.
    pub(super) fn query(
        &mut self,
        what: &str,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Refused> {
        let main = self.credentials.database.clone();
        self.query_in(&main, what, sql, values)
    }

    pub(super) fn query_in(
        &mut self,
        database: &str,
        what: &str,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Refused> {
        let rows = self.connection(database)?.query(sql, values, STATEMENT + TRAVEL);
        rows.map_err(|source| Refused::Statement { what: what.to_owned(), source })
    }

    /// Runs statements as one transaction in the first database.
    pub(super) fn batch(&mut self, what: String, sql: &str) -> Result<(), Refused> {
        let main = self.credentials.database.clone();
        self.batch_in(&main, what, sql)
    }

    pub(super) fn batch_in(
        &mut self,
        database: &str,
        what: String,
        sql: &str,
    ) -> Result<(), Refused> {
        let done = self.connection(database)?.simple(sql, STATEMENT + TRAVEL);
        done.map(drop).map_err(|source| Refused::Statement { what, source })
    }

    /// The connection to a database, made when it is first needed.
    pub(super) fn connection(&mut self, database: &str) -> Result<&mut Connection, Unreachable> {
        if !self.connections.contains_key(database) {
            let opened = open(&self.credentials, database)?;
            if opened.method() == Some(Method::Scram) {
                self.credentials.methods = AllowedMethods::Scram;
            }
            self.connections.insert(database.to_owned(), opened);
        }
        Ok(self.connections.get_mut(database).expect("it was just put there"))
    }
}

fn open(credentials: &Credentials, database: &str) -> Result<Connection, Unreachable> {
    let inspection = Inspection::new(credentials.methods);
    let mut silent = 0;
    let mut failure = None;
    for (host, port) in &credentials.hosts {
        match open_host(credentials, host, *port, database, &inspection) {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                silent += usize::from(matches!(error, ConnectionError::Silent(_)));
                failure = Some(error);
            }
        }
        if silent == SILENT_HOSTS {
            break;
        }
    }
    let others = match credentials.hosts.len() {
        0 | 1 => String::new(),
        2 => " and another host".to_owned(),
        hosts => format!(" and {} others", hosts - 1),
    };
    let first = credentials.hosts.first().map(|(host, port)| format!("{host}:{port}{others}"));
    Err(Unreachable {
        hosts: first.unwrap_or_default(),
        database: database.to_owned(),
        user: credentials.user.clone(),
        source: failure.unwrap_or(ConnectionError::NoHost),
    })
}

fn open_host(
    credentials: &Credentials,
    host: &str,
    port: u16,
    database: &str,
    inspection: &Inspection,
) -> Result<Connection, ConnectionError> {
    let mut config = Config::new();
    config.user(&credentials.user).password(credentials.password.reveal()).dbname(database);
    config.host(host).port(port).application_name("pgbouncer-k8s").connect_timeout(CONNECT_LIMIT);
    let (statement, lock) = (STATEMENT.as_millis(), LOCK.as_millis());
    // Options of a connection come before the settings of a role or database. A library, such as
    // `login_hook` of PostgreSQL 16's charm, could run what the owner of the database wrote.
    config.options(format!(
        "-c statement_timeout={statement} -c lock_timeout={lock} -c idle_session_timeout=0 \
         -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off \
         -c session_preload_libraries= -c local_preload_libraries="
    ));
    // RESET ROLE would return to a role set by ALTER ROLE. A client's object in `public` must not
    // stand in for a function or type of PostgreSQL.
    let begin = format!(
        "SET ROLE NONE; SET search_path = pg_catalog, pg_temp; {UNLOGGED}; \
         SELECT current_setting('transaction_read_only')"
    );
    let mut connection =
        Connection::open_inspected(&config, &credentials.tls, inspection, LOG_IN_LIMIT)?;
    let rows = connection.simple(&begin, STATEMENT + TRAVEL)?;
    // A replica; another host may be the primary.
    if rows.last().and_then(|row| row.get(0)) == Some("on") {
        return Err(ConnectionError::ReadOnly);
    }
    Ok(connection)
}

/// Keeps statements, which may hold verifiers, out of the server's log and views.
const UNLOGGED: &str = "
    SET track_activities = off; SET log_statement = 'none'; SET log_min_error_statement = 'panic';
    SET log_min_duration_statement = -1;
    SELECT set_config('pg_stat_statements.track_utility', 'off', false)
    WHERE current_setting('pg_stat_statements.track_utility', true) IS NOT NULL";

/// The columns of a role in `pg_authid`.
pub(super) const ROLE_COLUMNS: &str = "rolpassword,
           rolcanlogin AND NOT rolsuper AND NOT rolreplication AND rolconnlimit <> 0
               AND coalesce(rolvaliduntil, 'infinity') > pg_catalog.now(),
           rolcanlogin AND NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication
                                OR rolbypassrls),
           pg_catalog.shobj_description(oid, 'pg_authid')";

/// The databases in which a role owns anything or has any rights.
const HOLDINGS: &str = "
    SELECT DISTINCT d.datname::text FROM pg_catalog.pg_shdepend s
    JOIN pg_catalog.pg_database d ON d.oid = s.dbid
    JOIN pg_catalog.pg_authid a ON a.oid = s.refobjid
    WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND a.rolname = $1
      AND d.datallowconn
    ORDER BY 1";

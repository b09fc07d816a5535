//! What a server lacks for clients that have their credentials, seen by one statement whatever the
//! number of clients.

use std::fmt;

use super::{
    client::{DATABASES_OWNER, INSTANCE_ROLES},
    error::Refused,
    heir,
    server::Server,
};

/// What a client should find in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of its role.
    pub role: String,
    /// The name of its database.
    pub database: String,
}

/// What a client lacks in PostgreSQL although it has its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The database.
    Database,
    /// The role.
    Role,
    /// Privacy of the database: every role may connect.
    Privacy,
    /// A login through PgBouncer: LOGIN, unexpired, a connection limit other than 0, no superuser,
    /// no replication.
    Login,
    /// The right to connect to the database.
    Connect,
    /// Membership in the role that owns what is in the database.
    Heir,
    /// The comment that marks the role as this charm's.
    Comment,
}

impl Lack {
    /// In the order of the columns of [`LACKS`].
    const ALL: [Self; 7] = [
        Self::Database,
        Self::Role,
        Self::Privacy,
        Self::Login,
        Self::Connect,
        Self::Heir,
        Self::Comment,
    ];
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "its database is gone",
            Self::Role => "its role is gone",
            Self::Privacy => "every role may connect to its database",
            Self::Login => "its role cannot log in through PgBouncer",
            Self::Connect => "its role may not connect to its database",
            Self::Heir => "its role is no member of the owner of its database's content",
            Self::Comment => "its role has no comment",
        })
    }
}

impl Server {
    /// The first thing that each client lacks, in the order of `places`; `None` for a client that
    /// lacks nothing.
    pub fn lacks(&mut self, places: &[Place]) -> Result<Vec<Option<Lack>>, Refused> {
        let roles: Vec<&str> = places.iter().map(|place| place.role.as_str()).collect();
        let databases: Vec<&str> = places.iter().map(|place| place.database.as_str()).collect();
        let heirs: Vec<String> = databases.iter().map(|name| heir::name(name, false)).collect();
        let rows = self.query(
            "look at the clients",
            LACKS,
            &[&roles, &databases, &heirs, &INSTANCE_ROLES.as_slice(), &DATABASES_OWNER],
        )?;
        let first = |row: &tokio_postgres::Row| {
            let mut lacks = Lack::ALL.into_iter().enumerate();
            lacks.find_map(|(column, lack)| row.get::<_, bool>(column).then_some(lack))
        };
        Ok(rows.iter().map(first).collect())
    }
}

/// One row for each place, one column for each [`Lack`]. A member of [`INSTANCE_ROLES`] needs no
/// heir.
const LACKS: &str = "
    SELECT d.oid IS NULL, a.oid IS NULL,
           coalesce(pg_catalog.has_database_privilege('public', d.oid, 'CONNECT'), false),
           NOT coalesce(a.rolcanlogin AND NOT a.rolsuper AND NOT a.rolreplication
                        AND a.rolconnlimit <> 0
                        AND coalesce(a.rolvaliduntil, 'infinity') > pg_catalog.now(), false),
           NOT coalesce(pg_catalog.has_database_privilege(a.oid, d.oid, 'CONNECT'), false),
           NOT coalesce(pg_catalog.pg_has_role(a.oid, h.oid, 'MEMBER'), false)
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE g.rolname = ANY ($4)
                               AND pg_catalog.pg_has_role(a.oid, g.oid, 'MEMBER')),
           pg_catalog.shobj_description(a.oid, 'pg_authid') IS NULL
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]),
                    pg_catalog.unnest($3::text[]))
        WITH ORDINALITY AS place (role, database, heir, number)
    LEFT JOIN pg_catalog.pg_authid a ON a.rolname = place.role
    LEFT JOIN pg_catalog.pg_database d ON d.datname = place.database
    LEFT JOIN pg_catalog.pg_authid h ON h.rolname = CASE
        WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $5)
        THEN 'charmed_' || place.database || '_owner' ELSE place.heir END
    ORDER BY place.number";

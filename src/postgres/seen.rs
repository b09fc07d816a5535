//! What a server lacks for clients that have their credentials, seen by one statement whatever the
//! number of clients.

use std::fmt;

use super::{
    client::{ACCESS, DATABASES_OWNER, INSTANCE_ROLES},
    error::Refused,
    heir,
    lookup::HAS_FUNCTION,
    mark::{
        DIGEST, RECORD, RECORDED_DATABASE, RECORDED_DIGEST, RECORDED_ROLES, RECORDED_WORKS_AS,
        WORKS_AS, has_role,
    },
    server::Server,
};

/// What a client should find in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of its role.
    pub role: String,
    /// The name of its database.
    pub database: String,
    /// The beginning of the comment on its role, which says whose the role is.
    pub comment: String,
}

/// What a client lacks in PostgreSQL although it has its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The database.
    Database,
    /// A database that accepts connections.
    Open,
    /// A database whose owner can be trusted.
    Owner,
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
    /// The comment with the record of what the charm gave to the role.
    Comment,
    /// The password that the charm gave to the role.
    Password,
    /// The database that the charm made or found, instead of another one of the same name.
    Original,
    /// The role as which it works in its database.
    WorksAs,
    /// An attribute or a group.
    Roles,
    /// The function `get_auth` in its database, where PgBouncer calls it there.
    GetAuth,
    /// Ownership of, or privileges on, what former clients and other roles left in its database.
    Content,
}

impl Lack {
    /// In the order of the columns of [`lacks`].
    const ALL: [Self; 14] = [
        Self::Database,
        Self::Open,
        Self::Owner,
        Self::Role,
        Self::Privacy,
        Self::Login,
        Self::Connect,
        Self::Heir,
        Self::Comment,
        Self::Password,
        Self::Original,
        Self::WorksAs,
        Self::Roles,
        Self::GetAuth,
    ];
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "its database is gone",
            Self::Open => "its database accepts no connections",
            Self::Owner => "its database has another owner",
            Self::Role => "its role is gone",
            Self::Privacy => "every role may connect to its database",
            Self::Login => "its role cannot log in through PgBouncer",
            Self::Connect => "its role may not connect to its database",
            Self::Heir => "its role is no member of the owner of its database's content",
            Self::Comment => "its role has no comment of this revision",
            Self::Password => "its role has another password",
            Self::Original => "its database was made anew",
            Self::WorksAs => "its role works as another role",
            Self::Roles => "its role lost an attribute or a group",
            Self::GetAuth => "its database has no get_auth of this charm",
            Self::Content => "its database has objects that it cannot use",
        })
    }
}

impl Server {
    /// The first thing that each client lacks, in the order of `places`; `None` for a client that
    /// lacks nothing. `auth_user` may call `get_auth` in each client's database, if PgBouncer looks
    /// up passwords there.
    pub fn lacks(
        &mut self,
        places: &[Place],
        auth_user: Option<&str>,
    ) -> Result<Vec<Option<Lack>>, Refused> {
        let roles: Vec<&str> = places.iter().map(|place| place.role.as_str()).collect();
        let databases: Vec<&str> = places.iter().map(|place| place.database.as_str()).collect();
        let comments: Vec<&str> = places.iter().map(|place| place.comment.as_str()).collect();
        let heirs: Vec<String> = databases.iter().map(|name| heir::name(name, false)).collect();
        let rows = self.query(
            "look at the clients",
            &lacks(),
            &[
                &roles,
                &databases,
                &heirs,
                &comments,
                &INSTANCE_ROLES.as_slice(),
                &DATABASES_OWNER,
                &auth_user,
            ],
        )?;
        let first = |row: &tokio_postgres::Row| {
            let mut lacks = Lack::ALL.into_iter().enumerate();
            lacks.find_map(|(column, lack)| row.get::<_, bool>(column).then_some(lack))
        };
        Ok(rows.iter().map(first).collect())
    }

    /// Adds [`Lack::Content`] for clients that lack nothing else. Looks into the database of each;
    /// one that cannot be looked into adds nothing.
    pub fn add_lacks_of_content(
        &mut self,
        places: &[Place],
        lacks: &mut [Option<Lack>],
    ) -> Result<(), Refused> {
        let what = "look for the roles of PostgreSQL's charm";
        let from_16 = !self.query(what, CATALOG_ROLES, &[&DATABASES_OWNER])?.is_empty();
        for (place, lack) in places.iter().zip(lacks).filter(|(_, lack)| lack.is_none()) {
            let has_legacy = self.has_legacy(&place.database, from_16).unwrap_or_default();
            *lack = has_legacy.then_some(Lack::Content);
        }
        Ok(())
    }
}

const CATALOG_ROLES: &str = "SELECT FROM pg_catalog.pg_roles WHERE rolname = $1";

/// One row for each place, one column for each [`Lack`]. A member of [`INSTANCE_ROLES`] needs no
/// heir. The record in the comment is that of [`mark`](super::mark).
fn lacks() -> String {
    let has_role = has_role();
    format!(
        "SELECT d.oid IS NULL,
           NOT coalesce(d.datallowconn AND d.datconnlimit NOT IN (0, -2), false),
           NOT coalesce(o.rolsuper OR o.rolname = $6, false), a.oid IS NULL,
           coalesce(pg_catalog.has_database_privilege('public', d.oid, 'CONNECT'), false),
           NOT coalesce(a.rolcanlogin AND NOT a.rolsuper AND NOT a.rolreplication
                        AND a.rolconnlimit <> 0
                        AND coalesce(a.rolvaliduntil, 'infinity') > pg_catalog.now(), false),
           NOT coalesce(pg_catalog.has_database_privilege(a.oid, d.oid, 'CONNECT'), false),
           NOT coalesce(a.rolinherit, false) OR i.needs_heir
               AND NOT coalesce(pg_catalog.pg_has_role(a.oid, h.oid, 'MEMBER'), false),
           NOT coalesce(pg_catalog.starts_with(c, place.comment || '{RECORD}'), false),
           coalesce({RECORDED_DIGEST} <> {DIGEST}, false),
           coalesce({RECORDED_DATABASE} <> d.oid::text, false),
           coalesce({RECORDED_WORKS_AS} <> {WORKS_AS}, false),
           EXISTS (SELECT FROM pg_catalog.string_to_table(
                       nullif({RECORDED_ROLES}, ''), ',') r
                   WHERE NOT {has_role})
               OR EXISTS (SELECT FROM pg_catalog.pg_roles g
                          WHERE (g.rolname = '{ACCESS}' OR i.needs_heir
                                 AND g.rolname = 'charmed_' || place.database || '_dml')
                            AND NOT g.rolcanlogin
                            AND NOT pg_catalog.pg_has_role(a.oid, g.oid, 'MEMBER')),
           $7::text IS NOT NULL AND NOT {HAS_FUNCTION}
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]),
                    pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]))
        WITH ORDINALITY AS place (role, database, heir, comment, number)
    JOIN pg_catalog.pg_roles me ON me.rolname = current_user
    LEFT JOIN pg_catalog.pg_roles auth ON auth.rolname::text = $7
    LEFT JOIN pg_catalog.pg_authid a ON a.rolname = place.role
    LEFT JOIN pg_catalog.pg_database d ON d.datname = place.database
    LEFT JOIN pg_catalog.pg_roles o ON o.oid = d.datdba
    LEFT JOIN pg_catalog.pg_authid h ON h.rolname = CASE
        WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $6)
        THEN 'charmed_' || place.database || '_owner' ELSE place.heir END
    CROSS JOIN LATERAL pg_catalog.shobj_description(a.oid, 'pg_authid') c
    CROSS JOIN LATERAL (SELECT NOT EXISTS (
        SELECT FROM pg_catalog.pg_roles g WHERE g.rolname = ANY ($5)
            AND pg_catalog.pg_has_role(a.oid, g.oid, 'MEMBER')) AS needs_heir) i
    ORDER BY place.number"
    )
}

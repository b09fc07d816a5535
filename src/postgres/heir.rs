//! The common owner of what clients make in a database: a group role without login.
//!
//! A client's relation may end and be created again, and several clients may use one database, also
//! through different poolers. As members of the heir all of them may do with its objects, of any
//! kind, what an owner may. The heir owns what is *in* the database. It never owns the database
//! itself, whose owner may let other users in, and it never has an attribute, because its members'
//! functions run as the heir (`SECURITY DEFINER`).

use postgres_protocol::escape::{escape_identifier, escape_literal};
use sha2::{Digest as _, Sha256};

use super::{
    client::{ACCESS, Client},
    error::Refused,
    server::Server,
};

/// The prefix of the name of an heir. No client may ask for a role with this prefix.
pub(super) const HEIR_PREFIX: &str = "pgbouncer_heir_";

/// The role that owns what clients leave outside the databases that they asked for. It never has
/// members, so nobody can act as the owner.
pub(super) const ESTATE: &str = "pgbouncer_estate";

/// The beginning of the comment on every role that this charm makes, in any model.
const COMMENT: &str = "pgbouncer-k8s: ";

/// The name of a database's heir, from the database's name alone, so that each pooler finds the
/// same heir. From 16 on the owner that PostgreSQL's charm gives each database is the heir.
pub(super) fn name(database: &str, has_catalog_roles: bool) -> String {
    if has_catalog_roles {
        return format!("charmed_{database}_owner");
    }
    let hash = Sha256::digest(database);
    let half = u128::from_be_bytes(*hash.first_chunk().expect("SHA-256 has 32 bytes"));
    format!("{HEIR_PREFIX}{half:032x}")
}

impl Server {
    /// Creates a group role that owns objects, or checks that the existing role is safe: a role
    /// that can log in, has attributes, groups or foreign members would let others act as every
    /// client of the database. First revokes memberships that clients forced on the role. `besides`
    /// may be a member without a comment.
    pub(super) fn ensure_owner(
        &mut self,
        role: &str,
        comment: &str,
        besides: &str,
    ) -> Result<(), Refused> {
        let what = format!("make role {role}");
        // A client that made an heir its member would keep every other client of that database out.
        self.revoke_forced(role, &what)?;
        let members = (role != ESTATE).then_some(COMMENT);
        match self.query(&what, OWNER, &[&role, &members, &besides])?.first().map(|row| row.get(0))
        {
            Some(true) => Ok(()),
            Some(false) => Err(Refused::NoHeir { role: role.to_owned() }),
            None => {
                let name = escape_identifier(role);
                let comment = escape_literal(&format!("{COMMENT}{comment}"));
                self.batch(
                    what,
                    &format!("CREATE ROLE {name}; COMMENT ON ROLE {name} IS {comment}"),
                )
            }
        }
    }

    /// Whether a database has objects that the heir is to get, or privileges that it lacks.
    pub(super) fn has_legacy(&mut self, database: &str, from_16: bool) -> Result<bool, Refused> {
        let share = if from_16 { String::new() } else { format!(" OR EXISTS ({SHARE})") };
        let adopt = ADOPT
            .replace("current_setting('our.comment')", "$2")
            // All clients have their comment.
            .replace("current_setting('our.client')", "''");
        let sql = format!("SELECT EXISTS ({adopt}){share} FROM (SELECT $1::text AS heir) h");
        let (what, heir) = (format!("look into database {database}"), name(database, from_16));
        let rows = self.query_in(database, &what, &sql, &[&heir, &COMMENT])?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Ends the memberships of a group in clients; returns whether there was one. Up to 14 a role
    /// may make others its members.
    pub(super) fn revoke_forced(&mut self, role: &str, what: &str) -> Result<bool, Refused> {
        let rows = self.query(what, FORCED, &[&role, &COMMENT])?;
        for row in &rows {
            let group = escape_identifier(row.get(0));
            let sql = format!("REVOKE {group} FROM {} CASCADE", escape_identifier(role));
            self.batch(what.to_owned(), &sql)?;
        }
        Ok(!rows.is_empty())
    }

    /// Whether a client may act as the heir of its database.
    pub(super) fn has_heir(&mut self, client: &Client, heir: &str) -> Result<bool, Refused> {
        let what = format!("look up the members of role {heir}");
        Ok(!self.query(&what, MEMBER, &[&client.role, &heir])?.is_empty())
    }
}

/// The statements that make a client the member of its heir, up to 15, and give the heir what the
/// client is to share. They run in the client's database, in one transaction.
///
/// - A client without attributes and other groups works as the heir (`ALTER ROLE ... SET role`,
///   which survives the reset of a session), so that the heir owns whatever the client makes. Any
///   other client would lose its attributes and groups in such a session. The client owns what it
///   makes until the next client comes or it leaves; the heir may use these objects.
/// - The heir becomes the owner of what clients own there, of what our own superuser owns, because
///   earlier revisions and the Python charm kept it there for former clients, and of the schema
///   `public`.
/// - The heir may use what other roles own.
pub(super) fn settle(client: &Client, heir: &str) -> Vec<String> {
    let (role, owner) = (escape_identifier(&client.role), escape_identifier(heir));
    let database = escape_identifier(&client.database);
    vec![
        format!("GRANT {owner} TO {role}"),
        format!("GRANT CREATE, TEMPORARY ON DATABASE {database} TO {owner}"),
        names(&client.role, heir),
        WORK_AS_HEIR.to_owned(),
        run_each(ADOPT),
        run_each(SHARE),
    ]
}

/// The statements that give the heir, from 16 on, what our own superuser owns in its database for
/// former clients.
pub(super) fn adopt(client: &Client, heir: &str) -> Vec<String> {
    vec![names(&client.role, heir), run_each(ADOPT)]
}

/// The statement that passes names to the `DO` blocks as settings: inside a block a name could end
/// the quotes. Each locked object costs the blocks little of their time.
fn names(client: &str, heir: &str) -> String {
    let (client, heir) = (escape_literal(client), escape_literal(heir));
    let comment = escape_literal(COMMENT);
    format!(
        "SELECT set_config('our.client', {client}, true), set_config('our.heir', {heir}, true), \
         set_config('our.comment', {comment}, true), set_config('our.access', '{ACCESS}', true), \
         set_config('lock_timeout', '200ms', true)"
    )
}

/// The statement that runs each statement that a query returns. A statement that fails does not
/// stop the others: one object must not keep a client from all others.
fn run_each(query: &str) -> String {
    format!(
        "DO $$
         DECLARE
             statement text;
             heir text := current_setting('our.heir');
         BEGIN
             FOR statement IN {query} LOOP
                 BEGIN
                     EXECUTE statement;
                 EXCEPTION WHEN OTHERS THEN
                     NULL;
                 END;
             END LOOP;
         END $$"
    )
}

/// Whether a role can own what clients share: it cannot log in, has no attribute, is a member of
/// nothing, and each of its members has a comment with the prefix `$2`. `$3` is a member that may
/// lack the comment. If `$2` is NULL, no other member is allowed.
const OWNER: &str = "
    SELECT NOT (rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication
                OR rolbypassrls)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = a.oid)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m
                       JOIN pg_catalog.pg_roles r ON r.oid = m.member AND r.rolname <> $3
                       WHERE m.roleid = a.oid AND NOT coalesce(pg_catalog.starts_with(
                           pg_catalog.shobj_description(m.member, 'pg_authid'), $2), false))
    FROM pg_catalog.pg_authid a WHERE rolname = $1";

/// The clients that a group is a member of, and for an heir also other roles with this charm's
/// comment prefix. A login role is no group: a client is a member of its heir.
const FORCED: &str = "
    SELECT g.rolname::text FROM pg_catalog.pg_auth_members m
    JOIN pg_catalog.pg_roles r ON r.oid = m.member AND r.rolname = $1 AND NOT r.rolcanlogin
    JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
    WHERE pg_catalog.starts_with(pg_catalog.shobj_description(g.oid, 'pg_authid'), $2)
      AND (g.rolcanlogin OR r.rolname ~ '^pgbouncer_')";

const MEMBER: &str = "
    SELECT FROM pg_catalog.pg_roles c, pg_catalog.pg_roles h
    WHERE c.rolname = $1 AND h.rolname = $2 AND NOT c.rolsuper
      AND pg_catalog.pg_has_role(c.oid, h.oid, 'MEMBER')";

const WORK_AS_HEIR: &str = "
    DO $$
    DECLARE
        client text := current_setting('our.client');
        heir text := current_setting('our.heir');
        kind text;
    BEGIN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = client
                   AND NOT (rolcreatedb OR rolcreaterole OR rolbypassrls OR rolreplication))
           AND NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                           WHERE m.member = (SELECT oid FROM pg_roles WHERE rolname = client)
                             AND g.rolname NOT IN (heir, current_setting('our.access')))
        THEN
            EXECUTE format('ALTER ROLE %I IN DATABASE %I SET role = %L',
                           client, current_database(), heir);
            RETURN;
        END IF;
        FOREACH kind IN ARRAY ARRAY['TABLES', 'SEQUENCES', 'ROUTINES', 'TYPES', 'SCHEMAS'] LOOP
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT ALL ON %s TO %I',
                           client, kind, heir);
        END LOOP;
    END $$";

/// Statements that make the heir the owner of what the charm's superuser and the heir's members
/// own. Exceptions:
///
/// - objects of extensions and of the lookup of a pooler;
/// - foreign-data wrappers, event triggers and publications of all tables, which only a superuser
///   can own;
/// - functions of event triggers, and of triggers on tables of other owners, who would run the
///   client's code;
/// - an object that is locked: the next run tries again.
const ADOPT: &str = "
        WITH givers AS (
                 SELECT oid FROM pg_roles WHERE rolname = current_user UNION
                 SELECT m.member FROM pg_auth_members m
                 JOIN pg_roles h ON h.oid = m.roleid AND h.rolname = heir
                 WHERE starts_with(shobj_description(m.member, 'pg_authid'),
                                   current_setting('our.comment'))
                     -- A client of the Python charm gets its comment at the end.
                     OR m.member IN (SELECT oid FROM pg_roles
                                     WHERE rolname = current_setting('our.client'))),
             others AS (
                 SELECT evtfoid AS oid FROM pg_event_trigger UNION
                 SELECT tgfoid FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
                 WHERE relowner NOT IN (SELECT oid FROM givers)
                     AND relowner <> (SELECT oid FROM pg_roles WHERE rolname = heir))
        SELECT format('ALTER %s %s OWNER TO %I',
                      replace(o.type, 'statistics object', 'statistics'), o.identity, heir)
        FROM pg_shdepend d
        JOIN pg_database b ON b.oid = d.dbid AND b.datname = current_database()
        CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) o
        WHERE d.deptype = 'o' AND d.refclassid = 'pg_authid'::regclass
            AND d.refobjid IN (SELECT oid FROM givers)
            AND o.type NOT IN ('default acl', 'event trigger', 'extension', 'foreign-data wrapper',
                               'user mapping')
            AND NOT (d.classid = 'pg_publication'::regclass
                     AND d.objid IN (SELECT oid FROM pg_publication WHERE puballtables))
            AND coalesce(o.schema, '') !~ '^(pg_|pgbouncer_auth_)'
            AND NOT (o.type = 'schema' AND o.name ~ '^pgbouncer_auth_')
            AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid
                            AND e.objid = d.objid AND e.deptype = 'e')
            -- A sequence of a column goes with its table, a multirange with its range.
            AND NOT (o.type = 'sequence' AND EXISTS (SELECT FROM pg_depend e
                     WHERE e.classid = d.classid AND e.objid = d.objid
                       AND e.deptype IN ('a', 'i')))
            AND NOT EXISTS (SELECT FROM pg_type t WHERE d.classid = 'pg_type'::regclass
                            AND t.oid = d.objid AND t.typtype = 'm')
            AND NOT (d.classid = 'pg_proc'::regclass
                     AND d.objid IN (SELECT oid FROM others))
        UNION ALL
        SELECT format('ALTER SCHEMA public OWNER TO %I', heir)
        FROM pg_namespace n JOIN pg_roles r ON r.oid = nspowner
        WHERE nspname = 'public' AND (r.rolsuper OR r.rolname = 'pg_database_owner')
            AND heir NOT LIKE 'charmed\\_%'";

/// Statements that grant the heir the privileges that it lacks on what other roles own, but not
/// those by which a client could act as a powerful owner. A client must not reach through what such
/// a role made for somebody else: a view or a `SECURITY DEFINER` function reads and does what its
/// owner may, and a trigger or an object in a schema that the owner uses would run the client's
/// code as the owner.
const SHARE: &str = "
        WITH me AS (SELECT oid FROM pg_roles WHERE rolname = heir),
             schemas AS (SELECT oid, nspname, nspowner FROM pg_namespace
                         WHERE nspname <> 'information_schema'
                           AND nspname !~ '^(pg_|pgbouncer_auth_)'),
             powerful AS (SELECT r.oid FROM pg_roles r
                 WHERE rolsuper OR rolcreaterole OR rolbypassrls OR rolreplication
                     OR EXISTS (SELECT FROM pg_roles p
                                WHERE p.rolname ~ '^pg_' AND p.rolname <> 'pg_database_owner'
                                    AND pg_has_role(r.oid, p.oid, 'MEMBER'))),
             bound AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
        SELECT format('GRANT %s ON SCHEMA %I TO %I', list, nspname, heir)
        FROM schemas CROSS JOIN LATERAL (SELECT
            CASE WHEN nspowner IN (SELECT oid FROM powerful) THEN 'USAGE'
                ELSE 'USAGE, CREATE' END) l (list)
        WHERE nspowner NOT IN (SELECT oid FROM me)
            AND ('pg_namespace'::regclass, oid) NOT IN (SELECT classid, objid FROM bound)
            AND NOT (SELECT bool_and(has_schema_privilege(heir::name, oid, p))
                     FROM unnest(string_to_array(list, ', ')) p)
        UNION ALL
        SELECT format('GRANT %s ON %s %I.%I TO %I', CASE WHEN is_partial THEN list ELSE 'ALL' END,
                      CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                      nspname, relname, heir)
        FROM pg_class c JOIN schemas s ON s.oid = relnamespace
        CROSS JOIN LATERAL (
            SELECT relkind <> 'S' AND relowner IN (SELECT oid FROM powerful)) k (is_partial)
        CROSS JOIN LATERAL (SELECT
            CASE WHEN relkind = 'S' THEN 'USAGE, SELECT, UPDATE'
                WHEN is_partial THEN 'SELECT, INSERT, UPDATE, DELETE'
                ELSE 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'
            END) l (list)
        WHERE relkind IN ('r', 'p', 'f', 'm', 'S', 'v')
            AND relowner NOT IN (SELECT oid FROM me)
            AND NOT (relkind IN ('v', 'm', 'f') AND relowner IN (SELECT oid FROM powerful))
            AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM bound)
            AND NOT (SELECT bool_and(CASE relkind
                         WHEN 'S' THEN has_sequence_privilege(heir::name, c.oid, p)
                         ELSE has_table_privilege(heir::name, c.oid, p) END)
                     FROM unnest(string_to_array(list, ', ')) p)
        UNION ALL
        SELECT format('GRANT ALL ON ROUTINE %s TO %I', p.oid::regprocedure, heir)
        FROM pg_proc p JOIN schemas s ON s.oid = pronamespace
        WHERE proowner NOT IN (SELECT oid FROM me)
            AND NOT (prosecdef AND proowner IN (SELECT oid FROM powerful))
            AND ('pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM bound)
            AND NOT has_function_privilege(heir::name, p.oid, 'EXECUTE')";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_heir_is_named_by_its_database_alone_and_like_no_user_of_the_charms() {
        let long = "ü".repeat(31);
        for database in ["shop", "a_user_b_c", "x", long.as_str()] {
            let name = name(database, false);
            assert!(name.len() <= 63 && name.starts_with(HEIR_PREFIX), "{name}");
            assert!(!name.contains("user") && !name.starts_with("relation_id_"), "{name}");
        }
        assert_eq!(name("shop", false), "pgbouncer_heir_8d9001d32c6a703d95921a77115050f3");
        assert_eq!(name("shop", true), "charmed_shop_owner");
    }
}

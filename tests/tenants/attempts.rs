//! The tables of the matrix: which roles a tenant asks for, what it tries before and after its
//! relation ends, and which attempts succeed.
//!
//! In statements `‹me›` is the role that tries, `‹tenant›` the one that leaves, `‹other›` the other
//! client of the database, `‹heir›` the owner of the other database `victim`, `‹auth›` the role and
//! the schema of the lookup, and `‹mine›` the verifier of a password that the tenant chose.

use std::ops::RangeInclusive;

/// What a tenant tries, and the statement that succeeds if it can.
pub(super) type Attempt = (&'static str, &'static str);

/// What a tenant leaves behind, the versions on which some tenant can, and the statements.
pub(super) type Preparation = (&'static str, RangeInclusive<u32>, &'static str);

/// What a client may ask for up to 15, each also with `createdb`: on a server as its charm sets it
/// up, with a group `accounting` that an operator made.
pub(super) const TO_15: [&str; 11] = [
    "",
    "accounting",
    "admin",
    "createrole",
    "identity_access",
    "internal_access",
    "pg_monitor",
    "pg_read_all_settings",
    "pg_read_all_stats",
    "pg_stat_scan_tables",
    "relation_access",
];

/// What a client may ask for from 16 on.
pub(super) const FROM_16: [&str; 7] = [
    "",
    "createdb",
    "charmed_admin",
    "charmed_admin,createdb",
    "charmed_dml",
    "charmed_read",
    "charmed_stats",
];

/// What a superuser makes in every database that a client asks for.
pub(super) const OPERATORS: &str = "
    CREATE SCHEMA ops; GRANT USAGE ON SCHEMA ops TO PUBLIC; CREATE TABLE ops.data (line text);
    CREATE FUNCTION ops.job() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION ops.bytes(int) RETURNS bytea LANGUAGE sql AS 'SELECT NULL::bytea';
    CREATE FUNCTION ops.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE FUNCTION ops.event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'";

/// Tried in the tenant's own database, in each role that it can take; and again by the client that
/// stays or comes after it. A superuser can do all of it.
pub(super) const ATTEMPTS: [Attempt; 46] = [
    // Become a superuser.
    ("take the superuser's role", "SET ROLE operator"),
    ("take the charm's role", "SET ROLE relation_id_4"),
    ("take the superuser's session", "SET SESSION AUTHORIZATION operator"),
    ("become a superuser", "ALTER ROLE ‹me› SUPERUSER"),
    ("replicate", "ALTER ROLE ‹me› REPLICATION"),
    ("bypass row security", "ALTER ROLE ‹me› BYPASSRLS"),
    ("make a superuser", "CREATE ROLE pwned SUPERUSER"),
    ("join the superuser", "GRANT operator TO ‹me›"),
    ("join those who run programs", "GRANT pg_execute_server_program TO ‹me›"),
    ("run a program", "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null'"),
    ("write pg_authid", "UPDATE pg_authid SET rolsuper = true WHERE rolname = '‹me›'"),
    ("set the superuser's password", "ALTER ROLE operator PASSWORD '‹mine›'"),
    ("set the superuser's search path", "ALTER ROLE operator SET search_path = public"),
    ("set every role's search path", "ALTER ROLE ALL SET search_path = public"),
    (
        "call a function of the server's binary",
        "CREATE FUNCTION ops.c(text) RETURNS text LANGUAGE internal AS 'textin'",
    ),
    (
        "make an event trigger",
        "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION ops.event()",
    ),
    ("make a foreign-data wrapper", "CREATE FOREIGN DATA WRAPPER w"),
    ("publish all tables", "CREATE PUBLICATION everything FOR ALL TABLES"),
    (
        "subscribe",
        "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false)",
    ),
    // Read a verifier.
    ("read pg_authid", "SELECT rolpassword FROM pg_authid"),
    ("read pg_shadow", "SELECT passwd FROM pg_shadow"),
    ("call get_auth", "SELECT * FROM ‹auth›.get_auth('relation_id_6')"),
    ("take the auth role", "SET ROLE ‹auth›"),
    ("join the auth role", "GRANT ‹auth› TO ‹me›"),
    ("set the auth role's password", "ALTER ROLE ‹auth› PASSWORD '‹mine›'"),
    ("read a file", "SELECT pg_read_file('PG_VERSION')"),
    ("copy from a file", "COPY ops.data FROM '/etc/passwd'"),
    ("copy from a program", "COPY ops.data FROM PROGRAM 'echo 1'"),
    ("import a file", "SELECT lo_import('/etc/passwd')"),
    // Own what others call.
    (
        "replace get_auth",
        "CREATE OR REPLACE FUNCTION ‹auth›.get_auth(text)
         RETURNS TABLE (username text, password text) LANGUAGE sql AS 'SELECT $1, $1'",
    ),
    ("own get_auth", "ALTER FUNCTION ‹auth›.get_auth(text) OWNER TO ‹me›"),
    ("drop the lookup", "DROP SCHEMA ‹auth› CASCADE"),
    ("add to the lookup", "CREATE FUNCTION ‹auth›.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    (
        "replace a superuser's function",
        "CREATE OR REPLACE FUNCTION ops.job() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    ),
    (
        "add to a superuser's schema",
        "CREATE FUNCTION ops.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ),
    (
        "put a trigger on a superuser's table",
        "CREATE TRIGGER t BEFORE INSERT ON ops.data FOR EACH ROW EXECUTE FUNCTION ops.stamp()",
    ),
    (
        "put a rule on a superuser's table",
        "CREATE RULE r AS ON INSERT TO ops.data DO ALSO SELECT 1",
    ),
    (
        "add a function to pg_catalog",
        "CREATE FUNCTION pg_catalog.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ),
    (
        "add an operator to pg_catalog",
        "CREATE OPERATOR pg_catalog.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    ),
    ("cast types of PostgreSQL", "CREATE CAST (int AS bytea) WITH FUNCTION ops.bytes(int)"),
    (
        "give itself what superusers make",
        "ALTER DEFAULT PRIVILEGES FOR ROLE operator GRANT ALL ON TABLES TO ‹me›",
    ),
    ("set the database's search path", "ALTER DATABASE ‹database› SET search_path = public"),
    ("alter the database of the lookup", "ALTER DATABASE pgbouncer CONNECTION LIMIT 9"),
    ("join another client", "GRANT relation_id_6 TO ‹me›"),
    ("join the heir of another database", "GRANT ‹heir› TO ‹me›"),
    ("take the heir of another database", "SET ROLE ‹heir›"),
];

/// From 16 on, PostgreSQL's charm calls a function in `public`, in the session of a superuser.
pub(super) const FROM_16_ATTEMPTS: [Attempt; 1] = [(
    "replace the set-up function",
    "DROP FUNCTION public.set_up_predefined_catalog_roles();
     CREATE FUNCTION public.set_up_predefined_catalog_roles() RETURNS void LANGUAGE sql AS ''",
)];

/// A login through PgBouncer to the database of another client, and what the tenant tries there.
pub(super) const ENTER: &str = "enter another client's database";
pub(super) const IN_VICTIM: [Attempt; 4] = [
    ("read another client's table", "SELECT * FROM public.secrets"),
    (
        "replace another client's function",
        "CREATE OR REPLACE FUNCTION public.theirs() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    ),
    ("make the schema that another client's search path begins with", "CREATE SCHEMA \"‹heir›\""),
    ("call the other database's get_auth", "SELECT * FROM ‹auth›.get_auth('relation_id_6')"),
];

/// What the tenant does before its relation ends, as far as it can: a name, the versions on
/// which some tenant can, and the statements.
pub(super) const PREPARATIONS: [Preparation; 13] = [
    ("schema", 14..=16, "CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO PUBLIC"),
    (
        "function of the role",
        14..=16,
        "SET ROLE NONE; CREATE FUNCTION trap.run_as_role(cmd text) RETURNS void LANGUAGE plpgsql
         SECURITY DEFINER AS 'BEGIN EXECUTE cmd; END';
         GRANT ALL ON FUNCTION trap.run_as_role TO PUBLIC",
    ),
    (
        "function of the heir",
        14..=16,
        "CREATE FUNCTION trap.run_as_heir(cmd text) RETURNS void LANGUAGE plpgsql
         SECURITY DEFINER AS 'BEGIN EXECUTE cmd; END';
         GRANT ALL ON FUNCTION trap.run_as_heir TO PUBLIC",
    ),
    (
        "view",
        14..=16,
        "SET ROLE NONE; CREATE VIEW trap.verifiers AS SELECT rolpassword FROM pg_catalog.pg_authid;
         GRANT SELECT ON trap.verifiers TO PUBLIC",
    ),
    (
        "trigger",
        14..=16,
        "SET ROLE NONE; CREATE TABLE trap.bait (a int); GRANT ALL ON trap.bait TO PUBLIC;
         CREATE FUNCTION trap.spring() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
         AS 'BEGIN ALTER ROLE ‹tenant› LOGIN PASSWORD ''‹mine›''; RETURN NEW; END';
         CREATE TRIGGER spring BEFORE INSERT ON trap.bait
         FOR EACH ROW EXECUTE FUNCTION trap.spring()",
    ),
    (
        "default privileges",
        14..=16,
        "SET ROLE NONE; ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO relation_id_6",
    ),
    (
        "operator and cast",
        14..=16,
        "CREATE TYPE trap.t AS (a int); CREATE CAST (trap.t AS text) WITH INOUT;
         CREATE OPERATOR trap.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    ),
    ("publication", 14..=16, "CREATE PUBLICATION trap"),
    (
        "search path",
        14..=16,
        "SET ROLE NONE; ALTER ROLE ‹tenant› SET search_path = trap, pg_catalog",
    ),
    ("password", 14..=16, "SET ROLE NONE; ALTER ROLE ‹tenant› PASSWORD '‹mine›'"),
    ("members", 14..=15, "SET ROLE NONE; GRANT ‹tenant› TO ‹heir›, ‹other›"),
    (
        "another role",
        14..=15,
        "SET ROLE NONE;
         CREATE ROLE made_by_‹tenant› LOGIN PASSWORD '‹mine›' IN ROLE relation_id_6",
    ),
    (
        "password of the owner of databases",
        16..=16,
        "SET ROLE charmed_databases_owner;
         ALTER ROLE charmed_databases_owner PASSWORD '‹mine›'",
    ),
];

/// Tried by the client that stays or comes, once the tenant's relation has ended. All of it
/// succeeds while the tenant is there and a superuser.
pub(super) const AFTER: [Attempt; 9] = [
    (
        "become a superuser by the role's function",
        "SELECT trap.run_as_role('ALTER ROLE ‹me› SUPERUSER')",
    ),
    (
        "become a superuser by the heir's function",
        "SELECT trap.run_as_heir('ALTER ROLE ‹me› SUPERUSER')",
    ),
    (
        "join the superuser by the role's function",
        "SELECT trap.run_as_role('GRANT operator TO ‹me›')",
    ),
    (
        "run a program by the role's function",
        "SELECT trap.run_as_role('COPY (SELECT 1) TO PROGRAM ''cat >/dev/null''')",
    ),
    ("make a role by the role's function", "SELECT trap.run_as_role('CREATE ROLE pwned')"),
    ("read verifiers by the view", "SELECT * FROM trap.verifiers"),
    (
        "read verifiers by the role's function",
        "SELECT trap.run_as_role('SELECT rolpassword FROM pg_authid')",
    ),
    ("give the login back by the trigger", "INSERT INTO trap.bait VALUES (1)"),
    ("take the tenant's role", "SET ROLE ‹tenant›"),
];

pub(super) const KEEP: [&str; 3] = [
    "keep a session through PgBouncer",
    "keep a session with PostgreSQL",
    "keep a session as the owner of databases",
];

/// Logins after the tenant's relation has ended, with a password that the tenant set.
pub(super) const LOG_IN: [(&str, &str, &str); 3] = [
    ("log in again", "‹tenant›", "shop"),
    ("log in as a role that the tenant made", "made_by_‹tenant›", "victim"),
    ("log in as the owner of databases", "charmed_databases_owner", "victim"),
];

/// What a superuser removes, so that the next tenant finds the database as this one did.
pub(super) const CLEAN_UP: &str = "
    DROP SCHEMA IF EXISTS trap CASCADE; DROP PUBLICATION IF EXISTS trap;
    DROP ROLE IF EXISTS made_by_‹tenant›";
pub(super) const FROM_16_CLEAN_UP: &str =
    "ALTER ROLE charmed_databases_owner PASSWORD NULL VALID UNTIL 'infinity'";

/// Attempts that succeed for a tenant: a row of the table in docs/postgresql.md.
pub(super) struct Exception {
    /// A tenant asks for one of these roles; for an empty one, it asks for none.
    pub(super) asked: &'static [&'static str],
    pub(super) releases: RangeInclusive<u32>,
    /// The last column.
    pub(super) can: &'static str,
    pub(super) attempts: &'static [&'static str],
}

pub(super) const EXCEPTIONS: [Exception; 7] = [
    Exception {
        asked: &["createrole"],
        releases: 14..=15,
        can: "make itself a superuser, as PostgreSQL lets every role with `CREATEROLE`: it can \
              join `pg_execute_server_program`, every client, every heir and the auth role, and \
              can make a role that still logs in after the client's relation has ended. The log \
              says so",
        attempts: &[
            "join another client",
            "join the auth role",
            "join the heir of another database",
            "join those who run programs",
            "set the auth role's password",
            "log in as a role that the tenant made",
        ],
    },
    Exception {
        asked: &["admin"],
        releases: 14..=15,
        can: "read everything in every client's database, verifiers included: the group of \
              PostgreSQL's charm contains `pg_read_all_data`. It may also make schemas there, \
              also one with the name of the heir, in which the clients look for tables and \
              functions before `public`",
        attempts: &[
            ENTER,
            "read another client's table",
            "make the schema that another client's search path begins with",
            "read pg_authid",
            "read pg_shadow",
        ],
    },
    Exception {
        asked: &["charmed_read", "charmed_dml", "charmed_admin", "createdb"],
        releases: 16..=16,
        can: "read everything in every client's database, verifiers included, for the same \
              reason",
        attempts: &[ENTER, "read another client's table", "read pg_authid", "read pg_shadow"],
    },
    Exception {
        asked: &["charmed_stats"],
        releases: 16..=16,
        can: "connect to every client's database",
        attempts: &[ENTER],
    },
    Exception {
        asked: &["charmed_admin"],
        releases: 16..=16,
        can: "act as the heir of every database",
        attempts: &[
            "take the heir of another database",
            "replace another client's function",
            "make the schema that another client's search path begins with",
        ],
    },
    Exception {
        asked: &["createdb"],
        releases: 16..=16,
        can: "rename, drop and open each client's database and the one with PgBouncer's lookup, \
              and change their settings, such as the search path: all belong to \
              `charmed_databases_owner`, which PostgreSQL's charm makes such a client a member \
              of. So it can make another database for the lookup, with a function of its own",
        attempts: &["set the database's search path", "alter the database of the lookup"],
    },
    Exception {
        asked: &["", "createdb", "charmed_admin"],
        releases: 16..=16,
        can: "replace `public.set_up_predefined_catalog_roles` in its database, because the heir \
              owns `public`. This charm then no longer calls the function. PostgreSQL's charm \
              does, as a superuser, when a client asks PostgreSQL itself for this database",
        attempts: &["replace the set-up function"],
    },
];

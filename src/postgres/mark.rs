//! The comment on a client's role. It says whose the role is, and records what the charm gave it:
//! the verifier's SHA-256 digest, the database, and the roles. A later look compares this record
//! with the server, without the client's secret.
//!
//! The comment changes in the transaction that changes the role, and a backup has both. A record in
//! Juju would be written later, and each write would wake all units.

use postgres_protocol::escape::escape_literal;

use super::{
    client::{Client, DATABASES_OWNER},
    roles::Roles,
};

/// What separates the owner from the record. No comment of another relation begins with both.
pub(super) const RECORD: &str = "; verifier ";

/// What precedes the roles, which end the record.
const ROLES: &str = "; roles ";

/// The digest of the verifier of the role `a`, a row of `pg_authid`.
pub(super) const DIGEST: &str = "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
    coalesce(a.rolpassword, ''), 'UTF8')), 'hex')";

/// The roles that the role `a` works as in the database `d`, a row of `pg_database`.
pub(super) const WORKS_AS: &str = "
    (SELECT coalesce(pg_catalog.string_agg(c, ',' ORDER BY c), '')
     FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) c
     WHERE s.setrole = a.oid AND s.setdatabase IN (0, d.oid)
       AND pg_catalog.starts_with(c, 'role='))";

/// The parts of the record in the comment `c`; NULL if it has none.
pub(super) const RECORDED_DIGEST: &str = "pg_catalog.substring(c, '; verifier ([0-9a-f]+);')";
pub(super) const RECORDED_DATABASE: &str = "pg_catalog.substring(c, '; database ([0-9]+);')";
pub(super) const RECORDED_WORKS_AS: &str = "pg_catalog.substring(c, '; works as (.*); roles ')";
pub(super) const RECORDED_ROLES: &str = "pg_catalog.substring(c, '; roles (.*)$')";

/// Whether a comment is `owner`'s, with any record or none.
pub(super) fn is_of(comment: &str, owner: &str) -> bool {
    comment.strip_prefix(owner).is_some_and(|rest| rest.is_empty() || rest.starts_with(RECORD))
}

/// The roles in the record of a comment; `None` if the comment has no record.
pub(super) fn recorded_roles(comment: &str) -> Option<Roles> {
    comment.split_once(RECORD)?.1.split_once(ROLES).map(|(_, roles)| Roles::parse(roles))
}

/// Whether the role `a` has the requested role `r`: an attribute, or a group.
pub(super) fn has_role() -> String {
    format!(
        "(r = 'createdb' AND a.rolcreatedb OR r = 'createrole' AND a.rolcreaterole
          OR EXISTS (SELECT FROM pg_catalog.pg_roles g
                     WHERE g.rolname = CASE r WHEN 'createdb' THEN '{DATABASES_OWNER}' ELSE r END
                       AND pg_catalog.pg_has_role(a.oid, g.oid, 'MEMBER')))"
    )
}

/// The statements that comment on a client's role, in the client's database.
pub(super) fn record(client: &Client) -> Vec<String> {
    let (role, comment) = (escape_literal(&client.role), escape_literal(&client.comment));
    let roles = escape_literal(&client.roles.names().join(","));
    let has_role = has_role();
    vec![
        format!(
            "SELECT set_config('our.client', {role}, true), \
             set_config('our.owner', {comment}, true), set_config('our.roles', {roles}, true)"
        ),
        format!(
            "DO $$ BEGIN
                 EXECUTE (
                     SELECT format('COMMENT ON ROLE %I IS %L', a.rolname, concat(
                         current_setting('our.owner'), '{RECORD}', {DIGEST},
                         '; database ', d.oid, '; works as ', {WORKS_AS}, '{ROLES}',
                         (SELECT string_agg(r, ',') FROM string_to_table(
                              nullif(current_setting('our.roles'), ''), ',') r WHERE {has_role})))
                     FROM pg_authid a, pg_database d
                     WHERE a.rolname = current_setting('our.client')
                       AND d.datname = current_database());
             END $$"
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_belongs_to_one_relation_with_or_without_a_record() {
        let owner = "pgbouncer-k8s: model m, application p, relation database:6";
        for (rest, is_ours) in [
            ("", true),
            ("; verifier ab; database 5; works as ; roles ", true),
            ("0", false),
            ("0; verifier ab", false),
            (" of somebody", false),
        ] {
            assert_eq!(is_of(&format!("{owner}{rest}"), owner), is_ours, "{rest}");
        }
        assert!(!is_of("", owner));
    }

    #[test]
    fn a_record_has_the_roles_that_the_client_got() {
        let roles = |text: &str| recorded_roles(text).map(|roles| roles.names().join(","));
        let record = "of p; verifier ab; database 5; works as role=x; roles ";
        assert_eq!(roles(record).as_deref(), Some(""));
        assert_eq!(roles(&format!("{record}admin,createdb")).as_deref(), Some("admin,createdb"));
        assert_eq!(roles("of p"), None);
        assert_eq!(roles("; roles admin"), None);
    }
}

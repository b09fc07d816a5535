//! Whether `pg_hba.conf` admits a role. PostgreSQL's charm adds the line some time after the role
//! exists.

use std::time::Duration;

use super::{error::Refused, server::Server};

/// The pause between two reads of `pg_hba.conf`.
const PAUSE: Duration = Duration::from_millis(200);

impl Server {
    /// Waits until `pg_hba.conf` admits all these roles to their databases, and no longer than
    /// `limit`, which it reduces by the time it waited. Returns the first role that is not
    /// admitted.
    #[expect(
        clippy::disallowed_methods,
        reason = "a bounded wait for a change that PostgreSQL does not announce"
    )]
    pub fn await_admission(
        &mut self,
        logins: &[(String, String)],
        limit: &mut Duration,
    ) -> Result<Option<String>, Refused> {
        for (role, database) in logins {
            while !self.admits(role, database)? {
                if limit.is_zero() {
                    return Ok(Some(role.clone()));
                }
                let pause = PAUSE.min(*limit);
                std::thread::sleep(pause);
                *limit -= pause;
            }
        }
        Ok(None)
    }

    /// Whether `pg_hba.conf` has a line that could admit the role to the database over the network.
    /// A line whose effect only a login shows counts as one.
    pub fn admits(&mut self, role: &str, database: &str) -> Result<bool, Refused> {
        let what = format!("read the lines of pg_hba.conf for role {role}");
        Ok(!self.query(&what, ADMITS, &[&role, &database])?.is_empty())
    }
}

/// The lines of `pg_hba.conf` that may admit a role to a database. Regular expressions (16), names
/// in other files, `sameuser` and the like are not evaluated: they count.
const ADMITS: &str = "
    SELECT FROM pg_catalog.pg_hba_file_rules r
    WHERE r.error IS NULL AND r.type LIKE 'host%' AND r.auth_method <> 'reject'
      AND EXISTS (SELECT FROM pg_catalog.unnest(r.user_name) u
                  WHERE u IN ('all', $1) OR u ~ '^[/@]'
                     OR EXISTS (SELECT FROM pg_catalog.pg_roles g
                                WHERE u = '+' || g.rolname
                                  AND pg_catalog.pg_has_role($1::name, g.oid, 'MEMBER')))
      AND EXISTS (SELECT FROM pg_catalog.unnest(r.database) d
                  WHERE d IN ('all', 'sameuser', 'samerole', 'samegroup', $2) OR d ~ '^[/@]')
    LIMIT 1";

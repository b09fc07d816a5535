//! Whether `pg_hba.conf` lets a role in, which PostgreSQL's charm sees to in its own time.

use std::time::Duration;

use super::{error::Refused, server::Server};

/// Between two looks at `pg_hba.conf`.
const LOOK: Duration = Duration::from_millis(200);

impl Server {
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
}

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

//! What a server connection goes through between two clients.

use super::choices::PoolMode;
use super::version::Version;

/// PgBouncer puts the query into a packet of 512 bytes. A longer one is taken when the file is loaded, and then
/// each server connection is closed instead of reused.
pub const LIMIT: usize = 506;

/// `server_reset_query` for a PgBouncer of this version, to be run in every pool mode.
///
/// PgBouncer does not look at whether the query failed, and hands the connection on as the last client left it;
/// and `DISCARD ALL` can fail: by that client's `statement_timeout`, by its isolation level on a standby, and
/// always where another statement stands beside it. So its parts are run one by one, after `RESET ALL` has been
/// committed; and should one of them fail all the same, PostgreSQL ends the session, because it is left in a
/// failed transaction with a timeout of a millisecond.
///
/// `RESET ROLE` brings back the role that `ALTER ROLE ... SET role` gives to a login.
pub fn query(version: Version, pool_mode: PoolMode, max_prepared_statements: u16) -> String {
    let is_blind = (Version::PREPARED_STATEMENTS..Version::NOTICES_DEALLOCATE).contains(&version);
    let has_own = pool_mode != PoolMode::Session && max_prepared_statements > 0;
    let deallocate = if is_blind && has_own { DEALLOCATE_CLIENTS } else { "DEALLOCATE ALL" };
    format!(
        "BEGIN; RESET ALL; SET idle_in_transaction_session_timeout = 1; COMMIT; \
         BEGIN ISOLATION LEVEL READ COMMITTED; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; \
         {deallocate}; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; \
         DISCARD SEQUENCES; RESET idle_in_transaction_session_timeout; COMMIT"
    )
}

/// Only what clients prepared in SQL: PgBouncer 1.21 prepares statements of its own and does not notice when
/// they are gone.
const DEALLOCATE_CLIENTS: &str = "DO 'DECLARE s text; BEGIN \
    FOR s IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql \
    LOOP EXECUTE pg_catalog.format(''DEALLOCATE %I'', s); END LOOP; END'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_fits_into_pgbouncers_packet() {
        for minor in 18..=25 {
            for pool_mode in [PoolMode::Session, PoolMode::Transaction, PoolMode::Statement] {
                for statements in [0, 100] {
                    let query = query(Version::new(1, minor), pool_mode, statements);
                    assert!(query.len() <= LIMIT && !query.contains('\n'), "{} bytes: {query}", query.len());
                }
            }
        }
    }

    #[test]
    fn statements_that_pgbouncer_prepared_stay_where_it_would_not_notice() {
        let keeps = |minor, pool_mode, statements| {
            !query(Version::new(1, minor), pool_mode, statements).contains("DEALLOCATE ALL")
        };
        assert!(keeps(21, PoolMode::Transaction, 100) && keeps(21, PoolMode::Statement, 1));
        for minor in [18, 20, 22, 24] {
            assert!(!keeps(minor, PoolMode::Transaction, 100), "1.{minor}");
        }
        assert!(!keeps(21, PoolMode::Session, 100) && !keeps(21, PoolMode::Transaction, 0));
    }
}

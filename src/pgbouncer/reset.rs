//! The query that resets a server connection between two clients.

use super::choices::PoolMode;
use super::version::Version;

/// The longest query, in bytes. PgBouncer puts it into a packet of 512 bytes. It loads a file with
/// a longer query, and then closes each server connection instead of reusing it.
pub const LIMIT: usize = 506;

/// `server_reset_query` for this version of PgBouncer, for every pool mode.
///
/// PgBouncer ignores a failure of the query and gives the next client the connection as it is.
/// `DISCARD ALL` can fail:
///
/// - by the last client's `statement_timeout`;
/// - by its isolation level on a standby;
/// - always, together with another statement.
///
/// So the query runs the parts of `DISCARD ALL` one by one, after it has committed `RESET ALL`. If
/// a part still fails, PostgreSQL ends the session: it is in a failed transaction, with a
/// timeout of one millisecond.
///
/// `RESET ROLE` restores the role that `ALTER ROLE ... SET role` gives to a login.
pub fn query(version: Version, pool_mode: PoolMode, max_prepared_statements: u16) -> String {
    let is_unaware = (Version::PREPARED_STATEMENTS..Version::TRACKS_DEALLOCATE).contains(&version);
    let has_own = pool_mode != PoolMode::Session && max_prepared_statements > 0;
    let deallocate = if is_unaware && has_own { DEALLOCATE_CLIENTS } else { "DEALLOCATE ALL" };
    format!(
        "BEGIN; RESET ALL; SET idle_in_transaction_session_timeout = 1; COMMIT; \
         BEGIN ISOLATION LEVEL READ COMMITTED; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; \
         RESET ROLE; {deallocate}; UNLISTEN *; \
         SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; \
         DISCARD SEQUENCES; RESET idle_in_transaction_session_timeout; COMMIT"
    )
}

/// Deallocates only what clients prepared in SQL: PgBouncer 1.21 prepares statements of its own,
/// and does not notice that they are gone.
const DEALLOCATE_CLIENTS: &str = "DO 'DECLARE s text; BEGIN \
    FOR s IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql \
    LOOP EXECUTE pg_catalog.format(''DEALLOCATE %I'', s); END LOOP; END'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reset_query_fits_into_pgbouncers_packet() {
        for minor in 18..=25 {
            for pool_mode in [PoolMode::Session, PoolMode::Transaction, PoolMode::Statement] {
                for statements in [0, 100] {
                    let query = query(Version::new(1, minor), pool_mode, statements);
                    assert!(
                        query.len() <= LIMIT && !query.contains('\n'),
                        "{} bytes: {query}",
                        query.len()
                    );
                }
            }
        }
    }

    #[test]
    fn prepared_statements_are_kept_if_pgbouncer_does_not_track_deallocate() {
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

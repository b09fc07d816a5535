//! Performs the effects on PostgreSQL. A server that is unreachable, or rejects a statement, is a
//! wait and not an error.

use anyhow::Result;

use crate::journal::Target;
use crate::look::Look;
use crate::peer_bag::ROUNDS;
use crate::pgbouncer::verifier;
use crate::plan::{Bag, Effect, NewClient, Value};
use crate::postgres::{Client, Refused, Server};
use crate::status::Wait;

pub(super) fn perform(effect: &Effect, look: &mut Look<'_>) -> Result<Option<Wait>> {
    match effect {
        Effect::EnsureAuthRole { role, secret, salt, comment } => {
            let verifier = verifier::for_secret(secret, salt);
            let fits = |stored: &str| verifier::matches_secret(stored, role, secret);
            sql(effect, look, |server| server.ensure_auth_role(role, &verifier, comment, &fits))
        }
        Effect::RemoveAuth { role, comment } => {
            sql(effect, look, |server| server.remove_auth(role, comment))
        }
        Effect::InstallGetAuth { databases, auth_user } => sql(effect, look, |server| {
            // A failure in one database does not stop the others; the last failure is returned.
            let install = |database: &String| server.install_get_auth(database, auth_user);
            let done: Vec<_> = databases.iter().map(install).collect();
            done.into_iter().rev().collect()
        }),
        Effect::EnsureClient(client) => ensure_client(effect, client, look),
        // PostgreSQL's charm admits a role only after the role exists; a dry run creates none.
        Effect::AwaitAdmission { .. } if look.handles().journal.is_dry_run() => Ok(None),
        Effect::AwaitAdmission { logins, next_round } => await_admission(logins, *next_round, look),
        Effect::DropStrays { comment_prefix, keep } => sql(effect, look, |server| {
            match server.drop_strays(comment_prefix, keep) {
                // The next comparison retries.
                Err(refused @ Refused::Statement { .. }) => {
                    tracing::warn!(
                        "left a role of a removed client in PostgreSQL: {refused}; the next \
                         update-status retries"
                    );
                    Ok(())
                }
                done => done,
            }
        }),
        Effect::DropClient { role, comment } => sql(effect, look, |server| {
            match server.drop_client(role, comment) {
                // A role that belongs to somebody else must not be dropped.
                Err(refused @ Refused::RoleNotOurs { .. }) => {
                    tracing::warn!("did not drop role {role} of a removed client: {refused}");
                    Ok(())
                }
                done => done,
            }
        }),
        _ => Ok(None),
    }
}

fn ensure_client(effect: &Effect, new: &NewClient, look: &mut Look<'_>) -> Result<Option<Wait>> {
    let client = Client {
        role: new.role.clone(),
        database: new.database.clone(),
        verifier: verifier::scram_sha_256(&new.password, &new.salt, verifier::ITERATIONS),
        comment: new.comment.clone(),
        roles: new.roles.clone(),
        is_answered: new.is_answered,
    };
    let fits = |stored: &str| verifier::matches(stored, &new.role, &new.password);
    let wait = sql(effect, look, |server| server.ensure_client(&client, new.known, &fits))?;
    Ok(wait.map(|wait| match wait {
        Wait::Refused(reason) => Wait::Client(new.client.clone(), reason),
        wait => wait,
    }))
}

/// Waits until `pg_hba.conf` admits the roles: PostgreSQL's charm adds new roles with a delay. All
/// waits of one dispatch share a few seconds. After that, a change of the peer app bag wakes the
/// leader for the next try, because Juju runs a hook also on the unit that wrote the bag.
fn await_admission(
    logins: &[(String, String)],
    next_round: Option<u32>,
    look: &mut Look<'_>,
) -> Result<Option<Wait>> {
    let mut left = look.handles().admission;
    let mut outside = None;
    let wait = run(look, |server| {
        outside = server.await_admission(logins, &mut left)?;
        Ok(())
    })?;
    look.handles().admission = left;
    let Some(role) = outside else { return Ok(wait) };
    let Some(next_round) = next_round else {
        // Only a login would prove that PostgreSQL does not admit the role.
        tracing::warn!(
            "pg_hba.conf still has no line for {role}: PostgreSQL may reject its logins; check \
             PostgreSQL's status"
        );
        return Ok(None);
    };
    super::juju::set(Bag::PeerApp, ROUNDS, &Value::Text(next_round.to_string()), look)?;
    Ok(Some(Wait::Admission(role)))
}

/// Changes something in PostgreSQL, if the journal permits.
fn sql(
    effect: &Effect,
    look: &mut Look<'_>,
    work: impl FnOnce(&mut Server) -> Result<(), Refused>,
) -> Result<Option<Wait>> {
    if let Err(wait) = look.server()? {
        return Ok(Some(wait));
    }
    if !look.handles().journal.permits(Target::Postgresql, effect.to_string()) {
        return Ok(None);
    }
    run(look, work)
}

/// Runs statements in PostgreSQL. Returns a wait if there is no connection or a statement fails.
fn run(
    look: &mut Look<'_>,
    work: impl FnOnce(&mut Server) -> Result<(), Refused>,
) -> Result<Option<Wait>> {
    let server = match look.server()? {
        Ok(server) => server,
        Err(wait) => return Ok(Some(wait)),
    };
    let Err(refused) = work(server) else { return Ok(None) };
    if refused.is_lost() {
        // The following effects fail at once instead of waiting for the lost connection.
        let wait = Wait::Unreachable(refused.to_string());
        look.handles().server = Some(Err(wait.clone()));
        return Ok(Some(wait));
    }
    Ok(Some(Wait::Refused(refused.to_string())))
}

//! Effects on PostgreSQL. That it is away, or says no, is something to wait for.

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
        Effect::RemoveAuth { role, comment } => sql(effect, look, |server| server.remove_auth(role, comment)),
        Effect::InstallGetAuth { databases, auth_user } => sql(effect, look, |server| {
            // A database that refuses does not stop the next; the answer tells the last refusal.
            let install = |database: &String| server.install_get_auth(database, auth_user);
            let done: Vec<_> = databases.iter().map(install).collect();
            done.into_iter().rev().collect()
        }),
        Effect::EnsureClient(client) => ensure_client(effect, client, look),
        // Whom PostgreSQL lets in shows only when the role is there.
        Effect::AwaitAdmission { .. } if look.clients().journal.is_dry_run() => Ok(None),
        Effect::AwaitAdmission { logins, next_round } => await_admission(logins, *next_round, look),
        Effect::DropStrays { mark, keep } => sql(effect, look, |server| {
            match server.drop_strays(mark, keep) {
                // The next installation of the lookup looks for it again.
                Err(refused @ Refused::Statement { .. }) => {
                    tracing::warn!("left a role of a client that is gone: {refused}");
                    Ok(())
                }
                done => done,
            }
        }),
        Effect::DropClient { role, comment } => sql(effect, look, |server| {
            match server.drop_client(role, comment) {
                // Somebody else's role is never ours to drop.
                Err(refused @ Refused::RoleNotOurs { .. }) => {
                    tracing::warn!("left the role {role} as it is: {refused}");
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
        alone: new.alone,
        is_answered: new.is_answered,
    };
    let fits = |stored: &str| verifier::matches(stored, &new.role, &new.password);
    let wait = sql(effect, look, |server| server.ensure_client(&client, new.known, &fits))?;
    Ok(wait.map(|wait| match wait {
        Wait::Refused(reason) => Wait::Client(new.relation, reason),
        wait => wait,
    }))
}

/// Waits until PostgreSQL lets the roles in, for a few seconds in all of a dispatch: its charm notices
/// new roles in its own time. After that the leader wakes itself, since Juju brings the writer of the
/// peer app bag a hook for it.
fn await_admission(
    logins: &[(String, String)],
    next_round: Option<u32>,
    look: &mut Look<'_>,
) -> Result<Option<Wait>> {
    let mut left = look.clients().admission;
    let mut outside = None;
    let wait = ask(look, |server| {
        outside = server.await_admission(logins, &mut left)?;
        Ok(())
    })?;
    look.clients().admission = left;
    let Some(role) = outside else { return Ok(wait) };
    let Some(next_round) = next_round else {
        // Only a login tells for sure.
        tracing::warn!("pg_hba.conf still has no line for {role}: its login may be refused for now");
        return Ok(None);
    };
    super::juju::set(Bag::PeerApp, ROUNDS, &Value::Text(next_round.to_string()), look)?;
    Ok(Some(Wait::Admission(role)))
}

/// Changes something in PostgreSQL.
fn sql(
    effect: &Effect,
    look: &mut Look<'_>,
    work: impl FnOnce(&mut Server) -> Result<(), Refused>,
) -> Result<Option<Wait>> {
    if let Err(wait) = look.server()? {
        return Ok(Some(wait));
    }
    if !look.clients().journal.permits(Target::Postgresql, effect.to_string()) {
        return Ok(None);
    }
    ask(look, work)
}

/// Asks PostgreSQL something.
fn ask(look: &mut Look<'_>, work: impl FnOnce(&mut Server) -> Result<(), Refused>) -> Result<Option<Wait>> {
    let server = match look.server()? {
        Ok(server) => server,
        Err(wait) => return Ok(Some(wait)),
    };
    let Err(refused) = work(server) else { return Ok(None) };
    if refused.is_lost() {
        // The effects after this one need not wait for it in vain.
        let wait = Wait::Unreachable(refused.to_string());
        look.clients().server = Some(Err(wait.clone()));
        return Ok(Some(wait));
    }
    Ok(Some(Wait::Refused(refused.to_string())))
}

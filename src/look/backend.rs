//! Reads about PostgreSQL: its relation, the notes on it, and the server itself.

use std::rc::Rc;

use anyhow::Result;

use super::Look;
use crate::event::{Endpoint, RelationId};
use crate::facts::backend::Backend;
use crate::facts::lookup::Lookup;
use crate::facts::units::{looks_everywhere, sibling_looks_everywhere};
use crate::juju::labels;
use crate::notes::Trust;
use crate::postgres::{AllowedMethods, Credentials, Refused, Server, TlsDemand};
use crate::status::Wait;

impl Look<'_> {
    /// The relation with PostgreSQL and its app bag, parsed.
    pub fn backend(&mut self) -> Result<Option<Rc<Backend>>> {
        if self.parsed.backend.get().is_none() {
            let relation = self.backend_relations()?.first().copied();
            let backend = match relation {
                Some(relation) => {
                    Some(Rc::new(Backend::parse(relation, self.remote_bag(relation)?)))
                }
                None => None,
            };
            if let Some(Backend { relation, malformed, .. }) = backend.as_deref() {
                for key in malformed {
                    let app = self.remote_app(*relation)?.unwrap_or_default();
                    tracing::warn!(
                        "{app} (backend-database:{relation}): ignored {key}: its value is \
                         malformed; check the charm of {app}"
                    );
                }
            }
            let _ = self.parsed.backend.set(backend);
        }
        Ok(self.parsed.backend.get().cloned().flatten())
    }

    /// The relations with PostgreSQL, from the notes where this hook is about none of them.
    fn backend_relations(&mut self) -> Result<Vec<RelationId>> {
        let is_trusted = matches!(self.trust, Trust::Full | Trust::Recheck)
            && self.event_of(Endpoint::BackendDatabase).is_none();
        if let Some(noted) = self.notes.backends.clone().filter(|_| is_trusted) {
            // An operator may have skipped the hook in which the relation began or ended.
            let is_there = match noted.first() {
                Some(relation) => !self.remote_bag(*relation)?.is_empty(),
                None => self.trust == Trust::Full,
            };
            if is_there || self.trust == Trust::Full {
                return Ok(noted);
            }
        }
        let relations = self.relations(Endpoint::BackendDatabase)?;
        self.notes.backends = Some(relations.clone());
        Ok(relations)
    }

    /// The credentials that PostgreSQL provided; `None` until they are usable. The first read of
    /// their secret by its URI binds our label to the secret.
    pub fn credentials(&mut self, backend: &Backend) -> Result<Option<Credentials>> {
        if backend.is_subordinated() && !self.is_unit_ready(backend)? {
            return Ok(None);
        }
        let content = match backend.secret() {
            Some(uri) => {
                self.handles.juju.foreign_secret(uri, &labels::backend_label(backend.relation))?
            }
            None => None,
        };
        Ok(backend.credentials(content.as_ref()))
    }

    /// Whether a unit of PostgreSQL reports itself as ready.
    fn is_unit_ready(&mut self, backend: &Backend) -> Result<bool> {
        for unit in self.members(backend.relation)? {
            let bag = self.remote_unit_bag(backend.relation, &unit)?;
            if bag.get("state").is_some_and(|state| state == "ready") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How PgBouncer looks up passwords, over all units.
    pub fn lookup(&mut self, backend: &Backend, auth_user: &str) -> Result<Lookup> {
        let mut everywhere = self.own_version()?.is_some_and(looks_everywhere);
        for unit in self.siblings()? {
            everywhere |= sibling_looks_everywhere(&self.sibling(&unit)?);
        }
        Ok(Lookup {
            auth_user: auth_user.to_owned(),
            database: backend.database.clone(),
            everywhere,
        })
    }

    /// Whether this lookup, for the auth role of the users, is installed according to the note.
    pub fn is_noted(&mut self, lookup: &Lookup) -> Result<bool> {
        let is_of_users = self.users()?.auth_user() == Some(lookup.auth_user.as_str());
        Ok(is_of_users && self.app_bag()?.get_auth().is_some_and(|note| note.is_of(lookup)))
    }

    /// Whether this hook compares PostgreSQL with what the notes say: nothing tells Juju what
    /// somebody changed there by hand. A hook after one that found PostgreSQL unreachable compares
    /// again.
    pub fn inspects_postgres(&self) -> bool {
        let is_left = self.notes.deferred.iter().any(|row| row == Endpoint::BackendDatabase.name());
        is_left || matches!(self.trust, Trust::Recheck | Trust::NewLeader | Trust::Nothing)
    }

    /// Whether the note says that PostgreSQL has this lookup, and this hook trusts the note.
    pub fn is_installed(&mut self, lookup: &Lookup) -> Result<bool> {
        Ok(!self.inspects_postgres() && self.is_noted(lookup)?)
    }

    /// Asks PostgreSQL. A failure is a wait; a lost connection stays lost in this dispatch.
    pub fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Server) -> Result<T, Refused>,
    ) -> Result<Result<T, Wait>> {
        let answer = match self.server()? {
            Ok(server) => question(server),
            Err(wait) => return Ok(Err(wait)),
        };
        Ok(answer.map_err(|refused| {
            let wait = Wait::Unreachable(refused.to_string());
            if refused.is_lost() {
                self.handles.server = Some(Err(wait.clone()));
            }
            wait
        }))
    }

    /// The connection to PostgreSQL, or why there is none. A dispatch tries to connect only once,
    /// for a few seconds at most.
    pub fn server(&mut self) -> Result<Result<&mut Server, Wait>> {
        if self.handles.server.is_none() {
            let demand = self.tls_in_force()?;
            self.handles.server = Some(self.connect(&demand)?);
        }
        Ok(match &mut self.handles.server {
            Some(Ok(server)) => Ok(server),
            Some(Err(wait)) => Err(wait.clone()),
            None => Err(Wait::Backend),
        })
    }

    /// The relation over which this dispatch has logged in to PostgreSQL by SCRAM.
    pub fn scram_login(&self) -> Option<RelationId> {
        self.scram_login
    }

    /// Connects to PostgreSQL with this much TLS, and remembers a login by SCRAM.
    pub(super) fn connect(&mut self, demand: &TlsDemand) -> Result<Result<Server, Wait>> {
        let Some(backend) = self.backend()? else { return Ok(Err(Wait::NoBackend)) };
        let Some(mut credentials) = self.credentials(&backend)? else {
            return Ok(Err(Wait::Backend));
        };
        credentials.tls = demand.clone();
        if self.app_bag()?.scram() == Some(backend.relation) {
            credentials.methods = AllowedMethods::Scram;
        }
        let server = match Server::connect(&credentials) {
            Ok(server) => server,
            Err(error) => return Ok(Err(Wait::Unreachable(error.to_string()))),
        };
        if server.has_used_scram() {
            self.scram_login = Some(backend.relation);
        }
        Ok(Ok(server))
    }

    /// All databases of PostgreSQL except `postgres` and our own, each with whether the lookup's
    /// auth role may call a function of ours there; `None` if the query fails.
    pub fn other_databases(&mut self, lookup: &Lookup) -> Result<Option<Vec<(String, bool)>>> {
        let Ok(mut databases) = self.ask(|server| server.databases(&lookup.auth_user))? else {
            return Ok(None);
        };
        databases.retain(|(name, _)| name != "postgres" && *name != lookup.database);
        Ok(Some(databases))
    }
}

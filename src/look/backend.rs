//! Reads about PostgreSQL: its relation, the notes on it, and the server itself.

use std::rc::Rc;

use anyhow::Result;

use super::Look;
use crate::event::Endpoint;
use crate::facts::backend::Backend;
use crate::facts::lookup::{Lookup, Noted};
use crate::facts::units::{looks_everywhere, sibling_looks_everywhere};
use crate::juju::labels;
use crate::postgres::{Credentials, Lack, Place, Server};
use crate::status::Wait;

impl Look<'_> {
    /// The relation with PostgreSQL and its app bag, parsed.
    pub fn backend(&mut self) -> Result<Option<Rc<Backend>>> {
        if self.parsed.backend.get().is_none() {
            let relation = self.relations(Endpoint::BackendDatabase)?.first().copied();
            let backend = match relation {
                Some(relation) => {
                    Some(Rc::new(Backend::parse(relation, self.remote_bag(relation)?)))
                }
                None => None,
            };
            if let Some(Backend { relation, malformed, .. }) = backend.as_deref() {
                for key in malformed {
                    tracing::warn!(
                        "backend-database:{relation}: ignored {key}: it is not host:port; check \
                         PostgreSQL's charm"
                    );
                }
            }
            let _ = self.parsed.backend.set(backend);
        }
        Ok(self.parsed.backend.get().cloned().flatten())
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
        for unit in self.members(self.peers)? {
            everywhere |= sibling_looks_everywhere(&self.sibling(&unit)?);
        }
        Ok(Lookup {
            auth_user: auth_user.to_owned(),
            database: backend.database.clone(),
            everywhere,
        })
    }

    /// How much of this lookup is installed in PostgreSQL, according to the note.
    pub fn noted(&mut self, lookup: &Lookup) -> Result<Noted> {
        let users = self.users()?;
        let note = self.app_bag()?.get_auth();
        Ok(Noted::of(note.as_ref(), users.auth_user(), lookup))
    }

    /// Whether a trusted note says that PostgreSQL has this lookup and the role of every client.
    pub fn is_installed(&mut self, lookup: &Lookup) -> Result<bool> {
        Ok(self.trust.counts_lookup(lookup.everywhere) && self.noted(lookup)? == Noted::Everything)
    }

    /// The connection to PostgreSQL, or why there is none. A dispatch tries to connect only once,
    /// for a few seconds at most.
    pub fn server(&mut self) -> Result<Result<&mut Server, Wait>> {
        if self.handles.server.is_none() {
            let credentials = match self.backend()? {
                Some(backend) => self.credentials(&backend)?.ok_or(Wait::Backend),
                None => Err(Wait::NoBackend),
            };
            let connect = |credentials: Credentials| {
                Server::connect(&credentials).map_err(|error| Wait::Unreachable(error.to_string()))
            };
            self.handles.server = Some(credentials.and_then(connect));
        }
        Ok(match &mut self.handles.server {
            Some(Ok(server)) => Ok(server),
            Some(Err(wait)) => Err(wait.clone()),
            None => Err(Wait::Backend),
        })
    }

    /// What each of these clients lacks in PostgreSQL, in their order, or why that is not known.
    pub fn lacks(&mut self, places: &[Place]) -> Result<Result<Vec<Option<Lack>>, Wait>> {
        let lacks = match self.server()? {
            Ok(server) => server.lacks(places),
            Err(wait) => return Ok(Err(wait)),
        };
        Ok(lacks.map_err(|refused| {
            let wait = Wait::Unreachable(refused.to_string());
            if refused.is_lost() {
                self.handles.server = Some(Err(wait.clone()));
            }
            wait
        }))
    }

    /// All databases of PostgreSQL except `postgres` and our own; `None` if the query fails.
    pub fn other_databases(&mut self) -> Result<Option<Vec<String>>> {
        let own = self.backend()?.map(|backend| backend.database.clone());
        let Ok(server) = self.server()? else { return Ok(None) };
        let Ok(mut names) = server.databases() else { return Ok(None) };
        names.retain(|name| name != "postgres" && Some(name) != own.as_ref());
        Ok(Some(names))
    }
}

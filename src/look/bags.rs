//! Databags, and the secrets that belong to them.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::Result;
use serde_json::{Map, Value};

use super::Look;
use crate::event::{Endpoint, Event, RelationEvent, RelationHook, RelationId};
use crate::facts::Texts;
use crate::facts::configuration::{Databases, PublishedConfig};
use crate::facts::users::{FoundUsers, Store};
use crate::juju::{Owner, labels, place};
use crate::notes::Notes;
use crate::peer_bag::{AUTH, AppBag, CONFIG, DATABASES};
use crate::plan::Bag;
use crate::secret::Secret;

impl Look<'_> {
    /// The charm's options that have a value.
    pub fn config(&mut self) -> Result<&Map<String, Value>> {
        Ok(self.clients.juju.config()?)
    }

    /// A databag of our own, with what this dispatch has changed in it.
    pub fn bag(&mut self, bag: Bag) -> Result<&Texts> {
        let (relation, owner) = place(bag, self.peers);
        Ok(self.clients.juju.bag(relation, &owner)?)
    }

    /// The application's bag of the peer relation.
    pub fn app_bag(&mut self) -> Result<AppBag<'_>> {
        Ok(AppBag(self.bag(Bag::PeerApp)?))
    }

    /// Whether this dispatch has changed the application's bag of the peer relation. Then Juju wakes
    /// the leader, too.
    pub fn app_bag_changes(&self) -> bool {
        self.clients.juju.changes(self.peers, &Owner::App)
    }

    /// This unit's bag of the peer relation before this dispatch.
    pub fn unit_bag_before(&mut self) -> Result<Texts> {
        Ok(self.clients.juju.bag_before(self.peers, &Owner::Unit)?)
    }

    /// The relations of an endpoint.
    pub fn relations(&mut self, endpoint: Endpoint) -> Result<Vec<RelationId>> {
        Ok(self.clients.juju.relations(endpoint)?)
    }

    /// The units on the other side of a relation, or our siblings in the peer relation.
    pub fn members(&mut self, relation: RelationId) -> Result<Vec<String>> {
        Ok(self.clients.juju.members(relation)?)
    }

    /// The bag of the application on the other side of a relation; empty where there is none yet.
    pub fn remote_bag(&mut self, relation: RelationId) -> Result<Texts> {
        match self.remote_app(relation)? {
            Some(app) => Ok(self.clients.juju.bag(relation, &Owner::Other(app))?.clone()),
            None => Ok(Texts::new()),
        }
    }

    /// The bag of a unit on the other side of a relation.
    pub fn remote_unit_bag(&mut self, relation: RelationId, unit: &str) -> Result<&Texts> {
        Ok(self.clients.juju.bag(relation, &Owner::Other(unit.to_owned()))?)
    }

    /// The application on the other side of a relation. The relation's own hooks name it in their
    /// environment. It never changes, so that other hooks find it in the notes.
    fn remote_app(&mut self, relation: RelationId) -> Result<Option<String>> {
        if let Some(app) = known_app(self.event, relation, &self.notes) {
            self.notes.remote_apps.insert(relation, app.clone());
            return Ok(Some(app));
        }
        let app = self.clients.juju.remote_app(relation)?;
        if let Some(app) = &app {
            self.notes.remote_apps.insert(relation, app.clone());
        }
        Ok(app)
    }

    /// Takes from a relation hook what it tells of the relation itself.
    pub fn note_relation(&mut self) -> Result<()> {
        let Event::Relation(event) = self.event else { return Ok(()) };
        let RelationEvent { endpoint, relation, hook, .. } = event;
        if *hook == RelationHook::Broken {
            // Some versions of Juju still list a relation that is being broken.
            self.clients.juju.forget(*endpoint, *relation)?;
            self.notes.remote_apps.remove(relation);
        }
        if *endpoint == Endpoint::BackendDatabase && *hook == RelationHook::Departed {
            // Once its last unit has left, Juju does not list a relation that ends, though it can
            // still be read.
            self.clients.juju.learn(*endpoint, *relation)?;
        }
        Ok(())
    }

    /// The databases by relation.
    pub fn databases(&mut self) -> Result<Rc<Databases>> {
        let app = AppBag(self.clients.juju.bag(self.peers, &Owner::App)?);
        Ok(self.parsed.databases.get(app.text(DATABASES).map(str::to_owned), |_| {
            let databases = Databases::read(app);
            if let Some(reason) = &databases.broken {
                tracing::warn!("pgb-peers: ignored {DATABASES}: {reason}");
            }
            databases
        }))
    }

    /// The databases by relation before this dispatch.
    pub fn databases_before(&mut self) -> Result<Databases> {
        Ok(Databases::read(AppBag(&self.clients.juju.bag_before(self.peers, &Owner::App)?)))
    }

    /// The configuration in the app bag.
    pub fn published(&mut self) -> Result<Rc<PublishedConfig>> {
        let app = AppBag(self.clients.juju.bag(self.peers, &Owner::App)?);
        let text = |key| app.text(key).map(str::to_owned);
        Ok(self.parsed.published.get((text(CONFIG), text(DATABASES)), |_| PublishedConfig::read(app)))
    }

    /// PgBouncer's own users, in whatever layout they are kept.
    pub fn users(&mut self) -> Result<Rc<FoundUsers>> {
        let app = self.bag(Bag::PeerApp)?.clone();
        let content = self.peer_secret()?.0;
        Ok(self.parsed.users.get((app, content), |(app, content)| {
            let found = FoundUsers::read(app, content);
            if let Some(reason) = &found.broken {
                tracing::warn!("pgb-peers: ignored {AUTH}: {reason}");
            }
            found
        }))
    }

    /// Where the leader keeps the users.
    pub fn store(&mut self) -> Result<Store> {
        if !self.has_secrets() {
            return Ok(Store::Bag);
        }
        let plain = self.users()?.plain.clone();
        let (content, adopt) = self.peer_secret()?;
        let label = labels::peer_label(&self.unit.app);
        let revision = if self.leads()? {
            self.clients.juju.secret_info(&label)?.and_then(|info| info.revision)
        } else {
            None
        };
        Ok(Store::Secret { content, adopt, revision, plain })
    }

    /// The peer secret's content, and the secret to adopt if it does not have today's label. The
    /// Python charm looked for today's label, then for the label before it, then for a URI in the
    /// bag.
    fn peer_secret(&mut self) -> Result<(BTreeMap<String, Secret>, Option<String>)> {
        if !self.has_secrets() {
            return Ok((BTreeMap::new(), None));
        }
        let juju = &mut self.clients.juju;
        if let Some(content) = juju.secret_by_label(&labels::peer_label(&self.unit.app))? {
            return Ok((content, None));
        }
        let old = labels::old_peer_label(&self.unit.app);
        if let Some(content) = juju.secret_by_label(&old)? {
            let id =
                if self.leads()? { self.clients.juju.secret_info(&old)?.map(|info| info.id) } else { None };
            return Ok((content, id));
        }
        // A follower gives no label here: Juju would refuse it, or it would become the follower's own.
        match juju.bag(self.peers, &Owner::App)?.get("internal-secret").cloned() {
            Some(uri) => Ok((juju.secret_by_uri(&uri)?.unwrap_or_default(), Some(uri))),
            None => Ok((BTreeMap::new(), None)),
        }
    }

    /// The password in a client's secret, if there is one that can be read.
    pub fn client_password(&mut self, relation: RelationId) -> Result<Option<Secret>> {
        let label = labels::client_label(relation, "user");
        let content = self.clients.juju.secret_by_label(&label)?;
        Ok(content.and_then(|content| content.get("password").cloned()))
    }
}

/// The remote application of a relation, by the event if it is of this relation, else by the notes.
/// Juju may leave it out of the environment of a `-broken` hook.
fn known_app(event: &Event, relation: RelationId, notes: &Notes) -> Option<String> {
    let of_event = match event {
        Event::Relation(event) if event.relation == relation => event.remote_app.clone(),
        _ => None,
    };
    of_event.or_else(|| notes.remote_apps.get(&relation).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_application_is_the_events_else_the_noted_one() {
        let event = |app: Option<&str>| {
            Event::Relation(RelationEvent {
                endpoint: Endpoint::Database,
                hook: RelationHook::Broken,
                relation: RelationId(6),
                remote_app: app.map(str::to_owned),
                remote_unit: None,
                departing_unit: None,
            })
        };
        let mut notes = Notes::default();
        let known = |event: &Event, notes: &Notes| known_app(event, RelationId(6), notes);
        assert_eq!(known(&event(None), &notes), None);
        assert_eq!(known(&event(Some("shop")), &notes).as_deref(), Some("shop"));
        notes.remote_apps.insert(RelationId(6), "noted".into());
        assert_eq!(known(&event(None), &notes).as_deref(), Some("noted"));
        assert_eq!(known(&event(Some("shop")), &notes).as_deref(), Some("shop"));
        assert_eq!(known(&Event::UpdateStatus, &notes).as_deref(), Some("noted"));
        assert_eq!(known_app(&event(Some("shop")), RelationId(7), &notes), None);
    }
}

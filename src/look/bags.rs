//! Reads of databags, and of the secrets that belong to them.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use super::Look;
use crate::event::{Endpoint, Event, RelationEvent, RelationHook, RelationId};
use crate::facts::Texts;
use crate::facts::configuration::{Databases, PublishedConfig, missing};
use crate::facts::users::{FoundUsers, Store};
use crate::juju::{Owner, labels, place};
use crate::notes::{KnownUsers, Notes, Trust};
use crate::peer_bag::{AUTH, AUTH_REVISION, AppBag, CONFIG, DATABASES};
use crate::pgbouncer::{UserList, hex};
use crate::plan::Bag;
use crate::secret::Secret;

impl Look<'_> {
    /// One of our databags, including the changes of this dispatch.
    pub fn bag(&mut self, bag: Bag) -> Result<&Texts> {
        let (relation, owner) = place(bag, self.peers);
        Ok(self.handles.juju.bag(relation, &owner)?)
    }

    /// The application's bag of the peer relation.
    pub fn app_bag(&mut self) -> Result<AppBag<'_>> {
        Ok(AppBag(self.bag(Bag::PeerApp)?))
    }

    /// Whether this dispatch has changed the application's bag of the peer relation. Juju then
    /// runs another hook on every unit, including the leader.
    pub fn app_bag_changes(&self) -> bool {
        self.handles.juju.has_changes(self.peers, &Owner::App)
    }

    /// This unit's bag of the peer relation before this dispatch.
    pub fn unit_bag_before(&mut self) -> Result<Texts> {
        Ok(self.handles.juju.bag_before(self.peers, &Owner::Unit)?)
    }

    /// The relations of an endpoint, by number.
    pub fn relations(&mut self, endpoint: Endpoint) -> Result<Vec<RelationId>> {
        Ok(self.handles.juju.relations(endpoint)?)
    }

    /// The relations of clients, by number. The notes have them, unless a relation with an entry in
    /// the databases is not in the notes: that a relation has ended is decided only by a list of
    /// Juju.
    pub fn client_relations(&mut self) -> Result<Vec<RelationId>> {
        if self.trust == Trust::Full
            && let Some(noted) = self.notes.client_relations.clone()
            && missing(&noted, &self.databases()?.entries).is_empty()
        {
            return Ok(noted);
        }
        let relations = self.relations(Endpoint::Database)?;
        // While a relation ends, only Juju knows whether it still accepts an answer.
        let ends = |event: &RelationEvent| {
            matches!(event.hook, RelationHook::Departed | RelationHook::Broken)
        };
        let is_final = !self.event_of(Endpoint::Database).is_some_and(ends);
        self.notes.client_relations = is_final.then(|| relations.clone());
        Ok(relations)
    }

    /// The units on the other side of a relation; in the peer relation, the other units.
    pub fn members(&mut self, relation: RelationId) -> Result<Vec<String>> {
        Ok(self.handles.juju.members(relation)?)
    }

    /// The bag of the application on the other side of a relation; empty if Juju names none yet.
    pub fn remote_bag(&mut self, relation: RelationId) -> Result<Texts> {
        match self.remote_app(relation)? {
            Some(app) => Ok(self.handles.juju.bag(relation, &Owner::Other(app))?.clone()),
            None => Ok(Texts::new()),
        }
    }

    /// The bag of a unit on the other side of a relation.
    pub fn remote_unit_bag(&mut self, relation: RelationId, unit: &str) -> Result<&Texts> {
        Ok(self.handles.juju.bag(relation, &Owner::Other(unit.to_owned()))?)
    }

    /// The application on the other side of a relation. The relation's own hooks have it in their
    /// environment; other hooks find it in the notes, because it never changes.
    pub fn remote_app(&mut self, relation: RelationId) -> Result<Option<String>> {
        if let Some(app) = known_app(self.event, relation, &self.notes) {
            self.notes.remote_apps.insert(relation, app.clone());
            return Ok(Some(app));
        }
        let app = self.handles.juju.remote_app(relation)?;
        if let Some(app) = &app {
            self.notes.remote_apps.insert(relation, app.clone());
        }
        Ok(app)
    }

    /// Corrects the list of relations by the facts in a relation hook.
    pub fn note_relation(&mut self) -> Result<()> {
        let Event::Relation(event) = self.event else { return Ok(()) };
        let RelationEvent { endpoint, relation, hook, .. } = event;
        if *hook == RelationHook::Broken {
            // Some versions of Juju still list a relation in its -broken hook.
            self.handles.juju.drop_relation(*endpoint, *relation)?;
            self.notes.remote_apps.remove(relation);
        }
        if *endpoint == Endpoint::Database {
            match (hook, &mut self.notes.client_relations) {
                (RelationHook::Departed | RelationHook::Broken, noted) => *noted = None,
                (_, Some(noted)) if !noted.contains(relation) => {
                    noted.push(*relation);
                    noted.sort();
                }
                _ => {}
            }
        }
        if *endpoint == Endpoint::BackendDatabase && *hook == RelationHook::Departed {
            // After its last unit has left, Juju no longer lists an ending relation, although its
            // databags are still readable.
            self.handles.juju.add_relation(*endpoint, *relation)?;
        }
        Ok(())
    }

    /// The databases by relation.
    pub fn databases(&mut self) -> Result<Rc<Databases>> {
        let app = AppBag(self.handles.juju.bag(self.peers, &Owner::App)?);
        Ok(self.parsed.databases.get(app.text(DATABASES).map(str::to_owned), |_| {
            let databases = Databases::read(app);
            if let Some(reason) = &databases.broken {
                tracing::warn!(
                    "pgb-peers: ignored {DATABASES}: {reason}; the leader publishes it again, no \
                     action is needed"
                );
            }
            databases
        }))
    }

    /// The databases by relation before this dispatch.
    pub fn databases_before(&mut self) -> Result<Databases> {
        Ok(Databases::read(AppBag(&self.handles.juju.bag_before(self.peers, &Owner::App)?)))
    }

    /// The configuration in the app bag.
    pub fn published(&mut self) -> Result<Rc<PublishedConfig>> {
        let app = AppBag(self.handles.juju.bag(self.peers, &Owner::App)?);
        let text = |key| app.text(key).map(str::to_owned);
        Ok(self
            .parsed
            .published
            .get((text(CONFIG), text(DATABASES)), |_| PublishedConfig::read(app)))
    }

    /// PgBouncer's own users, from any layout in which a charm stored them; without their passwords
    /// if the secret has not changed since an earlier hook.
    pub fn users(&mut self) -> Result<Rc<FoundUsers>> {
        if self.parsed.known_users.get().is_none() {
            let known = self.known_users()?;
            let _ = self.parsed.known_users.set(known);
        }
        if let Some(known) = self.parsed.known_users.get().cloned().flatten() {
            return Ok(known);
        }
        let app = self.bag(Bag::PeerApp)?.clone();
        let content = self.peer_secret()?.0;
        Ok(self.parsed.users.get((app, content), |(app, content)| {
            let found = FoundUsers::read(app, content);
            if let Some(reason) = &found.broken {
                tracing::warn!(
                    "pgb-peers: ignored {AUTH}: {reason}; the leader publishes it again, no action \
                     is needed"
                );
            }
            found
        }))
    }

    /// Like [`Self::users`], with their passwords. From now on the dispatch uses these.
    pub fn users_with_passwords(&mut self) -> Result<Rc<FoundUsers>> {
        self.parsed.known_users = OnceCell::from(None);
        self.users()
    }

    /// The users without a read of the secret: those in this unit's files, if they are those of the
    /// secret, or none, if there is no secret yet. The leader compares the secret's revision, and a
    /// follower what the leader published.
    fn known_users(&mut self) -> Result<Option<Rc<FoundUsers>>> {
        let is_trusted = self.has_secrets()
            && self.trust != Trust::Nothing
            && !matches!(self.event, Event::Secret(_));
        if !is_trusted || !self.published()?.is_ours() {
            return Ok(None);
        }
        let published = self.published_users()?;
        // A hook of `backend-database` may have failed after it stored a secret, and runs again.
        let is_noted_absent = published.is_none()
            && self.trust == Trust::Full
            && self.event_of(Endpoint::BackendDatabase).is_none()
            && self.notes.users == Some(KnownUsers::default());
        if !is_noted_absent && self.is_leader()? {
            let info = self.handles.juju.secret_info(&labels::peer_label(&self.unit.app))?;
            let revision = info.map(|info| info.revision.map(|revision| revision.to_string()));
            if revision != published.clone().map(Some) {
                return Ok(None);
            }
        }
        let Some(revision) = published else {
            // An older charm or version of Juju may have left users in another place.
            let in_bag = FoundUsers::read(self.bag(Bag::PeerApp)?, &BTreeMap::new());
            let old = labels::old_peer_label(&self.unit.app);
            let is_there = !in_bag.plain.is_empty()
                || self.trust != Trust::Full
                    && self.is_leader()?
                    && self.handles.juju.secret_info(&old)?.is_some();
            return Ok((!is_there).then(|| Rc::new(FoundUsers::none())));
        };
        let Some(note) = self.notes.users.clone().filter(|note| note.revision == revision) else {
            return Ok(None);
        };
        let list =
            self.kept().users.clone().filter(|list| digest(list) == Some(note.digest.clone()));
        Ok((list.is_some() || note.digest.is_empty()).then(|| Rc::new(FoundUsers::known(list))))
    }

    /// Notes the users that this dispatch has read, for later hooks.
    pub fn note_users(&mut self) -> Result<()> {
        if !self.has_secrets() {
            return Ok(());
        }
        let found = self.users()?;
        if found.is_known {
            if self.published_users()?.is_none() && self.is_leader()? {
                self.notes.users = Some(KnownUsers::default());
            }
            return Ok(());
        }
        let digest = match &found.users {
            Some(users) => digest(&users.list),
            None => Some(String::new()),
        };
        // A secret that this dispatch writes has no revision yet.
        let is_final =
            found.is_final() && matches!(self.store()?, Store::Secret { adopt: None, .. });
        let revision = self.published_users()?.filter(|_| is_final);
        self.notes.users = match (revision, digest) {
            (Some(revision), Some(digest)) => Some(KnownUsers { revision, digest }),
            _ => None,
        };
        Ok(())
    }

    /// The revision of the secret that the leader last published.
    fn published_users(&mut self) -> Result<Option<String>> {
        Ok(self.app_bag()?.text(AUTH_REVISION).map(str::to_owned))
    }

    /// Where the users are stored.
    pub fn store(&mut self) -> Result<Store> {
        if !self.has_secrets() {
            return Ok(Store::Bag);
        }
        let found = self.users()?;
        if found.is_known {
            return Ok(Store::Known);
        }
        let plain = found.plain.clone();
        let (content, adopt) = self.peer_secret()?;
        let label = labels::peer_label(&self.unit.app);
        let revision = if self.leads()? {
            self.handles.juju.secret_info(&label)?.and_then(|info| info.revision)
        } else {
            None
        };
        Ok(Store::Secret { content, adopt, revision, plain })
    }

    /// The peer secret's content, and the secret to relabel if its label is an older one. Like the
    /// Python charm, looks for the current label, the older label, and a URI in the bag.
    fn peer_secret(&mut self) -> Result<(BTreeMap<String, Secret>, Option<String>)> {
        if !self.has_secrets() {
            return Ok((BTreeMap::new(), None));
        }
        // A read costs ten times as much as a look at the metadata, which only the owner gets.
        let leads = self.leads()?;
        let juju = &mut self.handles.juju;
        let label = labels::peer_label(&self.unit.app);
        if (!leads || juju.secret_info(&label)?.is_some())
            && let Some(content) = juju.secret_by_label(&label)?
        {
            return Ok((content, None));
        }
        let old = labels::old_peer_label(&self.unit.app);
        let info = if leads { juju.secret_info(&old)? } else { None };
        if (!leads || info.is_some())
            && let Some(content) = juju.secret_by_label(&old)?
        {
            return Ok((content, info.map(|info| info.id)));
        }
        // A follower must not pass a label here: Juju would refuse it, or bind it to the follower.
        match juju.bag(self.peers, &Owner::App)?.get("internal-secret").cloned() {
            Some(uri) => Ok((juju.secret_by_uri(&uri)?.unwrap_or_default(), Some(uri))),
            None => Ok((BTreeMap::new(), None)),
        }
    }

    /// The password in a client's secret; `None` if this unit cannot read the secret.
    pub fn client_password(&mut self, relation: RelationId) -> Result<Option<Secret>> {
        let label = labels::client_label(relation, "user");
        if self.leads()? && self.handles.juju.secret_info(&label)?.is_none() {
            return Ok(None);
        }
        let content = self.handles.juju.secret_by_label(&label)?;
        Ok(content.and_then(|content| content.get("password").cloned()))
    }
}

/// The digest of a list, as [`KnownUsers`] has it; `None` for a list that cannot be rendered.
fn digest(list: &UserList) -> Option<String> {
    let hash = Sha256::digest(list.render().ok()?);
    Some(format!("pgb-{}", &hex(&hash)[..24]))
}

/// The remote application of a relation: from the event if the hook belongs to this relation, else
/// from the notes. Juju may omit it from the environment of a `-broken` hook.
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
    fn the_remote_application_comes_from_the_event_or_else_from_the_notes() {
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

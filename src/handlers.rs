//! The decisions: each handler turns what was seen into a [`Plan`](crate::plan::Plan) and touches nothing.

pub mod actions;
pub mod backend_database;
pub mod database;
pub mod peers;

use crate::event::{Endpoint, Event, RelationHook};

/// What differs between the leader, who decides for all, and a follower, who copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat<L, F> {
    /// This unit holds leadership.
    Leader(L),
    /// Another one does.
    Follower(F),
}

/// A handler, by the name it is remembered under while it has work left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handler {
    /// [`backend_database::changed`].
    BackendDatabase,
    /// [`database::changed`].
    Database,
    /// [`peers::created`].
    PeersCreated,
    /// [`peers::changed`], with which every dispatch ends.
    PeersChanged,
    /// A relation that is not served yet, which says so.
    NotBuilt(Endpoint),
}

impl Handler {
    /// The name in the unit's state.
    pub fn name(self) -> &'static str {
        match self {
            Self::BackendDatabase => Endpoint::BackendDatabase.name(),
            Self::Database => Endpoint::Database.name(),
            Self::PeersCreated => "pgb-peers-created",
            Self::PeersChanged => Endpoint::Peers.name(),
            Self::NotBuilt(endpoint) => endpoint.name(),
        }
    }

    /// The handler of this name, if there still is one.
    pub fn named(name: &str) -> Option<Self> {
        if name == Self::PeersCreated.name() {
            return Some(Self::PeersCreated);
        }
        Endpoint::named(name).and_then(Self::of)
    }

    /// The handler of an endpoint; nothing for one that needs none.
    pub fn of(endpoint: Endpoint) -> Option<Self> {
        match endpoint {
            Endpoint::Peers => Some(Self::PeersChanged),
            Endpoint::BackendDatabase => Some(Self::BackendDatabase),
            Endpoint::Database => Some(Self::Database),
            // Today's charm keeps its refresh state there; what it left stays as it is.
            Endpoint::Upgrade => None,
            Endpoint::Db
            | Endpoint::DbAdmin
            | Endpoint::Certificates
            | Endpoint::MetricsEndpoint
            | Endpoint::GrafanaDashboard
            | Endpoint::Logging
            | Endpoint::Tracing => Some(Self::NotBuilt(endpoint)),
        }
    }
}

/// The handlers of one dispatch, in the order they run: those with work left from before, what the
/// event brings, and convergence, which does not depend on which hook came.
pub fn schedule(event: &Event, deferred: &[Handler]) -> Vec<Handler> {
    let brought: &[Handler] = match event {
        // In `install` no relation is known yet, a unit that goes changes nothing for others, and in a
        // metrics hook most tools are refused.
        Event::Install | Event::Stop | Event::Remove | Event::Metrics | Event::Action(_) => {
            return Vec::new();
        }
        Event::Relation(relation) => match Handler::of(relation.endpoint) {
            Some(Handler::PeersChanged) if relation.hook == RelationHook::Created => &[Handler::PeersCreated],
            Some(Handler::PeersChanged) | None => &[],
            Some(handler) => &[handler],
        },
        // A new leader owes what the old one had left, and a new pod may have missed anything.
        Event::LeaderElected | Event::UpgradeCharm | Event::Start => {
            &[Handler::BackendDatabase, Handler::Database]
        }
        _ => &[],
    };
    let mut handlers: Vec<Handler> =
        deferred.iter().chain(brought).copied().filter(|handler| *handler != Handler::PeersChanged).collect();
    handlers.sort();
    handlers.dedup();
    handlers.push(Handler::PeersChanged);
    handlers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RelationEvent, RelationId};

    #[track_caller]
    fn relation(endpoint: Endpoint, hook: RelationHook) -> Event {
        Event::Relation(RelationEvent {
            endpoint,
            hook,
            relation: RelationId(1),
            remote_app: None,
            remote_unit: None,
            departing_unit: None,
        })
    }

    #[test]
    fn every_hook_ends_with_convergence_but_install_stop_and_remove() {
        for event in [
            Event::Start,
            Event::ConfigChanged,
            Event::UpdateStatus,
            Event::UpgradeCharm,
            Event::LeaderElected,
            Event::Unknown("moon-rises".into()),
            relation(Endpoint::Database, RelationHook::Broken),
            relation(Endpoint::Upgrade, RelationHook::Changed),
        ] {
            assert_eq!(schedule(&event, &[]).last(), Some(&Handler::PeersChanged), "{event:?}");
        }
        for event in [Event::Install, Event::Stop, Event::Remove] {
            assert_eq!(schedule(&event, &[Handler::Database]), [], "{event:?}");
        }
    }

    #[test]
    fn what_was_deferred_runs_before_convergence_and_once() {
        let event = relation(Endpoint::Database, RelationHook::Changed);
        let deferred = [Handler::PeersChanged, Handler::Database, Handler::BackendDatabase];
        assert_eq!(
            schedule(&event, &deferred),
            [Handler::BackendDatabase, Handler::Database, Handler::PeersChanged]
        );
    }

    #[test]
    fn a_handler_is_found_again_under_the_name_it_was_remembered_by() {
        for handler in [
            Handler::BackendDatabase,
            Handler::Database,
            Handler::PeersCreated,
            Handler::PeersChanged,
            Handler::NotBuilt(Endpoint::DbAdmin),
        ] {
            assert_eq!(Handler::named(handler.name()), Some(handler));
        }
        assert_eq!(Handler::named("upgrade"), None);
        assert_eq!(Handler::named("something-older"), None);
    }
}

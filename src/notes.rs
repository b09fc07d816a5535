//! What this unit notes for its own later hooks. Juju keeps it (`state-set`) and commits it with a
//! hook that succeeds; it survives the pod.
//!
//! A note saves a look, it never stands for the truth: see [`Trust`].

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::event::{Event, RelationId};
use crate::facts::Texts;

/// The longest text of [`Notes::siblings`] that is kept, in bytes: Juju refuses a state of more than
/// 64 KiB, and with it the hook. Beyond that, with some hundreds of units, each hook asks all units.
const LONGEST_SIBLINGS: usize = 60_000;

/// All notes of this unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The peer relation. Written and read by every dispatch: it saves a `relation-ids`.
    pub peers: Option<RelationId>,
    /// The rows of the table that have work left, by name, in its order. Written by every dispatch;
    /// the next one runs them again.
    pub deferred: Vec<String>,
    /// Juju has announced that this unit leaves. Written by the first hook that hears of it; from
    /// then on the unit decides nothing for others, whatever its lease says.
    pub is_leaving: bool,
    /// The status that this unit last set for the application. Written and read by the leader: it
    /// saves a `status-set`.
    pub application_status: String,
    /// The port that this unit has opened. Written and read where the port is opened and closed.
    pub open_port: Option<u16>,
    /// The port that PgBouncer could not have here. Written by a load that fails; the options then
    /// count as unusable, so that not every hook tries it again.
    pub refused_port: Option<u16>,
    /// The application on the other side of a relation. Written by the relation's hooks; it saves
    /// the other hooks a `relation-list --app`.
    pub remote_apps: BTreeMap<RelationId, String>,
    /// What other units say of themselves in `pgb-peers`. Written by the hook that Juju brings for a
    /// change; it saves the leader a `relation-get` for each unit in every hook.
    pub siblings: BTreeMap<String, Texts>,
    /// The clients that are not done. Written and read by `database`.
    pub clients: ClientNotes,
}

/// The clients that are not done, as the leader that serves them notes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientNotes {
    /// The queue in the peer app bag that these notes go with. Beside another queue, which another
    /// leader wrote, they do not say who waits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub queue: String,
    /// Why each client is not done.
    #[serde(flatten)]
    pub notes: BTreeMap<RelationId, ClientNote>,
}

/// Why a client is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientNote {
    /// It has no answer yet. The number counts the `update-status` hooks that came while it waited
    /// for units.
    Waiting(u32),
    /// It has its answer, and its database was missing from `pgb_dbs_config`: PostgreSQL may be
    /// another one, so its role is ensured.
    Restored,
    /// It has its answer, and asks for more than it can have.
    AsksForMore,
    /// The last hook did not find its relation. A leader whose hook is repeated does not know the
    /// relations that came meanwhile, so only a relation that two hooks in a row miss is gone.
    Missing,
}

impl Notes {
    /// Reads the unit's state. A note that cannot be read counts as missing.
    pub fn read(state: &Texts) -> Self {
        let text = |key: &str| state.get(key).map_or("", String::as_str);
        let number = |key: &str| text(key).parse().ok();
        Self {
            peers: text(PEERS).parse().ok(),
            deferred: json(text(DEFERRED)),
            is_leaving: !text(LEAVING).is_empty(),
            application_status: text(APPLICATION_STATUS).to_owned(),
            open_port: number(PORT),
            refused_port: number(REFUSED_PORT),
            remote_apps: json(text(REMOTE_APPS)),
            siblings: json(text(SIBLINGS)),
            clients: json(text(CLIENTS)),
        }
    }

    /// The unit's state that [`Self::read`] reads; an empty text is no value.
    pub fn render(&self) -> Texts {
        // Destructured, so that no note can be forgotten here.
        let Self {
            peers,
            deferred,
            is_leaving,
            application_status,
            open_port,
            refused_port,
            remote_apps,
            siblings,
            clients,
        } = self;
        let siblings = Some(to_json(siblings, siblings.is_empty()));
        let siblings = siblings.filter(|text| text.len() <= LONGEST_SIBLINGS).unwrap_or_default();
        Texts::from([
            (PEERS.to_owned(), or_empty(peers.as_ref())),
            (DEFERRED.to_owned(), to_json(deferred, deferred.is_empty())),
            (LEAVING.to_owned(), if *is_leaving { "true".to_owned() } else { String::new() }),
            (APPLICATION_STATUS.to_owned(), application_status.clone()),
            (PORT.to_owned(), or_empty(open_port.as_ref())),
            (REFUSED_PORT.to_owned(), or_empty(refused_port.as_ref())),
            (REMOTE_APPS.to_owned(), to_json(remote_apps, remote_apps.is_empty())),
            (SIBLINGS.to_owned(), siblings),
            (CLIENTS.to_owned(), to_json(clients, *clients == ClientNotes::default())),
        ])
    }
}

const PEERS: &str = "peers";
const DEFERRED: &str = "deferred";
const LEAVING: &str = "leaving";
const APPLICATION_STATUS: &str = "application-status";
const PORT: &str = "port";
const REFUSED_PORT: &str = "refused-port";
const REMOTE_APPS: &str = "remote-apps";
const SIBLINGS: &str = "siblings";
const CLIENTS: &str = "clients";

fn json<T: for<'a> Deserialize<'a> + Default>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_default()
}

fn to_json(value: &impl Serialize, is_empty: bool) -> String {
    if is_empty { String::new() } else { serde_json::to_string(value).unwrap_or_default() }
}

fn or_empty(value: Option<&impl Display>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// How much of what earlier hooks noted counts in a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// All of it: Juju brings a hook for every change.
    Full,
    /// `update-status`: an operator can have skipped a hook, so what would then be missing is looked
    /// for.
    Recheck,
    /// `start`: a new pod may have missed any hook.
    NewPod,
    /// `leader-elected` after a leader that ran this charm.
    NewLeader,
    /// `upgrade-charm`, or a leader that follows one of the Python charm: nothing.
    Nothing,
}

impl Trust {
    /// The trust in the hook of this event. `published_by_us` tells whether the peer app bag is the
    /// last word of a leader that ran this charm.
    pub fn in_hook(event: &Event, published_by_us: bool) -> Self {
        match event {
            Event::UpgradeCharm => Self::Nothing,
            Event::LeaderElected if published_by_us => Self::NewLeader,
            Event::LeaderElected => Self::Nothing,
            Event::Start => Self::NewPod,
            Event::UpdateStatus => Self::Recheck,
            _ => Self::Full,
        }
    }

    /// Whether notes about clients and units count.
    pub fn counts_notes(self) -> bool {
        matches!(self, Self::Full | Self::Recheck)
    }

    /// Whether the note of what PostgreSQL has counts. A function in a client's own database, where
    /// the client may come to own it, is doubted sooner.
    pub fn counts_lookup(self, is_in_clients_databases: bool) -> bool {
        match self {
            Self::Full | Self::NewPod => true,
            Self::Recheck | Self::NewLeader => !is_in_clients_databases,
            Self::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_read_back_as_they_were_written() {
        let notes = Notes {
            peers: Some(RelationId(1)),
            deferred: vec!["database".into()],
            is_leaving: true,
            application_status: "active 1 database".into(),
            open_port: Some(6432),
            refused_port: Some(80),
            remote_apps: BTreeMap::from([(RelationId(2), "postgresql-k8s".into())]),
            siblings: BTreeMap::from([("p/1".into(), Texts::from([("hostname".into(), "p-1".into())]))]),
            clients: ClientNotes {
                queue: "6 7".into(),
                notes: BTreeMap::from([
                    (RelationId(6), ClientNote::Waiting(1)),
                    (RelationId(7), ClientNote::Missing),
                ]),
            },
        };
        assert_eq!(Notes::read(&notes.render()), notes);
        let clients = &notes.render()["clients"];
        assert_eq!(clients, r#"{"queue":"6 7","6":{"waiting":1},"7":"missing"}"#);
    }

    #[test]
    fn a_unit_without_notes_keeps_none() {
        assert_eq!(Notes::read(&Texts::new()), Notes::default());
        assert!(Notes::default().render().values().all(String::is_empty));
        let broken = Texts::from([("clients".into(), "[".into()), ("port".into(), "x".into())]);
        assert_eq!(Notes::read(&broken), Notes::default());
    }

    #[test]
    fn more_than_juju_keeps_is_not_noted() {
        let long = Texts::from([("hostname".into(), "h".repeat(LONGEST_SIBLINGS))]);
        let notes = Notes { siblings: BTreeMap::from([("p/1".into(), long)]), ..Notes::default() };
        assert_eq!(notes.render()["siblings"], "");
    }

    #[test]
    fn each_hook_trusts_what_it_may() {
        for (event, published_by_us, trust, [notes, lookup, in_clients_databases]) in [
            (Event::ConfigChanged, true, Trust::Full, [true, true, true]),
            (Event::UpdateStatus, true, Trust::Recheck, [true, true, false]),
            (Event::Start, true, Trust::NewPod, [false, true, true]),
            (Event::LeaderElected, true, Trust::NewLeader, [false, true, false]),
            (Event::LeaderElected, false, Trust::Nothing, [false, false, false]),
            (Event::UpgradeCharm, true, Trust::Nothing, [false, false, false]),
        ] {
            let found = Trust::in_hook(&event, published_by_us);
            assert_eq!(found, trust, "{event:?}");
            assert_eq!(found.counts_notes(), notes, "{event:?}");
            assert_eq!(found.counts_lookup(false), lookup, "{event:?}");
            assert_eq!(found.counts_lookup(true), in_clients_databases, "{event:?}");
        }
    }
}

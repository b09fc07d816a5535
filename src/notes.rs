//! The notes that this unit stores for its own later hooks. Juju keeps them (`state-set`), commits
//! them with a hook that succeeds, and keeps them when the pod is replaced.
//!
//! Most notes only save a read. [`Trust`] says which hooks verify instead of trusting the notes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::event::{Endpoint, Event, RelationId};
use crate::facts::Texts;

/// The longest text of one note, in bytes. Juju refuses a state value of more than 64 KiB, and with
/// it the hook. A longer note is left out: with some hundreds of units or more than a thousand
/// clients each hook reads what the note would save.
const LONGEST: usize = 60_000;

/// All notes of this unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The peer relation. Every dispatch writes and reads it; it saves a `relation-ids`.
    pub peers: Option<RelationId>,
    /// The names of the rows with work left, in the order of the table. Every dispatch writes it,
    /// and the next dispatch runs these rows again.
    pub deferred: Vec<String>,
    /// This unit is being removed. The first hook that learns of the removal writes it. From then
    /// on the unit decides nothing for the application, even if it holds leadership.
    pub leaving: Leaving,
    /// The port that this unit has opened in Juju. Opening a port writes and reads it.
    pub open_port: Option<u16>,
    /// The port on which PgBouncer could not listen here. A failed load writes it. The options then
    /// count as invalid, so that not every hook tries the port again.
    pub refused_port: Option<u16>,
    /// What the last hooks learned about leadership. Every hook writes it; it saves followers an
    /// `is-leader`.
    pub following: Following,
    /// The application on the other side of a relation. The relation's hooks write it; it saves
    /// the other hooks a `relation-list --app`.
    pub remote_apps: BTreeMap<RelationId, String>,
    /// The relations of `backend-database`. They save a `relation-ids` in the hooks of others.
    pub backends: Option<Vec<RelationId>>,
    /// The relations of `database`, on the leader. Their hooks correct them; they save a
    /// `relation-ids`.
    pub client_relations: Option<Vec<RelationId>>,
    /// The digest of the options, on the leader, if all are valid and published. It saves a
    /// `config-get` until `config-changed`.
    pub options: Option<String>,
    /// The other units of the application. The leader writes and reads them, and the hook about a
    /// unit corrects them; they save a `relation-list`.
    pub units: Option<Vec<String>>,
    /// The users whose list is in this unit's files. They save a `secret-get`.
    pub users: Option<KnownUsers>,
    /// The databags of other units in `pgb-peers`, on the leader. The hook about a change writes
    /// them; they save a `relation-get` for each unit in every hook.
    pub siblings: BTreeMap<String, Texts>,
    /// This unit's certificate. `certificates` writes and reads it; `None` until the row has read
    /// what an earlier charm stored.
    pub certificate: Option<CertificateNote>,
    /// The relations of endpoints whose rows are seldom due, by the name of the endpoint. The rows
    /// write and read them; they save a `relation-ids` and the reads of databags.
    pub endpoints: BTreeMap<String, EndpointNote>,
    /// The provider of `tracing`. Its row writes it; at its end each hook sends its trace there.
    pub tracing: Option<TracingNote>,
    /// The relations of `logging`, and the URLs that get the logs of this unit. The relation's
    /// hooks write them; other hooks compare them with the targets of the container, which may be
    /// new.
    pub log_urls: BTreeMap<RelationId, BTreeSet<String>>,
    /// The clients with work left. `database` writes and reads them.
    pub clients: ClientNotes,
}

/// Whether this unit is being removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaving {
    /// The unit stays.
    #[default]
    No,
    /// The unit is being removed, and may have to clean up PostgreSQL.
    Unfinished,
    /// The unit is being removed and has cleaned up PostgreSQL.
    Finished,
}

impl Leaving {
    fn read(text: &str) -> Self {
        match text {
            "" => Self::No,
            "finished" => Self::Finished,
            _ => Self::Unfinished,
        }
    }

    fn render(self) -> &'static str {
        match self {
            Self::No => "",
            Self::Unfinished => "true",
            Self::Finished => "finished",
        }
    }
}

/// Whether another unit leads, by the last hooks. Juju runs `leader-elected` on a unit that begins
/// to lead, so a follower need not ask in each hook. A lease that is lost and regained within one
/// hook causes no event, so only the second hook in a row without the lease makes a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Following {
    /// The last hook had the lease, or the unit is new.
    #[default]
    No,
    /// The last hook did not have the lease, the hook before had it.
    Once,
    /// Another unit leads.
    Yes,
}

impl Following {
    /// The note after a hook that had the lease, or did not.
    #[must_use]
    pub fn after(self, leads: bool) -> Self {
        match (leads, self) {
            (true, _) => Self::No,
            (false, Self::No) => Self::Once,
            (false, _) => Self::Yes,
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "once" => Self::Once,
            "true" => Self::Yes,
            _ => Self::No,
        }
    }

    fn render(self) -> &'static str {
        match self {
            Self::No => "",
            Self::Once => "once",
            Self::Yes => "true",
        }
    }
}

/// The users that this unit read from the peer secret. Their list is in this unit's files; the
/// passwords are nowhere but in the secret. The default notes that there is no secret yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownUsers {
    /// The revision of the secret, as the leader publishes it.
    pub revision: String,
    /// `pgb-` and 24 hexadecimal digits of the SHA-256 digest of the rendered list; empty if the
    /// list is marked as deleted.
    pub digest: String,
}

/// The certificate that this unit serves, and when it needs another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateNote {
    /// The relation with the provider. While there is none, only the end of the certificate is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<RelationId>,
    /// 16 hexadecimal digits of the SHA-256 digest of the file with the key and the certificate;
    /// empty without a certificate. The file saves a `secret-get` while it has this digest.
    pub digest: String,
    /// The digest of the DNS names for which the last request was made.
    pub names: String,
    /// When to request a new certificate, in seconds since 1970; without a provider, when the
    /// certificate ends. `None` while no certificate answers the last request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<u64>,
}

/// The relations of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointNote {
    /// The relations.
    pub relations: Vec<RelationId>,
    /// The digest of what this unit published in all of them; empty where nothing changes without
    /// a hook of the relation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub published: String,
}

/// Where hooks send their traces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracingNote {
    /// The relation with the provider.
    pub relation: RelationId,
    /// The URL, without `/v1/traces`; empty while the provider has none.
    pub url: String,
    /// The CAs in PEM by which the charm verifies the provider; only for `https`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca: String,
}

impl TracingNote {
    /// Whether traces can be sent. No trace goes to a provider that cannot be verified.
    pub fn is_usable(&self) -> bool {
        !self.url.is_empty() && (!self.url.starts_with("https") || !self.ca.is_empty())
    }
}

/// The clients with work left, as noted by the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientNotes {
    /// The queue in the peer app bag to which these notes belong. If the bag has another queue,
    /// another leader wrote it, and these notes do not say which clients wait.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub queue: String,
    /// The remaining work for each client.
    #[serde(flatten)]
    pub notes: BTreeMap<RelationId, ClientNote>,
}

/// The remaining work for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientNote {
    /// The client has no answer yet. The number counts the `update-status` hooks during its wait
    /// for units.
    Waiting(u32),
    /// The client has its answer, but its entry was missing from `pgb_dbs_config`, or it lacks
    /// something in PostgreSQL. PostgreSQL may have been replaced or changed by hand, so the
    /// client's database and role are ensured.
    Restored,
    /// The client has its answer, but requests something that is not supported.
    AsksForMore,
    /// The last hook did not find the client's relation. A retried hook of the leader does not see
    /// relations that were added meanwhile, so only a relation that two hooks in a row miss has
    /// ended.
    Missing,
}

impl Notes {
    /// The note about an endpoint; without relations if there is none.
    pub fn of(&self, endpoint: Endpoint) -> EndpointNote {
        self.endpoints.get(endpoint.name()).cloned().unwrap_or_default()
    }

    /// Replaces the note about an endpoint.
    pub fn set(&mut self, endpoint: Endpoint, note: &EndpointNote) {
        if note.relations.is_empty() {
            self.endpoints.remove(endpoint.name());
        } else {
            self.endpoints.insert(endpoint.name().to_owned(), note.clone());
        }
    }

    /// Parses the unit's state. A malformed note counts as missing.
    pub fn read(state: &Texts) -> Self {
        let text = |key: &str| state.get(key).map_or("", String::as_str);
        let number = |key: &str| text(key).parse().ok();
        Self {
            peers: text(PEERS).parse().ok(),
            deferred: json(text(DEFERRED)),
            leaving: Leaving::read(text(LEAVING)),
            open_port: number(PORT),
            refused_port: number(REFUSED_PORT),
            following: Following::read(text(FOLLOWING)),
            remote_apps: json(text(REMOTE_APPS)),
            backends: json(text(BACKENDS)),
            client_relations: json(text(CLIENT_RELATIONS)),
            options: Some(text(OPTIONS).to_owned()).filter(|digest| !digest.is_empty()),
            units: json(text(UNITS)),
            users: json(text(USERS)),
            siblings: json(text(SIBLINGS)),
            certificate: json(text(CERTIFICATE)),
            endpoints: json(text(ENDPOINTS)),
            tracing: json(text(TRACING)),
            log_urls: json(text(LOG_URLS)),
            clients: json(text(CLIENTS)),
        }
    }

    /// Renders the unit's state for [`Self::read`]; an empty text means no value.
    pub fn render(&self) -> Texts {
        // Destructured, so that the compiler reports a note that is missing here.
        let Self {
            peers,
            deferred,
            leaving,
            open_port,
            refused_port,
            following,
            remote_apps,
            backends,
            client_relations,
            options,
            units,
            users,
            siblings,
            certificate,
            endpoints,
            tracing,
            log_urls,
            clients,
        } = self;
        Texts::from([
            (PEERS.to_owned(), or_empty(peers.as_ref())),
            (DEFERRED.to_owned(), to_json(deferred, deferred.is_empty())),
            (LEAVING.to_owned(), leaving.render().to_owned()),
            (PORT.to_owned(), or_empty(open_port.as_ref())),
            (REFUSED_PORT.to_owned(), or_empty(refused_port.as_ref())),
            (FOLLOWING.to_owned(), following.render().to_owned()),
            (REMOTE_APPS.to_owned(), to_json(remote_apps, remote_apps.is_empty())),
            (BACKENDS.to_owned(), to_json(backends, backends.is_none())),
            (CLIENT_RELATIONS.to_owned(), to_json(client_relations, client_relations.is_none())),
            (OPTIONS.to_owned(), or_empty(options.as_ref())),
            (UNITS.to_owned(), to_json(units, units.is_none())),
            (USERS.to_owned(), to_json(users, users.is_none())),
            (SIBLINGS.to_owned(), to_json(siblings, siblings.is_empty())),
            (CERTIFICATE.to_owned(), to_json(certificate, certificate.is_none())),
            (ENDPOINTS.to_owned(), to_json(endpoints, endpoints.is_empty())),
            (TRACING.to_owned(), to_json(tracing, tracing.is_none())),
            (LOG_URLS.to_owned(), to_json(log_urls, log_urls.is_empty())),
            (CLIENTS.to_owned(), to_json(clients, *clients == ClientNotes::default())),
        ])
    }
}

const PEERS: &str = "peers";
const DEFERRED: &str = "deferred";
const LEAVING: &str = "leaving";
const PORT: &str = "port";
const REFUSED_PORT: &str = "refused-port";
const FOLLOWING: &str = "following";
const REMOTE_APPS: &str = "remote-apps";
const BACKENDS: &str = "backends";
const CLIENT_RELATIONS: &str = "client-relations";
const OPTIONS: &str = "options";
const UNITS: &str = "units";
const USERS: &str = "users";
const SIBLINGS: &str = "siblings";
const CERTIFICATE: &str = "certificate";
const ENDPOINTS: &str = "endpoints";
const TRACING: &str = "tracing";
const LOG_URLS: &str = "log-urls";
const CLIENTS: &str = "clients";

fn json<T: for<'a> Deserialize<'a> + Default>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_default()
}

fn to_json(value: &impl Serialize, is_empty: bool) -> String {
    let text =
        if is_empty { String::new() } else { serde_json::to_string(value).unwrap_or_default() };
    if text.len() > LONGEST { String::new() } else { text }
}

fn or_empty(value: Option<&impl Display>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// Which notes of earlier hooks a dispatch trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// All notes: Juju runs a hook for every change.
    Full,
    /// `update-status`: an operator may have skipped a hook (`juju resolved --no-retry`), so the
    /// effects of skipped hooks are verified.
    Recheck,
    /// `start`: a new pod may have missed any hook.
    NewPod,
    /// `leader-elected` after a leader that ran this charm.
    NewLeader,
    /// No notes: `upgrade-charm`, or `leader-elected` after a leader that ran the Python charm.
    Nothing,
}

impl Trust {
    /// The trust in the hook of this event. `published_by_us` says whether a leader that ran this
    /// charm was the last to write the peer app bag.
    pub fn in_hook(event: &Event, published_by_us: bool) -> Self {
        match event {
            Event::LeaderElected if published_by_us => Self::NewLeader,
            Event::LeaderElected | Event::UpgradeCharm => Self::Nothing,
            Event::Start => Self::NewPod,
            Event::UpdateStatus => Self::Recheck,
            _ => Self::Full,
        }
    }

    /// Whether notes about clients and units are trusted.
    pub fn counts_notes(self) -> bool {
        matches!(self, Self::Full | Self::Recheck)
    }

    /// Whether the note of what is installed in clients' databases is trusted. A look into each of
    /// them takes a connection.
    pub fn counts_databases(self) -> bool {
        !matches!(self, Self::NewLeader | Self::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_a_round_trip() {
        let notes = Notes {
            peers: Some(RelationId(1)),
            deferred: vec!["database".into()],
            leaving: Leaving::Finished,
            open_port: Some(6432),
            refused_port: Some(80),
            following: Following::Once,
            remote_apps: BTreeMap::from([(RelationId(2), "postgresql-k8s".into())]),
            backends: Some(Vec::new()),
            options: Some("pgb-cd".into()),
            client_relations: Some(vec![RelationId(6), RelationId(7)]),
            units: Some(vec!["p/1".into()]),
            users: Some(KnownUsers { revision: "3".into(), digest: "pgb-ab".into() }),
            siblings: BTreeMap::from([(
                "p/1".into(),
                Texts::from([("hostname".into(), "p-1".into())]),
            )]),
            certificate: Some(CertificateNote {
                relation: Some(RelationId(5)),
                digest: "ab".into(),
                names: "cd".into(),
                renew_at: Some(1_800_000_000),
            }),
            endpoints: BTreeMap::from([(
                "metrics-endpoint".into(),
                EndpointNote { relations: vec![RelationId(8)], published: "ab".into() },
            )]),
            tracing: Some(TracingNote {
                relation: RelationId(9),
                url: "http://tempo:4318".into(),
                ca: String::new(),
            }),
            log_urls: BTreeMap::from([(RelationId(9), BTreeSet::from(["http://a/".into()]))]),
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
    fn a_unit_follows_after_two_hooks_without_the_lease() {
        let after = |leads: &[bool]| {
            leads
                .iter()
                .fold(Following::No, |note, leads| Following::read(note.after(*leads).render()))
        };
        assert_eq!(after(&[true, false]), Following::Once);
        assert_eq!(after(&[false, false]), Following::Yes);
        assert_eq!(after(&[false, true, false]), Following::Once);
        assert_eq!(after(&[false, false, false]), Following::Yes);
        assert_eq!(after(&[false, false, true]), Following::No);
    }

    #[test]
    fn absent_and_malformed_notes_are_defaults() {
        assert_eq!(Notes::read(&Texts::new()), Notes::default());
        assert!(Notes::default().render().values().all(String::is_empty));
        let broken = Texts::from([("clients".into(), "[".into()), ("port".into(), "x".into())]);
        assert_eq!(Notes::read(&broken), Notes::default());
    }

    #[test]
    fn notes_about_units_that_are_too_long_for_juju_are_dropped() {
        let long = Texts::from([("hostname".into(), "h".repeat(LONGEST))]);
        let notes = Notes { siblings: BTreeMap::from([("p/1".into(), long)]), ..Notes::default() };
        assert_eq!(notes.render()["siblings"], "");
    }

    #[test]
    fn each_hook_trusts_the_notes_that_its_event_permits() {
        for (event, published_by_us, trust, [notes, databases]) in [
            (Event::ConfigChanged, true, Trust::Full, [true, true]),
            (Event::UpdateStatus, true, Trust::Recheck, [true, true]),
            (Event::Start, true, Trust::NewPod, [false, true]),
            (Event::LeaderElected, true, Trust::NewLeader, [false, false]),
            (Event::LeaderElected, false, Trust::Nothing, [false, false]),
            (Event::UpgradeCharm, true, Trust::Nothing, [false, false]),
        ] {
            let found = Trust::in_hook(&event, published_by_us);
            assert_eq!(found, trust, "{event:?}");
            assert_eq!(found.counts_notes(), notes, "{event:?}");
            assert_eq!(found.counts_databases(), databases, "{event:?}");
        }
    }
}

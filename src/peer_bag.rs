//! What `pgb-peers` carries: each key with its writer, its reader and its reason.
//!
//! "App" is the application's databag, which the leader writes; "unit" is each unit's own.

use crate::event::RelationId;
use crate::facts::Texts;
use crate::facts::lookup::GetAuth;

/// Unit. Juju writes it: the address at which the unit is reached. The leader reads it, for the
/// endpoints of clients outside Kubernetes.
pub const ADDRESS: &str = "ingress-address";
/// Unit. Each unit writes its DNS name; the specification asks for it. The leader reads it to tell
/// units of this charm from units that the Python charm still runs.
pub const HOSTNAME: &str = "hostname";
/// Unit. Each unit writes the version of its PgBouncer. The leader reads it: PostgreSQL is prepared
/// for the oldest.
pub const PGBOUNCER_VERSION: &str = "pgbouncer_version";
/// Unit. Each unit writes how many of its processes share the port. For `metrics-endpoint`.
pub const PROCESSES: &str = "processes";
/// Unit. Each unit writes the hash of the [`DATABASES`] that its processes have loaded. The leader
/// reads it: a client gets its credentials once all units serve its database.
pub const DATABASES_LOADED: &str = "pgb_dbs";

/// App. The leader's [`HOSTNAME`]. The specification asks for it; no unit of this charm reads it.
pub const LEADER_HOSTNAME: &str = "leader_hostname";
/// App. The configuration: a whole `pgbouncer.ini`, without what belongs to one unit. Followers
/// read it.
pub const CONFIG: &str = "cfg_file";
/// App, models without secrets: the user list. Followers read it.
pub const AUTH: &str = "auth_file";
/// App. The revision of the secret that holds the user list. It wakes followers: a `secret-changed`
/// can get lost while an agent is down.
pub const AUTH_REVISION: &str = "auth_file_revision";
/// App. The databases by relation, see [`PgbDbs`](crate::pgbouncer::PgbDbs). Every unit reads it.
pub const DATABASES: &str = "pgb_dbs_config";
/// App, models without secrets: the password of the statistics user.
pub const MONITORING_PASSWORD: &str = "monitoring_password";
/// App, models without secrets: the password of the administrator.
pub const ADMIN_PASSWORD: &str = "admin_password";

/// App. What PostgreSQL has of this charm, see [`GetAuth`]. The leader reads it, so that no hook
/// connects to PostgreSQL without need; followers read it to see that the lookup was removed.
pub const GET_AUTH: &str = "get_auth";
/// App. The relations that have asked for a database and may have no answer yet. The next leader
/// reads it, so that it need not read the bags of all clients.
pub const QUEUE: &str = "newest_clients";
/// App. The endpoints and the version of PostgreSQL that all clients were last given. The leader
/// reads it, so that no hook reads the bags of all clients to find nothing new.
pub const PUBLISHED_TO_CLIENTS: &str = "clients_told";
/// App. How many hooks the leader has waited for `pg_hba.conf`. Writing it wakes the leader.
pub const ROUNDS: &str = "rounds";
/// App. Databases that no client asked for by name, for clients that may use every database. Every
/// unit that renders a configuration reads it.
pub const OTHER_DATABASES: &str = "readonly_dbs";

/// What stands in a field that was deleted, by the custom of the Python charm.
pub const DELETED: &str = "None";

/// The application's bag, with what is the leader's own parsed.
#[derive(Clone, Copy)]
pub struct AppBag<'a>(pub &'a Texts);

impl<'a> AppBag<'a> {
    /// The text under a key.
    pub fn text(self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(String::as_str)
    }

    /// [`GET_AUTH`]; a text of another form counts as absent.
    pub fn get_auth(self) -> Option<GetAuth> {
        GetAuth::parse(self.text(GET_AUTH)?)
    }

    /// [`ROUNDS`]; 0 where nothing is waited for.
    pub fn rounds(self) -> u32 {
        self.text(ROUNDS).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// [`OTHER_DATABASES`].
    pub fn other_databases(self) -> Vec<String> {
        self.text(OTHER_DATABASES).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The endpoints in [`PUBLISHED_TO_CLIENTS`].
    pub fn published_endpoints(self) -> Option<&'a str> {
        self.text(PUBLISHED_TO_CLIENTS)?.split(' ').next()
    }
}

/// The name of a databag key as a field of a secret, where Juju wants hyphens.
pub fn field(key: &str) -> String {
    key.replace('_', "-")
}

/// The name of a client's role, which is also the key of its password in the app bag of a model
/// without secrets (`relation_id_N` of the specification).
pub fn role(relation: RelationId) -> String {
    format!("relation_id_{relation}")
}

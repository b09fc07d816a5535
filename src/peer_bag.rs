//! The databag keys of `pgb-peers`, each with its writer, its reader and its reason.
//!
//! "App" is the application's databag, which only the leader writes; "unit" is each unit's own.

use crate::event::RelationId;
use crate::facts::Texts;
use crate::facts::lookup::GetAuth;

/// Unit. The address of the unit, written by Juju. The leader reads it to build the endpoints for
/// clients outside Kubernetes.
pub const ADDRESS: &str = "ingress-address";
/// Unit. The unit's DNS name, required by the specification. The leader reads it to distinguish
/// units of this charm from units that still run the Python charm.
pub const HOSTNAME: &str = "hostname";
/// Unit. Written by the Python charm once its container runs. The leader reads it: a unit that
/// still runs the Python charm has one exporter.
pub const PYTHON_RUNS: &str = "container_initialised";
/// Unit. The version of the unit's PgBouncer. The leader reads it and installs the lookup in
/// PostgreSQL for the oldest version.
pub const PGBOUNCER_VERSION: &str = "pgbouncer_version";
/// Unit. The number of processes that share the port. The leader reads it: each process has an
/// exporter, which Prometheus finds by `metrics-endpoint`.
pub const PROCESSES: &str = "processes";
/// Unit. The hash of the [`DATABASES`] that the unit's processes have loaded. The leader reads it:
/// a client gets its credentials after all units have loaded its database.
pub const DATABASES_LOADED: &str = "pgb_dbs";
/// Unit. The word of a follower's status, while the unit has a trouble of its own. The leader reads
/// it: the application's status names the unit.
pub const TROUBLE: &str = "unit_status";

/// Unit and app. In a unit's bag the CAs by which clients verify its certificate, which the leader
/// reads. In the app bag those of all units, as published to clients: a unit serves the certificate
/// of another CA only when its CA is there.
pub const TLS_CA: &str = "tls_ca";

/// App. The CAs of clients' certificates, while the option `client_tls_sslmode` demands them. Every
/// unit reads it.
pub const CLIENT_CA: &str = "client_tls_ca";
/// App. The CAs of PostgreSQL's certificate, while the option `server_tls_sslmode` demands them.
/// Every unit reads it.
pub const SERVER_CA: &str = "server_tls_ca";
/// App. The leader's [`HOSTNAME`], required by the specification; no unit of this charm reads it.
pub const LEADER_HOSTNAME: &str = "leader_hostname";
/// App. The configuration: a whole `pgbouncer.ini` without the settings of a single unit. Followers
/// read it.
pub const CONFIG: &str = "cfg_file";
/// App, models without secrets: the user list. Followers read it.
pub const AUTH: &str = "auth_file";
/// App. The revision of the secret that holds the user list. A change wakes followers, because Juju
/// may lose a `secret-changed` while an agent is down.
pub const AUTH_REVISION: &str = "auth_file_revision";
/// App. The databases by relation, see [`PgbDbs`](crate::pgbouncer::PgbDbs). Every unit reads it.
pub const DATABASES: &str = "pgb_dbs_config";
/// App, models without secrets: the password of the statistics user.
pub const MONITORING_PASSWORD: &str = "monitoring_password";
/// App, models without secrets: the password of the administrator.
pub const ADMIN_PASSWORD: &str = "admin_password";

/// App. The note of what is installed in PostgreSQL, see [`GetAuth`]. It saves the leader a
/// connection to PostgreSQL; followers read whether the lookup was removed.
pub const GET_AUTH: &str = "get_auth";
/// App. The relation with PostgreSQL over which a leader has logged in by SCRAM. Every later login
/// over this relation, also of the next leader, uses nothing weaker; a new relation begins anew.
pub const SCRAM: &str = "scram";
/// App. The relations that have requested a database and may have no answer yet. It saves the next
/// leader from reading the bags of all clients.
pub const QUEUE: &str = "newest_clients";
/// App. The endpoints and the version of PostgreSQL that were last published to all clients. It
/// saves the leader from reading the bags of all clients.
pub const PUBLISHED_TO_CLIENTS: &str = "clients_told";
/// App. The number of hooks in which the leader has waited for `pg_hba.conf`. Writing it wakes the
/// leader.
pub const ROUNDS: &str = "rounds";
/// App. Databases that no client requested by name, for clients that may use every database. Every
/// unit that renders a configuration reads it.
pub const OTHER_DATABASES: &str = "readonly_dbs";

/// The value with which the Python charm marks a field as deleted.
pub const DELETED: &str = "None";

/// The application's bag, with parsers for the keys that only the leader reads.
#[derive(Clone, Copy)]
pub struct AppBag<'a>(pub &'a Texts);

impl<'a> AppBag<'a> {
    /// The text under a key.
    pub fn text(self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(String::as_str)
    }

    /// [`GET_AUTH`]; a malformed text counts as absent.
    pub fn get_auth(self) -> Option<GetAuth> {
        GetAuth::parse(self.text(GET_AUTH)?)
    }

    /// [`SCRAM`].
    pub fn scram(self) -> Option<RelationId> {
        self.text(SCRAM)?.parse().ok()
    }

    /// [`ROUNDS`]; 0 if the leader does not wait for `pg_hba.conf`.
    pub fn rounds(self) -> u32 {
        self.text(ROUNDS).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// [`OTHER_DATABASES`].
    pub fn other_databases(self) -> Vec<String> {
        self.text(OTHER_DATABASES)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// The endpoints in [`PUBLISHED_TO_CLIENTS`].
    pub fn published_endpoints(self) -> Option<&'a str> {
        self.text(PUBLISHED_TO_CLIENTS)?.split(' ').next()
    }
}

/// The name of a secret's field for a databag key: Juju allows hyphens, not underscores.
pub fn field(key: &str) -> String {
    key.replace('_', "-")
}

/// The name of a client's role, which is also the key of its password in the app bag of a model
/// without secrets (`relation_id_N` of the specification).
pub fn role(relation: RelationId) -> String {
    format!("relation_id_{relation}")
}

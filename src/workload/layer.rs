//! The charm's layer in Pebble's plan: the services of a container, and its health check.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::facts::EXPORTER_PORT;

/// The user, and its group, that images of PgBouncer come with.
pub(super) const USER: &str = "postgres";

/// The label of our layer, and the name of the check in it.
pub(super) const LABEL: &str = "pgbouncer";

/// The directory that both containers see, as PgBouncer sees it.
pub(super) const VOLUME: &str = "/charm/container";

/// The subdirectory of [`VOLUME`] with the console sockets.
pub(super) const SOCKETS: &str = "pgbouncer";

/// The exporter of prometheus-community, which images of PgBouncer may have.
pub(super) const EXPORTER: &str = "pgbouncer_exporter";

/// How long a process that is to end may wait for its clients to leave. The pod has 30 s in all
/// (Kubernetes' default, which Juju keeps), and Pebble needs some of them.
pub(super) const KILL_DELAY: Duration = Duration::from_secs(24);

/// The health check, in bash, because images have no PostgreSQL client.
///
/// It asks for TLS, as clients do first, and accepts either answer (PostgreSQL's protocol,
/// "SSLRequest"): PgBouncer answers without a login. One process that answers is enough: during a
/// change of the port the processes restart one after another. The last line `listen_port` of a
/// file is the setting, because `[pgbouncer]` is the last section and a database can have any name.
const HEALTH_CHECK: &str = concat!(
    "for ini in /var/lib/pgbouncer/instance_*/pgbouncer.ini; do ",
    "while read -r key _ value; do [[ $key != listen_port ]] || port=$value; done <$ini; ",
    r#"( exec 3<>/dev/tcp/127.0.0.1/$port && printf "\0\0\0\10\4\322\26\57" >&3 && "#,
    "read -r -t .9 -N 1 answer <&3 && [[ $answer == [NS] ]] ) && exit; done; exit 1",
);

/// The service of a process.
pub(super) fn pgbouncer(ini: &Path) -> Value {
    json!({
        "override": "replace",
        "summary": "PgBouncer",
        "command": format!("pgbouncer {}", ini.display()),
        "startup": "enabled",
        "user": USER,
        "group": USER,
        "kill-delay": format!("{}s", KILL_DELAY.as_secs()),
    })
}

/// The exporter of a process. It connects to the console socket, where the user that PgBouncer runs
/// as needs no password: everybody may read a plan and a command line.
pub(super) fn exporter(instance: u16, port: u16) -> Value {
    let sockets = format!("{VOLUME}/{SOCKETS}/{instance}");
    let console = format!(
        "postgresql:///pgbouncer?host={sockets}&port={port}&user=pgbouncer&sslmode=disable"
    );
    let listens = EXPORTER_PORT.saturating_add(instance);
    json!({
        "override": "replace",
        "summary": "measures of PgBouncer for Prometheus",
        "command": format!("{EXPORTER} --web.listen-address=:{listens}"),
        "environment": { "PGBOUNCER_EXPORTER_CONNECTION_STRING": console },
        "startup": "enabled",
        "user": USER,
        "group": USER,
    })
}

/// The services, and the check that keeps a pod out of the Kubernetes service while PgBouncer does
/// not answer. No check has `level: alive`, which would kill the container of a pooler that drains.
pub(super) fn layer(services: impl Iterator<Item = (String, Value)>) -> Value {
    json!({
        "services": services.collect::<serde_json::Map<_, _>>(),
        "checks": { LABEL: {
            "override": "replace",
            "level": "ready",
            "period": "5s",
            "timeout": "4s",
            "threshold": 2,
            "exec": { "command": format!("bash -c '{HEALTH_CHECK}'"), "user": USER, "group": USER },
        } },
    })
}

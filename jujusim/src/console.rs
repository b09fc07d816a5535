//! PgBouncer's console, queried with `psql` over its socket, as the user that the process runs as.

use std::process::Stdio;

use crate::pooler::{Instance, as_user, setting};

/// A setting of the running process.
pub(crate) fn loaded(instance: &Instance, name: &str) -> Option<String> {
    let rows = ask(instance, "SHOW CONFIG")?;
    rows.into_iter()
        .find(|row| row.first().is_some_and(|key| key == name))
        .and_then(|row| row.into_iter().nth(1))
}

/// The number of queries answered for databases other than the console; 0 when the process does not
/// answer.
pub(crate) fn client_queries(instance: &Instance) -> u64 {
    let rows = ask(instance, "SHOW STATS").unwrap_or_default();
    let Some((head, rows)) = rows.split_first() else { return 0 };
    let Some(column) = head.iter().position(|name| name == "total_query_count") else { return 0 };
    let clients =
        rows.iter().filter(|row| row.first().is_some_and(|database| database != "pgbouncer"));
    clients.filter_map(|row| row.get(column)?.parse::<u64>().ok()).sum()
}

/// The rows of a console command, column names first; `None` when the process does not answer.
fn ask(instance: &Instance, command: &str) -> Option<Vec<Vec<String>>> {
    let dir = &instance.sockets;
    let port = setting(&instance.ini, "listen_port").unwrap_or_else(|| "6432".to_owned());
    let mut psql = as_user(&instance.user, "KILL");
    // A process that was stopped accepts the connection and never answers.
    psql.args([
        "timeout",
        "10",
        "psql",
        "-XA",
        "-F",
        "\t",
        "-P",
        "footer=off",
        "-U",
        "pgbouncer",
        "-d",
        "pgbouncer",
    ]);
    psql.arg("-h")
        .arg(dir)
        .args(["-p", &port, "-c", command])
        .current_dir("/")
        .stdin(Stdio::null());
    let output = psql
        .env("PGCONNECT_TIMEOUT", "5")
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

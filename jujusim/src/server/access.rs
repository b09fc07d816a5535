//! Client authentication as in the PostgreSQL charms: one line of `pg_hba.conf` for each role,
//! rewritten some time after a change of the roles or of the databases they may connect to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use postgres::Client;

use super::{cells, identifier, superuser};

/// The polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const SHORT_DELAY: Duration = Duration::from_secs(1);
/// How long a server may take to load its new file.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The lines before the first check: the superusers of the local socket, and standbys.
pub(super) const BASE_RULES: &str =
    "local all postgres,operator trust\nlocal replication postgres trust\n";

/// How roles authenticate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Method {
    /// `md5`, which also accepts SCRAM verifiers.
    Md5,
    /// `scram-sha-256`, but `md5` for roles whose passwords a pooler looks up.
    Scram,
}

impl Method {
    fn of(self, role: &str) -> &'static str {
        match self {
            Method::Scram if !role.contains("pgbouncer_auth_relation_") => "scram-sha-256",
            _ => "md5",
        }
    }
}

/// Keeps `pg_hba.conf` of some servers up to date with the roles of the primary, until dropped.
pub(crate) struct Observer {
    method: Method,
    watched: Arc<Mutex<Watched>>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The observed servers, by their directories.
struct Watched {
    primary: Option<PathBuf>,
    /// Each server with the lines that it has loaded.
    members: BTreeMap<PathBuf, String>,
    delay: Duration,
    /// Whether the servers admit connections with TLS only.
    tls: bool,
}

/// The type of a line of `pg_hba.conf` for clients.
pub(super) fn line_type(tls: bool) -> &'static str {
    if tls { "hostssl" } else { "host" }
}

impl Observer {
    /// Starts an observer without servers.
    pub(crate) fn start(method: Method) -> Observer {
        let watched = Arc::new(Mutex::new(Watched {
            primary: None,
            members: BTreeMap::new(),
            delay: Duration::from_millis(200),
            tls: false,
        }));
        let (end, ended) = channel();
        let seen = Arc::clone(&watched);
        let thread = thread::spawn(move || observe(method, &seen, &ended));
        Observer { method, watched, end: Some(end), thread: Some(thread) }
    }

    /// Observes these servers; the roles are those of the primary.
    pub(super) fn watch<'a>(&self, primary: &Path, members: impl Iterator<Item = &'a Path>) {
        let mut watched = lock(&self.watched);
        watched.primary = Some(primary.to_owned());
        let before = std::mem::take(&mut watched.members);
        let lines =
            |member: &Path| before.get(member).cloned().unwrap_or_else(|| BASE_RULES.to_owned());
        watched.members = members.map(|member| (member.to_owned(), lines(member))).collect();
    }

    /// Forgets a server whose data directory is reset.
    pub(super) fn forget(&self, member: &Path) {
        lock(&self.watched).members.remove(member);
    }

    /// Sets how long the observer takes to act on a change.
    pub(super) fn set_delay(&self, delay: Duration) {
        lock(&self.watched).delay = delay;
    }

    /// Sets whether the servers admit connections with TLS only.
    pub(super) fn set_tls(&self, tls: bool) {
        lock(&self.watched).tls = tls;
    }

    /// Waits for changes if the delay is short; returns at once if the delay is long.
    pub(crate) fn wait_if_short(&self) {
        if lock(&self.watched).delay <= SHORT_DELAY {
            self.wait(2 * SHORT_DELAY);
        }
    }

    /// Waits, up to a timeout, until every existing role is admitted; returns whether that is so.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let (primary, tls) = {
                let watched = lock(&self.watched);
                (watched.primary.clone(), watched.tls)
            };
            let client = primary.and_then(|primary| superuser(&primary, "postgres").ok());
            let wanted = client.and_then(|mut client| rules(self.method, tls, &mut client).ok());
            if wanted.is_some_and(|wanted| {
                lock(&self.watched).members.values().all(|lines| *lines == wanted)
            }) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn observe(method: Method, watched: &Mutex<Watched>, ended: &Receiver<()>) {
    let mut connection: Option<(PathBuf, Client)> = None;
    let mut changed: Option<Instant> = None;
    // The lines of the last check, and the snapshot of the transactions that it saw.
    let mut last: Option<((String, bool), String)> = None;
    while ended.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let (primary, members, delay, tls) = {
            let watched = lock(watched);
            (watched.primary.clone(), watched.members.clone(), watched.delay, watched.tls)
        };
        let Some(primary) = primary else { continue };
        connection.take_if(|(server, client)| *server != primary || client.is_closed());
        if connection.is_none() {
            last = None;
            connection = superuser(&primary, "postgres").ok().map(|client| (primary, client));
        }
        // If the server is down, try again at the next check.
        let Some((_, client)) = &mut connection else { continue };
        // Only a transaction changes roles.
        let Ok(seen) = snapshot(client).map(|seen| (seen, tls)) else { continue };
        let wanted = match last.take().filter(|(before, _)| *before == seen) {
            Some((_, lines)) => lines,
            None => match rules(method, tls, client) {
                Ok(lines) => lines,
                Err(_) => continue,
            },
        };
        last = Some((seen, wanted.clone()));
        let stale: Vec<PathBuf> = members
            .into_iter()
            .filter(|(_, lines)| *lines != wanted)
            .map(|(member, _)| member)
            .collect();
        if stale.is_empty() {
            changed = None;
        } else if changed.get_or_insert_with(Instant::now).elapsed() >= delay {
            for member in stale {
                // If writing fails, try again at the next check.
                if write(&member, &wanted).is_ok()
                    && let Some(lines) = lock(watched).members.get_mut(&member)
                {
                    lines.clone_from(&wanted);
                }
            }
        }
    }
}

/// The transactions that are visible: another text after any transaction that wrote.
fn snapshot(client: &mut Client) -> Result<String, postgres::Error> {
    let messages = client.simple_query("SELECT pg_current_snapshot()")?;
    Ok(messages.iter().filter_map(cells).flatten().collect())
}

/// The lines for the existing roles.
fn rules(method: Method, tls: bool, client: &mut Client) -> Result<String, postgres::Error> {
    let mut text = BASE_RULES.to_owned();
    for row in client.query(ROLES, &[])? {
        let (role, superuser): (String, bool) = (row.get(0), row.get(1));
        let databases: Vec<String> = row.get(2);
        let databases = if superuser {
            "all".to_owned()
        } else {
            databases.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(",")
        };
        if !databases.is_empty() {
            let (host, role, method) = (line_type(tls), identifier(&role), method.of(&role));
            let _ = writeln!(text, "{host} {databases} {role} all {method}");
        }
    }
    Ok(text)
}

const ROLES: &str = "
    SELECT rolname::text, rolsuper,
           ARRAY(SELECT datname::text FROM pg_database
                 WHERE NOT datistemplate
                       AND has_database_privilege(r.oid, pg_database.oid, 'CONNECT') ORDER BY 1)
    FROM pg_roles r WHERE rolcanlogin ORDER BY 1";

/// Writes the file and waits until the server has loaded it.
fn write(server: &Path, rules: &str) -> std::io::Result<()> {
    let new = server.join("data/pg_hba.new");
    fs::write(&new, rules)?;
    fs::rename(&new, server.join("data/pg_hba.conf"))?;
    reload(server)
}

/// Makes the server load its files, and waits until it has. A server that is not running loads
/// them at its start.
pub(super) fn reload(server: &Path) -> std::io::Result<()> {
    let Some(before) = loaded(server, "SELECT pg_conf_load_time(), pg_reload_conf()") else {
        return Ok(());
    };
    let deadline = Instant::now() + RELOAD_TIMEOUT;
    while loaded(server, "SELECT pg_conf_load_time()").is_some_and(|time| time == before) {
        if Instant::now() > deadline {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// When the server loaded its configuration, as a new session sees it.
fn loaded(server: &Path, question: &str) -> Option<SystemTime> {
    Some(superuser(server, "postgres").ok()?.query_one(question, &[]).ok()?.get(0))
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

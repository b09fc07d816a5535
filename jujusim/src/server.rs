//! A real PostgreSQL server of the model's own.

mod access;
mod cluster;
mod log;
mod release;

pub(crate) use release::cache;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::{Client, NoTls, SimpleQueryMessage};

use crate::error::{Doing as _, Error, Result};
use crate::pooler::as_postgres;

pub(crate) use access::{Method, Observer};
pub(crate) use cluster::Cluster;
pub(crate) use log::Mark;
pub use log::Sql;
pub(crate) use release::Release;

/// The port, on an address of the server's own.
pub(crate) const PORT: u16 = 5432;
const PATIENCE: Duration = Duration::from_secs(30);

/// What all servers have in common: nothing has to outlive them, and a standby may join late.
const SETTINGS: &str = "\
password_encryption = 'scram-sha-256'
fsync = off
full_page_writes = off
synchronous_commit = off
wal_keep_size = '1GB'
max_connections = 300
shared_buffers = '32MB'
log_connections = on
log_line_prefix = '[%a] '
lc_messages = 'C'
";

/// A server: stopped and started at will, stopped for good when dropped.
pub(crate) struct Server {
    dir: PathBuf,
    release: Release,
    pub(crate) address: Ipv4Addr,
    running: Option<Running>,
}

struct Running {
    pid: Pid,
    /// Started the server and lives as long: the server gets a signal when its starter is gone.
    keeper: JoinHandle<()>,
    frozen: bool,
}

impl Running {
    /// To all processes. The first one stops before, so that it starts no more, and tells who they are while it is
    /// there.
    fn signal(&self, signal: Signal) {
        let pid = self.pid;
        let _ = kill(pid, Signal::SIGSTOP);
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let _ = kill(Pid::from_raw(child), signal);
        }
        let _ = kill(pid, signal);
    }
}

impl Server {
    /// A new server in `dir`, not started. Its superuser is `postgres`, by the local socket only; if it is guarded, an observer
    /// lets in the others.
    fn create(dir: &Path, address: Ipv4Addr, release: &Release, guarded: bool) -> Result<Server> {
        for dir in [dir.to_owned(), dir.join("run")] {
            fs::create_dir_all(&dir).doing(|| format!("make {}", dir.display()))?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
                .doing(|| format!("close {}", dir.display()))?;
            give(&dir)?;
        }
        let mut server = Server { dir: dir.to_owned(), release: release.clone(), address, running: None };
        server.renew(guarded)?;
        Ok(server)
    }

    /// Begins anew, with nothing in it.
    fn renew(&mut self, guarded: bool) -> Result<()> {
        let data = self.dir.join("data");
        if data.exists() {
            fs::remove_dir_all(&data).doing(|| format!("remove {}", data.display()))?;
        }
        self.copy_template()?;
        // The md5 method also takes SCRAM verifiers.
        let everybody = "local all,replication postgres trust\nhost all all 127.0.0.0/8 md5\n";
        self.write("pg_hba.conf", if guarded { access::NOBODY } else { everybody })
    }

    /// Its settings: to stream from the primary in a directory, or to be one.
    fn follow(&self, primary: Option<&Path>) -> Result<()> {
        let mut settings = SETTINGS.to_owned();
        let _ = writeln!(settings, "listen_addresses = '{}'\nport = {PORT}", self.address);
        let _ = writeln!(settings, "unix_socket_directories = '{}'", self.dir.join("run").display());
        if let Some(primary) = primary {
            let socket = primary.join("run");
            let _ = writeln!(
                settings,
                "primary_conninfo = 'host={} port={PORT} user=postgres'",
                socket.display()
            );
            self.write("standby.signal", "")?;
        }
        self.write("postgresql.auto.conf", &settings)
    }

    /// Whether it streams from a primary, or would.
    fn is_standby(&self) -> bool {
        self.dir.join("data/standby.signal").exists()
    }

    fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    /// Among its data.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join("data").join(name);
        fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
        give(&path)
    }

    fn start(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let log = self.log();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .doing(|| format!("open {}", log.display()))?;
        let mut command = as_postgres("INT");
        command
            .arg(self.release.programs.join("postgres"))
            .arg("-D")
            .arg(self.dir.join("data"))
            .current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let (sender, receiver) = mpsc::channel();
        let keeper = thread::spawn(move || {
            let child = command.spawn();
            let _ = sender.send(child.as_ref().map(std::process::Child::id).map_err(std::io::Error::kind));
            if let Ok(mut child) = child {
                let _ = child.wait();
            }
        });
        let pid = match receiver.recv() {
            Ok(Ok(pid)) => Pid::from_raw(i32::try_from(pid).unwrap_or_default()),
            _ => return Err(Error::refused("cannot start PostgreSQL; is setpriv installed?")),
        };
        self.running = Some(Running { pid, keeper, frozen: false });
        let deadline = Instant::now() + PATIENCE;
        while self.superuser("postgres").is_err() {
            let ended = self.running.as_ref().is_none_or(|running| running.keeper.is_finished());
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                return Err(Error::refused(format!("PostgreSQL does not start; its log:\n{log}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What the server says, among it who connects, and statements of roles that the actor made.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// A fast shutdown: connections are cut.
    fn stop(&mut self) {
        self.freeze(false);
        if let Some(Running { pid, keeper, .. }) = self.running.take() {
            let _ = kill(pid, Signal::SIGINT);
            let _ = keeper.join();
        }
    }

    /// Nobody is answered any more, nobody's connection ends; or it goes on.
    fn freeze(&mut self, frozen: bool) {
        if let Some(running) = &mut self.running
            && running.frozen != frozen
        {
            running.frozen = frozen;
            running.signal(if frozen { Signal::SIGSTOP } else { Signal::SIGCONT });
        }
    }

    fn is_frozen(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.frozen)
    }

    /// Every process of it dies at once.
    fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(Signal::SIGKILL);
            let _ = running.keeper.join();
        }
    }

    /// The superuser's connection.
    fn superuser(&self, database: &str) -> std::result::Result<Client, postgres::Error> {
        superuser(&self.dir, database)
    }

    /// Runs a statement, or several as one transaction, as the superuser; the rows of all of them as text.
    pub(crate) fn sql(
        &self,
        database: &str,
        statement: &str,
    ) -> std::result::Result<Vec<Vec<String>>, String> {
        if self.is_frozen() {
            return Err("cannot reach PostgreSQL: it is frozen".to_owned());
        }
        let mut client =
            self.superuser(database).map_err(|error| format!("cannot reach PostgreSQL: {error}"))?;
        let messages =
            client.simple_query(statement).map_err(|error| format!("PostgreSQL refused: {error}"))?;
        Ok(messages.iter().filter_map(cells).collect())
    }

    pub(crate) fn has_role(&self, name: &str) -> std::result::Result<bool, String> {
        let found = format!("SELECT FROM pg_roles WHERE rolname = {}", literal(name));
        Ok(!self.sql("postgres", &found)?.is_empty())
    }

    /// `initdb` takes seconds; a copy of an earlier one does not.
    fn copy_template(&mut self) -> Result<()> {
        let uid = if nix::unistd::geteuid().is_root() {
            "postgres".to_owned()
        } else {
            nix::unistd::geteuid().to_string()
        };
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        let cache = cache.unwrap_or_else(std::env::temp_dir).join("jujusim");
        let template = cache.join(format!("postgresql-{}-{uid}-wal1", self.release.major));
        let data = self.dir.join("data");
        if !template.exists() {
            let mut initdb = as_postgres("KILL");
            initdb.arg(self.release.programs.join("initdb")).arg("-D").arg(&data).current_dir("/");
            initdb.args([
                "-U",
                "postgres",
                "--auth=trust",
                "--no-sync",
                "--wal-segsize=1",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ]);
            done(&mut initdb)?;
            fs::create_dir_all(&cache).doing(|| format!("make {}", cache.display()))?;
            let fresh = cache.join(format!("new-{:016x}", rand::random::<u64>()));
            done(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&data).arg(&fresh))?;
            // Somebody else may have been quicker.
            if fs::rename(&fresh, &template).is_err() {
                let _ = fs::remove_dir_all(&fresh);
            }
            return Ok(());
        }
        done(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(&data))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The cells of a row.
pub(crate) fn cells(message: &SimpleQueryMessage) -> Option<Vec<String>> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|column| row.get(column).unwrap_or("null").to_owned()).collect())
}

/// A name as SQL has it.
pub(crate) fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A text as SQL has it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The superuser's connection to the server in a directory.
fn superuser(dir: &Path, database: &str) -> std::result::Result<Client, postgres::Error> {
    let mut config = postgres::Config::new();
    config.host_path(dir.join("run")).port(PORT).user("postgres").dbname(database);
    config.connect(NoTls)
}

/// Makes user `postgres` the owner, when we are root and will run the server as that user.
fn give(path: &Path) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let user = nix::unistd::User::from_name("postgres").ok().flatten();
    let user = user
        .ok_or_else(|| Error::refused("user postgres does not exist: PostgreSQL refuses to run as root"))?;
    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .doing(|| format!("give {} to postgres", path.display()))
}

fn done(command: &mut Command) -> Result<()> {
    let name = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().doing(|| format!("run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::refused(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr))))
}

//! A real PostgreSQL server that belongs to the model.

mod access;
mod cluster;
mod log;
mod release;
mod tls;

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
pub(crate) use tls::Tls;

/// The port of every server; each server has its own address.
pub(crate) const PORT: u16 = 5432;
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of all servers. Durability is off because no data outlives the model; enough WAL is
/// kept for a standby that joins late; shared memory is in files that go with the model, also after
/// a kill.
const SETTINGS: &str = "\
password_encryption = 'scram-sha-256'
fsync = off
full_page_writes = off
synchronous_commit = off
wal_keep_size = '1GB'
dynamic_shared_memory_type = mmap
max_connections = 300
shared_buffers = '32MB'
log_connections = on
log_line_prefix = '[%a %i] '
lc_messages = 'C'
";

/// A PostgreSQL server. Can be stopped and started; ends when dropped.
pub(crate) struct Server {
    dir: PathBuf,
    release: Release,
    pub(crate) address: Ipv4Addr,
    running: Option<Running>,
}

struct Running {
    pid: Pid,
    /// The thread that started the server and waits for it. The server gets a signal when this
    /// thread ends.
    keeper: JoinHandle<()>,
    frozen: bool,
}

impl Running {
    /// Signals all processes. Stops the postmaster first, so that it starts no more processes, and
    /// reads its children while it exists.
    fn signal(&self, signal: Signal) {
        let pid = self.pid;
        let _ = kill(pid, Signal::SIGSTOP);
        let children =
            fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let _ = kill(Pid::from_raw(child), signal);
        }
        let _ = kill(pid, signal);
    }
}

impl Server {
    /// Creates a server in `dir` without starting it. The superuser is `postgres`, only by the
    /// local socket. With `guarded`, an observer decides which other roles may log in.
    fn create(dir: &Path, address: Ipv4Addr, release: &Release, guarded: bool) -> Result<Server> {
        for dir in [dir.to_owned(), dir.join("run")] {
            fs::create_dir_all(&dir).doing(|| format!("create {}", dir.display()))?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
                .doing(|| format!("change the mode of {}", dir.display()))?;
            chown_to_postgres(&dir)?;
        }
        let mut server =
            Server { dir: dir.to_owned(), release: release.clone(), address, running: None };
        server.renew(guarded)?;
        Ok(server)
    }

    /// Resets the server to an empty data directory.
    fn renew(&mut self, guarded: bool) -> Result<()> {
        let data = self.dir.join("data");
        if data.exists() {
            fs::remove_dir_all(&data).doing(|| format!("remove {}", data.display()))?;
        }
        self.copy_template()?;
        self.admit_everybody(guarded, false)
    }

    /// Writes the `pg_hba.conf` from which the server starts: with an observer, which adds lines,
    /// or for everybody.
    fn admit_everybody(&self, guarded: bool, tls: bool) -> Result<()> {
        let host = access::line_type(tls);
        // The md5 method also accepts SCRAM verifiers.
        let everybody =
            format!("local all,replication postgres trust\n{host} all all 127.0.0.0/8 md5\n");
        self.write("pg_hba.conf", if guarded { access::BASE_RULES } else { &everybody })
    }

    /// Gives the server a certificate, or none; it serves TLS from its next start or reload on.
    fn certify(&self, tls: Option<&Tls>, guarded: bool) -> Result<()> {
        if !guarded {
            self.admit_everybody(guarded, tls.is_some())?;
        }
        let Some(tls) = tls else {
            let file = self.dir.join("data/server.crt");
            return match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).doing(|| format!("remove {}", file.display()))
                }
                _ => Ok(()),
            };
        };
        let (certificate, key) = tls.issue(self.address)?;
        self.write("server.key", &key)?;
        let file = self.dir.join("data/server.key");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
            .doing(|| format!("change the mode of {}", file.display()))?;
        self.write("server.crt", &certificate)
    }

    /// Makes a running server read its settings, `pg_hba.conf` and certificate again, and waits
    /// until it has.
    fn reload(&self) -> Result<()> {
        access::reload(&self.dir).doing(|| format!("reload the server in {}", self.dir.display()))
    }

    /// Writes the settings: as a standby of the primary in the given directory, or as a primary.
    fn follow(&self, primary: Option<&Path>) -> Result<()> {
        let mut settings = SETTINGS.to_owned();
        let _ = writeln!(settings, "listen_addresses = '{}'\nport = {PORT}", self.address);
        let _ =
            writeln!(settings, "unix_socket_directories = '{}'", self.dir.join("run").display());
        if let Some(primary) = primary {
            let socket = primary.join("run");
            let _ = writeln!(
                settings,
                "primary_conninfo = 'host={} port={PORT} user=postgres'",
                socket.display()
            );
            self.write("standby.signal", "")?;
        }
        if self.dir.join("data/server.crt").exists() {
            settings.push_str("ssl = on\n");
        }
        self.write("postgresql.auto.conf", &settings)
    }

    /// Whether the server is set up as a standby.
    fn is_standby(&self) -> bool {
        self.dir.join("data/standby.signal").exists()
    }

    fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file in the data directory.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join("data").join(name);
        fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
        chown_to_postgres(&path)
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
            let _ = sender
                .send(child.as_ref().map(std::process::Child::id).map_err(std::io::Error::kind));
            if let Ok(mut child) = child {
                let _ = child.wait();
            }
        });
        let pid = match receiver.recv() {
            Ok(Ok(pid)) => Pid::from_raw(i32::try_from(pid).unwrap_or_default()),
            _ => return Err(Error::refused("cannot start PostgreSQL; is setpriv installed?")),
        };
        self.running = Some(Running { pid, keeper, frozen: false });
        let deadline = Instant::now() + START_TIMEOUT;
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

    /// The server's log, with connections, and with statements of roles that the actor created.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// Fast shutdown: closes all connections.
    fn stop(&mut self) {
        self.freeze(false);
        if let Some(Running { pid, keeper, .. }) = self.running.take() {
            let _ = kill(pid, Signal::SIGINT);
            let _ = keeper.join();
        }
    }

    /// Freezes or continues the server: a frozen server answers no client and keeps its
    /// connections.
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

    /// Kills every process of the server.
    fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(Signal::SIGKILL);
            let _ = running.keeper.join();
        }
    }

    /// A connection of the superuser.
    fn superuser(&self, database: &str) -> std::result::Result<Client, postgres::Error> {
        superuser(&self.dir, database)
    }

    /// Runs a statement as the superuser, or several as one transaction; returns the rows of all of
    /// them as text.
    pub(crate) fn sql(
        &self,
        database: &str,
        statement: &str,
    ) -> std::result::Result<Vec<Vec<String>>, String> {
        if self.is_frozen() {
            return Err("cannot reach PostgreSQL: the server is frozen".to_owned());
        }
        let mut client = self
            .superuser(database)
            .map_err(|error| format!("cannot reach PostgreSQL: {error}"))?;
        let messages = client
            .simple_query(statement)
            .map_err(|error| format!("PostgreSQL refused: {error}"))?;
        Ok(messages.iter().filter_map(cells).collect())
    }

    pub(crate) fn has_role(&self, name: &str) -> std::result::Result<bool, String> {
        let found = format!("SELECT FROM pg_roles WHERE rolname = {}", literal(name));
        Ok(!self.sql("postgres", &found)?.is_empty())
    }

    /// Copies a cached cluster, because `initdb` takes seconds.
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
            fs::create_dir_all(&cache).doing(|| format!("create {}", cache.display()))?;
            let fresh = cache.join(format!("new-{:016x}", rand::random::<u64>()));
            done(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&data).arg(&fresh))?;
            // Another process may have created the template meanwhile.
            if fs::rename(&fresh, &template).is_err() {
                let _ = fs::remove_dir_all(&fresh);
            }
            return Ok(());
        }
        done(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(&data))
    }
}

impl Drop for Server {
    /// Immediate shutdown: nobody reads the data again.
    fn drop(&mut self) {
        self.freeze(false);
        if let Some(Running { pid, keeper, .. }) = self.running.take() {
            let _ = kill(pid, Signal::SIGQUIT);
            let _ = keeper.join();
        }
    }
}

/// The cells of a row.
pub(crate) fn cells(message: &SimpleQueryMessage) -> Option<Vec<String>> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|column| row.get(column).unwrap_or("null").to_owned()).collect())
}

/// Quotes a name for SQL.
pub(crate) fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Quotes a text for SQL.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A superuser's connection to the server in a directory.
fn superuser(dir: &Path, database: &str) -> std::result::Result<Client, postgres::Error> {
    let mut config = postgres::Config::new();
    config.host_path(dir.join("run")).port(PORT).user("postgres").dbname(database);
    config.connect(NoTls)
}

/// Makes user `postgres` the owner if the simulator is root: the server then runs as `postgres`.
fn chown_to_postgres(path: &Path) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let user = nix::unistd::User::from_name("postgres").ok().flatten();
    let user = user.ok_or_else(|| {
        Error::refused("user postgres does not exist: PostgreSQL refuses to run as root")
    })?;
    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .doing(|| format!("change the owner of {} to postgres", path.display()))
}

fn done(command: &mut Command) -> Result<()> {
    let name = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().doing(|| format!("run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::refused(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr))))
}

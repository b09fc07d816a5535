//! A real PostgreSQL server of the model's own.

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
use postgres::{Client, NoTls};

use crate::error::{Doing as _, Error, Result};
use crate::pooler::as_postgres;

/// The port, on an address of the server's own.
pub(crate) const PORT: u16 = 5432;
const PATIENCE: Duration = Duration::from_secs(30);

/// A server: stopped and started at will, stopped for good when dropped.
pub(crate) struct Server {
    dir: PathBuf,
    programs: PathBuf,
    pub(crate) address: Ipv4Addr,
    running: Option<Running>,
}

struct Running {
    pid: Pid,
    /// Started the server and lives as long: the server gets a signal when its starter is gone.
    keeper: JoinHandle<()>,
}

impl Server {
    /// A new server in `dir`, from the newest PostgreSQL installed. Its superuser is `postgres`, by the local socket only.
    pub(crate) fn create(dir: &Path, address: Ipv4Addr) -> Result<Server> {
        let programs = newest()?;
        for dir in [dir.to_owned(), dir.join("run")] {
            fs::create_dir_all(&dir).doing(|| format!("make {}", dir.display()))?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
                .doing(|| format!("close {}", dir.display()))?;
            give(&dir)?;
        }
        let mut server = Server { dir: dir.to_owned(), programs, address, running: None };
        server.copy_template()?;
        let settings = format!(
            "listen_addresses = '{address}'\nport = {PORT}\nunix_socket_directories = '{}'\npassword_encryption = 'scram-sha-256'\n\
             fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nmax_connections = 300\nshared_buffers = '32MB'\n",
            dir.join("run").display()
        );
        // The md5 method also takes SCRAM verifiers.
        let access = "local all postgres trust\nhost all all 127.0.0.0/8 md5\n";
        for (name, text) in [("postgresql.auto.conf", settings.as_str()), ("pg_hba.conf", access)] {
            let path = dir.join("data").join(name);
            fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
        }
        server.start()?;
        Ok(server)
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let log = self.dir.join("server.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .doing(|| format!("open {}", log.display()))?;
        let mut command = as_postgres("INT");
        command.arg(self.programs.join("postgres")).arg("-D").arg(self.dir.join("data")).current_dir("/");
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
        self.running = Some(Running { pid, keeper });
        let deadline = Instant::now() + PATIENCE;
        while self.superuser("postgres").is_err() {
            let ended = self.running.as_ref().is_none_or(|running| running.keeper.is_finished());
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
                return Err(Error::refused(format!("PostgreSQL does not start; its log:\n{log}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A fast shutdown: connections are cut.
    pub(crate) fn stop(&mut self) {
        if let Some(Running { pid, keeper }) = self.running.take() {
            let _ = kill(pid, Signal::SIGINT);
            let _ = keeper.join();
        }
    }

    /// The superuser's connection.
    pub(crate) fn superuser(&self, database: &str) -> std::result::Result<Client, postgres::Error> {
        let mut config = postgres::Config::new();
        config.host_path(self.dir.join("run")).port(PORT).user("postgres").dbname(database);
        config.connect(NoTls)
    }

    /// `initdb` takes seconds; a copy of an earlier one does not.
    fn copy_template(&mut self) -> Result<()> {
        let version = self
            .programs
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let uid = if nix::unistd::geteuid().is_root() {
            "postgres".to_owned()
        } else {
            nix::unistd::geteuid().to_string()
        };
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        let cache = cache.unwrap_or_else(std::env::temp_dir).join("jujusim");
        let template = cache.join(format!("postgresql-{version}-{uid}-wal1"));
        let data = self.dir.join("data");
        if !template.exists() {
            let mut initdb = as_postgres("KILL");
            initdb.arg(self.programs.join("initdb")).arg("-D").arg(&data).current_dir("/");
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

/// The directory with the programs of the newest PostgreSQL.
pub(crate) fn newest() -> Result<PathBuf> {
    let versions =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.filter(|path| path.join("bin/initdb").exists()).max_by_key(number);
    newest
        .map(|path| path.join("bin"))
        .ok_or_else(|| Error::refused("PostgreSQL is not installed in /usr/lib/postgresql"))
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

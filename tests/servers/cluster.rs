//! PostgreSQL servers of a test's own.

use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgbouncer_k8s::postgres::{AllowedMethods, Credentials, Server, TlsDemand};
use pgbouncer_k8s::secret::Secret;

use super::leave_root;
use super::pgbouncer::cache;
use super::tls::{Authority, Identity};

/// The versions that the charm works with.
const MAJORS: [u32; 3] = [14, 16, 15];

/// A major version of PostgreSQL that is here.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) major: u32,
    programs: PathBuf,
}

/// All of [`MAJORS`] under `CI=true`; elsewhere those that are here, and the output says which are
/// not.
pub(crate) fn releases() -> Vec<Release> {
    let found: Vec<_> = MAJORS.into_iter().filter_map(release).collect();
    assert!(!found.is_empty(), "these tests need a PostgreSQL server: run scripts/parts");
    if found.len() < MAJORS.len() {
        assert!(
            !std::env::var("CI").is_ok_and(|ci| ci == "true"),
            "{found:?} only: run scripts/postgresql"
        );
        // Not eprintln!, which nobody sees of a test that passes.
        let _ = writeln!(
            io::stderr(),
            "NOT RUN on all of PostgreSQL {MAJORS:?}, but on {found:?}: run scripts/postgresql"
        );
    }
    found
}

/// As Debian and Ubuntu lay it out, else what scripts/postgresql fetched.
fn release(major: u32) -> Option<Release> {
    let installed = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    let fetched = cache().join(format!("postgresql-{major}/bin"));
    let programs =
        [installed, fetched].into_iter().find(|programs| programs.join("initdb").exists())?;
    Some(Release { major, programs })
}

/// The newest of those that are installed.
fn newest() -> Result<Release, Box<dyn Error>> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some(Release { major, programs: entry.path().join("bin") })
        })
        .filter(|release| release.programs.join("initdb").exists())
        .max_by_key(|release| release.major)
        .ok_or_else(|| "these tests need a PostgreSQL server: run scripts/parts".into())
}

/// A server with a superuser `operator`.
pub(crate) struct Cluster {
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
    server: Child,
}

impl Cluster {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        Self::of(&newest()?, "")
    }

    /// Lines of `pg_hba.conf` for TCP stand before the one that wants SCRAM of everybody.
    pub(crate) fn of(release: &Release, hba: &str) -> Result<Self, Box<dyn Error>> {
        Self::launch(release, Files::make(release, hba)?)
    }

    /// With a standby that follows it.
    pub(crate) fn pair(release: &Release) -> Result<(Self, Self), Box<dyn Error>> {
        let files = Files::make(release, "")?;
        let copy = files.standby()?;
        Ok((Self::launch(release, files)?, Self::launch(release, copy)?))
    }

    fn launch(release: &Release, files: Files) -> Result<Self, Box<dyn Error>> {
        let Files { directory, port } = files;
        let server = Command::new(release.programs.join("postgres"))
            .args([
                "-c",
                "fsync=off",
                "-c",
                // After a kill, POSIX shared memory would stay behind.
                "dynamic_shared_memory_type=mmap",
                "-c",
                "listen_addresses=127.0.0.1",
                "-p",
                &port.to_string(),
                "-k",
            ])
            .arg(&directory)
            .arg("-D")
            .arg(directory.join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let cluster = Self { directory, port, server };
        cluster.wait_for("SELECT true")?;
        Ok(cluster)
    }

    /// Until this is true.
    pub(crate) fn wait_for(&self, condition: &str) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        loop {
            let answer = self.psql("operator", "postgres", condition);
            if answer.as_deref() == Ok("t") {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(30) {
                return Err(format!("not within 30 s: {condition}: {answer:?}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            hosts: vec![("127.0.0.1".to_owned(), self.port)],
            user: "operator".to_owned(),
            password: Secret::new("operator's password"),
            database: "postgres".to_owned(),
            methods: AllowedMethods::Any,
            tls: TlsDemand::default(),
        }
    }

    /// From now on the server offers TLS, with a certificate that nobody vouches for, and has read
    /// `pg_hba.conf` again.
    pub(crate) fn offer_tls(&self) -> Result<(), Box<dyn Error>> {
        self.serve_tls(&Authority::new().sign("somebody", "DNS:somebody", 1), None)
    }

    /// From now on the server has this certificate, verifies those of clients against these CAs if
    /// there are any, and has read `pg_hba.conf` again: see [`Cluster::admit`].
    pub(crate) fn serve_tls(
        &self,
        identity: &Identity,
        clients: Option<&Path>,
    ) -> Result<(), Box<dyn Error>> {
        let data = self.directory.join("data");
        fs::write(data.join("server.crt"), &identity.certificate)?;
        let key = data.join("server.key");
        fs::write(&key, &identity.key)?;
        fs::set_permissions(key, Permissions::from_mode(0o600))?;
        let cas = clients.map(|cas| cas.display().to_string()).unwrap_or_default();
        self.psql("operator", "postgres", &format!("ALTER SYSTEM SET ssl_ca_file = '{cas}'"))?;
        self.psql("operator", "postgres", "ALTER SYSTEM SET ssl = on")?;
        self.reload()?;
        self.wait_for("SELECT current_setting('ssl')::boolean")
    }

    /// From now on these lines of `pg_hba.conf` hold for TCP, such as `hostssl all all all
    /// scram-sha-256`; the Unix socket trusts everybody.
    pub(crate) fn admit(&self, lines: &str) -> Result<(), Box<dyn Error>> {
        let file = self.directory.join("data/pg_hba.conf");
        fs::write(file, format!("local all all trust\n{lines}\n"))?;
        self.reload()
    }

    /// Makes the server load its files, and waits until new sessions see that it has.
    fn reload(&self) -> Result<(), Box<dyn Error>> {
        let before = self.psql("operator", "postgres", "SELECT pg_conf_load_time()")?;
        self.psql("operator", "postgres", "SELECT pg_reload_conf()")?;
        self.wait_for(&format!("SELECT pg_conf_load_time() <> '{before}'"))
    }

    pub(crate) fn connect(&self) -> Result<Server, Box<dyn Error>> {
        Ok(Server::connect(&self.credentials())?)
    }

    /// What a role sees, over the Unix socket, where everybody is trusted.
    pub(crate) fn psql(&self, user: &str, database: &str, sql: &str) -> Result<String, String> {
        self.ask(&self.directory.to_string_lossy(), user, "", database, sql)
    }

    /// The same over TCP, with a password.
    pub(crate) fn log_in(
        &self,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<String, String> {
        self.ask("127.0.0.1", user, password, database, "SELECT session_user")
    }

    fn ask(
        &self,
        host: &str,
        user: &str,
        password: &str,
        database: &str,
        sql: &str,
    ) -> Result<String, String> {
        let output = Command::new("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .envs([
                ("PGHOST", host),
                ("PGUSER", user),
                ("PGPASSWORD", password),
                ("PGDATABASE", database),
            ])
            .env("PGPORT", self.port.to_string())
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = i32::try_from(self.server.id()).expect("a process id fits");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("the child is ours");
        self.server.wait().expect("the child is ours");
        fs::remove_dir_all(&self.directory).expect("the directory is ours");
    }
}

/// What a server starts from: its data, in a directory that also takes its socket.
struct Files {
    directory: PathBuf,
    port: u16,
}

impl Files {
    fn new() -> Result<Self, Box<dyn Error>> {
        leave_root();
        // Two threads may be given one port: it is whose directory comes first.
        loop {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let directory = PathBuf::from(format!("/tmp/p{}-{port}", std::process::id()));
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self { directory, port }).map_err(Into::into),
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn make(release: &Release, hba: &str) -> Result<Self, Box<dyn Error>> {
        let files = Self::new()?;
        let password = files.directory.join("password");
        fs::write(&password, "operator's password\n")?;
        let initdb = Command::new(release.programs.join("initdb"))
            .args([
                "-U",
                "operator",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--no-sync",
            ])
            .args(["-E", "UTF8", "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(files.data())
            .stdout(Stdio::null())
            .status()?;
        assert!(initdb.success(), "initdb: {initdb}");
        let file = files.data().join("pg_hba.conf");
        fs::write(&file, format!("{hba}\n{}", fs::read_to_string(&file)?))?;
        Ok(files)
    }

    /// The files of a standby, before their own server is started.
    fn standby(&self) -> Result<Self, Box<dyn Error>> {
        let files = Self::new()?;
        copy(&self.data(), &files.data())?;
        fs::set_permissions(files.data(), Permissions::from_mode(0o700))?;
        fs::write(files.data().join("standby.signal"), "")?;
        let primary = format!("host={} port={} user=operator", self.directory.display(), self.port);
        fs::write(
            files.data().join("postgresql.auto.conf"),
            format!("primary_conninfo = '{primary}'\n"),
        )?;
        Ok(files)
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

//! Background clients: `pgbench`, one process per unit, or clients that reconnect for each query.

use std::fs;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Doing as _, Result};
use crate::pooler::as_postgres;
use crate::server::Release;
use crate::tls;

/// Where a process logs in.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    /// The port to try if nothing listens on the first one.
    pub(crate) other_port: Option<u16>,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
}

/// Background clients; they end when this value is dropped.
pub(crate) struct Load {
    pgbench: Vec<(Child, PathBuf)>,
    reconnecting: Vec<(thread::JoinHandle<()>, Arc<Tally>)>,
}

/// The results of one reconnecting client.
#[derive(Default)]
struct Tally {
    is_over: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
    /// The last error.
    said: std::sync::Mutex<String>,
}

impl Load {
    /// Starts clients that connect again for each query.
    pub(crate) fn start_reconnecting(targets: Vec<Target>, clients: usize) -> Load {
        let each = clients.div_ceil(targets.len().max(1));
        let targets = targets.into_iter().flat_map(|target| std::iter::repeat_n(target, each));
        let start = |target: Target| {
            let tally = Arc::new(Tally::default());
            let its = Arc::clone(&tally);
            (thread::spawn(move || target.query_until_stopped(&its)), tally)
        };
        let mut load = Load { pgbench: Vec::new(), reconnecting: targets.map(start).collect() };
        load.wait();
        load
    }

    pub(crate) fn start(dir: &Path, targets: &[Target], clients: usize) -> Result<Load> {
        let pgbench = Release::newest()?.programs.join("pgbench");
        let script = dir.join("load.sql");
        fs::write(&script, "SELECT 1;\n").doing(|| "write the load's script".to_owned())?;
        let mut load = Load { pgbench: Vec::new(), reconnecting: Vec::new() };
        for (index, target) in targets.iter().enumerate() {
            let share =
                (clients / targets.len() + usize::from(index < clients % targets.len())).max(1);
            let report = dir.join(format!("load-{index}"));
            let stderr =
                fs::File::create(&report).doing(|| format!("make {}", report.display()))?;
            let mut command = as_postgres("KILL");
            command
                .arg(&pgbench)
                // Limit the rate, to leave CPU time for the processes under test.
                .args(["-n", "-P", "1", "-T", "3600", "-R", "100", "-c", &share.to_string()])
                .arg("-f")
                .arg(&script);
            command.args(["-h", &target.address.to_string(), "-p", &target.port.to_string()]);
            command
                .args(["-U", &target.user, &target.database])
                .env("PGPASSWORD", &target.password);
            command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
            load.pgbench.push((command.spawn().doing(|| "start pgbench".to_owned())?, report));
        }
        load.wait();
        Ok(load)
    }

    /// Waits until every process has reported transactions; the first report comes after a second.
    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        for (_, tally) in &self.reconnecting {
            while tally.answered.load(Ordering::Relaxed) == 0 && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
        }
        for (child, report) in &mut self.pgbench {
            while progress(report) == 0
                && matches!(child.try_wait(), Ok(None))
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Ends the clients; returns whether they completed transactions, the number of errors, and the
    /// error messages.
    pub(crate) fn stop(mut self) -> String {
        let (mut working, mut errors, mut said) = (true, 0, String::new());
        for (client, tally) in self.reconnecting.drain(..) {
            tally.is_over.store(true, Ordering::Relaxed);
            errors += usize::from(client.join().is_err());
            working &= tally.answered.load(Ordering::Relaxed) > 0;
            errors += tally.failed.load(Ordering::Relaxed);
            let last = tally.said.lock().map(|said| said.clone()).unwrap_or_default();
            said.push_str(&last);
        }
        for (child, report) in &mut self.pgbench {
            working &= progress(report) > 0;
            errors += usize::from(!matches!(child.try_wait(), Ok(None)));
            for line in read(report)
                .lines()
                .filter(|line| line.contains("error") || line.contains("aborted"))
            {
                errors += 1;
                said.push_str(line);
                said.push('\n');
            }
        }
        format!(
            "transactions > 0: {}\nerrors: {errors}\n{said}",
            if working { "yes" } else { "no" }
        )
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for (_, tally) in &self.reconnecting {
            tally.is_over.store(true, Ordering::Relaxed);
        }
        for (child, _) in &mut self.pgbench {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Target {
    fn query_until_stopped(&self, tally: &Tally) {
        while !tally.is_over.load(Ordering::Relaxed) {
            let answer = self.query(self.port).or_else(|error| match self.other_port {
                // Connection refused: the process moved to the other port.
                Some(port) if error.as_db_error().is_none() && is_refused(&error) => {
                    self.query(port)
                }
                _ => Err(error),
            });
            match answer {
                Ok(()) => tally.answered.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    if let Ok(mut said) = tally.said.lock() {
                        *said = format!("{error:?}\n");
                    }
                    tally.failed.fetch_add(1, Ordering::Relaxed)
                }
            };
            // Limit the rate, to leave CPU time for the processes under test.
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn query(&self, port: u16) -> std::result::Result<(), postgres::Error> {
        let mut config = postgres::Config::new();
        config.host(&self.address.to_string()).port(port).user(&self.user).password(&self.password);
        config.dbname(&self.database).connect_timeout(Duration::from_secs(10));
        config.connect(tls::prefer())?.simple_query("SELECT 1").map(drop)
    }
}

/// Whether the connection was refused.
fn is_refused(error: &postgres::Error) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// The number of seconds with reported transactions.
fn progress(report: &Path) -> usize {
    let some = |line: &&str| line.starts_with("progress:") && !line.contains(" 0.0 tps");
    read(report).lines().filter(some).count()
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    let _ = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    text
}

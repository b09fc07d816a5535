//! Clients at work in the background: `pgbench`, one process a unit.

use std::fs;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Doing as _, Result};
use crate::pooler::as_postgres;
use crate::server::Release;

/// Where a process logs in.
pub(crate) struct Target {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
}

/// Background clients; killed when dropped.
pub(crate) struct Load(Vec<(Child, PathBuf)>);

impl Load {
    pub(crate) fn start(dir: &Path, targets: &[Target], clients: usize) -> Result<Load> {
        let pgbench = Release::newest()?.programs.join("pgbench");
        let script = dir.join("load.sql");
        fs::write(&script, "SELECT 1;\n").doing(|| "write the load's script".to_owned())?;
        let mut load = Load(Vec::new());
        for (index, target) in targets.iter().enumerate() {
            let share = (clients / targets.len() + usize::from(index < clients % targets.len())).max(1);
            let report = dir.join(format!("load-{index}"));
            let stderr = fs::File::create(&report).doing(|| format!("make {}", report.display()))?;
            let mut command = as_postgres("KILL");
            command
                .arg(&pgbench)
                // A rate that leaves the machine to those who are watched.
                .args(["-n", "-P", "1", "-T", "3600", "-R", "100", "-c", &share.to_string()])
                .arg("-f")
                .arg(&script);
            command.args(["-h", &target.address.to_string(), "-p", &target.port.to_string()]);
            command.args(["-U", &target.user, &target.database]).env("PGPASSWORD", &target.password);
            command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
            load.0.push((command.spawn().doing(|| "start pgbench".to_owned())?, report));
        }
        load.wait();
        Ok(load)
    }

    /// Until every process has reported transactions: the first report comes after a second.
    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        for (child, report) in &mut self.0 {
            while progress(report) == 0 && matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Ends the clients; whether transactions went through, how many errors there were, and what they said.
    pub(crate) fn stop(mut self) -> String {
        let (mut working, mut errors, mut said) = (true, 0, String::new());
        for (child, report) in &mut self.0 {
            working &= progress(report) > 0;
            errors += usize::from(!matches!(child.try_wait(), Ok(None)));
            for line in read(report).lines().filter(|line| line.contains("error") || line.contains("aborted"))
            {
                errors += 1;
                said.push_str(line);
                said.push('\n');
            }
        }
        format!("transactions > 0: {}\nerrors: {errors}\n{said}", if working { "yes" } else { "no" })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Seconds in which transactions were reported.
fn progress(report: &Path) -> usize {
    let some = |line: &&str| line.starts_with("progress:") && !line.contains(" 0.0 tps");
    read(report).lines().filter(some).count()
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    let _ = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    text
}

//! TLS as clients see it while certificates change: each process shows the new certificate, and no
//! session ends.

#![expect(clippy::disallowed_methods, reason = "a test starts the clients it asks")]

mod common;
mod rest;
mod servers;
mod soak;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jujusim::{Entity, Exit, Options, Secret, Sim};
use pgbouncer_k8s::pgbouncer::Version;
use servers::pgbouncer::{Program, installed};
use servers::tls::{Authority, Verified, fingerprint, handshake};
use soak::cases;
use tempfile::TempDir;

type Outcome = Result<(), Box<dyn Error>>;

const OURS: &str = "pgbouncer-k8s";
const UNITS: [&str; 3] = ["pgbouncer-k8s/0", "pgbouncer-k8s/1", "pgbouncer-k8s/2"];

const SERVICE: &str = "pgbouncer-k8s.dev.svc.cluster.local";

/// From here on a reload keeps connections to PostgreSQL over TLS.
const KEEPS_TLS: Version = Version::KEEPS_TLS_ON_RELOAD;

/// A model with three units, a client and a provider of certificates, and the client's files.
struct Bench {
    sim: Sim,
    files: TempDir,
}

/// The client's login.
struct Login {
    user: String,
    password: String,
}

impl Bench {
    /// `None` without Canonical's library, which is said.
    fn new(program: &Program) -> Result<Option<Self>, Box<dyn Error>> {
        let options = Options { pgbouncer: Some(program.directory.clone()), ..Options::default() };
        let Some(mut bench) = Self::empty(&options)? else { return Ok(None) };
        bench.play(&[
            "deploy ./pgbouncer-k8s -n 3",
            "deploy actor:postgresql postgresql-k8s",
            "deploy actor:client shop --config database=shop",
            "deploy ./tls-provider",
            "postgresql tls on",
            "integrate pgbouncer-k8s:backend-database postgresql-k8s",
            "integrate pgbouncer-k8s:certificates tls-provider",
            "integrate pgbouncer-k8s:database shop",
        ])?;
        bench.settle()?;
        Ok(Some(bench))
    }

    /// An empty model in which the provider can be deployed.
    fn empty(options: &Options) -> Result<Option<Self>, Box<dyn Error>> {
        common::stage();
        if let Err(why) = common::stage_tls_provider() {
            if std::env::var("CI").is_ok_and(|ci| ci == "true") {
                return Err(why.into());
            }
            writeln!(std::io::stderr(), "NOT RUN with certificates: {why}")?;
            return Ok(None);
        }
        Ok(Some(Self { sim: Sim::new(options)?, files: TempDir::new()? }))
    }

    /// Runs commands, and no hook but those that they run.
    fn play(&mut self, lines: &[&str]) -> Outcome {
        lines.iter().try_for_each(|line| self.sim.run(line).map(drop))?;
        Ok(())
    }

    /// What a unit stores about its certificate, by the names in the secret.
    fn stored(&self, unit: &str) -> BTreeMap<String, String> {
        let id = self.sim.model().relations_at("pgbouncer-k8s:pgb-peers")[0];
        let secret = self.secrets(unit).next().map(|secret| secret.content().clone());
        let mut stored = secret.unwrap_or_else(|| self.sim.model().bag(id, unit));
        stored.retain(|key, _| {
            ["key", "csr", "cert", "chain", "ca", "cauth"].contains(&key.as_str())
        });
        stored
    }

    /// The calls of hook tools in hooks without news.
    fn quiet_calls(&mut self, unit: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let runs = self.sim.model().hook_runs().len();
        for hook in ["config-changed", "update-status"] {
            self.go(&format!("trigger {unit} {hook}"))?;
        }
        let runs = &self.sim.model().hook_runs()[runs..];
        Ok(runs.iter().flat_map(|run| &run.calls).map(|call| call.name.clone()).collect())
    }

    /// The secrets that a unit owns.
    fn secrets(&self, unit: &str) -> impl Iterator<Item = &Secret> {
        let owner = Entity::Unit(unit.parse().expect("a unit"));
        self.sim.model().secrets_of(&owner).collect::<Vec<_>>().into_iter()
    }

    /// The request of a unit.
    fn request(&self, unit: &str) -> String {
        let model = self.sim.model();
        let id = model.relations_at("pgbouncer-k8s:certificates")[0];
        let text = model.bag(id, unit).remove("certificate_signing_requests").unwrap_or_default();
        let list: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{unit}: {text}");
        list[0]["certificate_signing_request"].as_str().expect("a request").to_owned()
    }

    /// Runs one command, and then hook after hook. After each one the client trusts what its
    /// relation says, as a client does that reads its secret when it changes.
    fn go(&mut self, line: &str) -> Outcome {
        self.sim.run(line)?;
        self.settle()
    }

    fn settle(&mut self) -> Outcome {
        while !self.sim.run("step")?.contains("nothing to do") {
            self.trust()?;
        }
        Ok(())
    }

    /// The client's secret of this group; empty before it has one.
    fn secret(&self, group: &str) -> BTreeMap<String, String> {
        let model = self.sim.model();
        let relation = model.relations_at("shop:database").first().copied();
        let uri = relation.and_then(|id| model.bag(id, OURS).get(group).cloned());
        let content = uri.and_then(|uri| model.secret(&uri).map(|found| found.content().clone()));
        content.unwrap_or_default()
    }

    fn root(&self) -> PathBuf {
        self.files.path().join("root.crt")
    }

    /// Writes the CAs that the client knows to the file that it trusts.
    fn trust(&self) -> Outcome {
        let Some(cas) = self.secret("secret-tls").remove("tls-ca") else { return Ok(()) };
        let new = self.files.path().join("new.crt");
        fs::write(&new, cas)?;
        Ok(fs::rename(new, self.root())?)
    }

    fn login(&self) -> Login {
        let mut login = self.secret("secret-user");
        let mut take = |key| login.remove(key).expect("the client has its login");
        Login { user: take("username"), password: take("password") }
    }

    fn address(&self, unit: &str) -> Result<SocketAddr, Box<dyn Error>> {
        Ok(SocketAddr::new(self.sim.model().unit_address(unit)?.into(), 6432))
    }

    /// The certificate of each unit, which both processes must show: of 16 handshakes, one of two
    /// processes gets none in one of 32768 cases.
    fn shown(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let mut shown = Vec::new();
        for unit in UNITS {
            let server = self.address(unit)?;
            let prints: Result<BTreeSet<_>, String> =
                (0..16).map(|_| Ok(handshake(server)?.fingerprint)).collect();
            let prints: Vec<_> = prints?.into_iter().collect();
            let [print] = &prints[..] else { return Err(format!("{unit}: {prints:?}").into()) };
            shown.push(print.clone());
        }
        Ok(shown)
    }

    /// A login that verifies a unit under a name.
    fn ask(&self, unit: &str, host: &str, root: &Path) -> Result<String, Box<dyn Error>> {
        let Login { user, password } = &self.login();
        let (server, database, more) = (self.address(unit)?, "shop", "");
        let login = Verified { server, host, root, user, password, database, more };
        Ok(login.ask("SELECT current_database()")?)
    }

    /// A client of a unit that verifies its certificate and name, and goes on until it is stopped;
    /// with `reconnects`, each transaction has a connection of its own.
    fn start(&self, unit: &str, reconnects: bool) -> Result<Client, Box<dyn Error>> {
        let Login { user, password } = self.login();
        let script = self.files.path().join("script.sql");
        fs::write(&script, "SELECT 1;\n\\sleep 100 ms\n")?;
        let server = self.address(unit)?;
        let (name, number) = (format!("{}-{reconnects}.log", unit.replace('/', "-")), server.ip());
        let log = self.files.path().join(format!("{}-{name}", self.logs()?));
        let target = format!(
            "host={SERVICE} hostaddr={number} port=6432 user={user} dbname=shop \
             sslmode=verify-full sslrootcert={}",
            self.root().display()
        );
        let mut command = Command::new("pgbench");
        command
            .args(["--no-vacuum", "--client=1", "--time=3600", "--progress=1", "--file"])
            .arg(&script);
        let output = fs::File::create(&log)?;
        let child = command
            .args(reconnects.then_some("--connect"))
            .arg(target)
            .env("PGPASSWORD", password)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Client { child, log, reconnects })
    }

    fn logs(&self) -> Result<usize, Box<dyn Error>> {
        Ok(fs::read_dir(self.files.path())?.count())
    }
}

/// A client that works in the background. It ends at its first error.
struct Client {
    child: Child,
    log: PathBuf,
    reconnects: bool,
}

impl Client {
    /// Why the client has ended; `None` while it works.
    fn failure(&mut self) -> Result<Option<String>, Box<dyn Error>> {
        Ok(match self.child.try_wait()? {
            Some(_) => Some(fs::read_to_string(&self.log)?),
            None => None,
        })
    }
}

impl Client {
    /// Whether the client has run transactions in the last second that it reports.
    fn works(&self) -> Result<bool, Box<dyn Error>> {
        let log = fs::read_to_string(&self.log)?;
        let last = log.lines().rev().find_map(|line| line.strip_prefix("progress: "));
        let rate = last.and_then(|line| line.split(", ").nth(1)?.strip_suffix(" tps"));
        Ok(rate.is_some_and(|rate| rate.parse().is_ok_and(|rate: f64| rate > 0.0)))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays changes of certificates under load, and returns what ended clients.
fn change(
    bench: &mut Bench,
    changes: &[&[&str]],
    clients: usize,
) -> Result<Vec<String>, Box<dyn Error>> {
    let mut all = Vec::new();
    for number in 0..clients {
        all.push(bench.start(UNITS[number % UNITS.len()], number % 2 == 1)?);
    }
    let mut failures = Vec::new();
    for lines in changes {
        let before = bench.shown()?;
        for line in *lines {
            bench.go(line)?;
        }
        let is_of_server = lines.iter().all(|line| line.starts_with("postgresql"));
        for (old, new) in before.iter().zip(bench.shown()?) {
            assert_eq!(*old == new, is_of_server, "{lines:?}");
        }
        for client in &mut all {
            if let Some(failure) = client.failure()? {
                let kind = if client.reconnects { "reconnecting" } else { "session" };
                failures.push(format!("after {lines:?}: {kind}: {failure}"));
            }
        }
        all.retain_mut(|client| matches!(client.failure(), Ok(None)));
    }
    for client in &all {
        assert!(client.works()?, "{}", client.log.display());
    }
    Ok(failures)
}

#[test]
fn certificates_change_without_an_error_of_a_verifying_client() -> Outcome {
    // The newest comes first.
    for program in cases(1, installed().into_iter().rev()) {
        let Some(mut bench) = Bench::new(&program)? else { return Ok(()) };
        bench.go("config pgbouncer-k8s client_tls_sslmode=require")?;
        bench.trust()?;
        for unit in UNITS {
            let pod =
                format!("{}.pgbouncer-k8s-endpoints.dev.svc.cluster.local", unit.replace('/', "-"));
            for host in [SERVICE, &pod] {
                assert_eq!(bench.ask(unit, host, &bench.root())?, "shop");
            }
            assert!(bench.ask(unit, "other.test", &bench.root()).is_err());
        }
        let all: [&[&str]; 8] = [
            &["run tls-provider/0 rotate-ca"],
            &["run tls-provider/0 renew"],
            &["run tls-provider/0 renew"],
            &["run tls-provider/0 renew"],
            &[
                "remove-relation pgbouncer-k8s:certificates tls-provider",
                "deploy ./tls-provider other",
                "integrate pgbouncer-k8s:certificates other",
            ],
            &["postgresql tls rotate"],
            &["postgresql tls off"],
            &["postgresql tls on"],
        ];
        let changes: Vec<_> = cases(2, all).collect();
        let clients = cases(6, 0..20).count();
        let failures = change(&mut bench, &changes, clients)?;
        for unit in UNITS {
            assert_eq!(rest::work_left(&mut bench.sim, unit)?, None, "{unit}");
        }
        let version = program.version;
        writeln!(
            std::io::stderr(),
            "PgBouncer {version}: {} of {clients} clients ended",
            failures.len()
        )?;
        let sessions = failures.iter().filter(|failure| failure.contains(": session:")).count();
        assert_eq!(sessions, 0, "PgBouncer {version}: {failures:#?}");
        if version >= KEEPS_TLS {
            assert!(failures.is_empty(), "PgBouncer {version}: {failures:#?}");
        }
    }
    Ok(())
}

/// What the Python charm calls its secret, by layout; the model without secrets keeps all in the
/// unit's bag.
const LAYOUTS: [(&str, &str); 4] = [
    ("3.6.14", "pgb-peers.pgbouncer-k8s.unit"),
    ("3.6.14", "pgbouncer-k8s.unit"),
    ("3.6.14", "internal-secret"),
    ("2.9.52", ""),
];

#[test]
fn a_certificate_of_the_python_charm_serves_on_without_a_request() -> Outcome {
    for (juju, label) in LAYOUTS {
        let options = Options { juju: juju.to_owned(), ..Options::default() };
        let Some(mut bench) = Bench::empty(&options)? else { return Ok(()) };
        let unit = UNITS[0];
        bench.play(&[
            "deploy ./pgbouncer-k8s",
            "deploy ./tls-provider",
            "integrate pgbouncer-k8s:certificates tls-provider",
        ])?;
        bench.settle()?;
        let (before, request) = (bench.stored(unit), bench.request(unit));
        let shown = handshake(bench.address(unit)?)?;
        assert!(before["key"].starts_with("-----BEGIN RSA PRIVATE KEY-----"), "{label}");

        // As the Python charm leaves a unit: its secret under its label, and no note of ours.
        if !label.is_empty() {
            let ours = format!("exec {unit} -- secret-info-get --label {}", LAYOUTS[0].1);
            let info = bench.sim.run(&ours)?;
            let uri = info.split(':').next().ok_or("no secret")?.trim().to_owned();
            let in_bag = label == "internal-secret";
            let label = if in_bag { "another" } else { label };
            bench.sim.run(&format!("exec {unit} -- secret-set {uri} --label {label}"))?;
            if in_bag {
                let line = format!("databag pgbouncer-k8s:pgb-peers {unit} internal-secret={uri}");
                bench.sim.run(&line)?;
            }
        }
        bench.play(&[
            &format!("databag pgbouncer-k8s:pgb-peers {unit} container_initialised=True"),
            &format!("exec {unit} -- state-delete certificate"),
            "refresh pgbouncer-k8s --path ./pgbouncer-k8s",
        ])?;
        bench.settle()?;
        bench.sim.run("wait 6m")?;
        assert_eq!(bench.stored(unit), before, "{juju} {label}");
        assert_eq!(bench.request(unit), request, "{juju} {label}");
        assert_eq!(handshake(bench.address(unit)?)?, shown, "{juju} {label}");
        let labels: Vec<_> = bench.secrets(unit).map(|secret| secret.label.as_str()).collect();
        let one = [LAYOUTS[0].1];
        assert_eq!(labels, &one[..usize::from(!label.is_empty())], "{juju} {label}");
    }
    Ok(())
}

/// The hook that makes a unit's key dies, or its commit is torn, each unit's in another way.
#[test]
fn an_interrupted_hook_makes_no_second_key() -> Outcome {
    let Some(mut bench) = Bench::empty(&Options::default())? else { return Ok(()) };
    bench.play(&["deploy ./pgbouncer-k8s -n 4", "deploy ./tls-provider"])?;
    bench.settle()?;
    bench.play(&[
        "fail-commit pgbouncer-k8s/0 --torn",
        "kill pgbouncer-k8s/1 at secret-add",
        "kill pgbouncer-k8s/2 at relation-set",
        "kill pgbouncer-k8s/3 at state-set",
        "integrate pgbouncer-k8s:certificates tls-provider",
    ])?;
    // The torn commit has kept the key of unit 0, and nothing else.
    while !bench.stored(UNITS[0]).contains_key("key") {
        bench.sim.run("step")?;
    }
    let key = bench.stored(UNITS[0])["key"].clone();
    bench.settle()?;
    assert_eq!(bench.stored(UNITS[0])["key"], key);
    for unit in UNITS.iter().chain(&["pgbouncer-k8s/3"]) {
        let secrets = bench.secrets(unit).count();
        assert_eq!(secrets, 1, "{unit}");
        assert_eq!(bench.request(unit), bench.stored(unit)["csr"], "{unit}");
        let served = handshake(bench.address(unit)?)?.fingerprint;
        assert_eq!(served, fingerprint(&bench.stored(unit)["cert"]), "{unit}");
    }
    let killed = bench.sim.model().hook_runs().iter().filter(|run| run.exit != Exit::Success);
    assert_eq!(killed.count(), 4);
    Ok(())
}

/// A hook that takes a new certificate dies at each of its changes to files and processes, and at
/// each of its last calls; the next hook ends where an undisturbed one ends.
#[test]
fn a_rotation_that_dies_at_any_point_is_completed_by_the_next_hook() -> Outcome {
    let Some(mut bench) = Bench::empty(&Options::default())? else { return Ok(()) };
    bench.play(&["deploy ./pgbouncer-k8s", "deploy ./tls-provider"])?;
    bench.settle()?;
    let (unit, mut count) = (UNITS[0], 0);
    let quiet = bench.quiet_calls(unit)?;
    bench.go("integrate pgbouncer-k8s:certificates tls-provider")?;
    assert_eq!(bench.quiet_calls(unit)?, quiet, "a certificate costs no call");
    let server = bench.address(unit)?;
    for (point, most) in [
        ("syscall rename", 12),
        ("syscall unlink", 12),
        ("syscall connect --no-follow", 24),
        ("secret-set", 1),
        ("relation-set", 1),
        ("state-set", 1),
    ] {
        for nth in cases(1, 1..=most) {
            let (place, options) = point
                .split_once(" --")
                .map_or((point, String::new()), |(place, rest)| (place, format!(" --{rest}")));
            let old = handshake(server)?.fingerprint;
            let runs = bench.sim.model().hook_runs().len();
            bench.sim.run(&format!("kill {unit} at {place} {nth}{options}"))?;
            bench.go("run tls-provider/0 renew")?;
            let shown: BTreeSet<_> = (0..12)
                .map(|_| handshake(server).map(|shown| shown.fingerprint))
                .collect::<Result<_, _>>()?;
            let stored = fingerprint(&bench.stored(unit)["cert"]);
            assert_eq!(shown, BTreeSet::from([stored.clone()]), "{point} {nth}");
            assert_ne!(stored, old, "{point} {nth}");
            let is_killed = |run: &jujusim::HookRun| matches!(run.exit, Exit::Killed(_));
            if !bench.sim.model().hook_runs()[runs..].iter().any(is_killed) {
                bench.sim.run(&format!("restart-agent {unit}"))?;
                break;
            }
            count += 1;
        }
    }
    assert!(count > 4, "{count} hooks died");
    Ok(())
}

#[test]
fn only_clients_with_a_certificate_of_a_received_ca_get_in() -> Outcome {
    let Some(mut bench) = Bench::new(&installed().pop().expect("a PgBouncer"))? else {
        return Ok(());
    };
    let (trusted, other) = (Authority::new(), Authority::new());
    bench.go("config pgbouncer-k8s client_tls_sslmode=verify-ca")?;
    let status = bench.sim.run("status")?;
    assert!(status.contains("integrate receive-ca-cert with the CA of clients"), "{status}");
    // The provider sends the CA of the clients.
    bench.play(&["integrate pgbouncer-k8s:receive-ca-cert tls-provider:send-ca-cert"])?;
    bench.settle()?;
    let cas = bench.files.path().join("cas.json");
    let ca = fs::read_to_string(trusted.root())?;
    fs::write(&cas, serde_json::json!([ca]).to_string())?;
    bench.sim.run(&format!(
        "databag pgbouncer-k8s:receive-ca-cert tls-provider certificates=@{}",
        cas.display()
    ))?;
    bench.play(&["trigger pgbouncer-k8s/0 upgrade-charm"])?;
    bench.settle()?;
    bench.trust()?;
    let Login { user, password } = &bench.login();
    let ask = |authority: Option<&Authority>, days| -> Result<String, Box<dyn Error>> {
        let mut more = String::new();
        if let Some(authority) = authority {
            let identity = authority.sign("client", "DNS:client.test", days);
            for (name, text) in [("crt", &identity.certificate), ("key", &identity.key)] {
                let file = bench.files.path().join(format!("client.{name}"));
                let _ = fs::remove_file(&file);
                fs::write(&file, text)?;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            }
            let file = |name| bench.files.path().join(format!("client.{name}"));
            more = format!("sslcert={} sslkey={}", file("crt").display(), file("key").display());
        }
        let root = bench.root();
        let login = Verified {
            server: bench.address(UNITS[1])?,
            host: SERVICE,
            root: &root,
            user,
            password,
            database: "shop",
            more: &more,
        };
        Ok(login.ask("SELECT current_database()").unwrap_or_else(|error| error))
    };
    assert_eq!(ask(Some(&trusted), 1)?, "shop");
    for (authority, days) in [(None, 1), (Some(&other), 1), (Some(&trusted), -1)] {
        let answer = ask(authority, days)?;
        assert!(answer.contains("SSL") || answer.contains("closed"), "{answer}");
    }
    Ok(())
}

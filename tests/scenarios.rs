//! The real binary in a simulated Juju: every script in `tests/scenarios` is a test, its transcript
//! stands beside it. `UPDATE_TRANSCRIPTS=1` rewrites the transcripts; review them as a diff. At the
//! end of each script a settled model has nothing left to do.

#![expect(clippy::disallowed_methods, reason = "the tests are files")]

mod common;
mod pgbouncer;
mod rest;
mod soak;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jujusim::{Options, PEBBLE, Sim, compare_transcript, pebble_of, postgresql_of};
use libtest_mimic::{Arguments, Failed, Trial};
use pgbouncer_k8s::pgbouncer::Version;
use soak::cases;

/// Scripts with replays outside a soak: these run in containers, too, on Juju 4.0.15 or with
/// another PgBouncer or PostgreSQL.
const REPLAYED: [&str; 15] = [
    "alone",
    "backend-lifecycle",
    "certificates",
    "changed-leader",
    "client-pod",
    "client-removal",
    "client-requests",
    "container-check",
    "container-drain",
    "container-port",
    "kill",
    "leader",
    "mixed-unit",
    "secret-revisions",
    "two-clients",
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    common::stage();
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    // Scripts deploy it as `./neighbour`, from where the charm under test lies.
    let _ = std::os::unix::fs::symlink(scenarios.join("neighbour"), "neighbour");
    let scripts = std::fs::read_dir(&scenarios)
        .expect("there are scenarios")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension() == Some(OsStr::new("txt")));
    let mut trials: Vec<Trial> =
        scripts.flat_map(|script| elsewhere(&script).chain([trial(script)])).collect();
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    for script in REPLAYED {
        let prefix = format!("{script}-on-");
        let has_replay = trials.iter().any(|trial| trial.name().starts_with(&prefix));
        assert!(has_replay, "tests/scenarios/{script}.txt names no replay");
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Replays of a script where its expectations hold, too, as its comments say: `# Also on Juju
/// 2.9.52 and 4.0.15.`, `# Also with PostgreSQL 14, 16.`, `# Also with PgBouncer 1.24 and
/// PostgreSQL 14, 16.` (each of these servers behind that PgBouncer), and in containers without a
/// `# Not in containers: ` and why.
///
/// A replay may differ in more than one way from the script's own run: each version has its replay,
/// but not each pair of versions. Outside a soak there is only the last replay of a script of
/// [`REPLAYED`].
fn elsewhere(script: &Path) -> impl Iterator<Item = Trial> + use<> {
    let name = name(script);
    let text = std::fs::read_to_string(script).expect("a script");
    let said = |before| {
        let lines = text.lines().map(str::trim);
        lines.filter_map(move |line| line.strip_prefix(before)?.strip_suffix('.'))
    };
    let own = Place::of(&name);
    let mut jujus: Vec<&str> =
        said("# Also on Juju ").flat_map(|jujus| jujus.split(" and ")).collect();
    let mut places: Vec<Place> =
        said("# Also with ").flat_map(|parts| own.clone().with(parts)).collect();
    let is_outside = text.lines().any(|line| line.starts_with("# Not in containers: "));
    let mut contained = (!is_outside && own.pebble.is_none()).then(|| own.clone());
    // On the last Juju, or else with the first of the others.
    if let Some(place) = &mut contained {
        if let Some(juju) = jujus.pop() {
            juju.clone_into(&mut place.juju);
        } else if !places.is_empty() {
            *place = places.remove(0);
        }
        place.pebble = Some(PEBBLE.to_owned());
    }
    let paired = jujus.len().min(places.len());
    for (place, juju) in places.iter_mut().zip(&jujus) {
        (*juju).clone_into(&mut place.juju);
    }
    let alone =
        jujus[paired..].iter().map(|juju| Place { juju: (*juju).to_owned(), ..own.clone() });
    places.extend(alone.chain(contained));
    // The last one is in containers.
    places.reverse();
    let sample = usize::from(REPLAYED.contains(&&*name));
    cases(sample, places).map(move |place| {
        let script = text.clone();
        Trial::test(format!("{name}-on-{place}"), move || {
            let Some(options) = place.options(&script)? else { return Ok(()) };
            play(&script, &options).map(drop)
        })
    })
}

/// What a script runs on: Juju and, if they are not the machine's own, PgBouncer and PostgreSQL.
#[derive(Clone)]
struct Place {
    juju: String,
    pgbouncer: Option<String>,
    postgresql: Option<String>,
    /// The Pebble of the container beside the charm's that the workload is in; none where it is on
    /// the unit itself.
    pebble: Option<String>,
}

impl Place {
    /// A script whose name ends so runs on a Juju without secrets.
    fn of(script: &str) -> Place {
        let juju = if script.ends_with("-without-secrets") { "2.9.52" } else { "3.6.14" };
        let pebble = script.starts_with("container").then(|| PEBBLE.to_owned());
        Place { juju: juju.to_owned(), pgbouncer: None, postgresql: None, pebble }
    }

    /// One for each combination of `PgBouncer 1.24 and PostgreSQL 14, 16`.
    fn with(self, parts: &str) -> Vec<Place> {
        parts.split(" and ").fold(vec![self], |places, part| {
            let (program, versions) = part.split_once(' ').expect("a program and its versions");
            let place = |place: &Place, version: &str| match program {
                "PgBouncer" => Place { pgbouncer: Some(version.to_owned()), ..place.clone() },
                "PostgreSQL" => Place { postgresql: Some(version.to_owned()), ..place.clone() },
                "Pebble" => Place { pebble: Some(version.to_owned()), ..place.clone() },
                other => {
                    panic!("scripts run with PgBouncer, PostgreSQL and Pebble, not with {other}")
                }
            };
            let versions: Vec<&str> = versions.split(", ").collect();
            places
                .iter()
                .flat_map(|one| versions.iter().map(|version| place(one, version)))
                .collect()
        })
    }

    /// None where a part is not installed, which is said. Under `CI=true` all are.
    fn options(&self, script: &str) -> Result<Option<Options>, Failed> {
        if script.contains("deploy ./tls-provider")
            && let Err(error) = common::stage_tls_provider()
        {
            return self.not_here(&error.to_string());
        }
        let mut options = Options {
            juju: self.juju.clone(),
            postgresql: self.postgresql.clone(),
            stable: true,
            ..Options::default()
        };
        if let Some(wanted) = &self.pgbouncer {
            let wanted = Version::parse(wanted).expect("a version");
            let fits = |program: &pgbouncer::Program| {
                (program.version.major, program.version.minor) == (wanted.major, wanted.minor)
            };
            match pgbouncer::installed().into_iter().find(fits) {
                Some(program) => options.pgbouncer = Some(program.directory),
                None => {
                    return self
                        .not_here(&format!("no PgBouncer {wanted}: run scripts/pgbouncer-1.24"));
                }
            }
        }
        options.containers.clone_from(&self.pebble);
        if let Some(Err(error)) = self.pebble.as_deref().map(pebble_of) {
            return self.not_here(&error.to_string());
        }
        match self.postgresql.as_deref().map(postgresql_of) {
            Some(Err(error)) => self.not_here(&error.to_string()),
            _ => Ok(Some(options)),
        }
    }

    fn not_here(&self, why: &str) -> Result<Option<Options>, Failed> {
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err(why.into());
        }
        let _ = writeln!(std::io::stderr(), "NOT RUN on {self}: {why}");
        Ok(None)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("pgbouncer", &self.pgbouncer),
            ("postgresql", &self.postgresql),
            ("containers-of-pebble", &self.pebble),
        ];
        let named = parts
            .into_iter()
            .filter_map(|(program, version)| Some(format!("{program}-{}", version.as_ref()?)));
        // Most run on the same Juju.
        let is_other =
            self.juju != Place::of("").juju || parts.iter().all(|(_, version)| version.is_none());
        let juju = is_other.then(|| self.juju.clone());
        f.write_str(&juju.into_iter().chain(named).collect::<Vec<_>>().join("-"))
    }
}

fn name(script: &Path) -> String {
    script.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn trial(script: PathBuf) -> Trial {
    let name = name(&script);
    Trial::test(name.clone(), move || {
        let text = std::fs::read_to_string(&script).expect("a script");
        let Some(options) = Place::of(&name).options(&text)? else { return Ok(()) };
        let printed = play(&text, &options)?;
        compare_transcript(&script, &printed).map_err(|error| failed(&error))
    })
}

/// Runs a script and returns its output, once the model has nothing left to do at its end.
fn play(script: &str, options: &Options) -> Result<String, Failed> {
    let mut sim = Sim::new(options).map_err(|error| failed(&error))?;
    let mut printed = String::new();
    if let Some(failure) = sim.follow(script, |text| printed.push_str(text)) {
        return Err(format!("{failure}\n{printed}").into());
    }
    let is_at_rest = |line: &str| !line.starts_with("# Not at rest at the end: ");
    if script.lines().all(is_at_rest) {
        assert_nothing_to_do(&mut sim, script)?;
    }
    Ok(printed)
}

/// No unit finds a change, after one `update-status` of each.
fn assert_nothing_to_do(sim: &mut Sim, script: &str) -> Result<(), Failed> {
    let charms =
        script.lines().filter_map(|line| line.trim().strip_prefix("deploy ./pgbouncer-k8s"));
    let apps: BTreeSet<&str> = charms
        .map(|rest| rest.split_whitespace().next().filter(|word| !word.starts_with('-')))
        .map(|name| name.unwrap_or("pgbouncer-k8s"))
        .collect();
    let units =
        |sim: &Sim| -> Vec<_> { apps.iter().flat_map(|app| sim.model().units_of(app)).collect() };
    for unit in units(sim) {
        // Refused if the unit's agent is not lost.
        let _ = sim.run(&format!("release {unit}"));
    }
    sim.run("settle").map_err(|error| failed(&error))?;
    for unit in units(sim) {
        sim.run(&format!("trigger {unit} update-status")).map_err(|error| failed(&error))?;
    }
    sim.run("settle").map_err(|error| failed(&error))?;
    for unit in units(sim) {
        if let Some(left) =
            rest::work_left(sim, &unit.to_string()).map_err(|error| failed(&error))?
        {
            return Err(format!("something is left to do: {left}").into());
        }
    }
    Ok(())
}

fn failed(error: &jujusim::Error) -> Failed {
    error.to_string().into()
}

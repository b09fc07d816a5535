//! Loads configurations into a real PgBouncer that a small supervisor keeps running.

#![expect(clippy::disallowed_methods, reason = "a test sets up the machine it needs")]

use std::{
    error::Error,
    fs::{self, File, Permissions},
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, User, geteuid},
};
use pgbouncer_k8s::{
    pgbouncer::{InstanceConfig, TlsFiles, UserList, Version},
    secret::Secret,
    workload::{Disk, Files, Loaded, NotLoaded, Paths, Workload},
};

#[path = "pgbouncer/mod.rs"]
mod programs;

use programs::{Program, installed};

type Outcome = Result<(), Box<dyn Error>>;

/// Set in the process that [`on_each_version`] starts.
const APART: &str = "PGBOUNCER_K8S_TEST_APART";

static UNITS: AtomicU8 = AtomicU8::new(1);

const KEEP: &str = r#"while :; do [ -e "$1" ] && "$0" "$1"; sleep 0.02; done"#;

/// A unit under its own root and address, and the supervisors of its processes.
struct Unit {
    program: Program,
    root: PathBuf,
    paths: Paths,
    address: String,
    disk: Disk,
    supervisors: Vec<Child>,
}

impl Unit {
    fn new(program: &Program) -> Result<Self, Box<dyn Error>> {
        let number = UNITS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let root = PathBuf::from(format!("/tmp/w{pid}-{number}"));
        fs::create_dir(&root)?;
        let paths =
            Paths::from_charm_dir(&root.join("var/lib/juju/agents/unit-pgb-0/charm"), "pgb/0");
        let disk = Disk::new(paths.clone());
        // Another process has other low bits; models have addresses from 127.100 on.
        let [.., high, low] = pid.to_be_bytes();
        let address = format!("127.{number}.{high}.{low}");
        Ok(Self { program: program.clone(), root, paths, address, disk, supervisors: Vec::new() })
    }

    fn supervised(program: &Program, instances: u16) -> Result<Self, Box<dyn Error>> {
        let mut unit = Self::new(program)?;
        unit.supervise(instances)?;
        Ok(unit)
    }

    fn supervise(&mut self, instances: u16) -> Outcome {
        for instance in 0..instances {
            let log = File::create(self.log(instance))?;
            let mut command = Command::new("sh");
            command.args(["-c", KEEP]).arg(self.program.directory.join("pgbouncer"));
            command.arg(self.paths.ini(instance)).process_group(0);
            command.stdout(Stdio::null()).stderr(log);
            if geteuid().is_root() {
                let (uid, gid) = postgres()?;
                command.uid(uid).gid(gid);
            }
            self.supervisors.push(command.spawn()?);
        }
        Ok(())
    }

    fn log(&self, instance: u16) -> PathBuf {
        self.root.join(format!("log-{instance}"))
    }

    fn reloads(&self, instance: u16) -> Result<usize, Box<dyn Error>> {
        Ok(fs::read_to_string(self.log(instance))?.matches("got SIGHUP").count())
    }

    fn pid(&self, instance: u16) -> Result<i32, Box<dyn Error>> {
        Ok(fs::read_to_string(self.paths.pid_file(instance))?.trim().parse()?)
    }

    /// Writes the file of the first instance, as a load that is killed just after it does.
    fn replace_ini(&self, files: &Files) -> Outcome {
        let ini = self.paths.ini(0);
        let owner = fs::metadata(&ini)?;
        fs::remove_file(&ini)?;
        fs::write(&ini, &files.instances[0].text)?;
        fs::set_permissions(&ini, Permissions::from_mode(0o400))?;
        Ok(chown(&ini, Some(owner.uid()), Some(owner.gid()))?)
    }

    /// Files for so many instances, all on one port.
    fn files(&self, instances: u16, generation: &str) -> Files {
        let file = |instance| {
            let directory = self.paths.instance_dir(instance);
            let text = format!(
                "[databases]\nx = host=127.0.0.1 port=1\n[pgbouncer]\nlisten_addr = {}\nlisten_port = 6432\n\
                 so_reuseport = 1\nauth_type = scram-sha-256\nauth_file = {}\nunix_socket_dir = {}\n\
                 pidfile = {}\nstats_users = prober\nsyslog_ident = {generation}\n",
                self.address,
                self.paths.user_list().display(),
                directory.display(),
                self.paths.pid_file(instance).display(),
            );
            InstanceConfig { instance, text, digest: generation.to_owned(), left_out: Vec::new() }
        };
        Files {
            shared: format!("; {generation}\n"),
            users: UserList::parse("\"prober\" \"its password\"").expect("it is a user list"),
            proof: Some(("prober".to_owned(), Secret::new("its password"))),
            version: self.program.version,
            tls: TlsFiles::default(),
            port: 6432,
            instances: (0..instances).map(file).collect(),
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        for supervisor in &mut self.supervisors {
            let group = Pid::from_raw(i32::try_from(supervisor.id()).expect("a process id fits"));
            killpg(group, Signal::SIGKILL).expect("the group is ours");
            supervisor.wait().expect("the child is ours");
        }
        fs::remove_dir_all(&self.root).expect("the directory is ours");
    }
}

fn postgres() -> Result<(u32, u32), Box<dyn Error>> {
    let user = User::from_name("postgres")?.ok_or("these tests need the user postgres")?;
    Ok((user.uid.as_raw(), user.gid.as_raw()))
}

/// The same with another port.
fn moved(files: Files) -> Files {
    moved_to(6433, files)
}

fn moved_to(port: u16, mut files: Files) -> Files {
    files.port = port;
    for file in &mut files.instances {
        file.text = file.text.replace("listen_port = 6432", &format!("listen_port = {port}"));
    }
    files
}

fn generation(program: &Program, digest: &str) -> Loaded {
    Loaded { digest: digest.to_owned(), version: program.version.to_string() }
}

fn names(directory: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<_> =
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Waits for something another process does.
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(5), "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a test with each PgBouncer, in a process of its own: the console changes the effective user
/// of the whole process for a moment, and tests are threads of one process.
fn on_each_version(test: impl FnMut(&Program) -> Outcome) -> Outcome {
    if std::env::var_os(APART).is_some() {
        return installed().iter().try_for_each(test);
    }
    let this = thread::current();
    let name = this.name().ok_or("a test's thread has the test's name")?;
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["--exact", name, "--nocapture"]).env(APART, "yes").output()?;
    let said = [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat();
    // A name that no test has would end well, too.
    let passed = output.status.success() && said.contains("test result: ok. 1 passed");
    if passed { Ok(()) } else { Err(said.into()) }
}

#[test]
fn a_load_is_confirmed_and_leaves_only_its_files() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 2)?;
        assert_eq!(unit.disk.loaded(0), None);
        let files = unit.files(2, "one");
        let done = unit.disk.load(&files)?;
        assert_eq!((done.loaded, done.restarted), (vec![0, 1], vec![]));
        assert_eq!(unit.disk.loaded(0), Some(generation(program, "one")));
        assert_eq!(unit.disk.loaded(1), Some(generation(program, "one")));
        let saved = unit.disk.saved();
        let users = files.users.file_text().map(Secret::new)?;
        assert_eq!(
            (saved.config.as_ref(), saved.users.as_ref()),
            (Some(&files.shared), Some(&users))
        );

        let instances = unit.paths.instances_dir();
        assert_eq!(names(&instances)?, ["instance_0", "instance_1", "shared.ini", "userlist.txt"]);
        let mut all = vec![instances.clone(), unit.paths.shared(), unit.paths.user_list()];
        for instance in 0..2 {
            let directory = unit.paths.instance_dir(instance);
            let sockets = [".s.PGSQL.6432", ".s.PGSQL.6432.lock"];
            let found: Vec<_> = names(&directory)?
                .into_iter()
                .filter(|name| !sockets.contains(&name.as_str()))
                .collect();
            assert_eq!(found, ["loaded", "pgbouncer.ini", "pgbouncer.pid"]);
            all.extend([directory, unit.paths.ini(instance), unit.paths.marker(instance)]);
        }
        let owner = if geteuid().is_root() { postgres()?.0 } else { geteuid().as_raw() };
        for path in all {
            let found = fs::metadata(&path)?;
            let mode = if found.is_dir() { 0o700 } else { 0o400 };
            assert_eq!((found.mode() & 0o7777, found.uid()), (mode, owner), "{}", path.display());
        }
        Ok(())
    })
}

#[test]
fn a_changed_text_reloads_once_and_the_same_text_never() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 1)?;
        unit.disk.load(&unit.files(1, "one"))?;
        let (pid, before) = (unit.pid(0)?, unit.reloads(0)?);

        let done = unit.disk.load(&unit.files(1, "two"))?;
        assert_eq!((done.loaded, done.restarted), (vec![0], vec![]));
        assert_eq!(unit.disk.loaded(0), Some(generation(program, "two")));
        assert_eq!((unit.pid(0)?, unit.reloads(0)?), (pid, before + 1));

        let done = unit.disk.load(&unit.files(1, "two"))?;
        assert_eq!(done.loaded, Vec::<u16>::new());
        assert_eq!(unit.reloads(0)?, before + 1);
        Ok(())
    })
}

#[test]
fn a_marker_does_not_count_for_the_next_process() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 1)?;
        let files = unit.files(1, "one");
        unit.disk.load(&files)?;
        let old = unit.pid(0)?;
        kill(Pid::from_raw(old), Signal::SIGKILL)?;
        until("another process runs", || unit.pid(0).is_ok_and(|pid| pid != old));
        assert_eq!(unit.disk.loaded(0), None);
        assert_eq!(unit.disk.load(&files)?.loaded, [0]);
        assert_eq!(unit.disk.loaded(0), Some(generation(program, "one")));
        Ok(())
    })
}

#[test]
fn the_next_load_repeats_a_run_killed_between_writing_and_signalling() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 1)?;
        unit.disk.load(&unit.files(1, "one"))?;
        let files = unit.files(1, "two");
        fs::remove_file(unit.paths.marker(0))?;
        unit.replace_ini(&files)?;
        let half = unit.paths.instance_dir(0).join("loaded.new");
        fs::write(&half, "tw")?;

        let before = unit.reloads(0)?;
        assert_eq!(unit.disk.load(&files)?.loaded, [0]);
        assert_eq!(unit.disk.loaded(0), Some(generation(program, "two")));
        assert_eq!(unit.reloads(0)?, before + 1);
        assert!(!half.exists());
        Ok(())
    })
}

#[test]
fn a_changed_port_needs_a_restart() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 2)?;
        unit.disk.load(&unit.files(2, "one"))?;
        let old = unit.pid(0)?;
        let files = moved(unit.files(2, "two"));
        let done = unit.disk.load(&files)?;
        assert_eq!((done.loaded, done.restarted), (vec![0, 1], vec![0, 1]));
        assert_eq!(unit.disk.loaded(1), Some(generation(program, "two")));
        assert_ne!(unit.pid(0)?, old);
        assert!(unit.paths.instance_dir(0).join(".s.PGSQL.6433").exists());
        assert_eq!(unit.disk.load(&files)?.loaded, Vec::<u16>::new());
        Ok(())
    })
}

/// From 1.19 a process that cannot have its port ends.
#[test]
fn a_failed_restart_is_not_repeated_for_the_next_process() -> Outcome {
    on_each_version(|program| {
        if program.version < Version::new(1, 19) {
            return Ok(());
        }
        let mut unit = Unit::supervised(program, 2)?;
        unit.disk.load(&unit.files(2, "first"))?;
        let before = unit.pid(1)?;
        let kept = fs::read_to_string(unit.paths.ini(1))?;
        let files = moved(unit.files(2, "second"));
        let stranger = TcpListener::bind((unit.address.as_str(), 6433))?;
        unit.disk.load(&files).expect_err("somebody else has that port");
        assert_eq!(unit.pid(1)?, before);
        // A process that ends by itself comes back on the port that it had.
        assert_eq!(fs::read_to_string(unit.paths.ini(1))?, kept);
        TcpStream::connect((unit.address.as_str(), 6432))?;

        drop(stranger);
        unit.disk.load(&files)?;
        assert_ne!(unit.pid(1)?, before);
        TcpStream::connect((unit.address.as_str(), 6433))?;
        Ok(())
    })
}

/// A hook is killed after it wrote a file with another port; the next one drops `*` from that file.
/// Both changes need a new process, and that one may not have its port: PgBouncer is not root. From
/// 1.19 it ends.
#[test]
fn a_refused_port_is_reported_even_if_another_change_needs_a_restart() -> Outcome {
    const REFUSED: u16 = 81;
    for program in installed().iter().filter(|program| program.version >= Version::new(1, 19)) {
        let mut unit = Unit::supervised(program, 1)?;
        let wildcard = |mut files: Files| {
            let text = &mut files.instances[0].text;
            *text = text.replace("[databases]\n", "[databases]\n* = host=127.0.0.1 port=1\n");
            files
        };
        unit.disk.load(&wildcard(unit.files(1, "one")))?;

        // A directory in the way of the new file ends the load after it recorded the restart.
        let in_the_way = unit.paths.ini(0).with_extension("new");
        fs::create_dir(&in_the_way)?;
        let killed = wildcard(moved_to(REFUSED, unit.files(1, "two")));
        unit.disk.load(&killed).expect_err("the file cannot be written");
        fs::remove_dir(&in_the_way)?;
        unit.replace_ini(&killed)?;

        let next = moved_to(REFUSED, unit.files(1, "three"));
        // The first load replaces the process that has the old port; the second one finds none that
        // stays.
        for _ in 0..2 {
            let error = unit.disk.load(&next).expect_err("only root may have that port");
            assert!(matches!(error, NotLoaded::NotListening { port: REFUSED, .. }), "{error:?}");
        }
        unit.disk.load(&unit.files(1, "four"))?;
        assert!(!unit.paths.pending_restart(0).exists());
    }
    Ok(())
}

#[test]
fn a_restart_waits_for_clients_up_to_a_limit() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 1)?;
        unit.disk.load(&unit.files(1, "one"))?;
        let old = unit.pid(0)?;
        // It waits for a server that is not there.
        let mut client = Command::new("psql")
            .args(["-h", &unit.address, "-p", "6432", "-U", "prober", "x"])
            .env("PGPASSWORD", "its password")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let directory = unit.paths.instance_dir(0);
        until("the client waits", || {
            let pools = Command::new("psql")
                .args(["-h", &directory.display().to_string(), "-p", "6432", "-U", "prober", "-At"])
                .args(["-c", "SHOW POOLS", "pgbouncer"])
                .env("PGPASSWORD", "its password")
                .output()
                .expect("psql is installed");
            // The database, the user, its clients that have a server and those that wait for one.
            String::from_utf8_lossy(&pools.stdout).contains("x|prober|0|1|")
        });
        let files = moved(unit.files(1, "two"));
        let start = Instant::now();
        assert_eq!(unit.disk.load(&files)?.restarted, [0]);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(13), "{took:?}");
        assert_ne!(unit.pid(0)?, old);
        assert_eq!(unit.disk.loaded(0), Some(generation(program, "two")));
        client.wait()?;
        Ok(())
    })
}

#[test]
fn a_value_that_a_reload_keeps_needs_a_restart_even_after_a_kill() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 1)?;
        let with = |files: Files, line: &str| {
            let add = |mut file: InstanceConfig| {
                file.text = file.text.replace("[databases]\n", &format!("[databases]\n{line}"));
                file
            };
            Files { instances: files.instances.into_iter().map(add).collect(), ..files }
        };
        unit.disk.load(&with(unit.files(1, "one"), "* = host=127.0.0.1 port=1\n"))?;
        let old = unit.pid(0)?;
        // A process that does not answer: as if the run had been killed after the file was there.
        kill(Pid::from_raw(old), Signal::SIGSTOP)?;
        let stopped = unit.disk.load(&unit.files(1, "two"));
        kill(Pid::from_raw(old), Signal::SIGCONT)?;
        assert!(stopped.is_err(), "{stopped:?}");

        let done = unit.disk.load(&unit.files(1, "two"))?;
        assert_eq!((done.loaded, done.restarted), (vec![0], vec![0]));
        assert_ne!(unit.pid(0)?, old);
        assert!(!unit.paths.pending_restart(0).exists());
        Ok(())
    })
}

#[test]
fn a_user_list_without_the_password_is_refused() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 1)?;
        let mut files = unit.files(1, "one");
        files.proof = Some(("prober".to_owned(), Secret::new("another password")));
        let error = unit.disk.load(&files).expect_err("the password is wrong");
        assert!(matches!(error, NotLoaded::UserListRefused { instance: 0, .. }), "{error:?}");
        let whole = format!("{error} {error:?}");
        assert!(
            whole.contains("UserListRefused") && !whole.contains("another password"),
            "{whole}"
        );
        assert_eq!(unit.disk.loaded(0), None);

        let files = unit.files(1, "one");
        assert_eq!(unit.disk.load(&files)?.loaded, [0]);
        Ok(())
    })
}

#[test]
fn a_configuration_that_pgbouncer_ignores_in_part_is_not_written() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 1)?;
        unit.disk.load(&unit.files(1, "one"))?;
        let before = (unit.reloads(0)?, fs::read_to_string(unit.paths.ini(0))?);
        let mut files = unit.files(1, "two");
        files.instances[0].text =
            files.instances[0].text.replace("so_reuseport", "no_such_setting");
        let error = unit.disk.load(&files).expect_err("there is no such setting");
        assert!(matches!(error, NotLoaded::Unfit { instance: 0, line: 6, .. }), "{error:?}");
        assert_eq!((unit.reloads(0)?, fs::read_to_string(unit.paths.ini(0))?), before);
        assert_eq!(unit.disk.loaded(0), Some(generation(program, "one")));
        Ok(())
    })
}

#[test]
fn a_load_with_another_digest_is_not_confirmed() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 1)?;
        let mut files = unit.files(1, "one");
        files.instances[0].digest = "another".to_owned();
        let error = unit.disk.load(&files).expect_err("it shows what the file says");
        assert!(matches!(error, NotLoaded::NotConfirmed { instance: 0, .. }), "{error:?}");
        assert_eq!(unit.disk.loaded(0), None);
        assert_eq!(unit.disk.load(&unit.files(1, "one"))?.loaded, [0]);
        Ok(())
    })
}

#[test]
fn a_process_that_does_not_answer_does_not_stop_the_others() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 4)?;
        unit.disk.load(&unit.files(4, "one"))?;
        let stopped: Result<Vec<_>, _> =
            (0..3).map(|instance| unit.pid(instance).map(Pid::from_raw)).collect();
        let stopped = stopped?;
        for pid in &stopped {
            kill(*pid, Signal::SIGSTOP)?;
        }
        let start = Instant::now();
        let error = unit.disk.load(&unit.files(4, "two"));
        let took = start.elapsed();
        for pid in stopped {
            kill(pid, Signal::SIGCONT)?;
        }
        let error = error.expect_err("three processes do not answer");
        assert!(matches!(error, NotLoaded::NotConfirmed { instance: 0, .. }), "{error}");
        assert!(took < Duration::from_secs(9), "{took:?}");
        assert_eq!(
            (0..4).map(|instance| unit.disk.loaded(instance)).collect::<Vec<_>>(),
            [None, None, None, Some(generation(program, "two"))]
        );
        assert_eq!(unit.disk.load(&unit.files(4, "two"))?.loaded, [0, 1, 2]);
        Ok(())
    })
}

#[test]
fn without_a_supervisor_a_process_is_reported_as_not_running() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::new(program)?;
        let error = unit.disk.load(&unit.files(1, "one")).expect_err("nobody starts it");
        assert!(matches!(error, NotLoaded::NotRunning { instance: 0 }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "cannot load instance 0 of PgBouncer: it is not running; see its log and its service"
        );
        Ok(())
    })
}

#[test]
fn the_user_list_is_in_memory_and_not_in_a_foreign_directory() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::supervised(program, 1)?;
        let memory = unit.root.join("dev/shm");
        fs::create_dir_all(&memory)?;
        unit.disk.load(&unit.files(1, "one"))?;
        assert_eq!(unit.paths.user_list(), memory.join("pgb-0/userlist.txt"));
        assert!(unit.paths.user_list().exists());

        if geteuid().is_root() {
            chown(memory.join("pgb-0"), Some(12345), None)?;
            let error = unit.disk.load(&unit.files(1, "two")).expect_err("it belongs to another");
            assert!(matches!(error, NotLoaded::ForeignDirectory { owner: 12345, .. }), "{error:?}");
            assert_eq!(unit.disk.loaded(0), Some(generation(program, "one")));
        }
        Ok(())
    })
}

#[test]
fn a_pid_file_of_another_process_does_not_prevent_a_start() -> Outcome {
    on_each_version(|program| {
        let mut unit = Unit::new(program)?;
        let files = unit.files(1, "one");
        let error = unit.disk.load(&files).expect_err("nobody starts it");
        assert!(matches!(error, NotLoaded::NotRunning { .. }), "{error:?}");
        fs::write(unit.paths.pid_file(0), format!("{}\n", std::process::id()))?;
        unit.supervise(1)?;
        assert_eq!(unit.disk.load(&files)?.loaded, [0]);
        Ok(())
    })
}

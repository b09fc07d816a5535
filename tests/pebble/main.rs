//! The charm's client of Pebble against the real daemon, in the version that Juju brings and in the
//! newest.

#![expect(clippy::disallowed_methods, reason = "a test sets up the machine it needs")]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
    thread,
    time::Duration,
};

use nix::unistd::{User, getegid, geteuid};
use pgbouncer_k8s::workload::pebble::{
    Current, Directory, File, PathErrorKind, Pebble, PebbleError, Service,
};
use serde_json::{Value, json};

mod daemon;
#[path = "../pgbouncer/mod.rs"]
#[expect(dead_code, reason = "Pebble is kept beside PgBouncer, which is not needed here")]
mod programs;

use daemon::{Daemon, until};

/// For orders that take a second or so.
const LIMIT: Duration = Duration::from_secs(30);

/// Each of these, on each version, as a test of its own.
macro_rules! on_both_versions {
    ($($test:ident,)+) => {
        mod pebble_1_26_0 {
            $(#[test] fn $test() { super::run("1.26.0", super::$test) })+
        }
        mod pebble_1_32_1 {
            $(#[test] fn $test() { super::run("1.32.1", super::$test) })+
        }
    };
}

on_both_versions! {
    a_daemon_without_socket_or_listener_is_absent,
    a_daemon_killed_in_the_middle_of_a_wait_is_absent,
    a_request_to_a_frozen_daemon_times_out,
    a_user_without_rights_is_refused,
    a_layer_in_json_is_in_the_plan,
    an_invalid_layer_is_refused_and_changes_nothing,
    layers_are_gone_after_a_start_and_nothing_runs,
    a_layer_starts_and_restarts_no_service,
    a_start_can_be_requested_without_a_wait,
    a_failed_start_is_an_error_with_the_last_output,
    a_program_that_is_missing_is_an_error_and_stays_inactive,
    an_unknown_service_is_refused,
    a_restart_of_two_stops_both_before_it_starts_one,
    a_stopping_service_is_inactive_while_its_process_lives,
    a_wait_may_last_longer_than_one_request,
    a_signal_reaches_the_main_process_alone,
    a_signal_to_a_stopped_service_differs_from_an_invalid_signal,
    files_are_read_as_they_were_written,
    missing_files_do_not_hide_existing_ones,
    an_answer_without_end_is_not_read,
    a_file_that_cannot_be_written_is_an_error,
    owner_and_mode_are_right_after_a_file_is_replaced,
    a_mode_has_nine_bits,
    directories_are_made_with_their_parents_and_kept_if_they_exist,
    removal_deletes_files_and_accepts_missing_ones,
    written_content_is_in_no_log,
    a_command_gives_both_streams_and_its_exit_code,
    a_command_has_no_input_and_runs_in_the_root_directory,
    a_command_that_takes_too_long_is_killed,
    a_command_that_cannot_be_run_is_an_error,
    a_new_check_is_up_before_its_first_run,
    a_check_that_fails_is_down_and_only_its_level_is_unhealthy,
    an_equal_layer_keeps_a_check_and_another_restarts_it,
}

fn run(version: &str, test: fn(&mut Daemon, &Pebble)) {
    if let Some(mut daemon) = Daemon::start(version) {
        let pebble = daemon.client();
        let found = daemon.cli(&["version"]).expect("it answers");
        assert!(
            found.lines().filter(|line| line.ends_with(&format!(" v{version}"))).count() == 2,
            "{found}"
        );
        test(&mut daemon, &pebble);
    }
}

/// A layer with services of these names and definitions.
fn services<const N: usize>(services: [(&str, Value); N]) -> Value {
    let services: serde_json::Map<_, _> =
        services.into_iter().map(|(name, service)| (name.to_owned(), service)).collect();
    json!({"services": services})
}

/// A service that runs this script.
fn script(script: &str) -> Value {
    json!({"override": "replace", "command": format!("sh -c '{script}'")})
}

fn sleeper() -> Value {
    json!({"override": "replace", "command": "sleep 1000", "startup": "enabled"})
}

/// One that only a kill ends, and writes its process id when it is ready to be stopped in vain.
fn stubborn(daemon: &Daemon, kill_delay: &str) -> Value {
    let ready = daemon.path("ready");
    let mut service = script(&format!(
        r#"trap "" TERM; echo $$ >{}; while :; do sleep 0.1; done"#,
        ready.display()
    ));
    service["kill-delay"] = kill_delay.into();
    service
}

fn service(pebble: &Pebble, name: &str) -> Service {
    let services = pebble.services().expect("services are told");
    services.into_iter().find(|service| service.name == name).expect("it is in the plan")
}

fn start(daemon: &Daemon, pebble: &Pebble, layer: &Value, services: &[&str]) {
    pebble.add_layer("test", layer).expect("the layer is right");
    daemon.cli(&[&["start"], services].concat()).expect("they start");
}

fn file<'a>(path: &'a Path, content: &'a [u8]) -> File<'a> {
    File { path, content, mode: 0o640, user: "root", group: "root" }
}

fn a_daemon_without_socket_or_listener_is_absent(daemon: &mut Daemon, pebble: &Pebble) {
    let elsewhere = Pebble::new(daemon.path("nowhere"));
    assert!(matches!(elsewhere.services(), Err(PebbleError::Absent { .. })));
    daemon.kill();
    assert!(daemon.socket().exists(), "a crash leaves the socket behind");
    assert!(matches!(pebble.services(), Err(PebbleError::Absent { .. })));
    assert!(matches!(pebble.exec(&["true"], LIMIT), Err(PebbleError::Absent { .. })));
}

fn a_daemon_killed_in_the_middle_of_a_wait_is_absent(daemon: &mut Daemon, pebble: &Pebble) {
    start(daemon, pebble, &services([("a", stubborn(daemon, "10m"))]), &["a"]);
    until("it can be stopped in vain", || fs::read(daemon.path("ready")).ok());
    let waiting = {
        let pebble = pebble.clone();
        thread::spawn(move || pebble.stop(&["a"], Duration::from_secs(600)))
    };
    until("it is being stopped", || {
        (service(pebble, "a").current == Current::Inactive).then_some(())
    });
    daemon.kill();
    let stopped = waiting.join().expect("no panic");
    assert!(matches!(stopped, Err(PebbleError::Absent { .. })), "{stopped:?}");
}

fn a_request_to_a_frozen_daemon_times_out(daemon: &mut Daemon, pebble: &Pebble) {
    daemon.freeze();
    let answer = pebble.services();
    assert!(matches!(answer, Err(PebbleError::TimedOut { .. })), "{answer:?}");
}

fn a_user_without_rights_is_refused(daemon: &mut Daemon, pebble: &Pebble) {
    // One that takes root's rights away.
    let identities = "identities: {reader: {access: read, local: {user-id: 0}}}\n";
    fs::write(daemon.path("identities.yaml"), identities).expect("the directory is ours");
    daemon.restart();
    assert_eq!(pebble.services().expect("anybody may ask this"), []);
    let refused = pebble.add_layer("test", &json!({}));
    assert!(matches!(refused, Err(PebbleError::Api { status: 401, .. })), "{refused:?}");
    let refused = pebble.read(&[Path::new("/etc/hostname")]);
    assert!(matches!(refused, Err(PebbleError::Api { status: 401, .. })), "{refused:?}");
}

fn a_layer_in_json_is_in_the_plan(daemon: &mut Daemon, pebble: &Pebble) {
    assert_eq!(daemon.cli(&["plan"]).expect("a plan"), "{}\n");
    let layer = services([(
        "a",
        json!({"override": "replace", "command": "sleep 1000", "environment": {"A": "b: c"}}),
    )]);
    pebble.add_layer("test", &layer).expect("the layer is right");
    let plan: Value = serde_yaml::from_str(&daemon.cli(&["plan"]).expect("a plan")).expect("YAML");
    assert_eq!(plan["services"]["a"]["environment"]["A"], "b: c");
}

fn an_invalid_layer_is_refused_and_changes_nothing(daemon: &mut Daemon, pebble: &Pebble) {
    for wrong in [json!({"bogus": {}}), services([("a", json!({"override": "replace"}))])] {
        let refused = pebble.add_layer("test", &wrong);
        assert!(matches!(refused, Err(PebbleError::Api { status: 400, .. })), "{refused:?}");
    }
    assert_eq!(daemon.cli(&["plan"]).expect("a plan"), "{}\n");
}

fn layers_are_gone_after_a_start_and_nothing_runs(daemon: &mut Daemon, pebble: &Pebble) {
    start(daemon, pebble, &services([("a", sleeper())]), &["a"]);
    daemon.restart();
    assert_eq!(pebble.services().expect("services are told"), []);
    let refused = pebble.begin_to_start(&["a"]);
    assert!(matches!(refused, Err(PebbleError::Api { status: 400, .. })), "{refused:?}");
    pebble.add_layer("test", &services([("a", sleeper())])).expect("the layer is right");
    let service = service(pebble, "a");
    assert_eq!((service.current, service.since), (Current::Inactive, None));
}

fn a_layer_starts_and_restarts_no_service(daemon: &mut Daemon, pebble: &Pebble) {
    let mut layer = services([("a", sleeper())]);
    start(daemon, pebble, &layer, &["a"]);
    let first = service(pebble, "a");
    assert!(first.since.is_some());
    pebble.add_layer("test", &layer).expect("the layer is right");
    layer["services"]["a"]["summary"] = "other words".into();
    layer["services"]["b"] = sleeper();
    pebble.add_layer("test", &layer).expect("the layer is right");
    assert_eq!(service(pebble, "a"), first);
    assert_eq!(service(pebble, "b").current, Current::Inactive);
}

fn a_start_can_be_requested_without_a_wait(_: &mut Daemon, pebble: &Pebble) {
    pebble.add_layer("test", &services([("a", sleeper())])).expect("the layer is right");
    pebble.begin_to_start(&["a"]).expect("it is taken");
    until("it runs", || (service(pebble, "a").current == Current::Active).then_some(()));
}

fn a_failed_start_is_an_error_with_the_last_output(_: &mut Daemon, pebble: &Pebble) {
    let mut dying = script("echo last words; exit 3");
    dying["backoff-delay"] = "10m".into();
    pebble.add_layer("test", &services([("a", dying)])).expect("the layer is right");
    let failed = pebble.restart(&["a"], LIMIT);
    let Err(PebbleError::Change { reason, log, .. }) = &failed else { panic!("{failed:?}") };
    assert!(reason.contains("exited quickly with code 3"), "{reason}");
    assert!(log.iter().any(|line| line == "last words"), "{log:?}");
    assert_eq!(service(pebble, "a").current, Current::Backoff);
}

fn a_program_that_is_missing_is_an_error_and_stays_inactive(_: &mut Daemon, pebble: &Pebble) {
    let missing = json!({"override": "replace", "command": "/nonexistent"});
    pebble.add_layer("test", &services([("a", missing)])).expect("the layer is right");
    let failed = pebble.restart(&["a"], LIMIT);
    let Err(PebbleError::Change { reason, .. }) = &failed else { panic!("{failed:?}") };
    assert!(reason.contains("no such file or directory"), "{reason}");
    assert_eq!(service(pebble, "a").current, Current::Inactive);
}

fn an_unknown_service_is_refused(_: &mut Daemon, pebble: &Pebble) {
    for refused in
        [pebble.begin_to_start(&["x"]), pebble.stop(&["x"], LIMIT), pebble.restart(&["x"], LIMIT)]
    {
        assert!(matches!(refused, Err(PebbleError::Api { status: 400, .. })), "{refused:?}");
    }
}

fn a_restart_of_two_stops_both_before_it_starts_one(daemon: &mut Daemon, pebble: &Pebble) {
    let path = daemon.path("told");
    let teller = || {
        let told = path.display();
        script(&format!(
            r#"trap "echo stop >>{told}; exit" TERM; echo start >>{told}; while :; do sleep 0.1; done"#
        ))
    };
    let told = |count| {
        until("all of them have told", || {
            let told = fs::read_to_string(&path).ok()?;
            (told.lines().count() == count).then(|| told.lines().collect::<Vec<_>>().join(" "))
        })
    };
    start(daemon, pebble, &services([("a", teller()), ("b", teller())]), &["a", "b"]);
    assert_eq!(told(2), "start start");
    pebble.restart(&["a", "b"], LIMIT).expect("they restart");
    assert_eq!(told(6), "start start stop stop start start");
    pebble.restart(&["a"], LIMIT).expect("it restarts");
    told(8);
    pebble.restart(&["b"], LIMIT).expect("it restarts");
    assert!(told(10).ends_with(" stop start stop start"), "one request each is one at a time");
}

fn a_stopping_service_is_inactive_while_its_process_lives(daemon: &mut Daemon, pebble: &Pebble) {
    start(daemon, pebble, &services([("a", stubborn(daemon, "10m"))]), &["a"]);
    let pid = until("it can be stopped in vain", || fs::read_to_string(daemon.path("ready")).ok());
    let stopped = pebble.stop(&["a"], Duration::ZERO);
    assert!(matches!(stopped, Err(PebbleError::TimedOut { .. })), "{stopped:?}");
    until("it is being stopped", || {
        (service(pebble, "a").current == Current::Inactive).then_some(())
    });
    let alive =
        pebble.exec(&["sh", "-c", &format!("kill -0 {pid}")], LIMIT).expect("it can be asked");
    assert_eq!(alive.status, 0);
}

fn a_wait_may_last_longer_than_one_request(daemon: &mut Daemon, pebble: &Pebble) {
    start(daemon, pebble, &services([("a", stubborn(daemon, "5s"))]), &["a"]);
    until("it can be stopped in vain", || fs::read(daemon.path("ready")).ok());
    pebble.stop(&["a"], LIMIT).expect("it is killed after five seconds");
}

fn a_signal_reaches_the_main_process_alone(daemon: &mut Daemon, pebble: &Pebble) {
    // The child is a file, since quotes within quotes would end those of the outer script.
    let child = daemon.path("child");
    let loop_ = "while :; do sleep 0.1; done";
    let trap = |name: &str| {
        let told = daemon.path(name);
        format!(r#"trap "echo hup >>{}" HUP; echo $$ >{}.pid"#, told.display(), told.display())
    };
    fs::write(&child, format!("{}; {loop_}", trap("of-child"))).expect("the directory is ours");
    let main = format!("sh {} & {}; {loop_}", child.display(), trap("of-main"));
    start(daemon, pebble, &services([("a", script(&main))]), &["a"]);
    let read =
        |name: &str| fs::read_to_string(daemon.path(name)).ok().filter(|text| text.ends_with('\n'));
    until("the main process is ready", || read("of-main.pid"));
    let child = until("its child is ready", || read("of-child.pid"));
    pebble.signal("SIGHUP", &["a"]).expect("it runs");
    until("the main process has it", || read("of-main"));
    let signalled =
        pebble.exec(&["sh", "-c", &format!("kill -HUP {child}")], LIMIT).expect("kill runs");
    assert_eq!(signalled.status, 0);
    assert_eq!(until("the child has its own", || read("of-child")), "hup\n");
}

fn a_signal_to_a_stopped_service_differs_from_an_invalid_signal(
    daemon: &mut Daemon,
    pebble: &Pebble,
) {
    let (ready, told) = (daemon.path("ready"), daemon.path("told"));
    let runs = script(&format!(
        r#"trap "echo hup >>{}" HUP; echo >{}; while :; do sleep 0.1; done"#,
        told.display(),
        ready.display()
    ));
    start(daemon, pebble, &services([("a", runs), ("b", sleeper())]), &["a"]);
    until("it can be signalled", || fs::read(&ready).ok());
    let stopped = pebble.signal("SIGHUP", &["b", "a"]);
    assert!(matches!(stopped, Err(PebbleError::Api { status: 500, .. })), "{stopped:?}");
    until("the one that runs has it", || fs::read(&told).ok());
    let wrong = pebble.signal("HUP", &["a"]);
    assert!(matches!(wrong, Err(PebbleError::Api { status: 500, .. })), "{wrong:?}");
    assert_eq!(service(pebble, "a").current, Current::Active);
    assert_eq!(service(pebble, "b").current, Current::Inactive);
}

fn files_are_read_as_they_were_written(daemon: &mut Daemon, pebble: &Pebble) {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let contents: [(&str, &[u8]); 7] = [
        ("empty", b""),
        ("lines", b"a\nb\r\n\r\n"),
        ("bytes", &bytes),
        ("ends-with-cr", b"\r"),
        (
            "boundary",
            b"\r\n----------------------------------\r\n--------------------------------0--\r\n",
        ),
        (r#"q"uo\te % &path=x é"#, b"named"),
        ("last", b"--"),
    ];
    let paths = contents.map(|(name, _)| daemon.path(name));
    let files: Vec<_> =
        contents.iter().zip(&paths).map(|((_, content), path)| file(path, content)).collect();
    pebble.write(&files).expect("they are written");
    let asked: Vec<_> = paths.iter().map(AsRef::as_ref).collect();
    let read = pebble.read(&asked).expect("they can be asked for");
    assert_eq!(read.len(), contents.len());
    for ((name, content), read) in contents.iter().zip(read) {
        assert!(read.expect("it is there") == *content, "{name}");
        assert!(fs::read(daemon.path(name)).expect("it is there") == *content, "{name}");
    }
}

fn missing_files_do_not_hide_existing_ones(daemon: &mut Daemon, pebble: &Pebble) {
    let (there, missing) = (daemon.path("there"), daemon.path("missing"));
    fs::write(&there, "x").expect("the directory is ours");
    let directory = daemon.path("");
    let read = pebble
        .read(&[&missing, &there, &directory, &there, &missing])
        .expect("they can be asked for");
    let kinds: Vec<_> = read.iter().map(|file| file.as_ref().map_err(|error| error.kind)).collect();
    let x = &b"x".to_vec();
    let absent = Err(PathErrorKind::NotFound);
    assert_eq!(kinds, [absent, Ok(x), Err(PathErrorKind::Other), Ok(x), absent]);
    assert_eq!(read[0].as_ref().map_err(|error| &error.path), Err(&missing));
    let all_missing = pebble.read(&[&missing]).expect("it can be asked for");
    assert!(all_missing[0].is_err());
}

fn an_answer_without_end_is_not_read(daemon: &mut Daemon, pebble: &Pebble) {
    let path = daemon.path("long");
    let file = fs::File::create(&path).expect("the directory is ours");
    file.set_len(17 << 20).expect("it may have holes");
    let refused = pebble.read(&[&path]);
    assert!(matches!(refused, Err(PebbleError::Protocol(_))), "an answer of 17 MiB is given up");
    let refused = pebble.exec(&["head", "-c", "17M", "/dev/zero"], LIMIT);
    assert!(matches!(refused, Err(PebbleError::Protocol(_))), "{refused:?}");
}

fn a_file_that_cannot_be_written_is_an_error(daemon: &mut Daemon, pebble: &Pebble) {
    let (good, bad) = (daemon.path("good"), daemon.path("nowhere/bad"));
    let failed = pebble.write(&[file(&good, b"x"), file(&bad, b"x")]);
    let Err(PebbleError::Path(error)) = &failed else { panic!("{failed:?}") };
    assert_eq!((&error.path, error.kind), (&bad, PathErrorKind::NotFound));
    assert_eq!(fs::read(&good).expect("the other one is written"), b"x");
    let nobodys = File { user: "no-such-user", ..file(&good, b"y") };
    let failed = pebble.write(&[nobodys]);
    let Err(PebbleError::Path(error)) = &failed else { panic!("{failed:?}") };
    assert_eq!(error.kind, PathErrorKind::Other);
    assert_eq!(fs::read(&good).expect("it is as it was"), b"x");
}

fn owner_and_mode_are_right_after_a_file_is_replaced(daemon: &mut Daemon, pebble: &Pebble) {
    let owner = if geteuid().is_root() { "nobody" } else { "root" };
    let uid = User::from_name(owner).expect("users are known").expect("it is one").uid.as_raw();
    let path = daemon.path("file");
    let written = File { user: owner, mode: 0o600, ..file(&path, b"x") };
    pebble.write(&[written]).expect("it is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
    chown(&path, Some(geteuid().as_raw()), None).expect("it is ours");
    pebble.write(&[written]).expect("it is written");
    let found = fs::metadata(&path).expect("it is there");
    assert_eq!((found.mode() & 0o7777, found.len()), (0o600, 1));
    // Where tests are not root, root in the namespace is whoever runs them.
    let (uid, gid) =
        if geteuid().is_root() { (uid, 0) } else { (geteuid().as_raw(), getegid().as_raw()) };
    assert_eq!((found.uid(), found.gid()), (uid, gid));
}

fn a_mode_has_nine_bits(daemon: &mut Daemon, pebble: &Pebble) {
    let path = daemon.path("file");
    pebble.write(&[File { mode: 0o007, ..file(&path, b"") }]).expect("it is written");
    assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o7777, 0o007);
    let failed = pebble.write(&[File { mode: 0o4755, ..file(&path, b"") }]);
    assert!(matches!(failed, Err(PebbleError::Path(_))), "{failed:?}");
}

fn directories_are_made_with_their_parents_and_kept_if_they_exist(
    daemon: &mut Daemon,
    pebble: &Pebble,
) {
    let (parent, child) = (daemon.path("parent"), daemon.path("parent/child"));
    let directory = |path, mode| Directory { path, mode, user: "root", group: "root" };
    let mode = |path| fs::metadata(path).expect("it is there").mode() & 0o7777;
    pebble.make_dirs(&[directory(&child, 0o710)]).expect("they are made");
    assert_eq!((mode(&parent), mode(&child)), (0o710, 0o710));
    pebble
        .make_dirs(&[directory(&parent, 0o755), directory(&child, 0o755)])
        .expect("they are there");
    assert_eq!((mode(&parent), mode(&child)), (0o710, 0o710));
    fs::write(daemon.path("file"), "").expect("the directory is ours");
    let beneath = daemon.path("file/child");
    let failed = pebble.make_dirs(&[directory(&beneath, 0o755)]);
    assert!(matches!(failed, Err(PebbleError::Path(_))), "{failed:?}");
}

fn removal_deletes_files_and_accepts_missing_ones(daemon: &mut Daemon, pebble: &Pebble) {
    let (tree, link, kept) = (daemon.path("tree"), daemon.path("link"), daemon.path("kept"));
    fs::create_dir_all(tree.join("a/b")).expect("the directory is ours");
    fs::write(&kept, "x").expect("the directory is ours");
    symlink(&kept, &link).expect("the directory is ours");
    for _ in 0..2 {
        pebble.remove(&[&tree, &link]).expect("they are removed, or gone");
        assert!(!tree.exists() && link.symlink_metadata().is_err());
    }
    assert!(kept.exists());
    let failed = pebble.remove(&[Path::new("relative")]);
    assert!(matches!(failed, Err(PebbleError::Path(_))), "{failed:?}");
}

fn written_content_is_in_no_log(daemon: &mut Daemon, pebble: &Pebble) {
    let path = daemon.path("secret");
    pebble.write(&[file(&path, b"Pepper123")]).expect("it is written");
    assert!(pebble.read(&[&path]).expect("it can be asked for")[0].is_ok());
    assert!(pebble.write(&[file(&path.join("beneath"), b"Pepper123")]).is_err());
    until("the requests are logged", || daemon.log().contains("/v1/files").then_some(()));
    assert!(!daemon.log().contains("Pepper123"));
}

fn a_command_gives_both_streams_and_its_exit_code(_: &mut Daemon, pebble: &Pebble) {
    let prints = "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2; echo end; exit 3";
    let output = pebble.exec(&["sh", "-c", prints], LIMIT).expect("it runs");
    assert_eq!(
        (output.status, output.stdout.len(), output.stderr.len()),
        (3, 3_000_004, 2_000_000)
    );
    assert!(output.stdout.ends_with(b"\0end\n"));
    let killed = pebble.exec(&["sh", "-c", "kill -9 $$"], LIMIT).expect("it runs");
    assert_eq!((killed.status, killed.stdout, killed.stderr), (137, Vec::new(), Vec::new()));
}

fn a_command_has_no_input_and_runs_in_the_root_directory(_: &mut Daemon, pebble: &Pebble) {
    let output =
        pebble.exec(&["sh", "-c", "cat; pwd"], LIMIT).expect("it runs, though there is no home");
    assert_eq!((output.status, output.stdout.as_slice()), (0, &b"/\n"[..]));
}

fn a_command_that_takes_too_long_is_killed(_: &mut Daemon, pebble: &Pebble) {
    let failed = pebble.exec(&["sleep", "1000"], Duration::from_millis(300));
    let Err(PebbleError::Change { reason, .. }) = &failed else { panic!("{failed:?}") };
    assert!(reason.contains("timed out"), "{reason}");
    // Its namespace has a /proc of its own.
    let left =
        pebble.exec(&["sh", "-c", "grep -s ^sleep /proc/[0-9]*/comm"], LIMIT).expect("it runs");
    assert_eq!(left.stdout, b"", "no process is left");
}

fn a_command_that_cannot_be_run_is_an_error(daemon: &mut Daemon, pebble: &Pebble) {
    let missing = pebble.exec(&["no-such-program"], LIMIT);
    let Err(PebbleError::Api { status: 400, message, .. }) = &missing else {
        panic!("{missing:?}")
    };
    // By these words the charm knows an image without PgBouncer.
    assert!(message.contains("cannot find executable"), "{message}");
    let path = daemon.path("not-a-program");
    pebble.write(&[File { mode: 0o755, ..file(&path, b"\x7fELF") }]).expect("it is written");
    let broken = pebble.exec(&[path.to_str().expect("UTF-8")], LIMIT);
    assert!(matches!(broken, Err(PebbleError::Change { .. })), "{broken:?}");
}

/// The status of a check and its failures in a row, as `pebble checks` prints them: `up`, `0/3`.
fn check(daemon: &Daemon, name: &str) -> (String, String) {
    let checks = daemon.cli(&["checks"]).expect("checks are told");
    let mut lines = checks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let head = lines.next().expect("it has a head");
    let check = lines.find(|words| words[0] == name).expect("it is in the plan");
    let field = |name| {
        check[head.iter().position(|word| *word == name).expect("it has the column")].to_owned()
    };
    (field("Status"), field("Failures"))
}

fn a_new_check_is_up_before_its_first_run(daemon: &mut Daemon, pebble: &Pebble) {
    let fails = json!({"override": "replace", "level": "ready", "period": "10m", "exec": {"command": "false"}});
    pebble.add_layer("test", &json!({"checks": {"fails": fails}})).expect("the layer is right");
    assert_eq!(check(daemon, "fails").0, "up");
    assert!(pebble.is_ready().expect("health is told"));
}

fn a_check_that_fails_is_down_and_only_its_level_is_unhealthy(
    daemon: &mut Daemon,
    pebble: &Pebble,
) {
    let fails = |level: &str| {
        json!({"checks": {"fails": {"override": "replace", "level": level, "period": "50ms", "threshold": 2,
            "exec": {"command": "false"}}}})
    };
    pebble.add_layer("test", &fails("ready")).expect("the layer is right");
    until("it is down", || (check(daemon, "fails").0 == "down").then_some(()));
    assert!(!pebble.is_ready().expect("health is told"));
    daemon.cli(&["health", "--level", "alive"]).expect("a process need not be killed for it");
    // What is not alive is not ready.
    pebble.add_layer("test", &fails("alive")).expect("the layer is right");
    until("it is down", || (check(daemon, "fails").0 == "down").then_some(()));
    assert!(!pebble.is_ready().expect("health is told"));
}

fn an_equal_layer_keeps_a_check_and_another_restarts_it(daemon: &mut Daemon, pebble: &Pebble) {
    // It fails at once, and from when it is told to takes longer than the test.
    let (told, held) = (daemon.path("told"), daemon.path("held"));
    let command = format!(
        "sh -c '[ -e {} ] && echo >>{} && sleep 20; exit 1'",
        told.display(),
        held.display()
    );
    let mut layer = json!({"checks": {"fails": {"override": "replace", "level": "ready", "period": "50ms",
        "timeout": "30s", "threshold": 2, "exec": {"command": command}}}});
    let check = || check(daemon, "fails");
    pebble.add_layer("test", &layer).expect("the layer is right");
    until("it is down", || (check().0 == "down").then_some(()));
    fs::write(&told, "").expect("the directory is ours");
    until("it is held", || fs::read(&held).ok());
    let before = check();
    pebble.add_layer("test", &layer).expect("the layer is right");
    assert_eq!(check(), before);
    assert_eq!(fs::read(&held).expect("it is there").len(), 1, "the same run goes on");
    layer["checks"]["fails"]["period"] = "10m".into();
    pebble.add_layer("test", &layer).expect("the layer is right");
    assert_eq!(check(), ("up".to_owned(), "0/2".to_owned()));
}

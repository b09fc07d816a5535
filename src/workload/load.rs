//! Writes files, makes the running processes load them, and confirms each load.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{
    console::{self, ANSWER_LIMIT, Console, ConsoleError, InForce},
    facts::Loaded,
    files::Files,
    handshake::{self, HandshakeError},
    host::{Host, Marker, Text},
    outcome::{Done, NotLoaded},
    pebble::error::PebbleError,
};
use crate::{
    pgbouncer::{
        InstanceConfig, TlsFiles,
        difference::{Difference, Need},
        ini::{Ini, ParseError},
        validate::validate,
        verifier::Form,
    },
    postgres::AllowedMethods,
    secret::Secret,
};

/// How long a process may take to start or to reload. It takes milliseconds.
const RELOAD_LIMIT: Duration = Duration::from_secs(3);

/// How long a process may take to end and the next one to start. From 1.23 PgBouncer waits for its
/// clients after the first SIGTERM, and not after the second (its documentation, "Signals").
const RESTART_LIMIT: Duration = Duration::from_secs(10);

/// How many handshakes for each process prove that all processes serve a certificate. The kernel
/// chooses the process: of two, one is missed with a probability of 2⁻¹⁶.
const HANDSHAKES: usize = 8;

/// How long all handshakes of a proof may take. One takes milliseconds.
const PROOF_LIMIT: Duration = Duration::from_secs(30);

/// How long a process may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Makes every instance run its file, one after another. A load that was killed at any point can be
/// repeated.
pub(super) fn load<H: Host>(host: &mut H, files: &Files) -> Result<Done, NotLoaded> {
    let users = check(host, files)?;
    host.prepare(files)?;
    let not_loaded = not_loaded(host, files)?;
    // From here on a process may read new files: its marker no longer says what it runs.
    let markers: Vec<_> =
        not_loaded.iter().map(|file| host.paths().marker(file.instance)).collect();
    host.remove(&markers)?;
    host.define(files)?;
    let (user_list, shared) = (host.user_list(), host.paths().shared());
    let mut texts = vec![(user_list.as_path(), users.reveal()), (&shared, &files.shared)];
    texts.extend(files.tls.iter().map(|file| (Path::new(&file.path), file.text.reveal())));
    host.write(&texts)?;

    let mut done = Done::default();
    let mut failed = None;
    for file in not_loaded {
        // A restart that failed once would also end the next process, which still serves clients.
        if failed.is_some() && pending_changes(host, file, files)?.need() == Need::Restart {
            continue;
        }
        match load_instance(host, file, files, failed.is_some()) {
            Ok(restarted) => {
                done.restarted.extend(restarted.then_some(file.instance));
                done.loaded.push(file.instance);
            }
            // A process that does not answer must not prevent the load of the others.
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    match &files.tls.identity {
        Some(identity) if !done.loaded.is_empty() => {
            if let Err(error) = prove_certificate(files, identity.text.reveal()) {
                host.remove(&markers)?;
                return Err(error);
            }
        }
        Some(_) => {}
        // Only now: a process that starts with its old file needs it.
        None => host.remove(&[user_list.with_file_name(TlsFiles::IDENTITY)])?,
    }
    Ok(done)
}

/// Predicts from the files what [`load`] would do, and changes nothing. Only a load detects a
/// process that does not run its file.
pub(super) fn foresee<H: Host>(host: &mut H, files: &Files) -> Result<Done, NotLoaded> {
    check(host, files)?;
    let mut done = Done::default();
    for file in not_loaded(host, files)? {
        let need = pending_changes(host, file, files)?.need();
        done.restarted.extend((need == Need::Restart).then_some(file.instance));
        done.loaded.push(file.instance);
    }
    Ok(done)
}

/// Checks that PgBouncer would accept all files in full, and returns the text of the user list. A
/// file that PgBouncer would accept only in part must not be written: a process could read it at
/// any time.
fn check<H: Host>(host: &H, files: &Files) -> Result<Secret, NotLoaded> {
    let users = files.users.file_text().map(Secret::new)?;
    for file in &files.instances {
        if let Err(found) = validate(&file.text, files.version) {
            let first = found.into_iter().next();
            let (line, reason) =
                first.map_or_else(Default::default, |first| (first.line, first.reason));
            return Err(NotLoaded::Unfit { instance: file.instance, line, reason });
        }
        let directory = host.socket_dir(file.instance);
        if !console::fits(&directory) {
            return Err(NotLoaded::PathTooLong { path: directory });
        }
    }
    Ok(users)
}

/// The instances whose processes are not known to run their files.
fn not_loaded<'a, H: Host>(
    host: &mut H,
    files: &'a Files,
) -> Result<Vec<&'a InstanceConfig>, NotLoaded> {
    let mut not_loaded = Vec::new();
    for file in &files.instances {
        if loaded(host, file.instance)?.is_none_or(|loaded| loaded.digest != file.digest) {
            not_loaded.push(file);
        }
    }
    Ok(not_loaded)
}

/// What the running process of an instance was confirmed to have loaded.
pub(super) fn loaded<H: Host>(host: &mut H, instance: u16) -> Result<Option<Loaded>, NotLoaded> {
    let marker = host.paths().marker(instance);
    let Some(marker) = host.read(&marker)?.whole().as_deref().and_then(Marker::parse) else {
        return Ok(None);
    };
    Ok(marker.of(host.process(instance)?.as_ref()))
}

/// Makes one process run its file; true if the process had to be replaced. After the failure of
/// another process, waits less and replaces no process.
fn load_instance<H: Host>(
    host: &mut H,
    file: &InstanceConfig,
    files: &Files,
    after_failure: bool,
) -> Result<bool, NotLoaded> {
    let instance = file.instance;
    let (ini, record) = (host.paths().ini(instance), host.paths().pending_restart(instance));
    let new = parsed(file, files)?;
    let mut pending = pending_changes(host, file, files)?;
    // Recorded before the file is written: after a kill the next load finds the new file in place,
    // and no difference that requires a restart.
    if pending.need() > Need::Reload {
        host.write(&[(&record, &pending.record())])?;
    }
    host.write(&[(&ini, &file.text)])?;
    let process = run(host, file, &new, files.port, &mut pending, after_failure)?;
    if let Some((user, password)) = &files.proof {
        // PgBouncer uses SCRAM wherever it has a verifier of it, whatever auth_type is.
        let form = files.users.line(user).map(|secret| Form::of(secret.reveal()));
        let allowed = match form {
            Some(Ok(Form::Scram)) => AllowedMethods::Scram,
            _ => AllowedMethods::Any,
        };
        prove_user_list(&host.socket_dir(instance), instance, user, password, allowed)?;
    }
    host.start_exporter(instance)?;
    host.remove(&[record])?;
    let loaded = Loaded { digest: file.digest.clone(), version: files.version.to_string() };
    let marker = Marker { loaded, process: process.to_string() };
    host.write(&[(&host.paths().marker(instance), &marker.render())])?;
    Ok(pending.need() == Need::Restart)
}

/// Makes the running process, or its successor, run the written file. Adds to `pending` the needs
/// that only the running process reveals.
fn run<H: Host>(
    host: &mut H,
    file: &InstanceConfig,
    new: &Ini,
    port: u16,
    pending: &mut Difference,
    after_failure: bool,
) -> Result<H::Process, NotLoaded> {
    let ran = reload_or_restart(host, file, new, port, pending, after_failure);
    // From 1.19 a process that cannot bind its port exits; an older one runs without the port.
    let may_lack_port = match &ran {
        Ok(_) => pending.need() == Need::Restart,
        Err(
            NotLoaded::NotRunning { .. }
            | NotLoaded::NotConfirmed { .. }
            | NotLoaded::Pebble(PebbleError::Change { .. }),
        ) => pending.may_concern_port(),
        Err(_) => false,
    };
    if may_lack_port && !listens(new, port) {
        return Err(NotLoaded::NotListening { instance: file.instance, port });
    }
    ran
}

fn reload_or_restart<H: Host>(
    host: &mut H,
    file: &InstanceConfig,
    new: &Ini,
    port: u16,
    pending: &mut Difference,
    after_failure: bool,
) -> Result<H::Process, NotLoaded> {
    let instance = file.instance;
    // A process that will be replaced does not have to read the file. After a SIGTERM from a killed
    // hook it cannot.
    let old = if pending.need() == Need::Restart { host.process(instance)? } else { None };
    let process = if let Some(old) = old {
        old
    } else {
        host.start(instance)?;
        let limit = if after_failure { ANSWER_LIMIT } else { RELOAD_LIMIT };
        let (process, config) = confirm(host, file, None, limit)?;
        pending.merge(Difference::left(new, values(&config)));
        if pending.need() < Need::Restart && !listens(new, port) {
            pending.merge(Difference::refused_port());
        }
        process
    };
    match pending.need() {
        Need::Restart if after_failure => {
            let reason = "it needs a restart, and another process failed".to_owned();
            return Err(NotLoaded::NotConfirmed { instance, reason });
        }
        Need::Restart => {
            tracing::info!("instance {instance} of PgBouncer: {pending}");
            return restart(host, file, &process);
        }
        Need::Reconnect => {
            let reconnected =
                host.console(instance, &process).and_then(|mut open| open.reconnect());
            reconnected.map_err(|error| not_confirmed(instance, &error))?;
        }
        Need::Nothing | Need::Reload => {}
    }
    Ok(process)
}

/// Begins TLS often enough to reach each process that shares the port, most likely. A reload
/// succeeds although PgBouncer cannot use the certificate; it then keeps the old one.
fn prove_certificate(files: &Files, identity: &str) -> Result<(), NotLoaded> {
    let port = files.port;
    let not_served = |reason| NotLoaded::CertificateNotServed { port, reason };
    let Some(first) = files.instances.first() else { return Ok(()) };
    let new = parsed(first, files)?;
    let address = (address(&new), port).to_socket_addrs().ok().and_then(|mut found| found.next());
    let address = address.ok_or_else(|| not_served("its address is unknown".to_owned()))?;
    let deadline = Instant::now() + PROOF_LIMIT;
    for _ in 0..HANDSHAKES * files.instances.len() {
        match handshake::check(address, identity, deadline) {
            Ok(()) => {}
            // The operator chose what the charm does not speak; clients may speak it.
            Err(error @ HandshakeError::Incompatible(_)) => {
                tracing::warn!(
                    "cannot see which certificate PgBouncer serves on port {port}: {error}; check \
                     the client_tls settings in pgbouncer-parameters with your clients"
                );
                return Ok(());
            }
            Err(error) => return Err(not_served(error.to_string())),
        }
    }
    Ok(())
}

/// The address where clients of this unit connect.
fn address(ini: &Ini) -> &str {
    match ini.setting("listen_addr") {
        // All containers of a pod share one network.
        None | Some("*") => "127.0.0.1",
        Some(address) => address,
    }
}

/// Whether this process, or another one on the same port, listens where clients connect: PgBouncer
/// may run without a port that it could not bind. Only a refused connection proves that no process
/// listens; a busy process may not answer in time.
fn listens(ini: &Ini, port: u16) -> bool {
    let refuses = |address: SocketAddr| {
        let answer = TcpStream::connect_timeout(&address, CONNECT_LIMIT);
        answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    !(address(ini), port).to_socket_addrs().is_ok_and(|mut addresses| addresses.any(refuses))
}

fn parsed(file: &InstanceConfig, files: &Files) -> Result<Ini, NotLoaded> {
    let unfit =
        |ParseError { line, reason }| NotLoaded::Unfit { instance: file.instance, line, reason };
    Ini::parse(&file.text, files.version).map_err(unfit)
}

/// The changes from the file in place to the new one, and those that a killed load recorded.
fn pending_changes<H: Host>(
    host: &mut H,
    file: &InstanceConfig,
    files: &Files,
) -> Result<Difference, NotLoaded> {
    let (ini, record) =
        (host.paths().ini(file.instance), host.paths().pending_restart(file.instance));
    let mut pending = match host.read(&record)? {
        Text::Absent => Difference::default(),
        Text::Unreadable => Difference::unreadable_record(),
        Text::Whole(record) => Difference::from_record(&record),
    };
    pending.merge(match host.read(&ini)? {
        Text::Absent => Difference::default(),
        Text::Unreadable => Difference::unreadable_file(),
        Text::Whole(old) => match Ini::parse(&old, files.version) {
            Ok(old) => Difference::between(&old, &parsed(file, files)?, files.version),
            Err(_) => Difference::unreadable_file(),
        },
    });
    Ok(pending)
}

/// Ends a process and waits for its successor, which has read the whole file. If the successor
/// still shows a value in another spelling, a second restart would not help, so none is tried.
fn restart<H: Host>(
    host: &mut H,
    file: &InstanceConfig,
    old: &H::Process,
) -> Result<H::Process, NotLoaded> {
    host.stop_exporter(file.instance)?;
    host.signal(file.instance, old, Signal::SIGTERM)?;
    let restarted = confirm(host, file, Some(old), RESTART_LIMIT).or_else(|_| {
        host.replace(file.instance, old)?;
        confirm(host, file, Some(old), RELOAD_LIMIT)
    });
    restarted.map(|(process, _)| process)
}

/// Waits until a process, other than `replaced`, shows the digest; returns it and its settings.
///
/// A process that runs already is reloaded once, whatever digest it shows: the digest proves that
/// it read the ini, and it may have missed the user list.
fn confirm<H: Host>(
    host: &mut H,
    file: &InstanceConfig,
    replaced: Option<&H::Process>,
    limit: Duration,
) -> Result<(H::Process, BTreeMap<String, InForce>), NotLoaded> {
    let instance = file.instance;
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    let mut failure = NotLoaded::NotRunning { instance };
    let mut reloaded = None;
    let mut console = None;
    loop {
        if let Some(process) = host.process(instance)?.filter(|process| Some(process) != replaced) {
            failure = match show_config(host, &mut console, &process, instance) {
                Ok(config) => {
                    let shows =
                        config.get("syslog_ident").is_some_and(|ident| ident.value == file.digest);
                    let is_reloaded = reloaded.as_ref() == Some(&process);
                    let mut signalled = Ok(());
                    if shows && (is_reloaded || replaced.is_some()) {
                        return Ok((process, config));
                    }
                    if !is_reloaded {
                        match &mut console {
                            // RELOAD answers once the files are read; a signal takes effect later.
                            Some((_, open)) if shows => {
                                let done = open.reload();
                                done.map_err(|error| not_confirmed(instance, &error))?;
                            }
                            // Only after the console has answered: the signal ends a process that
                            // is still starting.
                            _ => signalled = host.signal(instance, &process, Signal::SIGHUP),
                        }
                        reloaded = signalled.is_ok().then_some(process);
                    }
                    // A process that ends at this moment cannot be signalled; its successor can.
                    let reason = "it still shows another digest".to_owned();
                    signalled.err().unwrap_or(NotLoaded::NotConfirmed { instance, reason })
                }
                Err(ConsoleError::PathTooLong(_)) => {
                    return Err(NotLoaded::PathTooLong { path: host.socket_dir(instance) });
                }
                Err(error) => not_confirmed(instance, &error),
            };
        }
        if Instant::now() > deadline {
            return Err(failure);
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}

/// Reads the settings in force, over a console that stays open while the same process answers.
fn show_config<H: Host>(
    host: &mut H,
    console: &mut Option<(H::Process, Console)>,
    process: &H::Process,
    instance: u16,
) -> Result<BTreeMap<String, InForce>, ConsoleError> {
    let known = console.take().filter(|(of, _)| of == process).map(|(_, open)| open);
    let mut open = known.map_or_else(|| host.console(instance, process), Ok)?;
    let config = open.show_config()?;
    *console = Some((process.clone(), open));
    Ok(config)
}

/// Logs in with a password. A reload succeeds although the user list cannot be read; only a login
/// proves that it was.
fn prove_user_list(
    directory: &Path,
    instance: u16,
    user: &str,
    password: &Secret,
    allowed: AllowedMethods,
) -> Result<(), NotLoaded> {
    match Console::log_in(directory, user, password, allowed) {
        Ok(_) => Ok(()),
        Err(ConsoleError::Refused(reason)) => Err(NotLoaded::UserListRefused { instance, reason }),
        Err(error) => Err(not_confirmed(instance, &error)),
    }
}

fn not_confirmed(instance: u16, error: &ConsoleError) -> NotLoaded {
    NotLoaded::NotConfirmed { instance, reason: error.to_string() }
}

/// Name, value and default of each setting.
fn values(config: &BTreeMap<String, InForce>) -> impl Iterator<Item = (&str, &str, &str)> {
    config
        .iter()
        .map(|(name, setting)| (name.as_str(), setting.value.as_str(), setting.default.as_str()))
}

//! How files get into running processes, wherever these live: written, taken, and proven to be.

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
    console::{self, Console, ConsoleError, InForce},
    facts::Loaded,
    files::Files,
    host::{Host, Marker, Text},
    outcome::{Done, NotLoaded},
    pebble::error::PebbleError,
};
use crate::{
    pgbouncer::{
        InstanceConfig,
        difference::{Difference, Need},
        ini::{Ini, ParseError},
        validate::validate,
    },
    secret::Secret,
};

/// How long a process may take to start or to reload; it takes milliseconds.
const RELOAD: Duration = Duration::from_secs(3);

/// How long a process may take to end and the next one to come. From 1.23 SIGTERM waits for the clients to
/// leave, and a second one does not (PgBouncer's documentation, "Signals").
const RESTART: Duration = Duration::from_secs(10);

/// How long a process may take to be connected to.
const CONNECT: Duration = Duration::from_secs(1);

/// Makes every instance run its file, one after another. May be killed anywhere and repeated.
pub(super) fn load<H: Host>(host: &mut H, files: &Files) -> Result<Done, NotLoaded> {
    let users = check(host, files)?;
    host.prepare(files)?;
    let owed = owed(host, files)?;
    // From here on a process may meet new files: what a marker said of the old ones is over.
    let markers: Vec<_> = owed.iter().map(|file| host.paths().marker(file.instance)).collect();
    host.remove(&markers)?;
    let (user_list, shared) = (host.user_list(), host.paths().shared());
    host.write(&[(&user_list, users.reveal()), (&shared, &files.shared)])?;

    let mut done = Done::default();
    let mut failed = None;
    for file in owed {
        // What one process did not survive would end the next one, too, which still serves.
        if failed.is_some() && pending_changes(host, file, files)?.need() == Need::Restart {
            continue;
        }
        match load_instance(host, file, files) {
            Ok(restarted) => {
                done.restarted.extend(restarted.then_some(file.instance));
                done.loaded.push(file.instance);
            }
            // One that does not answer keeps nothing from the others.
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(done), Err)
}

/// What [`load`] would do, as far as the files tell: that a process runs something else than its file, only a load
/// finds out. Changes nothing.
pub(super) fn foresee<H: Host>(host: &mut H, files: &Files) -> Result<Done, NotLoaded> {
    check(host, files)?;
    let mut done = Done::default();
    for file in owed(host, files)? {
        let need = pending_changes(host, file, files)?.need();
        done.restarted.extend((need == Need::Restart).then_some(file.instance));
        done.loaded.push(file.instance);
    }
    Ok(done)
}

/// The user list's text, if the processes would take all files in full: what they would take in part they must not
/// even find.
fn check<H: Host>(host: &H, files: &Files) -> Result<Secret, NotLoaded> {
    let users = files.users.file_text().map(Secret::new)?;
    for file in &files.instances {
        if let Err(found) = validate(&file.text, files.version) {
            let first = found.into_iter().next();
            let (line, reason) = first.map_or_else(Default::default, |first| (first.line, first.reason));
            return Err(NotLoaded::Unfit { instance: file.instance, line, reason });
        }
        let sockets = host.sockets(file.instance);
        if !console::fits(&sockets) {
            return Err(NotLoaded::PathTooLong { path: sockets });
        }
    }
    Ok(users)
}

/// The instances whose processes were not seen to run their files.
fn owed<'a, H: Host>(host: &mut H, files: &'a Files) -> Result<Vec<&'a InstanceConfig>, NotLoaded> {
    let mut owed = Vec::new();
    for file in &files.instances {
        if loaded(host, file.instance)?.is_none_or(|loaded| loaded.digest != file.digest) {
            owed.push(file);
        }
    }
    Ok(owed)
}

/// What the running process of an instance was seen to have loaded.
pub(super) fn loaded<H: Host>(host: &mut H, instance: u16) -> Result<Option<Loaded>, NotLoaded> {
    let marker = host.paths().marker(instance);
    let Some(marker) = host.read(&marker)?.whole().as_deref().and_then(Marker::parse) else {
        return Ok(None);
    };
    Ok(marker.of(host.process(instance)?.as_ref()))
}

/// Makes one process run its file; true if it had to be another process.
fn load_instance<H: Host>(host: &mut H, file: &InstanceConfig, files: &Files) -> Result<bool, NotLoaded> {
    let instance = file.instance;
    let (ini, record) = (host.paths().ini(instance), host.paths().pending_restart(instance));
    let new = parsed(file, files)?;
    let mut pending = pending_changes(host, file, files)?;
    // Recorded before the file is written: after a kill the next load finds the new file, and no difference to it.
    if pending.need() > Need::Reload {
        host.write(&[(&record, &pending.record())])?;
    }
    host.write(&[(&ini, &file.text)])?;
    let process = run(host, file, &new, files.port, &mut pending)?;
    if let Some((user, password)) = &files.proof {
        prove(&host.sockets(instance), instance, user, password)?;
    }
    host.start_exporter(instance)?;
    host.remove(&[record])?;
    let loaded = Loaded { digest: file.digest.clone(), version: files.version.to_string() };
    let marker = Marker { loaded, process: process.to_string() };
    host.write(&[(&host.paths().marker(instance), &marker.render())])?;
    Ok(pending.need() == Need::Restart)
}

/// Brings a process, the running one or another, to run the file that was written. Adds to `pending` what the
/// process shows to need as well.
fn run<H: Host>(
    host: &mut H,
    file: &InstanceConfig,
    new: &Ini,
    port: u16,
    pending: &mut Difference,
) -> Result<H::Process, NotLoaded> {
    let ran = reload_or_restart(host, file, new, port, pending);
    // From 1.19 a process that cannot have its port ends; before, it lives on without.
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
) -> Result<H::Process, NotLoaded> {
    let instance = file.instance;
    // A process that is replaced need not read the file; after SIGTERM from a killed hook it cannot.
    let old = if pending.need() == Need::Restart { host.process(instance)? } else { None };
    let process = if let Some(old) = old {
        old
    } else {
        host.start(instance)?;
        let (process, config) = confirm(host, file, None, RELOAD)?;
        pending.merge(Difference::left(new, shown(&config)));
        if pending.need() < Need::Restart && !listens(new, port) {
            pending.merge(Difference::refused_port());
        }
        process
    };
    match pending.need() {
        Need::Restart => {
            tracing::info!("instance {instance} of PgBouncer: {pending}");
            return restart(host, file, &process);
        }
        Need::Reconnect => {
            let reconnected = host.console(instance, &process).and_then(|mut open| open.reconnect());
            reconnected.map_err(|error| NotLoaded::NotConfirmed { instance, reason: error.to_string() })?;
        }
        Need::Nothing | Need::Reload => {}
    }
    Ok(process)
}

/// Whether a process, or its sibling at the same port, is reached where clients come in: PgBouncer goes on without a port
/// that it could not have. Only a refusal says so; one that is busy is there.
fn listens(ini: &Ini, port: u16) -> bool {
    let address = match ini.setting("listen_addr") {
        // A pod has one network for all its containers.
        None | Some("*") => "127.0.0.1",
        Some(address) => address,
    };
    let refuses = |address: SocketAddr| {
        let answer = TcpStream::connect_timeout(&address, CONNECT);
        answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    !(address, port).to_socket_addrs().is_ok_and(|mut addresses| addresses.any(refuses))
}

fn parsed(file: &InstanceConfig, files: &Files) -> Result<Ini, NotLoaded> {
    let unfit = |ParseError { line, reason }| NotLoaded::Unfit { instance: file.instance, line, reason };
    Ini::parse(&file.text, files.version).map_err(unfit)
}

/// What takes a process from the file that lies there to the new one, and what a load that was killed left to do.
fn pending_changes<H: Host>(
    host: &mut H,
    file: &InstanceConfig,
    files: &Files,
) -> Result<Difference, NotLoaded> {
    let (ini, record) = (host.paths().ini(file.instance), host.paths().pending_restart(file.instance));
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

/// Ends a process and waits for the one that comes instead. That one has read the whole file; should it
/// spell a value differently all the same, restarting again would not help, nor is it tried.
fn restart<H: Host>(host: &mut H, file: &InstanceConfig, old: &H::Process) -> Result<H::Process, NotLoaded> {
    host.stop_exporter(file.instance)?;
    host.signal(file.instance, old, Signal::SIGTERM)?;
    let restarted = confirm(host, file, Some(old), RESTART).or_else(|_| {
        host.replace(file.instance, old)?;
        confirm(host, file, Some(old), RELOAD)
    });
    restarted.map(|(process, _)| process)
}

/// Waits until a process, other than the one to be replaced, shows the digest; gives it and its settings.
/// One that is there already is told once to read its files, whatever it shows: the digest tells of the ini, and
/// the user list it may have missed.
fn confirm<H: Host>(
    host: &mut H,
    file: &InstanceConfig,
    replaced: Option<&H::Process>,
    limit: Duration,
) -> Result<(H::Process, BTreeMap<String, InForce>), NotLoaded> {
    let instance = file.instance;
    let until = Instant::now() + limit;
    let mut nap = Duration::from_millis(2);
    let mut failure = NotLoaded::NotRunning { instance };
    let mut told = None;
    let mut console = None;
    loop {
        if let Some(process) = host.process(instance)?.filter(|process| Some(process) != replaced) {
            failure = match ask(host, &mut console, &process, instance) {
                Ok(config) => {
                    let shows = config.get("syslog_ident").is_some_and(|shown| shown.value == file.digest);
                    let is_told = told.as_ref() == Some(&process);
                    let mut signalled = Ok(());
                    if shows && (is_told || replaced.is_some()) {
                        return Ok((process, config));
                    }
                    if !is_told {
                        match &mut console {
                            // It answers when it has read them; a signal would only be on its way.
                            Some((_, open)) if shows => {
                                let told = open.reload();
                                told.map_err(|error| NotLoaded::NotConfirmed {
                                    instance,
                                    reason: error.to_string(),
                                })?;
                            }
                            // Not before it answers: a process that only just starts dies of the signal.
                            _ => signalled = host.signal(instance, &process, Signal::SIGHUP),
                        }
                        told = signalled.is_ok().then_some(process);
                    }
                    // One that ends at this moment cannot be signalled; the next one can.
                    let reason = "it still shows another digest".to_owned();
                    signalled.err().unwrap_or(NotLoaded::NotConfirmed { instance, reason })
                }
                Err(ConsoleError::PathTooLong(_)) => {
                    return Err(NotLoaded::PathTooLong { path: host.sockets(instance) });
                }
                Err(error) => NotLoaded::NotConfirmed { instance, reason: error.to_string() },
            };
        }
        if Instant::now() > until {
            return Err(failure);
        }
        thread::sleep(nap);
        nap = (nap * 3 / 2).min(Duration::from_millis(100));
    }
}

/// The settings in force, by a console that stays open while it answers, and while the process is the same.
fn ask<H: Host>(
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

/// Logs in with a password: a user list that cannot be read fails no reload, and only a login tells.
fn prove(sockets: &Path, instance: u16, user: &str, password: &Secret) -> Result<(), NotLoaded> {
    match Console::log_in(sockets, user, password) {
        Ok(_) => Ok(()),
        Err(ConsoleError::Refused(reason)) => Err(NotLoaded::UserListRefused { instance, reason }),
        Err(error) => Err(NotLoaded::NotConfirmed { instance, reason: error.to_string() }),
    }
}

/// Name, value and default of each setting.
fn shown(config: &BTreeMap<String, InForce>) -> impl Iterator<Item = (&str, &str, &str)> {
    config.iter().map(|(name, shown)| (name.as_str(), shown.value.as_str(), shown.default.as_str()))
}

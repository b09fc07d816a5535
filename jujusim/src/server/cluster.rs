//! A primary server and those that stream from it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Method, Observer, Release, Server};
use crate::error::{Error, Result};

/// How long a standby may take to have what the primary has.
const PATIENCE: Duration = Duration::from_secs(30);

/// Servers by the number of the unit they belong to.
pub(crate) struct Cluster {
    /// Where they have their directories.
    dir: PathBuf,
    release: Release,
    method: Option<Method>,
    members: BTreeMap<u32, Server>,
    primary: u32,
    /// After what it observes: it ends when that has.
    observer: Option<Observer>,
}

impl Cluster {
    /// A primary alone, of unit 0. With a method the observer of a PostgreSQL charm decides who gets in; without one, everybody who
    /// has a password.
    pub(crate) fn create(
        dir: &Path,
        address: Ipv4Addr,
        release: Release,
        method: Option<Method>,
    ) -> Result<Cluster> {
        let mut cluster = Cluster {
            dir: dir.to_owned(),
            release,
            method,
            members: BTreeMap::new(),
            primary: 0,
            observer: method.map(Observer::start),
        };
        cluster.add(0, address)?;
        Ok(cluster)
    }

    pub(crate) fn primary(&self) -> &Server {
        &self.members[&self.primary]
    }

    /// The server of a unit.
    pub(crate) fn member(&self, number: u32) -> Option<&Server> {
        self.members.get(&number)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Server> {
        self.members.values()
    }

    /// Where those are that only read; as long as the primary runs, only those that run, too.
    pub(crate) fn standbys(&self) -> impl Iterator<Item = Ipv4Addr> {
        let known = |server: &Server| server.is_running() || !self.primary().is_running();
        let standbys =
            self.members.iter().filter(move |(number, server)| **number != self.primary && known(server));
        standbys.map(|(_, server)| server.address)
    }

    /// The observer that notices who gets in, if there is one and the primary answers it.
    pub(crate) fn observer(&self) -> Option<&Observer> {
        self.observer.as_ref().filter(|_| !self.primary().is_frozen())
    }

    /// How long the observer leaves a change unnoticed.
    pub(crate) fn set_delay(&self, delay: Duration) {
        if let Some(observer) = &self.observer {
            observer.set_delay(delay);
        }
    }

    /// The primary answers nobody any more; or again.
    pub(crate) fn freeze(&mut self, frozen: bool) {
        if let Some(server) = self.members.get_mut(&self.primary) {
            server.freeze(frozen);
        }
    }

    /// A standby more. It begins where the primary began, and streams all there was since.
    pub(crate) fn add(&mut self, number: u32, address: Ipv4Addr) -> Result<()> {
        let dir = self.dir.join(format!("postgresql-{}", address.octets()[3]));
        let server = Server::create(&dir, address, &self.release, self.method.is_some())?;
        self.members.insert(number, server);
        self.bring(number)
    }

    /// A server leaves for good, not without an heir if it was the primary; its address is free.
    pub(crate) fn remove(&mut self, number: u32) -> Result<Option<Ipv4Addr>> {
        if number == self.primary && self.members.len() > 1 {
            self.failover()?;
        }
        let gone = self.members.remove(&number).map(|server| server.address);
        self.observe();
        Ok(gone)
    }

    /// A fast shutdown of all: connections are cut.
    pub(crate) fn stop(&mut self) {
        // The primary first: it waits until its standbys have everything.
        let (primary, standbys): (Vec<_>, Vec<_>) =
            self.members.iter_mut().partition(|(number, _)| **number == self.primary);
        for (_, server) in primary.into_iter().chain(standbys) {
            server.stop();
        }
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        self.bring(self.primary)?;
        let numbers: Vec<u32> = self.members.keys().copied().collect();
        numbers.into_iter().try_for_each(|number| self.bring(number))
    }

    /// The primary is killed, a standby takes its place. Nothing is lost that was committed.
    pub(crate) fn failover(&mut self) -> Result<()> {
        let fit = |number: &u32, server: &Server| *number != self.primary && server.is_running();
        let heir = self.members.iter().find(|(number, server)| fit(number, server));
        let heir = *heir.ok_or_else(|| Error::refused("no standby runs"))?.0;
        self.catch_up(heir)?;
        if let Some(server) = self.members.get_mut(&self.primary) {
            server.kill();
        }
        self.members[&heir].sql("postgres", "SELECT pg_promote()").map_err(Error::Refused)?;
        self.primary = heir;
        let primary = self.primary().dir().to_owned();
        for (number, server) in &self.members {
            if *number != heir && server.is_running() {
                server.follow(Some(&primary))?;
                server.sql("postgres", "SELECT pg_reload_conf()").map_err(Error::Refused)?;
            }
        }
        self.observe();
        Ok(())
    }

    /// Starts a server in its part. What was a primary once begins anew: it may have what the others do not.
    fn bring(&mut self, number: u32) -> Result<()> {
        let primary = (number != self.primary).then(|| self.primary().dir().to_owned());
        let method = self.method;
        let Some(server) = self.members.get_mut(&number) else { return Ok(()) };
        if server.is_running() {
            return Ok(());
        }
        if primary.is_some() && !server.is_standby() {
            if let Some(observer) = &self.observer {
                observer.forget(server.dir());
            }
            server.renew(method.is_some())?;
        }
        server.follow(primary.as_deref())?;
        server.start()?;
        self.observe();
        Ok(())
    }

    fn observe(&self) {
        if let (Some(observer), Some(primary)) = (&self.observer, self.members.get(&self.primary)) {
            observer.watch(primary.dir(), self.members.values().map(Server::dir));
        }
    }

    /// Waits until a standby has what the primary has now; a primary that is away has nothing to give.
    fn catch_up(&self, number: u32) -> Result<()> {
        let Ok(position) = self.primary().sql("postgres", "SELECT pg_current_wal_insert_lsn()") else {
            return Ok(());
        };
        // Something behind that position, at once: until then it may lie on a page that does not begin yet.
        let more = "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'jujusim', '')";
        self.primary().sql("postgres", more).map_err(Error::Refused)?;
        let has =
            format!("SELECT pg_last_wal_replay_lsn() >= {}", super::literal(&position.concat().concat()));
        let deadline = Instant::now() + PATIENCE;
        while self.members[&number].sql("postgres", &has).map_err(Error::Refused)? != [["t"]] {
            if Instant::now() > deadline {
                return Err(Error::refused("the standby does not follow the primary"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

//! A primary server and its standbys.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Method, Observer, Release, Server, Tls};
use crate::error::{Error, Result};

/// How long a standby may take to catch up with the primary.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// Servers, by the number of their unit.
pub(crate) struct Cluster {
    /// The parent directory of the servers' directories.
    dir: PathBuf,
    release: Release,
    method: Option<Method>,
    members: BTreeMap<u32, Server>,
    primary: u32,
    tls: Option<Tls>,
    /// Declared after the servers, and so dropped after them: its connection ends with them.
    observer: Option<Observer>,
}

impl Cluster {
    /// Creates a cluster with only a primary, of unit 0. With a method, an observer decides which
    /// roles may log in, as in a PostgreSQL charm; without one, everyone with a password may.
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
            tls: None,
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

    /// Addresses of the read-only servers: while the primary runs, only of those that run.
    pub(crate) fn standbys(&self) -> impl Iterator<Item = Ipv4Addr> {
        let known = |server: &Server| server.is_running() || !self.primary().is_running();
        let standbys = self
            .members
            .iter()
            .filter(move |(number, server)| **number != self.primary && known(server));
        standbys.map(|(_, server)| server.address)
    }

    /// The observer, if there is one and the primary answers it.
    pub(crate) fn observer(&self) -> Option<&Observer> {
        self.observer.as_ref().filter(|_| !self.primary().is_frozen())
    }

    /// Sets how long the observer takes to act on a change.
    pub(crate) fn set_delay(&self, delay: Duration) {
        if let Some(observer) = &self.observer {
            observer.set_delay(delay);
        }
    }

    /// The authority of the servers' certificates, if the servers have TLS.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Gives each server a certificate of this authority, and admits connections with TLS only; or
    /// ends TLS. Connections stay.
    pub(crate) fn set_tls(&mut self, tls: Option<Tls>) -> Result<()> {
        self.tls = tls;
        let primary = self.primary().dir().to_owned();
        for (number, server) in &self.members {
            server.certify(self.tls.as_ref(), self.method.is_some())?;
            server.follow((*number != self.primary).then_some(&primary))?;
            server.reload()?;
        }
        if let Some(observer) = &self.observer {
            observer.set_tls(self.tls.is_some());
        }
        Ok(())
    }

    /// Freezes or continues the primary.
    pub(crate) fn freeze(&mut self, frozen: bool) {
        if let Some(server) = self.members.get_mut(&self.primary) {
            server.freeze(frozen);
        }
    }

    /// Adds a standby. Its copy starts from the same template as the primary's and streams all
    /// changes.
    pub(crate) fn add(&mut self, number: u32, address: Ipv4Addr) -> Result<()> {
        let dir = self.dir.join(format!("postgresql-{}", address.octets()[3]));
        let server = Server::create(&dir, address, &self.release, self.method.is_some())?;
        self.members.insert(number, server);
        self.start_member(number)
    }

    /// Removes a server; a primary fails over first. Returns the address to release.
    pub(crate) fn remove(&mut self, number: u32) -> Result<Option<Ipv4Addr>> {
        if number == self.primary && self.members.len() > 1 {
            self.failover()?;
        }
        let gone = self.members.remove(&number).map(|server| server.address);
        self.observe();
        Ok(gone)
    }

    /// Fast shutdown of all servers: closes all connections.
    pub(crate) fn stop(&mut self) {
        // The primary first: it waits until its standbys have received everything.
        let (primary, standbys): (Vec<_>, Vec<_>) =
            self.members.iter_mut().partition(|(number, _)| **number == self.primary);
        for (_, server) in primary.into_iter().chain(standbys) {
            server.stop();
        }
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        self.start_member(self.primary)?;
        let numbers: Vec<u32> = self.members.keys().copied().collect();
        numbers.into_iter().try_for_each(|number| self.start_member(number))
    }

    /// Kills the primary and promotes a standby. No committed data is lost.
    pub(crate) fn failover(&mut self) -> Result<()> {
        let fit = |number: &u32, server: &Server| *number != self.primary && server.is_running();
        let successor = self.members.iter().find(|(number, server)| fit(number, server));
        let successor =
            *successor.ok_or_else(|| Error::refused("cannot fail over: no standby runs"))?.0;
        self.catch_up(successor)?;
        if let Some(server) = self.members.get_mut(&self.primary) {
            server.kill();
        }
        self.members[&successor].sql("postgres", "SELECT pg_promote()").map_err(Error::Refused)?;
        self.primary = successor;
        let primary = self.primary().dir().to_owned();
        for (number, server) in &self.members {
            if *number != successor && server.is_running() {
                server.follow(Some(&primary))?;
                server.sql("postgres", "SELECT pg_reload_conf()").map_err(Error::Refused)?;
            }
        }
        self.observe();
        Ok(())
    }

    /// Starts a server in its current role. A former primary is reset first: it may have data that
    /// the others lack.
    fn start_member(&mut self, number: u32) -> Result<()> {
        let primary = (number != self.primary).then(|| self.primary().dir().to_owned());
        let (method, tls) = (self.method, self.tls.clone());
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
        if tls.is_some() {
            server.certify(tls.as_ref(), method.is_some())?;
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

    /// Waits until each standby that runs has caught up with the primary.
    pub(crate) fn catch_up_all(&self) -> Result<()> {
        if !self.primary().is_running() || self.primary().is_frozen() {
            return Ok(());
        }
        let standbys = self.members.iter().filter(|(number, _)| **number != self.primary);
        let running = standbys.filter(|(_, server)| server.is_running() && !server.is_frozen());
        running.map(|(number, _)| *number).try_for_each(|number| self.catch_up(number))
    }

    /// Waits until a standby has caught up with the primary. A primary that does not answer has
    /// nothing more to send.
    fn catch_up(&self, number: u32) -> Result<()> {
        let Ok(position) = self.primary().sql("postgres", "SELECT pg_current_wal_insert_lsn()")
        else {
            return Ok(());
        };
        // Write more WAL at once: otherwise the position may be on a page that has not begun yet,
        // which no standby reaches.
        let more =
            "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'jujusim', '')";
        self.primary().sql("postgres", more).map_err(Error::Refused)?;
        let has = format!(
            "SELECT pg_last_wal_replay_lsn() >= {}",
            super::literal(&position.concat().concat())
        );
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        while self.members[&number].sql("postgres", &has).map_err(Error::Refused)? != [["t"]] {
            if Instant::now() > deadline {
                return Err(Error::refused("the standby did not catch up with the primary"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

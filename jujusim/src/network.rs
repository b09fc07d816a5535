//! Loopback addresses that no other model on this machine uses.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use rand::RngExt as _;

use crate::error::{Error, Result};

/// Host numbers for pods and servers; the model itself uses the others.
const HOSTS: Range<u8> = 10..251;

/// A private /24 of the loopback network, reserved while this value lives.
pub(crate) struct Network {
    prefix: [u8; 3],
    /// Host numbers in use.
    taken: BTreeSet<u8>,
    /// Where the search for the next address starts, so that an address is not reused at once.
    next: u8,
    /// A further network when this one is full. Transcripts use the names `10.1.0.N` only for the
    /// first network.
    more: Option<Box<Network>>,
    /// The reservation: no other process can bind this address and port.
    _claim: TcpListener,
}

impl Network {
    pub(crate) fn claim() -> Result<Network> {
        for _ in 0..1000 {
            let mut random = rand::rng();
            // Addresses always have the same length, so that the length of a text with an address
            // does not vary.
            let prefix = [127, random.random_range(100..=254), random.random_range(100..=254)];
            if let Ok(claim) =
                TcpListener::bind((Ipv4Addr::new(prefix[0], prefix[1], prefix[2], 254), 17070))
            {
                return Ok(Network {
                    prefix,
                    taken: BTreeSet::new(),
                    next: HOSTS.start,
                    more: None,
                    _claim: claim,
                });
            }
        }
        Err(Error::refused(
            "cannot reserve a loopback network: every network that was tried is in use; end other models",
        ))
    }

    /// Reserves an address for a pod or a server.
    pub(crate) fn take(&mut self) -> Result<Ipv4Addr> {
        let free = (self.next..HOSTS.end).chain(HOSTS).find(|host| !self.taken.contains(host));
        let Some(host) = free else {
            let more = self.more.take().map_or_else(|| Network::claim().map(Box::new), Ok)?;
            return self.more.insert(more).take();
        };
        self.taken.insert(host);
        self.next = host + 1;
        Ok(self.address(host))
    }

    /// Releases an address.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        let [a, b, c, host] = address.octets();
        if [a, b, c] == self.prefix {
            self.taken.remove(&host);
        } else if let Some(more) = &mut self.more {
            more.release(address);
        }
    }

    pub(crate) fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(self.prefix[0], self.prefix[1], self.prefix[2], host)
    }

    /// The common prefix of this model's addresses: `127.x.y.`.
    pub(crate) fn prefix(&self) -> String {
        format!("{}.{}.{}.", self.prefix[0], self.prefix[1], self.prefix[2])
    }
}

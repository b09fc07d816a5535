//! Reads about keys and certificates.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::Look;
use crate::event::{Endpoint, Event};
use crate::facts::certificates::{Stored, UnitStore, transferred};
use crate::facts::options::Options;
use crate::facts::tls::{CheckedTls, Material};
use crate::juju::labels;
use crate::notes::Trust;
use crate::peer_bag::{CLIENT_CA, SERVER_CA, TLS_CA};
use crate::pgbouncer::SslMode;
use crate::plan::Bag;
use crate::postgres::TlsDemand;
use crate::secret::Secret;
use crate::status::Wait;
use crate::x509::certificate::digest;
use crate::x509::{Bundle, Names, PrivateKey};

impl Look<'_> {
    /// Seconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the time of day")]
    pub fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    /// Generates a private key. It takes a few tenths of a second.
    #[expect(clippy::disallowed_methods, reason = "a private key is made of random numbers")]
    pub fn fresh_key() -> Result<PrivateKey> {
        Ok(PrivateKey::generate(&mut rand::rng())?)
    }

    /// The private key that an operator brings in this dispatch.
    pub fn new_key(&self) -> Option<&PrivateKey> {
        self.handles.new_key.as_ref()
    }

    /// The names for a certificate of this unit, with this address.
    pub fn names(&self, ip: Option<IpAddr>) -> Names {
        let model = &self.unit.model;
        let domain = self.handles.paths.cluster_domain(model);
        Names::of_unit(&self.unit.app, self.unit.number, model, &domain, ip)
    }

    /// Whether clients may connect only with TLS, by the published options.
    pub fn demands_tls(&mut self) -> Result<bool> {
        let options = self.published()?.options();
        Ok(options.is_some_and(|options| options.client_tls_sslmode.demands_tls()))
    }

    /// The CAs that the leader has published to clients; `None` if the leader does not publish them
    /// to any client yet, so that none verifies a certificate.
    pub fn known_cas(&mut self) -> Result<Option<Bundle>> {
        if !self.published()?.is_ours() {
            return Ok(None);
        }
        Ok(self.app_bag()?.text(TLS_CA).and_then(Bundle::parse))
    }

    /// The CAs of all units' certificates. Clients need them to verify any unit, also while a unit
    /// changes to another CA.
    pub fn units_cas(&mut self) -> Result<Bundle> {
        let parse = |text: Option<&String>| text.and_then(|text| Bundle::parse(text));
        let known = parse(self.bag(Bag::PeerApp)?.get(TLS_CA)).unwrap_or_default();
        let mut all = parse(self.bag(Bag::PeerUnit)?.get(TLS_CA)).unwrap_or_default();
        for unit in self.siblings()? {
            let wanted = self.sibling(&unit)?.get(TLS_CA).cloned().unwrap_or_default();
            let mut missing = false;
            for id in wanted.split(' ').filter(|id| !id.is_empty()) {
                let ca = known.0.iter().chain(&all.0).find(|ca| digest(&ca.pem) == id).cloned();
                missing |= ca.is_none();
                all.extend(ca);
            }
            if missing {
                let bag = self.remote_unit_bag(self.peers, &unit)?;
                all.extend(parse(bag.get(TLS_CA)).unwrap_or_default().0);
            }
        }
        all.0.sort();
        Ok(all)
    }

    /// The CAs by which clients verify PgBouncer, in PEM; `None` if no unit offers TLS. Without TLS
    /// so far, only the leader's own certificate begins it.
    pub fn clients_ca(&mut self) -> Result<Option<String>> {
        let is_published = self.app_bag()?.text(TLS_CA).is_some();
        if !is_published && !self.bag(Bag::PeerUnit)?.contains_key(TLS_CA) {
            return Ok(None);
        }
        let options = self.options()?.options;
        if options.is_none_or(|options| options.client_tls_sslmode == SslMode::Disable) {
            return Ok(None);
        }
        Ok(Some(self.units_cas()?.to_pem()).filter(|pem| !pem.is_empty()))
    }

    /// What this unit stores for its certificate, and where. Like the Python charm, looks for the
    /// current label, the older label, and a URI in the unit bag.
    pub fn stored_certificate(&mut self) -> Result<(Stored, UnitStore)> {
        if !self.has_secrets() {
            return Ok((Stored::read_bag(self.bag(Bag::PeerUnit)?), UnitStore::Bag));
        }
        let (content, adopt) = self.unit_secret()?;
        Ok((Stored::read(&content), UnitStore::Secret { content, adopt }))
    }

    fn unit_secret(&mut self) -> Result<(BTreeMap<String, Secret>, Option<String>)> {
        let juju = &mut self.handles.juju;
        if let Some(content) = juju.secret_by_label(&labels::unit_label(&self.unit.app))? {
            return Ok((content, None));
        }
        let is_new = self.notes.certificate.is_some() && self.trust != Trust::Nothing;
        let bag = self.bag(Bag::PeerUnit)?.clone();
        if is_new || !Stored::may_be_in(&bag) {
            return Ok((BTreeMap::new(), None));
        }
        let juju = &mut self.handles.juju;
        let old = labels::old_unit_label(&self.unit.app);
        if let Some(content) = juju.secret_by_label(&old)? {
            return Ok((content, juju.secret_info(&old)?.map(|info| info.id)));
        }
        match bag.get("internal-secret") {
            Some(uri) => Ok((juju.secret_by_uri(uri)?.unwrap_or_default(), Some(uri.clone()))),
            None => Ok((BTreeMap::new(), None)),
        }
    }

    /// How much TLS the published configuration demands of PostgreSQL.
    pub(super) fn tls_in_force(&mut self) -> Result<TlsDemand> {
        let Some(options) = self.published()?.options() else { return Ok(TlsDemand::default()) };
        let ca = self.app_bag()?.text(SERVER_CA).unwrap_or_default().to_owned();
        Ok(TlsDemand { mode: options.server_tls_sslmode, ca })
    }

    /// Whether the modes of TLS in these options can be met, and with which CAs. Only the leader
    /// checks.
    pub fn checked_tls(&mut self, wanted: &Options) -> Result<Rc<CheckedTls>> {
        if let Some(checked) = &self.parsed.tls {
            return Ok(checked.clone());
        }
        let checked = if self.leads()? { self.check_tls(wanted)? } else { CheckedTls::default() };
        Ok(self.parsed.tls.insert(Rc::new(checked)).clone())
    }

    fn check_tls(&mut self, wanted: &Options) -> Result<CheckedTls> {
        let mut checked = CheckedTls::default();
        let client = ("client_tls_sslmode", wanted.client_tls_sslmode);
        let server = ("server_tls_sslmode", wanted.server_tls_sslmode);
        if client.1.demands_tls() && self.identity()?.is_none() {
            let reason = "this unit has no certificate; integrate certificates with a provider";
            checked.refuse(client, reason);
        }
        if client.1.verifies() {
            match self.ca(CLIENT_CA, Self::received_cas)? {
                Some(pem) => checked.client_ca = Some(pem),
                None => checked.refuse(client, "integrate receive-ca-cert with the CA of clients"),
            }
        }
        if server.1.verifies() {
            let Some(pem) = self.ca(SERVER_CA, Self::server_cas)? else {
                let reason = "PostgreSQL gives no root CA; integrate receive-ca-cert with its root";
                checked.refuse(server, reason);
                return Ok(checked);
            };
            checked.server_ca = Some(pem);
        }
        let ca = checked.server_ca.clone().unwrap_or_default();
        let demand = TlsDemand { mode: server.1, ca };
        if demand != self.tls_in_force()? && server.1.demands_tls() {
            match self.connect(&demand)? {
                Ok(connected) => self.handles.server = Some(Ok(connected)),
                // Without PostgreSQL there is nothing to prove, and nobody to lose.
                Err(Wait::NoBackend | Wait::Backend) => {}
                Err(wait) => checked.refuse(server, &wait.to_string()),
            }
        }
        Ok(checked)
    }

    /// The CAs under a key of the peer app bag. If this hook may bring others, `read` finds them.
    fn ca(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self) -> Result<Bundle>,
    ) -> Result<Option<String>> {
        let published = self.app_bag()?.text(key).map(str::to_owned);
        if published.is_some() && !self.may_bring_cas() {
            return Ok(published);
        }
        Ok(Some(read(self)?).filter(Bundle::has_root).map(|cas| cas.to_pem()))
    }

    /// Whether this hook may bring other CAs. A hook after one that refused CAs looks again.
    fn may_bring_cas(&self) -> bool {
        let is_left = self.notes.deferred.iter().any(|row| row == Endpoint::Peers.name());
        let is_event = match self.event {
            Event::Secret(_) => true,
            Event::Relation(event) => {
                [Endpoint::BackendDatabase, Endpoint::ReceiveCaCert].contains(&event.endpoint)
            }
            _ => false,
        };
        is_left || is_event || !matches!(self.trust, Trust::Full | Trust::Recheck)
    }

    /// The CAs from `receive-ca-cert`.
    pub fn received_cas(&mut self) -> Result<Bundle> {
        let mut all = Bundle::default();
        for relation in self.notes.of(Endpoint::ReceiveCaCert).relations {
            let app = self.remote_bag(relation)?;
            let mut units = Vec::new();
            if !app.contains_key("certificates") {
                for unit in self.members(relation)? {
                    units.push(self.remote_unit_bag(relation, &unit)?.clone());
                }
            }
            let found = transferred(&app, &units.iter().collect::<Vec<_>>());
            all.extend(found.unwrap_or_default().0);
        }
        all.0.sort();
        Ok(all)
    }

    /// The CAs of PostgreSQL's certificate: those that PostgreSQL gives; if it gives no root, also
    /// those from `receive-ca-cert`.
    fn server_cas(&mut self) -> Result<Bundle> {
        let mut cas = match self.backend()? {
            Some(backend) => {
                let label = labels::backend_tls_label(backend.relation);
                let content = match backend.tls_secret() {
                    Some(uri) => self.handles.juju.foreign_secret(uri, &label)?,
                    None => None,
                };
                backend.cas(content.as_ref())
            }
            None => Bundle::default(),
        };
        if !cas.has_root() {
            cas.extend(self.received_cas()?.0);
        }
        Ok(cas)
    }

    /// The keys and certificates that this unit should use, without a read of its secret while its
    /// files have them.
    pub fn material(&mut self) -> Result<Material> {
        let identity = if self.offers_tls()? { self.identity()? } else { None };
        if self.leads()? {
            let chosen = self.options()?;
            if let Some(options) = chosen.options.filter(|_| chosen.invalid.is_empty()) {
                let checked = self.checked_tls(&options)?;
                let (client_ca, server_ca) = (checked.client_ca.clone(), checked.server_ca.clone());
                return Ok(Material { identity, client_ca, server_ca });
            }
        }
        let app = self.app_bag()?;
        let text = |key| app.text(key).map(str::to_owned);
        Ok(Material { identity, client_ca: text(CLIENT_CA), server_ca: text(SERVER_CA) })
    }

    /// Whether clients may use TLS, by the published options or by those that this unit is about to
    /// publish. Where they may not, no file saves a read of the secret.
    fn offers_tls(&mut self) -> Result<bool> {
        let offers = |options: Options| options.client_tls_sslmode != SslMode::Disable;
        let published = self.published()?.options();
        if published.is_none_or(offers) {
            return Ok(true);
        }
        Ok(self.leads()? && self.options()?.options.is_some_and(offers))
    }

    /// The private key and certificates for clients.
    fn identity(&mut self) -> Result<Option<Secret>> {
        let wanted = self.notes.certificate.as_ref().map(|note| note.digest.clone());
        Ok(match wanted.filter(|wanted| !wanted.is_empty()) {
            Some(wanted) => match self.kept().identity.clone() {
                Some(kept) if digest(kept.reveal()) == wanted => Some(kept),
                // Without its secret the unit serves on with what it has.
                kept => self.stored_certificate()?.0.identity().or(kept),
            },
            None => None,
        })
    }
}

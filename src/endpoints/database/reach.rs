//! The endpoints at which clients reach this application.

use anyhow::Result;

use crate::look::Look;
use crate::peer_bag::ADDRESS;

/// The endpoints at which clients reach this application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A Kubernetes service; `host:port`. A client that has the service of the Python charm keeps
    /// it, because it leads to the same pods.
    Service {
        /// Juju's service for the application.
        ours: String,
        /// The service that the Python charm created.
        python: String,
    },
    /// Every unit; `host:port`.
    Units {
        /// The endpoints of units with a known address.
        known: Vec<String>,
        /// The addresses of all units are known.
        complete: bool,
    },
}

impl Reach {
    /// Gathers the endpoints; `None` while there are no options or this unit has no address.
    pub fn gather(look: &mut Look<'_>) -> Result<Option<Self>> {
        let Some(options) = look.options()?.options else { return Ok(None) };
        let port = options.listen_port;
        // Juju adds our port to the application's service in these versions only.
        if look.is_sidecar() && look.has_secrets() {
            let app = &look.unit().app;
            let service = |name: &str| format!("{}:{port}", look.service(name));
            let python = service(&format!("{app}-service"));
            return Ok(Some(Self::Service { ours: service(app), python }));
        }
        let Some(own) = look.bind_address()? else { return Ok(None) };
        let mut addresses = vec![own];
        let members = look.siblings()?;
        for unit in &members {
            addresses.extend(look.sibling(unit)?.remove(ADDRESS));
        }
        let known = endpoints(addresses, port);
        // goal-state is read only if the endpoints differ from the published ones.
        let complete = look.app_bag()?.published_endpoints() == Some(known.join(",").as_str())
            || is_every_unit_known(look, &members)?;
        Ok(Some(Self::Units { known, complete }))
    }

    /// The endpoints for a client that had the endpoints `before`. Old endpoints are kept until all
    /// units are known, because a new leader may not have seen every unit yet.
    pub fn endpoints(&self, before: Option<&str>) -> String {
        match self {
            Self::Service { python, .. } if before == Some(python.as_str()) => python.clone(),
            Self::Service { ours, .. } => ours.clone(),
            Self::Units { known, complete } => {
                let mut all = known.clone();
                if !complete {
                    all.extend(
                        before.into_iter().flat_map(|before| before.split(',')).map(str::to_owned),
                    );
                }
                all.sort();
                all.dedup();
                all.join(",")
            }
        }
    }

    /// The endpoints for a new client; `None` while not all units are known.
    pub fn complete_endpoints(&self) -> Option<String> {
        match self {
            Self::Units { complete: false, .. } => None,
            _ => Some(self.endpoints(None)),
        }
    }
}

/// Whether `members` and this unit are all units that the model plans.
fn is_every_unit_known(look: &mut Look<'_>, members: &[String]) -> Result<bool> {
    let own = &look.unit().name.clone();
    let goal = look.goal(&look.unit().app.clone())?;
    Ok(goal.is_none_or(|goal| {
        goal.staying().all(|unit| unit == own || members.iter().any(|m| m == unit))
    }))
}

/// Renders each distinct address as `address:port`, sorted.
fn endpoints(mut addresses: Vec<String>, port: u16) -> Vec<String> {
    addresses.sort();
    addresses.dedup();
    let endpoint = |address: String| {
        if address.contains(':') {
            format!("[{address}]:{port}")
        } else {
            format!("{address}:{port}")
        }
    };
    addresses.into_iter().map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_endpoints_are_kept_until_all_units_are_known() {
        let units = |complete| Reach::Units { known: vec!["b:1".into(), "c:1".into()], complete };
        assert_eq!(units(true).endpoints(Some("a:1,b:1")), "b:1,c:1");
        assert_eq!(units(false).endpoints(Some("a:1,b:1")), "a:1,b:1,c:1");
        assert_eq!(units(false).endpoints(None), "b:1,c:1");
        assert_eq!(units(true).complete_endpoints(), Some("b:1,c:1".into()));
        assert_eq!(units(false).complete_endpoints(), None);
        let service = Reach::Service { ours: "p.m:1".into(), python: "p-service.m:1".into() };
        assert_eq!(service.endpoints(Some("p-service.m:1")), "p-service.m:1");
        assert_eq!(service.endpoints(Some("p-service.m:2")), "p.m:1");
    }

    #[test]
    fn an_ipv6_address_is_bracketed() {
        let addresses = ["fd00::1", "10.0.0.7", "10.0.0.7"].map(str::to_owned).to_vec();
        assert_eq!(endpoints(addresses, 6432), ["10.0.0.7:6432", "[fd00::1]:6432"]);
    }
}

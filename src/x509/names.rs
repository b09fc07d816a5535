//! The names in a certificate.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// The longest common name (RFC 5280, `ub-common-name`).
const COMMON_NAME_MAX: usize = 64;

/// The longest DNS name, and the longest of its labels (RFC 1035).
const DNS_NAME_MAX: usize = 253;
const DNS_LABEL_MAX: usize = 63;

/// The names of a unit, under which clients connect to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The common name; `None` if each candidate is too long.
    pub common_name: Option<String>,
    /// The DNS names.
    pub dns: BTreeSet<String>,
    /// The addresses.
    pub ips: BTreeSet<IpAddr>,
}

impl Names {
    /// The names that the Python charm requests for the unit `<app>/<number>` of a model in this
    /// cluster domain. Names that DNS does not permit are left out.
    pub fn of_unit(app: &str, number: u32, model: &str, domain: &str, ip: Option<IpAddr>) -> Self {
        let unit = format!("{app}-{number}");
        let (endpoints, service) = (format!("{app}-endpoints"), format!("{app}-service"));
        let cluster = format!("{model}.svc.{domain}");
        let dns = [
            unit.clone(),
            format!("{unit}.{endpoints}"),
            format!("{unit}.{endpoints}.{cluster}"),
            service.clone(),
            format!("{service}.{cluster}"),
            app.to_owned(),
            format!("{app}.{endpoints}"),
            format!("{app}.{endpoints}.{cluster}"),
            endpoints.clone(),
            format!("{endpoints}.{cluster}"),
            format!("{app}.{cluster}"),
        ];
        // Where the unit's name is too long, Canonical's PostgreSQL uses a wildcard.
        let candidates = [format!("{unit}.{endpoints}"), format!("*.{endpoints}")];
        Self {
            common_name: candidates.into_iter().find(|name| name.len() <= COMMON_NAME_MAX),
            dns: dns.into_iter().filter(|name| is_dns_name(name)).collect(),
            ips: ip.into_iter().collect(),
        }
    }

    /// The same names without addresses, for a provider that refuses addresses.
    #[must_use]
    pub fn without_ips(self) -> Self {
        Self { ips: BTreeSet::new(), ..self }
    }

    /// Whether a certificate with these names is valid for all DNS names of `wanted`. The address
    /// of a pod does not count: it changes whenever the pod is replaced.
    pub fn cover(&self, wanted: &Self) -> bool {
        self.dns.is_superset(&wanted.dns)
    }
}

fn is_dns_name(name: &str) -> bool {
    name.len() <= DNS_NAME_MAX
        && name.split('.').all(|label| (1..=DNS_LABEL_MAX).contains(&label.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_unit(app: &str) -> Names {
        Names::of_unit(app, 0, "shop", "cluster.local", Some(IpAddr::from([10, 1, 0, 7])))
    }

    #[test]
    fn a_unit_has_the_names_that_the_python_charm_requests() {
        let names = of_unit("pgb");
        assert_eq!(names.common_name.as_deref(), Some("pgb-0.pgb-endpoints"));
        assert_eq!(
            names.dns.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "pgb",
                "pgb-0",
                "pgb-0.pgb-endpoints",
                "pgb-0.pgb-endpoints.shop.svc.cluster.local",
                "pgb-endpoints",
                "pgb-endpoints.shop.svc.cluster.local",
                "pgb-service",
                "pgb-service.shop.svc.cluster.local",
                "pgb.pgb-endpoints",
                "pgb.pgb-endpoints.shop.svc.cluster.local",
                "pgb.shop.svc.cluster.local",
            ]
        );
        assert_eq!(names.ips, BTreeSet::from([IpAddr::from([10, 1, 0, 7])]));
    }

    #[test]
    fn the_common_name_has_at_most_64_characters() {
        for (length, expected) in [(25, "aaaaa"), (26, "*."), (53, "")] {
            let name = of_unit(&"a".repeat(length)).common_name.unwrap_or_default();
            assert!(name.starts_with(expected), "{length}: {name}");
            assert!(name.len() <= 64 && name.is_empty() == expected.is_empty(), "{length}: {name}");
        }
    }

    #[test]
    fn a_name_that_dns_does_not_permit_is_left_out() {
        let names = of_unit(&"a".repeat(60));
        assert_eq!(names.dns.len(), 3, "{names:?}");
    }

    #[test]
    fn another_address_needs_no_other_certificate_and_another_name_does() {
        let names = of_unit("pgb");
        assert!(names.clone().without_ips().cover(&names));
        assert!(!of_unit("pgb").cover(&of_unit("other")));
    }
}

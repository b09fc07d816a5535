//! Ports that a charm opens.

use std::fmt;

/// A port that a unit has open.
///
/// Ordered as Juju lists ports: by protocol, then by number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpenedPort {
    pub(crate) protocol: Protocol,
    /// 0 for `icmp`, which has no ports.
    pub(crate) number: u16,
    /// The only endpoint that the port is open for; `None` for all endpoints.
    pub(crate) endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Icmp,
    Tcp,
    Udp,
}

impl OpenedPort {
    /// Whether this is the same port, regardless of the endpoint.
    pub(crate) fn same(&self, other: &OpenedPort) -> bool {
        (self.protocol, self.number) == (other.protocol, other.number)
    }
}

/// The argument of `open-port` and `close-port`.
pub(crate) struct PortRange {
    pub(crate) protocol: Protocol,
    pub(crate) from: u16,
    pub(crate) to: u16,
}

impl PortRange {
    /// Parses the argument of `open-port`: a port or a range, TCP by default. An error has Juju's
    /// text.
    pub(crate) fn parse(text: &str) -> Result<PortRange, String> {
        let text = text.to_lowercase();
        let (range, protocol) = text.split_once('/').unwrap_or((text.as_str(), "tcp"));
        if range == "icmp" {
            return Ok(PortRange { protocol: Protocol::Icmp, from: 0, to: 0 });
        }
        let number = |part: &str| {
            part.parse::<i64>().map_err(|_| {
                format!("invalid port {part:?}: strconv.Atoi: parsing {part:?}: invalid syntax")
            })
        };
        let (from, to) = match range.split('-').collect::<Vec<_>>().as_slice() {
            [single] => (number(single)?, number(single)?),
            [from, to] => (number(from)?, number(to)?),
            _ => return Err(format!("invalid port range {range:?}")),
        };
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "icmp" => {
                return Err(format!("protocol \"icmp\" doesn't support any ports; got \"{from}\""));
            }
            other => {
                return Err(format!(
                    r#"invalid protocol {other:?}, expected "tcp", "udp", or "icmp""#
                ));
            }
        };
        if from > to {
            return Err(format!("invalid port range {from}-{to}/{protocol}"));
        }
        match (u16::try_from(from), u16::try_from(to)) {
            (Ok(from), Ok(to)) => Ok(PortRange { protocol, from, to }),
            _ => Err(format!("port range bounds must be between 0 and 65535, got {from}-{to}")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Icmp => "icmp",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// Without its endpoint.
impl fmt::Display for OpenedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Icmp => write!(f, "{}", self.protocol),
            protocol => write!(f, "{}/{protocol}", self.number),
        }
    }
}

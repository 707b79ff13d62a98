// SPDX-License-Identifier: MIT OR Apache-2.0
//! The grammar of Consul's names: which thing a name asks for.
//!
//! In: a question's name in lower case, the domain and our zone's label. Out: what is asked for, without looking whether
//! it is there. Pure; no allocation.
//!
//! ```text
//! [<tag>.]<service>.service[.<zone>[.dc]].<domain>
//! _<service>._<tag or tcp>[.service][.<zone>[.dc]].<domain>     RFC 2782
//! <node>.node[.<zone>[.dc]].<domain>
//! <8 or 32 hex digits>.addr[.<zone>[.dc]].<domain>
//! ns.<domain>
//! ```

use crate::wire::{LowerName, WireName};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What names are judged by.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Naming {
    domain: WireName,
    /// The label of our zone; empty while it is unknown.
    zone: Vec<u8>,
    /// What follows a kind in the names that we make: zone, domain and root.
    suffix: Vec<u8>,
}

/// What a name asks for.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Asked<'n> {
    /// The domain itself.
    Apex,
    /// `ns.<domain>`.
    NameServer,
    /// Nothing but that other names stand below it: it exists and has no records.
    Stem,
    /// A service's endpoints, those with the tag if there is one.
    Service {
        service: &'n [u8],
        tag: Option<&'n [u8]>,
        /// Without the label `service` the form has SRV records only, as in Consul.
        is_srv_only: bool,
    },
    /// A node, by the labels of its name.
    Node(&'n [u8]),
    /// An address that is written in the name itself.
    Address(IpAddr),
    /// No form of ours, or another zone's name. Whether a zone exists elsewhere is not told.
    Nothing,
}

/// The labels that say what kind of thing a name is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Service,
    Node,
    Address,
}

impl Naming {
    /// The names of a domain and, once it is known, of our zone in it.
    pub(crate) fn new(domain: &WireName, zone_label: Option<&str>) -> Self {
        let zone = zone_label.unwrap_or_default().as_bytes().to_vec();
        // A zone that is called like a kind would make the names of its targets mean something else.
        let own = Some(&zone).filter(|zone| Kind::of(zone).is_none());
        let own = own
            .and_then(|zone| WireName::default().label(zone))
            .unwrap_or_default();
        let suffix = [own.as_bytes(), domain.as_bytes(), &[0]].concat();
        Self {
            domain: domain.clone(),
            zone,
            suffix,
        }
    }

    /// Where the domain begins among the labels of the name; none when the name is not in it.
    pub(crate) fn domain_in(&self, name: &LowerName) -> Option<usize> {
        let labels = self.domain.suffixes().count();
        let first = name.labels().checked_sub(labels)?;
        // Compared from a label's start on, so that `notconsul` is no `consul`.
        (name.span(first, name.labels()) == self.domain.as_bytes()).then_some(first)
    }

    /// What the name asks for; `domain` is the number of the label at which the domain begins.
    pub(crate) fn read<'n>(&self, name: &'n LowerName, domain: usize) -> Asked<'n> {
        match domain {
            0 => return Asked::Apex,
            1 if name.label(0) == b"ns" => return Asked::NameServer,
            _ => {}
        }
        // From right to left: the first kind decides, and at most `<zone>.dc` follows it.
        let furthest = domain.saturating_sub(1 + ZONE_LABELS_MAX);
        for at in (furthest..domain).rev() {
            if let Some(kind) = Kind::of(name.label(at)) {
                let is_ours = self.is_own_zone(name, at + 1, domain);
                return if is_ours {
                    read_kind(name, kind, at)
                } else {
                    Asked::Nothing
                };
            }
        }
        self.read_without_kind(name, domain)
    }

    /// A name that we make: the given labels, a kind, our zone and the domain; none when it is too long.
    pub(crate) fn target(&self, labels: &[u8], kind: &str) -> Option<WireName> {
        let name = WireName::default().labels(labels)?.label(kind.as_bytes())?;
        name.labels(&self.suffix)
    }

    fn is_own_zone(&self, name: &LowerName, from: usize, to: usize) -> bool {
        match to - from {
            0 => true,
            1 => name.label(from) == self.zone,
            2 => name.label(from) == self.zone && name.label(from + 1) == DATACENTER,
            _ => false,
        }
    }

    /// `_service._tag` with or without a zone, and the stems of all such names.
    fn read_without_kind<'n>(&self, name: &'n LowerName, domain: usize) -> Asked<'n> {
        let is_marked = |label: usize| label < domain && name.label(label).starts_with(b"_");
        match (0..domain).take_while(|label| is_marked(*label)).count() {
            2 if self.is_own_zone(name, 2, domain) => marked_service(name, true),
            1 if self.is_own_zone(name, 1, domain) => Asked::Stem,
            0 if self.is_own_zone(name, 0, domain) => Asked::Stem,
            0 if domain == 1 && name.label(0) == DATACENTER => Asked::Stem,
            _ => Asked::Nothing,
        }
    }
}

impl Kind {
    fn of(label: &[u8]) -> Option<Self> {
        match label {
            b"service" => Some(Self::Service),
            b"node" => Some(Self::Node),
            b"addr" => Some(Self::Address),
            _ => None,
        }
    }
}

/// What stands before the kind, whose label has the number `at`.
fn read_kind(name: &LowerName, kind: Kind, at: usize) -> Asked<'_> {
    if at == 0 {
        return Asked::Stem;
    }
    match kind {
        Kind::Service => read_service(name, at),
        Kind::Node => Asked::Node(name.span(0, at)),
        Kind::Address if at == 1 => read_hex(name.label(0)).map_or(Asked::Nothing, Asked::Address),
        Kind::Address => Asked::Nothing,
    }
}

fn read_service(name: &LowerName, at: usize) -> Asked<'_> {
    let is_marked = |label: usize| name.label(label).starts_with(b"_");
    match at {
        1 if is_marked(0) => Asked::Stem,
        2 if is_marked(0) && is_marked(1) => marked_service(name, false),
        1 => Asked::Service {
            service: name.label(0),
            tag: None,
            is_srv_only: false,
        },
        2 => Asked::Service {
            service: name.label(1),
            tag: Some(name.label(0)),
            is_srv_only: false,
        },
        // Consul joins all labels before the service to one tag with dots in it; no port has such a name.
        _ => Asked::Nothing,
    }
}

/// `_service._tag`, where the tag `tcp` means none.
fn marked_service(name: &LowerName, is_srv_only: bool) -> Asked<'_> {
    let unmarked = |label: usize| name.label(label).get(1..).unwrap_or_default();
    let tag = Some(unmarked(1)).filter(|tag| *tag != b"tcp");
    Asked::Service {
        service: unmarked(0),
        tag,
        is_srv_only,
    }
}

/// The address of a label of 8 or 32 hexadecimal digits.
pub(crate) fn read_hex(label: &[u8]) -> Option<IpAddr> {
    let digits = |digits: &[u8]| {
        digits.iter().try_fold(0_u128, |value, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(value << 4 | u128::from(digit))
        })
    };
    match label.len() {
        8 => u32::try_from(digits(label)?)
            .ok()
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => digits(label).map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

/// The label of an address, with its length octet.
pub(crate) fn hex_label(address: IpAddr) -> Vec<u8> {
    let digits = match address {
        IpAddr::V4(v4) => format!("{:08x}", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:032x}", v6.to_bits()),
    };
    let label = WireName::default().label(digits.as_bytes());
    label.unwrap_or_default().as_bytes().to_vec()
}

/// What may follow a zone, as in later versions of Consul.
const DATACENTER: &[u8] = b"dc";
const ZONE_LABELS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Header, Request};
    use proptest::prelude::*;

    fn question(name: &str) -> Vec<u8> {
        let mut message = b"\0\0\0\0\0\x01\0\0\0\0\0\0".to_vec();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend_from_slice(label.as_bytes());
        }
        message.extend_from_slice(b"\0\0\x01\0\x01");
        message
    }

    fn read_in(zone: &str, name: &str) -> String {
        let message = question(name);
        let request = Request::read(Header::read(&message).unwrap(), &message).unwrap();
        let naming = Naming::new(&WireName::parse("consul").unwrap(), Some(zone));
        match naming
            .domain_in(&request.name)
            .map(|domain| naming.read(&request.name, domain))
        {
            None => "outside".to_owned(),
            Some(Asked::Service {
                service,
                tag,
                is_srv_only,
            }) => format!(
                "service {} tag {}{}",
                String::from_utf8_lossy(service),
                String::from_utf8_lossy(tag.unwrap_or(b"-")),
                if is_srv_only { " srv" } else { "" },
            ),
            Some(Asked::Node(labels)) => format!("node {}", String::from_utf8_lossy(&labels[1..])),
            Some(Asked::Address(address)) => format!("address {address}"),
            Some(other) => format!("{other:?}").to_lowercase(),
        }
    }

    #[test]
    fn every_form_is_read() {
        for (name, asked) in [
            ("consul", "apex"),
            ("CONSUL.", "apex"),
            ("ns.consul", "nameserver"),
            ("web.service.consul", "service web tag -"),
            ("WEB.Service.Mall-1.Consul", "service web tag -"),
            ("web.service.mall-1.dc.consul", "service web tag -"),
            ("http.web.service.consul", "service web tag http"),
            ("_web._tcp.service.consul", "service web tag -"),
            ("_web._http.service.mall-1.consul", "service web tag http"),
            ("_web._udp.consul", "service web tag udp srv"),
            ("_web._tcp.mall-1.consul", "service web tag - srv"),
            ("_web._tcp.mall-1.dc.consul", "service web tag - srv"),
            ("edge-a.node.consul", "node edge-a"),
            ("a.b.node.mall-1.consul", "node a\u{1}b"),
            ("0a000101.addr.consul", "address 10.0.1.1"),
            (
                "fd00000b000000000000000000000001.addr.mall-1.consul",
                "address fd00:b::1",
            ),
            ("service.service.consul", "service service tag -"),
            ("service.node.consul", "node service"),
        ] {
            assert_eq!(read_in("mall-1", name), asked, "{name}");
        }
    }

    #[test]
    fn stems_exist_and_other_names_do_not() {
        for name in [
            "service.consul",
            "node.consul",
            "addr.mall-1.consul",
            "mall-1.consul",
            "dc.consul",
            "mall-1.dc.consul",
            "_tcp.consul",
            "_http.service.consul",
            "_tcp.mall-1.dc.consul",
        ] {
            assert_eq!(read_in("mall-1", name), "stem", "{name}");
        }
        for name in [
            "web.consul",
            "web.services.consul",
            "web.service.mall-2.consul",
            "web.service.mall-1.mall-1.consul",
            "web.service.mall-1.dc.dc.consul",
            "web.service.dc.consul",
            "mall-2.dc.consul",
            "a.b.web.service.consul",
            "0a00010g.addr.consul",
            "0a0001.addr.consul",
            "x.0a000101.addr.consul",
            "+a000101.addr.consul",
            "_a._b._c.consul",
            "_web._tcp.mall-2.consul",
            "ns.ns.consul",
        ] {
            assert_eq!(read_in("mall-1", name), "nothing", "{name}");
        }
        for name in [".", "web.service.notconsul", "consul.org", "onsul"] {
            assert_eq!(read_in("mall-1", name), "outside", "{name}");
        }
    }

    #[test]
    fn a_zone_called_like_a_kind_stays_out_of_targets() {
        let domain = WireName::parse("consul").unwrap();
        let naming = Naming::new(&domain, Some("node"));
        let target = naming.target(b"\x080a000001", "addr").unwrap();
        assert_eq!(target.as_bytes(), b"\x080a000001\x04addr\x06consul\0");
        assert_eq!(read_in("node", "0a000001.addr.consul"), "address 10.0.0.1");
    }

    proptest! {
        #[test]
        fn a_written_address_is_read_back(address in any::<IpAddr>()) {
            prop_assert_eq!(read_hex(&hex_label(address)[1..]), Some(address));
        }
    }
}

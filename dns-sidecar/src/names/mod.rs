// SPDX-License-Identifier: MIT OR Apache-2.0
//! The grammar of Consul's names: which thing a name asks for.
//!
//! In: a question's name in lower case, the domains and our zone's label. Out: what is asked for, without looking whether
//! it is there. Read from right to left: the first label that is a kind decides. Pure; no allocation.
//!
//! ```text
//! [<tag>.]<service>.service[.<zone>[.dc]].<domain>                the tag may have dots
//! _<service>._<tag or tcp>[.service][.<zone>[.dc]].<domain>       RFC 2782; SRV only without `service`
//! <service>.connect…  <service>.ingress…  <name>.query…
//! <node>.node…        <8 or 32 hex digits>.addr…
//! <key>._key.<service>.service…                                   ours, as the next two: a tag never begins with `_`
//! <zone>.pin._zone.<service>.service…  <zone>.prefer._zone.<service>.service…
//! _info.<service>.service…
//! ns.<domain>
//! ```

use crate::{
    Profile,
    wire::{LowerName, WireName, rtype},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What names are judged by.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Naming {
    /// The longer one first, since one may stand inside the other.
    domains: Vec<WireName>,
    primary: usize,
    profile: Profile,
    /// The labels of our zone, the canonical one first; none while it is unknown.
    zones: Vec<Vec<u8>>,
    /// What follows a kind in the names that we make: zone and domain.
    suffix: Vec<u8>,
}

/// A domain of ours in a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct InDomain {
    /// The number of the label at which it begins.
    pub(crate) at: usize,
    /// Whether it is the domain that the names which we make stand in.
    pub(crate) is_primary: bool,
    /// Whether it is that of the names of addresses.
    pub(crate) is_arpa: bool,
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
    /// A service.
    Service(AskedService<'n>),
    /// The mesh proxies of a service.
    Connect(&'n [u8]),
    /// The fronts of a service.
    Ingress(&'n [u8]),
    /// A prepared query, by the labels of its name.
    Query(&'n [u8]),
    /// A node, by the labels of its name.
    Node(&'n [u8]),
    /// An address that is written in the name itself.
    Address(IpAddr),
    /// What Consul 1.8.7 takes for an address of no family.
    NoAddress,
    /// The name of an address.
    Reverse(Reversed),
    /// No form of ours, or another zone's name. Whether a zone exists elsewhere is not told.
    Nothing,
}

/// A service, and which of its endpoints.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct AskedService<'n> {
    pub(crate) service: &'n [u8],
    pub(crate) choice: Choice<'n>,
    /// Another zone's label that was named; whether its endpoints may be told is the policy's affair.
    pub(crate) zone: Option<&'n [u8]>,
    /// Without the label `service` the form has SRV records only, as in Consul.
    pub(crate) is_srv_only: bool,
}

/// Which endpoints of a service.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Choice<'n> {
    /// All.
    All,
    /// Those with the tag, by its labels.
    Tag(&'n [u8]),
    /// All, in the order of the ring for the key, by its labels.
    Key(&'n [u8]),
    /// Those of a zone, or none.
    Pin(&'n [u8]),
    /// Those of a zone while it has some, else all.
    Prefer(&'n [u8]),
    /// None, but what is known of them.
    Info,
    /// None: other choices stand below this name.
    Stem,
}

/// The name of an address, or of a block of them.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Reversed {
    /// A whole address.
    Address(IpAddr),
    /// The first octets of IPv4 addresses, or the first nibbles of IPv6 ones.
    Block { is_v4: bool, digits: Vec<u8> },
}

/// The labels that say what kind of thing a name is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Service,
    Connect,
    Ingress,
    Query,
    Node,
    Address,
}

/// What follows the kind.
#[derive(Clone, Copy)]
enum Suffix<'n> {
    Ours,
    Other(&'n [u8]),
    Malformed,
}

impl Naming {
    /// The names of the domains and, once it is known, of our zone in them.
    pub(crate) fn new(
        domain: &WireName,
        alternate: Option<&WireName>,
        profile: Profile,
        zone_labels: &[String],
    ) -> Self {
        let zones: Vec<_> = zone_labels
            .iter()
            .map(|zone| zone.as_bytes().to_vec())
            .collect();
        // A zone that is called like a kind would make the names of its targets mean something else.
        let own = zones.first().filter(|zone| Kind::of(zone).is_none());
        let own = own
            .and_then(|zone| WireName::default().label(zone))
            .unwrap_or_default();
        let suffix = [own.as_bytes(), domain.as_bytes()].concat();
        let mut domains: Vec<_> = std::iter::once(domain).chain(alternate).cloned().collect();
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.suffixes().count()));
        Self {
            primary: domains
                .iter()
                .position(|known| known == domain)
                .unwrap_or(0),
            domains,
            profile,
            zones,
            suffix,
        }
    }

    /// The domain in which the name stands.
    pub(crate) fn domain_of(&self, domain: InDomain) -> &WireName {
        if domain.is_primary {
            return self.domain();
        }
        self.domains.get(1 - self.primary.min(1)).unwrap_or(&EMPTY)
    }

    /// The domain that names which we make stand in.
    pub(crate) fn domain(&self) -> &WireName {
        // There is one from the start but in the default, which nobody asks.
        self.domains.get(self.primary).unwrap_or(&EMPTY)
    }

    /// Which domain of ours the name is in; none when it is others'.
    pub(crate) fn domain_in(&self, name: &LowerName) -> Option<InDomain> {
        for (number, domain) in self.domains.iter().enumerate() {
            // Compared from a label's start on, so that `notconsul` is no `consul`.
            let first = name.labels().checked_sub(domain.suffixes().count());
            if let Some(at) = first.filter(|at| name.span(*at, name.labels()) == domain.as_bytes())
            {
                return Some(InDomain {
                    at,
                    is_primary: number == self.primary,
                    is_arpa: false,
                });
            }
        }
        let last = name.labels().checked_sub(1)?;
        (name.label(last) == b"arpa").then_some(InDomain {
            at: last,
            is_primary: true,
            is_arpa: true,
        })
    }

    /// What the name asks for; a question of type SRV may leave the label `service` out.
    pub(crate) fn read<'n>(&self, name: &'n LowerName, domain: InDomain, qtype: u16) -> Asked<'n> {
        let end = domain.at;
        if domain.is_arpa {
            return read_reverse(name, end);
        }
        if end == 0 {
            return Asked::Apex;
        }
        let is_compat = self.profile.is_compat();
        if end == 1 && name.label(0) == b"ns" && !is_compat {
            return Asked::NameServer;
        }
        for at in (0..end).rev() {
            if let Some(kind) = Kind::of(name.label(at)) {
                return self.read_kind(name, kind, at, end);
            }
            if (qtype == rtype::SRV || !is_compat) && name.label(at).starts_with(b"_") {
                let parts = at + 1;
                let suffix = self.suffix(name, parts, end);
                let asked = self.read_service(name, parts, suffix, true);
                return self.or_stem(asked, name, end);
            }
        }
        self.or_stem(Asked::Nothing, name, end)
    }

    /// A name that we make, without a root: the given labels, a kind, our zone and the domain; none when it is too long.
    pub(crate) fn target(&self, labels: &[u8], kind: &str) -> Option<WireName> {
        let bytes = labels.len() + 1 + kind.len() + self.suffix.len();
        let name = WireName::with_capacity(bytes).labels(labels)?;
        name.label(kind.as_bytes())?.labels(&self.suffix)
    }

    fn read_kind<'n>(&self, name: &'n LowerName, kind: Kind, at: usize, end: usize) -> Asked<'n> {
        let is_compat = self.profile.is_compat();
        let suffix = self.suffix(name, at + 1, end);
        if kind == Kind::Address && is_compat {
            // Whatever follows: 1.8.7 does not look at it.
            return read_address(name, at, true);
        }
        if kind == Kind::Service && at > 0 {
            return self.read_service(name, at, suffix, false);
        }
        if !matches!(suffix, Suffix::Ours) {
            return Asked::Nothing;
        }
        match kind {
            _ if at == 0 && is_compat => Asked::Nothing,
            _ if at == 0 => Asked::Stem,
            Kind::Service => Asked::Nothing,
            Kind::Connect => Asked::Connect(name.label(at - 1)),
            Kind::Ingress => Asked::Ingress(name.label(at - 1)),
            Kind::Node => Asked::Node(name.span(0, at)),
            Kind::Query => Asked::Query(name.span(0, at)),
            Kind::Address => read_address(name, at, false),
        }
    }

    /// `parts` labels stand before the kind.
    fn read_service<'n>(
        &self,
        name: &'n LowerName,
        parts: usize,
        suffix: Suffix<'n>,
        is_srv_only: bool,
    ) -> Asked<'n> {
        let zone = match suffix {
            Suffix::Ours => None,
            Suffix::Other(zone) if !self.profile.is_compat() => Some(zone),
            Suffix::Other(_) | Suffix::Malformed => return Asked::Nothing,
        };
        let asked = |service, choice| {
            Asked::Service(AskedService {
                service,
                choice,
                zone,
                is_srv_only,
            })
        };
        let is_marked = |label: usize| name.label(label).starts_with(b"_");
        let last = parts - 1;
        if parts == 2 && is_marked(0) && is_marked(1) {
            let unmarked = |label: usize| name.label(label).get(1..).unwrap_or_default();
            let choice = match unmarked(1) {
                // The tag `tcp` means none.
                b"tcp" => Choice::All,
                tag => Choice::Tag(tag),
            };
            return asked(unmarked(0), choice);
        }
        if parts == 1 {
            return asked(name.label(0), Choice::All);
        }
        if !self.profile.is_compat()
            && let Some(choice) = read_choice(name, last)
        {
            return asked(name.label(last), choice);
        }
        asked(name.label(last), Choice::Tag(tag_text(name, last)))
    }

    fn suffix<'n>(&self, name: &'n LowerName, from: usize, to: usize) -> Suffix<'n> {
        let zone = match to - from {
            0 => return Suffix::Ours,
            1 => name.label(from),
            2 if name.label(from + 1) == DATACENTER && !self.profile.is_compat() => {
                name.label(from)
            }
            _ => return Suffix::Malformed,
        };
        if self.is_ours(zone) {
            Suffix::Ours
        } else {
            Suffix::Other(zone)
        }
    }

    /// The label of our zone in names; none while the zone is unknown.
    #[cfg(feature = "http")]
    pub(crate) fn zone(&self) -> Option<&str> {
        std::str::from_utf8(self.zones.first()?).ok()
    }

    /// Whether the label is our zone.
    pub(crate) fn is_ours(&self, label: &[u8]) -> bool {
        self.zones.iter().any(|zone| zone == label)
    }

    /// RFC 8020: what names stand below exists. Consul does not know that.
    fn or_stem<'n>(&self, asked: Asked<'n>, name: &LowerName, end: usize) -> Asked<'n> {
        if asked != Asked::Nothing || self.profile.is_compat() {
            return asked;
        }
        let own = |at: usize| self.is_ours(name.label(at));
        let marked = usize::from(name.label(0).starts_with(b"_"));
        match end - marked {
            0 => Asked::Stem,
            1 if own(marked) || (marked == 0 && name.label(0) == DATACENTER) => Asked::Stem,
            2 if own(marked) && name.label(marked + 1) == DATACENTER => Asked::Stem,
            _ => asked,
        }
    }
}

impl Kind {
    fn of(label: &[u8]) -> Option<Self> {
        match label {
            b"service" => Some(Self::Service),
            b"connect" => Some(Self::Connect),
            b"ingress" => Some(Self::Ingress),
            b"query" => Some(Self::Query),
            b"node" => Some(Self::Node),
            b"addr" => Some(Self::Address),
            _ => None,
        }
    }
}

/// The choices that begin with `_`, before the service's label, which has the number `service`.
fn read_choice(name: &LowerName, service: usize) -> Option<Choice<'_>> {
    let before = service - 1;
    match (name.label(before), before) {
        (b"_info", 0) => Some(Choice::Info),
        (b"_key" | b"_zone", 0) => Some(Choice::Stem),
        (b"_key", _) => Some(Choice::Key(name.span(0, before))),
        (b"_zone", 1) if matches!(name.label(0), b"pin" | b"prefer") => Some(Choice::Stem),
        (b"_zone", 2) => match name.label(1) {
            b"pin" => Some(Choice::Pin(name.label(0))),
            b"prefer" => Some(Choice::Prefer(name.label(0))),
            _ => None,
        },
        _ => None,
    }
}

/// The labels before the given one as the tables of tags have them: without the first length octet, so that `_web._v2` finds
/// the same tag as `v2.web`.
fn tag_text(name: &LowerName, end: usize) -> &[u8] {
    name.span(0, end).get(1..).unwrap_or_default()
}

/// A tag in the form of [`tag_text`]; none when it cannot stand in a name.
pub(crate) fn tag_key(tag: &str) -> Option<Box<[u8]>> {
    let labels = WireName::parse(tag)?;
    labels.as_bytes().get(1..).map(Into::into)
}

/// Hands over the text of a key's labels, dots between them. A key is in lower case, since names have none.
pub(crate) fn with_key_text<T>(labels: &[u8], take: impl FnOnce(&[u8]) -> T) -> T {
    let mut text = [0; 255];
    let (mut length, mut rest) = (0, labels);
    while let Some((count, after)) = rest.split_first() {
        let (label, next) = after.split_at(after.len().min(usize::from(*count)));
        if length > 0 {
            text[length] = b'.';
            length += 1;
        }
        // The labels of a name and their length octets fit, so the labels and dots do.
        text[length..length + label.len()].copy_from_slice(label);
        length += label.len();
        rest = next;
    }
    take(&text[..length])
}

fn read_address(name: &LowerName, at: usize, is_compat: bool) -> Asked<'_> {
    if at != 1 {
        return if at == 0 && !is_compat {
            Asked::Stem
        } else {
            Asked::Nothing
        };
    }
    let digits = name.label(0);
    match read_hex(digits) {
        Some(address) => Asked::Address(address),
        None if is_compat && !matches!(digits.len() / 2, 4 | 16) => Asked::NoAddress,
        None => Asked::Nothing,
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
    let (length, octets) = match &address {
        IpAddr::V4(v4) => (8, &v4.octets()[..]),
        IpAddr::V6(v6) => (32, &v6.octets()[..]),
    };
    let digit = |number: u8| b"0123456789abcdef"[usize::from(number)];
    let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    std::iter::once(length).chain(digits.map(digit)).collect()
}

/// What stands before `arpa`: RFC 1035 3.5 and RFC 3596 2.5.
fn read_reverse(name: &LowerName, end: usize) -> Asked<'_> {
    if end == 0 {
        return Asked::Reverse(Reversed::Block {
            is_v4: true,
            digits: Vec::new(),
        });
    }
    let labels = (0..end - 1).rev().map(|at| name.label(at));
    let (is_v4, digits): (bool, Option<Vec<u8>>) = match name.label(end - 1) {
        b"in-addr" => (true, labels.map(octet).collect()),
        b"ip6" => (false, labels.map(nibble).collect()),
        _ => return Asked::Nothing,
    };
    match digits {
        Some(digits) if digits.len() <= if is_v4 { 4 } else { 32 } => {
            Asked::Reverse(Reversed::new(is_v4, digits))
        }
        _ => Asked::Nothing,
    }
}

fn octet(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let is_canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_canonical)
}

fn nibble(label: &[u8]) -> Option<u8> {
    let [digit] = label else { return None };
    char::from(*digit)
        .to_digit(16)
        .and_then(|value| value.try_into().ok())
}

impl Reversed {
    fn new(is_v4: bool, digits: Vec<u8>) -> Self {
        if let (true, Ok(octets)) = (is_v4, <[u8; 4]>::try_from(&*digits)) {
            return Self::Address(Ipv4Addr::from(octets).into());
        }
        if !is_v4 && digits.len() == 32 {
            let bits = digits
                .iter()
                .fold(0_u128, |bits, digit| bits << 4 | u128::from(*digit));
            return Self::Address(Ipv6Addr::from_bits(bits).into());
        }
        Self::Block { is_v4, digits }
    }

    /// The first and the last address of the block.
    pub(crate) fn range(is_v4: bool, digits: &[u8]) -> (IpAddr, IpAddr) {
        if is_v4 {
            let mut bounds = [[0; 4], [255; 4]];
            for bound in &mut bounds {
                bound[..digits.len()].copy_from_slice(digits);
            }
            return (bounds[0].into(), bounds[1].into());
        }
        let fold = |fill: u128| {
            (0..32).fold(0_u128, |bits, at| {
                bits << 4 | digits.get(at).map_or(fill, |digit| u128::from(*digit))
            })
        };
        (
            Ipv6Addr::from_bits(fold(0)).into(),
            Ipv6Addr::from_bits(fold(15)).into(),
        )
    }
}

static EMPTY: WireName = WireName::EMPTY;
/// What may follow a zone, as in later versions of Consul.
const DATACENTER: &[u8] = b"dc";

#[cfg(test)]
mod tests;

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

mod address;
mod asked;
mod reversed;
mod text;

pub(crate) use address::hex_label;
pub(crate) use asked::{Asked, AskedService, Choice};
pub(crate) use reversed::Reversed;
pub(crate) use text::{tag_key, with_key_text};

use crate::{
    Profile,
    wire::{LowerName, WireName, rtype},
};
use address::read_address;
use reversed::read_reverse;
use text::tag_text;

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

static EMPTY: WireName = WireName::EMPTY;
/// What may follow a zone, as in later versions of Consul.
const DATACENTER: &[u8] = b"dc";

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands behind a name: one lookup or two in what was prepared. Pure.

use super::{Index, PreparedNode, PreparedService};
use crate::{
    names::{Asked, AskedService, Choice, InDomain, Reversed},
    prepare::RecordSet,
    wire::{LowerName, WireName},
};
use std::net::IpAddr;

/// What stands behind a name of ours.
#[derive(Debug)]
pub(crate) enum Found<'i> {
    /// There is no such name.
    Absent,
    /// The name exists and has no records.
    Empty,
    /// Consul 1.8.7 says nothing at all.
    Blank,
    /// The domain itself, with its SOA and NS records.
    Apex,
    /// The name server.
    NameServer,
    /// A node.
    Node(&'i PreparedNode),
    /// The address that the name spells.
    Literal(IpAddr),
    /// Endpoints of a service.
    Records {
        set: &'i RecordSet,
        ttl_seconds: Option<u32>,
        is_srv_only: bool,
        is_query: bool,
    },
    /// Endpoints of a service in the order of a key's ring; the key by its labels.
    Keyed {
        service: &'i PreparedService,
        at: usize,
    },
    /// What is known of a service.
    Info(&'i PreparedService),
    /// The name that an address has.
    Pointer { target: WireName, ttl_seconds: u32 },
}

impl Index {
    /// What stands behind a name of ours. One lookup or two, no allocation but for the name of an address.
    pub(crate) fn find(&self, name: &LowerName, domain: InDomain, qtype: u16) -> Found<'_> {
        match self.naming.read(name, domain, qtype) {
            Asked::Apex => Found::Apex,
            Asked::NameServer => Found::NameServer,
            Asked::Stem => Found::Empty,
            Asked::Nothing => Found::Absent,
            Asked::NoAddress => Found::Blank,
            Asked::Address(address) => Found::Literal(address),
            Asked::Node(labels) => match self.nodes.get(labels) {
                Some(node) if node.is_stem => Found::Empty,
                Some(node) => Found::Node(node),
                None => Found::Absent,
            },
            Asked::Connect(service) => found(self.connect.get(service).map(|sets| &*sets.all)),
            Asked::Ingress(service) => found(self.ingress.get(service).map(|made| &*made.sets.all)),
            Asked::Query(labels) => self.find_query(labels),
            Asked::Reverse(reversed) => self.find_reverse(reversed),
            Asked::Service(asked) => self.find_service(&asked),
        }
    }

    fn find_service(&self, asked: &AskedService<'_>) -> Found<'_> {
        let is_compat = self.config.profile.is_compat();
        let Some(service) = self.services.get(asked.service) else {
            // `_tcp.service`: RFC 2782 names stand below it.
            let is_stem = asked.service.starts_with(b"_") && asked.choice == Choice::All;
            return if is_stem && asked.zone.is_none() && !is_compat {
                Found::Empty
            } else {
                Found::Absent
            };
        };
        let all = &service.sets.all;
        if let Some(zone) = asked.zone {
            let of_zone = service
                .zones
                .get(zone)
                .filter(|_| asked.choice == Choice::All);
            return found(of_zone.map(AsRef::as_ref));
        }
        let of_zone = |zone: &[u8]| {
            if self.naming.is_ours(zone) {
                Some(&**all)
            } else {
                service.zones.get(zone).map(AsRef::as_ref)
            }
        };
        let set = match asked.choice {
            Choice::All => Some(&**all),
            Choice::Tag(tag) => match service.sets.tagged(tag) {
                Some(set) => Some(&**set),
                None if !is_compat && service.sets.is_stem(tag) => return Found::Empty,
                None => None,
            },
            Choice::Pin(zone) => of_zone(zone),
            Choice::Prefer(zone) => of_zone(zone).filter(|set| !set.is_empty()).or(Some(&**all)),
            Choice::Key(_) | Choice::Stem | Choice::Info
                if all.is_empty() && service.views.is_empty() =>
            {
                None
            }
            Choice::Info => return Found::Info(service),
            Choice::Stem => return Found::Empty,
            Choice::Key(_) if all.is_empty() => None,
            Choice::Key(key) => {
                return Found::Keyed {
                    service,
                    at: key.len(),
                };
            }
        };
        match set {
            // As Consul: a service without a usable endpoint does not exist.
            Some(set) if !set.is_empty() => Found::Records {
                set,
                ttl_seconds: None,
                is_srv_only: asked.is_srv_only,
                is_query: false,
            },
            _ => Found::Absent,
        }
    }

    fn find_query(&self, labels: &[u8]) -> Found<'_> {
        // `_name._tcp.query`, as later versions of Consul; the protocol says nothing.
        let labels = unmarked(labels)
            .filter(|_| !self.config.profile.is_compat())
            .unwrap_or(labels);
        let query = self.queries.get(labels.get(1..).unwrap_or_default());
        let Some((query, service)) =
            query.and_then(|(query, label)| Some((query, self.services.get(label)?)))
        else {
            return Found::Absent;
        };
        let set = if query.only_passing {
            &service.sets.passing
        } else {
            &service.sets.all
        };
        if set.is_empty() {
            return Found::Absent;
        }
        Found::Records {
            set,
            ttl_seconds: query.ttl_seconds,
            is_srv_only: false,
            is_query: true,
        }
    }

    fn find_reverse(&self, reversed: Reversed) -> Found<'_> {
        let is_compat = self.config.profile.is_compat();
        match reversed {
            Reversed::Address(address) => {
                if let Some(target) = self.reverse.nodes.get(&address) {
                    return Found::Pointer {
                        target: target.clone(),
                        ttl_seconds: if is_compat {
                            0
                        } else {
                            self.config.node_ttl_seconds
                        },
                    };
                }
                let label = self
                    .reverse
                    .instances
                    .get(&address)
                    .and_then(|labels| labels.first());
                let target = label.and_then(|label| {
                    let name = WireName::default().label(label)?;
                    self.naming.target(name.as_bytes(), "service")
                });
                let Some(target) = target else {
                    return Found::Absent;
                };
                let ttl = label
                    .and_then(|label| self.services.get(&**label))
                    .map_or(0, |service| service.ttl_seconds);
                Found::Pointer {
                    target,
                    ttl_seconds: if is_compat { 0 } else { ttl },
                }
            }
            Reversed::Block { digits, .. } if digits.is_empty() && !is_compat => Found::Empty,
            Reversed::Block { is_v4, digits } => {
                let (first, last) = Reversed::range(is_v4, &digits);
                let has_nodes = self.reverse.nodes.range(first..=last).next().is_some();
                // Addresses of instances are in no order: a block of them is not known to exist, which costs a resolver
                // one question more.
                if has_nodes && !is_compat {
                    Found::Empty
                } else {
                    Found::Absent
                }
            }
        }
    }
}

fn found(set: Option<&RecordSet>) -> Found<'_> {
    match set {
        Some(set) if !set.is_empty() => Found::Records {
            set,
            ttl_seconds: None,
            is_srv_only: false,
            is_query: false,
        },
        _ => Found::Absent,
    }
}

/// The first of two labels that both begin with `_`, cut so that what follows its first byte is the name.
fn unmarked(labels: &[u8]) -> Option<&[u8]> {
    let (count, rest) = labels.split_first()?;
    let (first, second) = rest.split_at_checked(usize::from(*count))?;
    let is_pair = first.first() == Some(&b'_')
        && second.get(1) == Some(&b'_')
        && second.len() == 1 + usize::from(*second.first()?);
    is_pair.then_some(first)
}

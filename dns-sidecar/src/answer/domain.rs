// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the domain says of itself: SOA and NS, and names that need no service.

use super::{
    Asker,
    reply::{OwnerAt, Reply},
};
use crate::{
    Index,
    names::InDomain,
    records::{Addresses, OWNER_IS_QUESTION, head, write_address},
    wire::{HEADER_BYTES, Request, Section, WireName, pointer, rtype},
};
use std::net::IpAddr;

/// The domain as replies write it: a pointer to where the question spells it, or spelled out.
#[derive(Debug)]
struct DomainOwner {
    bytes: [u8; SPELLED_MAX],
    length: usize,
}

impl DomainOwner {
    /// The domain that was asked; in the profile `compat` and for names of addresses the one in which our names stand.
    fn new(index: &Index, request: &Request<'_>, domain: InDomain) -> Self {
        let place = HEADER_BYTES + request.name.offset(domain.at);
        let asked = request
            .question
            .get(request.name.offset(domain.at)..)
            .unwrap_or_default();
        let canonical = index.naming().domain().as_bytes();
        let is_as_ours = asked.get(..canonical.len()) == Some(canonical);
        let is_asked = !domain.is_arpa && (is_as_ours || !index.config.profile.is_compat());
        match pointer(place).filter(|_| is_asked && index.config.is_compressed) {
            Some(pointer) => Self::of(&pointer, &[]),
            None if is_asked && !domain.is_primary => {
                Self::of(index.naming().domain_of(domain).as_bytes(), &[0])
            }
            None => Self::of(canonical, &[0]),
        }
    }

    fn of(name: &[u8], root: &[u8]) -> Self {
        let mut owner = Self {
            bytes: [0; SPELLED_MAX],
            length: (name.len() + root.len()).min(SPELLED_MAX),
        };
        let length = name.len().min(SPELLED_MAX - 1);
        owner.bytes[..length].copy_from_slice(&name[..length]);
        owner
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Asker<'_> {
    fn domain_owner(&self) -> DomainOwner {
        DomainOwner::new(self.index, self.request, self.domain)
    }

    /// What stands at the domain itself; whether that was asked for.
    pub(super) fn push_apex(&mut self, reply: &mut Reply<'_>) -> bool {
        if self.is_compat() {
            return false;
        }
        let qtype = self.request.qtype;
        if matches!(qtype, rtype::SOA | rtype::NS) {
            self.push_authority(reply, qtype);
        }
        if qtype == rtype::ANY {
            self.push_soa(reply, Section::Answer);
            self.push_ns(reply, Section::Answer);
        }
        reply.writer.answers() > 0
    }

    /// SOA with the name servers beside it, or the name servers.
    pub(super) fn push_authority(&mut self, reply: &mut Reply<'_>, qtype: u16) {
        if qtype == rtype::SOA {
            self.push_soa(reply, Section::Answer);
            self.push_ns(reply, Section::Authority);
        } else {
            self.push_ns(reply, Section::Answer);
        }
    }

    /// RFC 1035 3.3.13. RFC 2308 5: the TTL is the minimum.
    pub(super) fn push_soa(&self, reply: &mut Reply<'_>, section: Section) {
        let config = &self.index.config;
        let minimum = config.soa_minimum_seconds();
        let serial = self.index.serial();
        let times = [
            serial,
            config.soa.refresh,
            config.soa.retry,
            config.soa.expire,
            minimum,
        ]
        .map(u32::to_be_bytes);
        let owner = self.domain_owner();
        let domain = owner.as_bytes();
        let length = NAME_SERVER.len() + MAILBOX.len() + 2 * domain.len() + 20;
        // Two names of a domain of at most 128 bytes.
        let head = head(rtype::SOA, minimum, u16::try_from(length).unwrap_or(0));
        let parts = [
            domain,
            &head,
            NAME_SERVER,
            domain,
            MAILBOX,
            domain,
            times.as_flattened(),
        ];
        reply.writer.push(section, &parts);
    }

    /// The name servers, some of them when there are many, with their addresses.
    fn push_ns(&mut self, reply: &mut Reply<'_>, section: Section) {
        let (index, ttl) = (self.index, self.index.config.node_ttl_seconds);
        let owner = self.domain_owner();
        let owner = owner.as_bytes();
        if index.servers().is_empty() && !index.config.is_denied {
            let length = NAME_SERVER.len() + owner.len();
            let head = head(rtype::NS, ttl, u16::try_from(length).unwrap_or(0));
            reply
                .writer
                .push(section, &[owner, &head, NAME_SERVER, owner]);
            for record in index.name_server().without_owners() {
                reply
                    .writer
                    .push(Section::Additional, &[NAME_SERVER, owner, record]);
            }
            return;
        }
        let servers = index.servers();
        let mut written = [(0, 0); NAME_SERVERS_MAX];
        let mut count = 0;
        for number in self.responder.order.draw(servers.len(), NAME_SERVERS_MAX) {
            let Some(server) = servers.get(*number) else {
                continue;
            };
            let name = server.name.as_bytes();
            let head = head(rtype::NS, ttl, u16::try_from(name.len() + 1).unwrap_or(0));
            if reply.writer.push(section, &[owner, &head, name, &[0]]) {
                written[count] = (*number, reply.writer.position() - name.len() - 1);
                count += 1;
            }
        }
        for (number, position) in &written[..count] {
            let glue = servers.get(*number).map(|server| &server.addresses);
            for record in glue.into_iter().flat_map(Addresses::without_owners) {
                reply.push_at(Section::Additional, OwnerAt(*position), record, None);
            }
        }
    }

    /// The address that a name spells. Consul writes that name in lower case; 1.8.7 in its own domain, whatever was asked.
    pub(super) fn push_literal(&self, reply: &mut Reply<'_>, address: IpAddr) -> bool {
        let qtype = self.request.qtype;
        let is_asked = match address {
            IpAddr::V4(_) => matches!(qtype, rtype::A | rtype::ANY),
            IpAddr::V6(_) => matches!(qtype, rtype::AAAA | rtype::ANY),
        };
        if !is_asked && !self.is_compat() {
            return false;
        }
        let mut rest = Vec::with_capacity(26);
        write_address(&mut rest, address, self.index.config.node_ttl_seconds);
        let name = self.request.name;
        let lower = name.span(0, name.labels());
        let is_elsewhere = self.is_compat() && !self.domain.is_primary;
        if !is_elsewhere && self.request.question.starts_with(lower) {
            return reply.push_at(Section::Answer, OwnerAt::QUESTION, &rest, None);
        }
        let owner = if is_elsewhere {
            [
                name.span(0, self.domain.at),
                self.index.naming().domain().as_bytes(),
            ]
            .concat()
        } else {
            lower.to_vec()
        };
        reply.push_named(Section::Answer, &owner, &rest, None)
    }

    /// The name of an address. 1.8.7 tells it whatever was asked for.
    pub(super) fn push_pointer(&self, reply: &mut Reply<'_>, target: &WireName, ttl: u32) -> bool {
        let qtype = self.request.qtype;
        if !matches!(qtype, rtype::PTR | rtype::ANY) && !self.is_compat() {
            return false;
        }
        let target = target.as_bytes();
        let head = head(
            rtype::PTR,
            ttl,
            u16::try_from(target.len() + 1).unwrap_or(0),
        );
        reply
            .writer
            .push(Section::Answer, &[&OWNER_IS_QUESTION, &head, target, &[0]]);
        if qtype == rtype::SOA {
            self.push_soa(reply, Section::Authority);
        }
        true
    }
}

const NAME_SERVER: &[u8] = b"\x02ns";
const MAILBOX: &[u8] = b"\x0ahostmaster";
/// As Consul.
const NAME_SERVERS_MAX: usize = 3;
/// The longest domain and a root.
const SPELLED_MAX: usize = 130;

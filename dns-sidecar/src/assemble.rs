// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sections of a reply to a name of our domain, record by record.
//!
//! In: prepared records, and what the domain says of itself. Out: records in the reply as far as there is room, and
//! whether any was left out of the answer. Pure; no allocation.

use crate::{
    index::Index,
    records::{OWNER_IS_QUESTION, head},
    wire::{HEADER_BYTES, ReplyWriter, Request, Section, pointer, rtype},
};
use discovery_core::telemetry::DnsTransport;
use std::net::IpAddr;

/// A reply under construction, and whether it lacks anything.
#[derive(Debug)]
pub(crate) struct Reply<'o> {
    pub(crate) writer: ReplyWriter<'o>,
    pub(crate) transport: DnsTransport,
    pub(crate) is_truncated: bool,
}

impl Reply<'_> {
    pub(crate) fn push_answer(&mut self, parts: &[&[u8]]) -> bool {
        let fits = self.writer.push(Section::Answer, parts);
        if !fits {
            self.left_out();
        }
        fits
    }

    /// RFC 2181 9. Over TCP there is no larger transport to send the client to: it gets what fits.
    pub(crate) fn left_out(&mut self) {
        self.is_truncated |= self.transport == DnsTransport::Udp;
    }

    pub(crate) fn push_literal(&mut self, address: IpAddr, ttl_seconds: u32, qtype: u16) -> bool {
        match address {
            IpAddr::V4(v4) if matches!(qtype, rtype::A | rtype::ANY) => self.push_answer(&[
                &OWNER_IS_QUESTION,
                &head(rtype::A, ttl_seconds, 4),
                &v4.octets(),
            ]),
            IpAddr::V6(v6) if matches!(qtype, rtype::AAAA | rtype::ANY) => self.push_answer(&[
                &OWNER_IS_QUESTION,
                &head(rtype::AAAA, ttl_seconds, 16),
                &v6.octets(),
            ]),
            _ => false,
        }
    }

    /// Appends what the domain says of itself, and says whether that was asked for.
    pub(crate) fn push_authority(
        &mut self,
        index: &Index,
        owner: &DomainOwner,
        qtype: u16,
    ) -> bool {
        if matches!(qtype, rtype::SOA | rtype::ANY) {
            self.push_soa(Section::Answer, index, owner);
        }
        if matches!(qtype, rtype::NS | rtype::ANY) {
            self.push_ns(index, owner);
        }
        matches!(qtype, rtype::SOA | rtype::NS | rtype::ANY)
    }

    pub(crate) fn push_ns(&mut self, index: &Index, owner: &DomainOwner) {
        let head = head(rtype::NS, index.ttl_seconds(), 5);
        self.push_answer(&[&owner.0, &head, NAME_SERVER, &owner.0]);
        for record in index.name_server().without_owners() {
            self.writer
                .push(Section::Additional, &[NAME_SERVER, &owner.0, record]);
        }
    }

    /// RFC 1035 3.3.13. The serial is the generation; RFC 2308 5: the TTL is the minimum.
    pub(crate) fn push_soa(&mut self, section: Section, index: &Index, owner: &DomainOwner) {
        let minimum = index.minimum_ttl_seconds();
        let [_, _, _, _, serial @ ..] = index.generation().0.to_be_bytes();
        let times = [REFRESH_SECONDS, RETRY_SECONDS, EXPIRE_SECONDS, minimum].map(u32::to_be_bytes);
        let (domain, head) = (&owner.0, head(rtype::SOA, minimum, 5 + 13 + 20));
        self.writer.push(
            section,
            &[
                domain,
                &head,
                NAME_SERVER,
                domain,
                MAILBOX,
                domain,
                &serial,
                times.as_flattened(),
            ],
        );
    }
}

/// A pointer to the domain as the question spells it.
#[derive(Debug)]
pub(crate) struct DomainOwner([u8; 2]);

impl DomainOwner {
    pub(crate) fn new(request: &Request<'_>, domain: usize) -> Self {
        // A question ends long before the reach of a pointer does.
        Self(pointer(HEADER_BYTES + request.name.offset(domain)).unwrap_or(OWNER_IS_QUESTION))
    }
}

const NAME_SERVER: &[u8] = b"\x02ns";
const MAILBOX: &[u8] = b"\x0ahostmaster";
// What secondaries would go by; nobody transfers this domain. The numbers are Consul's.
const REFRESH_SECONDS: u32 = 3600;
const RETRY_SECONDS: u32 = 600;
const EXPIRE_SECONDS: u32 = 86_400;

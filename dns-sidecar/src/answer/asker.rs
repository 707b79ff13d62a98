// SPDX-License-Identifier: MIT OR Apache-2.0
//! One question to a name of ours: what stands behind it is looked up once, and each kind of thing written by its own file.

use super::{Responder, reply::Reply};
use crate::{
    Index,
    forward::Resolved,
    index::Found,
    names::InDomain,
    wire::{ClientSubnet, Request, Section, Status, rtype},
};
use discovery_core::telemetry::DnsRcode;

/// One question to a name of ours, being answered.
pub(super) struct Asker<'a> {
    pub(super) responder: &'a mut Responder,
    pub(super) index: &'a Index,
    pub(super) request: &'a Request<'a>,
    pub(super) resolved: Option<&'a Resolved>,
    pub(super) domain: InDomain,
}

impl Asker<'_> {
    pub(super) fn is_compat(&self) -> bool {
        self.index.config.profile.is_compat()
    }

    pub(super) fn answer(&mut self, reply: &mut Reply<'_>) -> Status {
        let status = self.look_up(reply);
        Status {
            is_recursive: status.is_recursive || self.index.config.is_forwarding(),
            ..status
        }
    }

    fn look_up(&mut self, reply: &mut Reply<'_>) -> Status {
        let (index, qtype) = (self.index, self.request.qtype);
        if self.is_compat() && !self.domain.is_arpa && matches!(qtype, rtype::SOA | rtype::NS) {
            // Whatever the name is.
            self.push_authority(reply, qtype);
            return Status::of(DnsRcode::NoError).authoritative();
        }
        let found = index.find(self.request.name, self.domain, qtype);
        let (has_answer, subnet_scope) = match &found {
            Found::Absent | Found::Empty => (false, 0),
            Found::Blank => (true, 0),
            Found::Apex => (self.push_apex(reply), 0),
            Found::NameServer => {
                let addresses = index.name_server();
                (self.push_addresses(reply, addresses, None), 0)
            }
            Found::Node(node) => (self.push_node(reply, node), 0),
            Found::Literal(address) => (self.push_literal(reply, *address), 0),
            Found::Records {
                set,
                ttl_seconds,
                is_srv_only,
                is_query,
            } => {
                let ttl = *ttl_seconds;
                let has_answer = match qtype {
                    rtype::SRV => self.push_srv(reply, set, ttl),
                    _ if *is_srv_only => false,
                    _ => self.push_set(reply, set, ttl),
                };
                let scope = if *is_query { self.subnet_bits() } else { 0 };
                (has_answer, scope)
            }
            Found::Keyed { service, at } => (self.push_keyed(reply, service, *at), 0),
            Found::Info(service) => (self.push_info(reply, service), 0),
            Found::Pointer {
                target,
                ttl_seconds,
            } => (self.push_pointer(reply, target, *ttl_seconds), 0),
        };
        if matches!(found, Found::Absent) && self.domain.is_arpa && self.is_compat() {
            // 1.8.7 has asked its recursors, which it has not.
            let status = Status::of(DnsRcode::ServFail);
            return Status {
                is_recursive: true,
                ..status
            };
        }
        if !has_answer {
            // RFC 2308 3: both kinds of "no" carry the SOA record.
            self.push_soa(reply, Section::Authority);
        }
        let rcode = match found {
            Found::Absent => DnsRcode::NxDomain,
            Found::Apex if self.is_compat() => DnsRcode::NxDomain,
            _ => DnsRcode::NoError,
        };
        let status = Status::of(rcode).authoritative();
        Status {
            subnet_scope,
            ..status
        }
    }

    fn subnet_bits(&self) -> u8 {
        let subnet = self.request.edns.and_then(|edns| edns.client_subnet);
        subnet.map_or(0, ClientSubnet::source_bits)
    }
}

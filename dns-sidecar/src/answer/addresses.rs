// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address records: a uniform choice in a uniform order, as many as there is room for.

use super::{
    Asker,
    reply::{OwnerAt, Reply},
};
use crate::{
    index::PreparedNode,
    prepare::RecordSet,
    records::{A_BYTES, AAAA_BYTES, Addresses, write_text},
    wire::{Section, rtype},
};
use discovery_core::telemetry::DnsTransport;

impl Asker<'_> {
    /// The addresses of a service's instances, or the host name that stands for them; whether there is anything.
    pub(super) fn push_set(
        &mut self,
        reply: &mut Reply<'_>,
        set: &RecordSet,
        ttl: Option<u32>,
    ) -> bool {
        let addresses = match self.request.qtype {
            rtype::A | rtype::AAAA => set.of_family(),
            _ => set.of_any(),
        };
        if self.push_addresses(reply, addresses, ttl) {
            return true;
        }
        let ttl = ttl.unwrap_or(set.ttl_seconds);
        self.push_alias(reply, &set.aliases, ttl)
    }

    /// A node's addresses and what is said of it; whether anything of that was asked for.
    pub(super) fn push_node(&mut self, reply: &mut Reply<'_>, node: &PreparedNode) -> bool {
        let qtype = self.request.qtype;
        let is_compat = self.is_compat();
        let ttl = self.index.config.node_ttl_seconds;
        let is_about_addresses = matches!(qtype, rtype::A | rtype::AAAA | rtype::ANY);
        let mut has_answer = false;
        if is_about_addresses || (!is_compat && !node.set.aliases.is_empty()) {
            has_answer = self.push_set(reply, &node.set, None);
        }
        if matches!(qtype, rtype::TXT | rtype::ANY) && node.set.aliases.is_empty() {
            has_answer |= self.push_texts(reply, node, Section::Answer, ttl);
        } else if is_about_addresses
            && self.index.config.has_node_meta_txt
            && (has_answer || is_compat)
        {
            self.push_texts(reply, node, Section::Additional, ttl);
        }
        // 1.8.7 says nothing of a type that the node has not, not even SOA.
        has_answer || is_compat
    }

    fn push_texts(
        &mut self,
        reply: &mut Reply<'_>,
        node: &PreparedNode,
        section: Section,
        ttl: u32,
    ) -> bool {
        let count = node.texts.len();
        let mut rest = Vec::new();
        for number in self.responder.order.draw(count, count) {
            let Some(text) = node.texts.get(*number) else {
                continue;
            };
            rest.clear();
            write_text(&mut rest, text, ttl);
            let fits = reply.push_at(section, OwnerAt::QUESTION, &rest, None);
            reply.is_cut |= !fits && matches!(section, Section::Answer);
        }
        count > 0
    }

    /// The addresses of the asked families; whether there are any.
    pub(super) fn push_addresses(
        &mut self,
        reply: &mut Reply<'_>,
        addresses: &Addresses,
        ttl: Option<u32>,
    ) -> bool {
        let families = self.families(reply, addresses);
        self.push_families(reply, families, OwnerAt::QUESTION, ttl, 0);
        !(families.0.is_empty() && families.1.is_empty())
    }

    /// The records of the families that the question's type means.
    pub(super) fn families<'r>(
        &self,
        reply: &Reply<'_>,
        addresses: &'r Addresses,
    ) -> (&'r [u8], &'r [u8]) {
        let (v4, v6) = (addresses.v4(), addresses.v6());
        match self.request.qtype {
            rtype::A => (v4, &[]),
            rtype::AAAA => (&[], v6),
            // RFC 8482: one set is enough over UDP; who asks over TCP is given all, as Consul gives.
            rtype::ANY
                if !self.is_compat() && reply.transport == DnsTransport::Udp && !v4.is_empty() =>
            {
                (v4, &[])
            }
            // As Consul: a client that asks for anything wants the addresses.
            rtype::ANY => (v4, v6),
            // 1.8.7 takes them for texts, too.
            rtype::TXT if self.is_compat() => (v4, v6),
            _ => (&[], &[]),
        }
    }

    /// A uniform choice of the records in a uniform order; `aliases` of the answers so far are no addresses.
    pub(super) fn push_families(
        &mut self,
        reply: &mut Reply<'_>,
        (v4, v6): (&[u8], &[u8]),
        owner: OwnerAt,
        ttl: Option<u32>,
        aliases: usize,
    ) {
        let fours = v4.len() / A_BYTES;
        let count = fours + v6.len() / AAAA_BYTES;
        let told = count.min(reply.budget.addresses);
        let counted = told.min(reply.answers_left(aliases));
        reply.is_cut |= counted < told;
        let counted = if counted < told && reply.budget.is_measured_plain {
            counted.min(self.fitting_plain(reply))
        } else {
            counted
        };
        // One more than has room, so that it is noticed: a draw costs what it draws, not what there is.
        let drawn = counted.min(reply.writer.room() / A_BYTES + 1);
        if v6.is_empty() && reply.is_plain(owner, ttl) {
            let (records, _) = v4.as_chunks::<A_BYTES>();
            let numbers = self.responder.order.draw(count, drawn);
            reply.is_cut |= !reply.writer.push_alike(Section::Answer, records, numbers);
            return;
        }
        for number in self.responder.order.draw(count, drawn) {
            let record = match number.checked_sub(fours) {
                None => v4.get(number * A_BYTES..(number + 1) * A_BYTES),
                Some(number) => v6.get(number * AAAA_BYTES..(number + 1) * AAAA_BYTES),
            };
            if !reply.push_prepared(record.unwrap_or_default(), owner, ttl) {
                reply.is_cut = true;
                return;
            }
        }
    }

    /// How many addresses Consul believes to fit: it measures an answer that it has cut as if names were not compressed, and
    /// leaves at least one.
    fn fitting_plain(&self, reply: &Reply<'_>) -> usize {
        let owner = self.request.question.len() - 4;
        (reply.writer.room() / (owner + A_BYTES - 2)).max(1)
    }
}

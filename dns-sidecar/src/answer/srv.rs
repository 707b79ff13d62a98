// SPDX-License-Identifier: MIT OR Apache-2.0
//! SRV records with what they bring along: the addresses of their targets, and texts about nodes while all fits.
//!
//! A record whose target has no address beside it costs the client a question more, so that an answer that is too large is
//! cut to records that fit together with their addresses (RFC 2782; Consul cuts to the same number).

use super::{
    Asker,
    alias::Chain,
    reply::{OwnerAt, Reply},
};
use crate::{
    index::PreparedService,
    names::with_key_text,
    prepare::RecordSet,
    records::{LENGTH_OFFSET, PRIORITY_OFFSET, SrvRecord, SrvRecords, TARGET_OFFSET, TTL_OFFSET},
    wire::{Section, rtype},
};
use discovery_core::{hash::HashKey, pick::candidates};

/// In which order records are written, and what is changed in them.
#[derive(Clone, Copy)]
struct Form {
    ttl: Option<u32>,
    /// Whether priorities count up, so that the order binds the client.
    is_ranked: bool,
}

impl Asker<'_> {
    /// The SRV records of the instances, in any order.
    pub(super) fn push_srv(
        &mut self,
        reply: &mut Reply<'_>,
        set: &RecordSet,
        ttl: Option<u32>,
    ) -> bool {
        let srv = &set.srv;
        let mut chosen = std::mem::take(&mut self.responder.chosen);
        chosen.clear();
        let bound = srv
            .fitting(reply.writer.room())
            .min(reply.answers_left(0))
            .saturating_add(1);
        chosen.extend_from_slice(self.responder.order.draw(srv.len(), bound));
        let form = Form {
            ttl,
            is_ranked: false,
        };
        self.push_chosen(reply, srv, &chosen, form);
        self.responder.chosen = chosen;
        true
    }

    /// The endpoints in the order of the key's ring: the owner first, with priorities 1, 2, 3 and so on.
    pub(super) fn push_keyed(
        &mut self,
        reply: &mut Reply<'_>,
        service: &PreparedService,
        at: usize,
    ) -> bool {
        let name = self.request.name;
        let key = with_key_text(name.head(at), HashKey::of);
        let endpoints = service.views.iter().flat_map(|view| candidates(view, key));
        if self.request.qtype == rtype::SRV {
            let mut chosen = std::mem::take(&mut self.responder.chosen);
            chosen.clear();
            let numbers = endpoints.flat_map(|endpoint| service.numbers(endpoint));
            for number in numbers.filter_map(|number| usize::try_from(*number).ok()) {
                if !chosen.contains(&number) && chosen.len() < RANKED_MAX {
                    chosen.push(number);
                }
            }
            let form = Form {
                ttl: None,
                is_ranked: true,
            };
            self.push_chosen(reply, &service.sets.all.srv, &chosen, form);
            self.responder.chosen = chosen;
            return true;
        }
        let mut rest = Vec::new();
        let mut has_answer = false;
        let is_asked = |is_v4: bool| match self.request.qtype {
            rtype::A => is_v4,
            rtype::AAAA => !is_v4,
            qtype => qtype == rtype::ANY,
        };
        for address in endpoints.flat_map(|endpoint| endpoint.addresses()) {
            if !is_asked(address.is_ipv4()) {
                continue;
            }
            has_answer = true;
            rest.clear();
            crate::records::write_address(&mut rest, *address, service.ttl_seconds);
            if !reply.push_at(Section::Answer, OwnerAt::QUESTION, &rest, None) {
                reply.is_cut = true;
                break;
            }
        }
        has_answer
    }

    fn push_chosen(
        &mut self,
        reply: &mut Reply<'_>,
        srv: &SrvRecords,
        chosen: &[usize],
        form: Form,
    ) {
        let is_whole = chosen.len() <= reply.answers_left(0);
        let may_fit = srv.total().is_none_or(|total| total <= reply.writer.room());
        if is_whole && may_fit && self.push_everything(reply, srv, chosen, form) {
            return;
        }
        reply.writer.restart(self.request.question.len());
        let count = self.fitting(reply, srv, chosen);
        reply.is_cut |= count < chosen.len() || chosen.len() < srv.len();
        let chosen = chosen.get(..count).unwrap_or(chosen);
        self.push_records(reply, srv, chosen, form);
        self.push_targets(reply, srv, form, false);
    }

    /// All records with all that they bring along; false when that is too much.
    fn push_everything(
        &mut self,
        reply: &mut Reply<'_>,
        srv: &SrvRecords,
        chosen: &[usize],
        form: Form,
    ) -> bool {
        chosen.len() == srv.len()
            && self.push_records(reply, srv, chosen, form)
            && self.push_targets(reply, srv, form, true)
    }

    /// How many of the records fit together with their addresses.
    fn fitting(&self, reply: &Reply<'_>, srv: &SrvRecords, chosen: &[usize]) -> usize {
        let limit = reply.answers_left(0).min(chosen.len());
        // As Consul: what was cut to a number is measured as if names were not compressed.
        let is_plain =
            (limit < chosen.len() && reply.budget.is_measured_plain) || !reply.is_compressed;
        let owner = if is_plain {
            self.request.question.len() - 4
        } else {
            2
        };
        let longer = self
            .suffixes()
            .map_or(0, |(made, asked)| asked.len().saturating_sub(made.len()));
        let mut room = reply.writer.room();
        let mut fitting = 0;
        for number in chosen.iter().take(limit) {
            let Some((record, bytes)) = srv.get(*number) else {
                break;
            };
            let target = if is_plain {
                bytes.len() - TARGET_OFFSET
            } else {
                2
            };
            let addresses: usize = srv.addresses(record).map(|rest| target + rest.len()).sum();
            let size = bytes.len() - 2 + owner + longer + addresses;
            match room.checked_sub(size) {
                Some(left) => room = left,
                None => break,
            }
            fitting += 1;
        }
        // One record is always told, without its addresses if need be: 512 bytes hold it.
        fitting.max(1.min(chosen.len()))
    }

    /// The records; false when one has no room.
    fn push_records(
        &mut self,
        reply: &mut Reply<'_>,
        srv: &SrvRecords,
        chosen: &[usize],
        form: Form,
    ) -> bool {
        self.responder.placed.clear();
        for (rank, number) in chosen.iter().enumerate() {
            let Some((record, bytes)) = srv.get(*number) else {
                continue;
            };
            let start = reply.writer.position();
            if !self.push_record(reply, record, bytes, form, rank) {
                return false;
            }
            let written = reply.writer.position() - start;
            let target = self.target_length(record, bytes);
            self.responder
                .placed
                .push((*number, start + written - target));
        }
        true
    }

    fn push_record(
        &self,
        reply: &mut Reply<'_>,
        record: &SrvRecord,
        bytes: &[u8],
        form: Form,
        rank: usize,
    ) -> bool {
        let is_plain = form.ttl.is_none() && !form.is_ranked && reply.is_compressed;
        let swap = self.suffixes().filter(|_| record.is_made);
        if is_plain && swap.is_none() {
            return reply.writer.push(Section::Answer, &[bytes]);
        }
        let mut changed = bytes.to_vec();
        if form.is_ranked {
            let priority = u16::try_from(rank + 1).unwrap_or(u16::MAX);
            changed[PRIORITY_OFFSET..PRIORITY_OFFSET + 2].copy_from_slice(&priority.to_be_bytes());
        }
        if let Some(ttl) = form.ttl {
            let at = 2 + TTL_OFFSET;
            changed[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        if let Some((made, asked)) = swap {
            changed.truncate(changed.len() - made.len() - 1);
            changed.extend_from_slice(asked);
            changed.push(0);
            let length = u16::try_from(changed.len() - LENGTH_OFFSET - 2).unwrap_or(0);
            changed[LENGTH_OFFSET..LENGTH_OFFSET + 2].copy_from_slice(&length.to_be_bytes());
        }
        reply.push_prepared(&changed, OwnerAt::QUESTION, None)
    }

    fn target_length(&self, record: &SrvRecord, bytes: &[u8]) -> usize {
        let length = bytes.len() - TARGET_OFFSET;
        match self.suffixes().filter(|_| record.is_made) {
            Some((made, asked)) => length - made.len() + asked.len(),
            None => length,
        }
    }

    /// The domain that made names end in, and the other one in which the question was asked; none when it is the same, or
    /// the profile keeps to the first.
    fn suffixes(&self) -> Option<(&[u8], &[u8])> {
        let naming = self.index.naming();
        let differs = !self.domain.is_primary && !self.is_compat();
        differs.then(|| {
            (
                naming.domain().as_bytes(),
                naming.domain_of(self.domain).as_bytes(),
            )
        })
    }

    /// The addresses of the records' targets and, if wanted, the texts about their nodes; false when something has no room.
    fn push_targets(
        &mut self,
        reply: &mut Reply<'_>,
        srv: &SrvRecords,
        form: Form,
        with_texts: bool,
    ) -> bool {
        let placed = std::mem::take(&mut self.responder.placed);
        let mut all_fit = true;
        for (number, position) in &placed {
            let Some((record, _)) = srv.get(*number) else {
                continue;
            };
            let target = OwnerAt(*position);
            for rest in srv.addresses(record) {
                all_fit &= reply.push_at(Section::Additional, target, rest, form.ttl);
            }
            if let Some(host) = srv.host(record) {
                let ttl = form.ttl.unwrap_or_else(|| ttl_of(srv, *number));
                let chain = Chain {
                    section: Section::Additional,
                    ttl,
                    depth: 0,
                    limit: usize::MAX,
                };
                self.push_behind(reply, target, host, chain);
            }
            if !with_texts {
                continue;
            }
            for (owner, rest) in srv.texts(record) {
                all_fit &= match owner {
                    None => reply.push_at(Section::Additional, target, rest, form.ttl),
                    Some(owner) => {
                        reply.push_named(Section::Additional, owner.as_bytes(), rest, form.ttl)
                    }
                };
            }
        }
        self.responder.placed = placed;
        all_fit
    }
}

fn ttl_of(srv: &SrvRecords, number: usize) -> u32 {
    let bytes = srv.get(number).map_or(&[][..], |(_, bytes)| bytes);
    let at = 2 + TTL_OFFSET;
    let ttl = bytes.get(at..at + 4).and_then(|ttl| ttl.try_into().ok());
    ttl.map_or(0, u32::from_be_bytes)
}

/// Endpoints of a keyed answer: more than any client goes through.
const RANKED_MAX: usize = 1_000;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reply under construction: records as far as there is room, and whether any was left out.
//!
//! Pure; no allocation.

use crate::{
    Config,
    records::{OWNER_IS_QUESTION, TTL_OFFSET},
    wire::{Edns, ReplyWriter, Section, pointer},
};
use discovery_core::telemetry::DnsTransport;

/// How many records an answer may have beside what its size allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Over this many the answer is cut, and the client told so where it is to be told.
    pub(super) answers: usize,
    /// Whether an answer that was cut to that number is measured as it would be without compression.
    pub(super) is_measured_plain: bool,
    /// Whether aliases count among them.
    pub(super) counts_aliases: bool,
    /// No more addresses than this are told, without a word.
    pub(super) addresses: usize,
}

impl Budget {
    pub(super) fn new(config: &Config, edns: Option<Edns<'_>>, transport: DnsTransport) -> Self {
        let is_small =
            transport == DnsTransport::Udp && edns.is_none_or(|edns| edns.payload <= 512);
        let is_compat = config.profile.is_compat();
        let answers = match config.udp_answer_limit {
            _ if !is_small => usize::MAX,
            limit if is_compat => limit.unwrap_or(UDP_ANSWERS).min(UDP_ANSWERS_MAX),
            limit => limit.unwrap_or(usize::MAX),
        };
        Self {
            answers,
            is_measured_plain: is_small && is_compat,
            counts_aliases: is_compat,
            addresses: match config.a_record_limit {
                0 => usize::MAX,
                limit => limit,
            },
        }
    }
}

/// A reply under construction, and whether it lacks anything.
#[derive(Debug)]
pub(super) struct Reply<'o> {
    pub(super) writer: ReplyWriter<'o>,
    pub(super) budget: Budget,
    pub(super) transport: DnsTransport,
    /// Whether records of the answer were left out.
    pub(super) is_cut: bool,
    pub(super) is_compressed: bool,
}

/// Whose a record is: the name at a place of the reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OwnerAt(pub(super) usize);

impl OwnerAt {
    /// The asked name.
    pub(super) const QUESTION: Self = Self(12);
}

impl Reply<'_> {
    /// Appends a record whose owner stands in the reply; `rest` begins with its type. Another TTL than that of `rest` may be
    /// given.
    pub(super) fn push_at(
        &mut self,
        section: Section,
        owner: OwnerAt,
        rest: &[u8],
        ttl: Option<u32>,
    ) -> bool {
        let Some(pointer) = pointer(owner.0).filter(|_| self.is_compressed) else {
            return self.push_spelled(section, owner, rest, ttl);
        };
        match ttl {
            None => self.writer.push(section, &[&pointer, rest]),
            Some(ttl) => self
                .writer
                .push(section, &with_ttl(&pointer, rest, &ttl.to_be_bytes())),
        }
    }

    fn push_spelled(
        &mut self,
        section: Section,
        owner: OwnerAt,
        rest: &[u8],
        ttl: Option<u32>,
    ) -> bool {
        let position = self.writer.position();
        if !self.writer.push_spelled(section, owner.0, rest) {
            return false;
        }
        if let Some(ttl) = ttl {
            let end = self.writer.position();
            let at = end - rest.len() + TTL_OFFSET;
            if let Some(place) = self.writer.written().get_mut(at.max(position)..at + 4) {
                place.copy_from_slice(&ttl.to_be_bytes());
            }
        }
        true
    }

    /// Appends a record with an owner of its own, without a root.
    pub(super) fn push_named(
        &mut self,
        section: Section,
        owner: &[u8],
        rest: &[u8],
        ttl: Option<u32>,
    ) -> bool {
        let root = [0];
        match ttl {
            None => self.writer.push(section, &[owner, &root, rest]),
            Some(ttl) => {
                let ttl = ttl.to_be_bytes();
                let (head, tail) = around_ttl(rest);
                self.writer.push(section, &[owner, &root, head, &ttl, tail])
            }
        }
    }

    /// Whether records go into the reply as they are prepared.
    #[inline]
    pub(super) fn is_plain(&self, owner: OwnerAt, ttl: Option<u32>) -> bool {
        owner == OwnerAt::QUESTION && ttl.is_none() && self.is_compressed
    }

    /// Appends a record that is prepared with a pointer to the question.
    #[inline]
    pub(super) fn push_prepared(
        &mut self,
        record: &[u8],
        owner: OwnerAt,
        ttl: Option<u32>,
    ) -> bool {
        if self.is_plain(owner, ttl) {
            return self.writer.push(Section::Answer, &[record]);
        }
        let rest = record.get(OWNER_IS_QUESTION.len()..).unwrap_or_default();
        self.push_at(Section::Answer, owner, rest, ttl)
    }

    /// How many more answers may follow.
    pub(super) fn answers_left(&self, aliases: usize) -> usize {
        let uncounted = if self.budget.counts_aliases {
            0
        } else {
            aliases
        };
        self.budget
            .answers
            .saturating_sub(self.writer.answers() - uncounted)
    }
}

fn with_ttl<'p>(owner: &'p [u8], rest: &'p [u8], ttl: &'p [u8]) -> [&'p [u8]; 4] {
    let (head, tail) = around_ttl(rest);
    [owner, head, ttl, tail]
}

fn around_ttl(rest: &[u8]) -> (&[u8], &[u8]) {
    (
        rest.get(..TTL_OFFSET).unwrap_or_default(),
        rest.get(TTL_OFFSET + 4..).unwrap_or_default(),
    )
}

/// Consul's default of `udp_answer_limit`.
const UDP_ANSWERS: usize = 3;
/// More are never sent without EDNS, whatever is set.
const UDP_ANSWERS_MAX: usize = 8;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Host names in place of addresses: a CNAME record, and what stands behind it as far as that is known.
//!
//! Names of ours are followed here, others are looked up elsewhere where the configuration wishes. A chain ends after three
//! aliases, as in Consul; so does a loop.

use super::{
    Asker,
    reply::{OwnerAt, Reply},
};
use crate::{
    index::Found,
    records::{Addresses, head},
    wire::{LowerName, Section, WireName, rtype},
};

/// What stands behind a host name.
enum Behind<'i> {
    Addresses(&'i Addresses),
    Alias(&'i WireName),
    /// A name of others.
    Outside,
    Nothing,
}

/// Where a chain of aliases is written, and how.
#[derive(Clone, Copy)]
pub(super) struct Chain {
    pub(super) section: Section,
    /// How long all of it may be kept.
    pub(super) ttl: u32,
    /// How many aliases were written.
    pub(super) depth: usize,
    /// How many answers there may be.
    pub(super) limit: usize,
}

impl Chain {
    fn is_answer(self) -> bool {
        matches!(self.section, Section::Answer)
    }

    fn deeper(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }
}

impl<'a> Asker<'a> {
    /// One of the aliases and what stands behind it; whether there is any.
    pub(super) fn push_alias(
        &mut self,
        reply: &mut Reply<'_>,
        aliases: &[WireName],
        ttl: u32,
    ) -> bool {
        let Some(alias) = self.choose(aliases) else {
            return false;
        };
        let limit = if reply.budget.counts_aliases {
            reply.budget.answers
        } else {
            usize::MAX
        };
        let chain = Chain {
            section: Section::Answer,
            ttl,
            depth: 0,
            limit,
        };
        let follows = self.follow(reply, OwnerAt::QUESTION, alias, chain);
        if !follows && !self.is_compat() {
            // RFC 2308 2.2: the alias exists, and what it leads to does not have the type.
            self.push_soa(reply, Section::Authority);
        }
        true
    }

    /// Any of them, but one whose addresses others were asked for, where they were.
    fn choose<'n>(&mut self, aliases: &'n [WireName]) -> Option<&'n WireName> {
        if let Some(resolved) = self.resolved {
            let known = aliases.iter().find(|alias| resolved.has(alias));
            if known.is_some() {
                return known;
            }
        }
        let number = *self.responder.order.draw(aliases.len(), 1).first()?;
        aliases.get(number)
    }

    /// Appends the alias and what stands behind it; whether it may lead to an address.
    fn follow(
        &mut self,
        reply: &mut Reply<'_>,
        owner: OwnerAt,
        alias: &WireName,
        chain: Chain,
    ) -> bool {
        if chain.is_answer() && reply.writer.answers() >= chain.limit {
            reply.is_cut = true;
            return true;
        }
        let name = alias.as_bytes();
        let length = u16::try_from(name.len() + 1).unwrap_or(0);
        let head = head(rtype::CNAME, chain.ttl, length);
        let rest = [&head[..], name, &[0]].concat();
        if !reply.push_at(chain.section, owner, &rest, None) {
            reply.is_cut |= chain.is_answer();
            return true;
        }
        let chain = chain.deeper();
        if chain.depth == ALIASES_MAX {
            return true;
        }
        let owner = OwnerAt(reply.writer.position() - name.len() - 1);
        self.push_behind(reply, owner, alias, chain)
    }

    /// Appends what stands behind a host name; whether that may be an address.
    pub(super) fn push_behind(
        &mut self,
        reply: &mut Reply<'_>,
        owner: OwnerAt,
        host: &WireName,
        chain: Chain,
    ) -> bool {
        match self.behind(host) {
            Behind::Alias(alias) => self.follow(reply, owner, alias, chain),
            Behind::Addresses(addresses) if chain.is_answer() => {
                let families = self.families_behind(addresses);
                self.push_families(reply, families, owner, Some(chain.ttl), chain.depth);
                !(families.0.is_empty() && families.1.is_empty())
            }
            Behind::Addresses(addresses) => {
                for record in addresses.without_owners() {
                    reply.push_at(chain.section, owner, record, Some(chain.ttl));
                }
                true
            }
            Behind::Outside => {
                self.push_outside(reply, owner, host, chain);
                true
            }
            Behind::Nothing => false,
        }
    }

    /// 1.8.7 takes whatever addresses the host has, of any family.
    fn families_behind<'r>(&self, addresses: &'r Addresses) -> (&'r [u8], &'r [u8]) {
        let (v4, v6) = (addresses.v4(), addresses.v6());
        match self.request.qtype {
            _ if self.is_compat() => (v4, v6),
            rtype::A => (v4, &[]),
            rtype::AAAA => (&[], v6),
            rtype::ANY => (v4, v6),
            _ => (&[], &[]),
        }
    }

    fn behind(&self, host: &WireName) -> Behind<'a> {
        let index = self.index;
        let Some(name) = LowerName::of(host) else {
            return Behind::Nothing;
        };
        let Some(domain) = index.naming().domain_in(&name) else {
            return Behind::Outside;
        };
        let set = match index.find(&name, domain, rtype::ANY) {
            Found::Records {
                set,
                is_srv_only: false,
                ..
            } => set,
            Found::Node(node) => &node.set,
            _ => return Behind::Nothing,
        };
        match set.aliases.first() {
            Some(alias) if set.of_any().is_empty() => Behind::Alias(alias),
            _ => Behind::Addresses(set.of_any()),
        }
    }

    /// What another server says of the name, or a note that it is to be asked.
    fn push_outside(
        &mut self,
        reply: &mut Reply<'_>,
        owner: OwnerAt,
        host: &WireName,
        chain: Chain,
    ) {
        let Some(resolved) = self.resolved else {
            if self.index.config.is_forwarding() && self.responder.wanted.len() < HOSTS_MAX {
                let qtype = match self.request.qtype {
                    rtype::AAAA if !self.is_compat() => rtype::AAAA,
                    _ => rtype::A,
                };
                self.responder.wanted.push((host.to_lower(), qtype));
            }
            return;
        };
        for record in resolved.of(host) {
            if !matches!(record.rtype, rtype::A | rtype::AAAA | rtype::CNAME) {
                continue;
            }
            if chain.is_answer() && reply.writer.answers() >= chain.limit {
                reply.is_cut = true;
                return;
            }
            let length = u16::try_from(record.data.len()).unwrap_or(0);
            // A chain is kept no longer than its weakest link, and 1.8.7 writes its own TTL over it.
            let ttl = if self.is_compat() {
                chain.ttl
            } else {
                chain.ttl.min(record.ttl_seconds)
            };
            let rest = [&head(record.rtype, ttl, length)[..], &record.data].concat();
            let fits = if record.owner.to_lower() == host.to_lower() {
                reply.push_at(chain.section, owner, &rest, None)
            } else {
                reply.push_named(chain.section, record.owner.as_bytes(), &rest, None)
            };
            if !fits {
                reply.is_cut |= chain.is_answer();
                return;
            }
        }
    }
}

/// As Consul.
const ALIASES_MAX: usize = 3;
/// Host names of others that one answer looks up.
const HOSTS_MAX: usize = 3;

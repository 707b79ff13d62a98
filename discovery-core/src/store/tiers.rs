// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tiers of a service's levels, with what is unchanged taken from the view before. Pure.

use super::{
    Endpoint, Load, ServiceLoad, ServiceView, Tier, levels::Level, member::Member, spill::spilled,
};
use crate::{
    hash::identity_hash,
    model::{Balancing, Identity, Reason, Standing, Weight, ZonePolicy},
};
use std::{net::SocketAddr, sync::Arc};

/// Makes tiers of levels, with what is unchanged taken from the view before: endpoints, counters, tables.
pub(super) struct TierBuilder<'b> {
    pub(super) balancing: &'b Balancing,
    pub(super) policy: ZonePolicy,
    pub(super) service: &'b Arc<ServiceLoad>,
    pub(super) is_wanted: bool,
    pub(super) previous: Option<&'b Arc<ServiceView>>,
}

impl TierBuilder<'_> {
    /// The tiers, and the share of keys that spills into the last of them although an earlier one serves.
    pub(super) fn build(&self, levels: Vec<Level>) -> (Vec<Tier>, u64) {
        let ready: Vec<bool> = levels
            .iter()
            .map(|level| {
                let mut members = level.members.iter();
                members.any(|m| m.standing() == Standing::Ready && !self.weight(m).is_zero())
            })
            .collect();
        let last = levels.len().saturating_sub(1);
        let mut tiers: Vec<Tier> = Vec::with_capacity(levels.len());
        let mut spill = 0;
        for (at, level) in levels.into_iter().enumerate() {
            let is_outranked = tiers.iter().any(|tier| tier.usable() > 0);
            if at == last && is_outranked {
                spill = self.spill(&tiers);
            }
            // Terminating endpoints serve only where nothing of their scope is ready, on this level or on one that shares it.
            let next_is_ready = level.shares_scope && ready.get(at + 1).is_some_and(|ready| *ready);
            let verdict = Verdict {
                any_ready: ready[at] || next_is_ready,
                within: level.within,
                outranked: (is_outranked && spill == 0).then_some(level.outranked),
            };
            tiers.push(self.tier(level.members, &verdict, at));
        }
        if tiers.last().is_none_or(|tier| tier.usable() == 0) {
            spill = 0;
        }
        (tiers, spill)
    }

    fn weight(&self, member: &Member) -> Weight {
        self.balancing.weights.of(member.identity.as_str())
    }

    fn spill(&self, before: &[Tier]) -> u64 {
        let Some(threshold) = self.balancing.spill_below else {
            return 0;
        };
        if self.policy != ZonePolicy::Prefer {
            return 0;
        }
        let weights = before.iter().map(Tier::weights);
        let (listed, usable) = weights.fold((0, 0), |sum, tier| (sum.0 + tier.0, sum.1 + tier.1));
        let is_spilling = self.previous.is_some_and(|view| view.spill > 0);
        spilled(threshold, listed, usable, is_spilling)
    }

    fn tier(&self, members: Vec<Member>, verdict: &Verdict, at: usize) -> Tier {
        let old = self.previous.map_or(&[][..], |view| &view.tiers);
        let endpoints = members.into_iter().map(|member| {
            let weight = self.weight(&member);
            let reason = verdict.reason(&member, weight);
            self.endpoint(member, weight, reason, old)
        });
        let wish = self.balancing.placement.known();
        Tier::new(endpoints.collect(), wish, old.get(at), self.is_wanted)
    }

    /// The endpoint of the member; the old one when nothing differs, else a new one with the old counters.
    fn endpoint(
        &self,
        member: Member,
        weight: Weight,
        reason: Reason,
        old: &[Tier],
    ) -> Arc<Endpoint> {
        let same_pod = |endpoint: &&Arc<Endpoint>| endpoint.state_key == member.state_key;
        let before = find(old, &member.identity).filter(same_pod);
        let first = member.addresses.first().zip(member.ports.first());
        let endpoint = Endpoint {
            standing: member.standing(),
            hash: identity_hash(member.identity.as_str()),
            first: first.map(|(address, port)| SocketAddr::new(*address, port.port.get())),
            identity: member.identity,
            state_key: member.state_key,
            addresses: member.addresses.into(),
            ports: member.ports,
            node: member.node,
            zone: member.zone,
            is_foreign: !member.is_near,
            reason,
            weight,
            load: before.map_or_else(
                || Arc::new(Load::default()),
                |endpoint| endpoint.load.clone(),
            ),
            service: self.service.clone(),
        };
        // What the first view of a service has is warm; whoever joins later, or comes back, begins slowly.
        let has_joined =
            self.previous.is_some() && !before.is_some_and(|before| before.is_usable());
        if self.balancing.slow_start.is_some() && endpoint.is_usable() && has_joined {
            endpoint.load.begin_ramp();
        }
        match before {
            Some(before) if before.says_the_same(&endpoint) => before.clone(),
            _ => Arc::new(endpoint),
        }
    }
}

fn find<'t>(tiers: &'t [Tier], identity: &Identity) -> Option<&'t Arc<Endpoint>> {
    tiers.iter().find_map(|tier| {
        let members = tier.members();
        let at = members.binary_search_by(|endpoint| endpoint.identity.cmp(identity));
        Some(&members[at.ok()?])
    })
}

/// What the members of one tier have in common.
struct Verdict {
    any_ready: bool,
    within: Option<Reason>,
    outranked: Option<Reason>,
}

impl Verdict {
    fn reason(&self, member: &Member, weight: Weight) -> Reason {
        if weight.is_zero() && member.standing() != Standing::Out {
            return Reason::ZeroWeight;
        }
        if let Some(outranked) = self.outranked {
            return outranked;
        }
        let within = self.within.filter(|reason| {
            // Under `any` and in a level of others the own ones keep their own reason.
            !member.is_near || *reason == Reason::Hinted || *reason == Reason::OwnNode
        });
        match member.standing() {
            Standing::Ready => within.unwrap_or(member.within),
            Standing::ServingTerminating if !self.any_ready => Reason::LastServing,
            _ if member.conditions.terminating => Reason::Terminating,
            _ => Reason::NotReady,
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The view of one service from its slices: join, refuse, merge, tier. Pure, and independent of the order of events.

use super::{
    Endpoint, EndpointPort, Load, Refused, ServiceLoad, ServiceView, Tier,
    far::{FarPods, Sifted},
    levels::{Level, levels},
    member::{Member, Members},
    near::{Located, Near},
    packed::{EndpointRef, PackedSlice},
    places::Names,
    refusals::Refusals,
    spill::spilled,
};
use crate::{
    hash::identity_hash,
    model::{
        AddressRules, Balancing, Identity, NodeName, Reason, Service, ServiceName, Standing,
        StateKey, Unlocated, Weight, ZonePolicy,
    },
};
use std::{cell::OnceCell, collections::HashSet, net::SocketAddr, sync::Arc};

/// What the build of a service needs beside its slices.
pub(super) struct BuildContext<'s> {
    pub(super) near: Near<'s>,
    pub(super) names: &'s Names,
    pub(super) policy: ZonePolicy,
    pub(super) addresses: &'s AddressRules,
    pub(super) unlocated: &'s Unlocated,
}

/// The view of a service, or the previous one when it would say the same.
///
/// `slices` come in the order of their keys. Costs a look at every endpoint, and more for those that the policy lets in. Where
/// `sifted` is what was found when `previous` was built, and holds, it costs a look at those of them that are near.
pub(super) fn build_view(
    context: &BuildContext<'_>,
    name: &ServiceName,
    spec: Option<&Arc<Service>>,
    slices: &[&PackedSlice],
    previous: Option<&Arc<ServiceView>>,
    sifted: Option<Sifted>,
) -> (Arc<ServiceView>, Sifted) {
    let mut refusals = Refusals::default();
    let (members, sifted) = match sifted.zip(previous) {
        Some((sifted, previous)) => {
            refusals.take_over(context.near.far_reason(), previous);
            (
                admit_sifted(context, slices, &sifted, &mut refusals),
                sifted,
            )
        }
        None => sift(context, slices, &mut refusals),
    };
    let members = members.unique(|reason, member| {
        refusals.add(reason, || refused(member, reason));
    });
    let levels = levels(
        &context.near,
        context.policy,
        spec.map(|spec| &**spec),
        members,
    );
    let load = previous.map_or_else(Arc::default, |view| view.load.clone());
    let unasked = Balancing::default();
    let builder = TierBuilder {
        balancing: spec.map_or(&unasked, |spec| &spec.balancing),
        policy: context.policy,
        service: &load,
        previous,
    };
    let (tiers, spill) = builder.build(levels);
    let (refused, out) = (refusals.kept(), refusals.counts());
    let view = ServiceView {
        name: name.clone(),
        spec: spec.cloned(),
        policy: context.policy,
        tiers: tiers.into(),
        spill,
        refused,
        out,
        load,
    };
    view.load
        .published(view.usable().map(|endpoint| &**endpoint));
    let view = match previous {
        Some(previous) if previous.says_the_same(&view) => previous.clone(),
        previous => {
            retire_gone(previous, &view);
            Arc::new(view)
        }
    };
    (view, sifted)
}

/// Keeps the counts of the endpoints that the new view no longer has.
fn retire_gone(previous: Option<&Arc<ServiceView>>, view: &ServiceView) {
    let kept: HashSet<*const Load> = (view.tiers.iter().flat_map(Tier::members))
        .map(|endpoint| Arc::as_ptr(&endpoint.load))
        .collect();
    let old = previous.into_iter().flat_map(|view| view.tiers.iter());
    for endpoint in old.flat_map(Tier::members) {
        if !kept.contains(&Arc::as_ptr(&endpoint.load)) {
            view.load.retire(endpoint);
        }
    }
}

/// One member per pod that the policy lets in, however many slices and address families name it; and which endpoints are
/// not simply far.
fn sift(
    context: &BuildContext<'_>,
    slices: &[&PackedSlice],
    refusals: &mut Refusals,
) -> (Members, Sifted) {
    let mut members = Members::default();
    let mut far = FarPods::with_capacity(slices.iter().map(|slice| slice.len()).sum());
    let far_reason = context.near.far_reason();
    let sifted = slices.iter().map(|slice| {
        let (ports, mut near) = (SlicePorts::new(slice), Vec::new());
        for (position, endpoint) in (0..).zip(slice.endpoints()) {
            match admit(context, slice, &endpoint, &ports) {
                Err((reason, located)) if reason == far_reason => {
                    if far.insert(&endpoint) {
                        refusals.add(reason, || out(context, slice, &endpoint, located, reason));
                    }
                    continue;
                }
                Ok(member) => members.add(member),
                Err((reason, located)) => {
                    refusals.add(reason, || out(context, slice, &endpoint, located, reason));
                }
            }
            near.push(position);
        }
        near.into()
    });
    let sifted = Sifted(sifted.collect());
    (members, sifted)
}

/// The same, without a look at those that are far.
fn admit_sifted(
    context: &BuildContext<'_>,
    slices: &[&PackedSlice],
    sifted: &Sifted,
    refusals: &mut Refusals,
) -> Members {
    let mut members = Members::default();
    for (slice, near) in slices.iter().zip(&sifted.0) {
        let ports = SlicePorts::new(slice);
        for endpoint in near.iter().filter_map(|position| slice.at(*position)) {
            match admit(context, slice, &endpoint, &ports) {
                Ok(member) => members.add(member),
                Err((reason, located)) => {
                    refusals.add(reason, || out(context, slice, &endpoint, located, reason));
                }
            }
        }
    }
    members
}

/// An endpoint that is not let in, for people.
fn out(
    context: &BuildContext<'_>,
    slice: &PackedSlice,
    endpoint: &EndpointRef<'_>,
    located: Option<Located<'_>>,
    reason: Reason,
) -> Refused {
    Refused {
        identity: identity(endpoint, slice),
        address: endpoint.address(),
        node: node(context, endpoint).cloned(),
        zone: located.and_then(|located| located.zone.cloned()),
        reason,
    }
}

fn admit<'s>(
    context: &BuildContext<'s>,
    slice: &'s PackedSlice,
    endpoint: &EndpointRef<'s>,
    ports: &SlicePorts<'_>,
) -> Result<Member, (Reason, Option<Located<'s>>)> {
    let located = locate(context, slice, endpoint);
    // Most endpoints of a big cluster end here, and cost no more than that.
    if let Ok(located) = located
        && !located.is_near
        && context.policy == ZonePolicy::Strict
    {
        return Err((context.near.far_reason(), Some(located)));
    }
    let address = endpoint.address();
    let mut refusals = slice
        .ports
        .iter()
        .map(|port| context.addresses.refusal(address, Some(port.port)))
        .chain([context.addresses.refusal(address, None)]);
    if let Some(class) = refusals.find_map(|class| class) {
        return Err((Reason::BadAddress(class), located.ok()));
    }
    let located = located.map_err(|reason| (reason, None))?;
    let identity = identity(endpoint, slice);
    let member = Member {
        state_key: StateKey::new(endpoint.target().as_ref(), &identity),
        identity,
        addresses: vec![address],
        ports: ports.get(),
        node: node(context, endpoint).cloned(),
        zone: None,
        is_near: false,
        is_own_node: false,
        within: Reason::OwnZone,
        conditions: endpoint.conditions(),
        hints: endpoint
            .hints
            .and_then(|hints| context.names.hints(hints))
            .cloned(),
        version: slice.version,
    };
    Ok(member.located(located))
}

/// Where the endpoint is: by its node, else by its slice, else by the policy for endpoints that are nowhere.
fn locate<'s>(
    context: &BuildContext<'s>,
    slice: &'s PackedSlice,
    endpoint: &EndpointRef<'s>,
) -> Result<Located<'s>, Reason> {
    let names = context.names;
    if let Some(place) = endpoint.place.and_then(|place| names.place(place)) {
        let stated = endpoint.zone.and_then(|zone| names.zone(zone));
        return Ok(context.near.locate(place, stated));
    }
    if let Some(zone) = &slice.zone {
        return Ok(context.near.locate_in(zone));
    }
    match context.unlocated {
        Unlocated::Drop => Err(Reason::NoZoneOnEndpoint),
        Unlocated::Include => Ok(Located {
            zone: None,
            is_near: true,
            is_own_node: false,
            within: Reason::UnlocatedIncluded,
        }),
        Unlocated::CidrMap(map) => match map.zone(endpoint.address()) {
            Some(zone) => Ok(context.near.locate_in(zone)),
            None => Err(Reason::NoZoneOnEndpoint),
        },
    }
}

fn node<'s>(context: &BuildContext<'s>, endpoint: &EndpointRef<'_>) -> Option<&'s NodeName> {
    Some(&context.names.place(endpoint.place?)?.node)
}

fn identity(endpoint: &EndpointRef<'_>, slice: &PackedSlice) -> Identity {
    if let Some(name) = endpoint.pod() {
        return Identity::of_pod(name);
    }
    let port = slice.ports.first().map_or(0, |port| port.port.into());
    Identity::of_address(SocketAddr::new(endpoint.address(), port))
}

/// The ports of a slice's endpoints, made when the first endpoint is let in and shared by all.
struct SlicePorts<'s> {
    slice: &'s PackedSlice,
    made: OnceCell<Arc<[EndpointPort]>>,
}

impl<'s> SlicePorts<'s> {
    fn new(slice: &'s PackedSlice) -> Self {
        Self {
            slice,
            made: OnceCell::new(),
        }
    }

    fn get(&self) -> Arc<[EndpointPort]> {
        let made = self.made.get_or_init(|| {
            let ports = self.slice.ports.iter();
            ports
                .map(|port| EndpointPort {
                    name: port.name.clone(),
                    protocol: port.protocol,
                    port: port.port,
                })
                .collect()
        });
        made.clone()
    }
}

fn refused(member: Member, reason: Reason) -> Refused {
    Refused {
        address: member.addresses[0],
        identity: member.identity,
        node: member.node,
        zone: member.zone,
        reason,
    }
}

/// Makes tiers of levels, with what is unchanged taken from the view before: endpoints, counters, tables.
struct TierBuilder<'b> {
    balancing: &'b Balancing,
    policy: ZonePolicy,
    service: &'b Arc<ServiceLoad>,
    previous: Option<&'b Arc<ServiceView>>,
}

impl TierBuilder<'_> {
    /// The tiers, and the share of keys that spills into the last of them although an earlier one serves.
    fn build(&self, levels: Vec<Level>) -> (Vec<Tier>, u64) {
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
        Tier::new(endpoints.collect(), &self.balancing.placement, old.get(at))
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

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The view of one service from its slices: join, refuse, merge, tier. Pure, and independent of the order of events.

use super::{
    Endpoint, EndpointPort, Load, Refused, ServiceLoad, ServiceView, Tier,
    far::FarPods,
    levels::{Level, levels},
    member::{Member, Members},
    near::{Located, Near},
    packed::{EndpointRef, PackedSlice},
    places::Names,
    refusals::Refusals,
};
use crate::{
    hash::Ring,
    model::{
        AddressRules, Identity, NodeName, Reason, Service, ServiceName, Standing, StateKey,
        Unlocated, ZonePolicy,
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
/// `slices` come in the order of their keys. Costs a look at every endpoint, and more for those that the policy lets in.
pub(super) fn build_view(
    context: &BuildContext<'_>,
    name: &ServiceName,
    spec: Option<&Arc<Service>>,
    slices: &[&PackedSlice],
    previous: Option<&Arc<ServiceView>>,
) -> Arc<ServiceView> {
    let mut refusals = Refusals::default();
    let members = admit_all(context, slices, &mut refusals).unique(|reason, member| {
        refusals.add(reason, || refused(member, reason));
    });
    let levels = levels(
        &context.near,
        context.policy,
        spec.map(|spec| &**spec),
        members,
    );
    let tiers = build_tiers(levels, previous);
    let (refused, out) = (refusals.kept(), refusals.counts());
    let view = ServiceView {
        name: name.clone(),
        spec: spec.cloned(),
        policy: context.policy,
        tiers: tiers.into(),
        refused,
        out,
        load: previous.map_or_else(
            || Arc::new(ServiceLoad::default()),
            |view| view.load.clone(),
        ),
    };
    match previous {
        Some(previous) if previous.says_the_same(&view) => previous.clone(),
        previous => {
            retire_gone(previous, &view);
            Arc::new(view)
        }
    }
}

/// Keeps the counts of the endpoints that the new view no longer has.
fn retire_gone(previous: Option<&Arc<ServiceView>>, view: &ServiceView) {
    let members = |view: &ServiceView| -> Vec<Arc<Endpoint>> {
        view.tiers
            .iter()
            .flat_map(|tier| tier.members.iter().cloned())
            .collect()
    };
    let kept: HashSet<*const Load> = members(view)
        .iter()
        .map(|endpoint| Arc::as_ptr(&endpoint.load))
        .collect();
    for endpoint in previous.map(|view| members(view)).unwrap_or_default() {
        if !kept.contains(&Arc::as_ptr(&endpoint.load)) {
            view.load.retire(&endpoint);
        }
    }
}

/// One member per pod that the policy lets in, however many slices and address families name it.
fn admit_all(
    context: &BuildContext<'_>,
    slices: &[&PackedSlice],
    refusals: &mut Refusals,
) -> Members {
    let mut members = Members::default();
    let mut far = FarPods::with_capacity(slices.iter().map(|slice| slice.len()).sum());
    for slice in slices {
        let ports = SlicePorts::new(slice);
        for endpoint in slice.endpoints() {
            match admit(context, slice, &endpoint, &ports) {
                Ok(member) => members.add(member),
                Err((reason, _))
                    if reason == context.near.far_reason() && !far.insert(&endpoint) => {}
                Err((reason, located)) => refusals.add(reason, || Refused {
                    identity: identity(&endpoint, slice),
                    address: endpoint.address(),
                    node: node(context, &endpoint).cloned(),
                    zone: located.and_then(|located| located.zone.cloned()),
                    reason,
                }),
            }
        }
    }
    members
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

fn build_tiers(levels: Vec<Level>, previous: Option<&Arc<ServiceView>>) -> Vec<Tier> {
    let old = previous.map_or(&[][..], |view| &view.tiers);
    let ready: Vec<bool> = levels
        .iter()
        .map(|level| {
            level
                .members
                .iter()
                .any(|m| m.standing() == Standing::Ready)
        })
        .collect();
    let mut tiers: Vec<Tier> = Vec::with_capacity(levels.len());
    for (at, level) in levels.into_iter().enumerate() {
        let is_outranked = tiers.iter().any(|tier| tier.usable > 0);
        // Terminating endpoints serve only where nothing of their scope is ready, on this level or on one that shares it.
        let next_is_ready = level.shares_scope && ready.get(at + 1).is_some_and(|ready| *ready);
        let any_ready = ready[at] || next_is_ready;
        let verdict = Verdict {
            any_ready,
            within: level.within,
            outranked: is_outranked.then_some(level.outranked),
        };
        tiers.push(build_tier(level.members, &verdict, old, at));
    }
    tiers
}

/// What the members of one tier have in common.
struct Verdict {
    any_ready: bool,
    within: Option<Reason>,
    outranked: Option<Reason>,
}

impl Verdict {
    fn reason(&self, member: &Member) -> Reason {
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

/// The tier of the members, with what is unchanged taken from the tiers before: endpoints, counters, the ring.
fn build_tier(members: Vec<Member>, verdict: &Verdict, old: &[Tier], at: usize) -> Tier {
    let members: Box<[Arc<Endpoint>]> = members
        .into_iter()
        .map(|member| {
            let reason = verdict.reason(&member);
            endpoint(member, reason, old)
        })
        .collect();
    let identities = |members: &[Arc<Endpoint>]| -> Vec<Identity> {
        members
            .iter()
            .map(|endpoint| endpoint.identity.clone())
            .collect()
    };
    let is = identities(&members);
    let ring = match old.get(at).map(|tier| (tier, identities(&tier.members))) {
        Some((tier, was)) if was == is => tier.ring.clone(),
        Some((tier, was)) => Arc::new(tier.ring.rebuild(&was, &is)),
        None => Arc::new(Ring::build(&is)),
    };
    let usable = members
        .iter()
        .filter(|endpoint| endpoint.is_usable())
        .count();
    Tier {
        members,
        ring,
        usable,
    }
}

/// The endpoint of the member; the old one when nothing differs, else a new one with the old counters.
fn endpoint(member: Member, reason: Reason, old: &[Tier]) -> Arc<Endpoint> {
    let before = old
        .iter()
        .find_map(|tier| {
            let members = &tier.members;
            let at = members
                .binary_search_by(|endpoint| endpoint.identity.cmp(&member.identity))
                .ok()?;
            Some(&members[at])
        })
        .filter(|endpoint| endpoint.state_key == member.state_key);
    let endpoint = Endpoint {
        identity: member.identity,
        state_key: member.state_key,
        addresses: member.addresses.into(),
        ports: member.ports,
        node: member.node,
        zone: member.zone,
        is_foreign: !member.is_near,
        reason,
        load: before.map_or_else(
            || Arc::new(Load::default()),
            |endpoint| endpoint.load.clone(),
        ),
    };
    match before {
        Some(before) if before.says_the_same(&endpoint) => before.clone(),
        _ => Arc::new(endpoint),
    }
}

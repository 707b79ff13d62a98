// SPDX-License-Identifier: MIT OR Apache-2.0
//! The view of one service from its slices: join, refuse, merge, tier. Pure, and independent of the order of events.

use super::{Endpoint, EndpointPort, Load, Refused, ServiceLoad, ServiceView, Tier};
use crate::{
    hash::Ring,
    model::{
        AddressRules, Conditions, Identity, NodeName, Reason, Service, ServiceName, Slice,
        SliceEndpoint, Standing, StateKey, Zone, ZonePolicy,
    },
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// What the build of every service shares.
pub(super) struct BuildContext<'s> {
    pub(super) zone: &'s Zone,
    pub(super) zone_of: &'s dyn Fn(&NodeName) -> Option<&'s Zone>,
    pub(super) policy: ZonePolicy,
    pub(super) addresses: &'s AddressRules,
}

/// The view of a service, or the previous one when it would say the same.
///
/// `slices` come in the order of their keys.
pub(super) fn build_view(
    context: &BuildContext<'_>,
    name: &ServiceName,
    spec: Option<&Arc<Service>>,
    slices: &[&Slice],
    previous: Option<&Arc<ServiceView>>,
) -> Arc<ServiceView> {
    let mut refused = Vec::new();
    let members = unique(merge(context, slices, &mut refused), &mut refused);
    let tiers = build_tiers(context, members, previous, &mut refused);
    refused.sort_by(|a, b| (&a.identity, a.address).cmp(&(&b.identity, b.address)));
    let view = ServiceView {
        name: name.clone(),
        spec: spec.cloned(),
        policy: context.policy,
        tiers: tiers.into(),
        refused: refused.into(),
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

/// A pod on its way to become an endpoint.
struct Member {
    identity: Identity,
    state_key: StateKey,
    addresses: Vec<IpAddr>,
    ports: Arc<[EndpointPort]>,
    node: Option<NodeName>,
    zone: Option<Zone>,
    conditions: Conditions,
}

/// One member per pod, however many slices and address families name it.
fn merge(
    context: &BuildContext<'_>,
    slices: &[&Slice],
    refused: &mut Vec<Refused>,
) -> BTreeMap<Identity, Member> {
    let mut members = BTreeMap::new();
    for slice in slices {
        let ports: Arc<[EndpointPort]> = slice
            .ports
            .iter()
            .map(|port| EndpointPort {
                name: port.name.clone(),
                protocol: port.protocol,
                port: port.port,
            })
            .collect();
        for endpoint in &slice.endpoints {
            match admit(context, endpoint, &ports) {
                Ok(member) => match members.entry(member.identity.clone()) {
                    Entry::Vacant(place) => drop(place.insert(member)),
                    Entry::Occupied(mut place) => place.get_mut().absorb(member),
                },
                Err(refusal) => refused.push(refusal),
            }
        }
    }
    members
}

fn admit(
    context: &BuildContext<'_>,
    endpoint: &SliceEndpoint,
    ports: &Arc<[EndpointPort]>,
) -> Result<Member, Refused> {
    let address = endpoint.address.to_canonical();
    let first_port = ports.first().map(|port| port.port);
    let identity = match &endpoint.target {
        Some(target) => Identity::of_pod(&target.name),
        None => Identity::of_address(SocketAddr::new(address, first_port.map_or(0, Into::into))),
    };
    let bad = ports
        .iter()
        .find_map(|port| context.addresses.refusal(address, Some(port.port)));
    let reason = match bad.or_else(|| context.addresses.refusal(address, None)) {
        Some(class) => Some(Reason::BadAddress(class)),
        None if endpoint.node.is_none() => Some(Reason::NoZoneOnEndpoint),
        None => None,
    };
    if let Some(reason) = reason {
        return Err(Refused {
            identity,
            address,
            node: endpoint.node.clone(),
            zone: None,
            reason,
        });
    }
    let zone = endpoint
        .node
        .as_ref()
        .and_then(|node| (context.zone_of)(node))
        .cloned();
    Ok(Member {
        state_key: StateKey::new(endpoint.target.as_ref(), &identity),
        identity,
        addresses: vec![address],
        ports: ports.clone(),
        node: endpoint.node.clone(),
        zone,
        conditions: endpoint.conditions,
    })
}

impl Member {
    /// Takes in another statement about the same identity: a second address of the same pod, or another pod of the same
    /// name, of which the one that stands better is kept.
    fn absorb(&mut self, other: Self) {
        let better = other.conditions.standing() < self.conditions.standing();
        if self.state_key != other.state_key {
            if better {
                *self = other;
            }
            return;
        }
        let mut addresses = std::mem::take(&mut self.addresses);
        addresses.extend(&other.addresses);
        if better {
            *self = other;
        }
        // IPv4 before IPv6, then numerically: one order at every caller.
        addresses.sort_unstable();
        addresses.dedup();
        self.addresses = addresses;
    }

    fn socket(&self) -> Option<(IpAddr, u16)> {
        Some((*self.addresses.first()?, self.ports.first()?.port.get()))
    }

    fn refuse(self, reason: Reason) -> Option<Refused> {
        let address = *self.addresses.first()?;
        Some(Refused {
            identity: self.identity,
            address,
            node: self.node,
            zone: self.zone,
            reason,
        })
    }
}

/// Of members with the same address and port the one that stands best, then the smallest identity.
fn unique(members: BTreeMap<Identity, Member>, refused: &mut Vec<Refused>) -> Vec<Member> {
    let mut owner: HashMap<(IpAddr, u16), (Standing, Identity)> = HashMap::new();
    for member in members.values() {
        let Some(socket) = member.socket() else {
            continue;
        };
        let rank = (member.conditions.standing(), member.identity.clone());
        let best = owner.entry(socket).or_insert_with(|| rank.clone());
        if rank < *best {
            *best = rank;
        }
    }
    let mut unique = Vec::with_capacity(members.len());
    for member in members.into_values() {
        let owns = member
            .socket()
            .is_none_or(|socket| owner[&socket].1 == member.identity);
        if owns && unique.len() < Ring::MEMBERS_MAX {
            unique.push(member);
        } else {
            refused.extend(member.refuse(if owns {
                Reason::OverLimit
            } else {
                Reason::Duplicate
            }));
        }
    }
    unique
}

fn build_tiers(
    context: &BuildContext<'_>,
    members: Vec<Member>,
    previous: Option<&Arc<ServiceView>>,
    refused: &mut Vec<Refused>,
) -> Vec<Tier> {
    let is_own = |member: &Member| member.zone.as_ref() == Some(context.zone);
    let before = |tier: usize| previous.and_then(|view| view.tiers.get(tier));
    match context.policy {
        ZonePolicy::Any => vec![build_tier(
            context,
            members,
            before(0),
            Some(Reason::PolicyAny),
        )],
        policy => {
            let (own, others): (Vec<_>, Vec<_>) = members.into_iter().partition(is_own);
            let own = build_tier(context, own, before(0), None);
            if policy == ZonePolicy::Strict {
                refused.extend(
                    others
                        .into_iter()
                        .filter_map(|m| m.refuse(Reason::OtherZone)),
                );
                return vec![own];
            }
            let open = own.usable == 0;
            let reason = if open {
                Reason::SpilledIn
            } else {
                Reason::OtherZone
            };
            let others = build_tier(context, others, before(1), Some(reason));
            vec![own, others]
        }
    }
}

/// The tier of the members, with what is unchanged taken from the tier before: endpoints, counters, the ring.
fn build_tier(
    context: &BuildContext<'_>,
    members: Vec<Member>,
    before: Option<&Tier>,
    foreign: Option<Reason>,
) -> Tier {
    let any_ready = members
        .iter()
        .any(|m| m.conditions.standing() == Standing::Ready);
    let old = before.map_or(&[][..], Tier::members);
    let members: Box<[Arc<Endpoint>]> = members
        .into_iter()
        .map(|member| {
            let is_own = member.zone.as_ref() == Some(context.zone);
            let reason = match foreign {
                Some(Reason::OtherZone) => Reason::OtherZone,
                foreign => reason(member.conditions, any_ready, foreign.filter(|_| !is_own)),
            };
            endpoint(member, !is_own, reason, old)
        })
        .collect();
    let identities = |members: &[Arc<Endpoint>]| -> Vec<Identity> {
        members
            .iter()
            .map(|endpoint| endpoint.identity.clone())
            .collect()
    };
    let (was, is) = (identities(old), identities(&members));
    let ring = match before {
        Some(tier) if was == is => tier.ring.clone(),
        Some(tier) => Arc::new(tier.ring.rebuild(&was, &is)),
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

fn reason(conditions: Conditions, any_ready: bool, foreign: Option<Reason>) -> Reason {
    match conditions.standing() {
        Standing::Ready => foreign.unwrap_or(Reason::OwnZone),
        Standing::ServingTerminating if !any_ready => Reason::LastServing,
        _ if conditions.terminating => Reason::Terminating,
        _ => Reason::NotReady,
    }
}

/// The endpoint of the member; the old one when nothing differs, else a new one with the old counters.
fn endpoint(
    member: Member,
    is_foreign: bool,
    reason: Reason,
    old: &[Arc<Endpoint>],
) -> Arc<Endpoint> {
    let before = old
        .binary_search_by(|endpoint| endpoint.identity.cmp(&member.identity))
        .ok()
        .map(|at| &old[at])
        .filter(|endpoint| endpoint.state_key == member.state_key);
    let endpoint = Endpoint {
        identity: member.identity,
        state_key: member.state_key,
        addresses: member.addresses.into(),
        ports: member.ports,
        node: member.node,
        zone: member.zone,
        is_foreign,
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

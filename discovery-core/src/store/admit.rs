// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which endpoints of a service's slices become members: joined with their nodes, refused with a reason, or simply far.
//!
//! In: slices and what is near. Out: members and refusals, and which endpoints are not far, so that the next build looks at
//! those alone. Pure.

use super::{
    EndpointPort, Refused,
    build::BuildContext,
    far::{FarPods, Sifted},
    member::{Member, Members},
    near::Located,
    packed::{EndpointRef, PackedSlice},
    refusals::Refusals,
};
use crate::model::{Identity, NodeName, Reason, StateKey, Unlocated, ZonePolicy};
use std::{cell::OnceCell, net::SocketAddr, sync::Arc};

/// One member per pod that the policy lets in, however many slices and address families name it; and which endpoints are
/// not simply far.
pub(super) fn sift(
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
pub(super) fn admit_sifted(
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

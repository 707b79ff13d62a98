// SPDX-License-Identifier: MIT OR Apache-2.0
//! The view of one service from its slices: let in or refuse (`admit`), merge, rank (`levels`), tier (`tiers`). Pure, and
//! independent of the order of events.

use super::{
    Load, Refused, ServiceView, Tier,
    admit::{admit_sifted, sift},
    far::Sifted,
    levels::levels,
    member::Member,
    near::Near,
    packed::PackedSlice,
    places::Names,
    refusals::Refusals,
    tiers::TierBuilder,
};
use crate::model::{AddressRules, Balancing, Reason, Service, ServiceName, Unlocated, ZonePolicy};
use std::{collections::HashSet, sync::Arc};

/// What the build of a service needs beside its slices.
pub(super) struct BuildContext<'s> {
    pub(super) near: Near<'s>,
    pub(super) names: &'s Names,
    pub(super) policy: ZonePolicy,
    pub(super) addresses: &'s AddressRules,
    pub(super) unlocated: &'s Unlocated,
    /// Whether somebody picks by key.
    pub(super) is_wanted: bool,
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
        is_wanted: context.is_wanted,
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

fn refused(member: Member, reason: Reason) -> Refused {
    Refused {
        address: member.addresses[0],
        identity: member.identity,
        node: member.node,
        zone: member.zone,
        reason,
    }
}

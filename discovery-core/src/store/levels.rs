// SPDX-License-Identifier: MIT OR Apache-2.0
//! The preference levels of a view: the policy, and under `prefer` what the Service and the control plane wish.
//!
//! Wishes order and never isolate: `strict` and `any` do not look at them.

use super::{member::Member, near::Near};
use crate::model::{
    NodeName, Reason, Service, Standing, TopologyMode, TrafficDistribution, Zone, ZonePolicy,
};

/// One preference level: who is on it, and why they are in while it serves, and out while a better one does.
pub(super) struct Level {
    pub(super) members: Vec<Member>,
    /// Why its members are in; none where each has its own reason.
    pub(super) within: Option<Reason>,
    /// Why they are out while a better level serves.
    pub(super) outranked: Reason,
    /// Whether terminating endpoints wait until the next level, too, has nothing ready: the two share a scope.
    pub(super) shares_scope: bool,
}

/// The levels of the policy, the first to be tried first.
pub(super) fn levels(
    near: &Near<'_>,
    policy: ZonePolicy,
    spec: Option<&Service>,
    members: Vec<Member>,
) -> Vec<Level> {
    let level = |members, within, outranked| Level {
        members,
        within,
        outranked,
        shares_scope: false,
    };
    match policy {
        ZonePolicy::Strict => vec![level(members, None, near.far_reason())],
        ZonePolicy::Any => vec![level(members, Some(Reason::PolicyAny), Reason::OtherZone)],
        ZonePolicy::Prefer => {
            let preference = preference(near, spec, &members);
            let far_reason = near.far_reason();
            let (near, far): (Vec<_>, Vec<_>) =
                members.into_iter().partition(|member| member.is_near);
            let far = level(far, Some(Reason::SpilledIn), far_reason);
            let near = level(near, None, Reason::LessPreferred);
            match preference {
                None => vec![near, far],
                Some(preference) => preference.split(near, far),
            }
        }
    }
}

/// Which members come before all others.
enum Preference {
    /// Those whose hints name our node.
    NodeHints(NodeName),
    /// Those whose hints name our zone.
    ZoneHints(Zone),
    /// Those on our node, as the Service asks without the help of hints.
    OwnNode,
}

/// The preference in force; none where the zone alone decides.
///
/// The rule for hints is kube-proxy's (pkg/proxy/topology.go): hints for nodes count when every ready endpoint has some and
/// one of them names our node; else hints for zones likewise; else none.
fn preference(near: &Near<'_>, spec: Option<&Service>, members: &[Member]) -> Option<Preference> {
    let wants_hints = spec.is_none_or(|spec| spec.topology_mode != Some(TopologyMode::Disabled));
    let hinted = wants_hints.then(|| by_hints(near, members)).flatten();
    hinted.or_else(|| {
        let wish = spec?.traffic_distribution?;
        (wish == TrafficDistribution::SameNode).then_some(Preference::OwnNode)
    })
}

fn by_hints(near: &Near<'_>, members: &[Member]) -> Option<Preference> {
    let counts = |has: &dyn Fn(&Member) -> bool, names_us: &dyn Fn(&Member) -> bool| {
        let mut ready = members
            .iter()
            .filter(|member| member.standing() == Standing::Ready)
            .peekable();
        let mut named = false;
        ready.peek().is_some()
            && ready.all(|member| {
                named |= names_us(member);
                has(member)
            })
            && named
    };
    let node = Preference::NodeHints(near.own_node().clone());
    let has_nodes = |m: &Member| {
        m.hints
            .as_ref()
            .is_some_and(|hints| !hints.nodes.is_empty())
    };
    if counts(&has_nodes, &|member| node.names(member)) {
        return Some(node);
    }
    let zone = Preference::ZoneHints(near.own_standard_zone()?.clone());
    let has_zones = |m: &Member| {
        m.hints
            .as_ref()
            .is_some_and(|hints| !hints.zones.is_empty())
    };
    counts(&has_zones, &|member| zone.names(member)).then_some(zone)
}

impl Preference {
    fn names(&self, member: &Member) -> bool {
        let hints = member.hints.as_ref();
        match self {
            Self::NodeHints(own) => hints.is_some_and(|hints| hints.nodes.contains(own)),
            Self::ZoneHints(own) => hints.is_some_and(|hints| hints.zones.contains(own)),
            Self::OwnNode => member.is_own_node,
        }
    }

    /// The levels with the preferred members before all others.
    fn split(&self, mut near: Level, mut far: Level) -> Vec<Level> {
        let mut preferred = Vec::new();
        for level in [&mut near, &mut far] {
            let (named, others) = std::mem::take(&mut level.members)
                .into_iter()
                .partition(|member| self.names(member));
            let named: Vec<Member> = named;
            preferred.extend(named);
            level.members = others;
        }
        preferred.sort_by(|a, b| a.identity.cmp(&b.identity));
        let within = match self {
            Self::OwnNode => Reason::OwnNode,
            Self::NodeHints(_) | Self::ZoneHints(_) => Reason::Hinted,
        };
        let preferred = Level {
            members: preferred,
            within: Some(within),
            outranked: Reason::LessPreferred,
            shares_scope: true,
        };
        vec![preferred, near, far]
    }
}

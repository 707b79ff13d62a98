// SPDX-License-Identifier: MIT OR Apache-2.0
//! One service as callers see it: its endpoints by tier, where keys belong in each tier, and why each endpoint is in or out.
//!
//! A view is immutable; only the counters behind [`Load`] move, and they outlive the view, so that a rebuild keeps them.

use super::{Load, PickCounts, ServiceLoad, Tier};
use crate::{
    hash::{HashKey, TIER_SALT},
    model::{
        Balancing, Identity, LoadFactor, NodeName, Protocol, Reason, Service, ServiceName,
        Standing, StateKey, Weight, Zone, ZonePolicy,
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::{Arc, LazyLock},
};

/// One port of an endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointPort {
    /// The name of the service's port; may be empty.
    pub name: Arc<str>,
    /// Its transport.
    pub protocol: Protocol,
    /// The number on which this endpoint listens.
    pub port: NonZeroU16,
}

/// One endpoint of a service: a pod with its addresses, ports, locality and the verdict on it.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) identity: Identity,
    pub(super) state_key: StateKey,
    pub(super) addresses: Box<[IpAddr]>,
    pub(super) ports: Arc<[EndpointPort]>,
    pub(super) node: Option<NodeName>,
    pub(super) zone: Option<Zone>,
    pub(super) is_foreign: bool,
    pub(super) reason: Reason,
    pub(super) weight: Weight,
    /// The hash of its identity.
    pub(super) hash: u64,
    /// Its first address with its first port: what most picks ask for, beside the counters' address.
    pub(super) first: Option<SocketAddr>,
    pub(super) standing: Standing,
    pub(super) load: Arc<Load>,
    pub(super) service: Arc<ServiceLoad>,
}

impl Endpoint {
    /// What places it on the ring.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What tells it from another pod of the same name: what is counted about it hangs on this.
    pub fn state_key(&self) -> &StateKey {
        &self.state_key
    }

    /// Its addresses, one per family, IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its ports in the order of the slice; empty for a headless service without ports.
    pub fn ports(&self) -> &[EndpointPort] {
        &self.ports
    }

    /// The first address with the port of the given name, or with the first port when no name is given.
    ///
    /// No allocation; linear in the number of ports, which is one or two.
    #[inline]
    pub fn socket(&self, port: Option<&str>) -> Option<SocketAddr> {
        let Some(name) = port else {
            return self.first;
        };
        let port = self.ports.iter().find(|port| &*port.name == name)?;
        Some(SocketAddr::new(*self.addresses.first()?, port.port.get()))
    }

    /// The node that hosts it.
    pub fn node(&self) -> Option<&NodeName> {
        self.node.as_ref()
    }

    /// The zone of that node, when it is known.
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.as_ref()
    }

    /// Whether it is not near: of another zone, or of another node where the service asks for its own.
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Why it is in or out.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// How much of the traffic it takes.
    #[inline]
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// The XXH3-64 of its identity.
    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// What this process counts about its service.
    pub(crate) fn service_load(&self) -> &Arc<ServiceLoad> {
        &self.service
    }

    /// What the control plane says of it, whether or not its tier serves.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether it may be picked.
    #[inline]
    pub fn is_usable(&self) -> bool {
        self.reason.is_in()
    }

    /// What this process counts about it; shared with its earlier and later generations.
    #[inline]
    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// Whether nothing that a caller sees differs; the counters are not looked at.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.identity == other.identity
            && self.state_key == other.state_key
            && self.addresses == other.addresses
            && self.ports == other.ports
            && self.node == other.node
            && self.zone == other.zone
            && self.is_foreign == other.is_foreign
            && self.reason == other.reason
            && self.weight == other.weight
            && self.standing == other.standing
    }
}

/// An endpoint that is no member of any tier, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// The pod's name or the address.
    pub identity: Identity,
    /// The address as the source stated it.
    pub address: IpAddr,
    /// Its node.
    pub node: Option<NodeName>,
    /// The zone of that node, when it is known.
    pub zone: Option<Zone>,
    /// Why it is out.
    pub reason: Reason,
}

/// One service as callers see it.
#[derive(Debug)]
pub struct ServiceView {
    pub(super) name: ServiceName,
    pub(super) spec: Option<Arc<Service>>,
    pub(super) policy: ZonePolicy,
    pub(super) tiers: Box<[Tier]>,
    /// The share of keys, of 2⁶⁴, that go to the last tier although an earlier one serves.
    pub(super) spill: u64,
    pub(super) refused: Box<[Refused]>,
    pub(super) out: Box<[(Reason, usize)]>,
    pub(super) load: Arc<ServiceLoad>,
}

impl ServiceView {
    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// The Service object, when one was read; slices can be there before it, or without it.
    pub fn spec(&self) -> Option<&Arc<Service>> {
        self.spec.as_ref()
    }

    /// The zone policy in force.
    pub fn policy(&self) -> ZonePolicy {
        self.policy
    }

    /// The preference levels, the first to be tried first: `strict` has one of what is near, `prefer` that and one of the
    /// others, before them one of what the Service or the control plane prefers, where they do; `any` has one of all.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The tier that serves: the first with a usable member.
    ///
    /// Constant time: a view has at most three tiers.
    #[inline]
    pub fn serving_tier(&self) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.usable() > 0)
    }

    /// The tier that serves the key: while the own zone has too little left, a share of the keys goes to the last tier, the
    /// same keys at every caller that sees the same.
    #[inline]
    pub fn tier_of(&self, key: HashKey) -> Option<&Tier> {
        if self.spill == 0 || !key.is_within(self.spill, TIER_SALT, 0) {
            return self.serving_tier();
        }
        self.tiers.last()
    }

    /// The share of keys that spills into the last tier although an earlier one serves, between 0 and 1.
    #[expect(clippy::cast_precision_loss, reason = "a share is shown to people")]
    pub fn spilled_share(&self) -> f64 {
        self.spill as f64 / 2_f64.powi(64)
    }

    /// How its endpoints are to be picked; what nobody asks for without a Service object.
    #[inline]
    pub fn balancing(&self) -> &Balancing {
        static UNASKED: LazyLock<Balancing> = LazyLock::new(Balancing::default);
        self.spec
            .as_ref()
            .map_or_else(|| &*UNASKED, |spec| &spec.balancing)
    }

    /// The bound on load that the service asks for.
    #[inline]
    pub fn load_factor(&self) -> Option<LoadFactor> {
        self.balancing().load_factor
    }

    /// The placement that the service asks for, where this version does not know it: no key belongs anywhere then.
    pub fn unknown_placement(&self) -> Option<&str> {
        let wish = &self.balancing().placement;
        wish.known().is_none().then(|| wish.as_str())
    }

    /// The endpoints that may be picked now.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.serving_tier().into_iter().flat_map(Tier::ready)
    }

    /// Endpoints outside every tier, with the reason: at most 32 of each, so that a view of a small zone in a big cluster
    /// stays small. [`ServiceView::out`] counts all.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// How many endpoints are outside every tier, by reason.
    pub fn out(&self) -> &[(Reason, usize)] {
        &self.out
    }

    /// What this process counts about the service; shared by all generations.
    pub fn load(&self) -> &Arc<ServiceLoad> {
        &self.load
    }

    /// The picks of this process so far, by outcome; they survive every change of the view.
    pub fn picks(&self) -> PickCounts {
        let mut counts = self.load.counts();
        for endpoint in self.tiers.iter().flat_map(Tier::members) {
            *if endpoint.is_foreign {
                &mut counts.spill
            } else {
                &mut counts.local
            } += endpoint.load.picks();
        }
        counts
    }

    /// How many endpoints are listed, in or out.
    pub fn listed(&self) -> usize {
        self.tiers
            .iter()
            .map(|tier| tier.members().len())
            .sum::<usize>()
            + self.out.iter().map(|(_, count)| count).sum::<usize>()
    }

    /// Whether callers can tell no difference to the other view.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let same_tier = |(a, b): (&Tier, &Tier)| {
            a.members().len() == b.members().len()
                && a.members()
                    .iter()
                    .zip(b.members())
                    .all(|(a, b)| Arc::ptr_eq(a, b) || a.says_the_same(b))
        };
        self.spec == other.spec
            && self.policy == other.policy
            && self.spill == other.spill
            && self.refused == other.refused
            && self.out == other.out
            && self.tiers.len() == other.tiers.len()
            && self.tiers.iter().zip(&other.tiers).all(same_tier)
    }
}

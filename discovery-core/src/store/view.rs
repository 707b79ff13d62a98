// SPDX-License-Identifier: MIT OR Apache-2.0
//! One service as callers see it: its endpoints by tier, the ring of each tier, and why each endpoint is in or out.
//!
//! A view is immutable; only the counters behind [`Load`] move, and they outlive the view, so that a rebuild keeps them.

use crate::{
    hash::Ring,
    model::{
        Identity, NodeName, Protocol, Reason, Service, ServiceName, Standing, StateKey, Zone,
        ZonePolicy,
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
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
    pub(super) standing: Standing,
    pub(super) load: Arc<Load>,
}

impl Endpoint {
    /// What places it on the ring.
    pub fn identity(&self) -> &Identity {
        &self.identity
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
        let port = match port {
            Some(name) => self.ports.iter().find(|port| &*port.name == name),
            None => self.ports.first(),
        }?;
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
            && self.standing == other.standing
    }
}

/// What one process counts about one endpoint, on a cache line of its own.
///
/// Picks and those under way share one word, so that a pick costs one atomic addition and its end another.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Load {
    /// Picks so far in the upper bits, picks under way in the lower ones.
    counts: AtomicU64,
}

impl Load {
    /// Requests or connections of this process that are under way to the endpoint, at most 16 million.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        u32::try_from(self.counts.load(Relaxed) & IN_FLIGHT_MASK).unwrap_or(u32::MAX)
    }

    /// Picks of the endpoint so far.
    pub fn picks(&self) -> u64 {
        self.counts.load(Relaxed) >> IN_FLIGHT_BITS
    }

    /// Counts one pick, under way.
    #[inline]
    pub(crate) fn enter(&self) {
        self.counts.fetch_add((1 << IN_FLIGHT_BITS) | 1, Relaxed);
    }

    /// Counts one less under way.
    #[inline]
    pub(crate) fn leave(&self) {
        self.counts.fetch_sub(1, Relaxed);
    }
}

const IN_FLIGHT_BITS: u32 = 24;
const IN_FLIGHT_MASK: u64 = (1 << IN_FLIGHT_BITS) - 1;

/// What one process counts about a whole service beside its endpoints.
#[derive(Debug, Default)]
pub struct ServiceLoad {
    /// Picks of endpoints that are gone.
    gone_local: AtomicU64,
    gone_spill: AtomicU64,
    none: AtomicU64,
}

impl ServiceLoad {
    /// Counts a pick that found nobody.
    pub(crate) fn found_none(&self) {
        self.none.fetch_add(1, Relaxed);
    }

    /// Keeps the count of an endpoint that leaves.
    pub(super) fn retire(&self, endpoint: &Endpoint) {
        let gone = if endpoint.is_foreign {
            &self.gone_spill
        } else {
            &self.gone_local
        };
        gone.fetch_add(endpoint.load.picks(), Relaxed);
    }
}

/// How many picks ended how, since the process began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PickCounts {
    /// Picks of an endpoint of our zone.
    pub local: u64,
    /// Picks of an endpoint of another zone, by policy.
    pub spill: u64,
    /// Picks that found no usable endpoint.
    pub none: u64,
}

/// The endpoints of one preference level with their ring.
///
/// Members are all listed endpoints of the level, also those that are not usable now: usability is a skip during the walk,
/// never a reason to move keys.
#[derive(Debug)]
pub struct Tier {
    pub(super) members: Box<[Arc<Endpoint>]>,
    pub(super) ring: Arc<Ring>,
    pub(super) usable: usize,
}

impl Tier {
    /// All members in ascending order of their identity; the ring numbers them so.
    #[inline]
    pub fn members(&self) -> &[Arc<Endpoint>] {
        &self.members
    }

    /// The ring over the members.
    #[inline]
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// How many members may be picked.
    #[inline]
    pub fn usable(&self) -> usize {
        self.usable
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
        self.tiers.iter().find(|tier| tier.usable > 0)
    }

    /// The endpoints that may be picked now.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.serving_tier()
            .into_iter()
            .flat_map(|tier| tier.members.iter().filter(|e| e.is_usable()))
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
        let [local, spill, none] = [
            &self.load.gone_local,
            &self.load.gone_spill,
            &self.load.none,
        ]
        .map(|n| n.load(Relaxed));
        let mut counts = PickCounts { local, spill, none };
        for endpoint in self.tiers.iter().flat_map(|tier| tier.members.iter()) {
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
            .map(|tier| tier.members.len())
            .sum::<usize>()
            + self.out.iter().map(|(_, count)| count).sum::<usize>()
    }

    /// Whether callers can tell no difference to the other view.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let same_tier = |(a, b): (&Tier, &Tier)| {
            a.members.len() == b.members.len()
                && a.members
                    .iter()
                    .zip(&b.members)
                    .all(|(a, b)| Arc::ptr_eq(a, b) || a.says_the_same(b))
        };
        self.spec == other.spec
            && self.policy == other.policy
            && self.refused == other.refused
            && self.out == other.out
            && self.tiers.len() == other.tiers.len()
            && self.tiers.iter().zip(&other.tiers).all(same_tier)
    }
}

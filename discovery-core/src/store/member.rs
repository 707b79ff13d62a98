// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pods on their way to become endpoints: many statements about one pod are merged, two pods at one socket told apart.
//! Pure, and independent of the order of events.
//!
//! Consumers of slices must expect a pod in two slices for a moment, or in none (kubernetes/kubernetes#121231). Of two
//! statements the better one holds: near before far, then by what the control plane says of it, then the slice that was
//! written later.

use super::{EndpointPort, near::Located};
use crate::{
    hash::MEMBERS_MAX,
    model::{Conditions, Hints, Identity, NodeName, Protocol, Reason, Standing, StateKey, Zone},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
};

/// A pod that may become an endpoint.
pub(super) struct Member {
    pub(super) identity: Identity,
    pub(super) state_key: StateKey,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Arc<[EndpointPort]>,
    pub(super) node: Option<NodeName>,
    pub(super) zone: Option<Zone>,
    pub(super) is_near: bool,
    pub(super) is_own_node: bool,
    /// Why it is in when it is near and stands well.
    pub(super) within: Reason,
    pub(super) conditions: Conditions,
    pub(super) hints: Option<Arc<Hints>>,
    pub(super) version: u64,
}

/// The lower, the better.
type Rank = (bool, Standing, Reverse<u64>);

impl Member {
    /// Where it stands, from what is known of its place.
    pub(super) fn located(mut self, located: Located<'_>) -> Self {
        self.zone = located.zone.cloned();
        self.is_near = located.is_near;
        self.is_own_node = located.is_own_node;
        self.within = located.within;
        self
    }

    pub(super) fn standing(&self) -> Standing {
        self.conditions.standing()
    }

    fn rank(&self) -> Rank {
        (!self.is_near, self.standing(), Reverse(self.version))
    }

    /// Adds the addresses and ports of a worse statement about the same pod.
    fn absorb(&mut self, worse: &Self) {
        self.addresses.extend(&worse.addresses);
        // IPv4 before IPv6, then numerically: one order at every caller.
        self.addresses.sort_unstable();
        self.addresses.dedup();
        self.add_ports(&worse.ports);
    }

    /// Adds the ports that only the other statement knows.
    fn add_ports(&mut self, others: &Arc<[EndpointPort]>) {
        let is_new = |port: &&EndpointPort| {
            !self
                .ports
                .iter()
                .any(|known| known.name == port.name && known.protocol == port.protocol)
        };
        let new: Vec<_> = others.iter().filter(is_new).cloned().collect();
        if !new.is_empty() {
            self.ports = self.ports.iter().cloned().chain(new).collect();
        }
    }

    /// Every socket that it listens on; its bare addresses when it has no ports.
    fn sockets(&self) -> impl Iterator<Item = Socket> + '_ {
        let ports = self
            .ports
            .iter()
            .map(|port| Some((port.protocol, port.port.get())));
        let bare = self.ports.is_empty().then_some(None);
        let ports: Vec<_> = ports.chain(bare).collect();
        self.addresses
            .iter()
            .flat_map(move |address| ports.clone().into_iter().map(|port| (*address, port)))
    }
}

type Socket = (IpAddr, Option<(Protocol, u16)>);

/// Members by identity, with every further statement about them; hardly any has one.
#[derive(Default)]
pub(super) struct Members {
    first: BTreeMap<Identity, Member>,
    more: BTreeMap<Identity, Vec<Member>>,
}

impl Members {
    pub(super) fn add(&mut self, member: Member) {
        match self.first.entry(member.identity.clone()) {
            Entry::Vacant(place) => drop(place.insert(member)),
            Entry::Occupied(_) => {
                let more = self.more.entry(member.identity.clone());
                more.or_default().push(member);
            }
        }
    }

    /// One member per identity: the best statement, with the addresses and ports of others about the same pod. Another pod
    /// of the same name is left out.
    fn merge(self) -> BTreeMap<Identity, Member> {
        let mut members = self.first;
        for (identity, mut statements) in self.more {
            let Some(first) = members.remove(&identity) else {
                continue;
            };
            statements.insert(0, first);
            statements.sort_by_key(Member::rank);
            let mut statements = statements.into_iter();
            let Some(mut best) = statements.next() else {
                continue;
            };
            for worse in statements {
                if worse.state_key == best.state_key {
                    best.absorb(&worse);
                }
            }
            members.insert(identity, best);
        }
        members
    }

    /// The members in the order of their identity, without those that share a socket with a better one: then the smaller
    /// identity is the better one. `refuse` is told of those that are out.
    pub(super) fn unique(self, mut refuse: impl FnMut(Reason, Member)) -> Vec<Member> {
        let members = self.merge();
        let mut order: Vec<&Member> = members.values().collect();
        order.sort_by_key(|member| member.rank());
        let mut taken: HashSet<Socket> = HashSet::with_capacity(order.len());
        let mut doubles: HashSet<Identity> = HashSet::new();
        for member in order {
            if member.sockets().any(|socket| taken.contains(&socket)) {
                doubles.insert(member.identity.clone());
            } else {
                taken.extend(member.sockets());
            }
        }
        let mut unique = Vec::with_capacity(members.len());
        for member in members.into_values() {
            if doubles.contains(&member.identity) {
                refuse(Reason::Duplicate, member);
            } else if unique.len() == MEMBERS_MAX {
                refuse(Reason::OverLimit, member);
            } else {
                unique.push(member);
            }
        }
        unique
    }
}

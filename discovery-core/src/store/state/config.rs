// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the state is told once, before the first update: who we are, which lists to expect, and how to judge.

use crate::{
    model::{AddressRules, NodeName, Unlocated, Zone, ZoneKeys, ZonePolicy},
    store::{HoldRule, Kind, MergeRules, SourceId},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the state has to know before the first update.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateConfig {
    pub(super) node: NodeName,
    pub(super) zone: Option<Zone>,
    pub(super) pod_zone: Option<Zone>,
    pub(super) zone_keys: ZoneKeys,
    pub(super) unlocated: Unlocated,
    pub(super) policy: ZonePolicy,
    pub(super) addresses: AddressRules,
    pub(super) holds: HoldRule,
    #[serde(default)]
    pub(super) grace: Duration,
    pub(super) lists: Vec<(SourceId, Kind)>,
    pub(super) merge: MergeRules,
}

impl StateConfig {
    /// The configuration of the node with the given name: zone by its label, policy `strict`, no loopback endpoints.
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            zone: None,
            pod_zone: None,
            zone_keys: ZoneKeys::default(),
            unlocated: Unlocated::default(),
            policy: ZonePolicy::default(),
            addresses: AddressRules::default(),
            holds: HoldRule::default(),
            grace: Duration::ZERO,
            lists: Vec::new(),
            merge: MergeRules::default(),
        }
    }

    /// The zone by configuration instead of by label.
    #[must_use]
    pub fn zone(mut self, zone: Option<Zone>) -> Self {
        self.zone = zone;
        self
    }

    /// The zone that the label `topology.kubernetes.io/zone` of our own pod names, which Kubernetes copies from the node
    /// when it binds the pod (1.35 and newer). It counts where the zone is first looked for under that key, goes before the
    /// own node, and does not follow it: after a node has moved its pods have to be made anew.
    #[must_use]
    pub fn pod_zone(mut self, zone: Option<Zone>) -> Self {
        self.pod_zone = zone;
        self
    }

    /// What becomes of endpoints that are on no node.
    #[must_use]
    pub fn unlocated(mut self, policy: Unlocated) -> Self {
        self.unlocated = policy;
        self
    }

    /// The labels that name the zone; sources read them, and services may name others.
    #[must_use]
    pub fn zone_keys(mut self, keys: ZoneKeys) -> Self {
        self.zone_keys = keys;
        self
    }

    /// The policy of services that ask for none.
    #[must_use]
    pub fn policy(mut self, policy: ZonePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Which addresses endpoints may have.
    #[must_use]
    pub fn addresses(mut self, rules: AddressRules) -> Self {
        self.addresses = rules;
        self
    }

    /// How long what a source loses in mass stays in force; zero switches a hold off.
    #[must_use]
    pub fn holds(mut self, rule: HoldRule) -> Self {
        self.holds = rule;
        self
    }

    /// How long an endpoint of Kubernetes stays that left its slice while it was ready and is in no other slice of its
    /// service: the control plane may be moving it. Zero, the default, means not at all; a pod that was deleted by force is
    /// picked for as long. It ends at once when a slice says anything of the pod or its address, when the pod's node or its
    /// Service is gone, and it does not begin where the control plane does not say `terminating` of pods
    /// ([`Slice::announces_end`](crate::model::Slice)). At most 2,000 endpoints wait at once.
    #[must_use]
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// The lists that have to be read before anything is served, of every source that is configured. By default each kind
    /// by any source.
    #[must_use]
    pub fn lists(mut self, lists: impl IntoIterator<Item = (SourceId, Kind)>) -> Self {
        self.lists = lists.into_iter().collect();
        self
    }

    /// What is done where several sources state one service.
    #[must_use]
    pub fn merge(mut self, rules: MergeRules) -> Self {
        self.merge = rules;
        self
    }
}

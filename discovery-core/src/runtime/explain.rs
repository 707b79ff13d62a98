// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why each endpoint of a service is in or out, and where a key would go: what `zonal explain` and the page show.
//!
//! In: a snapshot, a service, perhaps a key. Out: plain data with a JSON form. It only looks: see [`walk`].

use crate::{
    clock,
    hash::HashKey,
    model::ServiceName,
    pick::{Forgiven, PassedOver, Step, left_out, walk},
    store::{Endpoint, ServiceView, Snapshot},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// One service explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// `namespace/name`.
    pub service: String,
    /// The zone policy in force.
    pub policy: String,
    /// Our zone; none while it is unknown.
    pub zone: Option<String>,
    /// The number of the snapshot that was looked at.
    pub generation: u64,
    /// The listed endpoints; of those that are out for the same reason at most 32.
    pub endpoints: Vec<ExplainedEndpoint>,
    /// How many more are out, by reason.
    #[serde(default)]
    pub more: BTreeMap<String, usize>,
    /// What is near for the service, where it asks for something else than the zone: `kubernetes.io/hostname or site`.
    #[serde(default)]
    pub scope: Option<String>,
    /// Whether zones are those that slices state, because nodes may not be read.
    #[serde(default)]
    pub is_degraded: bool,
    /// For a key: the endpoints in the order in which they would be tried, the one that takes it first; at most 64.
    pub order: Option<Vec<String>>,
    /// For a key: the members that its walk comes by, the owner by membership first; at most 64.
    #[serde(default)]
    pub walk: Vec<ExplainedStep>,
    /// How many more it comes by.
    #[serde(default)]
    pub walk_more: usize,
    /// For a key: what is ignored since nobody else is left. `ramping`: that endpoints are new; `all`: ejections and failed
    /// checks as well.
    #[serde(default)]
    pub forgiven: Option<String>,
}

/// One step of the walk of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedStep {
    /// The pod's name, or its address.
    pub identity: String,
    /// The preference level of the endpoint, from 1.
    pub tier: usize,
    /// Why it is passed over: `not-ready` and the other reasons why endpoints are out, `ejected`, `check-failed`,
    /// `ramping`, `over-bound`, `other-tier`. None for who takes the key or would be tried next.
    pub passed_over: Option<String>,
}

/// One endpoint explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedEndpoint {
    /// The pod's name, or its address.
    pub identity: String,
    /// Its address with its first port, or without a port when it has none.
    pub address: String,
    /// The node that hosts it.
    pub node: Option<String>,
    /// The zone of that node.
    pub zone: Option<String>,
    /// Whether it may be picked.
    pub usable: bool,
    /// Why, from the closed list of reasons.
    pub reason: String,
    /// Its share of all keys, 0 to 1, while everybody is usable; 0 outside the serving tier.
    pub share: f64,
    /// What this process has in flight to it.
    pub in_flight: u32,
    /// Why this process passes it over although it may be picked: `ejected`, `check-failed`.
    #[serde(default)]
    pub left_out: Option<String>,
}

/// Explains a service; none when the snapshot does not know it.
pub fn explain(
    snapshot: &Snapshot,
    service: &ServiceName,
    key: Option<&[u8]>,
) -> Option<Explanation> {
    let view = snapshot.service(service)?;
    let walk = key.map(|key| walk(view, HashKey::of(key), None, clock::now()));
    let identity = |endpoint: &Arc<Endpoint>| endpoint.identity().to_string();
    let steps = walk.iter().flat_map(|walk| &walk.steps);
    Some(Explanation {
        service: service.to_string(),
        policy: view.policy().to_string(),
        zone: snapshot.zone().zone().map(ToString::to_string),
        generation: snapshot.generation().0,
        endpoints: endpoints(view),
        more: more(view),
        scope: view
            .spec()
            .and_then(|spec| Some(spec.scope.as_ref()?.to_string())),
        is_degraded: snapshot.is_degraded(),
        order: (walk.as_ref()).map(|walk| walk.order().take(STEPS_MAX).map(identity).collect()),
        walk_more: steps.clone().skip(STEPS_MAX).count(),
        walk: steps.take(STEPS_MAX).map(step).collect(),
        forgiven: walk
            .as_ref()
            .and_then(|walk| walk.forgiven)
            .map(|forgiven| Forgiven::as_str(forgiven).to_owned()),
    })
}

fn step(step: &Step) -> ExplainedStep {
    ExplainedStep {
        identity: step.endpoint.identity().to_string(),
        tier: step.tier + 1,
        passed_over: step
            .passed_over
            .map(|why| PassedOver::as_str(why).to_owned()),
    }
}

fn endpoints(view: &ServiceView) -> Vec<ExplainedEndpoint> {
    let mut endpoints = Vec::with_capacity(view.listed());
    for tier in view.tiers() {
        let serves = view
            .serving_tier()
            .is_some_and(|serving| std::ptr::eq(serving, tier));
        let shares = tier.shares();
        endpoints.extend(
            tier.members()
                .iter()
                .zip(shares)
                .map(|(endpoint, share)| member(endpoint, if serves { share } else { 0.0 })),
        );
    }
    endpoints.extend(view.refused().iter().map(|refused| ExplainedEndpoint {
        identity: refused.identity.to_string(),
        address: refused.address.to_string(),
        node: refused.node.as_ref().map(ToString::to_string),
        zone: refused.zone.as_ref().map(ToString::to_string),
        usable: false,
        reason: refused.reason.to_string(),
        share: 0.0,
        in_flight: 0,
        left_out: None,
    }));
    endpoints
}

/// What is counted and not listed.
fn more(view: &ServiceView) -> BTreeMap<String, usize> {
    let listed = |reason| view.refused().iter().filter(|r| r.reason == reason).count();
    view.out()
        .iter()
        .map(|(reason, count)| (reason.to_string(), count - listed(*reason)))
        .filter(|(_, more)| *more > 0)
        .collect()
}

fn member(endpoint: &Endpoint, share: f64) -> ExplainedEndpoint {
    let bare = || {
        endpoint
            .addresses()
            .first()
            .map_or_else(String::new, ToString::to_string)
    };
    ExplainedEndpoint {
        identity: endpoint.identity().to_string(),
        address: endpoint
            .socket(None)
            .map_or_else(bare, |socket| socket.to_string()),
        node: endpoint.node().map(ToString::to_string),
        zone: endpoint.zone().map(ToString::to_string),
        usable: endpoint.is_usable(),
        reason: endpoint.reason().to_string(),
        share,
        in_flight: endpoint.load().in_flight(),
        left_out: left_out(endpoint).map(|why| why.as_str().to_owned()),
    }
}

/// More than anybody reads; a service may have 65,535.
const STEPS_MAX: usize = 64;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which endpoints a client of a listener may be carried to, and in which order they are tried.
//!
//! In: a view, a client, and which node we are. Out: endpoints with their addresses. Pure but for the random key of a
//! service that wants no affinity. The zone policy has acted already; here acts `externalTrafficPolicy: Local`.

use discovery_core::{
    hash::HashKey,
    model::{Affinity, NodeName, TrafficPolicy},
    pick::candidates,
    store::{Endpoint, ServiceView},
};
use std::{net::SocketAddr, sync::Arc};

/// An endpoint and where to reach it.
pub(crate) type Candidate<'v> = (&'v Arc<Endpoint>, SocketAddr);

/// What decides which endpoints of a view can be reached by a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach<'v> {
    pub(crate) view: &'v ServiceView,
    /// The node that we are.
    pub(crate) node: Option<&'v NodeName>,
    /// The name of the port.
    pub(crate) port_name: &'v str,
}

impl<'v> Reach<'v> {
    /// Whether there is any endpoint.
    pub(crate) fn is_any(self) -> bool {
        self.view
            .usable()
            .any(|endpoint| self.candidate(endpoint).is_some())
    }

    /// The endpoints in the order in which to try them for the client.
    pub(crate) fn order(self, client: SocketAddr) -> impl Iterator<Item = Candidate<'v>> {
        let affinity = self.affinity();
        let key = match affinity {
            Affinity::Source => HashKey::of_source(client.ip()),
            Affinity::SourcePort => HashKey::of_source_port(client),
            Affinity::None => HashKey(fastrand::u64(..)),
        };
        let mut order =
            candidates(self.view, key).filter_map(move |endpoint| self.candidate(endpoint));
        let mut first_two = [order.next(), None];
        if affinity == Affinity::None {
            first_two[1] = order.next();
            if let [Some(one), Some(two)] = first_two
                && two.0.load().in_flight() < one.0.load().in_flight()
            {
                first_two.swap(0, 1);
            }
        }
        first_two.into_iter().flatten().chain(order)
    }

    /// Where the endpoint is reached, when it may be.
    pub(crate) fn address_of(self, endpoint: &'v Arc<Endpoint>) -> Option<SocketAddr> {
        Some(self.candidate(endpoint)?.1)
    }

    fn candidate(self, endpoint: &'v Arc<Endpoint>) -> Option<Candidate<'v>> {
        if self.is_local_only() && (self.node.is_none() || endpoint.node() != self.node) {
            return None;
        }
        Some((endpoint, endpoint.socket(Some(self.port_name))?))
    }

    fn is_local_only(self) -> bool {
        self.view
            .spec()
            .is_some_and(|service| service.front.traffic_policy == TrafficPolicy::Local)
    }

    fn affinity(self) -> Affinity {
        self.view
            .spec()
            .map_or(Affinity::default(), |service| service.front.affinity)
    }
}

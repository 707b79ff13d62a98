// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which endpoints are near for one service: what they share with our own node under the keys of the service. Pure.

use super::{SourceId, places::Place};
use crate::model::{NodeLabels, NodeName, Reason, Scope, ScopeKey, Zone, ZoneKey, ZoneKeys};
use std::collections::BTreeSet;

/// What is known of ourselves.
#[derive(Clone, Copy)]
pub(super) struct Own<'s> {
    /// The name of our node.
    pub(super) node: &'s NodeName,
    /// Our zone under the configured keys.
    pub(super) zone: &'s Zone,
    /// Our zone under any other key.
    pub(super) labels: Option<&'s NodeLabels>,
    /// The configured keys.
    pub(super) keys: &'s ZoneKeys,
    /// The sources whose nodes cannot be read, so that the zones count that their slices state.
    pub(super) stated: &'s BTreeSet<SourceId>,
}

/// The question whether an endpoint is near, for one service.
pub(super) struct Near<'s> {
    own: Own<'s>,
    test: Test<'s>,
}

enum Test<'s> {
    /// The zone under the configured keys.
    Zone,
    /// Any of the labels of the service that our own node carries, or the node itself.
    Any {
        labels: Vec<(&'s ZoneKey, &'s Zone)>,
        node: bool,
        /// The key whose zone is told of endpoints that are not near.
        shown: Option<&'s ZoneKey>,
    },
}

/// Where an endpoint is, seen from us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Located<'s> {
    pub(super) zone: Option<&'s Zone>,
    pub(super) is_near: bool,
    pub(super) is_own_node: bool,
    /// Why it is in, when it is near and stands well.
    pub(super) within: Reason,
}

impl<'s> Own<'s> {
    fn zone_under(&self, key: &ZoneKey) -> Option<&'s Zone> {
        if self.keys.iter().next() == Some(key) {
            return Some(self.zone);
        }
        self.labels?.get(key)
    }
}

impl<'s> Near<'s> {
    pub(super) fn new(own: Own<'s>, scope: Option<&'s Scope>) -> Self {
        let first = own.keys.iter().next();
        let is_configured =
            |scope: &Scope| matches!(scope.keys(), [ScopeKey::Label(key)] if Some(key) == first);
        let test = match scope.filter(|scope| !is_configured(scope)) {
            None => Test::Zone,
            Some(scope) => Test::Any {
                labels: scope
                    .zone_keys()
                    .filter_map(|key| Some((key, own.zone_under(key)?)))
                    .collect(),
                node: scope.keys().contains(&ScopeKey::Node),
                shown: scope.zone_keys().next(),
            },
        };
        Self { own, test }
    }

    /// Locates the endpoint on a node, of which the slice states the given zone.
    pub(super) fn locate(&self, place: &'s Place, stated: Option<&'s Zone>) -> Located<'s> {
        let (known, is_own_node) = (&place.known, place.is_own);
        let stated = stated.filter(|_| known.is_none() && self.own.stated.contains(&place.source));
        let zone_under = |key: &ZoneKey| match known {
            Some(known) => known.labels.get(key),
            None => stated.filter(|_| key.is_standard()),
        };
        let (zone, is_near) = match &self.test {
            Test::Zone => {
                let zone = known.as_ref().and_then(|known| known.zone.as_ref());
                let zone = zone.or(stated);
                (zone, zone == Some(self.own.zone))
            }
            Test::Any {
                labels,
                node: by_node,
                shown,
            } => {
                let shared = labels
                    .iter()
                    .find(|(key, own)| zone_under(key) == Some(*own));
                let zone = match shared {
                    Some((_, own)) => Some(*own),
                    None => shown.and_then(zone_under),
                };
                (zone, shared.is_some() || (*by_node && is_own_node))
            }
        };
        Located {
            zone,
            is_near,
            is_own_node,
            within: match stated {
                Some(_) => Reason::OwnZoneAsStated,
                None if self.is_node_only() => Reason::OwnNode,
                None => Reason::OwnZone,
            },
        }
    }

    /// Locates an endpoint that names no node, in a zone that somebody else tells.
    pub(super) fn locate_in(&self, zone: &'s Zone) -> Located<'s> {
        let is_near = match &self.test {
            Test::Zone => zone == self.own.zone,
            Test::Any { labels, .. } => labels.iter().any(|(_, own)| *own == zone),
        };
        Located {
            zone: Some(zone),
            is_near,
            is_own_node: false,
            within: Reason::OwnZone,
        }
    }

    /// Why an endpoint that is not near is out.
    pub(super) fn far_reason(&self) -> Reason {
        match &self.test {
            Test::Any { labels, node, .. } if labels.is_empty() => {
                if *node && self.is_node_only() {
                    Reason::OtherNode
                } else {
                    Reason::NoOwnZone
                }
            }
            _ => Reason::OtherZone,
        }
    }

    /// Our zone under the key that hints are made for.
    pub(super) fn own_standard_zone(&self) -> Option<&'s Zone> {
        let standard = ZoneKey::parse(ZoneKey::STANDARD).ok()?;
        self.own.zone_under(&standard)
    }

    /// Our own node.
    pub(super) fn own_node(&self) -> &'s NodeName {
        self.own.node
    }

    fn is_node_only(&self) -> bool {
        matches!(
            self.test,
            Test::Any {
                node: true,
                shown: None,
                ..
            }
        )
    }
}

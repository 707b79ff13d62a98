// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our own node: the zone that it tells, and the move into another one, which ends when the nodes of that zone are known.

use super::{Change, State};
use crate::{
    model::{Node, NodeName},
    store::{Kind, SourceId, hold::Holds, places::Whereabouts},
};
use std::time::{Duration, Instant};

/// Our node in another zone than the one that is served.
#[derive(Debug)]
pub(super) struct NextOwn {
    pub(super) source: SourceId,
    pub(super) node: Node,
    /// When the new zone is taken as it is; set by the first tick.
    pub(super) until: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) enum OwnNode {
    #[default]
    Unknown,
    Absent,
    Known(SourceId, Node),
}

impl State {
    pub(super) fn upsert_own_node(&mut self, source: SourceId, node: Node) -> Change {
        if self.is_move(&node) {
            let before = self.next_own.take();
            let news = match &before {
                Some(before) if before.node == node => Change::Nothing,
                _ => Change::Gained,
            };
            self.next_own = Some(NextOwn {
                source,
                node,
                until: before.and_then(|before| before.until),
            });
            return self.arrive().max(news);
        }
        self.next_own = None;
        self.settle(source, node)
    }

    /// Whether the node is ours in another zone than the one that we serve. The view of the new zone is not complete
    /// before its nodes are known, and the old one serves until then.
    fn is_move(&self, node: &Node) -> bool {
        let own = self.known_own_node().and_then(|(_, own)| own.zone.as_ref());
        let zones = own.zip(node.zone.as_ref());
        self.given_zone().is_none()
            && !self.is_degraded()
            && zones.is_some_and(|(old, new)| old != new)
            && SourceId::ALL
                .into_iter()
                .any(|source| self.is_synced(source, Kind::Nodes))
    }

    /// Ends a move when the nodes that are listed include our own in its new zone: then they are those of that zone.
    pub(super) fn arrive(&mut self) -> Change {
        let is_listed = |next: &mut NextOwn| {
            let list = self.lists.get(&(next.source, Kind::Nodes));
            let is_listing = list.is_some_and(|list| list.open.is_some());
            let listed = self.nodes.get(&(next.node.name.clone(), next.source));
            !is_listing && listed.is_some_and(|listed| listed.zone == next.node.zone)
        };
        match self.next_own.take_if(is_listed) {
            Some(next) => self.settle(next.source, next.node),
            None => Change::Nothing,
        }
    }

    /// Ends a move that has waited long enough: the source has no list that our own node is in.
    pub(super) fn tick_move(&mut self, now: Instant) -> Change {
        let is_over = |next: &mut NextOwn| *next.until.get_or_insert(now + MOVE_MAX) <= now;
        match self.next_own.take_if(is_over) {
            Some(next) => self.settle(next.source, next.node),
            None => Change::Nothing,
        }
    }

    fn settle(&mut self, source: SourceId, node: Node) -> Change {
        let zone = self.zone();
        if node.zone.is_some() {
            self.holds.release_zone();
        } else {
            self.hold_zone(source);
        }
        let has_moved = match &self.own_node {
            OwnNode::Known(by, before) => {
                *by != source || Whereabouts::of(before) != Whereabouts::of(&node)
            }
            _ => true,
        };
        self.own_node = OwnNode::Known(source, node);
        if has_moved || self.zone() != zone {
            self.place_own();
            self.touch_everything()
        } else {
            Change::Gained
        }
    }

    /// Enters anew where the node is that the source states; whether that is somewhere else than before.
    pub(super) fn place_again(&mut self, name: &NodeName, source: SourceId) -> bool {
        let own = known_own_node(&self.holds, &self.own_node);
        let node = match own {
            Some((by, own)) if by == source && own.name == *name => Some(own),
            _ => self.nodes.get(&(name.clone(), source)),
        };
        self.names.set_place(name, source, node)
    }

    pub(super) fn place_own(&mut self) {
        let own = self.config.node.clone();
        for source in SourceId::ALL {
            self.place_again(&own, source);
        }
    }
}

/// Our own node as it is, or as it was when its zone is held.
pub(super) fn known_own_node<'s>(
    holds: &'s Holds,
    own: &'s OwnNode,
) -> Option<(SourceId, &'s Node)> {
    let known = match own {
        OwnNode::Known(source, node) => Some((*source, node)),
        _ => None,
    };
    holds.own_node().or(known)
}

/// A list of a zone's nodes takes seconds over the thinnest link; a source that has none of our own node never says.
const MOVE_MAX: Duration = Duration::from_secs(60);

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stays in force for a while although a source states it no longer.
//!
//! A wiped or restored API server says in good order that everything is gone, and a zone label that is lost would empty a
//! whole node. Neither is believed at once: a list that takes most of its kind away is held back, and so is the loss of
//! our own zone, until the source has said it twice, a time has passed, or a person accepts it. What a watch says of a
//! single object is deliberate and never held. Where another cluster answers nothing is lost, because nothing of it is
//! stated: that is held, too, for as long as it takes, and told like the rest. Pure: no I/O, no clock; time comes in by [`Holds::tick`].

use super::{Kind, ObjectKey, SourceId};
use crate::model::Node;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet, btree_map::Entry},
    fmt,
    time::{Duration, Instant},
};

/// How long what is lost in mass stays in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HoldRule {
    /// A list that takes away more than half of its kind, or all of it.
    pub mass_change: Duration,
    /// Our own zone, when the label or the node that told it is gone.
    pub zone: Duration,
}

impl Default for HoldRule {
    /// Ten minutes for both: longer than a control plane takes to be restored, shorter than a shift of whoever is called.
    fn default() -> Self {
        Self {
            mass_change: Duration::from_secs(600),
            zone: Duration::from_secs(600),
        }
    }
}

/// Why a list or the zone is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HoldReason {
    /// The list is empty, and was not before.
    Emptied,
    /// The list lacks more than half of what was known.
    MassRemoval,
    /// The list is older than what was known: the server was restored, or it is another one.
    VersionWentBack,
    /// The label that named our zone, or our node, is gone.
    ZoneLost,
    /// Another cluster answers.
    AnotherCluster,
}

impl HoldReason {
    /// The word for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emptied => "emptied",
            Self::MassRemoval => "mass-removal",
            Self::VersionWentBack => "version-went-back",
            Self::ZoneLost => "zone-lost",
            Self::AnotherCluster => "another-cluster",
        }
    }
}

/// Something that stays in force although its source states it no longer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// The source that states it no longer.
    pub source: SourceId,
    /// What it is.
    pub kind: Kind,
    /// Why it is held.
    pub reason: HoldReason,
    /// How many objects are held.
    pub objects: usize,
    /// How many objects the source still states.
    pub left: usize,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, kind, .. } = self;
        match self.reason {
            HoldReason::ZoneLost => {
                write!(f, "{source} no longer tells our zone; the last one is kept")
            }
            HoldReason::AnotherCluster => write!(
                f,
                "another cluster answers {source}; what ours said last, {} objects, is kept",
                self.objects
            ),
            HoldReason::Emptied => write!(
                f,
                "{source} says that all {} {kind} are gone; they are kept",
                self.objects
            ),
            HoldReason::MassRemoval => write!(
                f,
                "{source} lists {} {kind} and {} fewer than before; these are kept",
                self.left, self.objects
            ),
            HoldReason::VersionWentBack => write!(
                f,
                "{source} lists {kind} of an older version without {} of them; these are kept",
                self.objects
            ),
        }
    }
}

/// What a complete list leaves out.
pub(super) struct Loss {
    pub(super) gone: Vec<ObjectKey>,
    /// Endpoints in what is gone; objects of other kinds count as one.
    pub(super) lost: usize,
    /// The same count over everything that was known.
    pub(super) known: usize,
    /// Objects that the list names.
    pub(super) left: usize,
    /// The list's version is lower than the one known.
    pub(super) went_back: bool,
    /// What was known came from disk: a list that is not empty is better informed.
    pub(super) was_restored: bool,
}

impl Loss {
    fn reason(&self) -> Option<HoldReason> {
        if self.gone.is_empty() {
            None
        } else if self.left == 0 {
            Some(HoldReason::Emptied)
        } else if self.went_back {
            Some(HoldReason::VersionWentBack)
        } else if !self.was_restored && self.lost >= 2 && self.lost * 2 > self.known {
            Some(HoldReason::MassRemoval)
        } else {
            None
        }
    }
}

/// Everything that is held.
#[derive(Debug)]
pub(super) struct Holds {
    rule: HoldRule,
    lists: BTreeMap<(SourceId, Kind), HeldList>,
    zone: Option<HeldZone>,
    /// The sources that another cluster answers, and how many objects of ours are in force.
    clusters: BTreeMap<SourceId, usize>,
    /// The first lists of a cluster that a person has accepted: nothing of ours need be in them.
    accepted: BTreeSet<(SourceId, Kind)>,
}

#[derive(Debug)]
struct HeldList {
    reason: HoldReason,
    keys: HashSet<ObjectKey>,
    left: usize,
    wait: Wait,
    /// From when on a second list with the same loss is believed.
    doubt: Wait,
}

#[derive(Debug)]
struct HeldZone {
    source: SourceId,
    node: Node,
    wait: Wait,
}

impl Holds {
    pub(super) fn new(rule: HoldRule) -> Self {
        Self {
            rule,
            lists: BTreeMap::new(),
            zone: None,
            clusters: BTreeMap::new(),
            accepted: BTreeSet::new(),
        }
    }

    /// Takes the loss of a complete list; what comes back is gone for good, the rest is held.
    pub(super) fn judge(&mut self, source: SourceId, kind: Kind, loss: Loss) -> Vec<ObjectKey> {
        let before = self.lists.remove(&(source, kind));
        if self.accepted.remove(&(source, kind)) {
            return loss.gone;
        }
        let Some(reason) = loss.reason().filter(|_| self.holds_lists_of(source, kind)) else {
            return loss.gone;
        };
        let is_confirmed = before.as_ref().is_some_and(|held| {
            held.doubt.is_over && loss.gone.iter().all(|k| held.keys.contains(k))
        });
        if is_confirmed {
            return loss.gone;
        }
        let (wait, doubt) = before.map_or_else(
            || (Wait::new(self.rule.mass_change), Wait::new(CONFIRM_AFTER)),
            |held| (held.wait, held.doubt),
        );
        let keys = loss.gone.into_iter().collect();
        let held = HeldList {
            reason,
            keys,
            left: loss.left,
            wait,
            doubt,
        };
        self.lists.insert((source, kind), held);
        Vec::new()
    }

    /// A file is written by a person who means it, and our own node is the zone's business.
    fn holds_lists_of(&self, source: SourceId, kind: Kind) -> bool {
        source.is_remote() && kind != Kind::OwnNode && !self.rule.mass_change.is_zero()
    }

    /// The object was stated anew, or is gone by a word about it alone.
    pub(super) fn forget(&mut self, source: SourceId, key: &ObjectKey) {
        if let Entry::Occupied(mut held) = self.lists.entry((source, key.kind())) {
            held.get_mut().keys.remove(key);
            if held.get().keys.is_empty() {
                held.remove();
            }
        }
    }

    /// Keeps our own node as it was before `source` told its zone no longer.
    pub(super) fn hold_zone(&mut self, source: SourceId, node: &Node) {
        if source.is_remote() && !self.rule.zone.is_zero() && node.zone.is_some() {
            self.zone.get_or_insert_with(|| HeldZone {
                source,
                node: node.clone(),
                wait: Wait::new(self.rule.zone),
            });
        }
    }

    /// Tells that another cluster answers, while so many objects of ours are in force.
    pub(super) fn hold_cluster(&mut self, source: SourceId, objects: usize) {
        self.clusters.insert(source, objects);
    }

    /// Ours answers again.
    pub(super) fn release_cluster(&mut self, source: SourceId) {
        self.clusters.remove(&source);
    }

    pub(super) fn release_zone(&mut self) {
        self.zone = None;
    }

    /// Our own node as it was, while its zone is held.
    pub(super) fn node(&self) -> Option<&Node> {
        self.own_node().map(|(_, node)| node)
    }

    /// The same, with the source that stated it.
    pub(super) fn own_node(&self) -> Option<(SourceId, &Node)> {
        self.zone.as_ref().map(|held| (held.source, &held.node))
    }

    /// Gives up what has been held long enough: the objects that are gone now, and whether the zone is.
    pub(super) fn tick(&mut self, now: Instant) -> (Vec<(SourceId, ObjectKey)>, bool) {
        let mut gone = Vec::new();
        self.lists.retain(|(source, _), held| {
            held.doubt.tick(now);
            let is_over = held.wait.tick(now);
            if is_over {
                gone.extend(held.keys.drain().map(|key| (*source, key)));
            }
            !is_over
        });
        let zone_is_gone = self.zone.as_mut().is_some_and(|held| held.wait.tick(now));
        if zone_is_gone {
            self.zone = None;
        }
        (gone, zone_is_gone)
    }

    /// When [`Self::tick`] has something to do next; of waits that were ticked once.
    pub(super) fn due(&self) -> Option<Instant> {
        let lists = self.lists.values().filter_map(|held| held.wait.until);
        let zone = self.zone.as_ref().and_then(|held| held.wait.until);
        lists.chain(zone).min()
    }

    /// A person accepts what the sources say; the objects that are gone now.
    pub(super) fn accept(&mut self) -> Vec<(SourceId, ObjectKey)> {
        self.zone = None;
        for source in std::mem::take(&mut self.clusters).into_keys() {
            self.accepted.extend(Kind::ALL.map(|kind| (source, kind)));
        }
        let lists = std::mem::take(&mut self.lists).into_iter();
        let keys = |((source, _), held): ((SourceId, Kind), HeldList)| {
            held.keys.into_iter().map(move |key| (source, key))
        };
        lists.flat_map(keys).collect()
    }

    /// What is held, for people.
    pub(super) fn report(&self) -> Vec<Held> {
        let lists = self.lists.iter().map(|(&(source, kind), held)| Held {
            source,
            kind,
            reason: held.reason,
            objects: held.keys.len(),
            left: held.left,
        });
        let zone = self.zone.iter().map(|held| Held {
            source: held.source,
            kind: Kind::OwnNode,
            reason: HoldReason::ZoneLost,
            objects: 1,
            left: 0,
        });
        let clusters = self.clusters.iter().map(|(&source, &objects)| Held {
            source,
            kind: Kind::Services,
            reason: HoldReason::AnotherCluster,
            objects,
            left: 0,
        });
        lists.chain(zone).chain(clusters).collect()
    }
}

/// A wait that begins with its first tick.
#[derive(Debug)]
pub(super) struct Wait {
    length: Duration,
    until: Option<Instant>,
    is_over: bool,
}

impl Wait {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length,
            until: None,
            is_over: false,
        }
    }

    /// When it is over; none before its first tick.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn tick(&mut self, now: Instant) -> bool {
        self.is_over |= *self.until.get_or_insert(now + self.length) <= now;
        self.is_over
    }
}

/// A server that was wiped and says so twice at an interval of that length means it.
const CONFIRM_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeName, SliceKey, Zone};

    const KUBE: SourceId = SourceId::Kube;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::Slice(SliceKey::new("default", name).unwrap())
    }

    fn edge() -> Node {
        Node::new(
            NodeName::parse("edge-a").unwrap(),
            Zone::parse("mall-1").ok(),
        )
    }

    fn loss(gone: &[&str], known: usize) -> Loss {
        Loss {
            gone: gone.iter().map(|name| key(name)).collect(),
            lost: gone.len(),
            known,
            left: known - gone.len(),
            went_back: false,
            was_restored: false,
        }
    }

    fn holds() -> Holds {
        Holds::new(HoldRule::default())
    }

    #[test]
    fn more_than_half_of_at_least_two_is_held_and_less_is_believed() {
        for (gone, known, is_held) in [
            (&["a"][..], 3, false),
            (&["a", "b"][..], 4, false),
            (&["a", "b"][..], 3, true),
            (&["a"][..], 1, true),
            (&["a", "b"][..], 2, true),
        ] {
            let believed = holds().judge(KUBE, Kind::Slices, loss(gone, known));
            assert_eq!(believed.is_empty(), is_held, "{gone:?} of {known}");
        }
    }

    #[test]
    fn what_a_person_wrote_into_a_file_is_believed() {
        let mut holds = holds();
        assert_eq!(
            holds
                .judge(SourceId::Manifest, Kind::Slices, loss(&["a", "b"], 2))
                .len(),
            2
        );
        assert_eq!(holds.report(), []);
    }

    #[test]
    fn what_came_from_disk_is_held_against_an_empty_list_only() {
        let restored = |gone: &[&str], known| Loss {
            was_restored: true,
            ..loss(gone, known)
        };
        assert_eq!(
            holds()
                .judge(KUBE, Kind::Slices, restored(&["a", "b"], 3))
                .len(),
            2
        );
        assert_eq!(
            holds()
                .judge(KUBE, Kind::Slices, restored(&["a", "b"], 2))
                .len(),
            0
        );
    }

    #[test]
    fn an_older_list_takes_nothing_away() {
        let older = Loss {
            went_back: true,
            ..loss(&["a"], 10)
        };
        let mut holds = holds();
        assert_eq!(holds.judge(KUBE, Kind::Slices, older), []);
        assert_eq!(holds.report()[0].reason, HoldReason::VersionWentBack);
    }

    #[test]
    fn a_hold_ends_after_its_time() {
        let (mut holds, start) = (holds(), Instant::now());
        holds.judge(KUBE, Kind::Slices, loss(&["a", "b"], 2));
        assert_eq!(holds.tick(start), (vec![], false));
        assert_eq!(holds.due(), Some(start + Duration::from_secs(600)));
        assert_eq!(holds.tick(start + Duration::from_secs(599)).0, []);
        assert_eq!(holds.tick(start + Duration::from_secs(600)).0.len(), 2);
        assert_eq!((holds.due(), holds.report()), (None, vec![]));
    }

    #[test]
    fn a_second_list_is_believed_a_minute_later_and_not_before() {
        let (mut holds, start) = (holds(), Instant::now());
        holds.judge(KUBE, Kind::Slices, loss(&["a", "b"], 2));
        holds.tick(start);
        assert_eq!(holds.judge(KUBE, Kind::Slices, loss(&["a", "b"], 2)), []);
        holds.tick(start + Duration::from_secs(60));
        assert_eq!(
            holds.judge(KUBE, Kind::Slices, loss(&["a", "b"], 2)).len(),
            2
        );
    }

    #[test]
    fn an_object_that_comes_back_is_held_no_longer() {
        let mut holds = holds();
        holds.judge(KUBE, Kind::Slices, loss(&["a", "b"], 2));
        holds.forget(KUBE, &key("a"));
        assert_eq!(holds.report()[0].objects, 1);
        holds.forget(KUBE, &key("b"));
        assert_eq!(holds.report(), []);
    }

    #[test]
    fn the_first_lists_of_a_cluster_that_was_accepted_are_believed() {
        let mut holds = holds();
        holds.hold_cluster(KUBE, 3);
        assert_eq!(holds.report()[0].reason, HoldReason::AnotherCluster);
        assert_eq!(holds.accept(), []);
        assert_eq!(holds.report(), []);
        let all = || loss(&["a", "b"], 2);
        assert_eq!(holds.judge(KUBE, Kind::Slices, all()).len(), 2);
        assert_eq!(holds.judge(KUBE, Kind::Slices, all()), [], "once");
        let mut came_back = self::holds();
        came_back.hold_cluster(KUBE, 3);
        came_back.release_cluster(KUBE);
        came_back.accept();
        assert_eq!(came_back.judge(KUBE, Kind::Slices, all()), []);
    }

    #[test]
    fn a_person_may_accept_at_once() {
        let mut holds = holds();
        holds.judge(KUBE, Kind::Slices, loss(&["a", "b"], 2));
        holds.hold_zone(KUBE, &edge());
        assert_eq!(holds.accept().len(), 2);
        assert_eq!(holds.report(), []);
    }

    #[test]
    fn a_zone_is_held_for_its_time() {
        let (mut holds, start) = (holds(), Instant::now());
        holds.hold_zone(KUBE, &edge());
        assert_eq!(holds.tick(start), (vec![], false));
        assert_eq!(holds.node(), Some(&edge()));
        assert_eq!(holds.tick(start + Duration::from_secs(600)), (vec![], true));
        assert_eq!(holds.node(), None);
    }
}

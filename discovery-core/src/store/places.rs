// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names by small numbers: the nodes that endpoints are on, with what is known of them, the zones that slices state, and
//! the hints, of which a cluster has about as many as zones.
//!
//! An endpoint of a big cluster costs four bytes for its node instead of a text, and the question whether it is near is one
//! look into a vector. Names that nothing refers to any more are let go by a sweep.

use super::{SourceId, packed::PackedSlice};
use crate::{
    hash::TableHashing,
    model::{Hints, Node, NodeLabels, NodeName, Zone},
};
use std::{collections::HashMap, hash::Hash, num::NonZeroU32, sync::Arc};

/// The number of a name.
pub(super) type Number = NonZeroU32;

/// Values by key and by number. Numbers of values that were let go are given again.
#[derive(Debug)]
struct Numbered<K, V> {
    numbers: HashMap<K, Number, TableHashing>,
    slots: Vec<Option<V>>,
    free: Vec<Number>,
}

impl<K, V> Default for Numbered<K, V> {
    fn default() -> Self {
        Self {
            numbers: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V> Numbered<K, V> {
    /// The number of the key, which is entered with a value when it is new. Costs a look-up.
    fn enter(&mut self, key: &K, value: impl FnOnce() -> V) -> Number {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            let count = u32::try_from(self.slots.len()).ok();
            count
                .and_then(Number::new)
                .expect("names of 2^32 nodes do not fit into memory")
        });
        self.slots[index(number)] = Some(value());
        self.numbers.insert(key.clone(), number);
        number
    }

    fn get(&self, number: Number) -> Option<&V> {
        self.slots.get(index(number))?.as_ref()
    }

    fn get_mut(&mut self, number: Number) -> Option<&mut V> {
        self.slots.get_mut(index(number))?.as_mut()
    }

    /// Lets go of the values for which `is_kept` says no.
    fn retain(&mut self, is_kept: impl Fn(Number, &V) -> bool) {
        let (slots, free) = (&mut self.slots, &mut self.free);
        self.numbers.retain(|_, number| {
            let slot = &mut slots[index(*number)];
            let keep = slot.as_ref().is_some_and(|value| is_kept(*number, value));
            if !keep {
                *slot = None;
                free.push(*number);
            }
            keep
        });
    }
}

fn index(number: Number) -> usize {
    number.get() as usize - 1
}

/// What is known of where a node is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Whereabouts {
    /// Its zone under the configured keys.
    pub(super) zone: Option<Zone>,
    /// Its zone under any key.
    pub(super) labels: NodeLabels,
}

impl Whereabouts {
    pub(super) fn of(node: &Node) -> Self {
        Self {
            zone: node.zone.clone(),
            labels: node.labels.clone(),
        }
    }
}

/// A node that an endpoint names, and what is known of it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) node: NodeName,
    /// Whether it has the name of our own node: told once, and not by comparing letters at every look.
    pub(super) is_own: bool,
    /// Whose node it is.
    pub(super) source: SourceId,
    /// Boxed, since of most nodes of a big cluster nothing is known.
    pub(super) known: Option<Box<Whereabouts>>,
}

/// Every name that slices refer to. A node is a source's own: two sources may mean two machines by one name.
#[derive(Debug, Default)]
pub(super) struct Names {
    own: Option<NodeName>,
    places: Numbered<(SourceId, NodeName), Place>,
    zones: Numbered<Zone, Zone>,
    hints: Numbered<Arc<Hints>, Arc<Hints>>,
    kept: usize,
}

impl Names {
    /// No names yet, and the one of our own node.
    pub(super) fn new(own: NodeName) -> Self {
        Self {
            own: Some(own),
            ..Self::default()
        }
    }

    /// The number of a node; `guess` may be it, and is a number of the same source.
    pub(super) fn enter_place(
        &mut self,
        node: &NodeName,
        source: SourceId,
        guess: Option<Number>,
    ) -> Number {
        let is_it = |number: &Number| {
            // Mostly it is the same copy, and then its letters are not compared.
            let known = self.place(*number).map(|place| &place.node);
            known.is_some_and(|known| std::ptr::eq(known.as_str(), node.as_str()) || known == node)
        };
        if let Some(number) = guess.filter(is_it) {
            return number;
        }
        self.places.enter(&(source, node.clone()), || Place {
            is_own: self.own.as_ref() == Some(node),
            node: node.clone(),
            source,
            known: None,
        })
    }

    /// The number of a node that was entered.
    pub(super) fn place_of(&self, node: &NodeName, source: SourceId) -> Option<Number> {
        let key = (source, node.clone());
        self.places.numbers.get(&key).copied()
    }

    /// The number of a stated zone; `guess` may be it.
    pub(super) fn enter_zone(&mut self, zone: &Zone, guess: Option<Number>) -> Number {
        if let Some(number) = guess.filter(|number| self.zone(*number) == Some(zone)) {
            return number;
        }
        self.zones.enter(zone, || zone.clone())
    }

    /// The number of hints; `guess` may be it.
    pub(super) fn enter_hints(&mut self, hints: &Arc<Hints>, guess: Option<Number>) -> Number {
        if let Some(number) = guess.filter(|number| self.hints(*number) == Some(hints)) {
            return number;
        }
        self.hints.enter(hints, || hints.clone())
    }

    pub(super) fn hints(&self, number: Number) -> Option<&Arc<Hints>> {
        self.hints.get(number)
    }

    pub(super) fn place(&self, number: Number) -> Option<&Place> {
        self.places.get(number)
    }

    pub(super) fn zone(&self, number: Number) -> Option<&Zone> {
        self.zones.get(number)
    }

    /// Enters what is known of a node; whether that differs from before.
    pub(super) fn set_place(
        &mut self,
        node: &NodeName,
        source: SourceId,
        known: Option<&Node>,
    ) -> bool {
        let key = (source, node.clone());
        let known = known.map(|node| Box::new(Whereabouts::of(node)));
        if known.is_none() && !self.places.numbers.contains_key(&key) {
            return false;
        }
        let number = self.enter_place(node, source, None);
        match self.places.get_mut(number) {
            Some(place) if place.known != known => {
                place.known = known;
                true
            }
            _ => false,
        }
    }

    /// Whether so many names were entered since the last sweep that another one pays.
    pub(super) fn wants_sweep(&self) -> bool {
        self.len() > 2 * self.kept + SWEEP_AFTER
    }

    /// Lets go of the names that none of the slices uses and of which nothing is known.
    pub(super) fn sweep<'s>(&mut self, slices: impl Iterator<Item = &'s PackedSlice>) {
        let mut places = vec![false; self.places.slots.len()];
        let mut zones = vec![false; self.zones.slots.len()];
        let mut hints = vec![false; self.hints.slots.len()];
        for slice in slices {
            slice
                .places()
                .for_each(|number| places[index(number)] = true);
            slice.zones().for_each(|number| zones[index(number)] = true);
            slice.hints().for_each(|number| hints[index(number)] = true);
        }
        self.places
            .retain(|number, place| place.known.is_some() || places[index(number)]);
        self.zones.retain(|number, _| zones[index(number)]);
        self.hints.retain(|number, _| hints[index(number)]);
        self.kept = self.len();
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.places.numbers.len() + self.zones.numbers.len() + self.hints.numbers.len()
    }
}

/// Names entered before a first sweep: those of a cluster of ordinary size need none.
const SWEEP_AFTER: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Slice, SliceEndpoint, SliceKey};

    const SOURCE: SourceId = SourceId::Kube;

    fn node(number: usize) -> NodeName {
        NodeName::parse(&format!("n{number}")).unwrap()
    }

    #[test]
    fn what_nothing_refers_to_is_let_go_and_its_number_given_again() {
        let mut names = Names::default();
        let mut slice = Slice::new(
            SliceKey::new("shop", "web-1").unwrap(),
            "shop/web".parse().unwrap(),
        );
        slice.endpoints = vec![SliceEndpoint {
            node: Some(node(0)),
            ..SliceEndpoint::new("10.0.0.1".parse().unwrap())
        }];
        let packed = PackedSlice::pack(slice, SOURCE, &mut names, None);
        let known = Node::new(node(1), None);
        assert!(names.set_place(&node(1), SOURCE, Some(&known)));
        assert!(!names.set_place(&node(1), SOURCE, Some(&known)));
        let numbers: Vec<Number> = (2..5_000)
            .map(|number| names.enter_place(&node(number), SOURCE, None))
            .collect();
        assert!(names.wants_sweep());
        names.sweep(std::iter::once(&packed));
        assert_eq!(names.len(), 2, "one is used, one is known");
        assert!(!names.wants_sweep());
        let used = packed.places().next().unwrap();
        assert_eq!(names.place(used).unwrap().node, node(0));
        assert!(names.place(numbers[0]).is_none());
        let again = names.enter_place(&node(9_999), SOURCE, None);
        assert!(numbers.contains(&again));
        assert_eq!(names.place(again).unwrap().node, node(9_999));
    }

    #[test]
    fn one_name_of_two_sources_is_two_nodes() {
        let mut names = Names::default();
        let ours = names.enter_place(&node(1), SourceId::Kube, None);
        assert_ne!(names.enter_place(&node(1), SourceId::Consul, None), ours);
        assert_eq!(
            names.enter_place(&node(1), SourceId::Kube, Some(ours)),
            ours
        );
    }
}

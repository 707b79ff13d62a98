// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps one copy of each name that many objects repeat. Pure.
//!
//! A node hosts endpoints of many slices, and a service has many slices: a big cluster names each of its nodes some
//! thirty times. A name that is known is found by its text, and costs neither a check nor an allocation.

use crate::{
    hash::TableHashing,
    model::{Hints, ModelError, NodeName, ServiceName, Zone},
};
use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

/// The names seen in one list and its watch.
#[derive(Debug, Default)]
pub(in crate::source) struct Names {
    nodes: HashMap<NodeName, Told, TableHashing>,
    zones: HashSet<Zone, TableHashing>,
    hints: HashSet<Arc<Hints>, TableHashing>,
    services: HashSet<ServiceName, TableHashing>,
}

impl Names {
    /// Forgets all names: what no object holds any more is freed.
    pub(in crate::source) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The node of that name.
    pub(super) fn node(&mut self, text: &str) -> Result<NodeName, ModelError> {
        Ok(self.node_and_told(text)?.0)
    }

    /// The node of that name, and what the last endpoint on it said.
    pub(super) fn node_and_told(&mut self, text: &str) -> Result<(NodeName, Told), ModelError> {
        if let Some((name, told)) = self.nodes.get_key_value(text) {
            return Ok((name.clone(), told.clone()));
        }
        let name = NodeName::parse(text)?;
        self.tell(&name, Told::default());
        Ok((name, Told::default()))
    }

    /// Notes what an endpoint on the node said.
    pub(super) fn tell(&mut self, node: &NodeName, told: Told) {
        if let Some(known) = self.nodes.get_mut(node) {
            *known = told;
            return;
        }
        if self.nodes.len() >= NAMES_MAX {
            self.nodes.clear();
        }
        self.nodes.insert(node.clone(), told);
    }

    /// The zone of that name.
    pub(super) fn zone(&mut self, text: &str) -> Result<Zone, ModelError> {
        shared(&mut self.zones, text, || Zone::parse(text))
    }

    /// The service of that name.
    pub(super) fn service(
        &mut self,
        namespace: &str,
        name: &str,
    ) -> Result<ServiceName, ModelError> {
        let service = ServiceName::new(namespace, name)?;
        shared(&mut self.services, &service, || Ok(service.clone()))
    }

    /// The same hints.
    pub(super) fn hints(&mut self, hints: Hints) -> Arc<Hints> {
        if let Some(known) = self.hints.get(&hints) {
            return known.clone();
        }
        let hints = Arc::new(hints);
        enter(&mut self.hints, &hints);
        hints
    }
}

/// What an endpoint says beside its node, which mostly is what others on the node say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) zone: Option<Zone>,
    pub(super) hints: Option<Arc<Hints>>,
}

/// What is known by that key, else what is made now.
fn shared<T, K>(
    known: &mut HashSet<T, TableHashing>,
    key: &K,
    make: impl FnOnce() -> Result<T, ModelError>,
) -> Result<T, ModelError>
where
    T: Borrow<K> + Clone + Eq + Hash,
    K: Eq + Hash + ?Sized,
{
    if let Some(known) = known.get(key) {
        return Ok(known.clone());
    }
    let made = make()?;
    enter(known, &made);
    Ok(made)
}

fn enter<T: Clone + Eq + Hash>(known: &mut HashSet<T, TableHashing>, value: &T) {
    if known.len() >= NAMES_MAX {
        known.clear();
    }
    known.insert(value.clone());
}

/// Beyond any cluster's nodes; a hostile list cannot grow a table further.
const NAMES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_become_one_copy() {
        let mut names = Names::default();
        let nodes = [(); 3].map(|()| names.node("mall-1-host-a").unwrap());
        let is_shared = |pair: &[NodeName]| std::ptr::eq(pair[0].as_str(), pair[1].as_str());
        assert!(nodes.windows(2).all(is_shared));
        let zones = [(); 2].map(|()| names.zone("mall-1").unwrap());
        assert!(std::ptr::eq(zones[0].as_str(), zones[1].as_str()));
        let hints = || Hints {
            zones: zones[..1].to_vec(),
            nodes: vec![],
        };
        assert!(Arc::ptr_eq(&names.hints(hints()), &names.hints(hints())));
        assert!(names.zone("no zone").is_err() && names.node("").is_err());
        assert_eq!((names.nodes.len(), names.zones.len()), (1, 1));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut names = Names::default();
        for number in 0..NAMES_MAX + 10 {
            names.node(&format!("n{number}")).unwrap();
        }
        assert!(names.nodes.len() <= NAMES_MAX);
    }
}

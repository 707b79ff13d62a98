// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps one copy of each name that many objects repeat. Pure.
//!
//! A node hosts endpoints of many slices, and a service has many slices: a big cluster names each of its nodes some
//! thirty times. Vectors are cut to their size besides, since what is decoded stays for long.

use crate::{
    model::{NodeName, ServiceName},
    store::Object,
};
use std::{collections::HashSet, hash::Hash};

/// The names seen in one list and its watch.
#[derive(Debug, Default)]
pub(super) struct Names {
    nodes: HashSet<NodeName>,
    services: HashSet<ServiceName>,
}

impl Names {
    /// Forgets all names: what no object holds any more is freed.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Makes the object use the copies of names that are known already.
    pub(super) fn share(&mut self, object: &mut Object) {
        match object {
            Object::Slice(slice) => {
                share(&mut self.services, &mut slice.service);
                slice.endpoints.shrink_to_fit();
                let nodes = slice.endpoints.iter_mut();
                nodes
                    .filter_map(|endpoint| endpoint.node.as_mut())
                    .for_each(|node| share(&mut self.nodes, node));
            }
            Object::Node(node) | Object::OwnNode(node) => node.addresses.shrink_to_fit(),
            Object::Service(_) => {}
        }
    }
}

fn share<T: Clone + Eq + Hash>(known: &mut HashSet<T>, name: &mut T) {
    if let Some(copy) = known.get(name) {
        name.clone_from(copy);
        return;
    }
    if known.len() >= NAMES_MAX {
        known.clear();
    }
    known.insert(name.clone());
}

/// Beyond any cluster's nodes; a hostile list cannot grow the table further.
const NAMES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_become_one_copy() {
        let mut known = HashSet::new();
        let mut names = [(); 3].map(|()| NodeName::parse("mall-1-host-a").unwrap());
        for name in &mut names {
            share(&mut known, name);
        }
        assert!(
            names
                .windows(2)
                .all(|pair| std::ptr::eq(pair[0].as_str(), pair[1].as_str()))
        );
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut known = HashSet::new();
        for number in 0..NAMES_MAX + 10 {
            share(&mut known, &mut number.to_string());
        }
        assert!(known.len() <= NAMES_MAX);
    }
}

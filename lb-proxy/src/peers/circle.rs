// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom a host visits: those that follow it on a circle of names, so that each is visited by those before it, and nobody has to agree.

use discovery_core::{
    hash::HashKey,
    model::{Node, NodeName},
};

/// The other nodes, beginning with the one after us; about the same order is kept when a node comes or goes.
pub(super) fn after<'n>(nodes: &'n [Node], own: &NodeName) -> Vec<&'n Node> {
    let place = |name: &NodeName| (HashKey::of(name.as_str().as_bytes()).0, name.clone());
    let here = place(own);
    let mut others: Vec<_> = nodes
        .iter()
        .filter(|node| node.name != *own)
        .map(|node| (place(&node.name), node))
        .collect();
    others.sort_by(|(one, _), (other, _)| (*one < here, one).cmp(&(*other < here, other)));
    others.into_iter().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn nodes(count: usize) -> Vec<Node> {
        let named = |at| Node::new(NodeName::parse(&format!("edge-{at}")).unwrap(), None);
        (0..count).map(named).collect()
    }

    #[test]
    fn each_host_is_visited_by_two_others_and_by_one_where_there_are_two() {
        for count in [1, 2, 3, 20] {
            let nodes = nodes(count);
            let mut visited = BTreeMap::<&str, usize>::new();
            for own in &nodes {
                for peer in after(&nodes, &own.name).into_iter().take(2) {
                    *visited.entry(peer.name.as_str()).or_default() += 1;
                }
            }
            let expected = (count - 1).min(2);
            assert!(
                visited.values().all(|times| *times == expected),
                "{visited:?}"
            );
            assert_eq!(visited.len(), if count == 1 { 0 } else { count });
        }
    }

    #[test]
    fn one_that_leaves_moves_nobody_else() {
        let all = nodes(20);
        let own = &all[7].name;
        let order: Vec<_> = after(&all, own).iter().map(|node| &node.name).collect();
        let gone = order[3];
        let rest: Vec<_> = all
            .iter()
            .filter(|node| node.name != *gone)
            .cloned()
            .collect();
        let expected: Vec<_> = order.iter().copied().filter(|name| *name != gone).collect();
        let now: Vec<_> = after(&rest, own).iter().map(|node| &node.name).collect();
        assert_eq!(now, expected);
    }
}

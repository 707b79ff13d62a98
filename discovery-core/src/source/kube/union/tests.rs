// SPDX-License-Identifier: MIT OR Apache-2.0
//! The union against a naive model, and its rules one by one.

use super::*;
use crate::{
    model::{Node, NodeName},
    store::Object,
};
use proptest::prelude::*;
use std::collections::HashSet;

const SOURCE: SourceId = SourceId::Kube;

fn name(node: u8) -> NodeName {
    NodeName::parse(&format!("n{node}")).unwrap()
}

fn upsert(node: u8) -> Update {
    Update::Upsert(SOURCE, Object::Node(Node::new(name(node), None)))
}

fn key(node: u8) -> ObjectKey {
    ObjectKey::Node(name(node))
}

fn reset() -> Update {
    Update::Reset(SOURCE, Kind::Nodes)
}

fn synced() -> Update {
    Update::Synced(SOURCE, Kind::Nodes)
}

fn union(members: usize) -> Union {
    Union::new(SOURCE, Kind::Nodes, members)
}

/// What somebody who believes the updates knows.
#[derive(Debug, Default)]
struct Believer {
    known: HashSet<ObjectKey>,
    open: Option<HashSet<ObjectKey>>,
    has_synced: bool,
}

impl Believer {
    fn believe(&mut self, updates: Vec<Update>) {
        for update in updates {
            match update {
                Update::Reset(..) => self.open = Some(HashSet::new()),
                Update::Upsert(_, object) => self.name(object.key(), true),
                Update::Kept(_, key) => self.name(key, false),
                Update::Remove(_, key) | Update::Absent(_, key) => {
                    self.known.remove(&key);
                }
                Update::Synced(..) => {
                    self.has_synced = true;
                    if let Some(open) = self.open.take() {
                        self.known.retain(|key| open.contains(key));
                    }
                }
                Update::Reject(..)
                | Update::WentBack(..)
                | Update::Denied(..)
                | Update::Foreign(..)
                | Update::Another(..)
                | Update::Ours(..) => {}
            }
        }
    }

    fn name(&mut self, key: ObjectKey, is_new: bool) {
        if let Some(open) = &mut self.open {
            open.insert(key.clone());
        }
        if is_new {
            self.known.insert(key);
        }
    }
}

#[test]
fn it_is_complete_once_every_member_has_listed() {
    let mut union = union(2);
    assert_eq!(union.take(0, reset()), [reset()]);
    assert_eq!(union.take(0, upsert(1)), [upsert(1)]);
    assert_eq!(union.take(0, synced()), []);
    assert_eq!(
        union.take(1, reset()),
        [reset(), Update::Kept(SOURCE, key(1))]
    );
    assert_eq!(union.take(1, synced()), [synced()]);
}

#[test]
fn an_object_stays_as_long_as_one_member_has_it() {
    let mut union = union(2);
    for member in 0..2 {
        union.take(member, reset());
        union.take(member, upsert(1));
        union.take(member, synced());
    }
    assert_eq!(union.take(0, Update::Remove(SOURCE, key(1))), []);
    let gone = Update::Remove(SOURCE, key(1));
    assert_eq!(union.take(1, gone.clone()), [gone]);
}

#[test]
fn a_new_list_of_one_member_takes_only_its_own_away() {
    let mut union = union(2);
    let mut believer = Believer::default();
    for (member, nodes) in [(0, [1, 2]), (1, [2, 3]), (0, [4, 4])] {
        believer.believe(union.take(member, reset()));
        for node in nodes {
            believer.believe(union.take(member, upsert(node)));
        }
        believer.believe(union.take(member, synced()));
    }
    assert_eq!(believer.known, HashSet::from([2, 3, 4].map(key)));
}

#[test]
fn problems_of_other_members_survive_a_list() {
    let mut union = union(2);
    let reject = Update::Reject(
        SOURCE,
        Problem {
            kind: Kind::Nodes,
            object: "Node n7".into(),
            place: String::new(),
            reason: "bad".into(),
        },
    );
    union.take(0, reset());
    union.take(0, reject.clone());
    assert_eq!(union.take(1, reset()), [reset(), reject]);
    assert_eq!(union.take(0, reset()), [reset()]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    List { member: usize, nodes: u8 },
    Begin { member: usize },
    Add { member: usize, node: u8 },
    Remove { member: usize, node: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3usize, any::<u8>()).prop_map(|(member, nodes)| Step::List { member, nodes }),
        (0..3usize).prop_map(|member| Step::Begin { member }),
        (0..3usize, 0..8u8).prop_map(|(member, node)| Step::Add { member, node }),
        (0..3usize, 0..8u8).prop_map(|(member, node)| Step::Remove { member, node }),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    /// Whoever believes the union ends with what its members have, together.
    #[test]
    fn the_union_is_what_its_members_have(steps in steps()) {
        let (mut union, mut believer) = (union(3), Believer::default());
        let mut truth = vec![HashSet::<ObjectKey>::new(); 3];
        let list = |believer: &mut Believer, truth: &mut HashSet<ObjectKey>, union: &mut Union, member, nodes: u8| {
            truth.clear();
            believer.believe(union.take(member, reset()));
            for node in (0..8).filter(|node| nodes & (1 << node) != 0) {
                believer.believe(union.take(member, upsert(node)));
                truth.insert(key(node));
            }
            believer.believe(union.take(member, synced()));
        };
        for step in steps {
            match step {
                Step::List { member, nodes } => {
                    list(&mut believer, &mut truth[member], &mut union, member, nodes);
                }
                Step::Begin { member } => believer.believe(union.take(member, reset())),
                Step::Add { member, node } => {
                    believer.believe(union.take(member, upsert(node)));
                    truth[member].insert(key(node));
                }
                Step::Remove { member, node } => {
                    believer.believe(union.take(member, Update::Remove(SOURCE, key(node))));
                    truth[member].remove(&key(node));
                }
            }
        }
        // Every list comes to its end at last.
        for (member, truth) in truth.iter_mut().enumerate() {
            list(&mut believer, truth, &mut union, member, 0b1010 << member);
        }
        let expected: HashSet<_> = truth.into_iter().flatten().collect();
        prop_assert_eq!(believer.known, expected);
        prop_assert!(believer.has_synced);
    }
}

#[test]
fn another_cluster_is_told_of_the_whole() {
    let mut union = Union::new(SourceId::Kube, Kind::Services, 2);
    let foreign = Update::Foreign(SourceId::Kube);
    assert_eq!(union.take(1, foreign.clone()), [foreign]);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What readers see when the snapshot on disk turns out to be another cluster's.

mod mall;

use discovery_core::store::{
    Coverage, Kind, Object, ObjectKey,
    SourceId::{self, Consul, Disk},
    Update, ZoneStatus,
};
use mall::*;

/// A mall served from disk alone: `web` with one pod in `mall-1`, where we are.
fn from_disk(lists: &[(SourceId, Kind)]) -> Mall {
    let mut mall = Mall::with(|config| config.lists(lists.iter().copied()));
    mall.nodes(&[(OWN, "mall-1"), ("edge-b", "mall-1")]);
    mall.slice(slice("web-1", vec![pod("theirs", "10.0.0.1", "edge-b")]));
    for kind in Kind::ALL {
        mall.writer.apply(Update::Synced(Disk, kind));
    }
    assert_eq!(mall.usable(), ["theirs"]);
    mall
}

/// The lists of the source that has found itself in another cluster.
fn lists() -> Vec<(SourceId, Kind)> {
    Kind::ALL.map(|kind| (SOURCE, kind)).into()
}

fn list(mall: &mut Mall, kind: Kind, updates: impl IntoIterator<Item = Update>) {
    mall.writer.apply(Update::Reset(SOURCE, kind));
    for update in updates {
        mall.writer.apply(update);
    }
    mall.writer.apply(Update::Synced(SOURCE, kind));
    mall.writer.publish();
}

fn ours() -> Update {
    let slice = slice("ours-1", vec![pod("ours", "10.0.0.9", OWN)]);
    Update::Upsert(SOURCE, Object::Slice(slice))
}

#[test]
fn it_is_gone_at_once_and_nothing_is_said_not_to_exist() {
    let mut mall = from_disk(&lists());
    mall.writer.apply(Update::Foreign(SOURCE));
    mall.writer.publish();
    let snapshot = mall.reader.load();
    assert_eq!(snapshot.coverage(), Coverage::Partial);
    assert_eq!(snapshot.zone(), &ZoneStatus::Unknown);
    assert_eq!(snapshot.missing().len(), 4, "{:?}", snapshot.missing());
    assert_eq!(
        (snapshot.services().count(), snapshot.nodes().len()),
        (0, 0)
    );
}

#[test]
fn what_was_stated_in_this_cluster_stays() {
    let mut mall = from_disk(&lists());
    mall.writer.apply(Update::Reset(SOURCE, Kind::Slices));
    mall.writer.apply(ours());
    mall.writer.apply(Update::Foreign(SOURCE));
    mall.writer.apply(Update::Synced(SOURCE, Kind::Slices));
    list(&mut mall, Kind::Services, []);
    list(
        &mut mall,
        Kind::Nodes,
        [Update::Upsert(SOURCE, Object::Node(node(OWN, "mall-2")))],
    );
    list(
        &mut mall,
        Kind::OwnNode,
        [Update::Upsert(SOURCE, Object::OwnNode(node(OWN, "mall-2")))],
    );
    assert_eq!(mall.reader.load().coverage(), Coverage::Synced);
    assert_eq!(mall.usable(), ["ours"]);
}

#[test]
fn it_is_held_by_no_guard() {
    let mut mall = from_disk(&lists());
    list(&mut mall, Kind::Slices, []);
    assert_eq!(
        mall.reader.load().held().len(),
        1,
        "an empty list is not believed"
    );
    mall.writer.apply(Update::Foreign(SOURCE));
    mall.writer.publish();
    assert_eq!(mall.reader.load().held(), []);
}

#[test]
fn a_last_good_version_from_there_is_none() {
    let mut mall = from_disk(&lists());
    let key = ObjectKey::Slice(slice_key("web-1"));
    // The object of this cluster has that name, too, and does not decode.
    list(&mut mall, Kind::Slices, [Update::Kept(SOURCE, key), ours()]);
    assert_eq!(mall.reasons().len(), 2);
    mall.writer.apply(Update::Foreign(SOURCE));
    for kind in [Kind::Services, Kind::Nodes] {
        list(&mut mall, kind, []);
    }
    list(
        &mut mall,
        Kind::OwnNode,
        [Update::Upsert(SOURCE, Object::OwnNode(node(OWN, "mall-2")))],
    );
    assert_eq!(mall.usable(), ["ours"]);
    assert_eq!(mall.reasons().len(), 1);
}

#[test]
fn a_move_out_of_the_other_clusters_zone_waits_for_nothing() {
    let mut mall = from_disk(&lists());
    list(&mut mall, Kind::Nodes, []);
    list(
        &mut mall,
        Kind::OwnNode,
        [Update::Upsert(SOURCE, Object::OwnNode(node(OWN, "mall-2")))],
    );
    assert_eq!(
        mall.reader.load().zone().zone(),
        zone("mall-1").as_ref(),
        "as any move does"
    );
    mall.writer.apply(Update::Foreign(SOURCE));
    mall.writer.publish();
    assert_eq!(mall.reader.load().zone().zone(), zone("mall-2").as_ref());
}

#[test]
fn what_another_source_had_on_disk_stays() {
    let theirs = [Kind::Nodes, Kind::Services, Kind::Slices].map(|kind| (Consul, kind));
    let lists: Vec<_> = lists().into_iter().chain(theirs).collect();
    let mut mall = Mall::with(|config| config.lists(lists));
    let object = Object::Slice(slice("by-consul", vec![pod("consul", "10.2.0.1", OWN)]));
    mall.writer.apply(Update::Upsert(Consul, object));
    mall.writer
        .apply(Update::Upsert(Consul, Object::Node(node(OWN, "mall-1"))));
    mall.slice(slice("web-1", vec![pod("theirs", "10.0.0.1", OWN)]));
    for kind in Kind::ALL {
        mall.writer.apply(Update::Synced(Disk, kind));
    }
    mall.writer.apply(Update::Foreign(SOURCE));
    for kind in [Kind::Services, Kind::Nodes, Kind::Slices] {
        list(&mut mall, kind, []);
    }
    list(
        &mut mall,
        Kind::OwnNode,
        [Update::Upsert(SOURCE, Object::OwnNode(node(OWN, "mall-1")))],
    );
    assert_eq!(
        mall.reader.load().coverage(),
        Coverage::Disk,
        "Consul is still to be heard"
    );
    assert_eq!(mall.usable(), ["consul"]);
}

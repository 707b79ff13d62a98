// SPDX-License-Identifier: MIT OR Apache-2.0
//! A wall clock that is wrong, or set while we run: whatever waits, ages or ends goes by monotonic time, and what is read from
//! disk is served whatever its date.
//!
//! The kernel has no wall clock of a namespace's own, and to set the machine's would disturb others: so the clock is handed in,
//! and that there is no other way to the wall clock is looked up in the sources.

use discovery_core::{
    clock::{Clock as _, TestClock},
    model::{Node, NodeName, Zone},
    source::SourceStatus,
    store::{
        Kind, Object, SourceId,
        persist::{Owner, Shelf, SourceFacts},
    },
};
use std::{fs, path::Path, sync::Arc, time::Duration};

const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;

#[test]
fn f38_a_wall_clock_that_jumps_moves_no_age_of_a_source() {
    let clock = TestClock::default();
    let status = SourceStatus::new(SourceId::Kube, Arc::new(clock.clone()));
    status.restored(&[Kind::Slices], Duration::ZERO);
    let mut passed = Duration::ZERO;
    for jump in [YEAR, -2 * YEAR, YEAR, HOUR, -HOUR, -HOUR, HOUR] {
        clock.set_wall(jump);
        assert_eq!(
            status.kind_age(Kind::Slices),
            Some(passed),
            "after {jump} s"
        );
        let second = Duration::from_secs(1);
        clock.advance(second);
        passed += second;
        assert_eq!(status.kind_age(Kind::Slices), Some(passed));
    }
}

#[test]
fn f38_a_snapshot_of_the_future_or_of_last_year_is_served_whole() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    let owner = Owner {
        cluster: "c".into(),
        node: NodeName::parse("edge-a").unwrap(),
        zone: None,
    };
    let shelf = Shelf::new(folder.path().to_owned(), owner);
    let node = Node::new(
        NodeName::parse("edge-a").unwrap(),
        Zone::parse("mall-1").ok(),
    );
    let heard = SourceFacts {
        age_seconds: Some(5),
        ..SourceFacts::default()
    };
    let facts = [(SourceId::Kube, heard)].into();
    let objects = vec![(SourceId::Kube, Object::OwnNode(node))];
    shelf.save(objects, facts, clock.wall()).unwrap();
    let updates = shelf.load().unwrap().updates;
    assert!(updates.len() > 1);
    for (jump, age) in [
        (YEAR, YEAR),
        (-2 * YEAR, 0),
        (YEAR - HOUR, 0),
        (2 * HOUR, HOUR),
    ] {
        clock.set_wall(jump);
        let restored = shelf.load().unwrap();
        assert_eq!(restored.updates, updates, "nothing of it expires");
        let told = restored.age(SourceId::Kube, clock.wall()).unwrap();
        // Its date has whole seconds.
        let off = told.as_secs().abs_diff(u64::try_from(age).unwrap() + 5);
        assert!(off <= 1, "{told:?} for {age} s");
    }
}

#[test]
fn f38_the_wall_clock_is_read_where_a_date_is_written_or_shown_and_nowhere_else() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for member in ["discovery-core", "dns-sidecar", "lb-proxy", "zonal"] {
        look(&workspace.join(member).join("src"), workspace, &mut found);
    }
    found.sort();
    let known = [
        // The clock itself, and the one of tests.
        "discovery-core/src/clock.rs",
        // From its date: how old a snapshot or view on disk is.
        "discovery-core/src/runtime/core.rs",
        // Into its head: when a snapshot was written.
        "discovery-core/src/runtime/persister.rs",
        // For people: how old what is on disk is.
        "discovery-core/src/runtime/status.rs",
        "discovery-core/src/source/agent/follow.rs",
        // The numbers of blocking queries begin at the time.
        "dns-sidecar/src/consul_api/serve.rs",
        // Consul's serial in its SOA is the time.
        "dns-sidecar/src/server/publisher.rs",
        // A cookie says when it was made; after a jump a client is given another.
        "dns-sidecar/src/udp/mod.rs",
        // A metric: when the configuration was read.
        "zonal/src/agent/instance.rs",
    ];
    assert_eq!(found, known, "who reads the wall clock must not wait by it");
}

/// The files that read the wall clock: comments and tests aside.
fn look(folder: &Path, workspace: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, workspace, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let is_test = path.ends_with("tests.rs");
        let reads = [".wall()", "SystemTime::now()"];
        let is_reading = |line: &str| {
            !line.trim_start().starts_with("//") && reads.iter().any(|read| line.contains(read))
        };
        if !is_test && code.lines().any(is_reading) {
            let path = path.strip_prefix(workspace).unwrap();
            found.push(path.to_str().unwrap().to_owned());
        }
    }
}

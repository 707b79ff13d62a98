// SPDX-License-Identifier: MIT OR Apache-2.0
//! The snapshot on disk against what happens to disks and processes: kills, flipped bits, short files, read-only folders.

use discovery_core::{
    model::{Node, NodeName, Zone},
    store::{
        Object, SourceId, Update,
        persist::{Owner, Restored, Shelf, ShelfError},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

fn shelf(folder: &Path) -> Shelf {
    let owner = Owner {
        cluster: "c".into(),
        node: NodeName::parse("edge-a").unwrap(),
        zone: None,
    };
    Shelf::new(folder.to_owned(), owner)
}

/// Saves `count` nodes that all carry the same mark as their zone.
fn save(shelf: &Shelf, mark: usize, count: usize) -> Result<(), ShelfError> {
    let zone = Zone::parse(&format!("mark-{mark}")).unwrap();
    let node = |at| {
        Node::new(
            NodeName::parse(&format!("edge-{at}")).unwrap(),
            Some(zone.clone()),
        )
    };
    let objects = (0..count)
        .map(|at| (SourceId::Kube, Object::Node(node(at))))
        .collect();
    shelf.save(objects, BTreeMap::new(), SystemTime::now())
}

/// The one mark that all restored nodes carry, and how many they are.
fn mark_of(restored: &Restored) -> (usize, usize) {
    let nodes = restored.updates.iter().filter_map(|update| match update {
        Update::Upsert(_, Object::Node(node)) => node.zone.clone(),
        _ => None,
    });
    let zones: Vec<_> = nodes.collect();
    let marks: BTreeSet<_> = zones.iter().map(|zone| zone.as_str().to_owned()).collect();
    assert_eq!(marks.len(), 1, "generations are mixed: {marks:?}");
    let mark = marks.first().unwrap().strip_prefix("mark-").unwrap();
    (mark.parse().unwrap(), zones.len())
}

/// The name of the variable that turns the test's process into the one that writes until it is killed.
const WRITER: &str = "ZONAL_TEST_WRITE_TO";

#[test]
fn f35_a_kill_while_writing_leaves_one_whole_generation_1000_of_1000_times() {
    if let Some(folder) = env::var_os(WRITER) {
        let shelf = shelf(Path::new(&folder));
        let first = shelf.load().map_or(0, |restored| mark_of(&restored).0);
        for mark in first + 1.. {
            save(&shelf, mark, NODES).unwrap();
            println!("\nsaved {mark}");
        }
    }
    let killers: Vec<_> = (0..4)
        .map(|seed| thread::spawn(move || kill_writers(seed, 250)))
        .collect();
    for killer in killers {
        killer.join().unwrap();
    }
}

/// Starts a writer `rounds` times and kills it at some moment; what is on disk is whole and not older than what was saved.
fn kill_writers(seed: u64, rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..rounds {
        let mut writer = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("f35_a_kill_while_writing_leaves_one_whole_generation_1000_of_1000_times")
            .env(WRITER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut marks = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("saved ")?.parse().ok());
        let mut saved: usize = marks.next().expect("the writer saves");
        // The moment of the kill within a write is the point here, not a wait for it.
        thread::park_timeout(Duration::from_micros(random.u64(..6_000)));
        writer.kill().unwrap();
        saved = marks.last().unwrap_or(saved);
        writer.wait().unwrap();
        let restored = shelf(folder.path()).load().unwrap();
        let (mark, count) = mark_of(&restored);
        assert_eq!(count, NODES, "round {round}");
        assert!(
            mark >= saved,
            "round {round}: {saved} was saved, {mark} came back"
        );
    }
}

const NODES: usize = 100;

#[test]
fn f37_a_snapshot_with_any_byte_flipped_or_cut_short_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(folder.path());
    save(&shelf, 1, 90).unwrap();
    let path = folder.path().join("snapshot");
    let good = fs::read(&path).unwrap();
    assert!(good.len() >= 10_000, "{} bytes", good.len());
    let head = good.iter().position(|byte| *byte == b'\n').unwrap();
    for at in 0..good.len() {
        // Every bit of the line that vouches for the rest, one bit of each byte of the rest.
        let bits = if at <= head { 0..8 } else { at % 8..at % 8 + 1 };
        for bit in bits {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            fs::write(&path, &bad).unwrap();
            assert!(shelf.load().is_err(), "bit {bit} of byte {at}");
        }
    }
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(shelf.load().is_err(), "cut to {length} bytes");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(mark_of(&shelf.load().unwrap()), (1, 90));
}

/// The name of the variable that names the folder that was mounted read-only.
const READ_ONLY: &str = "ZONAL_TEST_READ_ONLY";

#[test]
fn f36_a_read_only_folder_is_an_error_and_what_it_holds_is_read() {
    if let Some(folder) = env::var_os(READ_ONLY) {
        let shelf = shelf(Path::new(&folder));
        let error = save(&shelf, 2, 3).unwrap_err();
        let ShelfError::Io { source, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(
            source.kind(),
            std::io::ErrorKind::ReadOnlyFilesystem,
            "{error}"
        );
        assert_eq!(mark_of(&shelf.load().unwrap()), (1, 3));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    save(&shelf(folder.path()), 1, 3).unwrap();
    // In a mount namespace of its own, so that nothing is left mounted.
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script])
        .arg(folder.path())
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "f36_a_read_only_folder_is_an_error_and_what_it_holds_is_read",
        ])
        .env(READ_ONLY, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    if said.contains("unshare") {
        assert!(env::var_os("CI").is_none(), "SKIPPED: {said}");
        println!("SKIPPED a_read_only_folder: no mount namespace here: {said}");
        return;
    }
    assert!(output.status.success(), "{said}");
}

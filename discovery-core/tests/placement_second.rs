// SPDX-License-Identifier: MIT OR Apache-2.0
//! The placements against a second implementation, in Python: the published vectors and random cases.
//!
//! The script has its own environment below the target folder, with `xxhash` of a fixed version. `ZONAL_PLACEMENT_CASES`
//! sets the number of random cases for each placement; 10,000 is the long run.

use discovery_core::hash::{HashKey, Member, Placement, Table};
use discovery_core::model::Weight;
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const XXHASH: &str = "xxhash==3.5.0";

#[test]
fn d1_a_second_implementation_in_python_names_the_same_owners() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("placement");
    let Some(python) = python(&folder) else {
        assert!(std::env::var_os("CI").is_none(), "CI has Python and xxhash");
        println!(
            "SKIPPED d1_a_second_implementation_in_python_names_the_same_owners: no Python with {XXHASH}"
        );
        return;
    };
    let cases = cases();
    let path = folder.join("cases.jsonl");
    fs::write(&path, &cases).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/placement/second.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let agreed = format!("{} cases agree\n", cases.lines().count());
    assert_eq!(String::from_utf8_lossy(&output.stdout), agreed);
}

/// The interpreter of the test's own environment, made at the first run.
fn python(folder: &Path) -> Option<PathBuf> {
    let python = folder.join("venv/bin/python");
    let has_xxhash = |python: &Path| {
        let version = format!("import xxhash; assert 'xxhash==' + xxhash.VERSION == '{XXHASH}'");
        let check = Command::new(python).args(["-c", &version]).output();
        check.is_ok_and(|output| output.status.success())
    };
    if has_xxhash(&python) {
        return Some(python);
    }
    fs::create_dir_all(folder).ok()?;
    let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let made = run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(folder.join("venv")))
        && run(Command::new(&python).args(["-m", "pip", "install", "--quiet", XXHASH]));
    (made && has_xxhash(&python)).then_some(python)
}

fn cases() -> String {
    let random_cases = std::env::var("ZONAL_PLACEMENT_CASES").map_or(12, |n| n.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(0x007a_6f6e_616c);
    let mut cases = String::new();
    for placement in Placement::ALL {
        let golden =
            ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"].map(|name| (name.to_owned(), 100));
        let keys = [
            "",
            "a",
            "foo",
            "user-id:0000000000000001",
            "user-id:0000000000000004",
        ];
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        case(&mut cases, placement, &golden, &keys);
        for _ in 0..random_cases {
            let members = members(&mut random);
            let keys: Vec<Vec<u8>> = (0..8).map(|_| key(&mut random)).collect();
            case(&mut cases, placement, &members, &keys);
        }
    }
    cases
}

fn members(random: &mut fastrand::Rng) -> Vec<(String, u32)> {
    let is_even = random.bool();
    let mut members: Vec<(String, u32)> = (0..random.usize(1..12))
        .map(|n| {
            let name: String = (0..random.usize(0..20))
                .map(|_| random.lowercase())
                .collect();
            let weight = if is_even { 100 } else { random.u32(0..300) };
            (format!("{name}-{n}"), weight)
        })
        .collect();
    members[0].1 = members[0].1.max(1);
    members.sort();
    members
}

fn key(random: &mut fastrand::Rng) -> Vec<u8> {
    // All the ways in which XXH3 reads: up to 16, 128, 240 bytes, and more.
    let length = [16, 128, 240, 2_000][random.usize(..4)];
    (0..random.usize(..=length))
        .map(|_| random.u8(..))
        .collect()
}

/// One line for the script.
fn case(to: &mut String, placement: Placement, members: &[(String, u32)], keys: &[Vec<u8>]) {
    let placed: Vec<Member<'_>> = members
        .iter()
        .map(|(identity, weight)| Member {
            identity,
            weight: Weight::new(*weight).unwrap(),
        })
        .collect();
    let table = Table::build(placement, &placed);
    let hash = |key: &Vec<u8>| {
        if placement.is_of_envoy() {
            HashKey::of_envoy(key)
        } else {
            HashKey::of(key)
        }
    };
    let hex = |key: &Vec<u8>| {
        key.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    let line = serde_json::json!({
        "placement": placement.as_str(),
        "members": members,
        "keys": keys.iter().map(hex).collect::<Vec<_>>(),
        "orders": keys.iter().map(|key| table.order(hash(key))).collect::<Vec<_>>(),
    });
    writeln!(to, "{line}").unwrap();
}

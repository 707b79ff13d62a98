// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each example is run, and says what its file promises.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The example, built beside this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let built = folder.join("examples").join(name);
    assert!(
        built.exists(),
        "{} is not built: cargo build -p examples --examples",
        built.display()
    );
    built
}

fn lines(name: &str) -> Vec<String> {
    let output = Command::new(example(name)).output().unwrap();
    let (said, log) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{name}: {said}{log}");
    said.lines().map(str::to_owned).collect()
}

#[test]
fn hello_is_what_it_says_and_a_dozen_lines() {
    let said = lines("hello");
    assert_eq!(said.len(), 3);
    assert!(
        said.iter().all(|line| line.contains(" -> web-")),
        "{said:?}"
    );
}

#[test]
fn a_keyed_client_of_each_library_keeps_a_user_on_one_pod() {
    let mut owners = Vec::new();
    for name in ["http", "tonic", "reqwest"] {
        let said = lines(name);
        assert!(said[0].starts_with("ann is served by web-"), "{said:?}");
        assert_eq!(said[0], said[2], "{name}");
        owners.push(said[0].clone());
    }
    owners.dedup();
    assert_eq!(owners.len(), 1, "the libraries agree");
}

#[test]
fn a_tower_service_moves_on_when_its_endpoint_dies() {
    let said = lines("tower");
    let owner = said[0].strip_prefix("ann is served by ").unwrap();
    let moved = said[1].strip_prefix(&format!("{owner} is dead, and ann is served by "));
    assert_ne!(moved.unwrap(), owner);
}

#[test]
fn a_tenant_is_one_key() {
    let said = lines("custom_key");
    let pod = |line: usize| said[line].split_once(" goes to ").unwrap().1.to_owned();
    assert_eq!(pod(0), pod(1), "{said:?}");
    assert_eq!(said.len(), 4);
}

#[test]
fn changes_are_told_one_after_the_other() {
    assert_eq!(
        lines("changes")[..3],
        [
            "came: web-0 web-1 web-2, went: nobody",
            "came: nobody, went: web-0",
            "came: web-3, went: nobody"
        ]
    );
}

#[test]
fn replicas_are_distinct() {
    let said = lines("replicas");
    assert_eq!(said.len(), 3);
    for line in said {
        let (_, replicas) = line.split_once(": leader ").unwrap();
        let (leader, follower) = replicas.split_once(", follower ").unwrap();
        assert_ne!(leader, follower);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What fuzzing found, and what it began with, on every run: each file of `fuzz/corpus` through its target.

#[path = "../../fuzz/targets/dns.rs"]
mod dns;

use std::{fs, path::Path};

/// Runs a target over its files; there are some.
fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut files = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        check(&fs::read(path).unwrap());
        files += 1;
    }
    assert!(files >= 10, "{files} files in {}", folder.display());
}

#[test]
fn b2_the_corpus_of_dns_messages_holds() {
    run("dns_message", dns::message);
}

#[test]
fn b2_the_corpus_of_dns_names_holds() {
    run("dns_names", dns::names);
}

#[test]
fn b2_the_corpus_of_dns_configurations_holds() {
    run("dns_config", dns::config);
}

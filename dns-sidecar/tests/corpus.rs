// SPDX-License-Identifier: MIT OR Apache-2.0
//! What fuzzing found, and what it began with, on every run: each file of `fuzz/corpus`, whole and damaged, through its target.

#[path = "../../fuzz/targets/corpus.rs"]
mod corpus;
#[path = "../../fuzz/targets/dns.rs"]
mod dns;

use corpus::run;

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

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What fuzzing found, and what it began with, on every run: each file of `fuzz/corpus`, whole and damaged, through its target.
//! The targets of what is no public interface stand beside their parsers.

#[path = "../../fuzz/targets/core.rs"]
mod core;
#[path = "../../fuzz/targets/corpus.rs"]
mod corpus;

use corpus::run;

#[test]
fn b2_the_corpus_of_configuration_files_holds() {
    run("core_config", core::config);
}

#[test]
fn b2_the_corpus_of_configured_words_holds() {
    run("core_words", core::words);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every interleaving of the threads that publish, read, count, eject and try.

use models::models;

#[test]
fn d4_whoever_is_told_of_a_generation_reads_it() {
    models::told();
}

#[test]
fn d4_whoever_looks_again_sees_no_earlier_generation() {
    models::looked();
}

#[test]
fn d4_whoever_picks_and_ends_leaves_nothing_in_flight() {
    models::guards();
}

#[test]
fn d4_what_one_caller_begins_another_may_end() {
    models::handed_over();
}

#[test]
fn d4_of_three_that_fail_at_once_no_more_are_ejected_than_may_be() {
    models::ejection();
}

#[test]
fn d4_an_endpoint_that_fails_twice_at_once_is_ejected_and_counted_once() {
    models::double_report();
}

#[test]
fn d4_a_publication_does_not_forget_an_ejection_that_is_under_way() {
    models::ejection_under_publication();
}

#[test]
fn d4_one_caller_tries_an_ejected_endpoint_and_restores_it() {
    models::trial();
}

// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]
//! See `lb_proxy::fuzz::session_facts`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lb_proxy::fuzz::session_facts(bytes));

// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]
//! See `targets/dns.rs`.

#[path = "../targets/dns.rs"]
#[allow(dead_code, reason = "each target runs one of them")]
mod dns;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dns::config(bytes));

// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]
//! See `dns_sidecar::fuzz::consul_filter`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dns_sidecar::fuzz::consul_filter(bytes));

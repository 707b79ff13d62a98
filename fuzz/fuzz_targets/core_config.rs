// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]
//! See `targets/core.rs`.

#[path = "../targets/core.rs"]
#[allow(dead_code, reason = "each target runs one of them")]
mod core;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| core::config(bytes));

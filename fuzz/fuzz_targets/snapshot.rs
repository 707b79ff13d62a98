// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]
//! See `discovery_core::store::persist::snapshot`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| discovery_core::store::persist::snapshot(bytes));

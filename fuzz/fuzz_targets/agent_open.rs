// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]
//! See `discovery_core::runtime::fuzz::agent_open`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| discovery_core::runtime::fuzz::agent_open(bytes));

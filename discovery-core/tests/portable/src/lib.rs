// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sources of the placements as they are, without the rest of the library, whose dependencies need a C compiler for
//! every target. Their tests are run by `run.sh` on 32-bit and big-endian CPUs.
#![allow(dead_code, unused_imports, reason = "only the tests use it")]

#[path = "../../../src/hash/mod.rs"]
pub mod hash;

pub mod model;

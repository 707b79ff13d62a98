// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sources of writer, readers, guards and ejection as they are, with loom's words in the place of those of `std`.
//!
//! What is not covered: arc-swap, whose own words loom cannot see, and tokio's channel that tells of a generation; both
//! count as one step here. In the place of arc-swap stands a pointer under a lock, which keeps its contract.
#![allow(dead_code, unused_imports, reason = "only the models use it")]

#[path = "../../../src/clock.rs"]
pub mod clock;
pub mod models;
mod pick;
mod store;
mod sync;

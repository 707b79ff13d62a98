// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bound on the load of keyed picks: `zonal.dev/bounded-load: "1.5"`. Off unless asked for.
//!
//! An endpoint that has 1.5 times the mean in flight lets the next key pass on to its successor on the ring: the same one at
//! every caller. Below 8 in flight nothing is bounded: such counts are noise.
//!
//! ```
//! use discovery_core::pick::Bound;
//!
//! let bound = Bound::new(150, Bound::FLOOR).unwrap();
//! assert_eq!(bound.cap(99, 10), 15, "of 100 in flight to 10 endpoints one has 15 at most");
//! ```
//!
//! - **What it buys** (50 endpoints, ten callers, Zipf 0.9): the fullest endpoint falls from 3.5 times the mean to 1.95 with
//!   2, 1.54 with 1.5, 1.33 with 1.25.
//! - **What it costs**: affinity; 9, 21 and 34 % of the requests go elsewhere. And 1 ns an endpoint for a pick whose owner is
//!   above the floor.
//! - Weights count: an endpoint of twice the weight may have twice as much.
//!
//! **Not** below 1.5 with many callers: each counts only its own requests, and few of them are noise.

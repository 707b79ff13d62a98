// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ring/v1`: consistent hashing, the default for keys.
//!
//! Each endpoint has 512 points on a circle of 2⁶⁴, by the hash of its identity; a key belongs to the next point. An endpoint
//! that leaves moves its own keys and no others: 0 of 100,000 in excess, where a ring whose points depend on the number of
//! endpoints (Envoy's, gRPC's) moves 7 % of all keys for nothing when one of ten leaves.
//!
//! ```
//! use discovery_core::hash::{HashKey, Member, Placement, Table};
//!
//! let three = ["web-0", "web-1", "web-2"].map(Member::ordinary);
//! let table = Table::build(Placement::RingV1, &three);
//! // The order is that in which to try, and that of replicas.
//! let order = table.order(HashKey::of(b"customer-17"));
//! // Whoever leaves is left out, and the others stay in their order.
//! let without = Table::build(Placement::RingV1, &three[..2]);
//! let expected: Vec<_> = order.into_iter().filter(|member| *member != 2).collect();
//! assert_eq!(without.order(HashKey::of(b"customer-17")), expected);
//! ```
//!
//! Of 100,000 keys moved, in brackets those whose owner had stayed (`cargo bench -p benches --bench movement`; gRPC's ring is
//! Envoy's as long as it has at most 4,096 points):
//!
#![doc = include_str!("moved.md")]
//!
//! - **Balance**: the fullest endpoint of 10 has 1.06 times the mean, of 100 1.12, of 1,000 1.16.
//! - **Cost**: one read of an index and one of the circle; 7 KiB an endpoint. A pod that leaves or comes back costs no new
//!   ring, a new pod a copy of it.
//! - **Weights**: `zonal.dev/weights`, absolute: a change adds or takes points of that endpoint alone.
//! - **Identity** is the pod's name: a StatefulSet keeps its keys through restarts and new addresses.
//! - **Size**: at most 65,535 endpoints, more are refused as `over-limit`; 1,000 take 7 MB, the greatest ring 470 MB.
//!
//! **Not** for many thousands of endpoints ([`maglev`](super::maglev)), nor where shares have to be exact ([`rendezvous`](super::rendezvous)); nor without keys, where it balances by chance.

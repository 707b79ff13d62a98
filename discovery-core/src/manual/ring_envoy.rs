// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ring/envoy`: for fleets of which a part calls through Envoy or gRPC with `ring_hash`.
//!
//! The ring is theirs (`minimum_ring_size` 1,024, XXH64), over `ip:port`, and reproduces the vectors of Envoy's own tests. Keys
//! have to be hashed their way too:
//!
//! ```
//! use discovery_core::hash::{HashKey, Member, Placement, Table};
//!
//! let hosts = ["127.0.0.1:90", "127.0.0.1:91"].map(Member::ordinary);
//! let table = Table::build(Placement::RingEnvoy, &hosts);
//! assert!(table.owner(HashKey::of_envoy(b"customer-17")).is_some());
//! ```
//!
//! - It agrees with Envoy exactly while weights are equal, all hosts are healthy and the ring is below its greatest size
//!   (262,144 here): Envoy builds its ring of the healthy ones, we skip, as gRPC does.
//! - It inherits their defect: one of ten leaves, and 17 % of the keys move; the fullest of 100 has 1.9 times the mean.
//!
//! **Not** unless such callers exist.

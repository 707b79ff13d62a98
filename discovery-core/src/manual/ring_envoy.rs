// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ring/envoy` and `maglev/envoy`: for fleets of which a part calls through Envoy or gRPC.
//!
//! The ring is that of `ring_hash` (`minimum_ring_size` 1,024, XXH64), the table that of `maglev` (`table_size` 65,537, XXH64),
//! both over `ip:port`; they reproduce the vectors of Envoy's own tests. Keys have to be hashed their way too:
//!
//! ```
//! use discovery_core::hash::{HashKey, Member, Placement, Table};
//!
//! let hosts = ["127.0.0.1:90", "127.0.0.1:91"].map(Member::ordinary);
//! for placement in [Placement::RingEnvoy, Placement::MaglevEnvoy] {
//!     let table = Table::build(placement, &hosts);
//!     assert!(table.owner(HashKey::of_envoy(b"customer-17")).is_some());
//! }
//! ```
//!
//! - `ring/envoy` agrees with Envoy exactly while weights are equal, all hosts are healthy and the ring is below its greatest
//!   size (262,144 here): Envoy builds its ring of the healthy ones, we skip, as gRPC does.
//! - `maglev/envoy` agrees for all weights of hosts, while all are healthy; not where Envoy weighs localities. With a host out
//!   Envoy builds another table: of 10 hosts 0.2 % of the keys then differ from ours beside those of that host, of 100 0.6 %.
//! - The ring inherits their defect: one of ten leaves, and 17 % of the keys move; the fullest of 100 has 1.9 times the mean.
//!
//! **Not** unless such callers exist.

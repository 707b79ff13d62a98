// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rendezvous/v1`: the highest score wins. Exact shares, exact weights, next to no memory.
//!
//! ```yaml
//! metadata:
//!   annotations:
//!     zonal.dev/hash-algorithm: rendezvous
//!     zonal.dev/weights: "web-canary-*=10"   # a tenth of an ordinary endpoint
//! ```
//!
//! Every member is given a score by key and identity; the order of the scores is the order of candidates. The logarithm that
//! weights need is taken in integers, so that every CPU finds the same.
//!
//! ```
//! use discovery_core::{hash::{Member, Placement, Table}, model::Weight};
//!
//! let members = [("web-0", 100), ("web-canary-0", 10)].map(|(identity, weight)| Member {
//!     identity,
//!     weight: Weight::new(weight).unwrap(),
//! });
//! let shares = Table::build(Placement::RendezvousV1, &members).shares(2);
//! assert!((shares[1] - 10.0 / 110.0).abs() < 1e-9);
//! ```
//!
//! - **Balance**: exact but for the chance of the keys. **Moved**: a member's own keys alone.
//! - **Cost**: about 1.5 ns a member and candidate, 4 ns where weights differ; 8 or 12 bytes a member; nothing to build.
//!
//! **Not** above some 64 endpoints: 100 cost 150 ns a pick, 1,000 cost 1.5 µs. Take the ring or Maglev there.

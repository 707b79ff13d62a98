// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handbook: which policy for what, what each costs, and when not to use it.
//!
//! | you have | take | page |
//! | --- | --- | --- |
//! | keys (sessions, caches, shards) | `ring/v1`, the default | [`ring`] |
//! | keys, a zone of up to 64 endpoints, exact shares | `rendezvous/v1` | [`rendezvous`] |
//! | keys, hundreds of endpoints, the flattest cost | `maglev/v1` | [`maglev`] |
//! | keys, and callers behind Envoy or gRPC | `ring/envoy`, `maglev/envoy` | [`ring_envoy`] |
//! | no keys | `least-requests`, the default | [`without_key`] |
//! | a Rust service that calls | a guard, or an adapter | [`clients`] |
//! | endpoints that fail, or are new | ejection, slow start | [`health`] |
//! | hot keys | a bound on load | [`bounded_load`] |
//! | zones that cannot always carry their load | policy `prefer` | [`zones`] |
//!
//! One principle holds throughout: **membership decides where a key belongs; what a caller knows by itself only decides whom
//! to skip.** Membership is made of facts that all callers share: who is listed, weights, identities, annotations. So two
//! callers that differ about one endpoint differ on its keys alone, and both send them to the same next one.
//!
//! Figures are of one run on two cores of an x86-64 VM; `cargo bench -p benches --bench pick` and `--bench movement` repeat
//! them.

pub mod bounded_load;
pub mod clients;
pub mod health;
pub mod maglev;
pub mod rendezvous;
pub mod ring;
pub mod ring_envoy;
pub mod without_key;
pub mod zones;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Endpoints that fail, and endpoints that are new: skips on the walk, never a reason to move keys.
//!
//! **Ejection.** Endpoints that fail five times in a row, or in half of at least 20 answers in 10 s, are left out for 5 s, then
//! 10, up to 5 min; one request tries them in between. At most 30 % of a service is ejected, one of two or three, and never
//! the last. A process ejects for itself: by what its guards are told, and what its [adapters](crate::client) see.
//!
//! ```
//! # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
//! use discovery_core::{client::ServiceClient, hash::HashKey, pick::EjectRule};
//!
//! # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
//! let rule = EjectRule { errors_in_row: 3, ..EjectRule::default() };
//! let mut web = ServiceClient::new(reader, "shop/web".parse().unwrap()).eject(Some(rule));
//! if let Ok(guard) = web.pick(HashKey::of(b"customer-17")) {
//!     assert_eq!(guard.failure(), None, "one error is none");
//! }
//! ```
//!
//! Whoever picks without a client tells a [`Pick`](crate::pick::Pick::end) how it ended; that is the same way.
//!
//! When nobody else is left, whoever was left out for what this process has seen is asked all the same: panic begins with
//! the last endpoint, not with half of them (`zonal_lb_panic_picks_total`). What the control plane says (gone, terminating,
//! not ready) is never ignored.
//!
//! - **What it buys**: a host that dies while the control plane is away is met by five calls and those under way at
//!   once: by 11 of some 6,000 of its keys' calls in a run of `examples/tests/calls`, where each of them went there before.
//! - **What it costs**: two or three atomic operations an outcome, and two looks at the clock a call.
//!
//! **Not** for errors that clients cause: report those as no error, or nobody's. Not below five errors in a row where many
//! calls share a connection: one that breaks fails them all.
//!
//! **Slow start.** `zonal.dev/slow-start: 30s`: a new endpoint takes a share of its keys that grows evenly from a hundredth,
//! and the same keys at every caller; what it took it keeps, so that caches warm once. Endpoints of the first list count as
//! warm.
//!
//! - **What it costs**: nothing for endpoints that are warm; a look at the clock for a pick that comes by a new one.
//!
//! **Not** where a cold endpoint answers as fast as a warm one: it only makes others carry more for longer. Not longer than
//! the time between two rollouts.
//!
//! `zonal explain SERVICE --key KEY` tells for a key whom its walk passes over, and for which of these reasons.

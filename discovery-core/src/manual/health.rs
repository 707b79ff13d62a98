// SPDX-License-Identifier: MIT OR Apache-2.0
//! Endpoints that fail, and endpoints that are new: skips on the walk, never a reason to move keys.
//!
//! **Ejection.** Tell each outcome, and endpoints that fail five times in a row, or half of at least 20 answers in 10 s, are
//! left out for 5 s, then 10, up to 5 min; one request tries them in between. At most 30 % of a service is ejected, one of
//! two or three, and never the last.
//!
//! ```
//! # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
//! use discovery_core::{hash::HashKey, pick::{EjectRule, Outcome, Picker}};
//! use std::time::{Duration, Instant};
//!
//! # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
//! # let mut picker = Picker::new(reader, "shop/web".parse().unwrap());
//! let rule = EjectRule { errors_in_row: 3, ..EjectRule::default() };
//! if let Ok(pick) = picker.keyed(HashKey::of(b"customer-17")) {
//!     let outcome = Outcome { is_error: true, latency: Duration::from_millis(3) };
//!     let verdict = pick.end(outcome, Instant::now(), Some(&rule));
//!     assert_eq!(verdict, None, "one error is none");
//! }
//! ```
//!
//! When nobody else is left, whoever was left out for what this process has seen is asked all the same: panic begins with
//! the last endpoint, not with half of them. What the control plane says (gone, terminating, not ready) is never ignored.
//!
//! **Slow start.** `zonal.dev/slow-start: 30s`: a new endpoint takes a share of its keys that grows evenly, and the same keys
//! at every caller; what it took it keeps, so that caches warm once. Endpoints of the first list count as warm.
//!
//! **Not** ejection for errors that clients cause: report those as no error.

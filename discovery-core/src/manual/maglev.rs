// SPDX-License-Identifier: MIT OR Apache-2.0
//! `maglev/v1`: a table of 65,537 slots that the members fill in turns.
//!
//! A pick is one read of a table of 128 KiB, whatever the number of endpoints, and shares are equal within 1 % up to 655 of
//! them.
//!
//! ```
//! use discovery_core::hash::{Member, Placement, Table};
//!
//! let names: Vec<_> = (0..100).map(|n| format!("web-{n}")).collect();
//! let members: Vec<_> = names.iter().map(|name| Member::ordinary(name)).collect();
//! let shares = Table::build(Placement::MaglevV1, &members).shares(100);
//! assert!(shares.iter().all(|share| (share * 100.0 - 1.0).abs() < 0.01));
//! ```
//!
//! - **Moved** when one leaves: its own keys, and some of others: 0.2 % of all at 10 members, 0.5 % at 100, 0.6 % at 1,000,
//!   where the ring moves none ([the table](super::ring)). That an endpoint is not ready or ejected is a skip and moves its own alone.
//! - **Build**: 1 to 2 ms for every change of membership, off the path of picks.
//!
//! **Not** for caches and shards of which every moved key costs; nor for services that scale by the minute.

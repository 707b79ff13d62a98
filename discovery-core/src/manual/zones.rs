// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zone first, then hash: `zonal.dev/zone-policy`.
//!
//! | policy | who is picked |
//! | --- | --- |
//! | `strict` | the own zone. Empty is an error, not a leak |
//! | `prefer` | the own zone while it can serve; then the others |
//! | `any` | all zones as one |
//!
//! Each preference level has a table of its own. Under `prefer` with `zonal.dev/spill-below: "70"` the others open before the
//! zone is empty: with 35 of 100 usable, half of the keys goes out, and the same half at every caller that sees the same.
//! The way back is ten points longer, so that a zone at the edge does not send keys to and fro.
//!
//! There is no least number of hosts, no equal number per zone, and no need to know how many callers a zone has.
//!
//! ```
//! # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
//! use discovery_core::{hash::HashKey, pick::{OwnerWatch, Picker}};
//!
//! # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
//! // Connections stay where they are when the owner is well again. This tells when to bring them home.
//! let mut watch = OwnerWatch::new(Picker::new(reader, "shop/web".parse().unwrap()), HashKey::of(b"customer-17"));
//! if let Some(change) = watch.look() {
//!     println!("{:?}: to {:?}", change.cause, change.to);
//! }
//! ```
//!
//! - **Cost**: none for a pick while the own zone has enough: who is near was decided when the snapshot was made. While keys
//!   spill, one more mixing of the key. Tables of the other zones are held in memory as well: 7 KiB an endpoint.
//! - **Shown** by `zonal_lb_spilled_share_ratio` and by `zonal explain --key`, where the own zone is `other-tier`.
//!
//! **Not** `prefer` where data must not leave the site: that is what `strict` is for.

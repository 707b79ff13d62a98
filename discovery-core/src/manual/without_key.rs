// SPDX-License-Identifier: MIT OR Apache-2.0
//! Picks without a key: `zonal.dev/balance`.
//!
//! | value | picks | cost at 100 endpoints | not for |
//! | --- | --- | --- | --- |
//! | `least-requests` | of two random ones the less busy, by weight | 10 to 15 ns | endpoints of very different speed |
//! | `ewma` | of two random ones that which should answer sooner | 40 to 60 ns | callers that report no outcomes; calls of very different work |
//! | `round-robin` | in turn, smoothly by weight | 1 ns an endpoint | hundreds of endpoints; many callers |
//! | `random` | at random by weight | 10 ns | anything that knows its load |
//!
//! All know only what this process has in flight. Two random ones are enough: a caller that always takes the least busy of
//! all joins the herd of those who do the same.
//!
//! ```
//! # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
//! use discovery_core::{model::WithoutKey, pick::Picker};
//!
//! # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
//! let mut picker = Picker::new(reader, "shop/web".parse().unwrap()).without_key(WithoutKey::Ewma);
//! match picker.any() {
//!     Ok(pick) => println!("{:?}", pick.socket(None)),
//!     Err(error) => println!("{error}"),
//! }
//! ```
//!
//! For `ewma`, and for ejection, end a pick with its outcome: [`Guard::success`](crate::client::Guard::success) and `failure`, or
//! [`Pick::end`](crate::pick::Pick::end); adapters do. A fast error counts as
//! an answer of a second, so that an endpoint that refuses everything does not draw all traffic.

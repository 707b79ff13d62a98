// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls from a Rust service: picks by hand, or an adapter of the library that is there already.
//!
//! | you call by | take | a retry goes on |
//! | --- | --- | --- |
//! | anything | [`ServiceClient`](crate::client::ServiceClient), a guard for each call | as you write it: [`pick_n`](crate::client::ServiceClient::pick_n) is the order |
//! | tower | [`Balance`](crate::client::Balance) over a service per endpoint | after every error, or what [`retry_if`](crate::client::Balance::retry_if) says |
//! | HTTP over hyper | `client::hyper::HttpClient` | when nothing was sent, or the method is idempotent |
//! | gRPC | `client::tonic::Channel` | when nothing was sent; after a break, too, if told `idempotent` |
//! | reqwest | `client::reqwest::KeyedClient` | as for hyper, when the body is no stream |
//! | a client with a pool of its own | `client::hyper::Connector`, `client::reqwest::Resolver` | to the next endpoint while it connects |
//!
//! No endpoint is tried twice for a call: a retry leaves the host that failed, to the next on the walk. At most three are
//! tried, and a [`RetryBudget`](crate::client::RetryBudget) of 20 retries for each 100 calls keeps a service that fails whole
//! from being asked three times as often.
//!
//! ```
//! # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
//! use discovery_core::{client::ServiceClient, hash::HashKey};
//!
//! # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
//! let mut web = ServiceClient::new(reader, "shop/web".parse().unwrap());
//! # fn send(_: Option<std::net::SocketAddr>) -> std::io::Result<()> { Ok(()) }
//! match web.pick(HashKey::of(b"customer-17")) {
//!     Ok(guard) => match send(guard.socket(Some("http"))) {
//!         Ok(()) => guard.success(),
//!         Err(_) => guard.failure(),
//!     },
//!     Err(error) => {
//!         println!("{error}; {}", if error.is_retryable() { "later, perhaps" } else { "not before it is mended" });
//!         None
//!     }
//! };
//! ```
//!
//! - **What it costs**: a pick, two counters, two reference counts and the clock twice a call; an adapter adds one
//!   allocation for its future and one for the list of those tried. A process that watches by itself is a watch for the API
//!   server: ten on a node [follow its agent](crate::client::DiscoveryBuilder::agent) instead.
//! - **Limits**: 65,536 calls under way ([`in_flight_max`](crate::client::DiscoveryBuilder::in_flight_max)), 1,024 connections of a
//!   pool, 64 KiB of a body kept for a retry.
//!
//! **Not** a `Resolver` or `Connector` for keys: their pools know none, and keep a connection to whoever was picked first. Not
//! an adapter for calls that must not be carried out twice *and* need a retry after a break: nothing can tell whether they were.

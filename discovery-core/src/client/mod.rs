// SPDX-License-Identifier: MIT OR Apache-2.0
//! Discovery inside a Rust service: keyed picks, changes as they come, and adapters that retry on the next candidate.
//!
//! [`Discovery`] is the handle, [`ServiceClient`] one service of it. A pick is a [`Guard`]: it counts as in flight until
//! dropped, and is told how the call ended; every adapter below tells it the same way. So an endpoint that fails is
//! ejected by what its callers see ([`manual::health`](crate::manual::health)). Nothing here grows without a limit: calls under way are capped
//! ([`DiscoveryBuilder::in_flight_max`]), watches keep one view and no queue, retries have a [`RetryBudget`], pools of
//! connections a size. [`Discovery::close`] takes no new calls and lets the old ones finish.
//!
//! | adapter | feature | what it is | what counts against an endpoint |
//! | --- | --- | --- | --- |
//! | [`Balance`], [`Pool`] | `tower` | a `tower::Service` that chooses after it has seen the request, over a service per endpoint | every error, or what [`Balance::blame_if`] says |
//! | [`hyper::HttpClient`] | `hyper` | HTTP/1.1 keyed per request | no connection, a broken one, no answer in time; 502, 503, 504 |
//! | [`hyper::Connector`] | `hyper` | a connector for others' clients | no connection |
//! | `tonic::Channel` | `tonic` | a gRPC channel, keyed per call | the same; `UNAVAILABLE` at the head of an answer |
//! | `reqwest::KeyedClient` | `reqwest` | HTTP keyed per request | as for hyper |
//! | `reqwest::Resolver` | `reqwest` | names to addresses | nothing: it sees no outcome |
//!
//! Never counted: a request that cannot be sent, a call that was given up, descriptors or ports that this process ran out of.
//!
//! ```no_run
//! use discovery_core::{client::Discovery, hash::HashKey};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let discovery = Discovery::builder().node("edge-a").manifest("mall.yaml").start().await?;
//! discovery.ready().await;
//! let mut web = discovery.service("shop/web".parse()?);
//! let pick = web.pick(HashKey::of(b"customer-17"))?;
//! println!("{} at {:?}", pick.identity(), pick.socket(Some("http")));
//! pick.success();
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "tower")]
mod balance;
#[cfg(any(feature = "tower", feature = "reqwest"))]
mod budget;
mod discovery;
mod error;
#[cfg(any(feature = "hyper", feature = "tonic", feature = "reqwest"))]
mod fault;
mod gate;
mod guard;
#[cfg(feature = "hyper")]
pub mod hyper;
mod name;
#[cfg(any(feature = "tower", feature = "reqwest"))]
mod plan;
#[cfg(feature = "reqwest")]
pub mod reqwest;
mod service;
mod terms;
#[cfg(feature = "tonic")]
pub mod tonic;
mod watch;

#[cfg(feature = "tower")]
pub use balance::{
    Always, Balance, BalanceError, BlameRule, Dispatch, EveryError, HeaderKey, Pool, PoolError,
    ReplayBody, ReplayError, RequestKey, RetryRule, Target,
};
#[cfg(any(feature = "tower", feature = "reqwest"))]
pub use budget::RetryBudget;
pub use discovery::{Discovery, DiscoveryBuilder};
pub use error::{CallError, DiscoveryError};
pub use gate::Closed;
pub use guard::Guard;
pub use name::service_of_host;
pub use service::ServiceClient;
pub use watch::{ServiceChange, ServiceWatch};

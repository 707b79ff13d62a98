// SPDX-License-Identifier: MIT OR Apache-2.0
//! Discovery inside a Rust service: one handle, keyed picks, and a `tower::Service` that retries on the next candidate.
//!
//! ```no_run
//! use discovery_core::{client::Discovery, hash::HashKey};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let discovery = Discovery::builder("edge-a")?.manifest("mall.yaml").start().await?;
//! let mut picker = discovery.picker("shop/web".parse()?);
//! let pick = picker.keyed(HashKey::of(b"customer-17"))?;
//! println!("{} at {:?}", pick.identity(), pick.socket(Some("http")));
//! # Ok(())
//! # }
//! ```

mod balance;
mod discovery;

pub use balance::{Balance, BalanceError, Dispatch};
pub use discovery::{Discovery, DiscoveryBuilder};

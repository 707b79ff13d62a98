// SPDX-License-Identifier: MIT OR Apache-2.0
//! From watch event to pick: the core of Zonal.
//!
//! A source (a Kubernetes watch, a manifest file, the last snapshot on disk) states facts as
//! [`store::Update`]s. One writer applies them to its [`store::State`] and publishes immutable, numbered
//! [`store::Snapshot`]s; readers see a whole one or the one before, without a lock. [`pick`] orders the endpoints of a
//! service for a key: **zone first, then hash**, and every caller agrees.

pub mod client;
pub mod clock;
pub mod config;
pub mod hash;
pub mod model;
pub mod pick;
pub mod runtime;
pub mod source;
pub mod store;
pub mod telemetry;

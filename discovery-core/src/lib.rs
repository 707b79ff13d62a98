// SPDX-License-Identifier: MIT OR Apache-2.0
//! From watch event to pick: the core of Zonal.
//!
//! A source (a Kubernetes watch, a manifest file, the last snapshot on disk) states facts as
//! [`store::Update`]s. One writer applies them to its [`store::State`] and publishes immutable, numbered
//! [`store::Snapshot`]s; readers see a whole one or the one before, without a lock. [`pick`] orders the endpoints of a
//! service for a key: **zone first, then hash**, and every caller agrees.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `kube` | yes | a Kubernetes API server as a source; brings `kube` and a TLS client. Whoever builds the binary chooses the version of the API with a feature of `k8s-openapi`, such as `v1_33` |
//! | `consul` | yes | a Consul agent as a source; brings a TLS client |
//!
//! Without any the manifest file is the source, and 50 of 136 crates are not built.

pub mod client;
pub mod clock;
pub mod config;
#[cfg(test)]
#[path = "../../fuzz/targets/corpus.rs"]
mod corpus;
pub mod hash;
pub mod manual;
pub mod model;
pub mod pick;
pub mod runtime;
pub mod source;
pub mod store;
mod sync;
pub mod telemetry;

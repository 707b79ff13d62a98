// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Kubernetes source against a scripted API server.
//!
//! Time is paused and moved on by a task that lets all I/O settle before each step, so that minutes of backoff take
//! milliseconds and no test sleeps.

mod another_cluster;
mod apis;
mod certificates;
mod contract;
mod credentials;
mod denied;
mod faults;
mod identity;
mod life;
mod restart;
mod scene;
mod scopes;
mod second_watch;
mod server;
mod service_account;
mod wire;

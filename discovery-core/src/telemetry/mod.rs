// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every metric name, once.
//!
//! Names begin with `zonal_`, use base units, and take their labels from closed sets; addresses and asked names are log
//! fields. What only restates the newest snapshot is read when somebody scrapes, so that it costs nothing otherwise.

mod agent;
mod consul_api;
mod dns;
mod labels;
mod metrics;
mod proxy;
mod view;
mod watch;

pub use agent::{AgentMetrics, ClientEnd};
pub use consul_api::*;
pub use dns::*;
pub use metrics::Metrics;
pub use proxy::*;

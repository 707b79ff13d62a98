// SPDX-License-Identifier: MIT OR Apache-2.0
//! Joins sources, writer, disk and admin into one handle with a life cycle: start, ready, drain, stop.

mod admin;
mod agent_socket;
mod config;
mod core;
mod explain;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod http;
mod kind_report;
mod need;
mod persister;
mod prepared;
mod publisher;
mod restore;
mod sockets;
mod status;

pub use self::core::Runtime;
pub use admin::{admin_routes, admin_write_routes, probe_routes};
pub use agent_socket::{AgentSocketConfig, AgentSocketError};
pub use config::{RuntimeConfig, SourceConfig, StartError};
pub use explain::{ExplainedEndpoint, ExplainedStep, Explanation, explain};
pub use kind_report::KindReport;
pub use need::Need;
pub use sockets::{Kept, Sockets};
pub use status::{Freshness, Readiness, ServiceReport, SourceReport, Status};

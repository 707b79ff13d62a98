// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real servers for tests, each on free loopback ports in a directory of its own.
//!
//! A discovery library is only as good as its reading of what real servers send, so its tests talk to a real API
//! server, a real controller manager and a real Consul. This package finds those programs or builds them once
//! ([`Binary`]), starts them under a guard that outlives a killed test ([`Process`]), answers only when they answer
//! ([`Kube`], [`Consul`]), and plays the fleet that no test has: nodes, leases, pods and their status ([`Driver`]).
//!
//! What it never does: end a process that it did not start, kill by name, or touch the host's network outside
//! loopback and the namespaces it made ([`Netns`]).
//!
//! ```no_run
//! # async fn a_test() -> Result<(), testbed::Error> {
//! let Some(kube) = testbed::Kube::start_or_skip("slices_name_their_node").await else { return Ok(()) };
//! let driver = kube.driver();
//! driver.node("edge-1", &[("zone", "hall-a")], [10, 0, 0, 1]).await?;
//! # Ok(())
//! # }
//! ```

pub mod api_server;
mod apply;
mod binary;
mod cache;
mod cgroup;
mod consul;
mod control_plane;
mod driver;
mod error;
mod http1;
mod leases;
mod musl;
mod netns;
mod plan;
mod ports;
mod process;
mod skip;
mod wait;

pub use apply::{apply, apply_yaml};
pub use binary::Binary;
pub use cgroup::{Cgroup, CgroupLimit};
pub use consul::Consul;
pub use control_plane::{Kube, KubeOptions, client};
pub use driver::Driver;
pub use error::Error;
pub use leases::Leases;
pub use musl::Musl;
pub use netns::Netns;
pub use ports::free_ports;
pub use process::Process;
pub use skip::skip;
pub use wait::wait_for;

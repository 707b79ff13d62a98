// SPDX-License-Identifier: MIT OR Apache-2.0
//! An L4 proxy that fronts NodePorts: it listens where a cluster's clients already connect, and carries each connection
//! to an endpoint of our own zone, chosen by consistent hashing of the client's address.
//!
//! In: the snapshots of a [`Reader`](discovery_core::store::Reader). Out: open ports, carried connections, metrics and
//! [`ListenerStatus`]. [`Proxy::run`] follows the snapshots until it is told to stop; then it drains.
//!
//! A client keeps its endpoint while the endpoint is usable, whichever host of the site it enters by, because every host
//! computes the same order of endpoints. What fails is told as failure: a connection that cannot be served is reset, never
//! closed as if it had been answered, and a port without endpoints refuses.
//!
//! TCP and UDP. SCTP NodePorts are listed as unsupported and left alone.
//!
//! ```
//! use discovery_core::{model::NodeName, store::{StateConfig, channel}, telemetry::ProxyMetrics};
//! use lb_proxy::{Config, Proxy};
//! use std::{sync::Arc, time::Duration};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
//! let config = Config::default().drain_timeout(Duration::from_secs(5));
//! let proxy = Proxy::new(config, reader, Arc::new(ProxyMetrics::default()));
//! let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
//! let status = proxy.status();
//! let running = tokio::spawn(proxy.run(stop.clone(), kill));
//! assert!(status.listeners().is_empty(), "the snapshot is still empty");
//! stop.cancel();
//! running.await.unwrap();
//! # }
//! ```

mod backoff;
mod config;
mod connection;
mod endpoints;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod limits;
mod peers;
mod plan;
mod ports;
mod prove;
mod proxy_header;
mod reason;
mod register;
mod relay;
mod sockets;
mod status;
mod udp;
mod workers;

pub use config::{BusyPort, Config};
pub use connection::{ConnectionState, ConnectionStatus};
pub use peers::Witness;
pub use plan::{Contender, Plan, Refusal, Target, plan};
pub use ports::Proxy;
pub use prove::Proof;
pub use proxy_header::{Network, NetworkError};
pub use reason::Reason;
pub use register::Registration;
pub use sockets::EphemeralPorts;
pub use status::{Holder, ListenerState, ListenerStatus, StatusHandle};
pub use udp::{
    HandOver, HandedSessions, SessionFacts, SessionFactsError, SessionGiver, SessionStatus,
    UdpSession,
};

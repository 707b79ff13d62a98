// SPDX-License-Identifier: MIT OR Apache-2.0
//! A DNS responder that speaks the names of Consul and answers from memory.
//!
//! Callers that resolve `web.service.consul` get the endpoints of their own zone, from the newest snapshot, whether or not
//! anything beyond this host can be reached. The way of a question:
//!
//! ```text
//! snapshot ─► IndexBuilder ─► Index          prepared once for each generation
//!                               │
//! request ─► Responder::answer ─┴─► reply     pure: no socket, no clock, no lock
//! ```
//!
//! UDP and TCP loops wrap [`Responder`]; [`DnsServer`] joins them to a [`Reader`](discovery_core::store::Reader). The names
//! of another zone do not exist here, whether that zone does or not. Before the zone is known and everything was listed
//! once, the answer to every name is "not ready", never "does not exist". Nothing is forwarded.
//!
//! | name | answered with |
//! | --- | --- |
//! | `[<port name>.]<service>.service[.<zone>].consul` | A, AAAA, SRV |
//! | `_<service>._<tcp or port name>[.service][.<zone>].consul` | SRV; with `service` also A, AAAA |
//! | `<node>.node[.<zone>].consul`, `<hex>.addr[.<zone>].consul` | A, AAAA; what SRV targets are |
//! | `consul`, `ns.consul` | SOA, NS; A, AAAA |
//!
//! A service is called `<name>-<namespace>`, and in the namespace `default` also `<name>`.

mod answer;
mod assemble;
pub mod client;
mod config;
mod failures;
mod index;
mod names;
mod order;
mod prepare;
mod records;
mod server;
mod tally;
mod tcp;
mod udp;
mod wire;

pub use answer::{Answered, Responder, Verdict};
pub use config::{Config, ConfigError};
pub use index::{Index, IndexBuilder, Unnamed};
pub use server::{BindError, DnsServer, DnsStatus};

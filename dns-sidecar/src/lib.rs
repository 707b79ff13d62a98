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
//! once, the answer to every name is "not ready", never "does not exist". Names of others are refused, or relayed to
//! `recursors`.
//!
//! | name | answered with |
//! | --- | --- |
//! | `[<tag or port name>.]<service>.service[.<zone>].consul` | A, AAAA, SRV |
//! | `_<service>._<tcp, tag or port name>[.service][.<zone>].consul` | SRV; with `service` also A, AAAA |
//! | `<key>._key.<service>.service.consul` | A, AAAA, SRV in the order of the key's ring: the owner first |
//! | `<zone>.pin._zone.<service>.service.consul`, `<zone>.prefer._zone…` | endpoints of a zone, as far as the policy lets them be seen |
//! | `_info.<service>.service.consul` | TXT: age, source, reasons |
//! | `<service>.ingress.consul` | the hosts and ports through which it is reached from outside |
//! | `<name>.query.consul` | prepared queries of the configuration |
//! | `<node>.node[.<zone>].consul`, `<hex>.addr[.<zone>].consul` | A, AAAA; what SRV targets are |
//! | names below `in-addr.arpa` and `ip6.arpa` | PTR |
//! | `consul`, `ns.consul` | SOA, NS; A, AAAA |
//!
//! A service is called by its annotation `zonal.dev/consul-name`, else `<name>-<namespace>`, and in the namespace `default`
//! also `<name>`.

#![cfg_attr(
    feature = "http",
    doc = "\n[`Config::http_listen`] offers the same as a read-only part of Consul's HTTP interface."
)]

mod access;
mod answer;
pub mod catalog;
pub mod client;
mod config;
#[cfg(feature = "http")]
mod consul_api;
mod cookie;
#[cfg(test)]
#[path = "../../fuzz/targets/corpus.rs"]
mod corpus;
#[cfg(feature = "doh")]
mod doh;
mod failures;
mod forward;
mod freshness;
mod index;
mod names;
mod order;
mod prepare;
mod query_log;
mod rate;
mod records;
mod server;
mod sources;
mod tally;
mod tcp;
#[cfg(any(feature = "dot", feature = "doh"))]
mod tls;
mod udp;
#[cfg(any(feature = "http", feature = "doh"))]
mod web;
mod wire;
mod words;

pub use access::Network;
pub use answer::{Answered, HostNames, Responder, Upstream, Verdict};
pub use config::{Config, ConfigError, DnsConfig, PreparedQuery, Profile, Strategy};
pub use forward::UpstreamState;
pub use index::{Index, IndexBuilder, Unnamed};
pub use query_log::QueryLog;
pub use server::{BindError, DnsServer, DnsStatus, UpstreamStatus};

/// What must hold for any bytes, beside each parser. Built for tests and for `fuzz/` alone.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz {
    #[cfg(feature = "http")]
    pub use crate::consul_api::fuzz::consul_filter;
    pub use crate::forward::fuzz::upstream_reply;
}

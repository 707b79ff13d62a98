// SPDX-License-Identifier: MIT OR Apache-2.0
//! A read-only part of Consul's HTTP interface, for who discovers by it: consul-template, Prometheus, Traefik, fabio, and
//! Consul's own command.
//!
//! ```text
//! index of DNS answers ─► Ledger ─► View ─┬─► View::answer ─► JSON    pure
//! request ─► Asked ───────────────────────┘
//! ```
//!
//! Off unless the configuration names an address. A request with an index waits until what it asks for has changed, at most
//! as long as it says; those that wait are bounded, and end with the client, the server or their time. It writes nothing and
//! asks nobody.

mod answer;
mod asked;
mod filter;
mod ledger;
mod serve;
mod shape;
mod told;

#[cfg(any(test, fuzzing))]
pub(crate) use filter::fuzz;
pub(crate) use serve::{ConsulApi, keep_view};

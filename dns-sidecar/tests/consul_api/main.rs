// SPDX-License-Identifier: MIT OR Apache-2.0
//! The read-only part of Consul's HTTP interface from outside: what it tells, to whom, and when; beside a real Consul, and
//! with the real clients of one.

mod answers;
mod client;
mod clients;
#[path = "../consul/fixture.rs"]
#[allow(dead_code, reason = "shared with the replay of recorded DNS answers")]
mod fixture;
#[path = "../dns/mall.rs"]
#[allow(dead_code, reason = "shared with the tests of DNS")]
mod mall;
mod real;
mod site;
mod waiting;

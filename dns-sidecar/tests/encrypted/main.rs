// SPDX-License-Identifier: MIT OR Apache-2.0
//! DNS over TLS and HTTPS from outside: what is answered, to whom, by which certificate.

mod doh;
mod dot;
#[path = "../dns/mall.rs"]
#[allow(dead_code, reason = "shared with the tests of DNS")]
mod mall;
#[path = "../dns/packet.rs"]
#[allow(dead_code, reason = "shared with the tests of DNS")]
mod packet;
mod site;

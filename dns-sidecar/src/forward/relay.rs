// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks upstream servers one after another, in the order of the configuration, and makes the client's reply of what they
//! say. No more than a bound are open at once.

use super::{
    Resolved,
    exchange::{ask_tcp, ask_udp},
};
use crate::{
    Config, Index, Responder, Verdict,
    answer::{Answered, HostNames, Upstream, asked_type},
    config::{Forward, Strategy},
    wire::{Header, WireName, read_answers, rtype},
};
use discovery_core::telemetry::{DnsRcode, DnsTransport};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// Asks for names of others. Clones share the bound.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    forward: Arc<Forward>,
    is_compat: bool,
    places: Arc<Semaphore>,
}

/// A finished reply.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) answered: Answered,
}

impl Forwarder {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            forward: Arc::new(config.forward.clone()),
            is_compat: config.profile.is_compat(),
            places: Arc::new(Semaphore::new(config.forward.open_max)),
        }
    }

    /// A place among those that may be open; none when all are taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Asks, and makes the reply to the request.
    pub(crate) async fn finish(
        &self,
        index: &Index,
        responder: &mut Responder,
        request: &[u8],
        transport: DnsTransport,
        upstream: Upstream,
    ) -> Option<Forwarded> {
        match upstream {
            Upstream::Relay => match self.ask(request, transport).await {
                Some(reply) => Some(relayed(request, reply)),
                None => Some(failed(index, request, self.is_compat)),
            },
            Upstream::Resolve(names) => {
                let resolved = self.resolve(names, transport).await;
                let mut bytes = Vec::new();
                match responder.answer_with(index, request, transport, Some(&resolved), &mut bytes)
                {
                    Verdict::Answered(answered) => Some(Forwarded { bytes, answered }),
                    Verdict::Dropped(_) | Verdict::Upstream(_) => None,
                }
            }
        }
    }

    async fn resolve(&self, HostNames(names): HostNames, transport: DnsTransport) -> Resolved {
        let mut resolved = Resolved::default();
        for (name, qtype) in names {
            let reply = self.ask(&question(&name, qtype), transport).await;
            let records = reply.and_then(|reply| read_answers(&reply));
            resolved.0.push((name, records.unwrap_or_default()));
        }
        resolved
    }

    /// The first good reply; none when no server gave one in time.
    async fn ask(&self, request: &[u8], transport: DnsTransport) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let count = self.forward.servers.len();
        let first = match self.forward.strategy {
            Strategy::Sequential => 0,
            Strategy::Random => fastrand::usize(..count.max(1)),
        };
        let servers = self.forward.servers.iter().cycle().skip(first).take(count);
        let tries = u32::try_from(count).unwrap_or(u32::MAX);
        for server in servers {
            let until = deadline.min(
                Instant::now()
                    + self
                        .forward
                        .timeout
                        .min(PATIENCE / tries.max(1))
                        .max(TRY_MIN),
            );
            if let Some(reply) = ask_one(*server, request, transport, until).await {
                return Some(reply);
            }
        }
        None
    }
}

/// The reply of one server, when it is final.
async fn ask_one(
    server: SocketAddr,
    request: &[u8],
    transport: DnsTransport,
    until: Instant,
) -> Option<Vec<u8>> {
    let exchange = async {
        match transport {
            DnsTransport::Udp => ask_udp(server, request).await,
            DnsTransport::Tcp => ask_tcp(server, request).await,
        }
    };
    let reply = timeout_at(until, exchange).await.ok()?.ok()?;
    let is_final = matches!(Header::read(&reply)?.rcode(), NO_ERROR | NX_DOMAIN);
    is_final.then_some(reply)
}

/// The reply as it came, with the word that we ask others, and without that of an authority.
fn relayed(request: &[u8], mut reply: Vec<u8>) -> Forwarded {
    reply[2] &= !0x04;
    reply[3] |= 0x80;
    let header = Header::read(&reply);
    let rcode = match header.map_or(NO_ERROR, Header::rcode) {
        NO_ERROR => DnsRcode::NoError,
        NX_DOMAIN => DnsRcode::NxDomain,
        _ => DnsRcode::Other,
    };
    Forwarded {
        answered: Answered {
            qtype: asked_type(request),
            rcode,
            is_truncated: header.is_some_and(Header::is_truncated),
            is_stale: false,
        },
        bytes: reply,
    }
}

/// Nobody answered: SERVFAIL, and where the client can read it the reason (RFC 8914 4.23).
fn failed(index: &Index, request: &[u8], is_compat: bool) -> Forwarded {
    let mut bytes = Vec::new();
    crate::answer::write_failure(index, request, is_compat, &mut bytes);
    Forwarded {
        bytes,
        answered: Answered {
            qtype: asked_type(request),
            rcode: DnsRcode::ServFail,
            is_truncated: false,
            is_stale: false,
        },
    }
}

/// A question with EDNS, recursion desired.
fn question(name: &WireName, qtype: u16) -> Vec<u8> {
    let mut request = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    request.extend_from_slice(name.as_bytes());
    request.push(0);
    request.extend_from_slice(&qtype.to_be_bytes());
    request.extend_from_slice(&[0, 1, 0]);
    request.extend_from_slice(&rtype::OPT.to_be_bytes());
    // 1232 bytes, which no path fragments.
    request.extend_from_slice(&[0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    request
}

const NO_ERROR: u16 = 0;
const NX_DOMAIN: u16 = 3;
/// Below the 5 s after which clients ask again.
const PATIENCE: Duration = Duration::from_secs(4);
/// However many servers share the time.
const TRY_MIN: Duration = Duration::from_millis(200);

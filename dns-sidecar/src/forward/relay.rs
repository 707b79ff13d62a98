// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks upstream servers, and makes the client's reply of what they say. No more than a bound are open at once, in all and
//! for each client; what is open is asked once.

use super::{
    Resolved, UpstreamState,
    cache::Cache,
    exchange::{ask_tcp, ask_udp, ask_whole},
    joined::{Join, Open},
    loops::{CHECK_PATIENCE, Marks},
    question::{Key, as_reply_to, without_hop_options},
    upstreams::{Try, Upstreams},
};
use crate::{
    Config, Index, Responder, Verdict,
    answer::{Answered, HostNames, Upstream, asked_type},
    sources::{Sources, Visit},
    wire::{Header, WireName, read_answers, rtype},
};
use discovery_core::telemetry::{DnsMetrics, DnsRcode, DnsTransport, DnsUpstream};
use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// Asks for names of others. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_compat: bool,
    metrics: Arc<DnsMetrics>,
    places: Arc<Semaphore>,
    clients: Arc<Sources>,
    open: Arc<Open>,
    cache: Cache,
    marks: Marks,
    /// Guards who is asked: taken before and after a question, never over an await.
    upstreams: Mutex<Upstreams>,
    /// Guards when a loop was last looked for.
    suspected: Mutex<Option<Instant>>,
}

/// A place among the questions that may be open.
#[derive(Debug)]
pub(crate) struct Place {
    _place: OwnedSemaphorePermit,
    _client: Visit,
}

/// A finished reply.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) answered: Answered,
}

/// What a server said.
enum Said {
    /// The client's reply.
    Final(Vec<u8>),
    /// That it does not know: another may.
    Refused,
    /// Nothing.
    Silent,
}

impl Forwarder {
    /// `own` are the addresses that are listened on.
    pub(crate) fn new(config: &Config, own: &[SocketAddr], metrics: Arc<DnsMetrics>) -> Self {
        let forward = &config.forward;
        let upstreams = Upstreams::new(&forward.servers, own, forward.strategy, forward.timeout);
        Self(Arc::new(Shared {
            is_compat: config.profile.is_compat(),
            metrics,
            places: Arc::new(Semaphore::new(forward.open_max)),
            clients: Arc::new(Sources::new(OPEN_PER_CLIENT_MAX)),
            open: Arc::default(),
            cache: Cache::new(forward.cache_bytes),
            marks: Marks::new(forward.servers.len()),
            upstreams: Mutex::new(upstreams),
            suspected: Mutex::default(),
        }))
    }

    /// A place among those that may be open; none when all are taken, or this client has as many as it may.
    pub(crate) fn place(&self, client: IpAddr) -> Option<Place> {
        let place = self.0.places.clone().try_acquire_owned().ok()?;
        Some(Place {
            _place: place,
            _client: self.0.clients.enter(client)?,
        })
    }

    /// Each server with its state.
    pub(crate) fn states(&self) -> Vec<(SocketAddr, UpstreamState)> {
        self.upstreams().states()
    }

    /// Sends each server a question of ours, to see at the start whether it comes back.
    pub(crate) fn look_for_loops(&self) {
        let asked = self.upstreams().asked();
        for (server, address) in asked {
            tokio::spawn(self.clone().check_loop(server, address));
        }
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
            Upstream::Relay => {
                let reply = match self.0.marks.server_of(request) {
                    Some(server) => {
                        self.upstreams().looped(server, Instant::now());
                        None
                    }
                    None => self.ask(&without_hop_options(request), transport).await,
                };
                Some(match reply {
                    Some(reply) => relayed(request, reply),
                    None => failed(index, request, self.0.is_compat),
                })
            }
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
            let reply = self
                .ask_servers(&question(&name, qtype), transport, true)
                .await;
            let records = reply.and_then(|reply| read_answers(&reply));
            resolved.0.push((name, records.unwrap_or_default()));
        }
        resolved
    }

    /// The reply that is kept, that another already waits for, or that a server gives.
    async fn ask(&self, request: &[u8], transport: DnsTransport) -> Option<Vec<u8>> {
        // How the client came says what the server is asked over; whether others see it is between us and the client.
        let transport = match transport {
            DnsTransport::Udp => DnsTransport::Udp,
            _ => DnsTransport::Tcp,
        };
        let key = Key::of(request, transport);
        if let Some(reply) = self.0.cache.get(&key, Instant::now()) {
            self.0.metrics.upstream(DnsUpstream::Kept);
            return Some(as_reply_to(request, &reply));
        }
        match self.0.open.join(key.clone()) {
            Join::First(lead) => {
                let reply = self.ask_servers(request, transport, false).await?;
                self.0.cache.put(&key, &reply, Instant::now());
                lead.tell(&reply);
                if transport == DnsTransport::Udp {
                    self.keep_whole(request, &reply);
                }
                Some(reply)
            }
            Join::Behind(behind) => {
                self.0.metrics.upstream(DnsUpstream::Joined);
                self.suspect();
                let reply = behind.reply().await?;
                Some(as_reply_to(request, &reply))
            }
            Join::Full => None,
        }
    }

    /// Has the whole of a reply that was cut ready for a client that comes back over TCP, where replies are kept.
    fn keep_whole(&self, request: &[u8], reply: &[u8]) {
        let is_cut = Header::read(reply).is_some_and(Header::is_truncated);
        if !is_cut || !self.0.cache.keeps() {
            return;
        }
        // Within the bound of what is open; without a place the client's own question will ask.
        let Ok(place) = self.0.places.clone().try_acquire_owned() else {
            return;
        };
        let (forwarder, request) = (self.clone(), request.to_vec());
        let asked: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            let _place = place;
            forwarder.ask(&request, DnsTransport::Tcp).await;
        });
        tokio::spawn(asked);
    }

    /// The first good reply; none when no server gave one in time.
    async fn ask_servers(
        &self,
        request: &[u8],
        transport: DnsTransport,
        is_whole: bool,
    ) -> Option<Vec<u8>> {
        self.check_ended_loops();
        let deadline = Instant::now() + PATIENCE;
        for round in 0..ROUNDS {
            let plan = self.upstreams().plan(Instant::now(), round);
            for probe in plan.probes {
                tokio::spawn(self.clone().probe(probe, request.to_vec()));
            }
            let mut is_any_silent = false;
            for mut attempt in plan.tries {
                attempt.patience = attempt
                    .patience
                    .min(deadline.duration_since(Instant::now()));
                if attempt.patience.is_zero() {
                    return None;
                }
                match self.try_one(attempt, request, transport, is_whole).await {
                    Said::Final(reply) => return Some(reply),
                    Said::Refused => {}
                    Said::Silent => is_any_silent = true,
                }
            }
            if !is_any_silent {
                return None;
            }
        }
        None
    }

    async fn try_one(
        &self,
        attempt: Try,
        request: &[u8],
        transport: DnsTransport,
        is_whole: bool,
    ) -> Said {
        let (asked, server) = (Instant::now(), attempt.address);
        let unwanted = || self.0.metrics.upstream(DnsUpstream::Unwanted);
        let exchange = async {
            match transport {
                DnsTransport::Udp if is_whole => ask_whole(server, request, unwanted).await,
                DnsTransport::Udp => ask_udp(server, request, unwanted).await,
                _ => ask_tcp(server, request).await,
            }
        };
        let Ok(Ok(reply)) = timeout(attempt.patience, exchange).await else {
            self.0.metrics.upstream(DnsUpstream::Silent);
            let now = Instant::now();
            self.upstreams().failed(attempt.server, asked, now);
            return Said::Silent;
        };
        self.upstreams().replied(attempt.server, asked.elapsed());
        let rcode = Header::read(&reply).map(Header::rcode);
        if matches!(rcode, Some(NO_ERROR | NX_DOMAIN)) {
            self.0.metrics.upstream(DnsUpstream::Answered);
            Said::Final(reply)
        } else {
            self.0.metrics.upstream(DnsUpstream::Refused);
            Said::Refused
        }
    }

    /// Asks a server that was out, for nobody.
    async fn probe(self, attempt: Try, request: Vec<u8>) {
        self.try_one(attempt, &request, DnsTransport::Udp, false)
            .await;
    }

    /// The same question while it is open may be that question itself, coming back.
    fn suspect(&self) {
        let now = Instant::now();
        let mut suspected = self
            .0
            .suspected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if suspected.is_none_or(|before| now - before >= SUSPECT_EVERY) {
            *suspected = Some(now);
            drop(suspected);
            self.look_for_loops();
        }
    }

    fn check_ended_loops(&self) {
        let due = self.upstreams().loops_to_check(Instant::now());
        for (server, address) in due {
            tokio::spawn(self.clone().check_loop(server, address));
        }
    }

    /// Sends a server a question that we would know again. A reply says that it did not come back.
    async fn check_loop(self, server: usize, address: SocketAddr) {
        let Some(name) = self.0.marks.question(server) else {
            return;
        };
        let request = question(&name, rtype::TXT);
        let asked = timeout(CHECK_PATIENCE, ask_udp(address, &request, || {}));
        let reply = asked.await;
        let rcode = reply.ok().and_then(Result::ok);
        let rcode = rcode.and_then(|reply| Header::read(&reply).map(Header::rcode));
        if matches!(rcode, Some(NO_ERROR | NX_DOMAIN)) {
            self.upstreams().loop_ended(server);
        }
    }

    fn upstreams(&self) -> MutexGuard<'_, Upstreams> {
        let upstreams = &self.0.upstreams;
        upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reply as it came, with the word that we ask others, and without that of an authority.
pub(super) fn relayed(request: &[u8], mut reply: Vec<u8>) -> Forwarded {
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

/// A resolver that forwards for many from another host has a hundred at a time.
const OPEN_PER_CLIENT_MAX: usize = 100;
const NO_ERROR: u16 = 0;
const NX_DOMAIN: u16 = 3;
/// With what comes before and after it below 4 s; clients ask again after 5 s.
const PATIENCE: Duration = Duration::from_millis(3_500);
/// Everybody is asked a second time when nobody replied.
const ROUNDS: u32 = 2;
/// Questions that are asked twice are many; one in a second is looked at for a loop.
const SUSPECT_EVERY: Duration = Duration::from_secs(1);

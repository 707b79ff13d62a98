// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a request to its reply. Pure: no socket, no lock, and no allocation for what callers ask every day.
//!
//! In: an [`Index`] and the bytes of a request. Out: the bytes of a reply that is never larger than the client and the
//! transport take, or silence where any reply could do harm, or the wish to ask another server first. The question is
//! repeated as it was spelled; owners point at it.

mod addresses;
mod alias;
mod asker;
mod asking;
mod domain;
mod info;
mod judge;
mod reply;
mod srv;

pub(crate) use asking::Asking;

use crate::{
    Config, Index,
    forward::Resolved,
    order::Order,
    wire::{Edns, Header, LowerName, Options, ReplyWriter, Request, Status, WireName},
};
use asker::Asker;
use discovery_core::telemetry::{DnsDrop, DnsQueryType, DnsRcode, DnsTransport};
use judge::Judgement;
use reply::{Budget, Reply};
use std::net::{IpAddr, Ipv4Addr};

/// What became of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The reply is written.
    Answered(Answered),
    /// There is no reply.
    Dropped(DnsDrop),
    /// Another server is to be asked first, as the configuration wishes.
    Upstream(Upstream),
}

/// What another server is to be asked.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Upstream {
    /// The question as it is: its name is not ours.
    Relay,
    /// The addresses of the host names that an answer of ours contains.
    Resolve(HostNames),
}

/// Host names of others, with the type of record that is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostNames(pub(crate) Vec<(WireName, u16)>);

/// What there is to count about a reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Answered {
    /// What was asked for.
    pub qtype: DnsQueryType,
    /// What was said.
    pub rcode: DnsRcode,
    /// Whether records were left out, and the client told so.
    pub is_truncated: bool,
    /// Whether it was said from a snapshot that no live source has confirmed of late.
    pub is_stale: bool,
}

/// Writes replies; one for each worker, since it keeps buffers and a source of random orders.
///
/// ```
/// use dns_sidecar::{Config, IndexBuilder, Responder, Verdict};
/// use discovery_core::{model::NodeName, store::{StateConfig, channel}, telemetry::{DnsRcode, DnsTransport}};
///
/// let (_writer, mut reader) = channel(StateConfig::new(NodeName::parse("edge-a")?));
/// let config = Config::default();
/// let index = IndexBuilder::new(&config).build(reader.snapshot());
///
/// let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x07service\x06consul\0\0\x01\0\x01";
/// let mut reply = Vec::new();
/// let verdict = Responder::new(&config).answer(&index, query, DnsTransport::Udp, &mut reply);
/// let Verdict::Answered(answered) = verdict else { panic!("a question has an answer") };
/// assert_eq!(answered.rcode, DnsRcode::ServFail, "nothing was read yet, so nothing is known");
/// # Ok::<(), discovery_core::model::ModelError>(())
/// ```
#[derive(Debug)]
pub struct Responder {
    udp_payload_max: u16,
    order: Order,
    /// The numbers of the records of an SRV answer, in their order.
    chosen: Vec<usize>,
    /// Where the target of each of them was written.
    placed: Vec<(usize, usize)>,
    /// Host names of others that an answer needs the addresses of.
    wanted: Vec<(WireName, u16)>,
    asking: Asking,
    /// The name of the last question; none while one is answered.
    name: Option<Box<LowerName>>,
}

impl Responder {
    /// A responder with a random seed.
    pub fn new(config: &Config) -> Self {
        Self::with_seed(config, fastrand::u64(..))
    }

    /// A responder whose orders are repeatable.
    pub fn with_seed(config: &Config, seed: u64) -> Self {
        let listeners = config
            .listen_addresses()
            .iter()
            .map(std::net::SocketAddr::ip);
        let farthest = listeners.max_by_key(|address| !address.is_loopback());
        Self {
            udp_payload_max: config
                .udp_payload(farthest.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            order: Order::new(fastrand::Rng::with_seed(seed)),
            chosen: Vec::new(),
            placed: Vec::new(),
            wanted: Vec::new(),
            asking: Asking::default(),
            name: None,
        }
    }

    /// The responder of a socket at this address: only this host asks on a loopback one, and takes larger datagrams.
    #[must_use]
    pub fn on(mut self, config: &Config, listener: IpAddr) -> Self {
        self.udp_payload_max = config.udp_payload(listener);
        self
    }

    /// What is known of who asks next, beside the request.
    pub(crate) fn asking(&mut self) -> &mut Asking {
        &mut self.asking
    }

    /// Writes the reply to a request into `out`, in place of what stood there.
    ///
    /// Costs one lookup and a copy of each record; with `k` records in the reply O(k), however many the service has.
    pub fn answer(
        &mut self,
        index: &Index,
        request: &[u8],
        transport: DnsTransport,
        out: &mut Vec<u8>,
    ) -> Verdict {
        self.answer_with(index, request, transport, None, out)
    }

    /// The same with what other servers said, which is then final.
    pub(crate) fn answer_with(
        &mut self,
        index: &Index,
        bytes: &[u8],
        transport: DnsTransport,
        resolved: Option<&Resolved>,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let mut name = self.name.take().unwrap_or_default();
        let verdict = self.answer_named(index, bytes, &mut name, transport, resolved, out);
        self.name = Some(name);
        verdict
    }

    fn answer_named(
        &mut self,
        index: &Index,
        bytes: &[u8],
        name: &mut LowerName,
        transport: DnsTransport,
        resolved: Option<&Resolved>,
        out: &mut Vec<u8>,
    ) -> Verdict {
        out.clear();
        self.asking.begin();
        let Some(header) = Header::read(bytes) else {
            return Verdict::Dropped(DnsDrop::Short);
        };
        if header.is_response() {
            return Verdict::Dropped(DnsDrop::Response);
        }
        if transport == DnsTransport::Udp && bytes.len() > UDP_REQUEST_BYTES_MAX {
            return judge::refuse_unread(out, header, DnsRcode::FormErr);
        }
        let is_compat = index.config.profile.is_compat();
        let request = match judge::read(header, bytes, name, is_compat) {
            Ok(request) => request,
            Err(rcode) => return judge::refuse_unread(out, header, rcode),
        };
        self.wanted.clear();
        let judgement = judge::judge(index, &request, resolved.is_some());
        if let Judgement::Relay = judgement {
            return Verdict::Upstream(Upstream::Relay);
        }
        let answered = self.write(index, &request, transport, resolved, judgement, out);
        if self.wanted.is_empty() {
            Verdict::Answered(answered)
        } else {
            let names = std::mem::take(&mut self.wanted);
            Verdict::Upstream(Upstream::Resolve(HostNames(names)))
        }
    }

    fn write(
        &mut self,
        index: &Index,
        request: &Request<'_>,
        transport: DnsTransport,
        resolved: Option<&Resolved>,
        judgement: Judgement,
        out: &mut Vec<u8>,
    ) -> Answered {
        let config = &index.config;
        let is_compat = config.profile.is_compat();
        let is_stale = index.is_stale();
        let options = match request.edns {
            Some(edns) if !is_compat => self.asking.options(edns, transport),
            _ => Options::default(),
        };
        let is_error = is_stale || !index.is_ready();
        let mut reply = Reply {
            writer: ReplyWriter::new(
                out,
                request,
                self.limit(request.edns, transport),
                options,
                is_error,
            ),
            budget: Budget::new(config, request.edns, transport),
            transport,
            is_cut: false,
            is_compressed: config.is_compressed,
        };
        let mut status = match judgement {
            Judgement::Ours(domain) => {
                let mut asker = Asker {
                    responder: self,
                    index,
                    request,
                    resolved,
                    domain,
                };
                asker.answer(&mut reply)
            }
            Judgement::Refused { status, has_edns } => {
                if !has_edns {
                    reply.writer.without_edns();
                }
                status
            }
            Judgement::Relay => Status::of(DnsRcode::ServFail),
        };
        // RFC 2181 9. Over TCP there is no larger transport to send the client to: it gets what fits.
        status.is_truncated =
            reply.is_cut && transport == DnsTransport::Udp && config.tells_truncation();
        if status.is_authoritative && is_stale {
            status.extended_error = status.extended_error.or(Some(STALE_ANSWER));
        }
        reply.writer.finish(status);
        Answered {
            qtype: DnsQueryType::from_code(request.qtype),
            rcode: status.rcode,
            is_truncated: status.is_truncated,
            is_stale: status.is_authoritative && is_stale,
        }
    }

    /// How large the reply may be. RFC 6891 6.2.5: less than 512 means 512.
    fn limit(&self, edns: Option<Edns<'_>>, transport: DnsTransport) -> usize {
        if transport.is_stream() {
            return TCP_BYTES_MAX;
        }
        let asked = edns.map_or(UDP_BYTES_MIN, |edns| edns.payload);
        asked.clamp(UDP_BYTES_MIN, self.udp_payload_max).into()
    }
}

/// What a request asks for, as it is counted.
pub(crate) fn asked_type(bytes: &[u8]) -> DnsQueryType {
    let mut name = LowerName::default();
    let request = Header::read(bytes).and_then(|header| Request::read(header, bytes, &mut name));
    request.map_or(DnsQueryType::Unread, |request| {
        DnsQueryType::from_code(request.qtype)
    })
}

/// SERVFAIL for a name of others of which no server told.
pub(crate) fn write_failure(index: &Index, bytes: &[u8], is_compat: bool, out: &mut Vec<u8>) {
    let mut name = LowerName::default();
    let request = Header::read(bytes).and_then(|header| Request::read(header, bytes, &mut name));
    let Some(request) = request else { return };
    let options = Options {
        repeats_dnssec_ok: !is_compat,
        tells_errors: !is_compat,
        ..Options::default()
    };
    let status = Status {
        is_recursive: index.config.is_forwarding(),
        extended_error: Some(NO_REACHABLE_AUTHORITY),
        ..Status::of(DnsRcode::ServFail)
    };
    ReplyWriter::new(out, &request, TCP_BYTES_MAX, options, true).finish(status);
}

/// RFC 8914 4.23.
const NO_REACHABLE_AUTHORITY: u16 = 22;
/// RFC 8914 4.4.
const STALE_ANSWER: u16 = 3;
/// RFC 1035 4.2.1: what every client takes.
const UDP_BYTES_MIN: u16 = 512;
/// A name has 255 bytes and EDNS 512: what is longer carries something else.
const UDP_REQUEST_BYTES_MAX: usize = 1280;
/// RFC 1035 4.2.2: what two length octets can say.
const TCP_BYTES_MAX: usize = 65_535;

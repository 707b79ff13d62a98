// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a request to its reply. Pure: no socket, no clock, no lock, and no allocation once buffers have grown.
//!
//! In: an [`Index`] and the bytes of a request. Out: the bytes of a reply that is never larger than the client and the
//! transport take, or silence where any reply could do harm. The question is repeated as it was spelled; owners point at
//! it.

use crate::{
    Config,
    assemble::{DomainOwner, Reply},
    index::{Found, Index},
    order::Order,
    records::{A_BYTES, AAAA_BYTES, Addresses, SrvRecords, TARGET_OFFSET, TargetId},
    wire::{
        EDNS_VERSION, Edns, Header, ReplyWriter, Request, Section, Status, class, rtype,
        write_header_only,
    },
};
use discovery_core::telemetry::{DnsDrop, DnsQueryType, DnsRcode, DnsTransport};

/// What became of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The reply is written.
    Answered(Answered),
    /// There is no reply.
    Dropped(DnsDrop),
}

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
    /// Whether it was said from a snapshot that no live source has confirmed.
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
    placed: Vec<(TargetId, usize)>,
    /// For each target of the set at hand the number of the answer that last placed it.
    placed_in: Vec<u64>,
    answers: u64,
}

impl Responder {
    /// A responder with a random seed.
    pub fn new(config: &Config) -> Self {
        Self::with_seed(config, fastrand::u64(..))
    }

    /// A responder whose orders are repeatable.
    pub fn with_seed(config: &Config, seed: u64) -> Self {
        Self {
            udp_payload_max: config.udp_payload(),
            order: Order::new(fastrand::Rng::with_seed(seed)),
            placed: Vec::new(),
            placed_in: Vec::new(),
            answers: 0,
        }
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
        out.clear();
        let Some(header) = Header::read(request) else {
            return Verdict::Dropped(DnsDrop::Short);
        };
        if header.is_response() {
            return Verdict::Dropped(DnsDrop::Response);
        }
        if header.opcode() != QUERY {
            return refuse_unread(out, header, DnsRcode::NotImp);
        }
        // RFC 9619: exactly one. Judged by the header alone, whatever number it claims.
        if header.questions() != 1 {
            return refuse_unread(out, header, DnsRcode::FormErr);
        }
        match Request::read(header, request) {
            Some(request) => {
                Verdict::Answered(self.answer_request(index, &request, transport, out))
            }
            None => refuse_unread(out, header, DnsRcode::FormErr),
        }
    }

    fn answer_request(
        &mut self,
        index: &Index,
        request: &Request<'_>,
        transport: DnsTransport,
        out: &mut Vec<u8>,
    ) -> Answered {
        let payload = self.payload(request.edns);
        let limit = match transport {
            DnsTransport::Udp => payload.into(),
            DnsTransport::Tcp => TCP_BYTES_MAX,
        };
        let mut reply = Reply {
            writer: ReplyWriter::new(out, request, limit, payload),
            transport,
            is_truncated: false,
        };
        let status = match judge(index, request) {
            Ok(domain) => self.answer_from(index, request, domain, &mut reply),
            Err(status) => status,
        };
        let status = Status {
            is_truncated: reply.is_truncated,
            ..status
        };
        reply.writer.finish(status);
        Answered {
            qtype: DnsQueryType::from_code(request.qtype),
            rcode: status.rcode,
            is_truncated: status.is_truncated,
            is_stale: status.is_authoritative && index.is_stale(),
        }
    }

    /// How large a datagram may be. RFC 6891 6.2.5: less than 512 means 512.
    fn payload(&self, edns: Option<Edns>) -> u16 {
        let asked = edns.map_or(UDP_BYTES_MIN, |edns| edns.payload);
        asked.clamp(UDP_BYTES_MIN, self.udp_payload_max)
    }

    /// Answers a name of our domain.
    fn answer_from(
        &mut self,
        index: &Index,
        request: &Request<'_>,
        domain: usize,
        reply: &mut Reply<'_>,
    ) -> Status {
        let owner = DomainOwner::new(request, domain);
        let found = index.find(&request.name, domain);
        let has_answer = match found {
            Found::Apex => reply.push_authority(index, &owner, request.qtype),
            Found::Addresses(addresses) => self.push_addresses(reply, addresses, request.qtype),
            Found::Literal(address) => {
                reply.push_literal(address, index.ttl_seconds(), request.qtype)
            }
            Found::Service { records, .. } if request.qtype == rtype::SRV => {
                self.push_srv(reply, &records.srv)
            }
            Found::Service {
                records,
                is_srv_only: false,
            } => self.push_addresses(reply, &records.addresses, request.qtype),
            Found::Absent | Found::Empty | Found::Service { .. } => false,
        };
        if !has_answer {
            // RFC 2308 3: both kinds of "no" carry the SOA record.
            reply.push_soa(Section::Authority, index, &owner);
        }
        let rcode = if matches!(found, Found::Absent) {
            DnsRcode::NxDomain
        } else {
            DnsRcode::NoError
        };
        Status::of(rcode).authoritative()
    }

    /// Appends the addresses of the asked families, and says whether there are any.
    fn push_addresses(&mut self, reply: &mut Reply<'_>, addresses: &Addresses, qtype: u16) -> bool {
        let (v4, v6) = (addresses.v4(), addresses.v6());
        let (v4, v6) = match qtype {
            rtype::A => (v4, &[][..]),
            rtype::AAAA => (&[][..], v6),
            // As Consul: a client that asks for anything wants the addresses.
            rtype::ANY => (v4, v6),
            _ => return false,
        };
        self.push_shuffled(reply, v4, A_BYTES);
        self.push_shuffled(reply, v6, AAAA_BYTES);
        !(v4.is_empty() && v6.is_empty())
    }

    /// Appends as many records of equal size as there is room for: a uniform choice in a uniform order.
    fn push_shuffled(&mut self, reply: &mut Reply<'_>, records: &[u8], size: usize) {
        let count = records.len() / size;
        let fitting = reply.writer.room() / size;
        for number in self.order.draw(count, fitting) {
            let start = number * size;
            let record = records.get(start..start + size).unwrap_or_default();
            reply.push_answer(&[record]);
        }
        if fitting < count {
            reply.left_out();
        }
    }

    /// Appends SRV records, then the addresses of their targets as far as there is room.
    fn push_srv(&mut self, reply: &mut Reply<'_>, srv: &SrvRecords) -> bool {
        self.begin_placing(srv);
        let fitting = srv.fitting(reply.writer.room());
        for number in self.order.draw(srv.len(), fitting) {
            let Some((record, target)) = srv.record(*number) else {
                continue;
            };
            let position = reply.writer.position() + TARGET_OFFSET;
            if !reply.push_answer(&[record]) {
                break;
            }
            if std::mem::replace(&mut self.placed_in[target], self.answers) != self.answers {
                self.placed.push((target, position));
            }
        }
        if fitting < srv.len() {
            reply.left_out();
        }
        if !reply.is_truncated {
            self.push_targets(reply, srv);
        }
        true
    }

    fn begin_placing(&mut self, srv: &SrvRecords) {
        self.answers += 1;
        self.placed.clear();
        let longest = self.placed_in.len().max(srv.targets());
        self.placed_in.resize(longest, 0);
    }

    /// RFC 2782: the additional section saves the client a question. It may be left out without a word.
    fn push_targets(&self, reply: &mut Reply<'_>, srv: &SrvRecords) {
        for (target, position) in &self.placed {
            let addresses = srv.addresses(*target);
            for record in addresses.into_iter().flat_map(Addresses::without_owners) {
                if !reply
                    .writer
                    .push_again(Section::Additional, *position, record)
                {
                    return;
                }
            }
        }
    }
}

/// The label at which our domain begins, or why nothing of it is looked up.
fn judge(index: &Index, request: &Request<'_>) -> Result<usize, Status> {
    if request
        .edns
        .is_some_and(|edns| edns.version != EDNS_VERSION)
    {
        return Err(Status::of(DnsRcode::BadVers));
    }
    if !matches!(request.class, class::IN | class::ANY) {
        return Err(Status::of(DnsRcode::Refused));
    }
    let Some(domain) = index.domain_in(&request.name) else {
        return Err(Status::of(DnsRcode::Refused));
    };
    if matches!(request.qtype, rtype::AXFR | rtype::IXFR) {
        return Err(Status::of(DnsRcode::NotImp).authoritative());
    }
    if !index.is_ready() {
        let status = Status::of(DnsRcode::ServFail);
        return Err(Status {
            extended_error: Some(NOT_READY),
            ..status
        });
    }
    Ok(domain)
}

fn refuse_unread(out: &mut Vec<u8>, header: Header, rcode: DnsRcode) -> Verdict {
    write_header_only(out, header, rcode);
    Verdict::Answered(Answered {
        qtype: DnsQueryType::Unread,
        rcode,
        is_truncated: false,
        is_stale: false,
    })
}

/// The operation of a question.
const QUERY: u16 = 0;
/// RFC 8914 4.15.
const NOT_READY: u16 = 14;
/// RFC 1035 4.2.1: what every client takes.
const UDP_BYTES_MIN: u16 = 512;
/// RFC 1035 4.2.2: what two length octets can say.
const TCP_BYTES_MAX: usize = 65_535;

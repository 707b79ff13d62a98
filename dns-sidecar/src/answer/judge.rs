// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said before anything is looked up: whether a request can be read, and whether its name is ours to answer.

use super::{Answered, Verdict};
use crate::{
    Index,
    names::{Asked, InDomain, Reversed},
    wire::{
        EDNS_VERSION, HEADER_BYTES, Header, LowerName, QUERY, Request, Status, class, rtype,
        write_header_only,
    },
};
use discovery_core::telemetry::{DnsQueryType, DnsRcode};
use std::net::IpAddr;

/// What is to be done with a request that could be read.
#[derive(Clone, Copy)]
pub(super) enum Judgement {
    /// It is looked up.
    Ours(InDomain),
    /// It is not looked up, and this is said.
    Refused { status: Status, has_edns: bool },
    /// Another server is asked.
    Relay,
}

/// Reads a request, or says why it cannot be answered with its question.
pub(super) fn read<'m>(
    header: Header,
    bytes: &'m [u8],
    name: &'m mut LowerName,
    is_compat: bool,
) -> Result<Request<'m>, DnsRcode> {
    let is_query = header.opcode() == QUERY || (is_compat && header.opcode() == NOTIFY);
    if !is_query {
        return Err(DnsRcode::NotImp);
    }
    // RFC 9619: exactly one. Judged by the header alone, whatever number it claims.
    if header.questions() != 1 {
        return Err(DnsRcode::FormErr);
    }
    if is_compat && bytes.len() == HEADER_BYTES {
        return Err(DnsRcode::Refused);
    }
    // A question that brings its own answer is none; 1.8.7 looks away.
    if header.answers() > 0 && !is_compat {
        return Err(DnsRcode::FormErr);
    }
    Request::read(header, bytes, name).ok_or(DnsRcode::FormErr)
}

/// Whether the name is ours to answer; `is_final` when other servers were asked before.
pub(super) fn judge(index: &Index, request: &Request<'_>, is_final: bool) -> Judgement {
    let config = &index.config;
    let is_compat = config.profile.is_compat();
    let refuse = |rcode| Judgement::Refused {
        status: Status::of(rcode),
        has_edns: true,
    };
    let version = request.edns.map_or(EDNS_VERSION, |edns| edns.version);
    if version != EDNS_VERSION && !is_compat {
        return refuse(DnsRcode::BadVers);
    }
    // RFC 8945 5.2: signed by nobody that we know.
    if request.is_signed && !is_compat {
        return refuse(DnsRcode::NotAuth);
    }
    let is_forwarding = config.is_forwarding() && !is_final;
    let Some(domain) = index.naming().domain_in(request.name) else {
        if is_forwarding && (is_compat || may_be_relayed(request)) {
            return Judgement::Relay;
        }
        return Judgement::Refused {
            status: Status::of(DnsRcode::Refused),
            has_edns: !is_compat,
        };
    };
    if !is_compat && !matches!(request.class, class::IN | class::ANY) {
        return refuse(DnsRcode::Refused);
    }
    if request.qtype == rtype::AXFR || (request.qtype == rtype::IXFR && !is_compat) {
        return Judgement::Refused {
            status: Status::of(DnsRcode::NotImp).authoritative(),
            has_edns: true,
        };
    }
    if !index.is_ready() {
        let status = Status::of(DnsRcode::ServFail);
        return Judgement::Refused {
            status: Status {
                extended_error: Some(NOT_READY),
                ..status
            },
            has_edns: true,
        };
    }
    if domain.is_arpa && is_forwarding && is_reverse_of_others(index, request, domain) {
        return Judgement::Relay;
    }
    Judgement::Ours(domain)
}

/// Names that have no meaning outside of this host or site are not sent there (RFC 6761, RFC 6762).
fn may_be_relayed(request: &Request<'_>) -> bool {
    let name = request.name;
    let last = name.label(name.labels().saturating_sub(1));
    let is_special = matches!(last, b"localhost" | b"invalid" | b"local" | b"onion");
    name.labels() != 1 && !is_special
}

/// The name of an address that is none of ours, and not of a private network, whose names nobody outside knows (RFC 6303).
fn is_reverse_of_others(index: &Index, request: &Request<'_>, domain: InDomain) -> bool {
    if !matches!(
        index.find(request.name, domain, request.qtype),
        crate::index::Found::Absent
    ) {
        return false;
    }
    match index.naming().read(request.name, domain, request.qtype) {
        _ if index.config.profile.is_compat() => true,
        Asked::Reverse(Reversed::Address(address)) => !is_private(address),
        Asked::Reverse(Reversed::Block { is_v4, digits }) => {
            let (first, last) = Reversed::range(is_v4, &digits);
            !is_private(first) && !is_private(last)
        }
        _ => true,
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

pub(super) fn refuse_unread(out: &mut Vec<u8>, header: Header, rcode: DnsRcode) -> Verdict {
    write_header_only(out, header, rcode);
    Verdict::Answered(Answered {
        qtype: DnsQueryType::Unread,
        rcode,
        is_truncated: false,
        is_stale: false,
    })
}

/// The operation that tells a secondary of a change; 1.8.7 takes it for a question.
const NOTIFY: u16 = 4;
/// RFC 8914 4.15.
const NOT_READY: u16 = 14;

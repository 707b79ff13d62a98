// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked, what is right to answer, and whether a reply says it.
//!
//! Pure: bytes in, bytes and judgements out.

use std::{collections::BTreeSet, net::Ipv4Addr};

/// How a server names the services.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Schema {
    /// `svc-0001.service.consul`.
    Consul,
    /// `svc-0001.default.svc.cluster.local`.
    Kubernetes,
}

impl Schema {
    pub(crate) fn name(self, label: &str) -> String {
        match self {
            Self::Consul => format!("{label}.service.consul"),
            Self::Kubernetes => format!("{label}.default.svc.cluster.local"),
        }
    }
}

/// A request, whose id is set when it is sent, and what is known of its reply.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Expected,
}

/// The reply that is right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Expected {
    pub(crate) rcode: u8,
    pub(crate) answers: u16,
}

impl Expected {
    pub(crate) const ABSENT: Self = Self {
        rcode: 3,
        answers: 0,
    };
}

/// What a reply is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Judgement {
    /// The code and the number of records are right.
    Whole,
    /// Records are missing: by the size of a datagram, or by a limit of the server.
    Cut,
    /// No reply, another code, or records of nobody.
    Wrong,
}

impl Question {
    pub(crate) fn new(name: &str, qtype: u16, has_edns: bool, expected: Expected) -> Self {
        let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(has_edns)];
        for label in name.split('.') {
            bytes.extend(u8::try_from(label.len()));
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(qtype.to_be_bytes());
        bytes.extend([0, 1]);
        if has_edns {
            bytes.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        }
        Self { bytes, expected }
    }

    /// By header alone, which costs a load generator little.
    pub(crate) fn judge(&self, reply: &[u8]) -> Judgement {
        let &[_, _, flags, code, _, _, high, low, ..] = reply else {
            return Judgement::Wrong;
        };
        let answers = u16::from_be_bytes([high, low]);
        let is_reply = flags & 0x80 != 0 && code & 0x0f == self.expected.rcode;
        if !is_reply || answers > self.expected.answers {
            Judgement::Wrong
        } else if answers < self.expected.answers {
            Judgement::Cut
        } else {
            Judgement::Whole
        }
    }

    /// Name and type, as dnsperf reads them.
    pub(crate) fn words(&self) -> (String, &'static str) {
        let (mut name, mut rest) = (String::new(), self.bytes.get(12..).unwrap_or_default());
        while let Some((&length @ 1.., behind)) = rest.split_first() {
            let (label, behind) = behind.split_at(behind.len().min(length.into()));
            name.push_str(&String::from_utf8_lossy(label));
            name.push('.');
            rest = behind;
        }
        let qtype = match rest.get(2) {
            Some(33) => "SRV",
            Some(28) => "AAAA",
            _ => "A",
        };
        (name, qtype)
    }

    /// Whether the question is repeated and every record of the answer is of the type, one of these, and told once.
    pub(crate) fn is_answered_by(&self, reply: &[u8], addresses: &[Ipv4Addr]) -> bool {
        self.read(reply, addresses).is_some()
    }

    fn read(&self, reply: &[u8], addresses: &[Ipv4Addr]) -> Option<()> {
        let end = name_end(&self.bytes, 12)? + 4;
        let asked = self.bytes.get(12..end)?;
        if !reply.get(12..end)?.eq_ignore_ascii_case(asked) {
            return None;
        }
        let qtype = asked.get(asked.len() - 4..asked.len() - 2)?;
        let answers = u16::from_be_bytes([*reply.get(6)?, *reply.get(7)?]);
        let (mut at, mut told) = (end, BTreeSet::new());
        for _ in 0..answers {
            let fixed = name_end(reply, at)?;
            let length = reply.get(fixed + 8..fixed + 10)?;
            let data = fixed + 10;
            at = data + usize::from(u16::from_be_bytes([length[0], length[1]]));
            let data = reply.get(data..at)?;
            let is_known = match qtype {
                [0, 1] => addresses.iter().any(|address| address.octets() == *data),
                // Each of its targets has a name of its own; all have this port.
                _ => data.get(4..6)? == 8080_u16.to_be_bytes(),
            };
            if reply.get(fixed..fixed + 2)? != qtype || !is_known || !told.insert(data) {
                return None;
            }
        }
        (at <= reply.len()).then_some(())
    }
}

/// What one socket has asked and was not answered yet, by the ids that it gave.
#[derive(Debug)]
pub(crate) struct Asked<'q> {
    next_id: u16,
    open: [Option<(u16, &'q Question)>; IDS],
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self {
            next_id: 0,
            open: [None; IDS],
        }
    }
}

impl<'q> Asked<'q> {
    /// Writes the request with an id of its own.
    pub(crate) fn write(&mut self, question: &'q Question, request: &mut Vec<u8>) {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.open[usize::from(id) % IDS] = Some((id, question));
        request.extend(id.to_be_bytes());
        request.extend_from_slice(&question.bytes[2..]);
    }

    /// A reply to nothing that was asked is wrong; one that comes too late is judged as any other.
    pub(crate) fn judge(&mut self, reply: &[u8]) -> Judgement {
        let &[high, low, ..] = reply else {
            return Judgement::Wrong;
        };
        let id = u16::from_be_bytes([high, low]);
        match self.open[usize::from(id) % IDS].take() {
            Some((of, question)) if of == id => question.judge(reply),
            _ => Judgement::Wrong,
        }
    }
}

/// Behind the name that begins there.
fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

/// More than are under way on a socket, few enough for the cache.
const IDS: usize = 256;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks the index of a mall, without sockets.

use crate::{
    mall::Mall,
    packet::{decode, query, query_edns, words},
};
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::{Answered, Config, Index, IndexBuilder, Responder, Verdict};
use hickory_proto::op::{Message, ResponseCode};

/// Asks an index of a mall, over either transport.
pub(crate) struct Asker {
    builder: IndexBuilder,
    pub(crate) index: Index,
    responder: Responder,
    reply: Vec<u8>,
}

impl Asker {
    pub(crate) fn new(mall: &mut Mall) -> Self {
        Self::configured(mall, &Config::default())
    }

    pub(crate) fn configured(mall: &mut Mall, config: &Config) -> Self {
        let mut builder = IndexBuilder::new(config);
        Self {
            index: builder.build(mall.reader.snapshot()),
            builder,
            responder: Responder::with_seed(config, 1),
            reply: Vec::new(),
        }
    }

    /// Takes over the newest snapshot.
    pub(crate) fn follow(&mut self, mall: &mut Mall) {
        self.index = self.builder.build(mall.reader.snapshot());
    }

    pub(crate) fn send(&mut self, request: &[u8], transport: DnsTransport) -> (Answered, Vec<u8>) {
        let mut reply = Vec::new();
        match self
            .responder
            .answer(&self.index, request, transport, &mut reply)
        {
            Verdict::Answered(answered) => (answered, reply),
            other => panic!("{other:?}"),
        }
    }

    /// The reply to a datagram; none when there is none.
    pub(crate) fn try_send(&mut self, request: &[u8]) -> Option<&[u8]> {
        let verdict =
            self.responder
                .answer(&self.index, request, DnsTransport::Udp, &mut self.reply);
        matches!(verdict, Verdict::Answered(_)).then_some(&self.reply)
    }

    pub(crate) fn udp(&mut self, request: &[u8]) -> Message {
        decode(&self.send(request, DnsTransport::Udp).1)
    }

    pub(crate) fn ask(&mut self, name: &str, qtype: u16) -> Message {
        self.ask_bytes(name, qtype).1
    }

    pub(crate) fn ask_bytes(&mut self, name: &str, qtype: u16) -> (Vec<u8>, Message) {
        let (_, reply) = self.send(&query_edns(name, qtype, 1232), DnsTransport::Udp);
        let message = decode(&reply);
        (reply, message)
    }

    pub(crate) fn ask_tcp(&mut self, name: &str, qtype: u16) -> Message {
        decode(&self.send(&query(name, qtype), DnsTransport::Tcp).1)
    }

    /// The answer in words; for a "no" its kind.
    pub(crate) fn words(&mut self, name: &str, qtype: u16) -> Vec<String> {
        let message = self.ask(name, qtype);
        assert!(message.metadata.authoritative, "{name}");
        if message.answers.is_empty() {
            assert_eq!(message.authorities.len(), 1, "{name}: a no without SOA");
        }
        match (message.metadata.response_code, words(&message.answers)) {
            (ResponseCode::NoError, answers) if answers.is_empty() => vec!["NODATA".to_owned()],
            (ResponseCode::NoError, answers) => answers,
            (code, _) => vec![format!("{code:?}")],
        }
    }
}

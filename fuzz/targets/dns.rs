// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any bytes that reach the DNS face. Shared by libFuzzer's targets and by the test that runs the corpus.

use discovery_core::telemetry::DnsTransport;
use dns_sidecar::{
    Config, Index, IndexBuilder, Network, QueryLog, Responder, Verdict,
    catalog::{Catalog, CatalogInstance, CatalogNode, InstanceAddress},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, OnceLock},
};

/// Any bytes are answered, dropped, or asked of others; a reply is one to them, and no larger than it may be.
pub(crate) fn message(bytes: &[u8]) {
    let (config, index) = served();
    let mut responder = Responder::with_seed(config, 1);
    let mut reply = Vec::new();
    for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
        let verdict = responder.answer(index, bytes, transport, &mut reply);
        if let Verdict::Answered(answered) = verdict {
            let limit = match transport {
                DnsTransport::Udp => 4_096,
                _ => 65_535,
            };
            assert!((12..=limit).contains(&reply.len()));
            assert_eq!(reply[..2], bytes[..2], "the id is the client's");
            assert!(bytes[2] & 0x80 == 0, "no reply to a reply");
            assert!(reply[2] & 0x80 != 0, "what we send is a reply");
            assert_eq!(reply[2] & 2 != 0, answered.is_truncated);
            assert!(transport == DnsTransport::Udp || !answered.is_truncated);
        } else {
            assert!(
                bytes.len() < 12 || bytes[2] & 0x80 != 0 || !matches!(verdict, Verdict::Dropped(_))
            );
        }
    }
}

/// Any text below the domain, whatever labels it has: the owner of every answer is the question, and the reply is the same
/// in another case.
pub(crate) fn names(text: &[u8]) {
    let mut request = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in text
        .split(|byte| *byte == b'.')
        .filter(|label| !label.is_empty())
    {
        let Ok(length @ 1..=63) = u8::try_from(label.len()) else {
            return;
        };
        request.push(length);
        request.extend_from_slice(label);
    }
    request.extend_from_slice(b"\x06consul\0\0\xff\0\x01");
    let (config, index) = served();
    let ask = |request: &[u8]| {
        let mut reply = Vec::new();
        let verdict =
            Responder::with_seed(config, 1).answer(index, request, DnsTransport::Tcp, &mut reply);
        matches!(verdict, Verdict::Answered(_)).then_some(reply)
    };
    let end = request.len() - 4;
    let mut upper = request.clone();
    upper[12..end].make_ascii_uppercase();
    let (Some(one), Some(other)) = (ask(&request), ask(&upper)) else {
        panic!("a question below our domain is answered");
    };
    assert_eq!(one[3] & 0xf, other[3] & 0xf, "the code");
    assert_eq!(one[6..12], other[6..12], "the counts");
}

/// Any text as a block of Consul's configuration, a network, or a setting of the log.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = Config::default().consul_block(text);
    let _ = Config::default().domain(text);
    let _ = Config::default().recursors(&[text.to_owned()]);
    let _ = text.parse::<QueryLog>();
    if let Ok(network) = text.parse::<Network>() {
        let _ = network.contains(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}

/// A catalogue with a service, made once.
fn served() -> &'static (Config, Index) {
    static SERVED: OnceLock<(Config, Index)> = OnceLock::new();
    SERVED.get_or_init(|| {
        let config = Config::default();
        let index = IndexBuilder::build_catalog(&config, &catalog());
        (config, index)
    })
}

fn catalog() -> Catalog {
    let node = Arc::new(CatalogNode {
        name: "edge-a".to_owned(),
        addresses: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
        ..CatalogNode::default()
    });
    let instance = |last| CatalogInstance {
        address: Some(InstanceAddress::Ip(Ipv4Addr::new(10, 1, 0, last).into())),
        ..CatalogInstance::new(node.clone(), 8080)
    };
    let mut catalog = Catalog {
        datacenter: "mall-1".to_owned(),
        nodes: vec![node.clone()],
        ..Catalog::default()
    };
    let web = catalog.services.entry("web".to_owned()).or_default();
    web.instances = (1..=40).map(instance).collect();
    catalog
}

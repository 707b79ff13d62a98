// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server that Consul was told to ask when the cases were recorded: a handful of names, over UDP and TCP.

use crate::message::wire_name;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

/// Serves until the test ends.
pub(crate) async fn start() -> SocketAddr {
    // A port that is free for TCP is hardly ever taken for UDP; the other way round a test's own connections have many.
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut request = [0; 1500];
        while let Ok((length, client)) = udp.recv_from(&mut request).await {
            udp.send_to(&reply(&request[..length]), client)
                .await
                .unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut request = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut request).await.unwrap();
            let reply = reply(&request);
            let length = u16::try_from(reply.len()).unwrap();
            stream
                .write_all(&[&length.to_be_bytes()[..], &reply].concat())
                .await
                .unwrap();
        }
    });
    address
}

fn reply(request: &[u8]) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while request[at] != 0 {
        let end = at + 1 + usize::from(request[at]);
        labels.push(String::from_utf8_lossy(&request[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let end = at + 5;
    let qtype = u16::from_be_bytes([request[at + 1], request[at + 2]]);
    let answer = answer(&labels, qtype);
    let (rcode, truncated) = match (labels[0].as_str(), answer.is_empty()) {
        ("refused", _) => (5, 0),
        ("servfail", _) => (2, 0),
        ("trunc", _) => (0, 2),
        (_, true) => (3, 0),
        _ => (0, 0),
    };
    let count = u8::try_from(answer.len()).unwrap();
    let mut reply = request[..end].to_vec();
    reply[2] = 0x80 | truncated | request[2] & 1;
    reply[3] = 0x80 | rcode;
    reply[4..12].copy_from_slice(&[0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend(answer.concat());
    reply
}

fn answer(labels: &[String], qtype: u16) -> Vec<Vec<u8>> {
    let record = |owner: &[u8], rtype: u8, data: &[u8]| {
        let length = u8::try_from(data.len()).unwrap();
        [owner, &[0, rtype, 0, 1, 0, 0, 0, 60, 0, length], data].concat()
    };
    let a = |owner: &[u8], last: u8| record(owner, 1, &Ipv4Addr::new(198, 51, 100, last).octets());
    let asked = [0xc0, 0x0c];
    match (labels.join(".").as_str(), qtype) {
        ("apple.example.test", 1) => vec![a(&asked, 1)],
        ("www.example.test", 1) => vec![a(&asked, 2)],
        ("api.example.test", 1) => {
            let name = wire_name("api2.example.test");
            vec![record(&asked, 5, &name), a(&name, 3)]
        }
        ("a.example.test", 1) => (11..=18).map(|last| a(&asked, last)).collect(),
        ("b.example.test", 1) => vec![a(&asked, 21)],
        ("8.8.8.8.in-addr.arpa", 12) => vec![record(&asked, 12, &wire_name("dns.example.test"))],
        _ => Vec::new(),
    }
}

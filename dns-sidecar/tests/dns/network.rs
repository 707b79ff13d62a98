// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real interfaces: a server in a network namespace, asked over a cable.

use crate::{
    packet::{A, AAAA, decode, query},
    running::{PATIENCE, Running, numbered},
};
use dns_sidecar::Network;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::{
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
};
use testbed::Netns;
use tokio::{net::UdpSocket, time::timeout};

/// Private, but none of the networks that are allowed by default.
fn allowed() -> Vec<Network> {
    ["198.18.0.0/15", "203.0.113.0/24", "fd00::/8"]
        .map(|text| text.parse().unwrap())
        .to_vec()
}

/// What a client that checks nothing receives, and from where.
async fn ask_from_anywhere(server: SocketAddr, request: &[u8]) -> (Vec<u8>, SocketAddr) {
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).await.unwrap();
    socket.send_to(request, server).await.unwrap();
    let mut reply = [0; 1500];
    let (length, from) = timeout(PATIENCE, socket.recv_from(&mut reply))
        .await
        .expect("a reply")
        .unwrap();
    (reply[..length].to_vec(), from)
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {output:?}");
}

#[tokio::test]
async fn r14_the_reply_leaves_from_the_address_that_was_asked_also_from_one_added_later() {
    let test = "r14_the_reply_leaves_from_the_address_that_was_asked_also_from_one_added_later";
    let Some(netns) = Netns::new_or_skip(test) else {
        return;
    };
    let (inner, host) = (netns.inner_link(), netns.host_link());
    let [.., c, d] = netns.inner_ip().octets();
    let network = format!("fd00:198:18:{c:x}{d:02x}");
    ip(&[
        "addr",
        "add",
        &format!("{network}::1/64"),
        "dev",
        host,
        "nodad",
    ]);
    let add = |address: &str| {
        let at = ["addr", "add", address, "dev", inner];
        let nodad: &[&str] = if address.contains(':') {
            &["nodad"]
        } else {
            &[]
        };
        netns.run("ip", &[&at[..], nodad].concat()).unwrap();
    };
    add(&format!("{network}::2/64"));
    let v4 = Running::start_in(&netns, "0.0.0.0:5300", |config| config.allow(allowed()));
    let v6 = Running::start_in(&netns, "[::]:5300", |config| config.allow(allowed()));
    // A second address of each family, while the server runs.
    let second = Ipv4Addr::new(203, 0, 113, c ^ d);
    add(&format!("{second}/32"));
    ip(&["route", "add", &format!("{second}/32"), "dev", host]);
    add(&format!("{network}::3/64"));
    let addresses: [IpAddr; 4] = [
        netns.inner_ip().into(),
        second.into(),
        format!("{network}::2").parse().unwrap(),
        format!("{network}::3").parse().unwrap(),
    ];
    for address in addresses {
        let asked = SocketAddr::new(address, 5300);
        for qtype in [A, AAAA] {
            let request = query("web.service.consul", qtype);
            let (reply, from) = ask_from_anywhere(asked, &request).await;
            assert_eq!(from, asked);
            assert!(!decode(&reply).answers.is_empty());
        }
    }
    v4.stop().await;
    v6.stop().await;
}

#[tokio::test]
async fn r15_datagrams_that_the_cable_joined_are_answered_one_by_one() {
    let test = "r15_datagrams_that_the_cable_joined_are_answered_one_by_one";
    let Some(netns) = Netns::new_or_skip(test) else {
        return;
    };
    let server = Running::start_in(&netns, "0.0.0.0:5300", |config| config.allow(allowed()));
    let plain = netns
        .inside(|| std::net::UdpSocket::bind("0.0.0.0:5301").unwrap())
        .unwrap();
    let joining = UdpSocketState::new(UdpSockRef::from(&plain)).unwrap();
    let socket = UdpSocket::bind((netns.host_ip(), 0)).await.unwrap();
    let sender = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
    // As a resolver asks for A and AAAA: from one socket, back to back, of one length.
    let questions: Vec<_> = (0..6_u16)
        .map(|id| {
            numbered(
                id,
                &query("web.service.consul", if id % 2 == 0 { A } else { AAAA }),
            )
        })
        .collect();
    let send = |port| {
        let transmit = Transmit {
            destination: SocketAddr::new(netns.inner_ip().into(), port),
            ecn: None,
            contents: &questions.concat(),
            segment_size: Some(questions[0].len()),
            src_ip: None,
        };
        sender
            .try_send(UdpSockRef::from(&socket), &transmit)
            .unwrap();
    };
    send(5301);
    assert!(
        joined(&joining, &plain) > 1,
        "the cable joins what comes back to back"
    );
    send(5300);
    let mut answers = Vec::new();
    for _ in &questions {
        let mut reply = [0; 1500];
        let received = timeout(PATIENCE, socket.recv_from(&mut reply));
        let (length, _) = received.await.expect("a reply").unwrap();
        let message = decode(&reply[..length]);
        answers.push((message.metadata.id, message.answers.len()));
    }
    assert_eq!(answers, [(0, 3), (1, 1), (2, 3), (3, 1), (4, 3), (5, 1)]);
    assert_eq!(server.metrics.totals().requests, 6);
    server.stop().await;
}

/// How many datagrams the system hands over as one.
fn joined(state: &UdpSocketState, socket: &std::net::UdpSocket) -> usize {
    let mut bytes = vec![0; 65_536];
    let mut metas = [RecvMeta::default()];
    loop {
        let mut slots = [IoSliceMut::new(&mut bytes)];
        match state.recv(UdpSockRef::from(socket), &mut slots, &mut metas) {
            Ok(_) => return metas[0].len / metas[0].stride,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

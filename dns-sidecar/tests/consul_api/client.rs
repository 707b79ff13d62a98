// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request by hand, and its reply.

use serde_json::Value;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A reply.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn index(&self) -> u64 {
        self.headers["x-consul-index"].parse().unwrap()
    }
}

pub(crate) async fn get(server: SocketAddr, path: &str) -> Reply {
    request(server, "GET", path, "").await
}

pub(crate) async fn request(server: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    let mut stream = TcpStream::connect(server).await.unwrap();
    send(&mut stream, method, path, body).await;
    let mut reply = Vec::new();
    let read = stream.read_to_end(&mut reply);
    timeout(PATIENCE, read).await.expect("a reply").unwrap();
    parse(&String::from_utf8(reply).unwrap())
}

pub(crate) async fn send(stream: &mut TcpStream, method: &str, path: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: consul\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
}

fn parse(reply: &str) -> Reply {
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    let headers: BTreeMap<_, _> = headers.collect();
    let is_chunked = headers.contains_key("transfer-encoding");
    Reply {
        status: status.parse().unwrap(),
        body: if is_chunked {
            joined(body)
        } else {
            body.to_owned()
        },
        headers,
    }
}

fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return body;
        }
        body.push_str(&rest[..length]);
        chunks = rest[length..].strip_prefix("\r\n").unwrap();
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

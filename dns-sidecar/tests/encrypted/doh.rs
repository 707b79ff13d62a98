// SPDX-License-Identifier: MIT OR Apache-2.0
//! DNS over HTTPS (RFC 8484), by hand and with curl.

use crate::{
    packet::{A, SRV, decode, query, query_edns, words},
    site::{PATIENCE, Site},
};
use discovery_core::telemetry::{DnsRcode, DnsTransport};
use dns_sidecar::{
    Config, DnsServer,
    catalog::{Catalog, CatalogInstance, CatalogNode, InstanceAddress},
};
use std::{collections::BTreeMap, process::Command, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

async fn send(site: &Site, head: &str, body: &[u8]) -> Reply {
    let mut stream = site.tls(site.doh, &["http/1.1"]).await.unwrap();
    let head = format!("{head}\r\nHost: dns.test\r\nConnection: close\r\n\r\n");
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .await
        .unwrap();
    let mut reply = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut reply))
        .await
        .unwrap()
        .unwrap();
    let end = reply
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(reply[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    Reply {
        status,
        headers: headers.collect(),
        body: reply[end + 4..].to_vec(),
    }
}

async fn get(site: &Site, question: &[u8]) -> Reply {
    send(
        site,
        &format!("GET /dns-query?dns={} HTTP/1.1", base64url(question)),
        &[],
    )
    .await
}

async fn post(site: &Site, question: &[u8], media_type: &str) -> Reply {
    let length = question.len();
    let head = format!(
        "POST /dns-query HTTP/1.1\r\nContent-Type: {media_type}\r\nContent-Length: {length}"
    );
    send(site, &head, question).await
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for place in 0..=group.len() {
            let digit = bits >> (18 - 6 * place) & 63;
            text.push(char::from(DIGITS[usize::try_from(digit).unwrap()]));
        }
    }
    text
}

const MEDIA_TYPE: &str = "application/dns-message";

#[tokio::test]
async fn both_methods_give_the_reply_of_tcp_and_say_for_how_long_it_may_be_kept() {
    let ttl = |config: Config| config.ttl(Duration::from_secs(30)).unwrap();
    let site = Site::start(ttl);
    for (name, qtype, kept) in [
        ("web.service.consul", A, "max-age=30"),
        ("many-shop.service.consul", SRV, "max-age=30"),
        ("nosuch.service.consul", A, "max-age=1"),
        ("names-infra.service.consul", 28, "max-age=1"),
        ("x.org", A, "max-age=0"),
    ] {
        for question in [query(name, qtype), query_edns(name, qtype, 1232)] {
            let plain = decode(&site.plain(&question).await);
            for reply in [
                get(&site, &question).await,
                post(&site, &question, MEDIA_TYPE).await,
            ] {
                assert_eq!(
                    (reply.status, &*reply.headers["content-type"]),
                    (200, MEDIA_TYPE)
                );
                assert_eq!(reply.headers["cache-control"], kept, "{name}");
                let message = decode(&reply.body);
                assert_eq!(message.metadata.id, plain.metadata.id);
                assert_eq!(message.metadata.response_code, plain.metadata.response_code);
                assert_eq!(words(&message.answers), words(&plain.answers));
            }
        }
    }
    assert_eq!(
        site.metrics
            .responses(DnsTransport::Doh, DnsRcode::NxDomain),
        4
    );
    assert_eq!(site.metrics.totals().truncated, 0);
}

#[tokio::test]
async fn what_is_no_question_is_an_error_of_http() {
    let site = Site::start(|config| config);
    let question = query("web.service.consul", A);
    for (head, status) in [
        ("GET /dns-query HTTP/1.1", 400),
        ("GET /dns-query?dns=%25 HTTP/1.1", 400),
        ("GET /dns-query?dns=AAAA HTTP/1.1", 400),
        ("GET /resolve?dns=AAAA HTTP/1.1", 404),
        ("PUT /dns-query HTTP/1.1\r\nContent-Length: 0", 405),
    ] {
        assert_eq!(send(&site, head, &[]).await.status, status, "{head}");
    }
    assert_eq!(post(&site, &question, "text/plain").await.status, 415);
    assert_eq!(post(&site, &vec![0; 70_000], MEDIA_TYPE).await.status, 413);
    let totals = site.metrics.totals();
    assert_eq!(
        (totals.requests, totals.responses, totals.dropped),
        (7, 0, 7)
    );
    // A malformed message is a question with an answer: FORMERR.
    let malformed = post(&site, &question[..20], MEDIA_TYPE).await;
    assert_eq!((malformed.status, malformed.body[3] & 0xf), (200, 1));
}

/// curl resolves a service of ours over HTTPS, and fetches a page from what it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_finds_a_service_by_it() {
    let test = "curl_finds_a_service_by_it";
    let help = Command::new("curl").args(["--help", "all"]).output();
    if !help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--doh-url")) {
        return testbed::skip(test, "there is no curl that asks over HTTPS");
    }
    let page = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = page.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = page.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfound";
            let _ = stream.write_all(reply).await;
        }
    });
    let site = Site::start(|config| config);
    let node = Arc::new(CatalogNode {
        name: "edge-a".to_owned(),
        ..CatalogNode::default()
    });
    let instance = CatalogInstance {
        address: Some(InstanceAddress::Ip("127.0.0.1".parse().unwrap())),
        ..CatalogInstance::new(node, port)
    };
    let mut catalog = Catalog::default();
    catalog
        .services
        .entry("page".to_owned())
        .or_default()
        .instances = vec![instance];
    let any = || vec!["127.0.0.1:0".parse().unwrap()];
    let config = Config::default().listen(any()).unwrap().doh_listen(any());
    let config = config.certificate(site.certificate(), site.dir.path().join("tls.key"));
    let server = DnsServer::bind_catalog(config, &catalog, Arc::default()).unwrap();
    let doh = server.doh_addrs()[0];
    tokio::spawn(server.run(CancellationToken::new()));
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--max-time",
        "15",
        "--noproxy",
        "*",
        "--doh-insecure",
        "--doh-url",
    ])
    .arg(format!("https://{doh}/dns-query"))
    .arg(format!("http://page.service.consul:{port}/"));
    let output = tokio::task::spawn_blocking(move || curl.output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "found",
        "{output:?}"
    );
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks everybody on the way of a name: the responder, the servers of this host's resolv.conf, and the system's resolver.

use super::dns::{Heard, Word, name};
use crate::{admin_client, cli::DoctorDnsArgs};
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::client::ask;
use hyper::Method;
use std::{
    error::Error,
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{net::lookup_host, time::timeout};

/// What each of them says.
pub(super) async fn hear(args: &DoctorDnsArgs) -> Heard {
    let domain = args.domain.trim_matches('.').to_ascii_lowercase();
    let asked = name(&domain);
    let servers = servers(&fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    let mut hops = Vec::new();
    for server in servers {
        hops.push((server, answer(server, &asked, DnsTransport::Udp).await));
    }
    let status = admin_client::ask(args.ask.admin, Method::GET, "/api/v1/status").await;
    Heard {
        udp: answer(args.server, &asked, DnsTransport::Udp).await,
        tcp: answer(args.server, &asked, DnsTransport::Tcp).await,
        system: by_the_system(&asked).await,
        server: args.server,
        status: match status.and_then(|answer| answer.json()) {
            Ok(status) => Ok(status),
            Err(failure) => Err(failure.what().to_owned()),
        },
        domain,
        hops,
    }
}

async fn answer(server: SocketAddr, name: &str, transport: DnsTransport) -> Word {
    let reply = ask(server, name, "A", transport, PATIENCE).await;
    let reply = reply.map_err(|error| chain(&error))?;
    let addresses = reply
        .answers
        .iter()
        .filter_map(|record| record.data.parse().ok());
    let addresses: Vec<IpAddr> = addresses.collect();
    match (&*reply.rcode, reply.extended_error) {
        ("NOERROR", _) => Ok(addresses),
        (rcode, Some(NOT_READY)) => Err(format!("{rcode} (not ready)")),
        (rcode, _) => Err(rcode.to_owned()),
    }
}

/// As programs ask: by getaddrinfo.
pub(crate) async fn by_the_system(name: &str) -> Word {
    match timeout(SYSTEM_PATIENCE, lookup_host((name, 0))).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
            addresses.dedup();
            Ok(addresses)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no word after {} s", SYSTEM_PATIENCE.as_secs())),
    }
}

/// The servers that a resolv.conf(5) names; of more than three glibc asks the first three.
fn servers(text: &str) -> Vec<SocketAddr> {
    let named = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"));
    let addresses = named.filter_map(|rest| rest.split_whitespace().next()?.parse().ok());
    addresses
        .map(|ip| SocketAddr::new(ip, 53))
        .take(3)
        .collect()
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PATIENCE: Duration = Duration::from_secs(2);
/// Resolvers ask a silent server again after 5 s.
const SYSTEM_PATIENCE: Duration = Duration::from_secs(8);
/// RFC 8914 4.15.
const NOT_READY: u16 = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_a_resolv_conf_are_read() {
        let text = "# a comment\nsearch mall.internal\nnameserver 127.0.0.53\nnameserver\t fd00::1 # ours\n\
                    nameserver nonsense\noptions ndots:5\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n";
        let expected = ["127.0.0.53:53", "[fd00::1]:53", "10.0.0.1:53"];
        assert_eq!(servers(text), expected.map(|text| text.parse().unwrap()));
        assert!(servers("").is_empty());
    }

    #[test]
    fn b2_the_corpus_of_resolv_conf_holds() {
        crate::corpus::run("resolv_conf", |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let servers = servers(&text);
            assert!(servers.len() <= 3);
            for server in servers {
                assert!(server.port() == 53 && text.contains("nameserver"));
            }
        });
    }
}

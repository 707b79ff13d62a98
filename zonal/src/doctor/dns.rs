// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks of DNS, from the responder to what programs of this host see. Pure: what was asked and heard goes in, the
//! report comes out. What is asked for is a name that stands for an address and so is there without any service.

use super::report::{
    Check,
    Outcome::{Fail, Pass, Skip, Warn},
    Report,
};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What was heard.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) server: SocketAddr,
    pub(super) domain: String,
    /// From the responder itself, over each transport.
    pub(super) udp: Word,
    pub(super) tcp: Word,
    /// From each server of the host's resolv.conf.
    pub(super) hops: Vec<(SocketAddr, Word)>,
    /// From the resolver that programs use (getaddrinfo).
    pub(super) system: Word,
    /// The agent's status; why there is none.
    pub(super) status: Result<Value, String>,
}

/// The addresses, or what was said instead.
pub(super) type Word = Result<Vec<IpAddr>, String>;

/// The name that stands for [`ADDRESS`].
pub(super) fn name(domain: &str) -> String {
    format!("7f000001.addr.{domain}.")
}

pub(super) fn report(heard: &Heard) -> Report {
    let told = |key: &str| heard.status.as_ref().ok()?[key].as_str().map(str::to_owned);
    Report {
        subject: "dns",
        node: told("node").unwrap_or_else(|| "unknown".to_owned()),
        zone: told("zone"),
        asked: format!("{} for {}", heard.server, name(&heard.domain)),
        checks: heard.checks(),
        cost: None,
    }
}

impl Heard {
    fn checks(&self) -> Vec<Check> {
        vec![
            self.responder("dns-udp", "UDP", &self.udp),
            self.responder("dns-tcp", "TCP", &self.tcp),
            self.hops(),
            self.system(),
            self.upstreams(),
        ]
    }

    fn responder(&self, id: &str, transport: &str, word: &Word) -> Check {
        let server = self.server;
        if is_right(word) {
            return Check::new(id, Pass, format!("{server} answers over {transport}"));
        }
        let says = format!(
            "{server} does not answer over {transport}: {}",
            in_words(word)
        );
        let next = if in_words(word).contains("not ready") {
            "zonal status   says what is missing".to_owned()
        } else {
            format!("zonal agent --dns-listen {server}, and a firewall that lets it through")
        };
        Check::new(id, Fail, says).next(next)
    }

    fn hops(&self) -> Check {
        let id = "dns-servers";
        if !is_right(&self.udp) {
            return Check::new(id, Skip, "the responder itself does not answer");
        }
        let wrong = self.hops.iter().find(|(_, word)| !is_right(word));
        match (&self.hops[..], wrong) {
            ([], _) => Check::new(id, Fail, "/etc/resolv.conf names no server")
                .next(self.setup("resolv.conf")),
            (hops, None) => {
                let servers: Vec<_> = hops
                    .iter()
                    .map(|(server, _)| server.ip().to_string())
                    .collect();
                Check::new(
                    id,
                    Pass,
                    format!(
                        "servers of /etc/resolv.conf pass it on: {}",
                        servers.join(", ")
                    ),
                )
            }
            (_, Some((server, word))) => {
                let says = format!(
                    "{} of /etc/resolv.conf does not pass it on: {}",
                    server.ip(),
                    in_words(word)
                );
                Check::new(id, Fail, says).next(self.setup(resolver_at(server.ip())))
            }
        }
    }

    fn system(&self) -> Check {
        let id = "dns-system";
        if is_right(&self.system) {
            return Check::new(id, Pass, "programs of this host find it");
        }
        if !self.hops.iter().all(|(_, word)| is_right(word)) || !is_right(&self.udp) {
            return Check::new(id, Skip, "a server before it does not pass it on");
        }
        let says = format!(
            "the servers pass it on, and programs of this host do not find it: {}",
            in_words(&self.system)
        );
        Check::new(id, Fail, says)
            .next("grep hosts /etc/nsswitch.conf   has to name `dns` or `resolve`")
    }

    fn upstreams(&self) -> Check {
        let id = "dns-upstreams";
        let status = match &self.status {
            Ok(status) => status,
            Err(why) => return Check::new(id, Skip, format!("no agent to ask: {why}")),
        };
        let upstreams = status["faces"]["dns"]["upstreams"].as_array();
        let upstreams = upstreams.map_or(&[][..], Vec::as_slice);
        let in_state = |state: &'static str| {
            let found = upstreams
                .iter()
                .filter(move |upstream| upstream["state"] == state);
            let addresses = found.filter_map(|upstream| upstream["address"].as_str());
            addresses.map(str::to_owned).collect::<Vec<_>>()
        };
        let (looped, down) = (in_state("loop"), in_state("down"));
        if let Some(server) = looped.first() {
            let help = upstreams
                .iter()
                .find_map(|upstream| upstream["help"].as_str());
            let says = format!("{server} sends our questions back to us and is not asked");
            return Check::new(id, Fail, says)
                .next(help.unwrap_or("name another server in `dns.recursors`"));
        }
        if upstreams.is_empty() {
            return Check::new(id, Skip, "names of others are refused: no `dns.recursors`");
        }
        if down.is_empty() {
            return Check::new(
                id,
                Pass,
                format!("{} servers for names of others reply", upstreams.len()),
            );
        }
        let outcome = if down.len() == upstreams.len() {
            Fail
        } else {
            Warn
        };
        let says = format!(
            "{} of {} servers for names of others do not reply",
            down.len(),
            upstreams.len()
        );
        Check::new(id, outcome, says)
            .next(format!("zonal resolve example.com --server {}", down[0]))
    }

    fn setup(&self, target: &str) -> String {
        format!(
            "zonal dns setup --for {target} --server {} --domain {}",
            self.server, self.domain
        )
    }
}

/// Who listens at an address that a host's resolv.conf commonly names.
fn resolver_at(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(v4) if v4.octets()[..3] == [127, 0, 0] && v4.octets()[3] >= 53 => {
            "systemd-resolved"
        }
        IpAddr::V4(v4) if v4 == Ipv4Addr::new(169, 254, 20, 10) => "nodelocaldns",
        address if address.is_loopback() => "dnsmasq",
        _ => "resolv.conf",
    }
}

fn is_right(word: &Word) -> bool {
    word.as_ref()
        .is_ok_and(|addresses| addresses.contains(&ADDRESS))
}

fn in_words(word: &Word) -> String {
    match word {
        Ok(addresses) if addresses.is_empty() => "no address".to_owned(),
        Ok(addresses) => {
            let words: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            words.join(", ")
        }
        Err(why) => why.clone(),
    }
}

/// What the name stands for.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::{report::Outcome, table::table},
        golden,
    };
    use serde_json::json;

    fn right() -> Vec<IpAddr> {
        vec![ADDRESS]
    }

    fn heard(change: impl FnOnce(&mut Heard)) -> Report {
        let upstream = |address: &str, state: &str| json!({ "address": address, "state": state, "help": null });
        let upstreams = [
            upstream("192.0.2.1:53", "up"),
            upstream("192.0.2.2:53", "up"),
        ];
        let mut heard = Heard {
            server: "127.0.0.1:8600".parse().unwrap(),
            domain: "consul".to_owned(),
            udp: Ok(right()),
            tcp: Ok(right()),
            hops: vec![("127.0.0.53:53".parse().unwrap(), Ok(right()))],
            system: Ok(right()),
            status: Ok(
                json!({ "node": "edge-a", "zone": "mall-1", "faces": { "dns": { "upstreams": upstreams } } }),
            ),
        };
        change(&mut heard);
        report(&heard)
    }

    #[test]
    fn a_path_in_order_and_one_that_is_cut_are_the_golden_ones() {
        let well = heard(|_| {});
        assert!(well.holds());
        golden::is("doctor-dns.txt", &table(&well));
        golden::is("doctor-dns.json", &well.json());
        let cut = heard(|heard| {
            heard.hops[0].1 = Err("NXDOMAIN".to_owned());
            heard.system = Err("Name or service not known".to_owned());
        });
        golden::is("doctor-dns-cut.txt", &table(&cut));
    }

    /// A change of what was heard, the check that tells it, its outcome and a part of its next step.
    type Case = (fn(&mut Heard), &'static str, Outcome, &'static str);

    #[test]
    fn the_hop_that_fails_is_named_with_its_step() {
        let cases: [Case; 9] = [
            (
                |heard| heard.udp = Err("SERVFAIL (not ready)".to_owned()),
                "dns-udp",
                Fail,
                "zonal status",
            ),
            (
                |heard| heard.udp = Err("no reply".to_owned()),
                "dns-udp",
                Fail,
                "--dns-listen 127.0.0.1:8600",
            ),
            (
                |heard| heard.tcp = Ok(Vec::new()),
                "dns-tcp",
                Fail,
                "--dns-listen",
            ),
            (
                |heard| heard.hops.clear(),
                "dns-servers",
                Fail,
                "--for resolv.conf",
            ),
            (
                |heard| {
                    heard.hops[0] = ("127.0.0.1:53".parse().unwrap(), Err("REFUSED".to_owned()));
                },
                "dns-servers",
                Fail,
                "--for dnsmasq",
            ),
            (
                |heard| heard.system = Ok(Vec::new()),
                "dns-system",
                Fail,
                "nsswitch",
            ),
            (
                |heard| {
                    heard.status.as_mut().unwrap()["faces"]["dns"]["upstreams"][1]["state"] =
                        json!("down");
                },
                "dns-upstreams",
                Warn,
                "--server 192.0.2.2:53",
            ),
            (
                |heard| {
                    heard.status.as_mut().unwrap()["faces"]["dns"]["upstreams"][0]["state"] =
                        json!("loop");
                },
                "dns-upstreams",
                Fail,
                "dns.recursors",
            ),
            (
                |heard| {
                    heard.hops[0] = (
                        "169.254.20.10:53".parse().unwrap(),
                        Err("NXDOMAIN".to_owned()),
                    );
                },
                "dns-servers",
                Fail,
                "--for nodelocaldns",
            ),
        ];
        for (change, id, outcome, next) in cases {
            let report = heard(change);
            let check = report.checks.iter().find(|check| check.id == id).unwrap();
            assert_eq!(check.outcome, outcome, "{id}: {}", check.says);
            let step = check.next.as_deref().unwrap_or_default();
            assert!(step.contains(next), "{id}: {step}");
        }
    }

    #[test]
    fn every_check_has_a_section_and_what_hangs_on_another_is_not_blamed() {
        let page = include_str!("../../docs/doctor.md");
        let silent = heard(|heard| {
            heard.udp = Err("no reply".to_owned());
            heard.system = Err("no reply".to_owned());
            heard.status = Err("connection refused".to_owned());
        });
        for check in &silent.checks {
            let section = check.page.split_once('#').unwrap().1;
            assert!(page.contains(&format!("\n### {section}\n")), "{section}");
        }
        let skipped = silent.checks.iter().filter(|check| check.outcome == Skip);
        let skipped: Vec<_> = skipped.map(|check| &*check.id).collect();
        assert_eq!(skipped, ["dns-servers", "dns-system", "dns-upstreams"]);
    }
}

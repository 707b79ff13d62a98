// SPDX-License-Identifier: MIT OR Apache-2.0
//! The responder against other name servers, on one core each, in one run; and where it hurts.
//!
//! Rivals: knot, NSD, Unbound and `PowerDNS` of the distribution, hickory-server, Consul and `CoreDNS` (kubernetes and cache) on a
//! real API server as the testbed has them, and a UDP echo that answers with as many bytes as ours does. Every server has the
//! same 1,000 services and is asked the same: 70 % A, 20 % SRV, 5 % AAAA without data, 5 % names that do not exist, half of them
//! with EDNS. Servers share core 1 and are asked one at a time from core 0; those that work unasked are stopped meanwhile. What is
//! not on the machine is skipped, and said to be.
//!
//! `cargo bench -p benches --bench dns` prints; with `-- --write` or `ZONAL_RESULTS=1` it also writes `results/dns.jsonl`. Words
//! choose sections (`udp`, `counted`, `tcp`, `latency`, `overload`, `scale`, `idle`) and rivals: `-- udp knot echo`. Everything takes about nine
//! minutes, and overload needs root. With another build of this bench in `ZONAL_DNS_BEFORE` its responder is one more rival, `before`. The first run builds what the testbed has not built yet.

mod compare;
mod counters;
mod echo;
mod extremes;
mod hickory;
mod ours;
mod question;
mod real;
mod report;
mod rivals;
mod server;
mod tcp;
mod udp;
mod world;

use anyhow::ensure;
use compare::Questions;
use report::Report;
use server::Server;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use testbed::Binary;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["zonal", address, services] => ours::serve(address.parse()?, services.parse()?),
        ["held", services] => ours::hold(services.parse()?),
        ["echo", bytes] => echo::serve(bytes.parse()?),
        ["hickory", address] => hickory::serve(address.parse()?),
        ["consul"] => in_runtime(real::hold_consul()),
        ["coredns"] => in_runtime(real::hold_coredns()),
        // Cargo says `--bench`.
        ref words => Wish::read(words)?.run(),
    }
}

type Section = fn(&[Server], &Questions, &mut Report) -> anyhow::Result<()>;

/// What is to be measured.
struct Wish {
    sections: BTreeSet<String>,
    rivals: BTreeSet<String>,
    is_written: bool,
}

impl Wish {
    fn read(words: &[&str]) -> anyhow::Result<Self> {
        let mut wish = Self {
            sections: BTreeSet::new(),
            rivals: BTreeSet::new(),
            is_written: std::env::var_os("ZONAL_RESULTS").is_some(),
        };
        for word in words {
            match *word {
                "--bench" => {}
                "--write" => wish.is_written = true,
                section if SECTIONS.contains(&section) => {
                    wish.sections.insert(section.into());
                }
                rival => {
                    ensure!(
                        RIVALS.contains(&rival),
                        "{rival} is none of {SECTIONS:?} and {RIVALS:?}"
                    );
                    wish.rivals.insert(rival.into());
                }
            }
        }
        Ok(wish)
    }

    fn run(&self) -> anyhow::Result<()> {
        server::pin_generator()?;
        let (begun, mut report) = (Instant::now(), Report::default());
        let (servers, skipped) = self.start()?;
        let say = |section: &str| eprintln!("{section} ({:.0} s)", begun.elapsed().as_secs_f64());
        let questions = Questions::new();
        if servers.len() > 1 {
            say("verify");
            compare::verify(&servers, &mut report)?;
        }
        let sections: [(&str, Section); 7] = [
            ("udp", compare::datagrams),
            ("counted", counters::count),
            ("tcp", compare::streams),
            ("latency", compare::latency),
            ("overload", |_, _, report| extremes::overload(report)),
            ("scale", |servers, _, report| {
                extremes::scale(&servers[0], report)
            }),
            ("idle", |_, _, report| extremes::idle(report)),
        ];
        for (name, section) in sections {
            if self.has_section(name) {
                say(name);
                section(&servers, &questions, &mut report)?;
            }
        }
        say("done");
        report.finish(self.is_written)?;
        tell_skipped(&skipped);
        Ok(())
    }

    fn has_section(&self, name: &str) -> bool {
        self.sections.is_empty() || self.sections.contains(name)
    }

    fn has_rival(&self, name: &str) -> bool {
        let compares = ["udp", "counted", "tcp", "latency"];
        let is_compared = compares.iter().any(|section| self.has_section(section));
        is_compared && (self.rivals.is_empty() || self.rivals.contains(name))
    }

    /// Ours first; each answers.
    fn start(&self) -> anyhow::Result<(Vec<Server>, Vec<String>)> {
        let services = world::SERVICES.to_string();
        let mut servers = vec![Server::role("zonal", &["127.0.0.1:0", &services])?];
        let questions = world::questions(question::Schema::Consul, world::SERVICES);
        let first = udp::closed_loop(&servers[0], &questions, Duration::from_millis(300))?;
        if let Some(before) = std::env::var_os("ZONAL_DNS_BEFORE") {
            let arguments = ["127.0.0.1:0", &services];
            servers.push(Server::role_of(
                before.as_ref(),
                "before",
                "zonal",
                &arguments,
            )?);
        }
        if self.has_rival("echo") {
            let bytes = first.mean_reply().to_string();
            servers.push(Server::role("echo", &[&bytes])?);
        }
        let (installed, mut skipped) = rivals::installed(&world::zone_file())?;
        servers.extend(
            installed
                .into_iter()
                .filter(|server| self.has_rival(server.name)),
        );
        if self.has_rival("hickory") {
            let [port] = testbed::free_ports()?;
            servers.push(Server::role("hickory", &[&format!("127.0.0.1:{port}")])?);
        }
        let consul: &[Binary] = &[Binary::Consul];
        let coredns = &[
            Binary::KubeApiserver,
            Binary::KubeControllerManager,
            Binary::Etcd,
            Binary::CoreDns,
        ];
        for (name, binaries) in [("consul", consul), ("coredns", coredns)] {
            if self.has_rival(name) {
                match real::missing(binaries) {
                    None => servers.push(Server::role(name, &[])?),
                    Some(why) => skipped.push(format!("{name}: {why}")),
                }
            }
        }
        let questions = Questions::new();
        for server in &servers {
            if server.name != "echo" {
                udp::wait_until_answered(server, &questions.of(server)[0])?;
            }
            server.pause();
            eprintln!("{} answers", server.name);
        }
        tell_skipped(&skipped);
        Ok((servers, skipped))
    }
}

fn tell_skipped(skipped: &[String]) {
    for skipped in skipped {
        println!("SKIPPED {skipped}");
    }
}

fn in_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

const SECTIONS: [&str; 7] = [
    "udp", "counted", "tcp", "latency", "overload", "scale", "idle",
];
const RIVALS: [&str; 9] = [
    "before", "echo", "knot", "nsd", "unbound", "pdns", "hickory", "consul", "coredns",
];

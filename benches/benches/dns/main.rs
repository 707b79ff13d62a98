// SPDX-License-Identifier: MIT OR Apache-2.0
//! The responder against the name servers of the distribution, on one core each, over loopback, in one run.
//!
//! `cargo bench -p benches --bench dns` measures whatever of knot, NSD, Unbound and `PowerDNS` is installed, and a UDP echo that
//! answers with as many bytes as ours does. Every server has the same 1,000 services, and is asked the same: 70 % A, 20 % SRV,
//! 5 % AAAA without data, 5 % names that do not exist, half of them with EDNS.

mod load;
mod rivals;
mod world;

use load::{Figures, Latency};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Child, Command},
    time::Duration,
};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "serve", port] => world::serve(port.parse()?),
        [_, "echo", port, bytes] => load::echo(port.parse()?, bytes.parse()?),
        _ => compare(),
    }
}

/// One server under test; dropped, it has ended.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) child: Child,
    pub(crate) has_tcp: bool,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    pub(crate) fn new(
        name: &'static str,
        port: u16,
        child: Child,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        Self {
            name,
            address: ([127, 0, 0, 1], port).into(),
            child,
            has_tcp: name != "echo",
            _folder: folder,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program on the servers' core.
fn own(arguments: &[&str]) -> anyhow::Result<Child> {
    let program = std::env::current_exe()?;
    let child = Command::new("taskset")
        .args(["-c", "0"])
        .arg(program)
        .args(arguments)
        .spawn()?;
    Ok(child)
}

fn compare() -> anyhow::Result<()> {
    load::pin_to_last_core();
    let requests = world::requests();
    let mut servers = vec![Server::new(
        "zonal",
        ports(0),
        own(&["serve", &ports(0).to_string()])?,
        None,
    )];
    load::wait_until_answered(servers[0].address, &requests)?;
    let first = load::closed_loop(&servers[0], &requests, WARM)?;
    let bytes = first.mean_reply.to_string();
    servers.push(Server::new(
        "echo",
        ports(1),
        own(&["echo", &ports(1).to_string(), &bytes])?,
        None,
    ));
    servers.extend(rivals::installed(&world::zone_file(), ports)?);
    for server in &servers {
        load::wait_until_answered(server.address, &requests)?;
    }
    let mut figures: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
    let mut tcp: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut latency: BTreeMap<&str, Vec<Latency>> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut order: Vec<&Server> = servers.iter().collect();
        fastrand::Rng::with_seed(round).shuffle(&mut order);
        for server in order {
            load::closed_loop(server, &requests, WARM)?;
            figures
                .entry(server.name)
                .or_default()
                .push(load::closed_loop(server, &requests, MEASURED)?);
            if server.has_tcp {
                tcp.entry(server.name).or_default().push(load::pipelined(
                    server,
                    &requests,
                    TCP_MEASURED,
                )?);
            }
            latency
                .entry(server.name)
                .or_default()
                .push(load::fixed_rate(server, &requests, 20_000, TCP_MEASURED)?);
        }
    }
    print(&figures, &tcp, &latency);
    Ok(())
}

fn ports(number: u16) -> u16 {
    15_300 + number
}

fn print(
    figures: &BTreeMap<&str, Vec<Figures>>,
    tcp: &BTreeMap<&str, Vec<f64>>,
    latency: &BTreeMap<&str, Vec<Latency>>,
) {
    println!(
        "server   UDP q/s median [range]      µs CPU  reply B  lost  zonal is    TCP q/s   zonal is   p50 µs  p90 µs  lost at 20 k/s"
    );
    let ours = &figures["zonal"];
    for (name, rounds) in figures {
        let rates = sorted(rounds.iter().map(|figures| figures.rate));
        let ratios = sorted(
            rounds
                .iter()
                .zip(ours)
                .map(|(theirs, ours)| ours.rate / theirs.rate),
        );
        let middle = &rounds[rounds.len() / 2];
        let lost: u64 = rounds.iter().map(|figures| figures.lost).sum();
        let (tcp_rate, tcp_ratio) = tcp.get(name).map_or((f64::NAN, f64::NAN), |rounds| {
            let ratios = sorted(
                rounds
                    .iter()
                    .zip(&tcp["zonal"])
                    .map(|(theirs, ours)| ours / theirs),
            );
            (median(&sorted(rounds.iter().copied())), median(&ratios))
        });
        let of = |of: fn(&Latency) -> f64| median(&sorted(latency[name].iter().map(of)));
        let late: u64 = latency[name].iter().map(|latency| latency.lost).sum();
        println!(
            "{name:<8} {:>8.0} [{:.0}-{:.0}] {:>9.2} {:>8} {lost:>5}  {:>5.2}x [{:.2}-{:.2}] {tcp_rate:>9.0} {tcp_ratio:>8.2}x {:>8.1} {:>7.1} {late:>5}",
            median(&rates),
            rates[0],
            rates[rates.len() - 1],
            middle.cpu_us,
            middle.mean_reply,
            median(&ratios),
            ratios[0],
            ratios[ratios.len() - 1],
            of(|latency| latency.p50_us),
            of(|latency| latency.p90_us),
        );
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

const ROUNDS: u64 = 5;
const WARM: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_millis(1_500);
const TCP_MEASURED: Duration = Duration::from_millis(500);

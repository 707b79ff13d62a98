// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ours where it hurts: twice as much as it can answer, a hundred times as many services, and at rest.

use crate::{
    question::{Question, Schema},
    report::{Goal, Report, Spread, f64_of, rounded},
    server::Server,
    udp::{self, Client, Figures},
    world::{self, SERVICES},
};
use anyhow::Context as _;
use serde_json::json;
use std::{net::UdpSocket, time::Duration};
use testbed::Netns;

/// Over a cable from a namespace: loopback would hold the generator back.
pub(crate) fn overload(report: &mut Report) -> anyhow::Result<()> {
    println!("\noverload, over a cable from a namespace");
    let Ok(netns) = Netns::new() else {
        eprintln!("SKIPPED overload: needs root and a working `ip`");
        return Ok(());
    };
    let [port] = testbed::free_ports()?;
    let listen = format!("{}:{port}", netns.host_ip());
    let server = Server::role("zonal", &[&listen, &SERVICES.to_string()])?;
    let questions = world::questions(Schema::Consul, SERVICES);
    let clients = || -> anyhow::Result<Vec<Client<'_>>> {
        let open = || (0..8).map(|_| UdpSocket::bind("0.0.0.0:0")).collect();
        let sockets: std::io::Result<Vec<UdpSocket>> = netns.inside(open)?;
        let clients = sockets?.into_iter();
        clients
            .map(|socket| Client::new(socket, server.address))
            .collect()
    };
    let most = |duration| -> anyhow::Result<_> {
        Ok(udp::closed_loop_of(
            &mut clients()?,
            &server,
            &questions,
            duration,
        ))
    };
    most(WARM)?;
    let mut rounds = Vec::new();
    server.forget_peak();
    let before = server.memory("VmRSS");
    for _ in 0..OVERLOAD_ROUNDS {
        let first = most(MEASURED)?;
        let rate = 2.0 * first.rate().max(1e6 / first.cost());
        let Flood {
            sent,
            answered,
            busy,
            kept,
            bad,
        } = flood(&netns, &server, &mut clients()?, &questions, rate)?;
        let last = most(MEASURED)?;
        // For a second of the server's core, of which other work may take a part.
        let capacity = 2e6 / (first.cost() + last.cost());
        let offered = f64_of(sent) / busy / capacity;
        let goodput = f64_of(answered) / busy / capacity;
        println!(
            "  {capacity:.0} answers for a second of its core; {offered:.2} times as many offered, {:.1} % answered, core busy {:.0} %, \
             {bad} codes bad of {kept} looked at",
            goodput * 100.0,
            busy / FLOODED.as_secs_f64() * 100.0,
        );
        rounds.push((offered, goodput));
    }
    let grown = (server.memory("VmHWM") - before) / MIB;
    let offered = Spread::of(rounds.iter().map(|(offered, _)| *offered));
    let goodput = Spread::of(rounds.iter().map(|(_, goodput)| *goodput));
    println!(
        "  RSS {:.1} MiB, and {grown:.2} MiB more at its peak",
        before / MIB
    );
    let row = json!({
        "offered": offered.json(), "goodput": goodput.json(), "rss_mib": rounded(before / MIB), "grown_mib": rounded(grown),
    });
    report.row("overload", "zonal", row);
    report.goal(
        "overload, offered times what a core answers",
        offered.median,
        Goal::AtLeast(1.9),
    );
    report.goal(
        "overload, answered of what a core answers",
        goodput.median,
        Goal::AtLeast(0.9),
    );
    report.goal("overload, RSS grows by MiB", grown, Goal::AtMost(4.0));
    Ok(())
}

/// What became of questions that came faster than answers can.
struct Flood {
    sent: u64,
    answered: u64,
    /// Seconds of the server's core.
    busy: f64,
    /// Replies that were looked at, and those of them with a code of trouble.
    kept: u64,
    bad: u64,
}

fn flood<'q>(
    netns: &Netns,
    server: &Server,
    clients: &mut [Client<'q>],
    questions: &'q [Question],
    rate: f64,
) -> anyhow::Result<Flood> {
    let (received, busy) = (replies(netns)?, server.busy_seconds());
    let sent = udp::flood(clients, questions, rate, FLOODED);
    let answered = replies(netns)? - received;
    let busy = server.busy_seconds() - busy;
    // What still waits in the sockets says whether the answers are any good.
    let (kept, bad) = clients.iter_mut().fold((0, 0), |sum, client| {
        let (kept, bad) = client.drain();
        (sum.0 + kept, sum.1 + bad)
    });
    Ok(Flood {
        sent,
        answered,
        busy,
        kept,
        bad,
    })
}

/// Replies that came out of the cable in the namespace.
fn replies(netns: &Netns) -> anyhow::Result<u64> {
    let path = format!(
        "/sys/class/net/{}/statistics/rx_packets",
        netns.inner_link()
    );
    let output = netns.run("cat", &[&path])?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// A hundred times as many services, beside the usual number.
pub(crate) fn scale(few: &Server, report: &mut Report) -> anyhow::Result<()> {
    println!("\n{MANY} services");
    let many = Server::role("zonal", &["127.0.0.1:0", &MANY.to_string()])?;
    eprintln!("  {MANY} are served");
    let held = Server::role("held", &[&MANY.to_string()])?;
    let (all, without) = (many.memory("VmRSS") / MIB, held.memory("VmRSS") / MIB);
    let index_ms = many.told["index_ms"].as_f64().context("it told")?;
    println!(
        "  RSS {all:.1} MiB, {without:.1} of them the snapshot; the index takes {index_ms:.0} ms of a core"
    );
    drop(held);
    let asked_few = world::questions(Schema::Consul, SERVICES);
    let asked_many = world::questions(Schema::Consul, MANY);
    udp::wait_until_answered(&many, &asked_many[0])?;
    let mut blocks = Vec::new();
    for _ in 0..SCALE_ROUNDS {
        let of_few = || udp::closed_loop(few, &asked_few, SLICE);
        let of_many = || udp::closed_loop(&many, &asked_many, SLICE);
        let first = of_few()?;
        let two = of_many()? + of_many()?;
        blocks.push((first + of_few()?, two));
    }
    let cost = |of: fn(&(Figures, Figures)) -> f64| Spread::of(blocks.iter().map(of));
    let (low, high) = (cost(|block| block.0.cost()), cost(|block| block.1.cost()));
    let ratio = cost(|block| block.1.cost() / block.0.cost());
    let wrong: u64 = blocks.iter().map(|block| block.1.wrong).sum();
    println!(
        "  {:.2} µs of CPU an answer, {:.2} at {SERVICES}: {:.2}x [{:.2}-{:.2}]; {wrong} wrong",
        high.median, low.median, ratio.median, ratio.least, ratio.most,
    );
    let row = json!({
        "services": MANY, "rss_mib": rounded(all), "snapshot_mib": rounded(without), "index_ms": rounded(index_ms),
        "cpu_us": high.json(), "cpu_us_few": low.json(), "ratio": ratio.json(), "wrong": wrong,
    });
    report.row("scale", "zonal", row);
    Ok(())
}

/// What the face takes of the memory of an idle process: one with it, and one without.
pub(crate) fn idle(report: &mut Report) -> anyhow::Result<()> {
    println!("\nidle, {SERVICES} services");
    let with = Server::role("zonal", &["127.0.0.1:0", &SERVICES.to_string()])?;
    let without = Server::role("held", &[&SERVICES.to_string()])?;
    std::thread::park_timeout(Duration::from_secs(1));
    let (all, rest) = (with.memory("VmRSS") / MIB, without.memory("VmRSS") / MIB);
    let questions = world::questions(Schema::Consul, SERVICES);
    udp::closed_loop(&with, &questions, SLICE)?;
    let asked = with.memory("VmRSS") / MIB;
    println!("  RSS {all:.1} MiB, {rest:.1} without the face; {asked:.1} after a load");
    let row = json!({ "rss_mib": rounded(all), "without_mib": rounded(rest), "after_load_mib": rounded(asked) });
    report.row("idle", "zonal", row);
    let megabytes = |mib: f64| mib * MIB / 1e6;
    report.goal(
        "idle, MB of the face",
        megabytes(all - rest),
        Goal::AtMost(8.0),
    );
    report.goal(
        "after a load, MB of the face",
        megabytes(asked - rest),
        Goal::AtMost(8.0),
    );
    Ok(())
}

const MIB: f64 = 1_048_576.0;
const MANY: u32 = 100_000;
const WARM: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_secs(1);
const FLOODED: Duration = Duration::from_secs(4);
const OVERLOAD_ROUNDS: usize = 3;
const SCALE_ROUNDS: usize = 9;
const SLICE: Duration = Duration::from_millis(400);

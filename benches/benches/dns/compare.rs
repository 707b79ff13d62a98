// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ours beside each rival: short slices in the order ours, theirs, theirs, ours, so that what drifts on the machine falls on
//! both, and the ratio is that of each such block.
//!
//! A ratio of answers a second says something only while both servers are all that is waited for. Where one was idle for a part
//! of the time, by the generator's limit or other work on its core, the ratio of what an answer costs the core takes its place.

use crate::{
    question::{Judgement, Question, Schema},
    report::{Goal, Report, Spread, f64_of},
    server::Server,
    tcp,
    udp::{self, Figures, Latency},
    world::{self, SERVICES},
};
use serde_json::{Value, json};
use std::time::Duration;

/// What every server is asked, in each naming.
pub(crate) struct Questions {
    consul: Vec<Question>,
    kubernetes: Vec<Question>,
}

impl Questions {
    pub(crate) fn new() -> Self {
        Self {
            consul: world::questions(Schema::Consul, SERVICES),
            kubernetes: world::questions(Schema::Kubernetes, SERVICES),
        }
    }

    pub(crate) fn of(&self, server: &Server) -> &[Question] {
        match server.schema {
            Schema::Consul => &self.consul,
            Schema::Kubernetes => &self.kubernetes,
        }
    }
}

/// Asks each server for all there is and reads the replies to the last byte.
pub(crate) fn verify(servers: &[Server], report: &mut Report) -> anyhow::Result<()> {
    println!("\nanswers read whole, of one A and one SRV for each service");
    for server in servers.iter().filter(|server| server.has_tcp) {
        server.go_on();
        let all: Vec<_> = world::all(server.schema).collect();
        let questions: Vec<_> = all.iter().map(|(question, _)| question).collect();
        // Some servers close a connection after some questions.
        let mut streams = Vec::new();
        for some in questions.chunks(50) {
            streams.extend(tcp::ask(server.address, some)?);
        }
        let mut datagrams = Vec::new();
        for question in &questions {
            datagrams.push(udp::ask(server.address, question)?.unwrap_or_default());
        }
        server.pause();
        let right = |replies: &[Vec<u8>]| {
            let replies = replies.iter().zip(&all);
            replies
                .filter(|(reply, (question, addresses))| question.is_answered_by(reply, addresses))
                .count()
        };
        let whole = |replies: &[Vec<u8>]| {
            let replies = replies.iter().zip(&all);
            let judged = replies.map(|(reply, (question, _))| question.judge(reply));
            judged.filter(|judged| *judged == Judgement::Whole).count()
        };
        println!(
            "  {:<8} TCP {} of {} right, {} whole; UDP {} right, {} whole",
            server.name,
            right(&streams),
            all.len(),
            whole(&streams),
            right(&datagrams),
            whole(&datagrams),
        );
        report.row(
            "verify",
            server.name,
            json!({ "asked": all.len(), "tcp_right": right(&streams), "tcp_whole": whole(&streams),
                "udp_right": right(&datagrams), "udp_whole": whole(&datagrams) }),
        );
    }
    Ok(())
}

/// One rival's blocks: what ours and theirs did in each.
#[derive(Default)]
struct Blocks(Vec<(Figures, Figures)>);

impl Blocks {
    fn measure(
        &mut self,
        (ours, theirs): (&Server, &Server),
        mut slice: impl FnMut(&Server) -> anyhow::Result<Figures>,
    ) -> anyhow::Result<()> {
        theirs.go_on();
        let first = slice(ours)?;
        let two = slice(theirs)? + slice(theirs)?;
        let last = slice(ours)?;
        theirs.pause();
        self.0.push((first + last, two));
        Ok(())
    }

    fn all(&self, of: impl Fn(&(Figures, Figures)) -> f64) -> Spread {
        Spread::of(self.0.iter().map(of))
    }

    /// By answers a second, and by what an answer costs the server's core.
    fn ratios(&self) -> (Spread, Spread) {
        let rate = self.all(|(ours, theirs)| ours.rate() / theirs.rate());
        let cost = self.all(|(ours, theirs)| theirs.cost() / ours.cost());
        (rate, cost)
    }

    /// The ratio that says something, and which it is.
    fn ratio(&self) -> (f64, &'static str) {
        let busy = self.all(|(ours, theirs)| ours.busy().min(theirs.busy()));
        let (rate, cost) = self.ratios();
        if busy.median < BUSY_MIN {
            (cost.median, "by CPU an answer")
        } else {
            (rate.median, "by answers a second")
        }
    }

    fn figures(&self, of: fn(&(Figures, Figures)) -> &Figures) -> Value {
        let total = self
            .0
            .iter()
            .fold(Figures::default(), |sum, block| sum + *of(block));
        json!({
            "rate": self.all(|block| of(block).rate()).json(),
            "cpu_us": self.all(|block| of(block).cost()).json(),
            "busy": self.all(|block| of(block).busy()).json(),
            "answers": total.answers, "cut": total.cut, "wrong": total.wrong, "lost": total.lost,
            "mean_reply": total.mean_reply(),
        })
    }

    fn tell(&self, suite: &str, name: &str, report: &mut Report) {
        let (rate, cost) = self.ratios();
        print_figures(name, self, |(_, theirs)| theirs);
        let (_, which) = self.ratio();
        println!(
            "           zonal is {:.2}x [{:.2}-{:.2}] by rate, {:.2}x [{:.2}-{:.2}] by CPU; counted {which}",
            rate.median, rate.least, rate.most, cost.median, cost.least, cost.most,
        );
        let mut row = self.figures(|(_, theirs)| theirs);
        row["ratio_rate"] = rate.json();
        row["ratio_cpu"] = cost.json();
        row["counted"] = which.into();
        report.row(suite, name, row);
    }
}

fn print_figures(name: &str, blocks: &Blocks, of: fn(&(Figures, Figures)) -> &Figures) {
    let rate = blocks.all(|block| of(block).rate());
    let cost = blocks.all(|block| of(block).cost());
    let busy = blocks.all(|block| of(block).busy());
    let total = blocks
        .0
        .iter()
        .fold(Figures::default(), |sum, block| sum + *of(block));
    println!(
        "  {name:<8} {:>8.0} /s [{:.0}-{:.0}]  {:>6.2} µs of CPU  core busy {:.0} %  reply {} B  cut {}  wrong {}  lost {}  of {}",
        rate.median,
        rate.least,
        rate.most,
        cost.median,
        busy.median * 100.0,
        total.mean_reply(),
        total.cut,
        total.wrong,
        total.lost,
        total.answers,
    );
}

/// Over datagrams, as fast as answers come.
pub(crate) fn datagrams(
    servers: &[Server],
    questions: &Questions,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("\nUDP, as fast as answers come ({UDP_ROUNDS} blocks with each rival)");
    let slice = |server: &Server| {
        udp::closed_loop(server, questions.of(server), WARM)?;
        udp::closed_loop(server, questions.of(server), SLICE)
    };
    let blocks = measure(servers, UDP_ROUNDS, |_| true, slice)?;
    let goals = [
        ("knot", 1.4),
        ("coredns", 7.0),
        ("consul", 28.0),
        ("echo", 0.9),
    ];
    tell_all("udp", &blocks, &goals, report);
    Ok(())
}

/// Over connections with many questions under way.
pub(crate) fn streams(
    servers: &[Server],
    questions: &Questions,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!(
        "\nTCP, 8 connections with 25 questions under way ({TCP_ROUNDS} blocks with each rival)"
    );
    let slice = |server: &Server| {
        tcp::pipelined(server, questions.of(server), WARM)?;
        tcp::pipelined(server, questions.of(server), SLICE)
    };
    // Consul resets a connection that is asked on before it was answered.
    let pipelines = |server: &Server| server.has_tcp && server.name != "consul";
    let blocks = measure(servers, TCP_ROUNDS, pipelines, slice)?;
    tell_all("tcp", &blocks, &[("pdns", 2.0)], report);
    println!("TCP by dnsperf, the same connections and questions under way");
    let names = tcp::names(questions.of(&servers[0]));
    let slice = |server: &Server| {
        let figures = tcp::dnsperf(server, &names, 1)?;
        Ok(figures.unwrap_or_default())
    };
    let is_asked = |server: &Server| matches!(server.name, "knot" | "pdns");
    let blocks = measure(servers, DNSPERF_ROUNDS, is_asked, slice)?;
    if blocks
        .iter()
        .any(|(_, blocks)| blocks.0.iter().any(|(ours, _)| ours.answers == 0))
    {
        println!("  SKIPPED dnsperf: not installed");
    } else {
        tell_all("tcp-dnsperf", &blocks, &[], report);
    }
    Ok(())
}

type Measured<'s> = Vec<(&'s str, Blocks)>;

fn measure<'s>(
    servers: &'s [Server],
    rounds: u64,
    is_asked: impl Fn(&Server) -> bool,
    slice: impl Fn(&Server) -> anyhow::Result<Figures>,
) -> anyhow::Result<Measured<'s>> {
    let (ours, rivals) = servers.split_first().expect("ours is the first");
    let rivals: Vec<&Server> = rivals.iter().filter(|server| is_asked(server)).collect();
    let mut measured: Measured<'s> = rivals
        .iter()
        .map(|rival| (rival.name, Blocks::default()))
        .collect();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..rivals.len()).collect();
        fastrand::Rng::with_seed(round).shuffle(&mut order);
        for at in order {
            measured[at].1.measure((ours, rivals[at]), &slice)?;
        }
        eprintln!("  round {} of {rounds}", round + 1);
    }
    Ok(measured)
}

fn tell_all(suite: &str, measured: &Measured<'_>, goals: &[(&str, f64)], report: &mut Report) {
    let mut ours = Blocks::default();
    for (_, blocks) in measured {
        ours.0.extend(&blocks.0);
    }
    print_figures("zonal", &ours, |(ours, _)| ours);
    report.row(suite, "zonal", ours.figures(|(ours, _)| ours));
    for (name, blocks) in measured {
        blocks.tell(suite, name, report);
        if let Some((_, goal)) = goals.iter().find(|(rival, _)| rival == name) {
            let (ratio, which) = blocks.ratio();
            let what = format!("{suite}, times {name} {which}");
            report.goal(&what, ratio, Goal::AtLeast(*goal));
        }
    }
}

/// What single answers take at a rate that every lean server stands.
pub(crate) fn latency(
    servers: &[Server],
    questions: &Questions,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("\n{RATE} questions a second, waited from when each was due");
    let (ours, rivals) = servers.split_first().expect("ours is the first");
    let slice =
        |server: &Server| udp::fixed_rate(server, questions.of(server), RATE, LATENCY_SLICE);
    let (mut own, mut beside_echo) = (Vec::new(), Vec::new());
    let mut theirs: Vec<(&str, Vec<Latency>)> = Vec::new();
    for rival in rivals {
        let is_echo = rival.name == "echo";
        let rounds = if is_echo { ECHO_ROUNDS } else { RIVAL_ROUNDS };
        rival.go_on();
        let mut slices = Vec::new();
        for _ in 0..rounds {
            let before = slice(ours)?;
            let two = [slice(rival)?, slice(rival)?];
            let after = slice(ours)?;
            if is_echo {
                let p50 = |two: [Latency; 2]| f64::midpoint(two[0].p50_us, two[1].p50_us);
                beside_echo.push(p50([before, after]) / p50(two));
                own.extend([before, after]);
            }
            slices.extend(two);
        }
        rival.pause();
        theirs.push((rival.name, slices));
    }
    tell_latency("zonal", &own, report);
    for (name, slices) in &theirs {
        tell_latency(name, slices, report);
    }
    let lost: u64 = own.iter().map(|slice| slice.lost).sum();
    let ratio = Spread::of(beside_echo);
    println!(
        "  p50 is {:.2}x the echo's [{:.2}-{:.2}]",
        ratio.median, ratio.least, ratio.most
    );
    report.row("latency", "ratio to echo", json!({ "p50": ratio.json() }));
    report.goal(
        "p50 at 20,000/s, times the echo's",
        ratio.median,
        Goal::AtMost(1.15),
    );
    report.goal("lost at 20,000/s", f64_of(lost), Goal::AtMost(0.0));
    Ok(())
}

fn tell_latency(name: &str, slices: &[Latency], report: &mut Report) {
    let of = |of: fn(&Latency) -> f64| Spread::of(slices.iter().map(of));
    let lost: u64 = slices.iter().map(|slice| slice.lost).sum();
    let (p50, p90) = (of(|slice| slice.p50_us), of(|slice| slice.p90_us));
    let cost = of(|slice| slice.cost);
    println!(
        "  {name:<8} p50 {:>6.1} µs [{:.1}-{:.1}]  p90 {:>7.1} µs  {:>6.2} µs of CPU  lost {lost}",
        p50.median, p50.least, p50.most, p90.median, cost.median,
    );
    let row =
        json!({ "p50_us": p50.json(), "p90_us": p90.json(), "cpu_us": cost.json(), "lost": lost });
    report.row("latency", name, row);
}

const UDP_ROUNDS: u64 = 9;
const TCP_ROUNDS: u64 = 5;
const DNSPERF_ROUNDS: u64 = 3;
const ECHO_ROUNDS: u64 = 11;
const RIVAL_ROUNDS: u64 = 2;
const WARM: Duration = Duration::from_millis(100);
const SLICE: Duration = Duration::from_millis(400);
const LATENCY_SLICE: Duration = Duration::from_millis(400);
const RATE: u32 = 20_000;
/// Below this a server waited for somebody else.
const BUSY_MIN: f64 = 0.9;

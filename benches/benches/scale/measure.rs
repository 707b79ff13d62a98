// SPDX-License-Identifier: MIT OR Apache-2.0
//! One contender against one server, step by step.

use crate::{
    CLUSTER, FLIPPED, OWN_ZONE,
    child::{Child, between},
    figures::{Figure, Figures},
};
use anyhow::Context as _;
use std::time::{Duration, Instant};

/// Who is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Contender {
    Zonal,
    Rival,
}

impl Contender {
    pub(crate) const ALL: [Self; 2] = [Self::Zonal, Self::Rival];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zonal => "zonal",
            Self::Rival => "kube-runtime",
        }
    }

    pub(crate) fn role(self) -> &'static str {
        match self {
            Self::Zonal => "agent",
            Self::Rival => "rival",
        }
    }
}

/// All figures of a contender, against a server of its own.
pub(crate) fn measure(contender: Contender) -> anyhow::Result<Figures> {
    let mut server = Child::start(&["server"])?;
    let url = server
        .wait_for("serving")?
        .pop()
        .context("the server says where")?;
    eprintln!(
        "{}: {} endpoints at {url}",
        contender.name(),
        CLUSTER.endpoints()
    );
    let mut child = Child::start(&[contender.role(), &url])?;
    let mut figures = Figures::new();
    first_look(&mut child, &mut figures)?;
    figures.insert(Figure::SyncWireBytes, sent(&mut server)?);
    flips(&mut server, &mut child, &mut figures)?;
    let sent_before = sent(&mut server)?;
    let took = churn(&mut server, &mut child, &mut figures)?;
    let rate = (sent(&mut server)? - sent_before) / took.as_secs_f64();
    figures.insert(Figure::ChurnWireBytesPerSecond, rate);
    relist(&mut server, &mut child, &mut figures)?;
    Ok(figures)
}

/// From the first connection to rest.
pub(crate) fn first_look(child: &mut Child, figures: &mut Figures) -> anyhow::Result<()> {
    let started = child.wait_for("started")?;
    let ready = between(&started, &child.wait_for("ready")?)?;
    figures.insert(Figure::ReadySeconds, ready.as_secs_f64());
    child.pass(REST)?;
    figures.insert(Figure::RestBytes, child.memory_bytes("VmRSS")?);
    figures.insert(Figure::PeakBytes, child.memory_bytes("VmHWM")?);
    Ok(())
}

/// Pods of the own zone become unready and ready again, one at a time.
pub(crate) fn flips(
    server: &mut Child,
    child: &mut Child,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for nth in 0..FLIPS {
        let is_ready = nth % 2 == 1;
        times.push(flip(server, child, "flip", nth / 2, is_ready)?);
        // Not in step with any timer of the contender.
        child.pass(Duration::from_millis(fastrand::u64(1..60)))?;
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64();
    figures.insert(Figure::FlipP50Seconds, at(50));
    figures.insert(Figure::FlipP99Seconds, at(99));
    Ok(())
}

fn flip(
    server: &mut Child,
    child: &mut Child,
    order: &str,
    nth: usize,
    is_ready: bool,
) -> anyhow::Result<Duration> {
    let node = nth % CLUSTER.nodes_per_zone;
    let written = server.order(&format!("{order} {node} {is_ready}"), "flipped")?;
    let pod = CLUSTER.pod(FLIPPED, OWN_ZONE, node);
    loop {
        let seen = child.wait_for(if is_ready { "gained" } else { "lost" })?;
        // An identity begins with the pod's name or ends with it, whatever stands beside.
        if seen.iter().any(|word| word.contains(&pod)) {
            return between(&written, &seen);
        }
    }
}

/// Pods of other zones change; how long that took.
pub(crate) fn churn(
    server: &mut Child,
    child: &mut Child,
    figures: &mut Figures,
) -> anyhow::Result<Duration> {
    let (cpu_before, begin) = (child.cpu()?, Instant::now());
    server.order(
        &format!("churn {CHURN_PER_SECOND} {CHURN_SECONDS}"),
        "churned",
    )?;
    let (used, took) = (child.cpu()?.saturating_sub(cpu_before), begin.elapsed());
    figures.insert(Figure::ChurnCpuShare, used.div_duration_f64(took));
    figures.insert(Figure::ChurnedBytes, child.memory_bytes("VmRSS")?);
    Ok(took)
}

/// The watches are cut and their versions forgotten: all lists are read again.
pub(crate) fn relist(
    server: &mut Child,
    child: &mut Child,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    child.forget_peak()?;
    let took = flip(server, child, "relist", 0, false)?;
    figures.insert(Figure::RelistSeconds, took.as_secs_f64());
    child.pass(REST)?;
    figures.insert(Figure::RelistPeakBytes, child.memory_bytes("VmHWM")?);
    figures.insert(Figure::RelistedBytes, child.memory_bytes("VmRSS")?);
    Ok(())
}

fn sent(server: &mut Child) -> anyhow::Result<f64> {
    let words = server.order("sent", "sent")?;
    Ok(words.first().context("the server says how much")?.parse()?)
}

const FLIPS: usize = 240;
const CHURN_PER_SECOND: u32 = 100;
const CHURN_SECONDS: u32 = 20;
/// Long enough for what was allocated for the lists to be given back.
const REST: Duration = Duration::from_secs(5);

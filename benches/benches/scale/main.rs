// SPDX-License-Identifier: MIT OR Apache-2.0
//! A large cluster seen by one agent: 5,000 nodes in 500 zones and 150,000 endpoints, of which 300 are its own.
//!
//! The server, the agent and the rival are processes of their own, each this program again under a role, so that memory
//! and processor time are those of one of them. Measured: from the first connection to ready, memory at rest and at its
//! peak (first sync, and all lists read again after the watches' versions were forgotten), from the write of a pod's
//! readiness to the pick that sees it, processor time under changes that concern other zones, and bytes on the wire.
//!
//! The rival is what a careful user of kube-runtime writes: a reflector over all slices and one over the nodes of the own
//! zone. Run: `cargo bench -p benches --bench scale`. Results: `benches/results/scale.jsonl`.
//!
//! `cargo bench -p benches --bench scale -- --real` writes the same cluster to a real kube-apiserver first, which takes
//! half a minute, and measures both there, one after the other, in four minutes: `benches/results/scale-real.jsonl`.

mod agent;
mod child;
mod figures;
mod measure;
mod real;
mod rival;
mod server;

use anyhow::{Context as _, bail};
use figures::Report;
use measure::{Contender, measure};
use testbed::api_server::generate::Cluster;

fn main() -> anyhow::Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["--role", "server"] => in_runtime(server::run()),
        ["--role", "real"] => in_runtime(real::run()),
        ["--role", "agent", url] => in_runtime(agent::run(url)),
        ["--role", "rival", url] => in_runtime(rival::run(url)),
        // Cargo says `--bench`.
        [] | ["--bench"] => drive(),
        ["--real"] | ["--real", "--bench"] | ["--bench", "--real"] => {
            conclude(&real::drive()?, "scale-real")
        }
        _ => bail!("usage: cargo bench -p benches --bench scale [-- --real]"),
    }
}

fn drive() -> anyhow::Result<()> {
    let mut report = Report::default();
    for contender in Contender::ALL {
        report.add(contender, measure(contender)?);
    }
    conclude(&report, "scale")
}

/// Shows the figures and keeps them.
fn conclude(report: &Report, name: &str) -> anyhow::Result<()> {
    println!("{report}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/results");
    std::fs::create_dir_all(folder)?;
    let file = format!("{folder}/{name}.jsonl");
    std::fs::write(&file, report.json_lines()).with_context(|| file)
}

/// The agent's own runtime has as many workers.
fn in_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

/// The cluster of all measurements; the agent is on the first node of the first zone.
const CLUSTER: Cluster = Cluster::LARGE;
const OWN_ZONE: usize = 0;
/// The service whose pods are flipped.
const FLIPPED: usize = 0;

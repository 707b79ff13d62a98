// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proxy against `HAProxy`, nginx and nftables, in one run: new connections, request and answer, bulk, datagrams,
//! and the memory of idle connections.
//!
//! Three network namespaces, clients ↔ proxy ↔ servers, joined by veth pairs; never loopback, which skips the device path.
//! The proxy has one thread on core 0; clients and servers share core 1, so that what they can do bounds every figure, also
//! that of `direct`, which is routed past the proxies. All targets in each round, their order rotated, a fresh proxy for each
//! measurement; medians. Ours runs with all that it is shipped with, only the rate limit by source is raised above what a
//! generator with one address needs.
//!
//! Needs root, `HAProxy`, nginx with its stream module, and nftables; about two minutes. Run: `cargo bench -p benches --bench proxy`. Results:
//! `benches/results/proxy.jsonl`.

mod figures;
mod load;
mod ours;
mod servers;
mod stage;
mod target;

use anyhow::{bail, ensure};
use std::process::Command;

fn main() -> anyhow::Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["--role", "stage"] => stage::run(),
        ["--role", "ours"] => in_runtime(ours::run()),
        ["--role", "servers"] => in_runtime(servers::run()),
        ["--role", "load", suite, address] => in_runtime(load::run(suite, address)),
        // Cargo says `--bench`.
        [] | ["--bench"] => drive(),
        _ => bail!("usage: cargo bench -p benches --bench proxy"),
    }
}

/// Raises the stage in a network namespace of its own.
fn drive() -> anyhow::Result<()> {
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe()?)
        .args(["--role", "stage"])
        .status()?;
    ensure!(status.success(), "the stage failed: {status}");
    Ok(())
}

fn in_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

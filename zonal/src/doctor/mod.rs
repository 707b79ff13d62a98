// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal doctor`: what holds and what does not, with the next step for each failure.
//!
//! A status goes in, a report comes out ([`kube::report`], pure). Where the status comes from is all that differs: from a
//! running agent, or with `--direct` from a watch of our own that ends with the command. For [`dns`] it is what each server
//! on the way of a name says.

mod cost;
mod dns;
mod hear;
mod kube;
mod report;
mod rights;
mod table;
#[cfg(test)]
mod tests;

use crate::{
    admin_client::ask,
    cli::{DoctorArgs, DoctorCommand, DoctorKubeArgs, Output},
    config::DirectConfig,
    failure::{Code, Failure},
};
use discovery_core::{
    clock::SystemClock,
    runtime::{KindReport, Runtime, Status},
    source::{KubeSource, SourceStatus},
    store::SourceId,
};
pub(crate) use hear::by_the_system;
use hyper::Method;
use report::Report;
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

pub(crate) async fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let (wait, output) = match &args.command {
        DoctorCommand::Kube(args) => (args.wait, args.ask.output),
        DoctorCommand::Dns(args) => (args.wait, args.ask.output),
    };
    let deadline = wait.map(|wait| Instant::now() + wait);
    loop {
        let outcome = match &args.command {
            DoctorCommand::Kube(args) => examine(args).await,
            DoctorCommand::Dns(args) => Ok(dns::report(&hear::hear(args).await)),
        };
        let is_well = matches!(&outcome, Ok(report) if report.holds());
        let may_mend = outcome
            .as_ref()
            .map_or_else(Failure::is_of_the_moment, |_| true);
        let has_time = deadline.is_some_and(|deadline| Instant::now() + PAUSE < deadline);
        if !is_well && may_mend && has_time {
            sleep(PAUSE).await;
            continue;
        }
        let in_vain = deadline.is_some() && !is_well && may_mend;
        return match outcome {
            Ok(report) => {
                print(&report, output);
                let exit = if in_vain {
                    EXIT_TIMED_OUT
                } else {
                    report.exit()
                };
                Ok(ExitCode::from(exit))
            }
            Err(failure) if in_vain => Err(failure.in_vain()),
            Err(failure) => Err(failure),
        };
    }
}

async fn examine(args: &DoctorKubeArgs) -> Result<Report, Failure> {
    if args.direct {
        return direct(args).await;
    }
    let answer = ask(args.ask.admin, Method::GET, "/api/v1/status").await?;
    let asked = format!("the agent at {}", args.ask.admin);
    Ok(kube::report(&answer.json()?, None, &asked))
}

/// Lists and watches for a while as an agent would, and asks for each right.
async fn direct(args: &DoctorKubeArgs) -> Result<Report, Failure> {
    let config = DirectConfig::load(&args.source)?;
    let status = Arc::new(SourceStatus::new(SourceId::Kube, Arc::new(SystemClock)));
    let source = KubeSource::new(config.kube, status).await;
    let source = source.map_err(|error| unusable(&error))?;
    let permissions = source.permissions().await;
    let runtime = Runtime::start(config.runtime).await;
    let runtime = runtime.map_err(|error| unusable(&error))?;
    // What does not settle is told as such.
    let _ = timeout(SETTLE_MAX, settled(&runtime)).await;
    if runtime
        .status()
        .sources
        .iter()
        .any(|source| source.connected)
    {
        sleep(args.watch_for).await;
    }
    let status = runtime.status();
    runtime.stop().await;
    Ok(kube::report(
        &status,
        Some(&permissions),
        "the API server itself",
    ))
}

fn unusable(error: &dyn std::error::Error) -> Failure {
    Failure::caused(Code::KubeConfigMissing, error)
        .help("pass --kubeconfig FILE, or set KUBECONFIG")
}

/// Waits until every list was read or refused.
async fn settled(runtime: &Runtime) {
    while !is_settled(&runtime.status()) {
        sleep(SETTLE_POLL).await;
    }
}

fn is_settled(status: &Status) -> bool {
    let is_decided =
        |kind: &KindReport| kind.sync_age_seconds.is_some() || kind.last_failure.is_some();
    let kinds = status.sources.iter().flat_map(|source| &source.kinds);
    let has_zone = status.zone.is_some();
    // Nodes are asked for by the zone that the own node tells.
    kinds
        .filter(|kind| kind.kind != "nodes" || has_zone)
        .all(is_decided)
}

fn print(report: &Report, output: Output) {
    match output {
        Output::Json => println!("{}", report.json()),
        Output::Table => print!("{}", table::table(report)),
    }
}

/// Between one look and the next, with `--wait`.
const PAUSE: Duration = Duration::from_secs(1);
/// A server that does not answer is known for it by then.
const SETTLE_MAX: Duration = Duration::from_secs(20);
const SETTLE_POLL: Duration = Duration::from_millis(100);
const EXIT_TIMED_OUT: u8 = 75;

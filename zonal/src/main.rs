// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal`: the operator's command. Data goes to stdout, talk to stderr, and the exit code says what happened.

mod accept;
mod admin_client;
mod agent;
mod cli;
mod config;
mod connections;
#[cfg(test)]
#[path = "../../fuzz/targets/corpus.rs"]
mod corpus;
mod demo;
mod dns;
mod doctor;
mod drain;
mod explain;
mod faces;
mod failure;
#[cfg(test)]
mod golden;
mod logging;
mod resolve;
mod sources;
mod status;

use clap::Parser;
use cli::{Cli, Command, DemoCommand};
use discovery_core::runtime::Sockets;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Two TLS providers in one graph would panic at first use; there is one, and it is named.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let sockets = match agent::activation() {
        Ok(sockets) => sockets,
        Err(failure) => return failure.report(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli, sockets)),
        Err(error) => Err(Failure::internal(
            "the async runtime does not start",
            &error,
        )),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli, sockets: Sockets) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Agent(args) => agent::run(&args, sockets).await,
        Command::Demo(args) => match args.command {
            None => demo::run().await,
            Some(DemoCommand::Kill { backend }) => {
                demo::act(&args.admin, "kill", Some(&backend)).await
            }
            Some(DemoCommand::Revive { backend }) => {
                demo::act(&args.admin, "revive", Some(&backend)).await
            }
            Some(DemoCommand::Cut { what: _ }) => demo::act(&args.admin, "cut", None).await,
            Some(DemoCommand::Heal { what: _ }) => demo::act(&args.admin, "heal", None).await,
        },
        Command::Status(args) => status::run(&args).await,
        Command::Connections(args) => connections::run(&args).await,
        Command::Drain(args) => drain::run(&args).await,
        Command::Accept(args) => accept::run(&args).await,
        Command::Explain(args) => explain::run(&args).await,
        Command::Resolve(args) => resolve::run(&args).await,
        Command::Doctor(args) => doctor::run(&args).await,
        Command::Dns(args) => dns::run(&args),
    }
}

/// Devices are small: two workers serve both faces; more would idle.
const WORKERS: usize = 2;

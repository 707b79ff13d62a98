// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal dns setup`: how the resolver of a host or cluster learns of the domain. Prints; changes nothing.

mod setup;

use crate::{
    cli::{DnsArgs, DnsCommand},
    failure::Failure,
};
use std::process::ExitCode;

pub(crate) use setup::Target;

/// Prints files and commands, ready to be pasted.
pub(crate) fn run(args: &DnsArgs) -> Result<ExitCode, Failure> {
    let DnsCommand::Setup(args) = &args.command;
    print!("{}", setup::steps(args.target, args.server, &args.domain)?);
    Ok(ExitCode::SUCCESS)
}

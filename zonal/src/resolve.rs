// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal resolve`: asks a DNS responder, for machines that have no dig.

use crate::{
    cli::{Output, ResolveArgs},
    doctor,
    failure::{Code, Failure},
};
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::client::{AskError, Reply, ReplyRecord, ask};
use serde_json::json;
use std::{fmt::Write as _, process::ExitCode, time::Duration};

/// Prints the reply; exit 0 with an answer, 1 without one.
pub(crate) async fn run(args: &ResolveArgs) -> Result<ExitCode, Failure> {
    if args.system {
        return by_the_system(args).await;
    }
    let transport = if args.tcp {
        DnsTransport::Tcp
    } else {
        DnsTransport::Udp
    };
    let mut reply = question(args, transport).await?;
    // RFC 5966: what does not fit into a datagram is asked for again over TCP.
    if reply.is_truncated {
        reply = question(args, DnsTransport::Tcp).await?;
    }
    match args.output {
        Output::Json => println!("{}", json(&reply)),
        Output::Table => print!("{}", text(&reply)),
    }
    Ok(ExitCode::from(u8::from(reply.answers.is_empty())))
}

/// What programs of this host get.
async fn by_the_system(args: &ResolveArgs) -> Result<ExitCode, Failure> {
    let found = doctor::by_the_system(&args.name).await;
    let addresses = found.map_err(|why| {
        Failure::new(
            Code::ResolverAway,
            format!("this host's resolver does not find {}: {why}", args.name),
        )
        .help("zonal doctor dns   names the hop that fails")
    })?;
    match args.output {
        Output::Json => println!("{}", json!({ "addresses": addresses })),
        Output::Table => addresses.iter().for_each(|address| println!("{address}")),
    }
    Ok(ExitCode::from(u8::from(addresses.is_empty())))
}

async fn question(args: &ResolveArgs, transport: DnsTransport) -> Result<Reply, Failure> {
    let reply = ask(args.server, &args.name, &args.qtype, transport, DEADLINE).await;
    reply.map_err(|error| match error {
        AskError::Name { .. } | AskError::Type { .. } => {
            Failure::caused(Code::NameInvalid, &error).help("zonal resolve web.service.consul SRV")
        }
        error => Failure::caused(Code::ResolverAway, &error)
            .help("start one with `zonal agent` or `zonal demo`, or pass --server ADDR"),
    })
}

/// The reply for programs.
fn json(reply: &Reply) -> serde_json::Value {
    let record = |record: &ReplyRecord| {
        json!({
            "owner": record.owner, "ttl_seconds": record.ttl_seconds, "type": record.rtype, "data": record.data,
        })
    };
    let records = |records: &[ReplyRecord]| records.iter().map(record).collect::<Vec<_>>();
    json!({
        "rcode": reply.rcode,
        "is_authoritative": reply.is_authoritative,
        "is_truncated": reply.is_truncated,
        "answers": records(&reply.answers),
        "authorities": records(&reply.authorities),
        "additionals": records(&reply.additionals),
        "extended_error": reply.extended_error,
    })
}

/// Answers as lines of their own; the rest of the reply, and a "no", after a semicolon as dig has it.
fn text(reply: &Reply) -> String {
    let mut text = String::new();
    for record in &reply.answers {
        let _ = writeln!(text, "{record}");
    }
    for record in &reply.additionals {
        let _ = writeln!(text, "; additional {record}");
    }
    if reply.answers.is_empty() {
        let why = match reply.extended_error {
            Some(14) => " (not ready)",
            _ if reply.rcode == "NOERROR" => " (the name is there, the type is not)",
            _ => "",
        };
        let _ = writeln!(text, "; {}{why}", reply.rcode);
    }
    text
}

const DEADLINE: Duration = Duration::from_secs(3);

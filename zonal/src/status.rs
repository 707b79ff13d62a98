// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal status`: one screen, exit 1 when anything is red.

use crate::{
    admin_client::ask,
    cli::{Output, StatusArgs},
    failure::Failure,
};
use discovery_core::runtime::{Freshness, SourceReport, Status};
use hyper::Method;
use std::{fmt::Write as _, process::ExitCode};

pub(crate) async fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let answer = ask(args.ask.admin, Method::GET, "/api/v1/status").await?;
    let status: Status = answer.json()?;
    match args.ask.output {
        Output::Json => println!("{}", String::from_utf8_lossy(&answer.body)),
        Output::Table => print!("{}", table(&status, args.problems)),
    }
    Ok(ExitCode::from(u8::from(is_red(&status))))
}

fn is_red(status: &Status) -> bool {
    !status.readiness.ready
        || !status.held.is_empty()
        || status
            .services
            .iter()
            .any(|service| service.listed > 0 && service.usable == 0)
}

fn table(status: &Status, problems: bool) -> String {
    let mut text = String::new();
    let zone = status.zone.as_deref().unwrap_or("unknown");
    let age = status.age_seconds.map_or("never heard".to_owned(), |age| {
        format!("heard {} ago", seconds(age))
    });
    let mut line = |content: String| {
        let _ = writeln!(text, "{content}");
    };
    line(format!(
        "zonal {}  node {}  zone {zone}  up {}",
        status.version,
        status.node,
        seconds(status.uptime_seconds)
    ));
    if status.sources.len() < 2 {
        line(format!("SOURCE {:<8} {age}", status.source));
    }
    for source in status.sources.iter().filter(|_| status.sources.len() > 1) {
        line(source_line(source));
    }
    let usable: usize = status.services.iter().map(|service| service.usable).sum();
    line(format!(
        "VIEW   {:<8} generation {} · {} services · {usable} usable endpoints{}",
        freshness(status.freshness),
        status.generation,
        status.services.len(),
        from_disk(status),
    ));
    for (name, face) in &status.faces {
        line(format!("{:<6} {face}", name.to_uppercase()));
    }
    for missing in &status.readiness.missing {
        line(format!("! not ready: {missing}"));
    }
    for held in &status.held {
        line(format!("! held: {held}"));
    }
    for service in status
        .services
        .iter()
        .filter(|service| !service.out.is_empty())
    {
        let red = if service.listed > 0 && service.usable == 0 {
            "!"
        } else {
            " "
        };
        let out: Vec<_> = service
            .out
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        line(format!(
            "{red} {:<24} {}/{} usable   out: {}",
            service.name,
            service.usable,
            service.local,
            out.join(", ")
        ));
    }
    if problems {
        for [object, place, reason] in &status.problems {
            line(format!("? {object}  {place}: {reason}"));
        }
    } else if !status.problems.is_empty() {
        line(format!(
            "? {} objects refused   zonal status --problems",
            status.problems.len()
        ));
    }
    text
}

/// A source among several: how it stands, and what of it is held back.
fn source_line(source: &SourceReport) -> String {
    let age = source.age_seconds.map_or("never heard".to_owned(), |age| {
        format!("heard {} ago", seconds(age))
    });
    let state = if source.live { "LIVE" } else { "AWAY" };
    let held_back = match source.held_back {
        0 => String::new(),
        services => format!(" · {services} services held back"),
    };
    format!("SOURCE {:<8} {state} {age}{held_back}", source.source)
}

/// How old what is served from disk is: when it was written, and how old it was then.
fn from_disk(status: &Status) -> String {
    let Some(saved) = status.saved_seconds else {
        return String::new();
    };
    let before = status.age_seconds.map_or(0.0, |age| age - saved);
    let before = if before < 1.0 {
        String::new()
    } else {
        format!(", {} old then", seconds(before))
    };
    format!(" · from disk, saved {} ago{before}", seconds(saved))
}

fn freshness(freshness: Freshness) -> String {
    freshness.to_string()
}

/// Seconds as a person says them: 3s, 12m, 5h, 3d.
fn seconds(seconds: f64) -> String {
    for (unit, length) in [("d", 86_400.0), ("h", 3_600.0), ("m", 60.0)] {
        if seconds >= 2.0 * length {
            return format!("{:.0}{unit}", (seconds / length).floor());
        }
    }
    format!("{seconds:.0}s")
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal status`: one screen, exit 1 when anything is red.

use crate::{
    admin_client::ask,
    cli::{Output, StatusArgs},
    failure::Failure,
};
use discovery_core::runtime::{Freshness, SourceReport, Status};
use hyper::Method;
use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode};

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
    if status.sources.is_empty() {
        line(format!("SOURCE {:<8} {age}", status.source));
    }
    for source in &status.sources {
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

/// A source among several: how it stands, and what of it is overruled.
fn source_line(source: &SourceReport) -> String {
    let age = source.age_seconds.map_or("never heard".to_owned(), |age| {
        format!("heard {} ago", seconds(age))
    });
    let state = if source.live { "LIVE" } else { "AWAY" };
    let overruled = match source.overruled {
        0 => String::new(),
        services => format!(" · {services} services overruled"),
    };
    let relists = relists(source);
    format!(
        "SOURCE {:<8} {state} {age}{relists}{overruled}",
        source.source
    )
}

/// How many lists were read again and why: `  relists 3 (expired×2, undecodable×1)`.
fn relists(source: &SourceReport) -> String {
    let mut reasons = BTreeMap::<&str, u64>::new();
    for (reason, count) in source.kinds.iter().flat_map(|kind| &kind.relists) {
        *reasons.entry(reason).or_default() += count;
    }
    if reasons.is_empty() {
        return String::new();
    }
    let all: u64 = reasons.values().sum();
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, count)| format!("{reason}×{count}"))
        .collect();
    format!("  relists {all} ({})", reasons.join(", "))
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

#[cfg(test)]
mod tests {
    use super::*;
    use discovery_core::runtime::KindReport;

    #[test]
    fn a_source_tells_its_state_its_age_and_why_lists_were_read_again() {
        let kind = |relists: &[(&str, u64)]| KindReport {
            relists: relists
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
            ..KindReport::default()
        };
        let mut source: SourceReport = serde_json::from_value(serde_json::json!({
            "source": "kube", "connected": true, "live": true, "age_seconds": 2.0, "overruled": 0,
        }))
        .unwrap();
        assert_eq!(source_line(&source), "SOURCE kube     LIVE heard 2s ago");
        source.kinds = vec![
            kind(&[("expired", 1)]),
            kind(&[("expired", 1), ("undecodable", 1)]),
        ];
        assert_eq!(
            source_line(&source),
            "SOURCE kube     LIVE heard 2s ago  relists 3 (expired×2, undecodable×1)"
        );
    }
}

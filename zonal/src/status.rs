// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal status`: one screen, exit 1 when anything is red.

use crate::{
    admin_client::ask,
    cli::{Output, StatusArgs},
    failure::Failure,
};
use discovery_core::{
    model::Reason,
    runtime::{Freshness, ServiceReport, SourceReport, Status},
};
use hyper::Method;
use std::{collections::BTreeMap, process::ExitCode};

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
    !status.readiness.ready || !status.held.is_empty() || status.services.iter().any(is_refusing)
}

fn table(status: &Status, problems: bool) -> String {
    let mut lines = vec![head(status)];
    lines.extend(sources(status));
    lines.push(view(status));
    lines.extend(
        status
            .faces
            .iter()
            .map(|(name, face)| format!("{:<6} {face}", name.to_uppercase())),
    );
    lines.extend(
        status
            .readiness
            .missing
            .iter()
            .map(|missing| format!("! not ready: {missing}")),
    );
    lines.extend(status.sources.iter().filter_map(dropped));
    lines.extend(
        status
            .held
            .iter()
            .map(|held| format!("! held: {held}   zonal accept --dry-run")),
    );
    let to_tell = status.services.iter().filter(|service| has_news(service));
    lines.extend(to_tell.map(service_line));
    lines.extend(refused(status, problems));
    // What others named may carry control characters; none reaches the terminal.
    let clean = |line: &String| line.replace(char::is_control, " ");
    lines.iter().map(|line| clean(line) + "\n").collect()
}

fn head(status: &Status) -> String {
    let zone = status.zone.as_deref().unwrap_or("unknown");
    let up = seconds(status.uptime_seconds);
    format!(
        "zonal {}  node {}  zone {zone}  up {up}",
        status.version, status.node
    )
}

/// A line for each source; one for all from an agent of an older version.
fn sources(status: &Status) -> Vec<String> {
    if status.sources.is_empty() {
        let (source, state) = (&status.source, status.freshness.to_string());
        return vec![format!(
            "SOURCE {source:<8} {state:<8} {}",
            heard(status.age_seconds)
        )];
    }
    status.sources.iter().map(source_line).collect()
}

/// A source among several: how it stands, and what of it is overruled.
fn source_line(source: &SourceReport) -> String {
    let state = match (source.live, source.age_seconds) {
        (true, _) => Freshness::Live,
        (false, Some(_)) => Freshness::Stale,
        (false, None) => Freshness::Empty,
    };
    let overruled = match source.overruled {
        0 => String::new(),
        services => format!(" · {services} services overruled"),
    };
    let (name, state, heard) = (&source.source, state.to_string(), heard(source.age_seconds));
    format!(
        "SOURCE {name:<8} {state:<8} {heard}{}{overruled}",
        relists(source)
    )
}

/// What was on disk of a source and is not served.
fn dropped(source: &SourceReport) -> Option<String> {
    let (name, why) = (&source.source, source.snapshot_dropped.as_ref()?);
    Some(format!(
        "? the snapshot on disk was dropped: what {name} said there is of {}",
        why.replace('-', " ")
    ))
}

fn heard(age_seconds: Option<f64>) -> String {
    age_seconds.map_or("never heard".to_owned(), |age| {
        format!("heard {} ago", seconds(age))
    })
}

fn view(status: &Status) -> String {
    let usable: usize = status.services.iter().map(|service| service.usable).sum();
    let out = |service: &ServiceReport| service.out.get(Reason::OtherZone.as_str()).copied();
    let hidden = match status.services.iter().filter_map(out).sum::<usize>() {
        0 => String::new(),
        endpoints => format!(" · {endpoints} of other zones hidden"),
    };
    format!(
        "VIEW            {:<8} generation {} · {} services · {usable} usable endpoints{hidden}{}",
        status.freshness.to_string(),
        status.generation,
        status.services.len(),
        from_disk(status),
    )
}

/// Whether not all of its endpoints are picked as they would be on a good day.
fn has_news(service: &ServiceReport) -> bool {
    !service.out.is_empty() || !picks(service).is_empty()
}

/// A service with endpoints that are out, and why they are; the next step where something of ours is.
fn service_line(service: &ServiceReport) -> String {
    let out = service.out.iter();
    let out: Vec<_> = out
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    let out = match out.join(", ") {
        none if none.is_empty() => none,
        out => format!("   out: {out}"),
    };
    let is_red = is_refusing(service);
    let (name, usable, local) = (&service.name, service.usable, service.local);
    let line = format!(
        "{} {name:<24} {usable}/{local} usable{out}{}",
        if is_red { "!" } else { " " },
        picks(service)
    );
    if is_red {
        let policy = &service.policy;
        format!("{line}   policy={policy}, refusing   zonal explain {name}")
    } else if usable < local || service.ejected > 0 {
        format!("{line}   zonal explain {name}")
    } else {
        line
    }
}

/// What this process does otherwise than the list of endpoints says.
fn picks(service: &ServiceReport) -> String {
    let mut told = String::new();
    if service.ejected > 0 {
        told = format!("   ejected: {}", service.ejected);
    }
    if service.spilled_share > 0.0 {
        told = format!(
            "{told}   spills {:.0}% of keys",
            service.spilled_share * 100.0
        );
    }
    if service.panic_picks > 0 {
        told = format!("{told}   panic picks: {}", service.panic_picks);
    }
    told
}

/// Whether a service has endpoints and none to pick.
fn is_refusing(service: &ServiceReport) -> bool {
    service.listed > 0 && service.usable == 0
}

/// Objects that were refused: each with its place and reason, or how many there are.
fn refused(status: &Status, problems: bool) -> Vec<String> {
    match (status.problems.len(), problems) {
        (0, false) => Vec::new(),
        (0, true) => vec!["no object was refused".to_owned()],
        (count, false) => vec![format!(
            "? {count} objects refused   zonal status --problems"
        )],
        (_, true) => {
            let line =
                |[object, place, reason]: &[String; 3]| format!("? {object}  {place}: {reason}");
            status.problems.iter().map(line).collect()
        }
    }
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
    use crate::golden;
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
        assert_eq!(
            source_line(&source),
            "SOURCE kube     LIVE     heard 2s ago"
        );
        source.kinds = vec![
            kind(&[("expired", 1)]),
            kind(&[("expired", 1), ("undecodable", 1)]),
        ];
        assert_eq!(
            source_line(&source),
            "SOURCE kube     LIVE     heard 2s ago  relists 3 (expired×2, undecodable×1)"
        );
    }

    /// A status with one of everything.
    fn status() -> Status {
        let source = |source: &str, live: bool, age: Option<f64>| {
            serde_json::json!({
                "source": source, "connected": live, "live": live, "age_seconds": age, "overruled": 1,
                "snapshot_dropped": (source == "kube").then_some("another-cluster"), "observed_seconds": 4000.0, "kinds": [{ "kind": "slices", "state": "live", "relists": { "expired": 2 } }],
            })
        };
        let service = |name: &str, usable: usize, local: usize, out: serde_json::Value| {
            serde_json::json!({
                "name": name, "policy": "strict", "usable": usable, "local": local, "listed": 9, "out": out,
            })
        };
        serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "node": "edge-a", "zone": "mall-1", "zone_status": "zone mall-1", "zone_state": "known",
            "freshness": "STALE", "age_seconds": 130.0, "source": "kube+consul", "uptime_seconds": 260_000.0,
            "generation": 812, "readiness": { "ready": true, "missing": [] }, "keeps_snapshot": true,
            "sources": [source("kube", true, Some(2.0)), source("static", false, Some(130.0)), source("consul", false, None)],
            "services": [
                service("shop/cache", 0, 2, serde_json::json!({ "not-ready": 2, "other-zone": 7 })),
                service("shop/pay", 3, 3, serde_json::json!({ "other-zone": 6 })),
                service("shop/quiet", 2, 2, serde_json::json!({})),
                {
                    "name": "shop/till", "policy": "prefer", "usable": 3, "local": 3, "listed": 9, "out": {},
                    "ejected": 1, "panic_picks": 4, "spilled_share": 0.285,
                },
                service("shop/web", 2, 3, serde_json::json!({ "not-ready": 1, "other-zone": 6 })),
            ],
            "held": ["kube says that all 5 slices are gone; they are kept"],
            "problems": [
                ["EndpointSlice shop/web-1", "endpoints[2].addresses[0]", "\u{1b}[31m is no address"],
                ["Service shop/pay", "metadata.annotations[zonal.dev/zone-policy]", "\"near\" is no zone policy"],
            ],
            "faces": { "dns": { "questions": 812 } },
        }))
        .unwrap()
    }

    #[test]
    fn b9_a_status_is_the_golden_one_with_and_without_its_problems() {
        let status = status();
        assert!(is_red(&status));
        golden::is("status.txt", &table(&status, false));
        golden::is("status-problems.txt", &table(&status, true));
        golden::is(
            "status.json",
            &serde_json::to_string_pretty(&status).unwrap(),
        );
    }
}

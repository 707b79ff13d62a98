// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal explain`: each endpoint of a service IN or OUT with its reason, then the pick; or an error code in words.

use crate::{
    admin_client::{ask, encode},
    cli::{ExplainArgs, Output},
    failure::{Code, Failure},
};
use discovery_core::{
    model::ServiceName,
    runtime::{ExplainedStep, Explanation},
};
use hyper::Method;
use std::{fmt::Write as _, process::ExitCode};

pub(crate) async fn run(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    if args.subject.starts_with("ZNL") {
        return explain_code(&args.subject);
    }
    let service: ServiceName = args
        .subject
        .parse()
        .map_err(|error| Failure::caused(Code::NameInvalid, &error))?;
    let mut path = format!("/api/v1/explain?service={}", encode(&service.to_string()));
    if let Some(key) = &args.key {
        path = format!("{path}&key={}", encode(key));
    }
    let answer = ask(args.ask.admin, Method::GET, &path).await?;
    let explanation: Explanation = answer.json()?;
    match args.ask.output {
        Output::Json => println!("{}", String::from_utf8_lossy(&answer.body)),
        Output::Table => print!("{}", table(&explanation, args.key.as_deref())),
    }
    Ok(ExitCode::SUCCESS)
}

fn explain_code(id: &str) -> Result<ExitCode, Failure> {
    if let Some(code) = Code::ALL.into_iter().find(|code| code.id() == id) {
        println!("{id}\n{}", code.meaning());
        return Ok(ExitCode::SUCCESS);
    }
    let known: Vec<_> = Code::ALL.iter().map(|code| code.id()).collect();
    Err(
        Failure::new(Code::NameInvalid, format!("there is no error code {id}"))
            .help(format!("the codes are {}", known.join(", "))),
    )
}

fn table(explanation: &Explanation, key: Option<&str>) -> String {
    let zone = explanation.zone.as_deref().unwrap_or("unknown");
    let mut text = format!(
        "{}   policy {}   zone {zone}\n",
        explanation.service, explanation.policy
    );
    if let Some(scope) = &explanation.scope {
        let _ = writeln!(text, "near is what shares {scope} with our node");
    }
    if explanation.endpoints.is_empty() {
        text.push_str("no endpoints are listed\n");
    }
    for endpoint in &explanation.endpoints {
        let verdict = if endpoint.usable { "IN " } else { "OUT" };
        let zone = endpoint.zone.as_deref().unwrap_or("-");
        let share = if endpoint.share > 0.0 {
            format!("{:.1}%", endpoint.share * 100.0)
        } else {
            "-".into()
        };
        let reason = match &endpoint.left_out {
            Some(why) => format!("{}, {why}", endpoint.reason),
            None => endpoint.reason.clone(),
        };
        let _ = writeln!(
            text,
            "{verdict}  {:<20} {:<22} {zone:<12} {share:>6}  {reason}",
            endpoint.identity, endpoint.address
        );
    }
    for (reason, count) in &explanation.more {
        let _ = writeln!(text, "OUT  +{} more  {reason}", grouped(*count));
    }
    if explanation.is_degraded {
        text.push_str("nodes may not be read: zones are those that slices state\n");
    }
    if let (Some(key), Some(order)) = (key, &explanation.order) {
        text.push_str(&walk(explanation, key, order));
    }
    // What others named may carry control characters; none reaches the terminal.
    text.replace(|c: char| c.is_control() && c != '\n', " ")
}

/// Where a key goes, and step by step why, where somebody is passed over.
fn walk(explanation: &Explanation, key: &str, order: &[String]) -> String {
    let mut text = match order.split_first() {
        Some((owner, [])) => format!("key {key} goes to {owner}\n"),
        Some((owner, next)) => format!("key {key} goes to {owner}, then {}\n", next.join(", ")),
        None => format!("key {key} goes to nobody\n"),
    };
    let steps = &explanation.walk;
    if steps.iter().all(|step| step.passed_over.is_none()) {
        return text;
    }
    let takes = |step: &ExplainedStep| order.first() == Some(&step.identity);
    for (place, step) in (1..).zip(steps) {
        let verdict = match &step.passed_over {
            Some(reason) => format!("passed over: {reason}"),
            None if takes(step) => "takes it".to_owned(),
            None => "next".to_owned(),
        };
        let _ = writeln!(text, "{place:>4}. {:<20} {verdict}", step.identity);
    }
    if explanation.walk_more > 0 {
        let _ = writeln!(text, "      +{} more", grouped(explanation.walk_more));
    }
    text.push_str(match explanation.forgiven.as_deref() {
        Some("ramping") => "! all that are left are new: their slow start is ignored\n",
        Some(_) => "! nobody else is left: ejections and failed checks are ignored\n",
        None => "",
    });
    text
}

/// A count as people read it: 4,930.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use serde_json::json;

    #[test]
    fn counts_are_read_in_threes() {
        let texts = [0, 12, 123, 1_234, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "12", "123", "1,234", "12,345", "1,234,567"]);
    }

    /// A service with something of everything; the walk is of one key.
    fn explanation(order: &[&str], walk: &[(&str, Option<&str>)]) -> Explanation {
        let endpoint = |name: &str, usable: bool, reason: &str, share: f64| {
            json!({
                "identity": name, "address": format!("10.1.0.{}:8080", name.len()), "node": "edge-a", "zone": "mall-1",
                "usable": usable, "reason": reason, "share": share, "in_flight": 2,
                "left_out": (name == "web-10").then_some("ejected"),
            })
        };
        let walk: Vec<_> = walk
            .iter()
            .map(|(name, why)| json!({ "identity": name, "tier": 1, "passed_over": why }))
            .collect();
        serde_json::from_value(json!({
            "service": "shop/web", "policy": "prefer", "zone": "mall-1", "generation": 812,
            "endpoints": [
                endpoint("web-0", true, "own-zone", 0.34), endpoint("web-10", true, "own-zone", 0.33),
                endpoint("web-200", false, "not-ready", 0.33),
            ],
            "more": { "other-zone": 4_930 }, "scope": "site", "is_degraded": true,
            "order": order, "walk": walk, "walk_more": 1_200,
        }))
        .unwrap()
    }

    #[test]
    fn b9_the_table_and_the_json_of_an_explained_key_are_golden() {
        let steps = [
            ("web-200", Some("not-ready")),
            ("web-10", Some("ejected")),
            ("web-0", None),
            ("web-3", Some("over-bound")),
            ("web-4", None),
        ];
        let mut explained = explanation(&["web-0", "web-3", "web-4"], &steps);
        golden::is("explain-key.txt", &table(&explained, Some("ann")));
        let text = serde_json::to_string_pretty(&explained).unwrap();
        golden::is("explain-key.json", &(text + "\n"));
        explained.forgiven = Some("all".into());
        let text = table(&explained, Some("ann"));
        assert!(text.ends_with("failed checks are ignored\n"), "{text}");
    }

    #[test]
    fn a_walk_that_passes_nobody_over_is_one_line() {
        let steps = [("web-0", None), ("web-10", None)];
        let text = table(&explanation(&["web-0", "web-10"], &steps), Some("ann"));
        assert!(
            text.ends_with("\nkey ann goes to web-0, then web-10\n"),
            "{text}"
        );
        let nobody = table(
            &explanation(&[], &[("web-200", Some("not-ready"))]),
            Some("ann"),
        );
        assert!(
            nobody.contains("key ann goes to nobody\n   1. web-200 "),
            "{nobody}"
        );
    }
}

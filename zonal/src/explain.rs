// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal explain`: each endpoint of a service IN or OUT with its reason, then the pick; or an error code in words.

use crate::{
    admin_client::{ask, encode},
    cli::{ExplainArgs, Output},
    failure::{Code, Failure},
};
use discovery_core::{model::ServiceName, runtime::Explanation};
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
        let _ = writeln!(
            text,
            "{verdict}  {:<20} {:<22} {zone:<12} {share:>6}  {}",
            endpoint.identity, endpoint.address, endpoint.reason
        );
    }
    for (reason, count) in &explanation.more {
        let _ = writeln!(text, "OUT  +{} more  {reason}", grouped(*count));
    }
    if explanation.is_degraded {
        text.push_str("nodes may not be read: zones are those that slices state\n");
    }
    if let (Some(key), Some(order)) = (key, &explanation.order) {
        let _ = match order.split_first() {
            Some((owner, [])) => writeln!(text, "key {key} goes to {owner}"),
            Some((owner, next)) => {
                writeln!(text, "key {key} goes to {owner}, then {}", next.join(", "))
            }
            None => writeln!(text, "key {key} goes to nobody"),
        };
    }
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

    #[test]
    fn counts_are_read_in_threes() {
        let texts = [0, 12, 123, 1_234, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "12", "123", "1,234", "12,345", "1,234,567"]);
    }

    #[test]
    fn what_is_counted_only_is_told_as_more() {
        let explanation = Explanation {
            service: "shop/web".into(),
            policy: "strict".into(),
            zone: Some("mall-1".into()),
            generation: 1,
            endpoints: vec![],
            more: [("other-zone".to_owned(), 4_930)].into(),
            scope: Some("site".into()),
            is_degraded: false,
            order: None,
        };
        let text = table(&explanation, None);
        assert!(
            text.contains("near is what shares site with our node\n"),
            "{text}"
        );
        assert!(text.ends_with("OUT  +4,930 more  other-zone\n"), "{text}");
    }
}

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

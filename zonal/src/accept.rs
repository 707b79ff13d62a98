// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal accept`: a person says that what the agent holds back is right, a mass change or another cluster.

use crate::{
    admin_client::ask,
    cli::{AcceptArgs, Output},
    failure::{Code, Failure},
};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use std::process::ExitCode;

#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "accepted")]
    held: Vec<String>,
}

pub(crate) async fn run(args: &AcceptArgs) -> Result<ExitCode, Failure> {
    let (method, word) = if args.dry_run {
        (Method::GET, "held")
    } else {
        (Method::POST, "accepted")
    };
    let answer = ask(args.ask.admin, method, "/api/v1/accept").await?;
    if answer.status == StatusCode::METHOD_NOT_ALLOWED {
        let what = "this agent only lets itself be read";
        return Err(Failure::new(Code::AgentRefused, what).help(
            "start it with --admin-write, or wait: the hold of a mass change ends by itself",
        ));
    }
    let body = answer.body.clone();
    let answer: Answer = answer.json()?;
    if args.ask.output == Output::Json {
        println!("{}", String::from_utf8_lossy(&body));
        return Ok(ExitCode::SUCCESS);
    }
    for held in &answer.held {
        println!("{word}: {held}");
    }
    if answer.held.is_empty() {
        println!("nothing is held back");
    }
    Ok(ExitCode::SUCCESS)
}

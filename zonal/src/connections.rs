// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal connections`: which connections and UDP sessions the proxy of an agent carries now.
//!
//! In: the proxy's table; a question: which, in what order, how many. Out: lines for people or JSON. The agent sorts and cuts,
//! so that a host with a hundred thousand connections does not send them all.

use crate::{
    admin_client::{ask, encode},
    cli::{ConnectionsArgs, Output, SortBy},
    failure::Failure,
};
use clap::ValueEnum as _;
use discovery_core::{
    model::ServiceName,
    runtime::http::{RouteRequest, RouteResponse, Routes, json},
};
use hyper::{Method, StatusCode};
use lb_proxy::{ConnectionStatus, SessionStatus, StatusHandle};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Reverse,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    process::ExitCode,
};

/// What the agent answers.
#[derive(Debug, Deserialize, Serialize)]
struct Report {
    /// How many there are that were asked for; as many as are listed, or more.
    total: usize,
    connections: Vec<Line>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Line {
    service: String,
    /// `TCP` or `UDP`; an agent of an older version lists connections alone.
    #[serde(default = "tcp")]
    protocol: String,
    port: u16,
    client: SocketAddr,
    endpoint: String,
    address: SocketAddr,
    is_local: bool,
    age_seconds: f64,
    up_bytes: u64,
    down_bytes: u64,
    state: String,
}

/// Which connections, in what order, how many.
#[derive(Debug)]
struct Question {
    service: Option<String>,
    client: Option<IpAddr>,
    sort: SortBy,
    limit: usize,
}

pub(crate) async fn run(args: &ConnectionsArgs) -> Result<ExitCode, Failure> {
    let mut path = format!("{PATH}?sort={}&limit={}", word(args.sort), args.limit);
    if let Some(service) = &args.service {
        let _ = write!(path, "&service={}", encode(service));
    }
    if let Some(client) = args.client {
        let _ = write!(path, "&client={}", encode(&client.to_string()));
    }
    let answer = ask(args.ask.admin, Method::GET, &path).await?;
    let report: Report = answer.json()?;
    match args.ask.output {
        Output::Json => println!("{}", String::from_utf8_lossy(&answer.body)),
        Output::Table => print!("{}", table(&report)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds the page that the command asks.
pub(crate) fn route(routes: Routes, proxies: Vec<StatusHandle>) -> Routes {
    routes.route(Method::GET, PATH, move |request| {
        let connections = proxies.iter().flat_map(StatusHandle::connections).map(line);
        let sessions = proxies.iter().flat_map(StatusHandle::sessions).map(session);
        answer(request, connections.chain(sessions).collect())
    })
}

fn answer(request: &RouteRequest, all: Vec<Line>) -> RouteResponse {
    match Question::read(|name| request.query(name)) {
        Ok(question) => json(StatusCode::OK, &question.answer(all)),
        Err(error) => json(
            StatusCode::BAD_REQUEST,
            &serde_json::json!({ "error": error }),
        ),
    }
}

impl Question {
    fn read<'q>(query: impl Fn(&str) -> Option<&'q str>) -> Result<Self, String> {
        let service = query("service").map(|name| {
            let parsed = name
                .parse::<ServiceName>()
                .map_err(|error| error.to_string());
            parsed.map(|name| name.to_string())
        });
        let client =
            query("client").map(|text| text.parse().map_err(|_| format!("{text:?} is no address")));
        let sort = query("sort")
            .map(|word| SortBy::from_str(word, false).map_err(|_| format!("{word:?} is no order")));
        let limit =
            query("limit").map(|text| text.parse().map_err(|_| format!("{text:?} is no number")));
        Ok(Self {
            service: service.transpose()?,
            client: client.transpose()?,
            sort: sort.transpose()?.unwrap_or(SortBy::Age),
            limit: limit.transpose()?.unwrap_or(LIMIT).min(LIMIT_MAX),
        })
    }

    fn answer(&self, mut all: Vec<Line>) -> Report {
        all.retain(|line| {
            self.service
                .as_ref()
                .is_none_or(|service| *service == line.service)
                && self.client.is_none_or(|client| client == line.client.ip())
        });
        match self.sort {
            SortBy::Age => all.sort_by(|a, b| b.age_seconds.total_cmp(&a.age_seconds)),
            SortBy::Bytes => all.sort_by_key(|line| Reverse(line.up_bytes + line.down_bytes)),
            SortBy::Client => all.sort_by_key(|line| line.client),
            SortBy::Service => all.sort_by(|a, b| (&a.service, a.port).cmp(&(&b.service, b.port))),
            SortBy::Endpoint => all.sort_by(|a, b| a.endpoint.cmp(&b.endpoint)),
        }
        let total = all.len();
        all.truncate(self.limit);
        Report {
            total,
            connections: all,
        }
    }
}

fn line((service, port, status): (ServiceName, NonZeroU16, ConnectionStatus)) -> Line {
    Line {
        service: service.to_string(),
        protocol: tcp(),
        port: port.get(),
        client: status.client,
        endpoint: status.endpoint,
        address: status.address,
        is_local: status.is_local,
        age_seconds: status.age.as_secs_f64(),
        up_bytes: status.up,
        down_bytes: status.down,
        state: status.state.to_string(),
    }
}

fn session((service, port, status): (ServiceName, NonZeroU16, SessionStatus)) -> Line {
    let state = if status.is_answered {
        "answered"
    } else {
        "unanswered"
    };
    Line {
        service: service.to_string(),
        protocol: "UDP".to_owned(),
        port: port.get(),
        client: status.client,
        endpoint: status.endpoint,
        address: status.address,
        is_local: status.is_local,
        age_seconds: status.age.as_secs_f64(),
        up_bytes: status.up,
        down_bytes: status.down,
        state: state.to_owned(),
    }
}

fn tcp() -> String {
    "TCP".to_owned()
}

fn table(report: &Report) -> String {
    let mut rows = vec![
        [
            "SERVICE", "PORT", "CLIENT", "ENDPOINT", "AGE", "UP", "DOWN", "STATE",
        ]
        .map(str::to_owned),
    ];
    rows.extend(report.connections.iter().map(|line| {
        [
            line.service.clone(),
            format!("{}/{}", line.port, line.protocol),
            line.client.to_string(),
            format!("{} ({})", line.endpoint, line.address),
            age(line.age_seconds),
            bytes(line.up_bytes),
            bytes(line.down_bytes),
            line.state.clone(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    let shown = report.connections.len();
    if shown < report.total {
        let _ = writeln!(
            text,
            "{shown} of {} connections; more with --limit",
            report.total
        );
    } else {
        let _ = writeln!(text, "{shown} connections");
    }
    // What others named may carry control characters; none reaches the terminal.
    text.replace(|c: char| c.is_control() && c != '\n', " ")
}

fn age(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3_600.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "one digit after the point is shown"
)]
fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

fn word(sort: SortBy) -> String {
    sort.to_possible_value()
        .map(|word| word.get_name().to_owned())
        .unwrap_or_default()
}

const PATH: &str = "/api/v1/connections";

/// A screen.
pub(crate) const LIMIT: usize = 20;

/// Two megabytes of JSON.
const LIMIT_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Line> {
        let line = |service: &str, client: &str, age_seconds, up_bytes| Line {
            service: service.to_owned(),
            protocol: tcp(),
            port: 30_080,
            client: client.parse().unwrap(),
            endpoint: "web-0".to_owned(),
            address: "10.1.0.3:80".parse().unwrap(),
            is_local: true,
            age_seconds,
            up_bytes,
            down_bytes: 2_500_000,
            state: "open".to_owned(),
        };
        vec![
            line("shop/web", "192.0.2.7:4000", 3.0, 10),
            line("shop/cart", "192.0.2.8:4000", 7_200.0, 30),
            line("shop/web", "192.0.2.9:4000", 90.0, 20),
        ]
    }

    fn ask(question: &[(&str, &'static str)]) -> Result<Report, String> {
        let find = |name: &str| {
            question
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        Ok(Question::read(find)?.answer(lines()))
    }

    #[test]
    fn they_are_filtered_sorted_and_cut() {
        let clients = |question: &[(&str, &'static str)]| -> Vec<String> {
            let report = ask(question).unwrap();
            report
                .connections
                .iter()
                .map(|line| line.client.ip().to_string())
                .collect()
        };
        assert_eq!(
            clients(&[]),
            ["192.0.2.8", "192.0.2.9", "192.0.2.7"],
            "the oldest first"
        );
        assert_eq!(
            clients(&[("sort", "bytes"), ("service", "shop/web")]),
            ["192.0.2.9", "192.0.2.7"]
        );
        assert_eq!(clients(&[("client", "192.0.2.7")]), ["192.0.2.7"]);
        let cut = ask(&[("limit", "1")]).unwrap();
        assert_eq!((cut.total, cut.connections.len()), (3, 1));
        for wrong in [
            ("sort", "luck"),
            ("limit", "all"),
            ("client", "me"),
            ("service", "a/b/c"),
        ] {
            assert!(ask(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_table_says_how_many_there_are() {
        let text = table(&ask(&[("limit", "2")]).unwrap());
        println!("{text}");
        let rows: Vec<_> = text.lines().collect();
        assert!(rows[0].starts_with("SERVICE    PORT       CLIENT"));
        assert!(rows[1].contains("web-0 (10.1.0.3:80)  2.0 h    30 B  2.5 MB  open"));
        assert_eq!(rows[3], "2 of 3 connections; more with --limit");
    }
}

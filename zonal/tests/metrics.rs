// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an agent exposes: names and labels by the conventions, and each of them in `docs/metrics.md`.

mod agent;

use agent::Agent;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

#[test]
fn every_metric_follows_the_conventions_and_stands_in_the_documented_table() {
    let exposed = families(&Agent::start(MALL).metrics());
    let documented = documented();
    assert!(exposed.len() > 20, "{exposed:?}");
    let mut wrong = Vec::new();
    for (name, family) in &exposed {
        wrong.extend(flaws(name, family));
        match documented.get(name) {
            None => wrong.push(format!("{name}: add a row to zonal/docs/metrics.md")),
            Some(row) if row.kind != family.kind => {
                wrong.push(format!("{name} is a {}", family.kind));
            }
            Some(row) => {
                let more = family.labels.difference(&row.labels);
                wrong.extend(more.map(|label| format!("{name}: label {label} is not documented")));
            }
        }
    }
    let gone = documented
        .keys()
        .filter(|name| !exposed.contains_key(*name));
    wrong.extend(gone.map(|name| format!("{name} is documented, and nothing exposes it")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ejections_panic_picks_and_the_spilled_share_are_told_from_zero_on() {
    let metrics = Agent::start(MALL).metrics();
    for series in [
        "zonal_lb_ejections_total{service=\"shop/web\",reason=\"errors-in-row\"} 0",
        "zonal_lb_ejections_total{service=\"shop/web\",reason=\"error-share\"} 0",
        "zonal_lb_panic_picks_total{service=\"shop/web\"} 0",
        "zonal_lb_spilled_share_ratio{service=\"shop/web\"} 0.0",
        "zonal_view_endpoints{zone=\"local\",state=\"ejected\"} 0",
    ] {
        let is_told = metrics.lines().any(|line| line == series);
        assert!(is_told, "{series} in\n{metrics}");
    }
}

#[test]
fn the_lint_sees_what_it_should() {
    let family = |kind: &str, labels: &[&str]| Family {
        kind: kind.to_owned(),
        help: "Something".to_owned(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        series: 1,
    };
    for (name, kind, labels, flaw) in [
        ("dns_requests_total", "counter", &[][..], "begins"),
        ("zonal_dns_requests", "counter", &[], "_total"),
        ("zonal_view_total", "gauge", &[], "_total"),
        ("zonal_dns_wait", "histogram", &[], "histogram"),
        ("zonal_dns_wait_ms", "gauge", &[], "unit"),
        ("zonal_source_age", "gauge", &[], "_seconds"),
        ("zonal_cacheBytes_bytes", "gauge", &[], "lower case"),
        ("zonal_dns_requests_total", "counter", &["name"], "label"),
    ] {
        let flaws = flaws(name, &family(kind, labels));
        assert!(
            flaws.iter().any(|text| text.contains(flaw)),
            "{name}: {flaws:?}"
        );
    }
    assert!(flaws("zonal_dns_wait_seconds", &family("histogram", &["reason"])).is_empty());
}

/// What the exposition says of one metric, under the name that its samples have.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    series: usize,
}

/// What is wrong with a metric by the conventions.
fn flaws(name: &str, family: &Family) -> Vec<String> {
    let is_counter = family.kind == "counter";
    let ends_in_any = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let words: Vec<_> = name.split('_').collect();
    let has_any = |of: &[&str]| words.iter().any(|word| of.contains(word));
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut flaws = Vec::new();
    let mut flaw_if = |is_wrong: bool, text: &str| {
        if is_wrong {
            flaws.push(format!("{name}: {text}"));
        }
    };
    flaw_if(!name.starts_with("zonal_"), "the name begins with zonal_");
    flaw_if(!name.chars().all(is_plain), "the name is in lower case");
    flaw_if(
        is_counter != name.ends_with("_total"),
        "a counter, and nothing else, ends in _total",
    );
    let is_measured = ends_in_any(&["_seconds", "_bytes"]);
    flaw_if(
        family.kind == "histogram" && !is_measured,
        "a histogram ends in its unit",
    );
    flaw_if(has_any(&OTHER_UNITS), "the unit is seconds or bytes");
    flaw_if(
        has_any(&TIMES) && !has_any(&["seconds"]),
        "a time ends in _seconds",
    );
    flaw_if(family.help.trim().is_empty(), "it has a HELP text");
    flaw_if(
        family.series > SERIES_MAX,
        "a small agent has few series of it",
    );
    for label in family
        .labels
        .iter()
        .filter(|label| !LABELS.contains(&label.as_str()))
    {
        flaw_if(true, &format!("label {label} is of no closed set"));
    }
    flaws
}

fn families(exposition: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let (mut help, mut name) = (String::new(), String::new());
    for line in exposition.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest
                .split_once(' ')
                .map(|(_, help)| help.to_owned())
                .unwrap_or_default();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = rest.split_once(' ').unwrap();
            // OpenMetrics: the samples of a counter carry the suffix, its family does not.
            let suffix = if kind == "counter" { "_total" } else { "" };
            name = format!("{family}{suffix}");
            let family = families.entry(name.clone()).or_default();
            (family.kind, family.help) = (kind.to_owned(), std::mem::take(&mut help));
        } else if !line.starts_with('#') {
            let family = families.get_mut(&name).expect("a sample follows its type");
            family.series += 1;
            family.labels.extend(labels(line));
        }
    }
    families
}

/// The names of a sample's labels; `le` is the histogram's own.
fn labels(sample: &str) -> Vec<String> {
    let Some((_, rest)) = sample.split_once('{') else {
        return Vec::new();
    };
    let pairs = rest.split("\",").filter_map(|pair| pair.split_once("=\""));
    let names = pairs.map(|(name, _)| name.to_owned());
    names.filter(|name| name != "le").collect()
}

fn documented() -> BTreeMap<String, Family> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else {
            panic!("{row} has four cells");
        };
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let family = Family {
            kind: kind.to_owned(),
            help: meaning.to_owned(),
            labels: labels.map(str::to_owned).collect(),
            series: 0,
        };
        (name.trim_matches('`').to_owned(), family)
    })
    .collect()
}

/// Names of labels whose values are a closed set, or services and ports of the view.
const LABELS: [&str; 16] = [
    "direction",
    "endpoint",
    "family",
    "kind",
    "layer",
    "outcome",
    "port",
    "qtype",
    "rcode",
    "reason",
    "service",
    "source",
    "state",
    "transport",
    "version",
    "zone",
];
const OTHER_UNITS: [&str; 9] = [
    "ms",
    "us",
    "ns",
    "millis",
    "milliseconds",
    "minutes",
    "kb",
    "mb",
    "percent",
];
const TIMES: [&str; 4] = ["age", "duration", "timestamp", "latency"];
const SERIES_MAX: usize = 200;
const MALL: &str = "
apiVersion: v1
kind: Node
metadata: {name: edge-a, labels: {topology.kubernetes.io/zone: mall-1}}
---
apiVersion: v1
kind: Service
metadata:
  {name: web, namespace: shop, annotations: {zonal.dev/host-port: 'PORT'},
   labels: {service.kubernetes.io/service-proxy-name: zonal}}
spec: {ports: [{name: http, port: 80, protocol: TCP}, {name: dns, port: 53, protocol: UDP, nodePort: PORT}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 9}, {name: dns, port: 9, protocol: UDP}]
endpoints: [{addresses: [127.0.0.1], nodeName: edge-a, conditions: {ready: true}}]
";

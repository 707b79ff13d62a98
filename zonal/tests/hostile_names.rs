// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names as nobody should choose them: no byte of them that a terminal, an exposition or a page would obey reaches a sink.

mod agent;

use agent::Agent;

#[test]
fn b10_control_characters_in_names_reach_no_log_metric_page_or_terminal() {
    let mut agent = Agent::start(MALL);
    let mut sinks = vec![
        ("metrics", agent.metrics()),
        ("page", agent.get("/")),
        ("status API", agent.get("/api/v1/status")),
        (
            "explain API",
            agent.get("/api/v1/explain?service=shop%2Fweb&key=%1B%5B31m"),
        ),
    ];
    for arguments in [
        &["status", "--problems"][..],
        &["status", "-o", "json"],
        &["explain", "shop/web"],
        &["explain", "shop/web", "--key", "\u{1b}[31mann\r\n\u{9b}"],
        &["explain", "shop/\u{1b}[31mweb"],
        &["explain", "shop/web", "-o", "json"],
        &["doctor", "kube"],
    ] {
        sinks.push(("command", agent.command(arguments)));
    }
    sinks.push(("log", agent.end()));
    for (sink, text) in &sinks {
        let raw = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(raw, None, "{sink}: {text:?}");
    }
    let (_, page) = &sinks[1];
    // It is told names as JSON, and makes text of them, never markup.
    let is_markup = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
    ];
    assert!(page.contains("textContent") && !page.contains("evil"));
    assert!(is_markup.iter().all(|way| !page.contains(way)), "{page}");
    let (_, status) = &sinks[2];
    assert!(
        status.contains("evil"),
        "the names were read at all: {status}"
    );
    let (_, metrics) = &sinks[0];
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

/// Escapes of a terminal, ends of lines, quotes and markup in every name that others choose.
const MALL: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: edge-a, labels: {topology.kubernetes.io/zone: mall-1}}
---
apiVersion: v1
kind: Node
metadata: {name: "edge\e[31m-b", labels: {topology.kubernetes.io/zone: "mall\n\"2"}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {zonal.dev/balance: "\e[2Jevil\r\n", zonal.dev/weights: "evil\x9b=<b>"}}
spec: {ports: [{name: "ht\e]0;evil\atp", port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: "evil\e[31m", namespace: "sh\"op\n"}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "ht\e]0;evil\atp", port: 9}, {name: http, port: 9}]
endpoints:
- {addresses: [127.0.0.1], nodeName: edge-a, targetRef: {kind: Pod, name: "evil\e[31m-0", uid: "u\n0"}}
- {addresses: [127.0.0.2], nodeName: edge-a, targetRef: {kind: Pod, name: "<b>evil</b>", uid: u1}}
- {addresses: [127.0.0.3], nodeName: edge-a, targetRef: {kind: Pod, name: "evil\"} 9\nzonal_evil 1", uid: u2}}
- {addresses: ["evil\e[31m"], nodeName: edge-a, targetRef: {kind: Pod, name: web-3, uid: u3}}
"#;

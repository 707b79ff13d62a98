// SPDX-License-Identifier: MIT OR Apache-2.0
//! Manifests as people write them, and as they should not.

use super::*;

fn parse(text: &str) -> ManifestContent {
    let node = NodeName::parse("n1").unwrap();
    ManifestContent::parse("f.yaml", text, &node, &ZoneKeys::default())
}

fn keys(content: &ManifestContent) -> Vec<String> {
    content
        .objects
        .keys()
        .map(|key| format!("{}:{key}", key.kind()))
        .collect()
}

/// The problems as `object@place`.
fn places(content: &ManifestContent) -> Vec<String> {
    content
        .problems
        .iter()
        .map(|problem| format!("{}@{}", problem.object, problem.place))
        .collect()
}

const GOOD: &str = "\
apiVersion: v1
kind: Node
metadata:
  name: n1
  labels: {topology.kubernetes.io/zone: mall-1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ports:
  - port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: shop
  labels: {kubernetes.io/service-name: web}
addressType: IPv4
ports:
- port: 8080
endpoints:
- addresses: [10.0.0.1]
  nodeName: n1
";

#[test]
fn documents_lists_and_json_say_the_same() {
    let expected = [
        "own-node:Node n1",
        "nodes:Node n1",
        "services:Service shop/web",
        "slices:EndpointSlice shop/web-1",
    ];
    let several = parse(GOOD);
    assert_eq!(keys(&several), expected);
    assert_eq!(places(&several), Vec::<String>::new());
    let items: Vec<_> = documents(GOOD)
        .iter()
        .map(|document| Tree::parse(document.text).unwrap().to_value())
        .collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    for text in [
        list.to_string(),
        serde_json::to_string_pretty(&list).unwrap(),
    ] {
        assert_eq!(parse(&text).objects, several.objects);
    }
}

#[test]
fn items_of_a_typed_list_need_no_kind() {
    let content = parse("kind: NodeList\nitems:\n- metadata: {name: n2}\n");
    assert_eq!(keys(&content), ["nodes:Node n2"]);
}

#[test]
fn one_bad_item_costs_only_itself_and_is_named_with_its_line() {
    let text = "\
kind: List
items:
- kind: Node
  metadata: {name: n1}
- kind: Node
  metadata:
    name: Bad_Name
- kind: Node
  metadata:
    name: [not, text]
- kind: Node
  metadata: {name: n2}
";
    let content = parse(text);
    assert_eq!(
        keys(&content),
        ["own-node:Node n1", "nodes:Node n1", "nodes:Node n2"]
    );
    assert_eq!(
        places(&content),
        [
            "Node Bad_Name@f.yaml:7: metadata.name",
            "Node (without a name)@f.yaml:10: metadata.name"
        ]
    );
}

#[test]
fn a_broken_document_costs_only_itself() {
    let text = format!(
        "{GOOD}---\nkind: Node\nmetadata: {{name: n2\n---\nkind: Node\nmetadata: {{name: n3}}\n"
    );
    let content = parse(&text);
    assert!(keys(&content).contains(&"nodes:Node n3".to_owned()));
    assert_eq!(content.problems.len(), 1);
    let place = &content.problems[0].place;
    let line: usize = place.trim_start_matches("f.yaml:").parse().unwrap();
    let broken = GOOD.lines().count() + 2..=GOOD.lines().count() + 4;
    assert!(broken.contains(&line), "{place}");
    assert_eq!(content.problems[0].object, "document 4");
}

#[test]
fn parts_are_named_with_their_own_lines() {
    let text = GOOD.replace(
        "- addresses: [10.0.0.1]",
        "- addresses:\n  - bad\n- addresses: [10.0.0.2]",
    );
    let content = parse(&text);
    assert_eq!(
        places(&content),
        ["EndpointSlice shop/web-1@f.yaml:25: endpoints[0].addresses[0]"]
    );
}

#[test]
fn foreign_kinds_and_groups_are_counted_and_passed_over() {
    let content = parse(
        "kind: Deployment\napiVersion: apps/v1\n---\nkind: Service\napiVersion: serving.knative.dev/v1\nmetadata: {name: a}\n",
    );
    assert_eq!(
        (content.ignored(), content.problems().len(), content.len()),
        (2, 0, 0)
    );
}

#[test]
fn what_has_no_kind_is_a_problem() {
    let content = parse("---\n\nmetadata: {name: a}\n---\n- a\n---\ntext\n");
    assert_eq!(
        places(&content),
        [
            "an object@f.yaml:3",
            "an object@f.yaml:5",
            "an object@f.yaml:7"
        ]
    );
}

#[test]
fn an_object_that_stands_twice_is_told() {
    let content =
        parse("kind: Node\nmetadata: {name: n2}\n---\nkind: Node\nmetadata: {name: n2}\n");
    assert_eq!(places(&content), ["Node n2@f.yaml:4"]);
    assert_eq!(content.len(), 1);
}

#[test]
fn numbers_and_booleans_for_texts_are_refused_with_their_line() {
    let content =
        parse("kind: Node\nmetadata:\n  name: n2\n  labels:\n    topology.kubernetes.io/zone: 7\n");
    assert_eq!(
        places(&content),
        ["Node n2@f.yaml:5: metadata.labels[topology.kubernetes.io/zone]"]
    );
}

#[test]
fn the_updates_are_a_full_list_of_every_kind() {
    let updates = parse(GOOD).updates();
    for kind in Kind::ALL {
        let position =
            |wanted: &Update| updates.iter().position(|update| update == wanted).unwrap();
        let reset = position(&Update::Reset(SOURCE, kind));
        let synced = position(&Update::Synced(SOURCE, kind));
        assert!(reset < synced, "{kind}");
    }
    let absent = |content: &ManifestContent| {
        let updates = content.updates();
        updates
            .iter()
            .any(|update| matches!(update, Update::Absent(..)))
    };
    assert!(!absent(&parse(GOOD)));
    assert!(absent(&parse("kind: Node\nmetadata: {name: n2}\n")));
    assert!(absent(&parse("")));
    assert!(
        !absent(&parse("kind: Node\nmetadata: {name: n1, labels: 7}\n")),
        "refused is not absent"
    );
}

#[test]
fn the_same_content_sends_nothing_and_a_change_sends_its_lists_only() {
    let before = parse(GOOD);
    assert_eq!(parse(&format!("# note\n{GOOD}")).changes_since(&before), []);
    let after = parse(&GOOD.replace("10.0.0.1", "10.0.0.2"));
    let changes = after.changes_since(&before);
    assert_eq!(changes.first(), Some(&Update::Reset(SOURCE, Kind::Slices)));
    assert_eq!(changes.len(), 3);
}

#[test]
fn an_object_that_turns_bad_keeps_its_last_good_version() {
    let before = parse(GOOD);
    let mut after = parse(&GOOD.replace("addressType: IPv4", "addressType: 4"));
    after.inherit(&before);
    assert_eq!(after.objects, before.objects);
    assert_eq!(after.problems.len(), 1);
    assert!(!after.changes_since(&before).is_empty());
}

#[test]
fn an_object_that_is_gone_is_gone_unless_something_is_unreadable() {
    let (before, shorter) = (
        parse(GOOD),
        &GOOD[..GOOD.find("---\napiVersion: d").unwrap()],
    );
    let mut after = parse(shorter);
    after.inherit(&before);
    assert_eq!(after.len(), before.len() - 1);
    let mut after = parse(&format!(
        "{shorter}---\nkind: EndpointSlice\nmetadata: {{name: web\n"
    ));
    after.inherit(&before);
    assert_eq!(after.objects, before.objects);
}

#[test]
fn hostile_texts_end() {
    for text in [
        "\0",
        "---\n---\n---",
        "&a [*a]",
        "? [a]\n: b",
        "{{{{",
        "%YAML 9.9\n---\nkind: Node\n",
        "kind: List\nitems: {a: b}\n",
        "kind: List\nitems:\n",
        "kind: [List]\nitems: []\n",
        "kind: Node\nkind: Node\n",
        "!!binary x",
        "kind: Node\nmetadata: !!set {a}\n",
        "<<: *x\n",
        "kind: Node\n\tmetadata: x\n",
    ] {
        let content = parse(text);
        assert!(content.len() <= 1, "{text:?}");
    }
    let many = "---\nkind: Node\nmetadata: {name: n2}\n".repeat(5000);
    assert_eq!(parse(&many).documents, 5000);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What expressions say of entries, and where the wrong ones are wrong: as Consul 1.22.5 answered.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn entry() -> Value {
    json!({
        "ID": "", "Node": "edge-a", "Address": "10.0.0.1", "Datacenter": "mall-1",
        "ServiceName": "web", "ServiceTags": ["v1", "a.b"], "ServicePort": 80, "ServiceAddress": "10.1.0.1",
        "ServiceMeta": { "k": "v", "x-y": "z" }, "NodeMeta": {}, "ServiceEnableTagOverride": false,
        "ServiceTaggedAddresses": { "lan_ipv4": { "Address": "10.1.0.1", "Port": 80 } },
        "ServiceWeights": { "Passing": 1, "Warning": 1 }, "ServiceConnect": {},
    })
}

fn holds(text: &str) -> bool {
    let filter = Filter::read(text, SERVICE_ENTRY);
    let filter = filter.unwrap_or_else(|error| panic!("{text}: {error}"));
    filter.holds(&entry())
}

#[test]
fn what_holds_of_an_instance_is_told() {
    for text in [
        "ServicePort == 80",
        "ServicePort==\"0x50\"",
        "ServicePort != -80",
        "ServiceName == web",
        " ServiceName == \"w\\x65b\" ",
        "ServiceName == `web`",
        "eb in ServiceName",
        "ServiceName contains eb",
        "ServiceName matches \"^w\"",
        "ServiceName not matches `^x`",
        "v1 in ServiceTags",
        "a.b in ServiceTags",
        "ServiceTags contains `a.b`",
        "ServiceTags not contains v",
        "\"\" not in ServiceTags",
        "not in ServiceName or ServiceName == web",
        "not not in ServiceName",
        "ServiceMeta.k == v",
        "ServiceMeta[ \"x-y\" ]==z",
        "k in ServiceMeta and ServiceMeta is not empty",
        "NodeMeta is empty",
        "ServiceMeta.none != v",
        "x not in ServiceMeta.none",
        "ServiceMeta.none matches x",
        "ServiceMeta.none not matches x",
        "ServiceTaggedAddresses.lan_ipv4.Port == 80",
        "ServiceWeights.Passing == 1",
        "ServiceEnableTagOverride == F",
        "ServiceConnect.Native == false",
        "PeerName == \"\"",
        "((ServiceName==web))",
        "(ServiceName == web) and (Node\n==\tedge.a or Node matches `edge-[a-c]`)",
        "ServiceName==web or Node==x and Node==y",
        "not ServiceName == or",
        "not (ServiceName == web and ServicePort == 81)",
        "not not ServiceName == web",
        "ServiceName != 10",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "not ServiceName == web",
        "ServiceMeta is empty",
        "ServiceMeta.none == \"\"",
        "x in ServiceMeta.none",
        "v in ServiceTags",
        "(ServiceName==web or Node==x) and Node==y",
        "ServicePort == -80",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn of_several_checks_one_has_to_be_so() {
    let entry = json!({ "Checks": [{ "Status": "passing" }, { "Status": "critical", "ServiceTags": ["v1"] }] });
    let holds = |text: &str| Filter::read(text, HEALTH_ENTRY).unwrap().holds(&entry);
    assert!(holds(
        "Checks.Status == critical and Checks.Status == passing"
    ));
    assert!(holds(
        "Checks.Status != passing and v1 in Checks.ServiceTags"
    ));
    assert!(!holds("Checks.Status == warning or Checks is empty"));
    assert!(!holds("not Checks.Status == passing"));
    assert!(holds(
        "Service.Port == 0 and Service.Tags is empty and Node.Meta is empty"
    ));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, error) in [
        (" ", "1:2 (1): no match found, expected: \"(\""),
        ("ServiceName == 'web'", "1:16 (15): no match found"),
        ("ServiceName == web-1", "1:19 (18): no match found"),
        ("ServiceName == web)", "1:19 (18): no match found"),
        (
            "(ServiceName == web",
            "1:20 (19): rule \"grouping\": Unmatched parentheses",
        ),
        ("()", "1:2 (1): no match found"),
        (
            "ServiceName == \"web",
            "1:20 (19): rule \"string\": Unterminated string literal",
        ),
        (
            "ServiceName == \"w\\q\"",
            "1:16 (15): rule \"string\": invalid syntax",
        ),
        (
            "ServiceName == \"a\\\"b\"",
            "1:16 (15): rule \"string\": invalid syntax",
        ),
        (
            "ServicePort == 080",
            "1:17 (16): rule \"number\": Invalid number literal",
        ),
        (
            "ServiceName == 10x",
            "1:18 (17): rule \"number\": Invalid number literal",
        ),
        (
            "ServicePort in 80",
            "1:16 (15): rule \"match\": Invalid selector",
        ),
        (
            "ServiceMeta[x] == z",
            "1:13 (12): rule \"index\": Invalid index",
        ),
        (
            "ServiceMeta[\"x-y\" == z",
            "1:19 (18): rule \"index\": Unclosed index expression",
        ),
        (
            "ServiceMeta.1 == z",
            "1:13 (12): no match found, expected: [a-zA-Z]",
        ),
        (
            "ServiceName is web",
            "1:16 (15): no match found, expected: \"empty\"",
        ),
        (
            "ServiceName ! = web",
            "1:13 (12): no match found, expected: \"!=\"",
        ),
        ("\"eb\"in ServiceName", "1:5 (4): no match found"),
        ("é == x", "1:1 (0): no match found"),
        ("Node ==\n\n é", "3:2 (10): no match found"),
        (
            "a in b in c",
            "1:8 (7): no match found, expected: \"and\", \"or\"",
        ),
        ("Nosuch == 1", "Selector \"Nosuch\" is not valid"),
        (
            "ServiceMeta.k.x == 1",
            "Selector \"ServiceMeta.k.x\" is not valid",
        ),
        (
            "ServiceTags.v1 == x",
            "Selector \"ServiceTags.v1\" is not valid",
        ),
        ("CreateIndex == 1", "Selector \"CreateIndex\" is not valid"),
        ("ServiceName in web", "Selector \"web\" is not valid"),
        (
            "ServiceTags == v1",
            "Invalid match operator \"Equal\" for selector \"ServiceTags\"",
        ),
        (
            "ServicePort is not empty",
            "Invalid match operator \"Is Not Empty\" for selector \"ServicePort\"",
        ),
        (
            "ServicePort == 80.0",
            "Failed to coerce value \"80.0\" for selector \"ServicePort\": it is no whole number",
        ),
        (
            "ServicePort == \"--80\"",
            "Failed to coerce value \"--80\" for selector \"ServicePort\": it is no whole number",
        ),
        (
            "ServiceEnableTagOverride == no",
            "Failed to coerce value \"no\" for selector \"ServiceEnableTagOverride\": it is no truth value",
        ),
        (
            "ServiceName matches \"(\"",
            "Failed to compile regular expression \"(\"",
        ),
    ] {
        let told = Filter::read(text, SERVICE_ENTRY).unwrap_err().to_string();
        assert!(told.starts_with(error), "{text}: {told}");
    }
}

#[test]
fn length_depth_and_patterns_are_bounded() {
    let refusal = |text: &str| Filter::read(text, SERVICE_ENTRY).unwrap_err();
    let text = format!("Node == \"{}\"", "x".repeat(FILTER_BYTES_MAX));
    assert!(matches!(refusal(&text), FilterError::TooLong { .. }));
    for (open, close) in [
        ("(", ")"),
        ("not ", ""),
        ("Node == x and ", ""),
        ("Node == x or ", ""),
    ] {
        let nested = |depth| format!("{}Node == x{}", open.repeat(depth), close.repeat(depth));
        assert!(Filter::read(&nested(DEPTH_MAX), SERVICE_ENTRY).is_ok());
        let deeper = refusal(&nested(DEPTH_MAX + 1));
        assert!(
            matches!(deeper, FilterError::TooDeep { .. }),
            "{open}: {deeper}"
        );
    }
    let pattern = refusal("Node matches \"(\\\\pL{200}){200}\"");
    assert!(matches!(pattern, FilterError::BadPattern { .. }));
}

/// An expression with what it says of the entry.
fn expressions() -> impl Strategy<Value = (String, bool)> {
    let conditions = [
        ("ServiceName == web", true),
        ("ServicePort != 80", false),
        ("v1 in ServiceTags", true),
        ("x in ServiceMeta", false),
        ("ServiceName matches `^w`", true),
        ("ServiceTags is empty", false),
    ];
    let condition = proptest::sample::select(conditions.to_vec());
    let condition = condition.prop_map(|(text, holds)| (text.to_owned(), holds));
    condition.prop_recursive(5, 24, 2, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|(text, holds)| (format!("not ({text})"), !holds)),
            (inner.clone(), inner.clone())
                .prop_map(|((a, x), (b, y))| (format!("({a}) and ({b})"), x && y)),
            (inner.clone(), inner)
                .prop_map(|((a, x), (b, y))| (format!("( {a} ) or ({b})"), x || y)),
        ]
    })
}

proptest! {
    #[test]
    fn an_expression_says_what_its_parts_say((text, expected) in expressions()) {
        prop_assert_eq!(holds(&text), expected, "{}", text);
    }

    /// `and` binds closer than `or`, and `not` closer than both.
    #[test]
    fn words_bind_as_they_do_everywhere(truths in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..20)) {
        let mut text = String::new();
        let (mut any, mut all) = (false, true);
        for (at, (is_true, is_negated, begins_anew)) in truths.iter().enumerate() {
            if at > 0 {
                text.push_str(if *begins_anew { " or " } else { " and " });
            }
            if at > 0 && *begins_anew {
                (any, all) = (any || all, true);
            }
            all &= is_true != is_negated;
            text.push_str(if *is_negated { "not " } else { "" });
            text.push_str(if *is_true { "ServiceName == web" } else { "ServiceName == x" });
        }
        prop_assert_eq!(holds(&text), any || all, "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-zS (.)\"`=!0-9\\\\\\[\\]-]{0,60}|\\PC{0,40}") {
        fuzz::consul_filter(text.as_bytes());
    }
}

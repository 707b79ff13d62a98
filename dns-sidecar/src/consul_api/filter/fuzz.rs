// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any text of an expression. Built for tests and for `fuzz/` alone.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target panics where something does not hold"
)]

use super::{CHECK, Filter, FilterError, HEALTH_ENTRY, NODE, SERVICE, SERVICE_ENTRY};
use serde_json::{Value, json};

/// Any text is read or refused with a reason of one line, and what was read says yes or no to entries of any form. Its
/// negation says the opposite, and in parentheses it is the same.
pub fn consul_filter(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    for fields in [CHECK, HEALTH_ENTRY, NODE, SERVICE, SERVICE_ENTRY] {
        let filter = match Filter::read(text, fields) {
            Ok(filter) => filter,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        let grouped = Filter::read(&format!("({text})"), fields);
        let negated = Filter::read(&format!("not ({text})"), fields);
        for entry in entries() {
            let holds = filter.holds(&entry);
            assert!(says(&grouped, &entry, holds));
            assert!(says(&negated, &entry, !holds));
        }
    }
}

/// What is a little longer or deeper than the text may be refused for that.
fn says(filter: &Result<Filter, FilterError>, entry: &Value, holds: bool) -> bool {
    match filter {
        Ok(filter) => filter.holds(entry) == holds,
        Err(error) => matches!(
            error,
            FilterError::TooLong { .. } | FilterError::TooDeep { .. }
        ),
    }
}

fn entries() -> [Value; 4] {
    [
        Value::Null,
        json!({}),
        json!({ "ServiceName": "web", "ServiceTags": ["v1", "edge.a"], "ServicePort": 80, "ServiceMeta": { "k": "v" },
            "Node": "edge-a", "Status": "passing", "Tags": null, "Meta": { "a-b": "c" }, "Port": 8080 }),
        json!({ "Node": { "Node": "edge-a", "Meta": { "site": "north" } }, "Service": { "Service": "web", "Tags": ["v1"] },
            "Checks": [{ "Status": "passing" }, { "Status": "critical", "ServiceTags": ["v1"] }] }),
    ]
}

#[cfg(test)]
mod tests {
    use super::consul_filter;
    use crate::corpus::run;

    #[test]
    fn b2_the_corpus_of_filters_holds() {
        run("consul_filter", consul_filter);
    }
}

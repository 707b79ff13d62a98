// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Consul's answers look like: as much of it as is needed, every entry for itself.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;

/// One entry of `health/service`: an instance with its node and checks.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) node: RawNode,
    pub(super) service: RawService,
    #[serde(default)]
    pub(super) checks: Option<Vec<RawCheck>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RawNode {
    pub(super) node: String,
    #[serde(default)]
    pub(super) address: String,
    #[serde(default)]
    pub(super) datacenter: String,
    #[serde(default)]
    pub(super) meta: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RawService {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) address: String,
    #[serde(default)]
    pub(super) port: i64,
    /// Empty for what answers requests itself; else a proxy or gateway of the mesh.
    #[serde(default)]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) create_index: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RawCheck {
    #[serde(rename = "CheckID", default)]
    pub(super) check_id: String,
    #[serde(default)]
    pub(super) status: String,
}

/// An entry that was read, or what could be read of it.
#[derive(Debug)]
pub(super) enum Reading {
    Whole(Box<Entry>),
    Broken {
        /// Node and ID of the instance, as far as they are texts.
        key: (String, String),
        why: String,
    },
}

/// Reads the answer to `health/service`; an entry that does not decode costs only itself.
pub(super) fn entries(body: &[u8]) -> Result<Vec<Reading>, serde_json::Error> {
    let entries: Option<Vec<&RawValue>> = serde_json::from_slice(body)?;
    Ok(entries
        .unwrap_or_default()
        .into_iter()
        .map(reading)
        .collect())
}

/// Reads the answer to `catalog/services`: tags by name.
pub(super) fn services(body: &[u8]) -> Result<BTreeMap<String, Vec<String>>, serde_json::Error> {
    let services: Option<BTreeMap<String, Option<Vec<String>>>> = serde_json::from_slice(body)?;
    let services = services.unwrap_or_default().into_iter();
    Ok(services
        .map(|(name, tags)| (name, tags.unwrap_or_default()))
        .collect())
}

/// Reads the answer to `catalog/node`; none when there is no such node.
pub(super) fn node(body: &[u8]) -> Result<Option<RawNode>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        node: Option<RawNode>,
    }
    let answer: Option<Answer> = serde_json::from_slice(body)?;
    Ok(answer.and_then(|answer| answer.node))
}

fn reading(raw: &RawValue) -> Reading {
    match serde_json::from_str(raw.get()) {
        Ok(entry) => Reading::Whole(entry),
        Err(error) => {
            let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            let text = |path| {
                value
                    .pointer(path)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            Reading::Broken {
                key: (text("/Node/Node"), text("/Service/ID")),
                why: error.to_string(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_that_does_not_decode_costs_only_itself() {
        let body = br#"[{"Node":{"Node":"a"},"Service":{"ID":"x","Port":80}},
            {"Node":{"Node":"b"},"Service":{"ID":"y","Port":"eighty"}}, 7]"#;
        let readings = entries(body).unwrap();
        assert!(matches!(&readings[0], Reading::Whole(entry) if entry.service.port == 80));
        assert!(
            matches!(&readings[1], Reading::Broken { key, .. } if *key == ("b".into(), "y".into()))
        );
        assert!(matches!(&readings[2], Reading::Broken { key, .. } if key.0.is_empty()));
    }

    #[test]
    fn nothing_is_written_in_several_ways() {
        assert!(entries(b"null").unwrap().is_empty());
        assert!(entries(b"[]").unwrap().is_empty());
        assert!(node(b"null").unwrap().is_none());
        assert_eq!(
            services(br#"{"web":null,"api":["a"]}"#).unwrap()["api"],
            ["a"]
        );
        assert!(services(b"[]").is_err());
    }

    proptest! {
        /// No body makes a reader panic.
        #[test]
        fn any_body_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (entries(&body), services(&body), node(&body));
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any text of a configuration file, and for any word in it, in an annotation or on a command line.
//! Shared by libFuzzer's targets and by the test that runs the corpus.

use discovery_core::{
    config::parse,
    model::{
        HashOn, LoadFactor, NodeName, Placement, PlacementWish, Scope, ServiceName, SlowStart,
        SpillBelow, Weights, WithoutKey, Zone, ZoneKey, ZoneKeys, ZonePolicy,
    },
    source::Selector,
    store::{MergePolicy, ServicePattern},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr};

/// A file with everything that our files have: sections, lists, maps, numbers, addresses.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    node_name: Option<String>,
    zone: Section,
    source: Section,
    listen: Vec<SocketAddr>,
    networks: BTreeMap<String, String>,
    allow: bool,
}

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Section {
    name: Option<String>,
    keys: Vec<String>,
    seconds: Option<u64>,
    weight: Option<f64>,
}

/// Any text is a configuration, which is read again from what is written of it, or refused in a line with its place.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match parse::<File>("zonal.yaml", text) {
        Ok(file) => {
            let Ok(written) = serde_json::to_string(&file) else {
                return;
            };
            // What is no number has no JSON form.
            let is_number = |section: &Section| section.weight.is_none_or(f64::is_finite);
            if is_number(&file.zone) && is_number(&file.source) {
                let again = parse::<File>("zonal.yaml", &written);
                assert_eq!(again.ok(), Some(file), "{written}");
            }
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.starts_with("zonal.yaml:"), "{told}");
            let mut place = told.split(':').skip(1).map(str::parse::<usize>);
            if let (Some(Ok(line)), Some(Ok(_))) = (place.next(), place.next()) {
                // YAML 1.2 5.4: a carriage return alone ends a line as well.
                let lines = text.split(['\n', '\r']).count();
                assert!((1..=lines).contains(&line), "{told} in {lines} lines");
            }
            assert!(told.len() <= 1_000 + 2 * text.len(), "{} bytes", told.len());
        }
    }
}

/// Any text as each kind of word is refused in few words, or printed as it is read.
pub(crate) fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    round::<Placement>(text);
    round::<ServiceName>(text);
    round::<Weights>(text);
    round::<ZonePolicy>(text);
    round::<ServicePattern>(text);
    refused(text, HashOn::from_str(text));
    refused(text, WithoutKey::from_str(text));
    refused(text, LoadFactor::from_str(text));
    refused(text, SlowStart::from_str(text));
    refused(text, SpillBelow::from_str(text));
    refused(text, MergePolicy::from_str(text));
    again(text, NodeName::parse);
    again(text, Zone::parse);
    again(text, ZoneKey::parse);
    again(text, |text| ZoneKeys::parse(text.split(", ")));
    again(text, |text| Scope::parse(text.split(" or ")));
    again(text, Selector::parse);
    let wish = PlacementWish::from(text);
    assert!(wish.as_str().chars().count() <= 63);
    assert_eq!(PlacementWish::from(wish.as_str()), wish);
    assert_eq!(wish.known(), text.parse().ok());
}

fn round<T: FromStr<Err: fmt::Display> + fmt::Display + PartialEq + fmt::Debug>(text: &str) {
    again(text, T::from_str);
}

/// Reads the text; what was read prints so that it is read as the same.
fn again<T: fmt::Display + PartialEq + fmt::Debug, E: fmt::Display>(
    text: &str,
    read: impl Fn(&str) -> Result<T, E>,
) {
    let value = read(text);
    if let Ok(value) = &value {
        let printed = value.to_string();
        match read(&printed) {
            Ok(same) => assert_eq!(same, *value, "{printed:?}"),
            Err(error) => panic!("{printed:?} was printed for {text:?}: {error}"),
        }
    }
    refused(text, value);
}

/// What is refused is refused in words that do not repeat a whole file.
fn refused<T, E: fmt::Display>(text: &str, read: Result<T, E>) {
    if let Err(error) = read {
        let told = error.to_string().len();
        assert!(told <= 1_000, "{told} bytes about {}", text.len());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The annotations of a Service about its names. A value that cannot be used is a flaw and asks for nothing; it costs
//! neither the others nor the Service.

use super::{Flaw, Flaws, Meta, port::short};
use crate::model::Registration;
use std::{num::NonZeroU16, sync::Arc};

/// The wishes, shared; none when no annotation speaks of names.
pub(super) fn registration(meta: &Meta<'_>, flaws: &mut Flaws) -> Option<Arc<Registration>> {
    let mut wishes = Registration::default();
    for (key, text) in meta.annotations() {
        let Some(wish) = key.strip_prefix(PREFIX) else {
            continue;
        };
        if let Err(reason) = take(&mut wishes, wish, text) {
            flaws.add(Flaw::new(
                &format_args!("metadata.annotations[{key}]"),
                &reason,
            ));
        }
    }
    (wishes != Registration::default()).then(|| Arc::new(wishes))
}

fn take(wishes: &mut Registration, wish: &str, text: &str) -> Result<(), String> {
    match wish {
        "consul-name" => wishes.names = list(text, is_label)?,
        "consul-tags" => wishes.tags = list(text, is_tag)?,
        "consul-register" => wishes.is_registered = Some(parse(text, "true or false")?),
        "consul-weight" => {
            wishes.weight = Some(parse::<NonZeroU16>(text, "a weight of 1 to 65535")?);
        }
        "dns-ttl" => {
            let seconds: u32 = parse(text, "a number of seconds")?;
            // RFC 2181 8.
            let fits = i32::try_from(seconds).is_ok();
            wishes.ttl_seconds = Some(
                fits.then_some(seconds)
                    .ok_or("a TTL is at most 2147483647 s")?,
            );
        }
        "consul-port" if is_tag(text) => wishes.port = Some(text.into()),
        "consul-port" => return Err(format!("{:?} is no name or number of a port", short(text))),
        _ => {
            if let Some(key) = wish.strip_prefix("consul-meta-") {
                if wishes.meta.len() >= Registration::LIST_MAX {
                    return Err(format!("more than {} pairs", Registration::LIST_MAX));
                }
                wishes.meta.push((key.into(), text.into()));
            }
        }
    }
    Ok(())
}

fn parse<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{:?} is not {what}", short(text)))
}

fn list(text: &str, is_good: fn(&str) -> bool) -> Result<Vec<Arc<str>>, String> {
    let parts: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    if parts.len() > Registration::LIST_MAX {
        return Err(format!("it lists more than {}", Registration::LIST_MAX));
    }
    if let Some(bad) = parts.iter().find(|part| !is_good(part)) {
        return Err(format!("{:?} cannot be part of a name", short(bad)));
    }
    Ok(parts.into_iter().map(Arc::from).collect())
}

/// One label of a name. A leading `_` is kept for what the responder itself means.
fn is_label(text: &str) -> bool {
    matches!(text.len(), 1..=63) && !text.starts_with('_') && text.bytes().all(is_word)
}

/// Labels with dots between them.
fn is_tag(text: &str) -> bool {
    text.len() <= 128 && text.split('.').all(is_label)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

const PREFIX: &str = "zonal.dev/";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(annotations: &serde_json::Value) -> (Option<Arc<Registration>>, usize) {
        let text = json!({ "annotations": annotations }).to_string();
        let meta: Meta<'_> = serde_json::from_str(&text).unwrap();
        let mut flaws = Flaws::default();
        let wishes = registration(&meta, &mut flaws);
        (wishes, flaws.into_list().len())
    }

    #[test]
    fn every_wish_is_read() {
        let (wishes, flaws) = read(&json!({
            "zonal.dev/consul-name": "web, shop",
            "zonal.dev/consul-tags": "v1,edge.mall-a",
            "zonal.dev/consul-register": "false",
            "zonal.dev/consul-port": "http",
            "zonal.dev/consul-weight": "10",
            "zonal.dev/consul-meta-team": "till",
            "zonal.dev/dns-ttl": "5",
            "zonal.dev/zone-policy": "strict",
        }));
        let wishes = wishes.unwrap();
        assert_eq!(flaws, 0);
        assert_eq!(
            (&*wishes.names[1], &*wishes.tags[1]),
            ("shop", "edge.mall-a")
        );
        assert_eq!(
            (wishes.is_registered, wishes.ttl_seconds),
            (Some(false), Some(5))
        );
        assert_eq!(
            (wishes.port.as_deref(), wishes.weight),
            (Some("http"), NonZeroU16::new(10))
        );
        assert_eq!(&*wishes.meta[0].1, "till");
    }

    #[test]
    fn a_bad_wish_is_told_and_costs_no_other() {
        for (key, bad) in [
            ("consul-name", "a.b"),
            ("consul-name", "_key"),
            ("consul-tags", "_x"),
            ("consul-tags", "a..b"),
            ("consul-register", "maybe"),
            ("consul-port", "a b"),
            ("consul-weight", "0"),
            ("dns-ttl", "5s"),
            ("dns-ttl", "4294967295"),
        ] {
            let (wishes, flaws) = read(&json!({
                format!("zonal.dev/{key}"): bad,
                "zonal.dev/consul-meta-a": "b",
            }));
            assert_eq!((wishes.unwrap().meta.len(), flaws), (1, 1), "{key} {bad}");
        }
    }

    #[test]
    fn a_service_that_asks_for_nothing_costs_nothing() {
        assert_eq!(read(&json!({ "zonal.dev/host-port": "80" })), (None, 0));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decodes list pages and watch events; what does not decode is named as far as it can be. Pure.
//!
//! The fast way decodes straight into the slim types. Where that fails the JSON is looked at again item by item, so that
//! one bad object costs only itself, and a deletion needs no more than a name.

use super::{
    items::{Items, TooLarge},
    resource::Resource,
};
use crate::{
    model::{ServiceName, ZoneKeys},
    source::{
        FailureReason,
        object::{
            Format, Names, Raw, RawEndpoints, RawNode, RawService, RawSlice, Reading, Text,
            name_of, read, read_value,
        },
    },
    store::ObjectKey,
};
use serde::Deserialize;
use serde_json::Value;

/// What one page of a list says beside its items.
#[derive(Debug)]
pub(super) struct Page {
    /// Where the next page begins; none on the last.
    pub(super) token: Option<String>,
    /// The version of the list.
    pub(super) version: String,
}

/// One event of a watch.
#[derive(Debug)]
pub(super) enum Event {
    /// The object is as read.
    Stated(Reading),
    /// The object is gone.
    Gone { named: Named, version: String },
    /// Nothing happened up to this version.
    Bookmark { version: String },
    /// The server reports an error.
    Error { code: u16, message: String },
    /// The object was changed, and what it is now does not decode.
    Refused(Reading),
    /// The line is no event.
    Undecodable { reason: FailureReason, why: String },
}

/// What a deletion names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Named {
    /// An object of our books.
    Object(ObjectKey),
    /// The Endpoints of a service, which we keep as slices.
    Endpoints(ServiceName),
}

impl Resource {
    /// Reads the body of a list request while it arrives.
    pub(super) fn page_reader<'r>(&'r self, keys: &'r ZoneKeys) -> PageReader<'r> {
        PageReader {
            resource: self,
            keys,
            items: Items::default(),
        }
    }

    fn item(
        &self,
        item: &[u8],
        keys: &ZoneKeys,
        names: &mut Names,
    ) -> Result<Reading, serde_json::Error> {
        match self.format() {
            Format::Node => decode_item::<RawNode<'_>>(item, keys, names),
            Format::Service => decode_item::<RawService<'_>>(item, keys, names),
            Format::EndpointSlice => decode_item::<RawSlice<'_>>(item, keys, names),
            Format::Endpoints => decode_item::<RawEndpoints<'_>>(item, keys, names),
        }
    }

    /// Decodes a line of a watch.
    pub(super) fn event(&self, line: &[u8], keys: &ZoneKeys, names: &mut Names) -> Event {
        match self.format() {
            Format::Node => event::<RawNode<'_>>(line, keys, names),
            Format::Service => event::<RawService<'_>>(line, keys, names),
            Format::EndpointSlice => event::<RawSlice<'_>>(line, keys, names),
            Format::Endpoints => event::<RawEndpoints<'_>>(line, keys, names),
        }
    }
}

/// Why a body is no page of a list.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    #[error("the list does not decode: {0}")]
    Json(#[from] serde_json::Error),
    #[error("an item of the list is larger than the limit")]
    TooLarge,
}

impl From<TooLarge> for PageError {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

/// A page under way. Holds the bytes of one item, never the body.
pub(super) struct PageReader<'r> {
    resource: &'r Resource,
    keys: &'r ZoneKeys,
    items: Items,
}

impl PageReader<'_> {
    /// Takes in the next piece of the body; the items that end in it.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        names: &mut Names,
    ) -> Result<Vec<Reading>, PageError> {
        let mut readings = Vec::new();
        self.items.push(piece, |item| {
            readings.push(self.resource.item(item, self.keys, names)?);
            Ok::<_, PageError>(())
        })?;
        Ok(readings)
    }

    /// The page, once the body has ended.
    pub(super) fn finish(self) -> Result<Page, PageError> {
        let RawFrame { metadata, items: _ } = serde_json::from_slice(&self.items.into_frame())?;
        Ok(Page {
            token: metadata.r#continue.filter(|token| !token.is_empty()),
            version: metadata.resource_version.unwrap_or_default(),
        })
    }
}

/// A list without its items.
#[derive(Deserialize)]
struct RawFrame {
    metadata: ListMeta,
    // Go writes an empty list as null; one that is missing is no list.
    #[serde(deserialize_with = "Option::deserialize")]
    #[allow(
        dead_code,
        reason = "it has to be there, and what stood in it was cut out before"
    )]
    items: Option<[(); 0]>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

fn decode_item<T: Raw>(
    item: &[u8],
    keys: &ZoneKeys,
    names: &mut Names,
) -> Result<Reading, serde_json::Error> {
    if let Ok(raw) = decode::<T::Of<'_>>(item) {
        return Ok(read(&raw, keys, names));
    }
    let value = serde_json::from_slice(item)?;
    Ok(read_value(T::FORMAT, value, keys, names))
}

/// Looks once whether all of it is text, and not at every string again.
fn decode<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(json) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(json),
    }
}

#[derive(Deserialize)]
struct Envelope<'a, T> {
    #[serde(borrow)]
    r#type: Text<'a>,
    object: T,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: Option<u16>,
    message: Option<String>,
}

fn event<T: Raw>(line: &[u8], keys: &ZoneKeys, names: &mut Names) -> Event {
    match decode::<Envelope<'_, T::Of<'_>>>(line) {
        // A Status decodes as any object, since every field may be missing; only the type tells.
        Ok(Envelope { r#type, object }) if *r#type != *"ERROR" => {
            known(&r#type, &object, keys, names)
        }
        _ => second_look(T::FORMAT, line, keys, names),
    }
}

fn known<T: Raw>(kind: &str, object: &T, keys: &ZoneKeys, names: &mut Names) -> Event {
    let (meta, version) = (object.meta(), object.meta().version().to_owned());
    match kind {
        "ADDED" | "MODIFIED" => Event::Stated(read(object, keys, names)),
        "DELETED" => gone(T::FORMAT, meta.namespace(), meta.name(), version),
        "BOOKMARK" => Event::Bookmark { version },
        other => unknown_type(other),
    }
}

fn second_look(format: Format, line: &[u8], keys: &ZoneKeys, names: &mut Names) -> Event {
    let Envelope { r#type, object } = match serde_json::from_slice::<Envelope<'_, Value>>(line) {
        Ok(envelope) => envelope,
        Err(error) => return not_an_event(line, &error),
    };
    let pointer = object.pointer("/metadata/resourceVersion");
    let version = pointer.and_then(Value::as_str).unwrap_or_default();
    match &*r#type {
        "ADDED" | "MODIFIED" => match read_value(format, object, keys, names) {
            reading if reading.refused => Event::Refused(reading),
            reading => Event::Stated(reading),
        },
        "DELETED" => {
            let (namespace, name) = name_of(&object);
            gone(format, namespace, name, version.to_owned())
        }
        "BOOKMARK" => Event::Bookmark {
            version: version.to_owned(),
        },
        "ERROR" => error_event(object),
        other => unknown_type(other),
    }
}

/// A line that is no envelope: a Status on its own, or broken.
fn not_an_event(line: &[u8], error: &serde_json::Error) -> Event {
    match serde_json::from_slice::<Value>(line) {
        Ok(value) if value.get("kind").and_then(Value::as_str) == Some("Status") => {
            error_event(value)
        }
        _ => Event::Undecodable {
            reason: if error.is_eof() {
                FailureReason::Truncated
            } else {
                FailureReason::Undecodable
            },
            why: error.to_string(),
        },
    }
}

fn error_event(object: Value) -> Event {
    let status: Status = serde_json::from_value(object).unwrap_or_default();
    Event::Error {
        code: status.code.unwrap_or_default(),
        message: status.message.unwrap_or_default(),
    }
}

fn gone(format: Format, namespace: &str, name: &str, version: String) -> Event {
    let named = match format {
        Format::Endpoints => ServiceName::new(namespace, name).ok().map(Named::Endpoints),
        _ => format.key(namespace, name).map(Named::Object),
    };
    match named {
        Some(named) => Event::Gone { named, version },
        None => Event::Undecodable {
            reason: FailureReason::Undecodable,
            why: format!("{} was deleted", format.describe(namespace, name)),
        },
    }
}

fn unknown_type(kind: &str) -> Event {
    let kind: String = kind.chars().take(40).collect();
    Event::Undecodable {
        reason: FailureReason::Undecodable,
        why: format!("event type {kind:?} is unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{SliceApi, kube::scope::Scope};

    const SLICE: &str = r#"{"metadata":{"namespace":"shop","name":"web-1","resourceVersion":"7",
        "labels":{"kubernetes.io/service-name":"web"}},"endpoints":[{"addresses":["10.0.0.1"]}]}"#;
    const BAD: &str = r#"{"metadata":{"namespace":"shop","name":"web-2","resourceVersion":"8",
        "labels":{"kubernetes.io/service-name":"web"}},"endpoints":{"addresses":3}}"#;

    fn resource() -> Resource {
        Resource::slices(SliceApi::V1, &Scope::default())
    }

    fn event(kind: &str, object: &str) -> Event {
        let line = format!(r#"{{"type":"{kind}","object":{object}}}"#);
        resource().event(line.as_bytes(), &ZoneKeys::default(), &mut Names::default())
    }

    #[test]
    fn events_are_told_apart() {
        assert!(matches!(event("ADDED", SLICE), Event::Stated(reading) if reading.version == "7"));
        assert!(matches!(event("MODIFIED", SLICE), Event::Stated(_)));
        assert!(matches!(event("DELETED", SLICE), Event::Gone { version, .. } if version == "7"));
        assert!(matches!(event("BOOKMARK", SLICE), Event::Bookmark { version } if version == "7"));
        assert!(matches!(
            event("SURPRISE", SLICE),
            Event::Undecodable { .. }
        ));
    }

    #[test]
    fn an_error_is_never_taken_for_an_object() {
        let status = r#"{"kind":"Status","code":410,"message":"too old","metadata":{}}"#;
        assert!(matches!(
            event("ERROR", status),
            Event::Error { code: 410, .. }
        ));
        assert!(matches!(event("ERROR", "{}"), Event::Error { code: 0, .. }));
        let bare = resource().event(
            status.as_bytes(),
            &ZoneKeys::default(),
            &mut Names::default(),
        );
        assert!(matches!(bare, Event::Error { code: 410, .. }));
    }

    #[test]
    fn a_deletion_needs_a_name_only() {
        let Event::Gone { named, version } = event("DELETED", BAD) else {
            panic!("not gone")
        };
        let Named::Object(key) = named else {
            panic!("no object")
        };
        assert_eq!(
            (key.to_string(), version.as_str()),
            ("EndpointSlice shop/web-2".into(), "8")
        );
    }

    #[test]
    fn a_change_that_does_not_decode_is_named() {
        let Event::Refused(reading) = event("MODIFIED", BAD) else {
            panic!("not refused")
        };
        assert_eq!(reading.name, "EndpointSlice shop/web-2");
        assert_eq!(reading.version, "8");
        assert_eq!(reading.flaws[0].place, "endpoints");
    }

    #[test]
    fn a_line_that_ends_early_is_truncated() {
        let line = br#"{"type":"MODIFIED","object":{"metadata":{"name":"a"#;
        let event = resource().event(line, &ZoneKeys::default(), &mut Names::default());
        assert!(matches!(
            event,
            Event::Undecodable {
                reason: FailureReason::Truncated,
                ..
            }
        ));
        for line in [&b"garbage"[..], b"{}", b"[]", b"\xff\xfe", b"\0"] {
            let event = resource().event(line, &ZoneKeys::default(), &mut Names::default());
            assert!(matches!(
                event,
                Event::Undecodable {
                    reason: FailureReason::Undecodable,
                    ..
                }
            ));
        }
    }

    fn page(body: &str) -> Result<(Vec<Reading>, Page), PageError> {
        let (resource, keys) = (resource(), ZoneKeys::default());
        let mut reader = resource.page_reader(&keys);
        let readings = reader.push(body.as_bytes(), &mut Names::default())?;
        Ok((readings, reader.finish()?))
    }

    #[test]
    fn one_bad_item_costs_only_itself() {
        let body =
            format!(r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{SLICE},{BAD},{SLICE}]}}"#);
        let (readings, page) = page(&body).unwrap();
        let refused: Vec<_> = readings.iter().map(|r| r.refused).collect();
        assert_eq!(refused, [false, true, false]);
        assert_eq!((page.version.as_str(), page.token), ("9", None));
    }

    #[test]
    fn what_is_no_list_is_not_read_as_an_empty_one() {
        assert!(page(r#"{"metadata":{"resourceVersion":"9"},"items":null}"#).is_ok());
        for body in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"metadata":{"resourceVersion":"9"}}"#,
            r#"{"metadata":{"resourceVersion":"9"},"items":{}}"#,
            r#"{"metadata":{"resourceVersion":"9"},"items":[{"metadata"#,
        ] {
            assert!(page(body).is_err(), "{body}");
        }
    }
}

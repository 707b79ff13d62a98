// SPDX-License-Identifier: MIT OR Apache-2.0
//! The second look at an object whose JSON has a wrong type somewhere: what is good is kept, what is bad is named.
//!
//! The lists whose elements stand for themselves are taken apart and decoded one by one; an element that does not decode
//! becomes null. A field that is wrong outside of them refuses the object. The place of the error, which serde does not
//! tell for values, is found by trial: the field without which the rest decodes is the one. Costs one decode per field of
//! what is bad, at most [`TRIALS_MAX`], and is paid for bad objects only.

use super::{Flaw, Flaws, Names, Raw, Reading, read_with};
use crate::model::ZoneKeys;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Reads the object as far as it can be read.
pub(super) fn read<T: Raw>(mut value: Value, keys: &ZoneKeys, names: &mut Names) -> Reading {
    if let Ok(raw) = T::Of::deserialize(&value) {
        return read_with(&raw, keys, names, Flaws::default());
    }
    let mut flaws = Flaws::default();
    for pointer in T::LISTS {
        if let Some(Value::Array(elements)) = value.pointer_mut(pointer) {
            drop_bad_elements::<T>(pointer, elements, &mut flaws);
        }
    }
    let error = match T::Of::deserialize(&value) {
        Ok(raw) => return read_with(&raw, keys, names, flaws),
        Err(error) => error,
    };
    refuse::<T>(&mut value, &error, flaws)
}

fn refuse<T: Raw>(value: &mut Value, error: &serde_json::Error, mut flaws: Flaws) -> Reading {
    let (namespace, name) = name_of(value);
    let (key, described) = (
        T::FORMAT.key(namespace, name),
        T::FORMAT.describe(namespace, name),
    );
    let endpoints_of = T::FORMAT.endpoints_of(namespace, name);
    let version = text_at(value, "/metadata/resourceVersion").to_owned();
    flaws.add(Flaw::new(&culprit::<T>(value), error));
    Reading {
        key,
        endpoints_of,
        name: described,
        version,
        objects: Vec::new(),
        refused: true,
        cluster_uid: None,
        zone_key: None,
        flaws: flaws.into_list(),
    }
}

/// Namespace and name of an object of which nothing else need be readable.
pub(in crate::source) fn name_of(value: &Value) -> (&str, &str) {
    let namespace = match text_at(value, "/metadata/namespace") {
        "" => "default",
        namespace => namespace,
    };
    (namespace, text_at(value, "/metadata/name"))
}

fn text_at<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn drop_bad_elements<T: Raw>(pointer: &str, elements: &mut [Value], flaws: &mut Flaws) {
    let list = pointer[1..].replace('/', ".");
    for (position, element) in elements.iter_mut().enumerate() {
        let mut alone = wrap(pointer, vec![element.take()]);
        match T::Of::deserialize(&alone).map(drop) {
            Ok(()) => *element = unwrap(&mut alone, pointer),
            Err(error) => {
                let place = culprit::<T>(&mut alone);
                let inside = place
                    .strip_prefix(&format!("{list}[0]"))
                    .unwrap_or_default();
                flaws.add(Flaw::new(
                    &format_args!("{list}[{position}]{inside}"),
                    &error,
                ));
            }
        }
    }
}

/// An object that holds nothing but the list.
fn wrap(pointer: &str, elements: Vec<Value>) -> Value {
    pointer
        .rsplit('/')
        .filter(|field| !field.is_empty())
        .fold(Value::Array(elements), |inner, field| {
            Value::Object(Map::from_iter([(field.to_owned(), inner)]))
        })
}

fn unwrap(alone: &mut Value, pointer: &str) -> Value {
    alone
        .pointer_mut(&format!("{pointer}/0"))
        .map(Value::take)
        .unwrap_or_default()
}

/// The deepest field without which the rest decodes; empty when no single one is to blame.
fn culprit<T: Raw>(value: &mut Value) -> String {
    let (mut pointer, mut place, mut trials) = (String::new(), String::new(), 0);
    while let Some((inner, step)) = blame::<T>(value, &pointer, &mut trials) {
        (pointer, place) = (inner, place + &step);
    }
    place.trim_start_matches('.').to_owned()
}

fn blame<T: Raw>(value: &mut Value, at: &str, trials: &mut usize) -> Option<(String, String)> {
    let steps: Vec<(String, String)> = match value.pointer(at)? {
        Value::Object(fields) => fields.keys().map(|field| step_into(field)).collect(),
        Value::Array(elements) => (0..elements.len())
            .map(|position| (position.to_string(), format!("[{position}]")))
            .collect(),
        _ => return None,
    };
    steps.into_iter().find_map(|(token, step)| {
        *trials += 1;
        if *trials > TRIALS_MAX {
            return None;
        }
        let pointer = format!("{at}/{token}");
        let kept = value.pointer_mut(&pointer)?.take();
        let decodes = !kept.is_null() && T::Of::deserialize(&*value).is_ok();
        *value.pointer_mut(&pointer)? = kept;
        decodes.then_some((pointer, step))
    })
}

/// A field as a JSON pointer's token (RFC 6901) and as people write it.
fn step_into(field: &str) -> (String, String) {
    let token = field.replace('~', "~0").replace('/', "~1");
    let is_plain = field.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let step = if is_plain {
        format!(".{field}")
    } else {
        format!("[{field}]")
    };
    (token, step)
}

/// Far more fields than any path through an object has siblings.
const TRIALS_MAX: usize = 200;

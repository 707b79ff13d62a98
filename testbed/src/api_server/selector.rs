// SPDX-License-Identifier: MIT OR Apache-2.0
//! Label and field selectors as the API has them. Pure.
//!
//! Labels: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`. Fields: `metadata.name` and
//! `metadata.namespace`; any other field is refused, as real servers refuse `spec.type` of services.

use super::store::Stored;

/// What a request selects.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
    namespace: Option<String>,
}

#[derive(Clone, Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    NotExists(String),
}

#[derive(Clone, Debug)]
struct FieldRequirement {
    is_name: bool,
    value: String,
    is_equal: bool,
}

impl Selector {
    /// The selector of a request; the error is what the server says with its 400.
    pub(super) fn parse(
        namespace: Option<String>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, String> {
        let terms = labels.into_iter().flat_map(split).map(requirement);
        let fields = fields.into_iter().flat_map(split).map(field);
        Ok(Self {
            labels: terms.collect::<Result<_, _>>()?,
            fields: fields.collect::<Result<_, _>>()?,
            namespace,
        })
    }

    /// Whether it selects all objects.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.namespace.is_none()
    }

    pub(super) fn matches(&self, object: &Stored) -> bool {
        let (namespace, name) = (&object.key.namespace, &object.key.name);
        self.namespace.as_ref().is_none_or(|own| own == namespace)
            && self.labels.iter().all(|one| one.matches(object))
            && self.fields.iter().all(|field| {
                let value = if field.is_name { name } else { namespace };
                (*value == field.value) == field.is_equal
            })
    }
}

impl Requirement {
    fn matches(&self, object: &Stored) -> bool {
        match self {
            Self::In(key, values) => object.labels.get(key).is_some_and(|v| values.contains(v)),
            Self::NotIn(key, values) => !object.labels.get(key).is_some_and(|v| values.contains(v)),
            Self::Exists(key) => object.labels.contains_key(key),
            Self::NotExists(key) => !object.labels.contains_key(key),
        }
    }
}

/// The terms between commas that do not stand in parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let parts = text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn requirement(term: &str) -> Result<Requirement, String> {
    if let Some((key, values)) = term.split_once(" notin ") {
        return Ok(Requirement::NotIn(key.trim().into(), set(values)?));
    }
    if let Some((key, values)) = term.split_once(" in ") {
        return Ok(Requirement::In(key.trim().into(), set(values)?));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(Requirement::NotIn(
            key.trim().into(),
            vec![value.trim().into()],
        ));
    }
    if let Some((key, value)) = term.split_once('=') {
        let value = value.trim_start_matches('=').trim();
        return Ok(Requirement::In(key.trim().into(), vec![value.into()]));
    }
    match term.strip_prefix('!') {
        Some(key) => Ok(Requirement::NotExists(key.trim().into())),
        None if term.contains(char::is_whitespace) => {
            Err(format!("unable to parse requirement: {term:?}"))
        }
        None => Ok(Requirement::Exists(term.into())),
    }
}

fn set(text: &str) -> Result<Vec<String>, String> {
    let inner = text.trim().strip_prefix('(');
    let inner = inner.and_then(|inner| inner.strip_suffix(')'));
    let inner = inner.ok_or_else(|| format!("unable to parse requirement: {text:?} is no set"))?;
    Ok(inner
        .split(',')
        .map(|value| value.trim().to_owned())
        .collect())
}

fn field(term: &str) -> Result<FieldRequirement, String> {
    let (field, value) = term
        .split_once('=')
        .ok_or_else(|| format!("invalid selector: {term:?}; can't understand it"))?;
    let is_equal = !field.ends_with('!');
    let is_name = match field.trim_end_matches('!') {
        "metadata.name" => true,
        "metadata.namespace" => false,
        other => return Err(format!("field label not supported: {other}")),
    };
    let value = value.trim_start_matches('=').to_owned();
    Ok(FieldRequirement {
        is_name,
        value,
        is_equal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> Stored {
        let object = json!({ "kind": "Node", "metadata": { "name": "n1",
            "labels": { "zone": "hall-a", "empty": "" } } });
        Stored::of(object, 1).unwrap().1
    }

    fn selects(labels: &str, fields: &str) -> bool {
        let selector = Selector::parse(None, Some(labels), Some(fields)).unwrap();
        selector.matches(&object())
    }

    #[test]
    fn every_form_of_a_label_term_is_read() {
        for (term, expected) in [
            ("zone=hall-a", true),
            ("zone==hall-a", true),
            ("zone=hall-b", false),
            ("zone!=hall-b", true),
            ("other!=x", true),
            ("zone in (hall-b, hall-a)", true),
            ("zone in (hall-b)", false),
            ("zone notin (hall-b,hall-c)", true),
            ("other notin (x)", true),
            ("zone", true),
            ("other", false),
            ("!other", true),
            ("!zone", false),
            ("zone in (hall-a,hall-b),empty=", true),
            ("zone=hall-a,other", false),
            ("", true),
        ] {
            assert_eq!(selects(term, ""), expected, "{term}");
        }
    }

    #[test]
    fn fields_are_name_and_namespace_alone() {
        assert!(selects("", "metadata.name=n1"));
        assert!(!selects("", "metadata.name=n2"));
        assert!(selects("", "metadata.name!=n2,metadata.namespace="));
        let refused = Selector::parse(None, None, Some("spec.type=NodePort")).unwrap_err();
        assert_eq!(refused, "field label not supported: spec.type");
    }

    #[test]
    fn nonsense_is_refused() {
        for term in ["zone in hall-a", "a b"] {
            assert!(Selector::parse(None, Some(term), None).is_err(), "{term}");
        }
    }
}

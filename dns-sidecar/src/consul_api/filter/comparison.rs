// SPDX-License-Identifier: MIT OR Apache-2.0
//! One comparison of an expression: checked against the type of its field, then held against entries. Pure.

use super::{
    super::asked::read_bool,
    FilterError,
    fields::{Field, Fields, find},
    parse::{Condition, Operator},
};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// What a field is compared with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) struct Comparison {
    fields: Fields,
    /// The field, from the outermost inwards.
    path: Vec<String>,
    is_negated: bool,
    wanted: Wanted,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Wanted {
    Text(String),
    Number(i64),
    Truth(bool),
    /// A part of a text, an entry of a list or a name of a table.
    Contains(String),
    Empty,
    Matches(Pattern),
}

#[derive(Clone, Debug)]
struct Pattern(Regex);

impl Comparison {
    pub(super) fn new(condition: Condition, fields: Fields) -> Result<Self, FilterError> {
        let Condition {
            path,
            operator,
            is_negated,
            value,
        } = condition;
        let field = find(fields, &path).map_err(|known| FilterError::NoField {
            selector: path[..known].join("."),
        })?;
        let selector = path.join(".");
        let wanted = match (field, operator) {
            (Field::Text, Operator::Equal) => Wanted::Text(value),
            (Field::Number, Operator::Equal) => match number(&value) {
                Some(number) => Wanted::Number(number),
                None => return Err(wrong_value(value, selector, "whole number")),
            },
            (Field::Truth, Operator::Equal) => match read_bool(&value) {
                Some(truth) => Wanted::Truth(truth),
                None => return Err(wrong_value(value, selector, "truth value")),
            },
            (Field::Text | Field::Texts | Field::Table(_), Operator::Contains) => {
                Wanted::Contains(value)
            }
            (Field::Texts | Field::Table(_) | Field::List(_), Operator::Empty) => Wanted::Empty,
            (Field::Text, Operator::Matches) => Wanted::Matches(Pattern::new(value)?),
            _ => {
                let operator = operator.words(is_negated);
                return Err(FilterError::WrongOperator { operator, selector });
            }
        };
        Ok(Self {
            fields,
            path,
            is_negated,
            wanted,
        })
    }

    pub(super) fn holds(&self, entry: &Value) -> bool {
        self.holds_in(self.fields, entry, &self.path)
    }

    fn holds_in(&self, fields: Fields, entry: &Value, path: &[String]) -> bool {
        let Some((name, rest)) = path.split_first() else {
            return false;
        };
        let field = fields.iter().find(|(known, _)| known == name);
        // What an entry leaves out is nothing of its type.
        let value = entry.get(name).unwrap_or(&Value::Null);
        field.is_some_and(|(_, field)| self.holds_at(field, value, rest))
    }

    fn holds_at(&self, field: &Field, value: &Value, path: &[String]) -> bool {
        let Some((name, rest)) = path.split_first() else {
            return self.is_so(field, value) != self.is_negated;
        };
        match field {
            Field::Table(of) => match value.get(name) {
                Some(value) => self.holds_at(of, value, rest),
                // As Consul: what is not there matches every pattern, and none.
                None => self.is_negated || matches!(self.wanted, Wanted::Matches(_)),
            },
            Field::Object(fields) => self.holds_in(fields, value, path),
            Field::List(fields) => {
                let entries = value.as_array().into_iter().flatten();
                let mut entries = entries.map(|entry| self.holds_in(fields, entry, path));
                entries.any(|holds| holds)
            }
            Field::Text | Field::Number | Field::Truth | Field::Texts => false,
        }
    }

    fn is_so(&self, field: &Field, value: &Value) -> bool {
        let text = value.as_str().unwrap_or_default();
        match &self.wanted {
            Wanted::Text(wanted) => text == wanted,
            Wanted::Number(wanted) => value.as_i64().unwrap_or_default() == *wanted,
            Wanted::Truth(wanted) => value.as_bool().unwrap_or_default() == *wanted,
            Wanted::Contains(part) if *field == Field::Text => text.contains(part),
            Wanted::Contains(part) => match value {
                Value::Array(list) => list.iter().any(|entry| entry == part),
                table => table.get(part).is_some(),
            },
            Wanted::Empty => match value {
                Value::Array(list) => list.is_empty(),
                Value::Object(table) => table.is_empty(),
                _ => true,
            },
            Wanted::Matches(pattern) => pattern.0.is_match(text),
        }
    }
}

impl Pattern {
    fn new(pattern: String) -> Result<Self, FilterError> {
        let built = RegexBuilder::new(&pattern)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build();
        match built {
            Ok(regex) => Ok(Self(regex)),
            Err(reason) => Err(FilterError::BadPattern { pattern, reason }),
        }
    }
}

/// Two patterns of one text are equal.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

fn wrong_value(value: String, selector: String, wanted: &'static str) -> FilterError {
    FilterError::WrongValue {
        value,
        selector,
        wanted,
    }
}

/// A number as Go reads it when the digits may say their base: `80`, `0x50`, `0b1`, `0o7` and `07`.
fn number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // One sign is enough.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// What a compiled pattern may take, some hundred characters of it with classes of letters.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

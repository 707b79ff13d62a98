// SPDX-License-Identifier: MIT OR Apache-2.0
//! The expression of the parameter `filter`: which entries of a list are told.
//!
//! In: the text and the fields that the entries have. Out: a [`Filter`], or an error with the place; then for each entry
//! whether it is told. The language is that of Consul 1.22 (go-bexpr 0.1) with its operators for each type. Pure; bounded in
//! length, depth and what a pattern may take.

mod comparison;
mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod parse;
mod reader;

pub(super) use fields::{CHECK, Fields, HEALTH_ENTRY, NODE, SERVICE, SERVICE_ENTRY};

use comparison::Comparison;
use parse::Syntax;
use serde_json::Value;
use std::fmt;

/// An expression that fits the entries which it is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Filter {
    /// One of them holds.
    Or(Box<[Filter; 2]>),
    /// Both hold.
    And(Box<[Filter; 2]>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A field is so.
    Compare(Comparison),
}

/// Why an expression cannot be used, as far as it is known in Consul's words.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum FilterError {
    /// It is longer than it may be.
    #[error("the expression has {length} bytes and may have {FILTER_BYTES_MAX}")]
    TooLong { length: usize },
    /// Parentheses and negations, or conditions, stand in each other deeper than they may.
    #[error("{at}: more than {DEPTH_MAX} conditions, negations and parentheses within each other")]
    TooDeep { at: Place },
    /// Something else should stand there.
    #[error("{at}: no match found, expected: {expected}")]
    Unexpected { at: Place, expected: &'static str },
    /// What begins as a literal or a group does not end as one.
    #[error("{at}: {what}")]
    Unfinished { at: Place, what: &'static str },
    /// The entries have no such field.
    #[error("Selector {selector:?} is not valid")]
    NoField { selector: String },
    /// The field cannot be asked so.
    #[error("Invalid match operator {operator:?} for selector {selector:?}")]
    WrongOperator {
        operator: &'static str,
        selector: String,
    },
    /// The field is of another type than the value.
    #[error("Failed to coerce value {value:?} for selector {selector:?}: it is no {wanted}")]
    WrongValue {
        value: String,
        selector: String,
        wanted: &'static str,
    },
    /// The pattern is none, or would take too much.
    #[error("Failed to compile regular expression {pattern:?}")]
    BadPattern {
        pattern: String,
        #[source]
        reason: regex::Error,
    },
}

/// A place in an expression: line and column from 1, and the byte from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    line: usize,
    column: usize,
    byte: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({})", self.line, self.column, self.byte)
    }
}

impl Filter {
    /// The expression, for entries with these fields. Costs its length, and what its patterns take.
    pub(super) fn read(text: &str, fields: Fields) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLong { length: text.len() });
        }
        Self::of(parse::expression(text)?, fields)
    }

    fn of(syntax: Syntax, fields: Fields) -> Result<Self, FilterError> {
        let both = |sides: Box<[Syntax; 2]>| -> Result<_, FilterError> {
            let [left, right] = *sides;
            Ok(Box::new([
                Self::of(left, fields)?,
                Self::of(right, fields)?,
            ]))
        };
        Ok(match syntax {
            Syntax::Or(sides) => Self::Or(both(sides)?),
            Syntax::And(sides) => Self::And(both(sides)?),
            Syntax::Not(inner) => Self::Not(Box::new(Self::of(*inner, fields)?)),
            Syntax::Condition(condition) => Self::Compare(Comparison::new(condition, fields)?),
        })
    }

    /// Whether the entry is told. Costs the conditions, and for a pattern the length of what it is held against.
    pub(super) fn holds(&self, entry: &Value) -> bool {
        match self {
            Self::Or(sides) => sides.iter().any(|side| side.holds(entry)),
            Self::And(sides) => sides.iter().all(|side| side.holds(entry)),
            Self::Not(inner) => !inner.holds(entry),
            Self::Compare(comparison) => comparison.holds(entry),
        }
    }
}

/// A filter is written by hand, and a request's line has room for no more than twice as much in URL encoding.
const FILTER_BYTES_MAX: usize = 4_096;
/// Conditions that are joined are within each other, too: `a and b and c` is read as `a and (b and c)`.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests;

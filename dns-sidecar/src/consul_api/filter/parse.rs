// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the text of an expression to its syntax, whatever the fields are. Pure.
//!
//! ```text
//! or        = and ["or" or]
//! and       = not ["and" and]
//! not       = "not" not | "(" or ")" | condition
//! condition = selector ("==" | "!=" | ["not"] "contains" | ["not"] "matches") value
//!           | selector "is" ["not"] "empty"
//!           | value ["not"] "in" selector
//! selector  = word {"." word | "[" string "]"}
//! value     = selector | number | string
//! ```
//!
//! Words stand between blanks; nothing is reserved, so that what does not end as a negation may be a value called `not`.

use super::{DEPTH_MAX, FilterError, reader::Reader};

/// An expression as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Syntax {
    Or(Box<[Syntax; 2]>),
    And(Box<[Syntax; 2]>),
    Not(Box<Syntax>),
    Condition(Condition),
}

/// One comparison.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Condition {
    /// The field, from the outermost inwards; never empty.
    pub(super) path: Vec<String>,
    pub(super) operator: Operator,
    pub(super) is_negated: bool,
    /// Empty where the operator takes none.
    pub(super) value: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operator {
    Equal,
    Contains,
    Empty,
    Matches,
}

impl Operator {
    /// Consul's words for it.
    pub(super) fn words(self, is_negated: bool) -> &'static str {
        match (self, is_negated) {
            (Self::Equal, false) => "Equal",
            (Self::Equal, true) => "Not Equal",
            (Self::Contains, false) => "In",
            (Self::Contains, true) => "Not In",
            (Self::Empty, false) => "Is Empty",
            (Self::Empty, true) => "Is Not Empty",
            (Self::Matches, false) => "Matches",
            (Self::Matches, true) => "Not Matches",
        }
    }
}

/// Reads a whole expression.
pub(super) fn expression(text: &str) -> Result<Syntax, FilterError> {
    let mut reader = Reader::new(text);
    reader.blanks();
    let syntax = reader.or(0)?;
    reader.blanks();
    if reader.rest().is_empty() {
        Ok(syntax)
    } else {
        Err(reader.unexpected("\"and\", \"or\", [ \\t\\r\\n] or EOF"))
    }
}

/// What stands beside an operator.
enum Operand {
    Selector(Vec<String>),
    Literal(String),
}

impl Reader<'_> {
    fn or(&mut self, depth: usize) -> Result<Syntax, FilterError> {
        let left = self.and(depth)?;
        if !self.follows("or") {
            return Ok(left);
        }
        let right = self.or(self.deeper(depth)?)?;
        Ok(Syntax::Or(Box::new([left, right])))
    }

    fn and(&mut self, depth: usize) -> Result<Syntax, FilterError> {
        let left = self.not(depth)?;
        if !self.follows("and") {
            return Ok(left);
        }
        let right = self.and(self.deeper(depth)?)?;
        Ok(Syntax::And(Box::new([left, right])))
    }

    fn not(&mut self, depth: usize) -> Result<Syntax, FilterError> {
        let begin = self.at;
        if self.word("not") && self.blanks() {
            match self.not(self.deeper(depth)?) {
                Ok(negated) => return Ok(Syntax::Not(Box::new(negated))),
                Err(error @ FilterError::TooDeep { .. }) => return Err(error),
                // `not in Tags`: the value is called so.
                Err(error) => {
                    self.at = begin;
                    return self.condition().map_err(|_| error);
                }
            }
        }
        self.at = begin;
        if !self.take("(") {
            return self.condition();
        }
        self.blanks();
        let inner = self.or(self.deeper(depth)?)?;
        self.blanks();
        if self.take(")") {
            Ok(inner)
        } else {
            Err(self.unfinished("rule \"grouping\": Unmatched parentheses"))
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, FilterError> {
        if depth == DEPTH_MAX {
            return Err(FilterError::TooDeep { at: self.place() });
        }
        Ok(depth + 1)
    }

    fn condition(&mut self) -> Result<Syntax, FilterError> {
        let left = self.operand()?;
        let (operator, is_negated, is_reversed) = self.operator(&left)?;
        let (path, value) = match (left, operator) {
            (left, _) if is_reversed => (self.selector_of_in()?, left.into_value()),
            (Operand::Selector(path), Operator::Empty) => (path, String::new()),
            (Operand::Selector(path), _) => (path, self.operand()?.into_value()),
            (Operand::Literal(_), _) => return Err(self.unexpected("\"in\" or \"not\"")),
        };
        Ok(Syntax::Condition(Condition {
            path,
            operator,
            is_negated,
            value,
        }))
    }

    /// The operator, whether it is negated, and whether the value stood before it; blanks after it are read.
    fn operator(&mut self, left: &Operand) -> Result<(Operator, bool, bool), FilterError> {
        let is_apart = self.blanks();
        if matches!(left, Operand::Selector(_)) {
            for (sign, is_negated) in [("==", false), ("!=", true)] {
                if self.take(sign) {
                    self.blanks();
                    return Ok((Operator::Equal, is_negated, false));
                }
            }
        }
        if !is_apart {
            return Err(self.unexpected("\"!=\", \"==\" or [ \\t\\r\\n]"));
        }
        if self.word("is") {
            self.blank()?;
            let is_negated = self.word("not");
            if is_negated {
                self.blank()?;
            }
            if !self.word("empty") {
                return Err(self.unexpected("\"empty\", \"not\" or [ \\t\\r\\n]"));
            }
            return Ok((Operator::Empty, is_negated, false));
        }
        let is_negated = self.word("not");
        if is_negated {
            self.blank()?;
        }
        let known = [
            ("contains", Operator::Contains, false),
            ("matches", Operator::Matches, false),
            ("in", Operator::Contains, true),
        ];
        for (word, operator, is_reversed) in known {
            if self.word(word) {
                self.blank()?;
                return Ok((operator, is_negated, is_reversed));
            }
        }
        Err(self.unexpected(
            "\"!=\", \"==\", \"contains\", \"in\", \"is\", \"matches\", \"not\" or [ \\t\\r\\n]",
        ))
    }

    fn operand(&mut self) -> Result<Operand, FilterError> {
        match self.rest().as_bytes() {
            [b'a'..=b'z' | b'A'..=b'Z', ..] => self.selector().map(Operand::Selector),
            [b'-' | b'0'..=b'9', ..] => self.number().map(Operand::Literal),
            [b'"' | b'`', ..] => self.string().map(Operand::Literal),
            _ => Err(self.unexpected(
                "\"(\", \"-\", \"0\", \"\\\"\", \"`\", \"not\", [ \\t\\r\\n], [1-9] or [a-zA-Z]",
            )),
        }
    }

    fn selector_of_in(&mut self) -> Result<Vec<String>, FilterError> {
        if self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) {
            self.selector()
        } else {
            Err(self.unfinished("rule \"match\": Invalid selector"))
        }
    }

    fn selector(&mut self) -> Result<Vec<String>, FilterError> {
        let mut path = vec![self.identifier()?];
        loop {
            if self.take(".") {
                path.push(self.identifier()?);
            } else if self.take("[") {
                self.blanks();
                if !self.rest().starts_with(['"', '`']) {
                    return Err(self.unfinished("rule \"index\": Invalid index"));
                }
                path.push(self.string()?);
                self.blanks();
                if !self.take("]") {
                    return Err(self.unfinished("rule \"index\": Unclosed index expression"));
                }
            } else {
                return Ok(path);
            }
        }
    }
}

impl Operand {
    fn into_value(self) -> String {
        match self {
            Self::Selector(path) => path.join("."),
            Self::Literal(text) => text,
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words, numbers and strings of an expression, and the place that is read. Pure.

use super::{FilterError, Place};

/// A text that is read from its beginning.
pub(super) struct Reader<'t> {
    text: &'t str,
    /// The byte that is read next.
    pub(super) at: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn identifier(&mut self) -> Result<String, FilterError> {
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(self.unexpected("[a-zA-Z]"));
        }
        let is_of_it = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = rest.find(|c| !is_of_it(c)).unwrap_or(rest.len());
        self.at += length;
        Ok(rest[..length].to_owned())
    }

    /// A number as it is written, which ends at a blank, a parenthesis or the end.
    pub(super) fn number(&mut self) -> Result<String, FilterError> {
        let begin = self.at;
        self.take("-");
        if !self.take("0") && self.digits() == 0 {
            return Err(self.unexpected("\"0\" or [1-9]"));
        }
        if self.rest().starts_with('.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.unexpected("[0-9]"));
            }
        }
        match self.rest().chars().next() {
            None | Some(' ' | '\t' | '\r' | '\n' | ')') => Ok(self.text[begin..self.at].to_owned()),
            Some(_) => Err(self.unfinished("rule \"number\": Invalid number literal")),
        }
    }

    fn digits(&mut self) -> usize {
        let rest = self.rest();
        let count = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        self.at += count;
        count
    }

    /// A string in backticks as it stands, or one in quotes with the escapes of Go.
    pub(super) fn string(&mut self) -> Result<String, FilterError> {
        let rest = self.rest();
        let quote = if rest.starts_with('`') { '`' } else { '"' };
        let begin = self.at;
        let Some(length) = rest[1..].find(quote) else {
            self.at = self.text.len();
            return Err(self.unfinished("rule \"string\": Unterminated string literal"));
        };
        let inner = &rest[1..=length];
        let unquoted = if quote == '`' {
            // Go leaves carriage returns out.
            Some(inner.replace('\r', ""))
        } else {
            unescape(inner)
        };
        let Some(unquoted) = unquoted else {
            self.at = begin;
            return Err(self.unfinished("rule \"string\": invalid syntax"));
        };
        self.at = begin + length + 2;
        Ok(unquoted)
    }

    /// Whether the word follows between blanks; read with them if so.
    pub(super) fn follows(&mut self, word: &str) -> bool {
        let begin = self.at;
        if self.blanks() && self.word(word) && self.blanks() {
            return true;
        }
        self.at = begin;
        false
    }

    /// A word that nothing of a word follows.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let Some(after) = self.rest().strip_prefix(word) else {
            return false;
        };
        let is_whole = !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if is_whole {
            self.at += word.len();
        }
        is_whole
    }

    pub(super) fn take(&mut self, token: &str) -> bool {
        let is_there = self.rest().starts_with(token);
        self.at += if is_there { token.len() } else { 0 };
        is_there
    }

    /// Blanks, of which there has to be one.
    pub(super) fn blank(&mut self) -> Result<(), FilterError> {
        if self.blanks() {
            Ok(())
        } else {
            Err(self.unexpected("[ \\t\\r\\n]"))
        }
    }

    pub(super) fn blanks(&mut self) -> bool {
        let rest = self.rest();
        let after = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.at += rest.len() - after.len();
        rest.len() > after.len()
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn place(&self) -> Place {
        let before = &self.text[..self.at];
        let line = before.rsplit('\n').next().unwrap_or_default();
        Place {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            byte: self.at,
        }
    }

    pub(super) fn unexpected(&self, expected: &'static str) -> FilterError {
        let at = self.place();
        FilterError::Unexpected { at, expected }
    }

    pub(super) fn unfinished(&self, what: &'static str) -> FilterError {
        let at = self.place();
        FilterError::Unfinished { at, what }
    }
}

/// What Go's `strconv.Unquote` makes of the text between double quotes; none when an escape is none, or the text no UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '\n' {
            return None;
        }
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let kind = rest.chars().next()?;
        let (taken, radix) = match kind {
            'x' => (1..3, 16),
            'u' => (1..5, 16),
            'U' => (1..9, 16),
            '0'..='7' => (0..3, 8),
            _ => {
                let known = "abfnrtv\\".find(kind)?;
                bytes.push(b"\x07\x08\x0c\n\r\t\x0b\\"[known]);
                rest = &rest[1..];
                continue;
            }
        };
        let digits = rest.get(taken.clone())?;
        let is_digits = digits.chars().all(|c| c.is_digit(radix));
        let number = u32::from_str_radix(digits, radix)
            .ok()
            .filter(|_| is_digits)?;
        match kind {
            'u' | 'U' => {
                let c = char::from_u32(number)?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => bytes.push(u8::try_from(number).ok()?),
        }
        rest = &rest[taken.end..];
    }
    String::from_utf8(bytes).ok()
}

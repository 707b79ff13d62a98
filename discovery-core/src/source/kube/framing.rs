// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cuts a stream of bytes into lines, none longer than a limit. Pure: no I/O, no clock.

use bytes::{Buf, Bytes, BytesMut};

/// The bytes of a stream that have not made a whole line yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
}

/// A line grew beyond [`LINE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooLong;

impl Lines {
    /// Adds what arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end; empty lines are passed over.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        while let Some(end) = self.find_end() {
            let line = self.buffer.split_to(end).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if line.len() > LINE_BYTES_MAX {
                return Err(TooLong);
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(TooLong);
        }
        Ok(None)
    }

    fn find_end(&mut self) -> Option<usize> {
        let rest = &self.buffer[self.searched..];
        let end = memchr::memchr(b'\n', rest);
        let found = end.map(|end| self.searched + end);
        self.searched = self.buffer.len();
        found
    }
}

/// Five times the largest object that etcd takes (1.5 MiB), as JSON.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<Bytes> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk);
            while let Some(line) = lines.next().unwrap() {
                found.push(line);
            }
        }
        found
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        let text = b"first\n\nsecond\r\n{\"third\":1}\nrest";
        let whole = lines_of(&[text]);
        assert_eq!(
            whole,
            [&b"first"[..], &b"second\r"[..], &b"{\"third\":1}"[..]]
        );
        for size in 1..text.len() {
            let chunks: Vec<_> = text.chunks(size).collect();
            assert_eq!(lines_of(&chunks), whole, "in chunks of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_refused_at_the_limit() {
        let (mut lines, chunk) = (Lines::default(), vec![b'x'; 64 * 1024]);
        let mut pushed = 0;
        while lines.next() == Ok(None) {
            lines.push(&chunk);
            pushed += chunk.len();
        }
        assert!(pushed <= LINE_BYTES_MAX + chunk.len());
    }

    #[test]
    fn a_line_of_the_limit_passes() {
        let mut line = vec![b'x'; LINE_BYTES_MAX];
        line.push(b'\n');
        assert_eq!(lines_of(&[&line])[0].len(), LINE_BYTES_MAX);
    }
}

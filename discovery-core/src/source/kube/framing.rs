// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cuts a stream of bytes into lines, none longer than a limit. Pure: no I/O, no clock.

/// The bytes of a stream that have not made a whole line yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the first line begins that was not given yet.
    start: usize,
    /// Up to where no line end is.
    searched: usize,
}

/// A line grew beyond [`LINE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooLong;

impl Lines {
    /// Adds what arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.is_empty() {
            // Reused for lines of ordinary length, and given back after a giant.
            self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end; empty lines are passed over.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        while let Some(length) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
            let end = self.searched + length;
            let line = self.start..end;
            self.start = end + 1;
            self.searched = self.start;
            if line.len() > LINE_BYTES_MAX {
                return Err(TooLong);
            }
            if !self.buffer[line.clone()].trim_ascii().is_empty() {
                return Ok(Some(&self.buffer[line]));
            }
        }
        self.searched = self.buffer.len();
        if self.buffer.len() - self.start > LINE_BYTES_MAX {
            return Err(TooLong);
        }
        Ok(None)
    }
}

/// Five times the largest object that etcd takes (1.5 MiB), as JSON.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A full slice has 50 KB.
const BUFFER_BYTES_KEPT: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk);
            while let Some(line) = lines.next().unwrap() {
                found.push(line.to_vec());
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

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decodes a stream of gzip members (RFC 1952). Pure: no I/O.
//!
//! Lists come as one member; servers from 1.37 on send each event of a watch as a member of its own, which decoders that
//! stop at the first member lose. What is decoded is handed out in pieces of a fixed size, whatever the ratio: a body
//! made to explode costs no more memory than any other.

use flate2::{Decompress, FlushDecompress, Status};
use std::fmt;

/// The decoder; about 80 KiB.
pub(super) struct Gunzip {
    stage: Stage,
    inflate: Decompress,
    checksum: crc32fast::Hasher,
    size: u32,
}

/// What of a member comes next.
#[derive(Debug)]
enum Stage {
    Header(Vec<u8>),
    Data,
    Trailer(Vec<u8>),
}

/// The bytes are no gzip, or were damaged on their way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Corrupt;

impl Default for Gunzip {
    fn default() -> Self {
        Self {
            stage: Stage::Header(Vec::new()),
            inflate: Decompress::new(false),
            checksum: crc32fast::Hasher::new(),
            size: 0,
        }
    }
}

impl Gunzip {
    /// Decodes from `input` until it is used up or `PIECE_BYTES` were added to `out`; how much of `input` was used.
    pub(super) fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Corrupt> {
        let (mut used, limit) = (0, out.len() + PIECE_BYTES);
        while out.len() < limit {
            let rest = &input[used..];
            used += match &mut self.stage {
                Stage::Data => {
                    let filled = out.len();
                    let taken = self.inflate(rest, out, limit)?;
                    let is_stuck = taken == 0 && out.len() == filled;
                    if is_stuck && matches!(self.stage, Stage::Data) {
                        break;
                    }
                    taken
                }
                _ if rest.is_empty() => break,
                Stage::Header(header) => {
                    let (taken, is_whole) = header_end(header, rest)?;
                    if is_whole {
                        self.begin_data();
                    }
                    taken
                }
                Stage::Trailer(trailer) => {
                    let taken = rest.len().min(TRAILER_BYTES - trailer.len());
                    trailer.extend_from_slice(&rest[..taken]);
                    if trailer.len() == TRAILER_BYTES {
                        self.check_trailer()?;
                    }
                    taken
                }
            };
        }
        Ok(used)
    }

    /// Whether the stream may end here: between two members.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.stage, Stage::Header(header) if header.is_empty())
    }

    fn begin_data(&mut self) {
        self.inflate.reset(false);
        self.checksum = crc32fast::Hasher::new();
        self.size = 0;
        self.stage = Stage::Data;
    }

    fn inflate(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<usize, Corrupt> {
        let start = out.len();
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        out.resize(limit, 0);
        let status = self
            .inflate
            .decompress(input, &mut out[start..], FlushDecompress::None);
        let written = usize::try_from(self.inflate.total_out() - written).unwrap_or_default();
        out.truncate(start + written);
        let piece = &out[start..];
        self.checksum.update(piece);
        // RFC 1952 2.3.1: the size is told modulo 2^32.
        self.size = self
            .size
            .wrapping_add(u32::try_from(piece.len()).unwrap_or_default());
        match status {
            Ok(Status::StreamEnd) => self.stage = Stage::Trailer(Vec::with_capacity(TRAILER_BYTES)),
            Ok(Status::Ok | Status::BufError) => {}
            Err(_) => return Err(Corrupt),
        }
        Ok(usize::try_from(self.inflate.total_in() - read).unwrap_or_default())
    }

    fn check_trailer(&mut self) -> Result<(), Corrupt> {
        let Stage::Trailer(trailer) = &self.stage else {
            return Ok(());
        };
        let mut expected = self.checksum.clone().finalize().to_le_bytes().to_vec();
        expected.extend(self.size.to_le_bytes());
        if *trailer != expected {
            return Err(Corrupt);
        }
        self.stage = Stage::Header(Vec::new());
        Ok(())
    }
}

impl fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gunzip")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// Adds to the header byte by byte; how many were taken, and whether the header ends with them.
fn header_end(header: &mut Vec<u8>, input: &[u8]) -> Result<(usize, bool), Corrupt> {
    for (position, byte) in input.iter().enumerate() {
        header.push(*byte);
        if is_whole_header(header)? {
            return Ok((position + 1, true));
        }
        if header.len() > HEADER_BYTES_MAX {
            return Err(Corrupt);
        }
    }
    Ok((input.len(), false))
}

/// RFC 1952 2.3: ten bytes, and after them what the flags announce.
fn is_whole_header(header: &[u8]) -> Result<bool, Corrupt> {
    const FIXED: usize = 10;
    let begins = [0x1f, 0x8b, 8];
    if header
        .iter()
        .zip(begins)
        .any(|(byte, expected)| *byte != expected)
    {
        return Err(Corrupt);
    }
    let Some(rest) = header.get(FIXED..) else {
        return Ok(false);
    };
    let flags = header[3];
    let mut at = 0;
    if flags & FLAG_EXTRA != 0 {
        let Some([low, high]) = rest.get(..2) else {
            return Ok(false);
        };
        at = 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            let text = rest.get(at..).unwrap_or_default();
            match text.iter().position(|byte| *byte == 0) {
                Some(end) => at += end + 1,
                None => return Ok(false),
            }
        }
    }
    if flags & FLAG_CHECKSUM != 0 {
        at += 2;
    }
    Ok(rest.len() >= at)
}

/// RFC 1952 2.3.1: checksum and size.
const TRAILER_BYTES: usize = 8;
const FLAG_CHECKSUM: u8 = 2;
const FLAG_EXTRA: u8 = 4;
const FLAG_NAME: u8 = 8;
const FLAG_COMMENT: u8 = 16;
/// The largest extra field, and names that nobody writes.
const HEADER_BYTES_MAX: usize = 70_000;
/// Of what size decoded pieces are.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder, write::GzEncoder};
    use std::io::Write;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// What the decoder makes of the input in chunks of a size.
    fn decode(input: &[u8], size: usize) -> Result<(Vec<u8>, bool), Corrupt> {
        let (mut gunzip, mut all) = (Gunzip::default(), Vec::new());
        for chunk in input.chunks(size) {
            let mut rest = chunk;
            loop {
                let mut piece = Vec::new();
                let used = gunzip.decode(rest, &mut piece)?;
                assert!(piece.len() <= PIECE_BYTES);
                rest = &rest[used..];
                let is_full = piece.len() == PIECE_BYTES;
                all.extend(piece);
                if rest.is_empty() && !is_full {
                    break;
                }
            }
        }
        Ok((all, gunzip.is_whole()))
    }

    #[test]
    fn members_follow_each_other_however_they_arrive() {
        let input = [member(b"first\n"), member(b""), member(b"second\n")].concat();
        for size in 1..=input.len() {
            let decoded = decode(&input, size).unwrap();
            assert_eq!(
                decoded,
                (b"first\nsecond\n".to_vec(), true),
                "chunks of {size}"
            );
        }
    }

    #[test]
    fn every_header_field_is_passed_over() {
        let mut encoder = GzBuilder::new()
            .extra(vec![0; 300])
            .filename("a")
            .comment("b")
            .write(Vec::new(), Compression::fast());
        encoder.write_all(b"text").unwrap();
        let input = encoder.finish().unwrap();
        for size in [1, 7, input.len()] {
            assert_eq!(decode(&input, size).unwrap().0, b"text");
        }
    }

    #[test]
    fn an_explosion_comes_in_pieces() {
        let zeros = vec![0; 20 * 1024 * 1024];
        let input = member(&zeros);
        assert!(input.len() < 40_000);
        assert!(decode(&input, input.len()).unwrap().0 == zeros);
    }

    #[test]
    fn what_is_damaged_or_cut_is_found_out() {
        let input = member(b"some text that matters, some text that matters");
        for position in [0, 1, 2, input.len() - 1, input.len() - 5] {
            let mut damaged = input.clone();
            damaged[position] ^= 0x55;
            assert_eq!(decode(&damaged, 5), Err(Corrupt), "byte {position}");
        }
        for end in 1..input.len() {
            assert!(!decode(&input[..end], 3).unwrap().1, "cut at {end}");
        }
        assert_eq!(decode(b"{\"kind\":\"List\"}", 4), Err(Corrupt));
    }
}

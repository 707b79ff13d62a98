// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames of the agent's socket: cut out of bytes, and checked before anything looks inside. Pure.
//!
//! `ZA`, a byte for the version of this form, a byte for the kind, four bytes for the length of the payload and four for
//! its CRC-32, big-endian, then the payload. Nothing is reserved by what a length claims, only by what has arrived.

use bytes::{Buf, Bytes, BytesMut};

/// What a frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// From the client, first: who asks, and which versions it speaks.
    Open = 1,
    /// To the client, first: how the agent judges.
    Hello = 2,
    /// A transaction begins: a whole view, or changes of the one before.
    Begin = 3,
    /// An object as it is.
    Upsert = 4,
    /// An object that is gone.
    Remove = 5,
    /// The transaction is complete.
    End = 6,
    /// Nothing is new, and the agent lives.
    Beat = 7,
    /// The agent ends the connection, and says why.
    Bye = 8,
}

impl FrameKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Open,
        Self::Hello,
        Self::Begin,
        Self::Upsert,
        Self::Remove,
        Self::End,
        Self::Beat,
        Self::Bye,
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) payload: Bytes,
}

/// Why bytes are no frames. Nothing after it can be believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the bytes are no frame of an agent")]
    NoFrame,
    #[error("the frame has version {0}; version {VERSION} is read")]
    Version(u8),
    #[error("the frame is of an unknown kind {0}")]
    Kind(u8),
    #[error("the frame has {0} bytes, more than the {PAYLOAD_BYTES_MAX} that are read")]
    TooLarge(usize),
    #[error("the checksum of the frame does not fit")]
    Checksum,
}

/// Appends a frame. A payload over the limit is cut off by whoever reads it: see [`fits`].
pub(crate) fn put(into: &mut Vec<u8>, kind: FrameKind, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&[b'Z', b'A', VERSION, kind as u8]);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    into.extend_from_slice(payload);
}

/// Whether a payload of this size is read at the other end.
pub(crate) fn fits(payload: &[u8]) -> bool {
    payload.len() <= PAYLOAD_BYTES_MAX
}

/// Takes the first whole frame out of the buffer; none while more has to arrive.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    // What is here already may be refused before the rest has come.
    let known = buffer.len().min(MAGIC.len());
    if buffer[..known] != MAGIC[..known] {
        return Err(FrameError::NoFrame);
    }
    let Some((head, _)) = buffer.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let [_, _, version, kind, l0, l1, l2, l3, c0, c1, c2, c3] = *head;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let kind = FrameKind::of(kind).ok_or(FrameError::Kind(kind))?;
    let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if length > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLarge(length));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    let payload = buffer.split_to(length).freeze();
    if crc32fast::hash(&payload) != u32::from_be_bytes([c0, c1, c2, c3]) {
        return Err(FrameError::Checksum);
    }
    Ok(Some(Frame { kind, payload }))
}

const MAGIC: [u8; 2] = *b"ZA";
const VERSION: u8 = 1;
const HEAD: usize = 12;
/// An object in the API server has at most 1.5 MiB; ours say less of it.
const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(buffer: &mut BytesMut) -> Result<Vec<Frame>, FrameError> {
        std::iter::from_fn(|| take(buffer).transpose()).collect()
    }

    fn frames() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
        let frame = (
            0..FrameKind::ALL.len(),
            proptest::collection::vec(any::<u8>(), 0..200),
        );
        proptest::collection::vec(frame, 0..8)
    }

    proptest! {
        /// What was put comes out, however the bytes are cut.
        #[test]
        fn frames_survive_any_cut(frames in frames(), cut in 1_usize..64) {
            let mut bytes = Vec::new();
            for (kind, payload) in &frames {
                put(&mut bytes, FrameKind::ALL[*kind], payload);
            }
            let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
            for part in bytes.chunks(cut) {
                buffer.extend_from_slice(part);
                out.extend(all(&mut buffer).unwrap());
            }
            let put: Vec<_> = frames.into_iter().map(|(kind, payload)| Frame {
                kind: FrameKind::ALL[kind],
                payload: payload.into(),
            }).collect();
            prop_assert_eq!(out, put);
            prop_assert!(buffer.is_empty());
        }

        /// Any bytes are frames, an error or the beginning of more: never a panic, and never a frame that was not put.
        #[test]
        fn hostile_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), lead in any::<bool>()) {
            let mut buffer = BytesMut::new();
            if lead {
                buffer.extend_from_slice(b"ZA\x01");
            }
            buffer.extend_from_slice(&bytes);
            let before = buffer.len();
            if let Ok(frames) = all(&mut buffer) {
                let out: usize = frames.iter().map(|frame| HEAD + frame.payload.len()).sum();
                prop_assert_eq!(out + buffer.len(), before);
            }
        }

        /// One byte that is another one never goes unseen.
        #[test]
        fn a_damaged_frame_is_seen(payload in proptest::collection::vec(any::<u8>(), 1..100), at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut bytes = Vec::new();
            put(&mut bytes, FrameKind::Upsert, &payload);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let taken = take(&mut BytesMut::from(&bytes[..]));
            let same = Frame { kind: FrameKind::Upsert, payload: payload.into() };
            prop_assert!(taken != Ok(Some(same)) || at == 3, "{at}");
        }
    }

    #[test]
    fn a_length_is_refused_before_its_bytes_have_come() {
        let mut head = BytesMut::from(&b"ZA\x01\x04\xff\xff\xff\xff\x00\x00\x00\x00"[..]);
        assert_eq!(take(&mut head), Err(FrameError::TooLarge(0xffff_ffff)));
        assert_eq!(
            take(&mut BytesMut::from(&b"H"[..])),
            Err(FrameError::NoFrame)
        );
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The body of an answer, piece by piece: decompressed, counted as it came over the wire and as it reads.

use super::{
    failure::Failure,
    gunzip::{Gunzip, PIECE_BYTES},
    pace::Pace,
};
use crate::source::{FailureReason, error_chain};
use bytes::Bytes;
use http::{Response, header};
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::{Instant, timeout_at};

/// A body under way.
pub(super) struct Answer {
    body: Body,
    coding: Coding,
}

enum Coding {
    Plain,
    Gzip {
        decoder: Box<Gunzip>,
        /// What arrived and was not decoded yet.
        input: Bytes,
        /// Whether the decoder may hold more without more input.
        has_more: bool,
    },
}

/// What [`Answer::next`] found.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Decoded bytes; may be empty while a compressed member is under way.
    pub(super) bytes: Bytes,
    /// How many bytes were taken off the wire for it.
    pub(super) wire_bytes: usize,
}

impl Answer {
    /// Reads the body of a response.
    pub(super) fn new(response: Response<Body>) -> Result<Self, Failure> {
        let encoding = response.headers().get(header::CONTENT_ENCODING);
        let coding = match encoding.map(|value| value.to_str().unwrap_or_default()) {
            None | Some("" | "identity") => Coding::Plain,
            Some("gzip" | "x-gzip") => Coding::Gzip {
                decoder: Box::default(),
                input: Bytes::new(),
                has_more: false,
            },
            Some(other) => {
                let text = format!("the answer has content encoding {other:?}, asked was gzip");
                return Err(Failure::new(FailureReason::Undecodable, text));
            }
        };
        Ok(Self {
            body: response.into_body(),
            coding,
        })
    }

    /// The next piece; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        if let Some(bytes) = self.decode()? {
            return Ok(Some(Piece {
                bytes,
                wire_bytes: 0,
            }));
        }
        let Some(frame) = next_frame(&mut self.body).await? else {
            return self.end();
        };
        let wire_bytes = frame.len();
        let bytes = match &mut self.coding {
            Coding::Plain => frame,
            Coding::Gzip { input, .. } => {
                *input = frame;
                self.decode()?.unwrap_or_default()
            }
        };
        Ok(Some(Piece { bytes, wire_bytes }))
    }

    /// What the decoder can give without reading on.
    fn decode(&mut self) -> Result<Option<Bytes>, Failure> {
        let Coding::Gzip {
            decoder,
            input,
            has_more,
        } = &mut self.coding
        else {
            return Ok(None);
        };
        if input.is_empty() && !*has_more {
            return Ok(None);
        }
        let mut piece = Vec::new();
        let used = decoder.decode(input, &mut piece).map_err(|_| corrupt())?;
        let _ = input.split_to(used);
        *has_more = piece.len() == PIECE_BYTES;
        Ok((!piece.is_empty()).then(|| piece.into()))
    }

    fn end(&self) -> Result<Option<Piece>, Failure> {
        match &self.coding {
            Coding::Gzip { decoder, .. } if !decoder.is_whole() => {
                let text = "the compressed answer ends early";
                Err(Failure::new(FailureReason::Truncated, text))
            }
            _ => Ok(None),
        }
    }

    /// Reads to the end: at most `limit` bytes, not slower than [`Pace`] allows, not beyond `deadline`.
    ///
    /// `seen` is told about each piece: bytes on the wire, bytes as they read.
    pub(super) async fn read(
        self,
        limit: usize,
        deadline: Instant,
        mut seen: impl FnMut(usize, usize),
    ) -> Result<Vec<u8>, Failure> {
        let (mut bytes, mut pieces) = (Vec::new(), self.pieces(limit, deadline));
        while let Some(piece) = pieces.next().await? {
            seen(piece.wire_bytes, piece.bytes.len());
            bytes.extend_from_slice(&piece.bytes);
        }
        Ok(bytes)
    }

    /// The same, piece by piece.
    pub(super) fn pieces(self, limit: usize, deadline: Instant) -> Pieces {
        Pieces {
            answer: self,
            limit,
            deadline,
            pace: Pace::new(Instant::now().into_std()),
            total: 0,
        }
    }
}

/// A body that has to end, and to come fast enough.
pub(super) struct Pieces {
    answer: Answer,
    limit: usize,
    deadline: Instant,
    pace: Pace,
    total: usize,
}

impl Pieces {
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        let until = Instant::from_std(self.pace.deadline()).min(self.deadline);
        let piece = timeout_at(until, self.answer.next())
            .await
            .map_err(|_| too_slow())??;
        let Some(piece) = piece else {
            return Ok(None);
        };
        self.pace
            .arrived(Instant::now().into_std(), piece.wire_bytes);
        self.total += piece.bytes.len();
        if self.total > self.limit {
            let text = format!("the answer is larger than {} bytes", self.limit);
            return Err(Failure::new(FailureReason::TooLarge, text));
        }
        Ok(Some(piece))
    }
}

async fn next_frame(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => {
                let text = error_chain(&error);
                return Err(Failure::new(FailureReason::Connection, text));
            }
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

fn too_slow() -> Failure {
    Failure::new(FailureReason::TooSlow, "the answer came to a halt")
}

fn corrupt() -> Failure {
    let text = "the compressed answer is damaged";
    Failure::new(FailureReason::Undecodable, text)
}

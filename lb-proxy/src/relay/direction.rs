// SPDX-License-Identifier: MIT OR Apache-2.0
//! One direction of a connection: copies what is there, and once that is bulk moves it through a pipe instead.
//!
//! ```text
//! COPY ──two full reads, a pipe is to be had──► SPLICE ──source dry, pipe empty──► COPY
//!  any ──the sink refuses──► owes bytes, does not read ──all written──► goes on
//! ```
//! In: a source, a sink, a buffer that others use too, pipes. Out: whether the source has ended, or which of the two broke.
//! While the sink owes room the source is not read: that is the back pressure, and at most one buffer or one pipe is owned.
//! While nothing moves nothing is owned. It knows no socket and no clock.

use super::wire::{Lender, Sink, Source};
use bytes::{Buf, Bytes};
use std::{
    io, mem,
    task::{Context, Poll, ready},
};

/// What one direction owns and has done.
#[derive(Debug)]
pub(super) struct Direction<P> {
    lane: Lane<P>,
    /// Whether the source said that nothing more comes.
    source_ended: bool,
    bytes: u64,
    spliced: u64,
}

#[derive(Debug)]
enum Lane<P> {
    Copy {
        /// What was read and the sink has not taken.
        left: Bytes,
        /// Reads in a row that filled the buffer.
        full_reads: u8,
    },
    Splice {
        pipe: P,
        /// Bytes in the pipe.
        held: usize,
    },
}

impl<P> Default for Lane<P> {
    fn default() -> Self {
        Self::Copy {
            left: Bytes::new(),
            full_reads: 0,
        }
    }
}

impl<P> Default for Direction<P> {
    fn default() -> Self {
        Self {
            lane: Lane::default(),
            source_ended: false,
            bytes: 0,
            spliced: 0,
        }
    }
}

/// Which end of a direction failed.
#[derive(Debug)]
pub(super) enum Broken {
    /// The one that is read; all that was read from it is written.
    Source(io::Error),
    /// The one that is written.
    Sink(io::Error),
}

impl<P> Direction<P> {
    /// A direction whose sink is sent these bytes before those of the source.
    pub(super) fn beginning_with(left: Bytes) -> Self {
        Self {
            lane: Lane::Copy {
                left,
                full_reads: 0,
            },
            ..Self::default()
        }
    }

    /// Moves bytes until the source has ended and all is written; pending while either end keeps it waiting.
    ///
    /// After a full buffer or pipe it lets other tasks run, so that a bulk transfer does not delay them.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &impl Source<P>,
        sink: &impl Sink<P>,
        buffer: &mut [u8],
        pipes: &impl Lender<P>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            ready!(self.poll_flush(cx, sink)).map_err(Broken::Sink)?;
            if self.source_ended {
                self.leave_pipe(pipes);
                return Poll::Ready(Ok(()));
            }
            let is_bulk = match self.lane {
                Lane::Copy { .. } => {
                    let is_full = ready!(self.poll_copy(cx, source, sink, buffer))?;
                    self.change_lane(is_full, pipes);
                    is_full
                }
                Lane::Splice { .. } => match self.poll_splice(cx, source) {
                    Poll::Ready(moved) => moved?,
                    Poll::Pending => {
                        self.leave_pipe(pipes);
                        return Poll::Pending;
                    }
                },
            };
            if is_bulk {
                ready!(self.poll_flush(cx, sink)).map_err(Broken::Sink)?;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// The bytes that the sink took so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Those of them that went through a pipe.
    pub(super) fn spliced(&self) -> u64 {
        self.spliced
    }

    /// Whether the source is not read now, since it has ended or the sink owes room.
    pub(super) fn is_not_reading(&self) -> bool {
        self.source_ended || self.owed() > 0
    }

    /// Bytes that were read and the sink has not taken.
    pub(super) fn owed(&self) -> usize {
        match &self.lane {
            Lane::Copy { left, .. } => left.len(),
            Lane::Splice { held, .. } => *held,
        }
    }

    /// Writes what the sink takes of what is owed, whatever readiness says; how much that was.
    pub(super) fn push(&mut self, sink: &impl Sink<P>) -> io::Result<usize> {
        let pushed = match &self.lane {
            Lane::Copy { left, .. } => sink.write_now(left),
            Lane::Splice { pipe, held } => sink.drain_now(pipe, *held),
        };
        let pushed = none_if_full(pushed)?;
        self.bytes += pushed as u64;
        match &mut self.lane {
            Lane::Copy { left, .. } => left.advance(pushed.min(left.len())),
            Lane::Splice { held, .. } => {
                *held -= pushed.min(*held);
                self.spliced += pushed as u64;
            }
        }
        Ok(pushed)
    }

    /// Reads once and writes at once; whether the read filled the buffer.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        source: &impl Source<P>,
        sink: &impl Sink<P>,
        buffer: &mut [u8],
    ) -> Poll<Result<bool, Broken>> {
        let read = ready!(source.poll_read(cx, buffer)).map_err(Broken::Source)?;
        self.source_ended = read == 0;
        let taken = write(cx, sink, &buffer[..read], self.bytes == 0).map_err(Broken::Sink)?;
        self.bytes += taken as u64;
        if let Lane::Copy { left, .. } = &mut self.lane {
            *left = Bytes::copy_from_slice(&buffer[taken..read]);
        }
        Poll::Ready(Ok(read == buffer.len()))
    }

    /// Takes a pipe after the second full read in a row whose bytes are all written.
    fn change_lane(&mut self, is_full: bool, pipes: &impl Lender<P>) {
        let Lane::Copy { left, full_reads } = &mut self.lane else {
            return;
        };
        *full_reads = if is_full {
            full_reads.saturating_add(1)
        } else {
            0
        };
        if *full_reads >= FULL_READS && left.is_empty() {
            *full_reads = 0;
            if let Some(pipe) = pipes.take() {
                self.lane = Lane::Splice { pipe, held: 0 };
            }
        }
    }

    /// Fills the pipe once, which is empty: so Pending means that the source is dry, and nothing else.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        source: &impl Source<P>,
    ) -> Poll<Result<bool, Broken>> {
        let Lane::Splice { pipe, held } = &mut self.lane else {
            return Poll::Ready(Ok(false));
        };
        *held = ready!(source.poll_fill(cx, pipe)).map_err(Broken::Source)?;
        self.source_ended = *held == 0;
        Poll::Ready(Ok(!self.source_ended))
    }

    /// Gives the pipe back when it is empty.
    fn leave_pipe(&mut self, pipes: &impl Lender<P>) {
        if let Lane::Splice { pipe, held: 0 } = mem::take(&mut self.lane) {
            pipes.give_back(pipe);
        }
    }

    /// Writes what is owed; pending means that the sink will wake the task.
    fn poll_flush(&mut self, cx: &mut Context<'_>, sink: &impl Sink<P>) -> Poll<io::Result<()>> {
        match &mut self.lane {
            Lane::Copy { left, .. } if left.is_empty() => {}
            Lane::Copy { left, .. } => {
                let taken = write(cx, sink, left, self.bytes == 0)?;
                self.bytes += taken as u64;
                left.advance(taken);
            }
            Lane::Splice { pipe, held } => {
                while *held > 0 {
                    let moved = ready!(sink.poll_drain(cx, pipe, *held))?;
                    *held -= moved.min(*held);
                    self.bytes += moved as u64;
                    self.spliced += moved as u64;
                }
            }
        }
        if self.owed() > 0 {
            return Poll::Pending;
        }
        if let Lane::Copy { left, .. } = &mut self.lane {
            // Its memory goes back at once.
            *left = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes as much as the sink takes, and says how much; less than all means that it has no room and will wake the task.
///
/// Of the first bytes of all the runtime may not have heard yet that a new socket has room for them, which would look like a peer
/// that takes nothing.
fn write<P>(
    cx: &mut Context<'_>,
    sink: &impl Sink<P>,
    bytes: &[u8],
    are_first: bool,
) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match sink.poll_write(cx, &bytes[taken..]) {
            Poll::Ready(written) => taken += written?,
            Poll::Pending if are_first && taken == 0 => {
                return none_if_full(sink.write_now(bytes));
            }
            Poll::Pending => break,
        }
    }
    Ok(taken)
}

fn none_if_full(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

/// Request and answer traffic rarely fills a buffer twice in a row.
const FULL_READS: u8 = 2;

#[cfg(test)]
mod tests;

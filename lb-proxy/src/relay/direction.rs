// SPDX-License-Identifier: MIT OR Apache-2.0
//! One direction of a connection: read what is there, write it at once, keep only what the sink refused.
//!
//! In: a source, a sink and a buffer that others use too. Out: whether the source has ended, or which of the two broke.
//! While the sink owes room the source is not read: that is the back pressure, and at most one buffer is owned. It knows no
//! socket and no clock.

use super::wire::{Sink, Source};
use bytes::{Buf, Bytes};
use std::{
    io,
    task::{Context, Poll, ready},
};

/// What one direction owns and has done.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// What was read and the sink has not taken.
    left: Bytes,
    /// Whether the source said that nothing more comes.
    source_ended: bool,
    bytes: u64,
}

/// Which end of a direction failed.
#[derive(Debug)]
pub(super) enum Broken {
    /// The one that is read; all that was read from it is written.
    Source(io::Error),
    /// The one that is written.
    Sink(io::Error),
}

impl Direction {
    /// Moves bytes until the source has ended and all is written; pending while either end keeps it waiting.
    ///
    /// After a full buffer it lets other tasks run, so that a bulk transfer does not delay them.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &impl Source,
        sink: &impl Sink,
        buffer: &mut [u8],
    ) -> Poll<Result<(), Broken>> {
        loop {
            ready!(self.poll_flush(cx, sink)).map_err(Broken::Sink)?;
            if self.source_ended {
                return Poll::Ready(Ok(()));
            }
            let read = ready!(source.poll_read(cx, buffer)).map_err(Broken::Source)?;
            self.source_ended = read == 0;
            let taken = self
                .write(cx, sink, &buffer[..read])
                .map_err(Broken::Sink)?;
            self.left = Bytes::copy_from_slice(&buffer[taken..read]);
            if read == buffer.len() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// The bytes that the sink took so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the source is not read now, since it has ended or the sink owes room.
    pub(super) fn is_not_reading(&self) -> bool {
        self.source_ended || !self.left.is_empty()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, sink: &impl Sink) -> Poll<io::Result<()>> {
        let left = std::mem::take(&mut self.left);
        let taken = self.write(cx, sink, &left)?;
        self.left = left.slice(taken..);
        if self.left.has_remaining() {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes as much as the sink takes, and says how much; less than all means that it will wake the task.
    fn write(&mut self, cx: &mut Context<'_>, sink: &impl Sink, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match sink.poll_write(cx, &bytes[taken..]) {
                Poll::Ready(written) => taken += written?,
                Poll::Pending => break,
            }
        }
        self.bytes += taken as u64;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{cell::RefCell, collections::VecDeque, task::Waker};

    /// A source and a sink that do what a script says, and say Pending where it says nothing.
    #[derive(Default)]
    struct Script {
        reads: RefCell<VecDeque<io::Result<Vec<u8>>>>,
        /// Room in the sink, one entry per call.
        room: RefCell<VecDeque<io::Result<usize>>>,
        taken: RefCell<Vec<u8>>,
    }

    impl Source for Script {
        fn poll_read(&self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            match self.reads.borrow_mut().pop_front() {
                Some(Ok(bytes)) => {
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    Poll::Ready(Ok(bytes.len()))
                }
                Some(Err(error)) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            }
        }
    }

    impl Sink for Script {
        fn poll_write(&self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            match self.room.borrow_mut().pop_front() {
                Some(Ok(room)) => {
                    let written = room.min(bytes.len());
                    self.taken.borrow_mut().extend(&bytes[..written]);
                    Poll::Ready(Ok(written))
                }
                Some(Err(error)) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            }
        }

        fn finish(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn script(reads: &[&[u8]], room: &[usize]) -> Script {
        Script {
            reads: RefCell::new(reads.iter().map(|bytes| Ok(bytes.to_vec())).collect()),
            room: RefCell::new(room.iter().map(|room| Ok(*room)).collect()),
            taken: RefCell::default(),
        }
    }

    fn poll(direction: &mut Direction, script: &Script) -> Poll<Result<(), Broken>> {
        let mut cx = Context::from_waker(Waker::noop());
        direction.poll(&mut cx, script, script, &mut [0; 16])
    }

    fn reset() -> io::Error {
        io::ErrorKind::ConnectionReset.into()
    }

    #[test]
    fn what_the_sink_refuses_is_kept_and_the_source_is_not_read_meanwhile() {
        let script = script(&[b"hello", b"world"], &[2]);
        let mut direction = Direction::default();
        assert!(poll(&mut direction, &script).is_pending());
        assert!(direction.is_not_reading());
        assert!(poll(&mut direction, &script).is_pending());
        assert_eq!(
            script.reads.borrow().len(),
            1,
            "the second read waits for room"
        );
        assert_eq!((direction.bytes(), &direction.left[..]), (2, &b"llo"[..]));
        script.room.borrow_mut().extend([Ok(3), Ok(5)]);
        assert!(poll(&mut direction, &script).is_pending());
        assert_eq!(*script.taken.borrow(), b"helloworld");
        assert!(!direction.is_not_reading() && direction.left.is_empty());
    }

    #[test]
    fn the_end_is_told_only_after_all_is_written() {
        let script = script(&[b"bye", b""], &[1]);
        let mut direction = Direction::default();
        assert!(poll(&mut direction, &script).is_pending());
        assert!(poll(&mut direction, &script).is_pending());
        script.room.borrow_mut().push_back(Ok(9));
        assert!(matches!(poll(&mut direction, &script), Poll::Ready(Ok(()))));
        assert_eq!(*script.taken.borrow(), b"bye");
    }

    #[test]
    fn a_reset_of_the_source_comes_after_its_last_bytes() {
        let script = script(&[b"last"], &[9]);
        script.reads.borrow_mut().push_back(Err(reset()));
        let mut direction = Direction::default();
        let ended = poll(&mut direction, &script);
        assert!(matches!(ended, Poll::Ready(Err(Broken::Source(_)))));
        assert_eq!(*script.taken.borrow(), b"last");
    }

    #[test]
    fn a_reset_of_the_sink_is_told_as_such() {
        let script = script(&[b"more"], &[]);
        script.room.borrow_mut().push_back(Err(reset()));
        let ended = poll(&mut Direction::default(), &script);
        assert!(matches!(ended, Poll::Ready(Err(Broken::Sink(_)))));
    }

    #[test]
    fn after_a_full_buffer_others_may_run() {
        let script = script(&[&[7; 16], b"rest"], &[16, 16]);
        let mut direction = Direction::default();
        assert!(poll(&mut direction, &script).is_pending());
        assert_eq!(direction.bytes(), 16);
        assert!(poll(&mut direction, &script).is_pending());
        assert_eq!(direction.bytes(), 20);
    }

    proptest! {
        /// Bytes arrive unchanged and in order, whatever is read at once and whatever the sink takes.
        #[test]
        fn bytes_arrive_in_order(
            reads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..17), 0..40),
            room in proptest::collection::vec(1_usize..20, 0..400),
        ) {
            let sent: Vec<u8> = reads.concat();
            let script = Script::default();
            script.reads.borrow_mut().extend(reads.into_iter().chain([vec![]]).map(Ok));
            let mut direction = Direction::default();
            // One write per poll, then whatever is left: the sink is full after each.
            for room in room.into_iter().chain(std::iter::repeat(20)) {
                script.room.borrow_mut().push_back(Ok(room));
                prop_assert!(direction.left.len() <= 16);
                if poll(&mut direction, &script).is_ready() {
                    break;
                }
            }
            prop_assert_eq!(direction.bytes(), sent.len() as u64);
            prop_assert_eq!(&*script.taken.borrow(), &sent);
        }
    }
}

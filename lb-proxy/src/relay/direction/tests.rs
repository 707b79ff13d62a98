// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a direction moves, keeps and gives back, over scripted ends.

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
    /// That nobody has heard of the room yet.
    is_unheard: bool,
}

/// A pipe of 40 bytes.
type Pipe = RefCell<VecDeque<u8>>;

impl Script {
    fn next(&self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut reads = self.reads.borrow_mut();
        match reads.pop_front() {
            Some(Ok(mut bytes)) => {
                let rest = bytes.split_off(buffer.len().min(bytes.len()));
                if !rest.is_empty() {
                    reads.push_front(Ok(rest));
                }
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

impl Source<Pipe> for Script {
    fn poll_read(&self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.next(buffer)
    }

    fn poll_fill(&self, _: &mut Context<'_>, pipe: &Pipe) -> Poll<io::Result<usize>> {
        assert!(
            pipe.borrow().is_empty(),
            "a pipe is filled when it is empty"
        );
        let mut buffer = [0; 40];
        let read = ready!(self.next(&mut buffer))?;
        pipe.borrow_mut().extend(&buffer[..read]);
        Poll::Ready(Ok(read))
    }
}

impl Sink<Pipe> for Script {
    fn poll_write(&self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_unheard {
            return Poll::Pending;
        }
        self.write_now(bytes).map_or_else(
            |error| match error.kind() {
                io::ErrorKind::WouldBlock => Poll::Pending,
                _ => Poll::Ready(Err(error)),
            },
            |written| Poll::Ready(Ok(written)),
        )
    }

    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.room.borrow_mut().pop_front() {
            Some(Ok(room)) => {
                let written = room.min(bytes.len());
                self.taken.borrow_mut().extend(&bytes[..written]);
                Ok(written)
            }
            Some(Err(error)) => Err(error),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_drain(
        &self,
        cx: &mut Context<'_>,
        pipe: &Pipe,
        held: usize,
    ) -> Poll<io::Result<usize>> {
        let mut pipe = pipe.borrow_mut();
        assert_eq!(pipe.len(), held);
        let moved = ready!(self.poll_write(cx, pipe.make_contiguous()))?;
        pipe.drain(..moved);
        Poll::Ready(Ok(moved))
    }

    fn drain_now(&self, pipe: &Pipe, held: usize) -> io::Result<usize> {
        match self.poll_drain(&mut Context::from_waker(Waker::noop()), pipe, held) {
            Poll::Ready(moved) => moved,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn finish(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Lends one pipe, empty.
#[derive(Default)]
struct OnePipe {
    is_lent: RefCell<bool>,
    lent: RefCell<usize>,
}

impl Lender<Pipe> for OnePipe {
    fn take(&self) -> Option<Pipe> {
        *self.lent.borrow_mut() += 1;
        (!self.is_lent.replace(true)).then(Pipe::default)
    }

    fn give_back(&self, pipe: Pipe) {
        assert!(
            pipe.borrow().is_empty(),
            "a pipe with bytes in it is never pooled"
        );
        self.is_lent.replace(false);
    }
}

fn script(reads: &[&[u8]], room: &[usize]) -> Script {
    Script {
        reads: RefCell::new(reads.iter().map(|bytes| Ok(bytes.to_vec())).collect()),
        room: RefCell::new(room.iter().map(|room| Ok(*room)).collect()),
        taken: RefCell::default(),
        is_unheard: false,
    }
}

fn poll(direction: &mut Direction<Pipe>, script: &Script) -> Poll<Result<(), Broken>> {
    poll_with(
        direction,
        script,
        &OnePipe {
            is_lent: true.into(),
            ..OnePipe::default()
        },
    )
}

fn poll_with(
    direction: &mut Direction<Pipe>,
    script: &Script,
    pipes: &OnePipe,
) -> Poll<Result<(), Broken>> {
    let mut cx = Context::from_waker(Waker::noop());
    direction.poll(&mut cx, script, script, &mut [0; 16], pipes)
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
    assert_eq!((direction.bytes(), direction.owed()), (2, 3));
    script.room.borrow_mut().extend([Ok(3), Ok(5)]);
    assert!(poll(&mut direction, &script).is_pending());
    assert_eq!(*script.taken.borrow(), b"helloworld");
    assert!(!direction.is_not_reading() && direction.owed() == 0);
}

#[test]
fn what_is_owed_can_be_pushed_before_the_sink_says_that_it_has_room() {
    let script = script(&[b"hello"], &[2]);
    let mut direction = Direction::default();
    assert!(poll(&mut direction, &script).is_pending());
    assert_eq!(direction.push(&script).unwrap(), 0, "it has no room");
    script.room.borrow_mut().push_back(Ok(1));
    assert_eq!(direction.push(&script).unwrap(), 1);
    assert_eq!((direction.bytes(), direction.owed()), (3, 2));
    script.room.borrow_mut().push_back(Err(reset()));
    assert!(direction.push(&script).is_err());
}

#[test]
fn the_first_bytes_do_not_wait_to_hear_of_room() {
    let script = Script {
        is_unheard: true,
        ..script(&[b"hello", b"world"], &[5, 5])
    };
    let mut direction = Direction::default();
    assert!(poll(&mut direction, &script).is_pending());
    assert_eq!(
        *script.taken.borrow(),
        b"hello",
        "a peer that has room owes none"
    );
    assert_eq!(direction.owed(), 5, "later ones are told of in time");
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

#[test]
fn bulk_goes_through_a_pipe_until_the_source_is_dry() {
    let script = script(&[&[7; 100]], &[1_000; 20]);
    let (mut direction, pipes) = (Direction::default(), OnePipe::default());
    for expected in [16, 32, 72, 100] {
        assert!(poll_with(&mut direction, &script, &pipes).is_pending());
        assert_eq!(direction.bytes(), expected, "one buffer or pipe a turn");
    }
    assert!(*pipes.is_lent.borrow());
    assert!(poll_with(&mut direction, &script, &pipes).is_pending());
    assert!(!*pipes.is_lent.borrow(), "dry: the pipe goes back");
    assert_eq!(direction.spliced(), 68);
    script
        .reads
        .borrow_mut()
        .extend([Ok(b"short".to_vec()), Ok(vec![])]);
    assert!(poll_with(&mut direction, &script, &pipes).is_ready());
    assert_eq!((direction.bytes(), *pipes.lent.borrow()), (105, 1));
}

#[test]
fn without_a_pipe_bulk_is_copied_and_asks_again_later() {
    let script = script(&[&[7; 100]], &[1_000; 20]);
    let pipes = OnePipe {
        is_lent: true.into(),
        ..OnePipe::default()
    };
    let mut direction = Direction::default();
    for _ in 0..7 {
        assert!(poll_with(&mut direction, &script, &pipes).is_pending());
    }
    assert_eq!((direction.bytes(), direction.spliced()), (100, 0));
    assert_eq!(*pipes.lent.borrow(), 3, "at every second full read");
}

#[test]
fn what_is_put_before_the_source_comes_first() {
    let script = script(&[b"hello", b""], &[3, 9, 9]);
    let mut direction = Direction::beginning_with(Bytes::from_static(b"PROXY "));
    assert!(direction.is_not_reading());
    assert!(poll(&mut direction, &script).is_ready());
    assert_eq!(*script.taken.borrow(), b"PROXY hello");
}

proptest! {
    /// Bytes arrive unchanged and in order through copy, splice and any number of switches.
    #[test]
    fn bytes_arrive_in_order_through_both_lanes(
        reads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 0..40),
        pauses in proptest::collection::vec(any::<bool>(), 40),
        room in proptest::collection::vec(1_usize..60, 0..200),
    ) {
        let sent: Vec<u8> = reads.concat();
        let (script, pipes) = (Script::default(), OnePipe::default());
        let mut reads = reads.into_iter().zip(pauses).collect::<VecDeque<_>>();
        let mut direction = Direction::default();
        for room in room.into_iter().chain(std::iter::repeat(60)) {
            script.room.borrow_mut().push_back(Ok(room));
            // A pause lets the source run dry, so that the lane changes back.
            while let Some((read, pause)) = reads.pop_front() {
                script.reads.borrow_mut().push_back(Ok(read));
                if pause {
                    break;
                }
            }
            if reads.is_empty() && script.reads.borrow().is_empty() {
                script.reads.borrow_mut().push_back(Ok(vec![]));
            }
            prop_assert!(direction.owed() <= 40);
            if direction.owed() > 0 && room % 3 == 0 {
                let owed = direction.owed();
                let pushed = direction.push(&script).unwrap();
                prop_assert_eq!(direction.owed(), owed - pushed);
            }
            if poll_with(&mut direction, &script, &pipes).is_ready() {
                break;
            }
        }
        prop_assert_eq!(direction.bytes(), sent.len() as u64);
        prop_assert_eq!(&*script.taken.borrow(), &sent);
        prop_assert!(!*pipes.is_lent.borrow());
    }


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
            prop_assert!(direction.owed() <= 16);
            if poll(&mut direction, &script).is_ready() {
                break;
            }
        }
        prop_assert_eq!(direction.bytes(), sent.len() as u64);
        prop_assert_eq!(&*script.taken.borrow(), &sent);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a direction needs of a socket and of the pool of pipes, so that it is tested without either.

use super::pipe::{Lent, Pipes};
use rustix::{
    net::SendFlags,
    pipe::{SpliceFlags, splice},
};
use socket2::SockRef;
use std::{
    io,
    net::Shutdown,
    os::fd::AsFd,
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// Where bytes come from.
pub(super) trait Source<P> {
    /// Reads what is there; 0 is the end. Pending wakes the task when there is more.
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Moves what is there into the pipe, which is empty; 0 is the end.
    fn poll_fill(&self, cx: &mut Context<'_>, pipe: &P) -> Poll<io::Result<usize>>;
}

/// Where bytes go.
pub(super) trait Sink<P> {
    /// Writes what there is room for. Pending wakes the task when there is room.
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Moves out of the pipe, which holds so many bytes, what there is room for.
    fn poll_drain(&self, cx: &mut Context<'_>, pipe: &P, held: usize) -> Poll<io::Result<usize>>;

    /// Writes what there is room for, whatever readiness says: it comes late, when a third of the room is free.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;

    /// The same out of the pipe.
    fn drain_now(&self, pipe: &P, held: usize) -> io::Result<usize>;

    /// Says that nothing more comes; the other way stays open.
    fn finish(&self) -> io::Result<()>;
}

/// Who has pipes.
pub(super) trait Lender<P> {
    /// An empty pipe, when one is to be had.
    fn take(&self) -> Option<P>;

    /// Takes an empty pipe back.
    fn give_back(&self, pipe: P);
}

impl Lender<Lent> for Pipes {
    fn take(&self) -> Option<Lent> {
        Self::take(self)
    }

    fn give_back(&self, pipe: Lent) {
        Self::give_back(self, pipe);
    }
}

impl Source<Lent> for TcpStream {
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            let mut short = None;
            let read = self.try_io(Interest::READABLE, || {
                let (read, _) =
                    rustix::net::recv(self, &mut *buffer, rustix::net::RecvFlags::empty())?;
                if 0 < read && read < buffer.len() {
                    // A short read has emptied the queue, and epoll tells of the next byte. WouldBlock has the runtime
                    // wait for that, which saves the call that would only fetch EAGAIN: tokio's own reads do the same.
                    // After a FIN or an error the readiness stays, so the end is read all the same.
                    short = Some(read);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(read)
            });
            match (short, read) {
                (Some(read), _) => return Poll::Ready(Ok(read)),
                (None, Err(error)) if is_to_be_tried_again(&error) => {}
                (None, read) => return Poll::Ready(read),
            }
        }
    }

    fn poll_fill(&self, cx: &mut Context<'_>, pipe: &Lent) -> Poll<io::Result<usize>> {
        let Some((_, into, size)) = pipe.ends() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_io(Interest::READABLE, || move_bytes(self, into, size)) {
                Err(error) if is_to_be_tried_again(&error) => {}
                moved => return Poll::Ready(moved),
            }
        }
    }
}

impl Sink<Lent> for TcpStream {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_write(bytes) {
                Err(error) if is_to_be_tried_again(&error) => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_drain(
        &self,
        cx: &mut Context<'_>,
        pipe: &Lent,
        held: usize,
    ) -> Poll<io::Result<usize>> {
        let Some((from, ..)) = pipe.ends() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_io(Interest::WRITABLE, || move_bytes(from, self, held)) {
                Err(error) if is_to_be_tried_again(&error) => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                moved => return Poll::Ready(moved),
            }
        }
    }

    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(rustix::net::send(self, bytes, flags)?)
    }

    fn drain_now(&self, pipe: &Lent, held: usize) -> io::Result<usize> {
        let (from, ..) = pipe.ends().ok_or(io::ErrorKind::BrokenPipe)?;
        move_bytes(from, self, held)
    }

    fn finish(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

/// Moves pages, not bytes. Without `SPLICE_F_MORE`, which has the kernel hold short answers back for 200 ms.
fn move_bytes(from: impl AsFd, into: impl AsFd, length: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(splice(from, None, into, None, length, flags)?)
}

fn is_to_be_tried_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a direction needs of a socket, so that it is tested without one.

use socket2::SockRef;
use std::{
    io,
    net::Shutdown,
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// Where bytes come from.
pub(super) trait Source {
    /// Reads what is there; 0 is the end. Pending wakes the task when there is more.
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
}

/// Where bytes go.
pub(super) trait Sink {
    /// Writes what there is room for. Pending wakes the task when there is room.
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Says that nothing more comes; the other way stays open.
    fn finish(&self) -> io::Result<()>;
}

impl Source for TcpStream {
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
}

impl Sink for TcpStream {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_write(bytes) {
                Err(error) if is_to_be_tried_again(&error) => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn finish(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

fn is_to_be_tried_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

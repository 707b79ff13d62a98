// SPDX-License-Identifier: MIT OR Apache-2.0
//! A relay that delays what it passes on, both ways: a far link where the kernel has no netem.
//!
//! Bytes arrive in order and none is lost; what is sent while others wait waits no longer than the delay.

use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// A running relay; it ends when this is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Listens at the address, and passes on to the server with this delay each way.
    pub(crate) async fn start(
        listen: SocketAddr,
        server: SocketAddr,
        delay: Duration,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connect(near, server, delay));
            }
        });
        Ok(Self { address, accepting })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection; when one direction breaks both end.
async fn connect(near: TcpStream, server: SocketAddr, delay: Duration) -> io::Result<()> {
    let far = TcpStream::connect(server).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::try_join!(
        pass(from_near, to_far, delay),
        pass(from_far, to_near, delay)
    )?;
    Ok(())
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> io::Result<()> {
    let (sender, mut waiting) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let read = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = from.read(&mut piece).await?;
            let due = Instant::now() + delay;
            if length == 0 || sender.send((due, piece[..length].to_vec())).await.is_err() {
                drop(sender);
                return io::Result::Ok(());
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = waiting.recv().await {
            sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write)?;
    Ok(())
}

const PIECE_BYTES: usize = 16 * 1024;
/// Pieces under way in one direction; the sender waits when there are more.
const PIECES_MAX: usize = 256;

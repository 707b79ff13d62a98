// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cable that can be cut without anybody being told: what is sent over it then arrives once it is whole again.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// The near end of the cable.
pub(crate) struct Cable {
    pub(crate) address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Cable {
    /// A whole cable to that address.
    pub(crate) async fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (whole, told) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, far, told.clone()));
            }
        });
        Self { address, whole }
    }

    pub(crate) fn set_whole(&self, whole: bool) {
        self.whole.send_replace(whole);
    }
}

async fn carry(
    near: TcpStream,
    far: SocketAddr,
    whole: watch::Receiver<bool>,
) -> io::Result<((), ())> {
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = TcpStream::connect(far).await?.into_split();
    let there = pass(near_in, far_out, whole.clone());
    tokio::try_join!(there, pass(far_in, near_out, whole))
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut whole: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let length = from.read(&mut bytes).await?;
        // Nobody mends a cable that nobody holds.
        if whole.wait_for(|whole| *whole).await.is_err() {
            return Ok(());
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..length]).await?;
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Eight servers in one process: they echo, or send without end out of a file in memory.

use crate::stage::backends;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create, sendfile};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// Runs until it is killed.
pub(crate) async fn run() -> anyhow::Result<()> {
    let file = memfd_create("bulk", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, CHUNK as u64)?;
    let file = Arc::new(file);
    let mut last = None;
    for address in backends() {
        tokio::spawn(echo(UdpSocket::bind(address).await?));
        let (listener, file) = (TcpListener::bind(address).await?, file.clone());
        last = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, file.clone()));
            }
        }));
    }
    println!("said ready");
    if let Some(last) = last {
        last.await?;
    }
    Ok(())
}

async fn echo(socket: UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 2_048];
    loop {
        let (read, from) = socket.recv_from(&mut buffer).await?;
        // A client that is gone costs one datagram.
        let _ = socket.send_to(&buffer[..read], from).await;
    }
}

async fn serve(mut stream: TcpStream, file: Arc<rustix::fd::OwnedFd>) -> io::Result<()> {
    let mut buffer = vec![0; 4_096];
    let mut read = stream.read(&mut buffer).await?;
    if buffer.first() == Some(&b'b') {
        return send_for_ever(&stream, &file).await;
    }
    while read > 0 {
        stream.write_all(&buffer[..read]).await?;
        read = stream.read(&mut buffer).await?;
    }
    Ok(())
}

async fn send_for_ever(stream: &TcpStream, file: &rustix::fd::OwnedFd) -> io::Result<()> {
    loop {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut at = 0;
            Ok(sendfile(stream, file, Some(&mut at), CHUNK)?)
        });
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Sent with one call.
const CHUNK: usize = 512 << 10;

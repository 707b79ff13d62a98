// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket of a client, of which the runtime is told only once somebody has to wait for it.
//!
//! In: an accepted socket. Out: the same, watched. Most clients have spoken by the time an endpoint is met; told of at once, the
//! runtime would wake for bytes that nobody reads yet.

use crate::sockets::reset;
use std::{io, mem, net::SocketAddr};
use tokio::net::TcpStream;

/// A client's socket.
#[derive(Debug)]
pub(crate) enum Client {
    /// As the kernel gave it.
    Accepted(std::net::TcpStream),
    /// The runtime tells when it can be read or written.
    Watched(TcpStream),
    /// It was taken, or the kernel had no room to watch it.
    Gone,
}

impl Client {
    /// The socket, watched, to wait for what it sends.
    pub(crate) fn watch(&mut self) -> io::Result<&TcpStream> {
        *self = Self::Watched(self.take()?);
        match self {
            Self::Watched(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The same, to keep.
    pub(crate) fn take(&mut self) -> io::Result<TcpStream> {
        match mem::replace(self, Self::Gone) {
            Self::Accepted(accepted) => TcpStream::from_std(accepted),
            Self::Watched(stream) => Ok(stream),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Which of our addresses it connected to.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Accepted(accepted) => accepted.local_addr(),
            Self::Watched(stream) => stream.local_addr(),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// See [`reset`].
    pub(crate) fn reset(self) {
        match self {
            Self::Accepted(accepted) => reset(accepted),
            Self::Watched(stream) => reset(stream),
            Self::Gone => {}
        }
    }
}

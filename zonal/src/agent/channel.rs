// SPDX-License-Identifier: MIT OR Apache-2.0
//! The channel between a process and the one that replaces it: words with descriptors, over a unix socket.
//!
//! In: words and sockets. Out: the same in the other process, under descriptors of its own (`SCM_RIGHTS`, unix(7)). A word is one
//! packet, so that nothing has to be put together, and a packet that was cut is an error.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};
use tokio::{io::Interest, net::UnixStream, time::timeout};

/// What the two say to each other, in this order.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Word {
    /// Old to new, as often as needed: listening sockets.
    Sockets { version: u32, is_last: bool },
    /// New to old: my ports are open.
    Open,
    /// Old to new, as often as needed: sockets of UDP sessions with a line of facts for each. I read nothing any more.
    Sessions { facts: Vec<String>, is_last: bool },
}

/// One end of it: a socket of packets, which the runtime only has to watch, as any other that is connected.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// Takes over a connected socket of packets; it must not block. Needs a runtime of tokio.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        UnixStream::from_std(socket.into()).map(Self::of)
    }

    /// The same of one that the runtime watches already.
    pub(super) fn of(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// Sends listening sockets.
    pub(super) async fn send_sockets(&self, sockets: &[OwnedFd]) -> io::Result<()> {
        let batches = sockets.len().div_ceil(BATCH).max(1);
        for at in 0..batches {
            let batch = sockets
                .iter()
                .skip(at * BATCH)
                .take(BATCH)
                .collect::<Vec<_>>();
            let word = Word::Sockets {
                version: VERSION,
                is_last: at + 1 == batches,
            };
            self.send(&word, &batch).await?;
        }
        Ok(())
    }

    /// Receives listening sockets.
    ///
    /// # Errors
    /// Also when the other process speaks another version.
    pub(super) async fn receive_sockets(&self, each: impl Fn(OwnedFd)) -> io::Result<()> {
        loop {
            let (word, sockets) = self.receive(ANSWER_MAX).await?;
            match word {
                Word::Sockets {
                    version: VERSION,
                    is_last,
                } => {
                    sockets.into_iter().for_each(&each);
                    if is_last {
                        return Ok(());
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Sends the sockets and facts of UDP sessions.
    pub(super) async fn send_sessions(&self, sessions: Vec<(String, OwnedFd)>) -> io::Result<()> {
        let batches = sessions.len().div_ceil(BATCH).max(1);
        let (facts, sockets): (Vec<_>, Vec<_>) = sessions.into_iter().unzip();
        for at in 0..batches {
            let (from, to) = (at * BATCH, facts.len().min((at + 1) * BATCH));
            let word = Word::Sessions {
                facts: facts[from..to].to_vec(),
                is_last: at + 1 == batches,
            };
            self.send(&word, &sockets[from..to].iter().collect::<Vec<_>>())
                .await?;
        }
        Ok(())
    }

    /// Receives the sockets and facts of UDP sessions.
    pub(super) async fn receive_sessions(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let mut sessions = Vec::new();
        loop {
            let (word, sockets) = self.receive(ANSWER_MAX).await?;
            match word {
                Word::Sessions { facts, is_last } if facts.len() == sockets.len() => {
                    sessions.extend(facts.into_iter().zip(sockets));
                    if is_last {
                        return Ok(sessions);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Says that our ports are open.
    pub(super) async fn send_open(&self) -> io::Result<()> {
        self.send(&Word::Open, &[]).await
    }

    /// Waits until the other's ports are open.
    ///
    /// # Errors
    /// When it ended before, or takes too long.
    pub(super) async fn receive_open(&self) -> io::Result<()> {
        match self.receive(OPEN_MAX).await? {
            (Word::Open, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn send(&self, word: &Word, sockets: &[&OwnedFd]) -> io::Result<()> {
        let bytes = serde_json::to_vec(word).map_err(io::Error::other)?;
        let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let sent = self.0.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !borrowed.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&borrowed));
            }
            let packet = [IoSlice::new(&bytes)];
            Ok(sendmsg(
                &self.0,
                &packet,
                &mut control,
                SendFlags::NOSIGNAL,
            )?)
        });
        in_time(ANSWER_MAX, sent).await.map(drop)
    }

    async fn receive(&self, limit: Duration) -> io::Result<(Word, Vec<OwnedFd>)> {
        let mut bytes = vec![0; PACKET_BYTES_MAX];
        let received = self.0.async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut packet = [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(&self.0, &mut packet, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let mut sockets = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    sockets.extend(rights);
                }
            }
            if received
                .flags
                .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
            {
                return Err(io::Error::other(
                    "a packet was cut, or descriptors are used up",
                ));
            }
            Ok((received.bytes, sockets))
        });
        let (length, sockets) = in_time(limit, received).await?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let word = serde_json::from_slice(&bytes[..length]).map_err(io::Error::other)?;
        Ok((word, sockets))
    }
}

async fn in_time<T>(limit: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    timeout(limit, what).await.map_err(|_| late())?
}

fn unexpected(word: &Word) -> io::Error {
    io::Error::other(format!(
        "the other process said {word:?}, which does not come here"
    ))
}

/// Grows with every change of the words.
const VERSION: u32 = 1;

/// Descriptors in one packet; the kernel takes 253 (`SCM_MAX_FD`).
const BATCH: usize = 64;

/// A line of facts has some 200 bytes, and at most 500.
const PACKET_BYTES_MAX: usize = 64 * 1_024;

/// How long the other may take for what it has at hand.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a new process may take until its ports are open: its lists have to come over the link first.
const OPEN_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::net::UdpSocket;

    fn channel() -> (Channel, Channel) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (Channel::new(pair.0).unwrap(), Channel::new(pair.1).unwrap())
    }

    fn sockets(count: usize) -> Vec<OwnedFd> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        (0..count)
            .map(|_| socket.try_clone().unwrap().into())
            .collect()
    }

    #[tokio::test]
    async fn any_number_of_sockets_and_sessions_passes() {
        for count in [0, 1, BATCH, 3 * BATCH + 1] {
            let (old, new) = channel();
            let received = std::cell::Cell::new(0);
            let (sent, got) = tokio::join!(
                async { old.send_sockets(&sockets(count)).await },
                new.receive_sockets(|_| received.set(received.get() + 1)),
            );
            sent.unwrap();
            got.unwrap();
            assert_eq!(received.get(), count);
            let sessions: Vec<_> = sockets(count)
                .into_iter()
                .enumerate()
                .map(|(at, socket)| (at.to_string(), socket))
                .collect();
            let (sent, got) = tokio::join!(old.send_sessions(sessions), new.receive_sessions());
            sent.unwrap();
            let facts: Vec<_> = got.unwrap().into_iter().map(|(facts, _)| facts).collect();
            assert_eq!(
                facts,
                (0..count).map(|at| at.to_string()).collect::<Vec<_>>()
            );
        }
    }

    /// Any packet is a word, written as it was read, or an error; none brings sessions without their sockets.
    fn packet(bytes: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (old, new) = channel();
            if bytes.is_empty() {
                return;
            }
            for _ in 0..2 {
                old.0.writable().await.unwrap();
                assert_eq!(old.0.try_write(bytes).unwrap(), bytes.len());
            }
            if let Ok((word, sockets)) = new.receive(ANSWER_MAX).await {
                assert!(sockets.is_empty());
                let written = serde_json::to_vec(&word).unwrap();
                assert_eq!(serde_json::from_slice::<Word>(&written).unwrap(), word);
            }
            drop(old);
            let sessions = new.receive_sessions().await;
            assert!(sessions.is_err() || sessions.is_ok_and(|sessions| sessions.is_empty()));
        });
    }

    #[test]
    fn b2_the_corpus_of_words_at_a_take_over_holds() {
        crate::corpus::run("takeover_word", packet);
    }

    #[tokio::test]
    async fn one_that_ended_or_speaks_otherwise_is_an_error() {
        let (old, new) = channel();
        new.send(
            &Word::Sockets {
                version: VERSION + 1,
                is_last: true,
            },
            &[],
        )
        .await
        .unwrap();
        assert!(old.receive_sockets(drop).await.is_err());
        new.send_sockets(&[]).await.unwrap();
        assert!(old.receive_open().await.is_err());
        drop(new);
        assert!(old.receive_open().await.is_err());
    }
}

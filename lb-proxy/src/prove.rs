// SPDX-License-Identifier: MIT OR Apache-2.0
//! Proves that a port is really ours: what is sent to it from outside the process comes out at our own listener.
//!
//! In: the node's LAN address and the port. Out: a verdict. Binding alone proves nothing, since kube-proxy, Cilium or a
//! firewall may catch the packets before they reach the socket. Prober and listener are one process, so no payload is
//! needed: the prober says from which port it will come, and the listener knows that peer and goes no further. A datagram has
//! to have some, and is known by that too, however late it comes: none is passed on to an endpoint.

use discovery_core::{
    model::{NodeName, Protocol},
    store::Reader,
};
use std::{
    collections::HashMap,
    fmt,
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::{TcpSocket, UdpSocket},
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

/// What is known of a port's way in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Proof {
    /// Nobody asks for one.
    #[default]
    NotAsked,
    /// It was not tried yet.
    Waiting,
    /// The last connection or datagram came out at our listener.
    Passed,
    /// It did not, twice in a row.
    Failed {
        /// What became of it.
        cause: Arc<str>,
    },
    /// It cannot be tried, since no address of the node is known, or none is of this host.
    Impossible {
        /// What is missing.
        cause: Arc<str>,
    },
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("not-asked"),
            Self::Waiting => f.write_str("waiting"),
            Self::Passed => f.write_str("passed"),
            Self::Failed { cause } => write!(f, "failed: {cause}"),
            Self::Impossible { cause } => write!(f, "impossible: {cause}"),
        }
    }
}

/// The probes under way. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proofs(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Connections under way, our own and our peers'; mostly none, and then an acceptor takes no lock.
    announced: AtomicUsize,
    /// Guards the table; held for one look-up, never across an await.
    sources: Mutex<HashMap<SocketAddr, oneshot::Sender<()>>>,
}

impl Proofs {
    /// Whether the peer is a probe, of ours or of a host of our zone; whoever expects it is told so.
    pub(crate) fn recognise(&self, peer: SocketAddr) -> bool {
        if self.0.announced.load(Relaxed) == 0 {
            return false;
        }
        let mut sources = self
            .0
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sources
            .remove(&peer)
            .is_some_and(|seen| seen.send(()).is_ok())
    }

    /// Expects a connection from the address, until the answer is dropped.
    pub(crate) fn expect(&self, source: SocketAddr) -> Expected {
        let (told, seen) = oneshot::channel();
        let mut sources = self
            .0
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sources.insert(source, told);
        drop(sources);
        self.0.announced.fetch_add(1, Relaxed);
        Expected {
            proofs: self.clone(),
            source,
            seen,
        }
    }

    /// Sends to the address and waits for our listener to see it.
    ///
    /// The error says what became of it; the kind `AddrNotAvailable` means that the address is not of this host.
    pub(crate) async fn prove(&self, protocol: Protocol, address: SocketAddr) -> io::Result<()> {
        match protocol {
            Protocol::Udp => self.prove_by_datagram(address).await,
            _ => self.prove_by_connection(address).await,
        }
    }

    async fn prove_by_datagram(&self, address: SocketAddr) -> io::Result<()> {
        let socket = UdpSocket::bind(SocketAddr::new(address.ip(), 0)).await?;
        socket.connect(address).await.map_err(of_the_way)?;
        let mut announced = self.expect(socket.local_addr()?);
        let proved = timeout(PROOF_TIMEOUT, async {
            socket.send(&PROBE).await?;
            let mut answer = [0];
            tokio::select! {
                seen = announced.seen() => seen,
                answered = socket.recv(&mut answer) => {
                    answered?;
                    Err(io::Error::other("somebody else answered the datagram"))
                }
            }
        });
        let proved = proved.await.unwrap_or_else(|_| Err(not_seen("datagram")));
        proved.map_err(of_the_way)
    }

    async fn prove_by_connection(&self, address: SocketAddr) -> io::Result<()> {
        let socket = socket_at(SocketAddr::new(address.ip(), 0))?;
        let mut announced = self.expect(socket.local_addr()?);
        let proved = timeout(PROOF_TIMEOUT, async {
            let _stream = socket.connect(address).await?;
            announced.seen().await
        });
        let proved = proved.await.unwrap_or_else(|_| Err(not_seen("connection")));
        drop(announced);
        proved.map_err(of_the_way)
    }
}

/// A socket that will connect from the address.
pub(crate) fn socket_at(own: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if own.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.bind(own)?;
    Ok(socket)
}

fn not_seen(what: &str) -> io::Error {
    let text = format!(
        "the {what} did not come out at our listener: another owner of the port is in front of it"
    );
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Not of the bind: then it says nothing of the address.
fn of_the_way(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => io::Error::other(error),
        _ => error,
    }
}

/// A connection that is under way.
#[derive(Debug)]
pub(crate) struct Expected {
    proofs: Proofs,
    source: SocketAddr,
    seen: oneshot::Receiver<()>,
}

impl Expected {
    /// Waits until it comes out at our acceptor; once.
    pub(crate) async fn seen(&mut self) -> io::Result<()> {
        let forgotten = |_| io::Error::other("the probe was forgotten");
        (&mut self.seen).await.map_err(forgotten)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let shared = &self.proofs.0;
        let mut sources = shared
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sources.remove(&self.source);
        drop(sources);
        shared.announced.fetch_sub(1, Relaxed);
    }
}

/// Proves one port again and again.
#[derive(Debug)]
pub(crate) struct Prover {
    pub(crate) proofs: Proofs,
    pub(crate) reader: Reader,
    /// The node that we are.
    pub(crate) node: Option<NodeName>,
    pub(crate) protocol: Protocol,
    /// The sockets that listen.
    pub(crate) sockets: Vec<SocketAddr>,
}

impl Prover {
    /// Tells each verdict that is another; for ever. Waits for ever where no proof is asked for.
    pub(crate) async fn run(mut self, told: &watch::Sender<Proof>) {
        let mut verdict = Verdict::default();
        loop {
            let before = told.borrow().clone();
            match before {
                Proof::NotAsked => return pending().await,
                Proof::Waiting => {}
                Proof::Failed { .. } => sleep(PROVE_EVERY_UNPROVED).await,
                Proof::Passed if verdict.misses > 0 => sleep(PROVE_AGAIN).await,
                Proof::Passed | Proof::Impossible { .. } => sleep(PROVE_EVERY).await,
            }
            let proof = match self.address() {
                Some(address) => {
                    let proved = self.proofs.prove(self.protocol, address).await;
                    verdict.observe(proved, &before)
                }
                None => Proof::Impossible {
                    cause: "no address of this node is known".into(),
                },
            };
            if proof == Proof::Waiting {
                sleep(PROVE_AGAIN).await;
            }
            told.send_if_modified(|known| {
                let is_other = *known != proof;
                *known = proof;
                is_other
            });
        }
    }

    /// The address at which to prove the port: the one that a socket is bound to, else the first one of the node.
    fn address(&mut self) -> Option<SocketAddr> {
        let bound = self
            .sockets
            .iter()
            .find(|socket| !socket.ip().is_unspecified());
        if let Some(bound) = bound {
            return Some(*bound);
        }
        let (node, port) = (self.node.as_ref()?, self.sockets.first()?.port());
        let nodes = self.reader.snapshot().nodes();
        let node = nodes.iter().find(|known| known.name == *node)?;
        Some(SocketAddr::new(*node.addresses.first()?, port))
    }
}

/// Counts misses into a verdict; pure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    hits: u32,
    misses: u32,
}

impl Verdict {
    /// What the newest outcome makes of the proof.
    pub(crate) fn observe(&mut self, outcome: io::Result<()>, before: &Proof) -> Proof {
        match outcome {
            Ok(()) => {
                self.misses = 0;
                self.hits = self.hits.saturating_add(1);
                if self.hits < HITS_MIN {
                    return before.clone();
                }
                Proof::Passed
            }
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Proof::Impossible {
                cause: "the node's address is none of this host's".into(),
            },
            Err(error) => {
                self.hits = 0;
                self.misses = self.misses.saturating_add(1);
                if self.misses < MISSES_MAX {
                    return before.clone();
                }
                Proof::Failed {
                    cause: error.to_string().into(),
                }
            }
        }
    }
}

/// What a datagram of a proof consists of.
pub(crate) const PROBE: [u8; 16] = *b"zonal port proof";

/// On one's own host: a busy core, not a far one, is what takes time.
const PROOF_TIMEOUT: Duration = Duration::from_secs(1);

/// One miss may be the other process of a hand-over taking the connection.
const MISSES_MAX: u32 = 2;

/// A rule may be on its way while a port is taken over.
const HITS_MIN: u32 = 2;

/// Between the first proofs of a port, and after a miss.
const PROVE_AGAIN: Duration = Duration::from_millis(100);

/// Between two proofs: two misses tell within 6 s.
const PROVE_EVERY: Duration = Duration::from_secs(3);
/// While the port is not proved.
const PROVE_EVERY_UNPROVED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_probe_is_recognised_by_its_source_and_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let proofs = Proofs::default();
        let acceptor = async {
            let (_stream, peer) = listener.accept().await.unwrap();
            (proofs.recognise(peer), proofs.recognise(peer))
        };
        let (proved, recognised) = tokio::join!(proofs.prove(Protocol::Tcp, address), acceptor);
        proved.unwrap();
        assert_eq!(recognised, (true, false));
        assert!(proofs.0.sources.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_port_that_somebody_else_answers_is_not_proved() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let error = Proofs::default()
            .prove(Protocol::Tcp, other.local_addr().unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_address_of_another_host_proves_nothing_either_way() {
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 80));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let outcome = Proofs::default().prove(protocol, elsewhere).await;
            let proof = Verdict::default().observe(outcome, &Proof::Waiting);
            assert!(matches!(proof, Proof::Impossible { .. }));
        }
    }

    #[tokio::test]
    async fn a_datagram_proves_as_a_connection_does_and_an_answer_is_somebody_elses() {
        let (proofs, silent) = (Proofs::default(), || UdpSocket::bind("127.0.0.1:0"));
        let ours = silent().await.unwrap();
        let listener = async {
            let mut datagram = [0; 32];
            let (length, peer) = ours.recv_from(&mut datagram).await.unwrap();
            (datagram[..length] == PROBE, proofs.recognise(peer))
        };
        let proved = proofs.prove(Protocol::Udp, ours.local_addr().unwrap());
        let (proved, seen) = tokio::join!(proved, listener);
        proved.unwrap();
        assert_eq!(seen, (true, true));
        let other = silent().await.unwrap();
        let address = other.local_addr().unwrap();
        let answers = async {
            let (_, peer) = other.recv_from(&mut [0; 32]).await.unwrap();
            other.send_to(b"hello", peer).await.unwrap();
        };
        let (proved, ()) = tokio::join!(proofs.prove(Protocol::Udp, address), answers);
        assert!(proved.unwrap_err().to_string().contains("somebody else"));
        drop(other);
        let refused = proofs.prove(Protocol::Udp, address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn two_misses_in_a_row_fail_a_proof() {
        let missed = || Err(io::Error::from(io::ErrorKind::TimedOut));
        let mut verdict = Verdict::default();
        let mut proof = verdict.observe(Ok(()), &Proof::Waiting);
        assert_eq!(proof, Proof::Waiting, "one success may be luck");
        proof = verdict.observe(Ok(()), &proof);
        proof = verdict.observe(missed(), &proof);
        assert_eq!(proof, Proof::Passed);
        proof = verdict.observe(Ok(()), &proof);
        proof = verdict.observe(missed(), &proof);
        assert_eq!(proof, Proof::Passed, "a success begins the count anew");
        proof = verdict.observe(missed(), &proof);
        assert!(matches!(proof, Proof::Failed { .. }));
        proof = verdict.observe(Ok(()), &proof);
        assert!(matches!(proof, Proof::Failed { .. }));
        assert_eq!(verdict.observe(Ok(()), &proof), Proof::Passed);
    }
}

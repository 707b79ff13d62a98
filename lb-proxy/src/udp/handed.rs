// SPDX-License-Identifier: MIT OR Apache-2.0
//! UDP sessions on their way from one proxy to the next: to another process, or to the same one with another configuration.
//!
//! In: the sessions of a proxy that has stopped reading. Out: for each listening socket of the next one, its sessions. The next
//! one does not read before they came, since two that read one socket would split a session. A session is a line of facts and
//! a connected socket, so that its endpoint sees the same source port as before.

use std::{
    fmt, mem,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One UDP session between two proxies.
#[derive(Debug)]
pub struct UdpSession {
    /// What is known of it; [`SessionFacts`] prints and reads them as one line.
    pub facts: SessionFacts,
    /// Its socket towards the endpoint.
    pub socket: OwnedFd,
}

/// What is known of a session: `listener client asked endpoint replies answered idle-ms owner`.
///
/// ```
/// use lb_proxy::SessionFacts;
///
/// let line = "0.0.0.0:30053 192.0.2.7:4000 192.0.2.1 10.1.0.3:53 2 true 250 uid/7f4d";
/// assert_eq!(line.parse::<SessionFacts>().unwrap().to_string(), line);
/// assert!("0.0.0.0:30053".parse::<SessionFacts>().is_err());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionFacts {
    pub(super) listener: SocketAddr,
    pub(super) client: SocketAddr,
    pub(super) asked: Option<IpAddr>,
    pub(super) address: SocketAddr,
    pub(super) replies: u32,
    pub(super) is_answered: bool,
    pub(super) silent: Duration,
    /// Whose the endpoint is: its pod.
    pub(super) owner: String,
}

/// The line is not one of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is no line of a UDP session")]
pub struct SessionFactsError;

impl fmt::Display for SessionFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self
            .asked
            .map_or(String::from(NOT_TOLD), |asked| asked.to_string());
        write!(
            f,
            "{} {} {asked} {} {} {} {} {}",
            self.listener,
            self.client,
            self.address,
            self.replies,
            self.is_answered,
            self.silent.as_millis(),
            self.owner,
        )
    }
}

impl FromStr for SessionFacts {
    type Err = SessionFactsError;

    fn from_str(line: &str) -> Result<Self, SessionFactsError> {
        fn read<T: FromStr>(word: Option<&str>) -> Result<T, SessionFactsError> {
            word.and_then(|word| word.parse().ok())
                .ok_or(SessionFactsError)
        }
        let mut words = line.splitn(8, ' ');
        Ok(Self {
            listener: read(words.next())?,
            client: read(words.next())?,
            asked: match words.next() {
                Some(NOT_TOLD) => None,
                word => Some(read(word)?),
            },
            address: read(words.next())?,
            replies: read(words.next())?,
            is_answered: read(words.next())?,
            silent: Duration::from_millis(read(words.next())?),
            owner: read(words.next())?,
        })
    }
}

/// The sessions that a proxy takes over. Clones share them; the default has none.
#[derive(Clone, Debug, Default)]
pub struct HandedSessions(Option<watch::Receiver<Given>>);

/// Gives a proxy the sessions of the one before; dropping it closes those that no listener has asked for.
#[derive(Debug)]
pub struct SessionGiver(watch::Sender<Given>);

/// The lock guards the list; held for one look through it.
type Given = Option<Arc<Mutex<Vec<UdpSession>>>>;

impl HandedSessions {
    /// Sessions that are not there yet: no listener reads before they are given, or their giver is dropped.
    pub fn awaited() -> (SessionGiver, Self) {
        let (giver, awaited) = watch::channel(None);
        (SessionGiver(giver), Self(Some(awaited)))
    }

    /// Waits for the sessions, and takes those of the listening socket.
    pub(super) async fn of(&self, listener: SocketAddr) -> Vec<UdpSession> {
        let Some(mut given) = self.0.clone() else {
            return Vec::new();
        };
        // An error means that the giver is gone: what it gave before is emptied then.
        let _ = given.wait_for(Option::is_some).await;
        let Some(sessions) = given.borrow().clone() else {
            return Vec::new();
        };
        let mut sessions = locked(&sessions);
        let is_ours = |session: &mut UdpSession| session.facts.listener == listener;
        sessions.extract_if(.., is_ours).collect()
    }
}

impl SessionGiver {
    /// Gives the sessions.
    pub fn give(&self, sessions: Vec<UdpSession>) {
        self.0.send_replace(Some(Arc::new(Mutex::new(sessions))));
    }
}

impl Drop for SessionGiver {
    fn drop(&mut self) {
        if let Some(sessions) = self.0.send_replace(None) {
            locked(&sessions).clear();
        }
    }
}

/// The words between a proxy and whoever replaces it. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct HandOver {
    begun: CancellationToken,
    let_go: CancellationToken,
    /// Guards the list; held for an addition.
    sessions: Arc<Mutex<Vec<UdpSession>>>,
}

impl HandOver {
    /// Has the proxy close its sockets, which the next one has by now, and gives its UDP sessions.
    ///
    /// Its connections go on until the drain timeout. It tells nobody that this host leaves, since it does not. A proxy that
    /// has ended before has none.
    pub async fn take(&self) -> Vec<UdpSession> {
        self.begun.cancel();
        self.let_go.cancelled().await;
        mem::take(&mut *locked(&self.sessions))
    }

    /// Waits until somebody takes over.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Says that no socket is read any more: now, or when the answer is dropped.
    pub(crate) fn let_go(&self) -> DropGuard {
        self.let_go.clone().drop_guard()
    }

    pub(super) fn give(&self, given: impl IntoIterator<Item = UdpSession>) {
        locked(&self.sessions).extend(given);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the system did not tell which address was asked.
const NOT_TOLD: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn session(listener: &str) -> UdpSession {
        let facts = format!("{listener} 192.0.2.7:4000 - 10.1.0.3:53 0 false 0 name/pod 0");
        UdpSession {
            facts: facts.parse().unwrap(),
            socket: UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        }
    }

    #[tokio::test]
    async fn a_listener_gets_its_own_sessions_once_they_are_given() {
        let (giver, handed) = HandedSessions::awaited();
        let one = "127.0.0.1:1".parse().unwrap();
        let asked = tokio::spawn({
            let handed = handed.clone();
            async move { handed.of(one).await }
        });
        tokio::task::yield_now().await;
        assert!(!asked.is_finished());
        giver.give(vec![session("127.0.0.1:1"), session("127.0.0.1:2")]);
        let sessions = asked.await.unwrap();
        assert_eq!(sessions.len(), 1);
        assert_eq!(
            sessions[0].facts.owner, "name/pod 0",
            "the last word may have blanks"
        );
        assert!(handed.of(one).await.is_empty());
    }

    #[tokio::test]
    async fn without_a_giver_nobody_waits() {
        let address = "127.0.0.1:1".parse().unwrap();
        assert!(HandedSessions::default().of(address).await.is_empty());
        let (giver, handed) = HandedSessions::awaited();
        giver.give(vec![session("127.0.0.1:1")]);
        drop(giver);
        assert!(handed.of(address).await.is_empty());
    }
}

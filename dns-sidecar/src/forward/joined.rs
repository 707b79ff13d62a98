// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions that are open at a server, so that the same question is asked once, however many wait for it.

use super::question::Key;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// A reply that many get; none when no server gave one.
pub(super) type Shared = Option<Arc<[u8]>>;

/// What is open now; as many entries as questions may be open.
#[derive(Debug, Default)]
pub(super) struct Open(
    /// Guards the table alone: taken for a look-up when a question comes and when it ends, never over an await.
    Mutex<HashMap<Key, watch::Sender<Shared>>>,
);

/// How a question is to be answered.
#[derive(Debug)]
pub(super) enum Join {
    /// It is the first: whoever holds this asks, and tells the others.
    First(Lead),
    /// Another asks; the reply comes from it.
    Behind(Behind),
    /// As many wait for it as may.
    Full,
}

/// The one who asks; dropped without a word, the others learn that there is no reply.
#[derive(Debug)]
pub(super) struct Lead {
    open: Arc<Open>,
    key: Key,
    is_told: bool,
}

/// One of those who wait.
#[derive(Debug)]
pub(super) struct Behind(watch::Receiver<Shared>);

impl Open {
    pub(super) fn join(self: &Arc<Self>, key: Key) -> Join {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(telling) = open.get(&key) {
            if telling.receiver_count() >= WAITING_MAX {
                return Join::Full;
            }
            return Join::Behind(Behind(telling.subscribe()));
        }
        open.insert(key.clone(), watch::Sender::new(None));
        let open = self.clone();
        Join::First(Lead {
            open,
            key,
            is_told: false,
        })
    }

    fn end(&self, key: &Key) -> Option<watch::Sender<Shared>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(key)
    }
}

impl Lead {
    /// Tells those who wait.
    pub(super) fn tell(mut self, reply: &[u8]) {
        self.is_told = true;
        if let Some(telling) = self.open.end(&self.key)
            && telling.receiver_count() > 0
        {
            telling.send_replace(Some(reply.into()));
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Once it was told, what stands under the key is another's.
        if !self.is_told {
            self.open.end(&self.key);
        }
    }
}

impl Behind {
    /// The reply that the first got.
    pub(super) async fn reply(mut self) -> Shared {
        // An error means that the first has ended, perhaps just after it told.
        let _ = self.0.changed().await;
        self.0.borrow().clone()
    }
}

/// Beyond what a site's callers ask in the time of a reply.
const WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use discovery_core::telemetry::DnsTransport;

    fn key(name: u8) -> Key {
        let request = [&[0; 12][..], &[1, name, 0, 0, 1, 0, 1]].concat();
        Key::of(&request, DnsTransport::Udp)
    }

    #[tokio::test]
    async fn all_get_the_reply_of_the_first_and_the_next_asks_anew() {
        let open = Arc::new(Open::default());
        let Join::First(lead) = open.join(key(b'a')) else {
            panic!("nobody asks yet")
        };
        assert!(matches!(open.join(key(b'b')), Join::First(_)), "another");
        let mut behind = Vec::new();
        while let Join::Behind(one) = open.join(key(b'a')) {
            behind.push(one);
        }
        assert_eq!(behind.len(), WAITING_MAX);
        lead.tell(b"reply");
        for one in behind {
            assert_eq!(one.reply().await.as_deref(), Some(&b"reply"[..]));
        }
        assert!(matches!(open.join(key(b'a')), Join::First(_)));
        assert!(open.0.lock().unwrap().is_empty(), "dropped, they are over");
    }

    #[tokio::test]
    async fn when_the_first_ends_without_a_reply_the_others_learn_it() {
        let open = Arc::new(Open::default());
        let Join::First(lead) = open.join(key(b'a')) else {
            panic!("nobody asks yet")
        };
        let Join::Behind(behind) = open.join(key(b'a')) else {
            panic!("another asks")
        };
        drop(lead);
        assert_eq!(behind.reply().await, None);
    }
}

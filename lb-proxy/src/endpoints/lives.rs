// SPDX-License-Identifier: MIT OR Apache-2.0
//! The endpoints that connections of one listener are carried to, and when those connections have to end.
//!
//! In: new views. Out: an end for the connections of an endpoint that left. One that left the list and still answers keeps
//! its connections until the drain deadline; one that does not answer, or whose address another endpoint has now, is gone,
//! and its connections are cut at once, since they would only stall.

use super::Silences;
use crate::reason::Reason;
use discovery_core::{
    model::StateKey,
    store::{Endpoint, ServiceView, Tier},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

/// The endpoints with connections.
///
/// The lock guards the table; held for one look-up or one sweep, never across an await.
#[derive(Debug)]
pub(crate) struct Lives {
    parent: CancellationToken,
    silences: Arc<Silences>,
    known: Mutex<HashMap<StateKey, Entry>>,
}

/// One endpoint with connections. A connection holds it as long as it is carried.
#[derive(Debug)]
pub(crate) struct Life {
    address: SocketAddr,
    cut: CancellationToken,
    is_gone: AtomicBool,
    silences: Arc<Silences>,
}

#[derive(Debug)]
struct Entry {
    life: Weak<Life>,
    /// There while the endpoint is in no list; dropping it ends the watch over it.
    watch: Option<DropGuard>,
}

impl Lives {
    /// No endpoint; `parent` ends all connections, and `silences` is told who answers.
    pub(crate) fn new(parent: CancellationToken, silences: Arc<Silences>) -> Self {
        Self {
            parent,
            silences,
            known: Mutex::default(),
        }
    }

    /// The life of the endpoint, for one more connection to it.
    pub(crate) fn enter(&self, endpoint: &Endpoint, address: SocketAddr) -> Arc<Life> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get(endpoint.state_key());
        let live = entry.and_then(|entry| entry.life.upgrade());
        if let Some(life) = live.filter(|life| life.address == address) {
            return life;
        }
        let life = Arc::new(Life {
            address,
            cut: self.parent.child_token(),
            is_gone: AtomicBool::new(false),
            silences: self.silences.clone(),
        });
        let entry = Entry {
            life: Arc::downgrade(&life),
            watch: None,
        };
        known.insert(endpoint.state_key().clone(), entry);
        life
    }

    /// Compares with a new view: starts a watch over each endpoint that left, and ends it over each that came back.
    ///
    /// Needs a runtime of tokio. An endpoint that is listed, usable or not, keeps its connections.
    pub(crate) fn sweep(&self, view: Option<&ServiceView>, drain: Duration) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, entry| entry.life.strong_count() > 0);
        if known.is_empty() {
            return;
        }
        let listed: HashMap<&StateKey, &Endpoint> = view
            .into_iter()
            .flat_map(ServiceView::tiers)
            .flat_map(Tier::members)
            .map(|endpoint| (endpoint.state_key(), &**endpoint))
            .collect();
        for (key, entry) in known.iter_mut() {
            let Some(life) = entry.life.upgrade() else {
                continue;
            };
            match listed.get(key) {
                Some(endpoint) if has(endpoint, life.address) => entry.watch = None,
                _ if listed.values().any(|other| has(other, life.address)) => life.end(true),
                _ if entry.watch.is_none() => {
                    entry.watch = Some(watch(entry.life.clone(), life.address, drain));
                }
                _ => {}
            }
        }
    }
}

impl Life {
    /// Where the endpoint is reached.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes in the first bytes of the endpoint on a connection.
    pub(crate) fn answered(&self) {
        self.silences.answered(self.address);
    }

    /// Takes in that nothing came back on a connection; whether the endpoint is ejected by that.
    pub(crate) fn unanswered(&self) -> bool {
        let was_ejected = self.silences.is_ejected(self.address);
        self.silences.unanswered(self.address) && !was_ejected
    }

    /// Ends the connections when it is cancelled.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Why they end.
    pub(crate) fn reason(&self) -> Reason {
        if self.is_gone.load(Relaxed) {
            Reason::EndpointGone
        } else {
            Reason::DrainDeadline
        }
    }

    fn end(&self, is_gone: bool) {
        self.is_gone.store(is_gone, Relaxed);
        self.cut.cancel();
    }
}

fn has(endpoint: &Endpoint, address: SocketAddr) -> bool {
    endpoint.addresses().contains(&address.ip())
        && endpoint
            .ports()
            .iter()
            .any(|port| port.port.get() == address.port())
}

/// Watches over an endpoint that left the list until it does not answer, or its connections have had their time.
fn watch(life: Weak<Life>, address: SocketAddr, drain: Duration) -> DropGuard {
    let stop = CancellationToken::new();
    let guard = stop.clone().drop_guard();
    tokio::spawn(async move {
        let deadline = Instant::now() + drain;
        let verdict = stop.run_until_cancelled(async {
            while Instant::now() < deadline {
                if !answers(address).await {
                    return true;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                sleep(left.min(PROBE_EVERY)).await;
            }
            false
        });
        if let Some(is_gone) = verdict.await
            && let Some(life) = life.upgrade()
        {
            info!(%address, is_gone, "Connections to an endpoint that left are cut");
            life.end(is_gone);
        }
    });
    guard
}

/// Whether something accepts connections there. What else goes wrong is no evidence.
async fn answers(address: SocketAddr) -> bool {
    match timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => !matches!(
            crate::reason::connect_failure(&error),
            discovery_core::telemetry::ConnectFailure::Refused
                | discovery_core::telemetry::ConnectFailure::Unreachable
        ),
        Err(_) => false,
    }
}

/// A SYN is sent again after 1 s.
const PROBE_TIMEOUT: Duration = Duration::from_millis(900);

/// A few probes a minute for each endpoint that left, as long as it has connections.
const PROBE_EVERY: Duration = Duration::from_secs(5);

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tries the endpoints of one port from this host, whenever no client has for a while.
//!
//! In: snapshots, what became of clients' dials. Out: an [`Outlook`]. A round is a connect to each of a few endpoints at once,
//! closed as soon as it stands; the first that is accepted ends it.

use crate::{
    connection::Dialer,
    endpoints::{Outlook, Reach, Rounds, View},
};
use discovery_core::{model::NodeName, pick::Picker, store::Reader, telemetry::ConnectFailure};
use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// Tries the endpoints of one port.
#[derive(Debug)]
pub(crate) struct Scout {
    pub(crate) outlook: Outlook,
    pub(crate) dialer: Dialer,
    pub(crate) picker: Picker,
    pub(crate) reader: Reader,
    pub(crate) node: Option<NodeName>,
    pub(crate) port_name: Arc<str>,
}

impl Scout {
    /// Goes on for ever.
    pub(crate) async fn run(mut self) {
        let mut rounds = Rounds::default();
        loop {
            let listed = self.listed();
            if listed.is_empty() {
                rounds = Rounds::default();
                self.outlook.tell(View::Unknown);
                self.news(&listed).await;
                continue;
            }
            let outcome = self.round(&listed).await;
            if let Some(view) = outcome.and_then(|outcome| rounds.observe(outcome)) {
                self.outlook.tell(view);
            }
            if outcome.is_some_and(|outcome| outcome.is_ok()) {
                self.outlook.doubted(QUIET).await;
            } else if self.outlook.is_isolated() {
                tokio::select! {
                    () = sleep(ROUND_EVERY) => {}
                    () = self.news(&listed) => {}
                }
            } else {
                sleep(ROUND_EVERY).await;
            }
        }
    }

    /// Waits for another list of endpoints, which may be one that can be reached.
    async fn news(&mut self, before: &[SocketAddr]) {
        while self.listed() == before {
            if self.reader.changed().await.is_none() {
                pending::<()>().await;
            }
        }
        // A list that flaps must not make rounds without end.
        sleep(NEWS_PAUSE).await;
    }

    /// Whether an endpoint was reached; none where there is none, or what went wrong is our own affair.
    async fn round(&self, listed: &[SocketAddr]) -> Option<Result<(), ConnectFailure>> {
        let deadline = Instant::now() + self.dialer.limits.attempt;
        let (mut dials, first) = (JoinSet::new(), fastrand::usize(..listed.len()));
        for address in listed
            .iter()
            .cycle()
            .skip(first)
            .take(TRIED_MAX.min(listed.len()))
        {
            let (dialer, address) = (self.dialer.clone(), *address);
            dials.spawn(async move { dialer.connect(address, deadline).await.map(drop) });
        }
        let mut failed = None;
        while let Some(dialed) = dials.join_next().await {
            match dialed {
                Ok(Ok(())) => return Some(Ok(())),
                Ok(Err(failure)) if is_of_the_way(failure) => failed = Some(Err(failure)),
                _ => {}
            }
        }
        failed
    }

    /// Where endpoints can be reached, in ascending order.
    fn listed(&mut self) -> Vec<SocketAddr> {
        let Ok(view) = self.picker.view() else {
            return Vec::new();
        };
        let reach = Reach {
            view,
            node: self.node.as_ref(),
            port_name: &self.port_name,
        };
        let listed = view.usable();
        let mut listed: Vec<_> = listed
            .filter_map(|endpoint| reach.address_of(endpoint))
            .collect();
        listed.sort_unstable();
        listed
    }
}

fn is_of_the_way(failure: ConnectFailure) -> bool {
    matches!(
        failure,
        ConnectFailure::Refused | ConnectFailure::Unreachable | ConnectFailure::Timeout
    )
}

/// Between two rounds while the last one failed.
const ROUND_EVERY: Duration = Duration::from_secs(3);

/// After the last time that an endpoint was reached: less than a report to Consul holds.
const QUIET: Duration = Duration::from_secs(9);

/// After a change of the list.
const NEWS_PAUSE: Duration = Duration::from_millis(100);

/// Endpoints tried at once: more than fail together by chance.
const TRIED_MAX: usize = 8;

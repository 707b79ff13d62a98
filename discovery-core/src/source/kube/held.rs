// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a source does while another cluster answers it: nothing but to ask whether ours is back.
//!
//! What it has stated stays in force and grows stale, as when nobody answers. It goes on, with lists of everything, when
//! ours answers again or when a person says that the other one is ours now.

use super::{
    Run,
    custody::Answers,
    feed::{Closed, SOURCE},
};
use crate::{
    source::WatchState,
    store::{Kind, Update},
};
use std::{convert::Infallible, time::Duration};
use tokio::time::{sleep, timeout};

impl Run<'_> {
    /// Asks who answers a moment after a connection broke, and from time to time.
    pub(super) async fn vouch(&self) -> Infallible {
        loop {
            let _ = timeout(VOUCH_EVERY, self.custody.doubted()).await;
            loop {
                sleep(VOUCH_AFTER).await;
                let is_sick = self.gate.is_closed();
                if !is_sick && self.who_answers().await != Answers::Nobody {
                    break;
                }
                sleep(VOUCH_AGAIN).await;
            }
        }
    }

    /// Waits until ours answers again, or until the other one is accepted.
    pub(super) async fn hold(&self, other: String) -> Result<(), Closed> {
        let status = &self.source.status;
        let ours = status.cluster_uid();
        tracing::error!(
            other,
            ours,
            "Another cluster answers: what ours said last is kept"
        );
        status.set_other_cluster(Some(other));
        for kind in Kind::ALL {
            status.set_connected(kind, false);
            if status.state(kind) != WatchState::Cold {
                status.set_state(kind, WatchState::Stale);
            }
        }
        self.tap.send(Update::Another(SOURCE)).await?;
        let is_accepted = tokio::select! {
            () = status.accepted() => true,
            () = self.ours_answers() => false,
        };
        status.set_other_cluster(None);
        if is_accepted {
            tracing::warn!("The other cluster is accepted by a person");
            self.custody.accept();
            return Ok(());
        }
        tracing::info!("Our cluster answers again");
        self.tap.send(Update::Ours(SOURCE)).await
    }

    async fn ours_answers(&self) {
        loop {
            sleep(ASK_AGAIN + ASK_SPREAD.mul_f64(fastrand::f64())).await;
            if self.who_answers().await == Answers::Ours {
                return;
            }
        }
    }

    async fn who_answers(&self) -> Answers {
        let agent = concat!("zonal-cluster/", env!("CARGO_PKG_VERSION"));
        self.custody.ask(&self.source.asker(agent.to_owned())).await
    }
}

/// A cluster that was changed without a connection that broke is found out by then.
const VOUCH_EVERY: Duration = Duration::from_secs(300);
/// Of several connections that break the others have broken by then, too.
const VOUCH_AFTER: Duration = Duration::from_secs(2);
/// A server that does not answer is asked that rarely.
const VOUCH_AGAIN: Duration = Duration::from_secs(20);
/// While another cluster answers: as rare as a watch is renewed.
const ASK_AGAIN: Duration = Duration::from_secs(20);
const ASK_SPREAD: Duration = Duration::from_secs(20);

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked of a running process by signals, and how it ends by them.

use crate::{faces::Faces, failure::Failure};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Word {
    End,
    Reload,
    Upgrade,
}

/// The signals of a process that runs until it is told to end.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr2: Signal,
    /// Ends it as SIGTERM does, once.
    asked: CancellationToken,
}

impl Signals {
    pub(crate) fn new(asked: CancellationToken) -> Result<Self, Failure> {
        let watched = |kind| {
            signal(kind).map_err(|error| Failure::internal("signals cannot be watched", &error))
        };
        Ok(Self {
            term: watched(SignalKind::terminate())?,
            int: watched(SignalKind::interrupt())?,
            hup: watched(SignalKind::hangup())?,
            usr2: watched(SignalKind::user_defined2())?,
            asked,
        })
    }

    pub(super) async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.term.recv() => Word::End,
            _ = self.int.recv() => Word::End,
            () = self.asked.cancelled() => {
                self.asked = CancellationToken::new();
                Word::End
            }
            _ = self.hup.recv() => Word::Reload,
            _ = self.usr2.recv() => Word::Upgrade,
        }
    }

    /// SIGTERM or SIGINT, or somebody who asks for the same.
    pub(crate) async fn end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            () = self.asked.cancelled() => self.asked = CancellationToken::new(),
        }
    }
}

/// Drains, and ends; a further signal ends at once.
pub(crate) async fn drain_all(faces: &Faces, signals: &mut Signals) {
    tracing::info!("Draining; a second signal ends at once");
    ended(faces.drain(), faces, signals).await;
}

/// Drains, and ends once it is told to, which changes nothing for what is still carried; a second signal ends at once.
pub(super) async fn drain_until_told(faces: &Faces, signals: &mut Signals) {
    tracing::info!("Draining; this process ends when it is told to");
    let drained = faces.drain();
    tokio::pin!(drained);
    tokio::select! {
        () = &mut drained => return signals.end().await,
        () = signals.end() => {}
    }
    ended(drained, faces, signals).await;
}

/// Waits for what ends by itself; a signal cuts it short.
async fn ended(drained: impl Future<Output = ()>, faces: &Faces, signals: &mut Signals) {
    tokio::pin!(drained);
    loop {
        tokio::select! {
            () = &mut drained => return,
            () = signals.end() => faces.kill(),
        }
    }
}

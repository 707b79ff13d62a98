// SPDX-License-Identifier: MIT OR Apache-2.0
//! One client on the agent's socket.

use super::Told;
use crate::{
    source::{Beat, Bye, FrameKind, Open, VERSION, View, decode, encode, put_frame, take_frame},
    telemetry::ClientEnd,
};
use bytes::{Bytes, BytesMut};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) views: watch::Receiver<Option<Arc<View>>>,
    pub(super) hello: Vec<u8>,
    pub(super) told: Arc<Told>,
    pub(super) write_timeout: Duration,
    pub(super) beat: Duration,
}

impl Client {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let metrics = self.told.metrics.clone();
        metrics.came();
        let end = if let Err(end) = self.serve(&stop).await {
            end
        } else {
            let _ = self.bye("the agent ends").await;
            ClientEnd::Stopped
        };
        if matches!(end, ClientEnd::Slow | ClientEnd::Protocol) {
            tracing::warn!(reason = end.as_str(), "Client dropped");
        }
        metrics.count(end);
        metrics.went();
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<(), ClientEnd> {
        self.open().await?;
        let mut hello = Vec::new();
        put_frame(&mut hello, FrameKind::Hello, &self.hello);
        self.write(&hello.into()).await?;
        let mut has: Option<Arc<View>> = None;
        let mut beat_at = Instant::now() + self.beat;
        let mut word = [0; 1];
        loop {
            let newest = self.views.borrow_and_update().clone();
            if let Some(view) = newest
                && self.tell(&view, has.as_deref()).await?
            {
                has = Some(view);
                beat_at = Instant::now() + self.beat;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = self.views.changed() => changed.map_err(|_| ClientEnd::Stopped)?,
                () = sleep_until(beat_at) => {
                    self.beat().await?;
                    beat_at = Instant::now() + self.beat;
                }
                read = self.stream.read(&mut word) => match read {
                    // A client has nothing to say after its first word.
                    Ok(1..) => return Err(ClientEnd::Protocol),
                    Ok(0) | Err(_) => return Err(ClientEnd::Gone),
                },
            }
        }
    }

    /// Reads who asks.
    async fn open(&mut self) -> Result<(), ClientEnd> {
        let mut buffer = BytesMut::new();
        let reading = async {
            loop {
                match take_frame(&mut buffer) {
                    Ok(Some(frame)) => return Ok(frame),
                    Ok(None) if buffer.len() > OPEN_BYTES_MAX => return Err(ClientEnd::Protocol),
                    Ok(None) => {}
                    Err(_) => return Err(ClientEnd::Protocol),
                }
                match self.stream.read_buf(&mut buffer).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(ClientEnd::Gone),
                }
            }
        };
        let frame = timeout(OPEN_DEADLINE, reading).await;
        let frame = frame.map_err(|_| ClientEnd::Protocol)??;
        if !buffer.is_empty() {
            return Err(ClientEnd::Protocol);
        }
        let open = (frame.kind == FrameKind::Open)
            .then(|| decode::<Open>(&frame.payload).ok())
            .flatten();
        let Some(open) = open else {
            return Err(ClientEnd::Protocol);
        };
        if !open.versions.contains(&VERSION) {
            let _ = self.bye(&format!("version {VERSION} is spoken here")).await;
            return Err(ClientEnd::Protocol);
        }
        let client: String = open.client.chars().take(64).collect();
        tracing::info!(client, "Client follows");
        Ok(())
    }

    /// Tells what the client lacks; whether it has the view now.
    async fn tell(&mut self, view: &Arc<View>, has: Option<&View>) -> Result<bool, ClientEnd> {
        let parts = match has {
            None => Some(view.whole()),
            Some(has) => view.since(has),
        };
        let Some(parts) = parts else {
            return Ok(false);
        };
        for part in parts {
            self.write(&part).await?;
        }
        self.told.metrics.told(has.is_none());
        Ok(true)
    }

    async fn beat(&mut self) -> Result<(), ClientEnd> {
        let mut frame = Vec::new();
        let age_seconds = self.told.age_seconds();
        put_frame(&mut frame, FrameKind::Beat, &encode(&Beat { age_seconds }));
        self.write(&frame.into()).await
    }

    async fn bye(&mut self, reason: &str) -> Result<(), ClientEnd> {
        let mut frame = Vec::new();
        let reason = reason.to_owned();
        put_frame(&mut frame, FrameKind::Bye, &encode(&Bye { reason }));
        self.write(&frame.into()).await
    }

    async fn write(&mut self, part: &Bytes) -> Result<(), ClientEnd> {
        match timeout(self.write_timeout, self.stream.write_all(part)).await {
            Ok(Ok(())) => {
                self.told.metrics.wrote(part.len());
                Ok(())
            }
            Ok(Err(_)) => Err(ClientEnd::Gone),
            Err(_) => Err(ClientEnd::Slow),
        }
    }
}

const OPEN_DEADLINE: Duration = Duration::from_secs(5);
const OPEN_BYTES_MAX: usize = 4 * 1024;

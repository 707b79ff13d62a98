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
                if let Some(open) = first_word(&mut buffer)? {
                    return Ok(open);
                }
                match self.stream.read_buf(&mut buffer).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(ClientEnd::Gone),
                }
            }
        };
        let open = timeout(OPEN_DEADLINE, reading).await;
        let open = open.map_err(|_| ClientEnd::Protocol)??;
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

/// Who asks, once the first frame is whole; nothing may follow it.
fn first_word(buffer: &mut BytesMut) -> Result<Option<Open>, ClientEnd> {
    let frame = match take_frame(buffer) {
        Ok(Some(frame)) => frame,
        Ok(None) if buffer.len() <= OPEN_BYTES_MAX => return Ok(None),
        Ok(None) | Err(_) => return Err(ClientEnd::Protocol),
    };
    if frame.kind != FrameKind::Open || !buffer.is_empty() {
        return Err(ClientEnd::Protocol);
    }
    let open = decode(&frame.payload).map_err(|_| ClientEnd::Protocol)?;
    Ok(Some(open))
}

/// Any first bytes of a client are its word, the beginning of one within the limit, or its end. Built for tests and for
/// `fuzz/` alone.
///
/// # Panics
/// Where that does not hold.
#[cfg(any(test, fuzzing))]
pub fn agent_open(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    match first_word(&mut buffer) {
        Ok(Some(open)) => {
            let mut again = Vec::new();
            put_frame(&mut again, FrameKind::Open, &encode(&open));
            let again = first_word(&mut BytesMut::from(&again[..]));
            let said = |open: &Open| (open.versions.clone(), open.client.clone());
            assert_eq!(again.ok().flatten().as_ref().map(said), Some(said(&open)));
        }
        Ok(None) => assert!(bytes.len() <= OPEN_BYTES_MAX),
        Err(end) => assert_eq!(end.as_str(), ClientEnd::Protocol.as_str()),
    }
}

const OPEN_DEADLINE: Duration = Duration::from_secs(5);
const OPEN_BYTES_MAX: usize = 4 * 1024;

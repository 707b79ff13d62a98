// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request body that can be sent again: what was read of it is kept, up to a limit.
//!
//! The first try streams and loses nothing; the second begins with what was kept and goes on where the first ended. A body
//! that has outgrown the limit is sent once, and a second try of it fails with [`ReplayError::Outgrown`].

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError<E> {
    /// The body itself failed.
    #[error("the request body failed")]
    Body(#[source] E),
    /// More was sent than is kept, so that it cannot be sent again.
    #[error("the request body is too long to be sent again")]
    Outgrown,
    /// A later try has taken the body over.
    #[error("the request body is being sent again")]
    TakenOver,
}

/// A body whose clones can each be sent, one after the other.
pub struct ReplayBody<B> {
    // Guards the body and what was read of it; held for one poll of the body, never across an await.
    shared: Arc<Mutex<Shared<B>>>,
    turn: Option<u64>,
    position: usize,
    trailers_given: bool,
}

struct Shared<B> {
    body: B,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    limit: usize,
    trailers: Option<HeaderMap>,
    has_ended: bool,
    has_outgrown: bool,
    turn: u64,
}

impl<B> ReplayBody<B> {
    /// Keeps up to `limit_bytes` of the body.
    pub fn new(body: B, limit_bytes: usize) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                body,
                kept: Vec::new(),
                kept_bytes: 0,
                limit: limit_bytes,
                trailers: None,
                has_ended: false,
                has_outgrown: false,
                turn: 0,
            })),
            turn: None,
            position: 0,
            trailers_given: false,
        }
    }

    /// Whether a clone made now could still be sent whole.
    pub fn can_replay(&self) -> bool {
        !self.lock().has_outgrown
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Clone for ReplayBody<B> {
    /// A body to be sent from its beginning; the one cloned ends once this one is read.
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            turn: None,
            position: 0,
            trailers_given: false,
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").finish_non_exhaustive()
    }
}

impl<B> Shared<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {
                self.has_ended = true;
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            self.keep(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn keep(&mut self, data: &Bytes) {
        let fits = self.kept_bytes + data.len() <= self.limit && self.kept.len() < FRAMES_MAX;
        if self.has_outgrown || !fits {
            self.has_outgrown = true;
            self.kept = Vec::new();
            return;
        }
        self.kept_bytes += data.len();
        self.kept.push(data.clone());
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = ReplayError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let mut shared = this.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = *this.turn.get_or_insert_with(|| {
            shared.turn += 1;
            shared.turn
        });
        if turn != shared.turn {
            return Poll::Ready(Some(Err(ReplayError::TakenOver)));
        }
        if shared.has_outgrown && this.position == 0 {
            return Poll::Ready(Some(Err(ReplayError::Outgrown)));
        }
        if let Some(data) = shared.kept.get(this.position) {
            this.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if shared.has_ended || shared.trailers.is_some() {
            let trailers = shared.trailers.clone().filter(|_| !this.trailers_given);
            this.trailers_given = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = ready!(shared.poll_more(cx));
        if let Some(Ok(frame)) = &polled {
            this.position += usize::from(frame.is_data());
            this.trailers_given |= frame.is_trailers();
        }
        Poll::Ready(polled.map(|frame| frame.map_err(ReplayError::Body)))
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.lock();
        self.turn.is_none_or(|turn| turn == shared.turn)
            && self.position >= shared.kept.len()
            && (shared.trailers.is_none() || self.trailers_given)
            && (shared.has_ended || shared.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.lock();
        if shared.has_outgrown {
            return SizeHint::new();
        }
        let again: usize = shared.kept.iter().skip(self.position).map(Bytes::len).sum();
        let rest = shared.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + again as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + again as u64);
        }
        hint
    }
}

/// Frames kept: many tiny ones cost more than their bytes.
const FRAMES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body_util::{BodyExt as _, StreamBody};
    use std::convert::Infallible;

    type Parts = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

    fn body(limit: usize) -> ReplayBody<Parts> {
        let data = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
        let trailers = Ok(Frame::trailers(HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            http::HeaderValue::from_static("7"),
        )])));
        let frames = vec![data("one "), data("two "), data("three"), trailers];
        ReplayBody::new(StreamBody::new(stream::iter(frames)), limit)
    }

    async fn whole(body: ReplayBody<Parts>) -> (String, bool) {
        let all = body.collect().await.unwrap();
        let has_trailers = all.trailers().is_some();
        let bytes = all.to_bytes();
        (String::from_utf8(bytes.into()).unwrap(), has_trailers)
    }

    #[tokio::test]
    async fn a_second_try_sends_the_same_wherever_the_first_ended() {
        for read in 0..=4 {
            let mut first = body(100);
            let again = first.clone();
            for _ in 0..read {
                assert!(first.frame().await.unwrap().is_ok());
            }
            assert!(again.can_replay());
            let third = again.clone();
            assert_eq!(whole(again).await, ("one two three".to_owned(), true));
            let late = first.frame().await.unwrap();
            assert!(matches!(late, Err(ReplayError::TakenOver)) || read == 0);
            assert_eq!(whole(third).await, ("one two three".to_owned(), true));
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_sent_once() {
        let first = body(8);
        let again = first.clone();
        assert_eq!(whole(first).await.0, "one two three");
        assert!(!again.can_replay());
        let error = again.collect().await.unwrap_err();
        assert!(matches!(error, ReplayError::Outgrown), "{error}");
    }
}

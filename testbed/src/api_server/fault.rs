// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults: what goes wrong, for which requests, and when.
//!
//! A [`Rule`] says which requests, a [`Fault`] what happens to their true answer. The first rule that is switched on and
//! matches decides. What a rule has counted stays when it is switched off.

use std::{
    ops::{Bound, RangeBounds},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    answer::{Answer, Chunks, broken, waiting},
    request::Asked,
};

/// What happens instead of, or to, the true answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// This answer instead: `Fault::Answer(Answer::status(503, "down").header("retry-after", "20"))`.
    Answer(Answer),
    /// The whole answer, this much later.
    Delay(Duration),
    /// The body, this many bytes a second.
    Drip(u32),
    /// The connection breaks after this many bytes of the body.
    CutAfter(usize),
    /// The body ends after this many bytes, as if it were whole.
    EndAfter(usize),
    /// The nth line of a watch, from 0, ends in its middle.
    TruncateLine(usize),
    /// A line that is no JSON stands before the nth line of a watch, from 0; in a silent watch none ever comes.
    GarbageLine(usize),
    /// The head and this many bytes of the body, then nothing, and the connection stays open.
    Silence(usize),
    /// A list without objects, at the true version; other requests are answered truly.
    EmptyList,
    /// A line that never ends.
    EndlessLine,
}

/// Which requests a fault is for: all, less what is asked of it.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    what: Option<String>,
    is_watch: Option<bool>,
    nth: Option<(usize, usize)>,
    during: Option<(Instant, Instant)>,
}

impl Rule {
    /// Every request.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Only what [`Asked::what`] calls so.
    #[must_use]
    pub fn of(mut self, what: &str) -> Self {
        self.what = Some(what.to_owned());
        self
    }

    /// Only lists, and readings of one object.
    #[must_use]
    pub fn lists(mut self) -> Self {
        self.is_watch = Some(false);
        self
    }

    /// Only watches.
    #[must_use]
    pub fn watches(mut self) -> Self {
        self.is_watch = Some(true);
        self
    }

    /// Only these of the requests that match otherwise, counted from 0: `..2` are the first two.
    #[must_use]
    pub fn nth(mut self, range: impl RangeBounds<usize>) -> Self {
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => usize::MAX,
        };
        self.nth = Some((first, end));
        self
    }

    /// Only from now on for this long, in the runtime's time.
    #[must_use]
    pub fn for_the_next(mut self, time: Duration) -> Self {
        let now = Instant::now();
        self.during = Some((now, now + time));
        self
    }

    fn matches(&self, asked: &Asked) -> bool {
        self.what.as_ref().is_none_or(|what| what == asked.what)
            && self.is_watch.is_none_or(|is| is == asked.is_watch)
            && self
                .during
                .is_none_or(|(from, to)| (from..to).contains(&asked.at))
    }
}

/// The switch of a fault; dropping it leaves the fault as it is.
#[derive(Clone, Debug)]
pub struct Switch {
    is_on: Arc<AtomicBool>,
    hits: Arc<AtomicUsize>,
}

impl Switch {
    /// Answers truly from the next request on; what runs goes on.
    pub fn off(&self) {
        self.is_on.store(false, Relaxed);
    }

    /// The fault is there again.
    pub fn on(&self) {
        self.is_on.store(true, Relaxed);
    }

    /// How many requests the fault has met.
    pub fn hits(&self) -> usize {
        self.hits.load(Relaxed)
    }
}

/// The faults of a server, in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Faults {
    set: Vec<Set>,
}

#[derive(Debug)]
struct Set {
    rule: Rule,
    fault: Fault,
    switch: Switch,
    matched: usize,
}

impl Faults {
    pub(super) fn set(&mut self, rule: Rule, fault: Fault) -> Switch {
        let switch = Switch {
            is_on: Arc::new(true.into()),
            hits: Arc::default(),
        };
        self.set.push(Set {
            rule,
            fault,
            switch: switch.clone(),
            matched: 0,
        });
        switch
    }

    pub(super) fn clear(&mut self) {
        self.set.clear();
    }

    /// The fault for this request.
    pub(super) fn meet(&mut self, asked: &Asked) -> Option<Fault> {
        for set in &mut self.set {
            if !set.switch.is_on.load(Relaxed) || !set.rule.matches(asked) {
                continue;
            }
            let nth = set.matched;
            set.matched += 1;
            let is_meant = |(first, end): (usize, usize)| (first..end).contains(&nth);
            if set.rule.nth.is_none_or(is_meant) {
                set.switch.hits.fetch_add(1, Relaxed);
                return Some(set.fault.clone());
            }
        }
        None
    }
}

impl Fault {
    /// What the fault makes of a body.
    pub(super) fn applied(self, body: Chunks) -> Chunks {
        match self {
            Self::Drip(bytes_per_second) => drip(body, bytes_per_second),
            Self::CutAfter(bytes) => first(body, bytes).chain(broken()).boxed(),
            Self::EndAfter(bytes) => first(body, bytes),
            Self::Silence(bytes) => first(body, bytes).chain(stream::pending()).boxed(),
            Self::TruncateLine(nth) => {
                each_line(
                    body,
                    move |at, line| {
                        if at == nth { halved(&line) } else { line }
                    },
                )
            }
            Self::GarbageLine(nth) => each_line(body, move |at, line| {
                if at == nth {
                    [GARBAGE, &line].concat().into()
                } else {
                    line
                }
            }),
            Self::EndlessLine => {
                let piece = Bytes::from_static(&[b'x'; 16 * 1024]);
                stream::repeat_with(move || Ok(piece.clone())).boxed()
            }
            Self::Answer(_) | Self::Delay(_) | Self::EmptyList => body,
        }
    }
}

/// The first bytes of a body. It is over with the last of them: the next chunk of a watch may be long in coming.
fn first(body: Chunks, bytes: usize) -> Chunks {
    let next = |(mut body, left): (Chunks, usize)| async move {
        if left == 0 {
            return None;
        }
        let chunk = body.next().await?.map(|mut bytes| {
            bytes.truncate(left);
            bytes
        });
        let taken = chunk.as_ref().map_or(left, Bytes::len);
        Some((chunk, (body, left - taken)))
    };
    stream::unfold((body, bytes), next).boxed()
}

fn drip(body: Chunks, bytes_per_second: u32) -> Chunks {
    let (rate, piece) = (bytes_per_second.max(1), (bytes_per_second / 10).max(1));
    let wait = Duration::from_secs(1) * piece / rate;
    let piece = usize::try_from(piece).unwrap_or(usize::MAX);
    let pieces = body.flat_map(move |chunk| match chunk {
        Err(error) => stream::iter([Err(error)]).boxed(),
        Ok(bytes) => {
            let starts = (0..bytes.len()).step_by(piece);
            let drops = starts.map(move |from| bytes.slice(from..(from + piece).min(bytes.len())));
            let dripping = stream::iter(drops);
            dripping
                .flat_map(move |drop| {
                    waiting(wait)
                        .chain(stream::once(async { Ok(drop) }))
                        .boxed()
                })
                .boxed()
        }
    });
    pieces.boxed()
}

/// Watches send a line a chunk.
fn each_line(body: Chunks, change: impl Fn(usize, Bytes) -> Bytes + Send + 'static) -> Chunks {
    let lines = body.enumerate();
    let changed = lines.map(move |(at, line)| line.map(|line| change(at, line)));
    changed.boxed()
}

fn halved(line: &Bytes) -> Bytes {
    let half = line.get(..line.len() / 2).unwrap_or_default();
    [half, b"\n"].concat().into()
}

const GARBAGE: &[u8] = b"<html>not what was asked for</html>\n";
